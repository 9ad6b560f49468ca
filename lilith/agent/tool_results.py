"""What a model is shown of a tool's answer: short, in JSON that can forge nothing, by reference."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import UserDict
from collections.abc import Mapping
from typing import Any

from lilith.data.instructions.tool_text import DIGITS, LEFT_OUT, MOST_ENTRIES
from lilith.quant.tool import Parameter
from lilith.quant.tool_values import READERS, ToolError

MOST_TEXT = 2000  # characters of one text in an answer; of a longer one the ends are shown
MOST_ANSWER = 6000  # characters of a whole answer as it is shown
MOST_KEPT = 256  # references of one conversation; the oldest are let go
MOST_SIZE = 64 << 20  # characters of JSON that the values of one conversation may take together
_SHOWN_OF_LIST = 3
_SHOWN_OF_TEXT = 400
_SUMMARY_LEVELS = 4
_REFERENCE = re.compile(r"r\d{1,9}")
# What could begin a special token or a tag, in any tokenizer's spelling.
_OPENS_MARKUP = re.compile(r"<(?![\s=\d])|\[(?=/?INST\])")
_UNWRITABLE = re.compile("[\ud800-\udfff\u0085\u2028\u2029]")  # half of a pair; line breaks
_MARKERS = re.compile(
    r"<(?=\||/?(?:tool_call|tool_response|s|unk|pad|bos|eos|start_of_turn|end_of_turn|think|"
    r"system|user|assistant)\b)"
)


class Bounded(UserDict[str, Any]):
    """Values by name, of which the oldest are let go beyond a number or a size; one stays."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._sizes, self._total = most, dict[str, int](), 0

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            del self[name]
        self._sizes[name] = len(json.dumps(value, default=str))
        self._total += self._sizes[name]
        super().__setitem__(name, value)
        while len(self) > 1 and (len(self) > self._most or self._total > MOST_SIZE):
            del self[next(iter(self))]

    def __delitem__(self, name: str) -> None:
        self._total -= self._sizes.pop(name)
        super().__delitem__(name)


