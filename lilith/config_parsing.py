"""Configs to and from plain data: JSON, dotted ``--set`` overrides, errors that name the field."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union

from lilith.config import ConfigError, nearest

T = TypeVar("T")

# Resolving annotations is slow and never changes.
_HINTS: dict[Any, dict[str, Any]] = {}


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts and lists, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_json(config: Any) -> str:
    """A dataclass as indented JSON text."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def from_dict(cls: type[T], data: Mapping[str, Any], path: str = "") -> T:
    """Build dataclass ``cls`` from nested plain data, checking every name and type.

    Raises:
      ConfigError: an unknown key, a wrong type, or a value the class refuses.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path or 'the config'} is {data!r}; expected {_describe(cls)}")
    hints = _type_hints(cls)
    for key in data:
        if key not in hints:
            raise ConfigError(_unknown_key(_join(path, str(key)), str(key), hints))
    values = {key: _coerce(hints[key], value, _join(path, key)) for key, value in data.items()}
    return cls(**values)


def from_json(cls: type[T], text: str) -> T:
    """Build dataclass ``cls`` from JSON text; see :func:`from_dict`."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the config is not valid JSON: {error}") from None
    return from_dict(cls, data)


def apply_overrides(
    config: T, assignments: Iterable[str], presets: Mapping[str, Mapping[str, Any]] | None = None
) -> T:
    """Apply ``["model.layers=4", "model=7b"]`` in order and build the changed config.

    ``presets`` maps a key that holds a section (``model``) to named values for it; where the key
    holds none, it is a key as any other. Checks run once, on the result, so that two overrides may
    pass through a state that would be refused.

    Raises:
      ConfigError: a malformed assignment, an unknown key or a wrong type.
    """
    data = to_dict(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {assignment!r} is not of the form key=value")
        section = isinstance(data.get(key), dict)
        named = (presets or {}).get(key) if section else None
        if named is None:
            _assign(type(config), data, key, text.strip())
        elif text.strip() in named:
            data[key] = to_dict(named[text.strip()])
        else:
            raise ConfigError(
                f"{key} is {text.strip()!r}{nearest(text.strip(), named)}; known: "
                f"{', '.join(named)}"
            )
    return from_dict(type(config), data)


def _assign(cls: Any, data: Any, key: str, text: str) -> None:
    """Set the leaf at dotted ``key`` of nested plain data, parsed by its declared type."""
    parts = key.split(".")
    hint: Any = cls
    child: Any
    for depth, part in enumerate(parts):
        here = ".".join(parts[:depth])
        if dataclasses.is_dataclass(hint):
            hints = _type_hints(hint)
            if part not in hints:
                raise ConfigError(_unknown_key(_join(here, part), part, hints))
            child, hint = part, hints[part]
        elif typing.get_origin(hint) is tuple:
            if not part.isdecimal() or int(part) >= len(data):
                raise ConfigError(
                    f"{here} has {len(data)} entries, numbered from 0; {part!r} is not one of them"
                )
            child, hint = int(part), typing.get_args(hint)[0]
        else:
            raise ConfigError(f"{here} is {_describe(hint)} and has no field {part!r}")
        if depth == len(parts) - 1:
            data[child] = _parse(hint, text, key)
        else:
            data = data[child]


def _parse(hint: Any, text: str, path: str) -> Any:
    """Turn the text of an override into plain data of the declared type."""
    optional, hint = _strip_optional(hint)
    if optional and text.lower() in ("none", "null"):
        return None
    if dataclasses.is_dataclass(hint):
        known = ", ".join(_type_hints(hint))
        raise ConfigError(f"{path} is a section; set one of its fields: {known}")
    if typing.get_origin(hint) is tuple:
        if text.startswith("["):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                raise ConfigError(f"{path} is {text!r}, which is not valid JSON") from None
        element = typing.get_args(hint)[0]
        return [_parse(element, item.strip(), path) for item in text.split(",")] if text else []
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            pass
    else:
        return text
    raise ConfigError(f"{path} is {text!r}; expected {_describe(hint)}")


def _coerce(hint: Any, value: Any, path: str) -> Any:
    """Check plain data against a declared type; lists become tuples, whole numbers floats."""
    optional, hint = _strip_optional(hint)
    if value is None and optional:
        return None
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, path)
    if typing.get_origin(hint) is tuple:
        if isinstance(value, (list, tuple)):
            element = typing.get_args(hint)[0]
            return tuple(_coerce(element, item, f"{path}.{i}") for i, item in enumerate(value))
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif type(value) is hint:
        return value
    raise ConfigError(f"{path} is {value!r}; expected {_describe(hint)}")


def _strip_optional(hint: Any) -> tuple[bool, Any]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return len(rest) < len(typing.get_args(hint)), rest[0]
    return False, hint


def _describe(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if hint in words:
        return words[hint]
    if typing.get_origin(hint) is tuple:
        return f"a list, each entry {_describe(typing.get_args(hint)[0])}"
    if dataclasses.is_dataclass(hint):
        return f"a section with {', '.join(_type_hints(hint))}"
    return str(hint)


def _unknown_key(path: str, key: str, known: Iterable[str]) -> str:
    known = list(known)
    return f"unknown key {path!r}{nearest(key, known)}; known here: {', '.join(known)}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _type_hints(cls: Any) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]
