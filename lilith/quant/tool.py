"""Tools: declared once, from which come the JSON schema, the validation, the help and the call.

A tool's function takes validated values, calls a pure core and returns an :class:`Answer`; the
tool returns JSON-ready dicts, ``{"ok": true, "result": ...}`` or ``{"ok": false, "error": ...}``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lilith.quant.tool_values import READERS, SCHEMAS, ToolError

REQUIRED: Any = object()
_EACH = ("numbers", "integers", "strings")  # kinds whose bounds and choices are of each entry
_REGISTRY: dict[str, Tool] = {}


class NotJSONError(TypeError):
    """A tool's function gave something that JSON can not hold."""


@dataclass(frozen=True)
class Answer:
    """What a tool's function found out.

    Attributes:
      result: the figures, by name.
      units, conventions: what they are measured in, and how they were computed.
      diagnostics: residuals, condition numbers, counts.
      warnings: sentences the reader must know.
    """

    result: Mapping[str, Any]
    units: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool.

    Attributes:
      kind: number, integer, boolean, string, numbers (a list), integers, matrix, table (a column an
        asset: rows of numbers, ``{name: numbers}`` or a data frame), strings, dates, list (of
        anything) or object.
      unit: such as "years" or "per year, 0.05 is 5%".
      default: used where the caller gives nothing; None is allowed and passed on.
      minimum, maximum: inclusive bounds; above, below: exclusive ones. For lists, of each number.
      choices: the only strings taken.
      least, most: how many entries (rows, of a table) are taken.
    """

    name: str
    kind: str
    description: str
    unit: str = field(default="", kw_only=True)
    default: Any = field(default=REQUIRED, kw_only=True)
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    above: float | None = field(default=None, kw_only=True)
    below: float | None = field(default=None, kw_only=True)
    choices: tuple[str, ...] | None = field(default=None, kw_only=True)
    least: int | None = field(default=None, kw_only=True)
    most: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in READERS:
            raise ValueError(f"parameter {self.name!r} is of unknown kind {self.kind!r}")

    @property
    def required(self) -> bool:
        """Whether the caller must give it."""
        return self.default is REQUIRED

    def schema(self) -> dict[str, Any]:
        """Its JSON schema."""
        described = self.description + (f" [{self.unit}]" if self.unit else "")
        schema: dict[str, Any] = {"description": described, **SCHEMAS[self.kind]}
        bounds = {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
            "enum": None if self.choices is None else list(self.choices),
        }
        inner = dict(schema["items"]) if self.kind in _EACH else schema
        inner.update({key: value for key, value in bounds.items() if value is not None})
        if inner is not schema:
            schema["items"] = inner
        counts = {"minItems": self.least, "maxItems": self.most}
        if schema.get("type") == "array":
            schema.update({key: value for key, value in counts.items() if value is not None})
        if not self.required and self.default is not None:
            schema["default"] = _json_ready(self.default)
        return schema

    def help(self) -> str:
        """One line of help."""
        notes = [self.unit] if self.unit else []
        notes += [f"one of {', '.join(self.choices)}"] if self.choices else []
        notes += [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.minimum),
                ("at most", self.maximum),
                ("above", self.above),
                ("below", self.below),
            )
            if bound is not None
        ]
        if not self.required:
            notes.append("optional" if self.default is None else f"default {self.default}")
        return f"  {self.name} ({self.kind}): {self.description}" + (
            f" ({'; '.join(notes)})" if notes else ""
        )


@dataclass(frozen=True)
class Tool:
    """A validated function; call it with positional or named arguments to get a JSON-ready dict."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Answer]

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a call, in the shape that language models are given."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": {own.name: own.schema() for own in self.parameters},
                    "required": [own.name for own in self.parameters if own.required],
                    "additionalProperties": False,
                },
            },
        }

    def help(self) -> str:
        """The tool's name, purpose and arguments, as text."""
        lines = [f"{self.name}: {self.description}", *(own.help() for own in self.parameters)]
        return "\n".join(lines)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Validate, compute, and answer; never raises on what the caller passes.

        Raises:
          NotJSONError: the function's result holds something that JSON can not.
        """
        try:
            answer = self.function(**self.validate(*args, **kwargs))
        except ToolError as error:
            return {"ok": False, "error": _json_ready(error.as_dict())}
        missing: list[str] = []
        result = _json_ready(answer.result, "result", missing)
        diagnostics = _json_ready(answer.diagnostics, "diagnostics", missing)
        warnings = list(answer.warnings)
        unexplained = [path for path in missing if not any(path in text for text in warnings)]
        warnings += [f"{path} is not a finite number, so it is null" for path in unexplained]
        return {
            "ok": True,
            "result": result,
            "units": dict(answer.units),
            "conventions": _json_ready(answer.conventions),
            "diagnostics": diagnostics,
            "warnings": warnings,
        }

    def validate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The value of every parameter, checked.

        Raises:
          ToolError: an argument is unknown, missing, given twice, of the wrong type or out of
            range.
        """
        given = self._bind(args, kwargs)
        values = {}
        for own in self.parameters:
            if own.name not in given or (given[own.name] is None and own.default is None):
                if own.required:
                    raise ToolError(
                        "missing_argument",
                        own.name,
                        f"{self.name} needs {own.name}: {own.description}",
                        f"give {own.name}" + (f" in {own.unit}" if own.unit else ""),
                    )
                values[own.name] = own.default
            else:
                values[own.name] = READERS[own.kind](own, given[own.name])
        return values

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = [own.name for own in self.parameters]
        if len(args) > len(names):
            raise ToolError(
                "too_many_arguments",
                None,
                f"{self.name} takes {len(names)} arguments and got {len(args)} by position",
                f"its arguments are {', '.join(names)}",
            )
        given = dict(zip(names, args))
        for name, value in kwargs.items():
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ToolError(
                    "unknown_argument",
                    name,
                    f"{self.name} has no argument {name!r}",
                    f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}",
                )
            if name in given:
                raise ToolError(
                    "duplicate_argument",
                    name,
                    f"{name} was given both by position and by name",
                    "give it once",
                )
            given[name] = value
        return given


