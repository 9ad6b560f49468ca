"""What a caller of a tool passes: types, ranges, tables; and the error that says why not."""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

DATE_COLUMNS = ("date", "dates")


class ToolError(Exception):
    """Why a tool can not answer.

    Attributes:
      code: a short name of the kind of error, in snake_case.
      field: the argument at fault, or None.
      message: one sentence that names the value.
      hint: what to do.
    """

    def __init__(self, code: str, field: str | None, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.field, self.message, self.hint = code, field, message, hint

    def as_dict(self) -> dict[str, Any]:
        """The error as the tool returns it."""
        return {
            "code": self.code,
            "field": self.field,
            "message": self.message,
            "hint": self.hint,
        }


class Table(NamedTuple):
    """Numbers with a column an asset.

    Attributes:
      values: float64 [T, N].
      names: of the N columns, or None where the caller gave none.
      dates: of the T rows as ISO strings, or None.
    """

    values: np.ndarray
    names: tuple[str, ...] | None
    dates: tuple[str, ...] | None


def _number(own: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ToolError(
            "not_a_number",
            own.name,
            f"{own.name} must be a number, and {value!r} is a {type(value).__name__}",
            _unit_hint(own),
        )
    return _in_range(own, own.name, value)


def _in_range(own: Any, where: str, given: Any) -> float:
    try:
        value = float(given)
    except OverflowError:  # a whole number beyond all floats
        value = math.inf
    if not math.isfinite(value):
        raise ToolError(
            "not_finite",
            own.name,
            f"{where} is {value}, which is not a finite number",
            _unit_hint(own),
        )
    for bound, wrong, word in (
        (own.minimum, own.minimum is not None and value < own.minimum, "at least"),
        (own.maximum, own.maximum is not None and value > own.maximum, "at most"),
        (own.above, own.above is not None and value <= own.above, "above"),
        (own.below, own.below is not None and value >= own.below, "below"),
    ):
        if wrong:
            raise ToolError(
                "out_of_range",
                own.name,
                f"{where} is {value:g} and must be {word} {bound:g}",
                _unit_hint(own),
            )
    return value


def _unit_hint(own: Any) -> str:
    return f"give {own.description[:1].lower()}{own.description[1:]}" + (
        f", in {own.unit}" if own.unit else ""
    )


def _integer(own: Any, value: Any) -> int:
    number = _number(own, value)
    if number != int(number):
        raise ToolError(
            "not_an_integer", own.name, f"{own.name} is {number:g}, not a whole number", "round it"
        )
    return int(value)


def _boolean(own: Any, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ToolError(
            "not_a_boolean", own.name, f"{own.name} must be true or false, not {value!r}", "say one"
        )
    return bool(value)


def _string(own: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise ToolError(
            "not_a_string",
            own.name,
            f"{own.name} must be text, and {value!r} is a {type(value).__name__}",
            f"one of {', '.join(own.choices)}" if own.choices else "put it in quotes",
        )
    if own.choices is not None and value not in own.choices:
        raise ToolError(
            "unknown_choice",
            own.name,
            f"{own.name} is {value!r}, which is not one of its values",
            f"one of {', '.join(own.choices)}",
        )
    return value


def _entries(own: Any, value: Any) -> list[Any]:
    """A list of any sequence but text; arrays and series too."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ToolError(
            "not_a_list",
            own.name,
            f"{own.name} must be a list, and {str(value)[:60]!r} is a {type(value).__name__}",
            _unit_hint(own),
        )
    _count(own, len(value))
    return list(value)


def _count(own: Any, count: int) -> None:
    least = 1 if own.least is None else own.least
    if count < least or (own.most is not None and count > own.most):
        bound = f"at least {least}" if count < least else f"at most {own.most}"
        raise ToolError(
            "too_few_entries" if count < least else "too_many_entries",
            own.name,
            f"{own.name} has {count} {'entry' if count == 1 else 'entries'} and needs {bound}",
            _unit_hint(own),
        )


def _numbers(own: Any, value: Any) -> np.ndarray:
    return np.array([_cell(own, f"{own.name}[{i}]", x) for i, x in enumerate(_entries(own, value))])


def _cell(own: Any, where: str, value: Any) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ToolError(
            "missing_value",
            own.name,
            f"{where} is missing ({value})",
            "fill the gap or leave the row out: a gap is never guessed",
        )
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ToolError(
            "not_a_number",
            own.name,
            f"{where} must be a number, and {value!r} is a {type(value).__name__}",
            _unit_hint(own),
        )
    return _in_range(own, where, value)


def _matrix(own: Any, value: Any) -> np.ndarray:
    rows = [
        [_cell(own, f"{own.name}[{i}][{j}]", x) for j, x in enumerate(_row(own, i, row))]
        for i, row in enumerate(_entries(own, value))
    ]
    _equal_lengths(own, {f"row {i}": len(row) for i, row in enumerate(rows)})
    return np.array(rows)


def _row(own: Any, index: int, row: Any) -> Sequence[Any]:
    if isinstance(row, (str, bytes, Mapping)) or not isinstance(row, Sequence):
        raise ToolError(
            "not_a_matrix",
            own.name,
            f"{own.name}[{index}] must be a list of numbers, and is {str(row)[:60]!r}",
            "give rows of equal length",
        )
    return row


def _equal_lengths(own: Any, lengths: Mapping[str, int]) -> None:
    first = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != first[1] or not length:
            raise ToolError(
                "ragged_table",
                own.name,
                f"{own.name}: {name} has {length} entries and {first[0]} has {first[1]}",
                "give every asset a number for every day",
            )


def _table(own: Any, value: Any) -> Table:
    """Rows of numbers, one list of numbers, ``{name: numbers}``, an array, or a data frame.

    A column of a mapping named date (or dates) holds the days of the rows.
    """
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):
        names = [str(name) for name in value.columns]
        return _named_table(own, names, value.to_numpy().T.tolist(), _index_dates(own, value.index))
    if isinstance(value, Mapping):
        labels = [name for name in value if str(name).lower() in DATE_COLUMNS]
        dates = _dates(own, value[labels[0]]) if labels else None
        columns = {str(name): _entries(own, value[name]) for name in value if name not in labels}
        if not columns:
            raise ToolError(
                "too_few_entries", own.name, f"{own.name} has no columns", _unit_hint(own)
            )
        if dates is not None:
            _equal_lengths(own, {labels[0]: len(dates), **{k: len(v) for k, v in columns.items()}})
        return _named_table(own, list(columns), list(columns.values()), dates)
    rows = _entries(own, value)
    if all(isinstance(row, (int, float, type(None))) for row in rows):
        rows = [[row] for row in rows]
    return Table(_matrix(own, rows), None, None)


def _named_table(
    own: Any, names: list[str], columns: list[list[Any]], dates: tuple[str, ...] | None
) -> Table:
    _equal_lengths(own, {name: len(column) for name, column in zip(names, columns)})
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ToolError(
            "duplicate_name",
            own.name,
            f"{own.name} has two columns named {repeated[0]!r}",
            "name each asset once",
        )
    where = [str(i) for i in range(len(columns[0]))] if dates is None else list(dates)
    cells = [
        [_cell(own, f"{own.name}[{name}][{day}]", x) for day, x in zip(where, column)]
        for name, column in zip(names, columns)
    ]
    _count(own, len(where))
    return Table(np.array(cells).T, tuple(names), dates)


def _index_dates(own: Any, index: Any) -> tuple[str, ...] | None:
    """The dates of a data frame's rows, where its index holds dates."""
    if not all(hasattr(label, "isoformat") for label in index):
        return None
    return check_dates(own.name, [label.isoformat()[:10] for label in index])


def _strings(own: Any, value: Any) -> tuple[str, ...]:
    return tuple(_string(own, item) for item in _entries(own, value))


def _integers(own: Any, value: Any) -> list[int]:
    return [_integer(own, item) for item in _entries(own, value)]


def _dates(own: Any, value: Any) -> tuple[str, ...]:
    days = []
    for i, item in enumerate(_entries(own, value)):
        try:
            text = item.isoformat() if hasattr(item, "isoformat") else str(item)
            days.append(datetime.date.fromisoformat(text[:10]).isoformat())
        except ValueError:
            raise ToolError(
                "not_a_date",
                own.name,
                f"{own.name}[{i}] is {item!r}, which is not a date",
                "write dates as 2024-12-31",
            ) from None
    return check_dates(own.name, days)


def check_dates(field: str, days: Sequence[str]) -> tuple[str, ...]:
    """ISO ``days``, strictly rising.

    Raises:
      ToolError: two days are equal, or out of order.
    """
    for earlier, later in itertools.pairwise(days):
        if later <= earlier:
            raise ToolError(
                "dates_not_rising",
                field,
                f"{field}: {later} comes after {earlier}",
                "sort the rows by date and keep one row a day",
            )
    return tuple(days)


def _object(own: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ToolError(
            "not_an_object",
            own.name,
            f"{own.name} must be an object, and {str(value)[:60]!r} is a {type(value).__name__}",
            _unit_hint(own),
        )
    return {str(key): item for key, item in value.items()}


READERS: dict[str, Callable[[Any, Any], Any]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "string": _string,
    "numbers": _numbers,
    "matrix": _matrix,
    "table": _table,
    "strings": _strings,
    "integers": _integers,
    "list": _entries,
    "dates": _dates,
    "object": _object,
}
_ROWS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "numbers": {"type": "array", "items": {"type": "number"}},
    "matrix": _ROWS,
    "table": {
        "anyOf": [
            {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "number"}},
            },
            _ROWS,
        ]
    },
    "strings": {"type": "array", "items": {"type": "string"}},
    "integers": {"type": "array", "items": {"type": "integer"}},
    "list": {"type": "array"},
    "dates": {"type": "array", "items": {"type": "string", "format": "date"}},
    "object": {"type": "object"},
}
