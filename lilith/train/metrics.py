"""What a run writes about itself: JSON lines, tokens per second, model FLOPs utilization.

jax is imported only where a device is asked for, so that a report reads metrics without it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from lilith.config import UserError

# JSON has no such numbers: they are written as these strings and read back as floats.
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# Dense bfloat16 FLOP/s of one jax device, from the vendors' specifications; the first name that
# the device's kind begins with counts. A v4 or v5p chip is one device; a TPU7x chip (2,307e12) is
# two, one for each of its tensor cores.
BFLOAT16_PEAKS = (
    ("TPU v4 lite", 137e12),
    ("TPU v4", 275e12),
    ("TPU v5e", 197e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),  # also "TPU v5p"
    ("TPU v6", 918e12),  # "TPU v6 lite", "TPU v6e"
    ("TPU7x", 2307e12 / 2),
    ("NVIDIA A100", 312e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),  # SXM
    ("NVIDIA H200", 989e12),
)


class MetricsError(UserError):
    """metrics.jsonl can not be written, or holds a line that is not a record."""


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8): a reader or a kill sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl in file order; none if the file does not exist.

    A last line without its newline was cut off by a kill, and is left out.

    Raises:
      MetricsError: another line is not a JSON object with a whole number ``step``.
    """
    path = pathlib.Path(path)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            raise MetricsError(
                f"line {number} of {path} is not a metrics record: {line[:60]!r}; remove the line"
            )
        records.append({key: _restore(value) for key, value in record.items()})
    return records


def _restore(value: Any) -> Any:
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


class MetricsWriter:
    """Appends records to a metrics.jsonl, each line flushed as it is written.

    Opening continues after the last whole line; use :meth:`resume` to go back to a checkpoint.
    """

    def __init__(self, path: str | pathlib.Path, clock: Callable[[], float] = time.time):
        self.path = pathlib.Path(path)
        self._clock = clock
        with self._errors_in_words():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab")  # noqa: SIM115 (closed by close)
            self._drop_half_line()

    def write(self, step: int, **values: Any) -> None:
        """Append ``{"step": step, "time": seconds since 1970, **values}``.

        Values are numbers, or arrays that hold one. NaN and the infinities become the strings of
        ``NON_FINITE``, which :func:`read_metrics` turns back.

        Raises:
          MetricsError: the file can not be written (a full disk).
          TypeError: a value is not a number.
        """
        record: dict[str, Any] = {"step": int(step), "time": round(self._clock(), 3)}
        record |= {name: _plain_number(name, value) for name, value in values.items()}
        with self._errors_in_words():
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()

    def resume(self, step: int) -> None:
        """Remove every record after ``step``, atomically: they will be written again."""
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        with self._errors_in_words():
            write_atomically(self.path, "".join(line + "\n" for line in kept))
            self._file.close()
            self._file = open(self.path, "ab")  # noqa: SIM115 (closed by close)

    def close(self) -> None:
        with self._errors_in_words():
            self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lines(self) -> list[str]:
        """The whole lines of the file, each known to be a record."""
        read_metrics(self.path)
        return self.path.read_text(encoding="utf-8").split("\n")[:-1]

    def _drop_half_line(self) -> None:
        """Cut what follows the last newline, or the next record would be welded to it."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)

    @contextlib.contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MetricsError(
                f"cannot write {self.path}: {error.strerror or error}; "
                "make room or name another --workdir"
            ) from error


def _plain_number(name: str, value: Any) -> int | float | bool | str:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, (int, float)):
        raise TypeError(f"metric {name!r} is {value!r}; expected a number")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class WorkClock:
    """Seconds of a clock, but for those within :meth:`paused`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._paused_seconds = 0.0

    def __call__(self) -> float:
        return self._clock() - self._paused_seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time within, as an evaluation's or a save's, does not count."""
        begin = self._clock()
        try:
            yield
        finally:
            self._paused_seconds += self._clock() - begin


class Throughput:
    """Tokens (or anything counted) per second over a sliding window of updates.

    The first update only starts the clock: its step included the compilation. Time within
    :meth:`paused` does not count.
    """

    def __init__(self, window: int = 50, clock: Callable[[], float] = time.perf_counter):
        self._clock = WorkClock(clock)
        self.paused = self._clock.paused
        self._marks: deque[tuple[float, int]] = deque(maxlen=window + 1)  # seconds, tokens so far
        self._total = 0

    def update(self, tokens: int) -> float | None:
        """Count ``tokens`` as done now, and return :attr:`rate`."""
        self._total += tokens
        self._marks.append((self._clock(), self._total))
        return self.rate

    @property
    def rate(self) -> float | None:
        """Tokens per second over the window; None before the second update."""
        if len(self._marks) < 2:
            return None
        (start, tokens_before), (end, tokens) = self._marks[0], self._marks[-1]
        return (tokens - tokens_before) / (end - start) if end > start else None


def model_flops_utilization(
    flops_per_token: float, tokens_per_second: float, peak_flops: float
) -> float:
    """MFU in [0, 1]: the FLOP/s that the model's formula asks for over the hardware's peak.

    ``flops_per_token`` counts forward and backward but no rematerialisation; ``peak_flops`` is the
    sum over the devices that make ``tokens_per_second``. Chowdhery et al., "PaLM" (2022), app. B.
    """
    if peak_flops <= 0:
        raise ValueError(f"peak_flops is {peak_flops}; it must be positive")
    return flops_per_token * tokens_per_second / peak_flops


def bfloat16_peak(device_kind: str) -> float | None:
    """Specified dense bfloat16 FLOP/s of one jax device of this kind; None if not in the table."""
    return next((peak for name, peak in BFLOAT16_PEAKS if device_kind.startswith(name)), None)


def total_peak_flops(devices: list[Any], dtype: str) -> tuple[float, str]:
    """Peak FLOP/s of ``devices`` (jax devices of one kind) together, and where the figure is from.

    Accelerators in the table count with their bfloat16 peak whatever ``dtype`` is, so that their
    utilization never flatters a slower type. Of others a matrix product in ``dtype`` is measured;
    pretended CPU devices share their process's cores, which are measured once.
    """
    device = devices[0]
    peak = bfloat16_peak(device.device_kind)
    if peak is not None:
        return peak * len(devices), f"{device.device_kind}: specified bfloat16 peak"
    count = len({d.process_index for d in devices}) if device.platform == "cpu" else len(devices)
    return measure_matmul_peak(dtype) * count, f"{device.device_kind}: measured {dtype} matmul"


def measure_matmul_peak(
    dtype: str, seconds: float = 0.3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """FLOP/s of the fastest of a few square matrix products on this process's first device.

    Takes about ``seconds``, plus the compilation.
    """
    import jax
    import jax.numpy as jnp

    device = jax.local_devices()[0]
    size = 1024 if device.platform == "cpu" else 4096
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()  # compiles
    fastest, end = math.inf, clock() + seconds
    while clock() < end or fastest == math.inf:
        begin = clock()
        product(matrix, matrix).block_until_ready()
        fastest = min(fastest, clock() - begin)
    return 2 * size**3 / fastest