def tool(description: str, *parameters: Parameter) -> Callable[[Callable[..., Answer]], Tool]:
    """Make a :class:`Tool` of a function ``f(**validated) -> Answer``, under the function's name.

    Raises:
      ValueError: the function's arguments are not the declared ones, or the name is taken.
    """

    def declare(function: Callable[..., Answer]) -> Tool:
        names = [own.name for own in parameters]
        code = function.__code__
        takes = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if sorted(takes) != sorted(names):
            raise ValueError(f"{function.__name__} takes {takes} and declares {names}")
        if function.__name__ in _REGISTRY:
            raise ValueError(f"there is a tool {function.__name__!r} already")
        made = Tool(function.__name__, description, parameters, function)
        _REGISTRY[made.name] = made
        return made

    return declare


def registered() -> dict[str, Tool]:
    """The tools declared so far, by name."""
    return dict(_REGISTRY)


def _json_ready(value: Any, path: str = "", missing: list[str] | None = None) -> Any:
    """``value`` in JSON's types; numbers that are not finite become None, paths to ``missing``."""
    if isinstance(value, Mapping):
        return {
            str(key): _json_ready(item, f"{path}.{key}", missing) for key, item in value.items()
        }
    if hasattr(value, "tolist"):
        return _json_ready(value.tolist(), path, missing)
    if isinstance(value, (list, tuple)):
        return [_json_ready(item, f"{path}[{i}]", missing) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        if missing is not None:
            missing.append(path)
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.datetime64) or hasattr(value, "isoformat"):
        return str(value)
    raise NotJSONError(
        f"{path or 'the value'} is a {type(value).__name__}, which JSON can not hold"
    )
