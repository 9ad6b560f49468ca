"""Start-up times, whole processes: `import lilith` and the command line's --help.

    python -m benchmarks.startup [--repeats 15]

Each is taken in turn with a bare interpreter, whose time is part of both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks import harness

COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "import lilith": [sys.executable, "-c", "import lilith"],
    "experiments.run --help": [sys.executable, "-m", "experiments.run", "--help"],
}
TARGETS = {"import lilith": 0.15, "experiments.run --help": 1.0}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    seconds = harness.interleaved(
        {
            name: lambda command=command: subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL
            )
            for name, command in COMMANDS.items()
        },
        repeats,
    )
    rows = [
        [name, harness.median(values), min(values), max(values), TARGETS.get(name, "")]
        for name, values in seconds.items()
    ]
    harness.report(
        "startup", ["command", "median s", "min s", "max s", "target s"], rows, harness.machine()
    )


if __name__ == "__main__":
    main()
