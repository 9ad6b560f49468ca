"""Read damaged copies of a GGUF file under limits of time and memory; print what happened.

Arguments: the file, how many copies, CPU seconds a copy, mebibytes beyond those in use.
"""

import collections
import json
import os
import pathlib
import random
import re
import resource
import signal
import struct
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

from lilith.interop.gguf import load_gguf
from lilith.interop.weights import ImportFailed

SIZES = (0, 1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62,
         (1 << 64) - 1)  # fmt: skip


def lengths_of(data: bytes) -> list[int]:
    """Where in the header numbers of 8 bytes stand that could be lengths or sizes."""
    end = data.rfind(b"output_norm.weight") + 60
    return [i for i in range(8, end) if 0 < int.from_bytes(data[i : i + 8], "little") < 1 << 20]


def mutate(data: bytes, lengths: list[int], rng: random.Random) -> bytes:
    """One damaged copy: bytes flipped, a length blown up, a part cut off, repeated, left out."""
    changed = bytearray(data)
    header = lengths[-1]
    kind = rng.randrange(8)
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            changed[rng.randrange(header)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        at = rng.choice(lengths)
        changed[at : at + 8] = struct.pack("<Q", rng.choice(SIZES))
    elif kind == 2:
        at = rng.choice(lengths)
        changed[at : at + 4] = struct.pack("<I", rng.choice(SIZES) & 0xFFFFFFFF)
    elif kind == 3:
        return data[: rng.randrange(len(data))]
    elif kind == 4:
        start = rng.randrange(header)
        part = changed[start : start + rng.randint(1, 200)]
        changed[start:start] = part * rng.randint(1, 50)
    elif kind == 5:
        start = rng.randrange(header)
        del changed[start : start + rng.randint(1, 64)]
    elif kind == 6:
        at = rng.randrange(4, header)
        changed[at : at + 8] = rng.randbytes(8)
    else:  # the values of a key, or a letter of a name
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(24, header)] = rng.randrange(256)
    return bytes(changed)


def limit(mebibytes: int) -> None:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class TooLong(BaseException):
    pass


def too_long(*_: object) -> None:
    raise TooLong


def main(path: str, cases: int, seconds: float, mebibytes: int) -> None:
    data = pathlib.Path(path).read_bytes()
    lengths = lengths_of(data)
    load_gguf(path)  # everything that is loaded once is loaded
    limit(mebibytes)
    signal.signal(signal.SIGPROF, too_long)
    rng = random.Random(0)
    target = pathlib.Path(path).with_name("damaged.gguf")
    found: collections.Counter[str] = collections.Counter()
    kinds, unexpected = set(), []
    for i in range(cases):
        copy = mutate(data, lengths, rng)
        # A new file each time: one that is mapped may not shrink.
        target.unlink(missing_ok=True)
        target.write_bytes(copy)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            load_gguf(target)
            found["read"] += 1
        except ImportFailed as error:
            found["refused"] += 1
            kinds.add(re.sub(r"'[^']*'|\d+", "", str(error))[-60:])
            if str(target) not in str(error):
                unexpected.append(f"case {i}: no path in {error}")
        except BaseException as error:
            unexpected.append(f"case {i}: {error!r}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps({"read": found["read"], "refused": found["refused"],
                      "kinds": sorted(kinds), "unexpected": unexpected}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
