"""Tools made of a person's functions, by their type hints and docstrings."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, overload

from lilith.config import UserError
from lilith.quant.tool import REQUIRED, Answer, Parameter, Tool
from lilith.quant.tool_values import READERS, ToolError

__all__ = ["ToolError", "tool"]

_KINDS: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
_LIST_KINDS = {str: "strings", int: "integers", float: "numbers"}
_PLAIN = "str, int, float, bool, list, dict, a Literal of texts, or one of them or None"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Returns?|Raises|Yields?|Notes?|Examples?|Attributes"
    r"|Warnings?|See Also|References):\s*$"
)
_ENTRY = re.compile(r"^\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


@overload
def tool(function: Callable[..., Any]) -> Tool: ...
@overload
def tool(
    function: None = None, *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function: ``@tool`` above it, or ``@tool(name=...)``.

    Every parameter needs a type hint of str, int, float, bool, list, dict, ``list[...]`` or
    ``dict[str, ...]`` of those, a ``Literal`` of texts, or one of them or None. The docstring says
    what the tool does; its ``Args:`` section says what each parameter is. A parameter with a
    default may be left out, and so may one that can be None.

    What the function returns is the tool's result: a dict as it is, anything else as ``{"value":
    ...}``. It may raise :class:`lilith.quant.tool_values.ToolError` to say why it can not answer.

    Raises:
      UserError: the function has no docstring, a parameter has no hint or one that JSON has no
        word for, it takes ``*args`` or ``**kwargs``, its ``Args:`` name a parameter that it does
        not have, or a default is not of its type.
    """
    if function is None:
        return lambda found: _made(found, name, description)
    return _made(function, name, description)


def _made(function: Callable[..., Any], name: str | None, description: str | None) -> Tool:
    if not callable(function) or not hasattr(function, "__name__"):
        raise UserError(f"{function!r} is no function, so no tool can be made of it")
    name = function.__name__ if name is None else name
    if not _NAME.fullmatch(name):
        raise UserError(
            f"a tool can not be named {name[:60]!r}; use letters, digits and _, at most 64, and "
            "a letter first (name=... of @tool names it)"
        )
    summary, described = _read_docstring(inspect.getdoc(function) or "")
    if not (description or summary):
        raise UserError(
            f"the function {name} has no docstring; say in it what the tool does, for a model "
            "chooses it by that"
        )
    signature = inspect.signature(function)
    unknown = sorted(set(described) - set(signature.parameters))
    if unknown:
        raise UserError(
            f"the docstring of {name} describes {unknown[0]!r}, which is none of its parameters: "
            f"{', '.join(signature.parameters) or 'it has none'}"
        )
    try:
        hints = typing.get_type_hints(function)
    except Exception as error:  # a hint may be any expression
        raise UserError(f"the type hints of {name} can not be read: {error}") from None
    readers: dict[str, Callable[[Any], Any]] = {}
    parameters = []
    for own in signature.parameters.values():
        made, readers[own.name] = _parameter(name, own, hints, described.get(own.name, ""))
        parameters.append(made)

    def call(**values: Any) -> Answer:
        given = {key: readers[key](value) for key, value in values.items()}
        result = function(**given)
        if isinstance(result, Answer):
            return result
        return Answer(result if isinstance(result, Mapping) else {"value": result})

    call.__name__, call.__doc__ = name, function.__doc__
    return Tool(name, description or summary, tuple(parameters), call)