class References:
    """Large values of one conversation, by name. May be used from any thread."""

    def __init__(self) -> None:
        self._values = Bounded(MOST_KEPT)
        self._count = 0
        self._lock = threading.Lock()

    def keep(self, value: Any) -> str:
        """Keep a value; its name, such as "r1"."""
        with self._lock:
            self._count += 1
            name = f"r{self._count}"
            self._values[name] = value
            return name

    def names(self) -> tuple[str, ...]:
        """The names that can be passed, oldest first."""
        with self._lock:
            return tuple(self._values)

    def fitting(self, parameter: Parameter) -> tuple[str, ...]:
        """The names of the values that a tool's parameter takes."""
        return tuple(name for name in self.names() if _takes(parameter, self._values.get(name)))

    def filled_in(self, value: Any, field: str | None = None) -> Any:
        """``value`` with ``{"ref": "r1"}``, wherever it stands, replaced by what was kept.

        Raises:
          ToolError: nothing is kept under a name.
        """
        if isinstance(value, Mapping):
            if isinstance(value.get("ref"), str) and _REFERENCE.fullmatch(value["ref"]):
                return self._value(value["ref"], field)
            return {key: self.filled_in(item, field or key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled_in(item, field) for item in value]
        return value

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        with self._lock:
            return {"count": self._count, "values": dict(self._values)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> References:
        """The references that :meth:`to_json` wrote."""
        made = cls()
        made._count = int(saved["count"])
        for name, value in dict(saved["values"]).items():
            made._values[name] = value
        return made

    def _value(self, name: str, field: str | None) -> Any:
        with self._lock:
            if name in self._values:
                return self._values[name]
            known = ", ".join(self._values) or "none"
        raise ToolError(
            "unknown_reference",
            field,
            f"nothing is kept under {name!r}",
            f"pass a ref that a result has shown (there are: {known}), or the numbers themselves",
        )


def shown(answer: Mapping[str, Any], references: References, *, brief: bool = False) -> str:
    """A tool's answer as one line of JSON for a model.

    Kept are ``ok``, the result, the units and the warnings; of an error all. Numbers have
    :data:`~lilith.data.instructions.tool_text.DIGITS` significant digits. A list of more than
    :data:`~lilith.data.instructions.tool_text.MOST_ENTRIES` entries, a table and a long text are
    summarised as ``{"ref": "r1", ...}`` and kept, so that a later call can pass the reference. Of
    an answer that is still too long so are its largest entries, and as a last resort the whole.

    No character of it begins a special token or a tag: each ``<`` that could is written
    ``\\u003c``, and a line break ``\\n``, which JSON reads as the same text.

    Args:
      brief: leave out the figures that answers of :mod:`lilith.quant` are trained to leave out.
    """
    if not answer.get("ok"):
        return safe_json({"ok": False, "error": _trimmed(answer.get("error"))})
    result = _summarised(answer.get("result"), references, brief)
    told = {"ok": True, "result": result}
    told |= {name: answer[name] for name in ("warnings",) if answer.get(name)}
    text = safe_json(told)
    if len(text) > MOST_ANSWER and isinstance(result, dict):
        text = _with_less(told, answer["result"], references)
    if len(text) <= MOST_ANSWER:
        return text
    name = references.keep(answer.get("result"))
    return safe_json({"ok": True, "result": {"ref": name, **_outline(answer.get("result"))}})


def _with_less(told: dict[str, Any], whole: Mapping[str, Any], references: References) -> str:
    """An answer whose largest entries are kept by reference, as many as must be."""
    entries = told["result"]
    sizes = {key: len(safe_json(own)) for key, own in entries.items()}
    for key in sorted(sizes, key=lambda own: -sizes[own]):
        kept = isinstance(entries[key], dict) and "ref" in entries[key]
        if kept or not isinstance(whole[key], (Mapping, list, str)):
            continue
        outline = _outline(whole[key])
        if len(safe_json(outline)) < sizes[key]:
            entries[key] = {"ref": references.keep(whole[key]), **outline}
        if len(safe_json(told)) <= MOST_ANSWER:
            break
    return safe_json(told)


def safe_json(value: Any) -> str:
    """One line of JSON in which no special token, tag or line break can be written."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for pattern in (_OPENS_MARKUP, _UNWRITABLE):
        text = pattern.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text


def without_markers(text: str) -> str:
    """Text of a user in which no special token, role or tool call is written.

    A ``<`` that begins one is followed by a word joiner (U+2060), which is not seen but breaks the
    marker. A chat template keeps special tokens out of text by itself; this is for tokenizers in
    which ``<tool_call>`` and the like are ordinary text.
    """
    return _MARKERS.sub("<\u2060", text)


def _summarised(value: Any, references: References, brief: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _summarised(item, references, brief)
            for key, item in value.items()
            if not (brief and key in LEFT_OUT and not isinstance(item, list))
        }
    if isinstance(value, (list, tuple)):
        table = bool(value) and isinstance(value[0], (list, tuple))
        if len(value) > MOST_ENTRIES or (table and len(value) * len(value[0]) > MOST_ENTRIES):
            return {"ref": references.keep(list(value)), **_outline(value)}
        return [_summarised(item, references, brief) for item in value]
    if isinstance(value, str) and len(value) > MOST_TEXT:
        return {"ref": references.keep(value), **_outline(value)}
    return _rounded(value)


def _outline(value: Any, level: int = 0) -> dict[str, Any]:
    """What a reference stands for, in a few words."""
    if isinstance(value, Mapping):
        return {"keys": [str(key)[:60] for key in list(value)[: 4 * MOST_ENTRIES]]}
    if isinstance(value, str) and value.lstrip().startswith("<svg"):
        return {"length": len(value), "is": "a drawing"}
    if isinstance(value, str):
        return {"length": len(value), "first": value[:_SHOWN_OF_TEXT], "last": value[-80:]}
    numbers = [x for x in value if isinstance(x, (int, float)) and not isinstance(x, bool)]
    told: dict[str, Any] = {"length": len(value)}
    if len(numbers) == len(value) and numbers:
        told |= {
            "first": [_rounded(x) for x in value[:_SHOWN_OF_LIST]],
            "last": _rounded(value[-1]),
            "min": _rounded(min(numbers)),
            "max": _rounded(max(numbers)),
            "mean": _rounded(math.fsum(numbers) / len(numbers)),
        }
    elif value and isinstance(value[0], (list, tuple)):
        told["columns"] = len(value[0])
    elif level < _SUMMARY_LEVELS:
        told["first"] = [_short(item, level) for item in value[:_SHOWN_OF_LIST]]
    return told


def _short(item: Any, level: int) -> Any:
    if isinstance(item, str):
        return item[:80]
    if isinstance(item, (Mapping, list, tuple)):
        return _outline(item, level + 1)
    return _rounded(item)


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        rounded = float(f"{value:.{DIGITS}g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
    return value


def _trimmed(error: Any) -> Any:
    """An error whose texts are short: a tool may quote what it was given."""
    if isinstance(error, Mapping):
        return {key: _trimmed(item) for key, item in error.items()}
    return error if not isinstance(error, str) or len(error) <= 1000 else error[:1000] + "..."


def _takes(parameter: Parameter, value: Any) -> bool:
    try:
        READERS[parameter.kind](parameter, value)
    except (ToolError, TypeError, ValueError, OverflowError):
        return False
    return True
