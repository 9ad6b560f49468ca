"""The keys of a GGUF file, asked for by the type that a reader needs."""

from __future__ import annotations

import math

import numpy as np

from lilith.interop.weights import ImportFailed

Value = bool | int | float | str | list[str] | np.ndarray


class Metadata:
    """The keys of a file, each asked for by the type it must have.

    Raises (every method):
      ImportFailed: the value has another type or range; or it is missing and has no default.
    """

    def __init__(self, values: dict[str, Value], where: str) -> None:
        self.values, self.where = values, where

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number from ``least`` to 2^31 - 1; an array that repeats one counts as one."""
        value = self._get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value < 1 << 31:
            raise self.wrong(key, f"a whole number from {least} up")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self.wrong(key, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def strings(self, key: str) -> list[str]:
        """An array of strings."""
        value = self._get(key, None)
        if not isinstance(value, list):
            raise self.wrong(key, "an array of strings")
        return value

    def numbers(self, key: str, length: int | None = None) -> np.ndarray:
        """An array of numbers, of ``length`` of them if that is given."""
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or (length is not None and value.size != length):
            wanted = "numbers" if length is None else f"{length} numbers"
            raise self.wrong(key, f"an array of {wanted}")
        return value

    def wrong(self, key: str, wanted: str) -> ImportFailed:
        """The error that the value of ``key`` is not what is wanted."""
        value = self.values[key]
        shown = f"an array of {len(value)}" if isinstance(value, list | np.ndarray) else repr(value)
        return ImportFailed(
            f"{self.where}: the metadata key {key!r} is {shown[:100]}, and LILITH needs {wanted}"
        )

    def _get(self, key: str, default: Value | None) -> Value:
        value = self.values.get(key, default)
        if value is None:
            raise ImportFailed(
                f"{self.where} lacks the metadata key {key!r}; the file is incomplete: convert the "
                "model again with a current llama.cpp"
            )
        return value