def _parameter(
    where: str, own: inspect.Parameter, hints: Mapping[str, Any], described: str
) -> tuple[Parameter, Callable[[Any], Any]]:
    """The declaration of a parameter, and what makes the function's value of a checked one."""
    if own.kind in (own.VAR_POSITIONAL, own.VAR_KEYWORD):
        stars = "*" if own.kind is own.VAR_POSITIONAL else "**"
        raise UserError(
            f"the function {where} takes {stars}{own.name}, which no schema can describe; give "
            "each parameter a name and a type"
        )
    if own.kind is own.POSITIONAL_ONLY:
        raise UserError(
            f"the parameter {own.name} of {where} can not be given by name, as a model does; "
            "remove the / from its parameters"
        )
    if own.name not in hints:
        raise UserError(
            f"the parameter {own.name} of {where} has no type hint; write one, such as "
            f"{own.name}: float ({_PLAIN})"
        )
    hint, can_be_none = _without_none(hints[own.name])
    kind, choices, inner = _kind(where, own.name, hint)
    default = own.default if own.default is not own.empty else None if can_be_none else REQUIRED
    fields: dict[str, Any] = {"choices": choices}
    if kind in ("strings", "integers", "numbers", "matrix", "list"):
        fields["least"] = 0
    description = described or own.name.replace("_", " ")
    made = Parameter(own.name, kind, description, default=default, **fields)
    if default is not REQUIRED and default is not None:
        try:
            READERS[kind](made, default)
        except ToolError as error:
            raise UserError(f"the default of {own.name} in {where}: {error.message}") from None
    if default is None and own.default is None and not can_be_none:
        made = Parameter(own.name, kind, description, default=None, **fields)

    def read(value: Any) -> Any:
        if value is None:
            return None
        value = value.tolist() if hasattr(value, "tolist") else value
        value = list(value) if isinstance(value, tuple) else value
        return value if inner is None else _inner(own.name, inner, value)

    return made, read


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(rest) == 1 and len(typing.get_args(hint)) == 2:
            return rest[0], True
        if set(rest) == {int, float}:  # a number of either type
            return float, len(rest) < len(typing.get_args(hint))
    return hint, False


def _kind(where: str, name: str, hint: Any) -> tuple[str, tuple[str, ...] | None, Any]:
    """The kind of a hint, its choices, and the hint of what a list or an object holds."""
    if hint in _KINDS:
        return _KINDS[hint], None, None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if all(isinstance(choice, str) for choice in inner):
            return "string", tuple(inner), None
    elif hint in (list, typing.List):  # noqa: UP006 (a person may write the old name)
        return "list", None, None
    elif hint in (dict, typing.Dict):  # noqa: UP006
        return "object", None, None
    elif origin is list:
        if inner[0] in _LIST_KINDS:
            return _LIST_KINDS[inner[0]], None, None
        if inner[0] == list[float]:
            return "matrix", None, None
        if inner[0] is not Any:
            _kind(where, name, inner[0])
        return "list", None, None if inner[0] is Any else inner[0]
    elif origin is dict and inner[0] is str:
        if inner[1] is not Any:
            _kind(where, name, inner[1])
        return "object", None, None if inner[1] is Any else inner[1]
    raise UserError(
        f"the parameter {name} of {where} has the hint {getattr(hint, '__name__', hint)}, which "
        f"no tool can take; use {_PLAIN}"
    )


def _inner(name: str, hint: Any, value: Any) -> Any:
    """What a list or an object holds, each checked by its hint."""
    kind, choices, inner = _kind("", name, hint)
    least = 0 if kind not in ("string", "boolean", "integer", "number", "object") else None

    def one(key: Any, item: Any) -> Any:
        own = Parameter(f"{name}[{key!r}]", kind, name, choices=choices, least=least)
        read = READERS[kind](own, item)
        read = read.tolist() if hasattr(read, "tolist") else read
        read = list(read) if isinstance(read, tuple) else read
        return read if inner is None else _inner(own.name, inner, read)

    if isinstance(value, Mapping):
        return {key: one(key, item) for key, item in value.items()}
    return [one(i, item) for i, item in enumerate(value)]


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section, and the entries of ``Args:``."""
    summary: list[str] = []
    entries: dict[str, str] = {}
    section, names, margin = "", [""], None
    for line in text.splitlines():
        heading = _SECTION.match(line)
        if heading is not None:
            section, margin = heading[1], None
        elif not section:
            summary.append(line.strip())
        elif section in ("Args", "Arguments", "Parameters") and line.strip():
            indent = len(line) - len(line.lstrip())
            margin = indent if margin is None else margin
            entry = _ENTRY.match(line.strip()) if indent <= margin else None
            if entry is not None:
                names = [name.strip() for name in entry[1].split(",")]
                entries.update(dict.fromkeys(names, entry[2].strip()))
            else:
                for name in names:
                    entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
    entries.pop("", None)
    return " ".join(" ".join(summary).split()), entries
