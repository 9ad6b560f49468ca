"""What a reasoner did and found, as plain data: steps, answer, confidence, decisions and costs."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lilith.config import UserError, nearest
from lilith.reasoning.arithmetic import ArithmeticCheck

FORMAT = "lilith-reasoning-trace-1"


class TraceError(UserError):
    """A trace can not be written as JSON, or a text is not the JSON of a trace."""


class StrategyError(UserError):
    """No reasoning strategy has that name."""


class ReasoningStrategy(enum.Enum):
    """How an answer is come by."""

    DIRECT = "direct"
    CHAIN_OF_THOUGHT = "chain_of_thought"
    SELF_CONSISTENCY = "self_consistency"
    BEST_OF_N = "best_of_n"
    TREE_SEARCH = "tree_search"
    PROGRAM = "program"
    DEBATE = "debate"

    @classmethod
    def find(cls, name: str | ReasoningStrategy) -> ReasoningStrategy:
        """The strategy of a name or a value, in any case, with "-" or " " for "_".

        Raises:
          StrategyError: there is none of that name; the message lists them.
        """
        if isinstance(name, ReasoningStrategy):
            return name
        known = [strategy.value for strategy in cls]
        wanted = name.strip().lower().replace("-", "_").replace(" ", "_") if _is_text(name) else ""
        if wanted not in known:
            raise StrategyError(f"strategy is {name!r}{nearest(wanted, known)}; known: "
                                f"{', '.join(known)}")  # fmt: skip
        return cls(wanted)


@dataclass(frozen=True)
class Thought:
    """One step.

    Attributes:
      step_number: from 1.
      thought: its text, without a mark such as "Step 1:".
      tool_calls: the calls it made, JSON objects.
      log_prob: the mean log-probability of its tokens, nats; None where it is not known.
      verified: True or False where a tool checked it, None where none could.
      checks: the arithmetic in it, recomputed.
    """

    step_number: int
    thought: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    log_prob: float | None = None
    verified: bool | None = None
    checks: tuple[ArithmeticCheck, ...] = ()

    def __post_init__(self) -> None:
        _make_tuples(self)

    def __str__(self) -> str:
        return f"Step {self.step_number}: {self.thought}"


@dataclass(frozen=True)
class Alternative:
    """Another answer that was found on the way.

    Attributes:
      answer: as it was stated; None where the text states none.
      votes: how many samples gave it.
      score: what the scorer gave it, larger is better; None where none was asked.
      text: one of the texts that end in it.
    """

    answer: str | None
    votes: int = 0
    score: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Decision:
    """What the reasoner decided, why, and what the work for it cost.

    Attributes:
      action: what was done, such as "refine".
      reason: why, in words.
      tokens: tokens it cost, read and written.
      seconds: time it took.
    """

    action: str
    reason: str
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ReasoningTrace:
    """A problem, how it was reasoned about, and what came of it.

    Attributes:
      problem: as it was put.
      thoughts: the steps that lead to the answer.
      final_answer: None where none was found.
      confidence: the probability that the answer is right, 0 to 1; None where it was not estimated.
      calibrated: whether the confidence comes from a calibration on held-out items.
      is_safe: whether the answer keeps to the constitution (True where none was applied).
      violations: what it violates: sentences, or JSON objects with principle, severity, evidence.
      verified: True or False where a verifier judged the answer, None where none did.
      strategy: how the answer was come by.
      tokens: tokens written by the model, over all samples.
      seconds: time from the problem to the answer.
      alternatives: other answers, or all with their votes, best first.
      decisions: what was decided on the way.
      truncated: the text ended at a limit and not by itself.
      looped: the text says the same again and again.
      answer_kind: what kind of answer the problem asks for, as for ``extract_answer``.
      signals: the numbers that the confidence is made from, by name.
      transcript: turns of a debate or rounds of critique, JSON objects such as
        {"speaker", "round", "text"}.
      error: what went wrong, in words; "" where nothing did.
    """

    problem: str
    thoughts: tuple[Thought, ...] = ()
    final_answer: str | None = None
    confidence: float | None = None
    calibrated: bool = False
    is_safe: bool = True
    violations: tuple[str | Mapping[str, Any], ...] = ()
    verified: bool | None = None
    strategy: ReasoningStrategy = ReasoningStrategy.CHAIN_OF_THOUGHT
    tokens: int = 0
    seconds: float = 0.0
    alternatives: tuple[Alternative, ...] = ()
    decisions: tuple[Decision, ...] = ()
    truncated: bool = False
    looped: bool = False
    answer_kind: str = "auto"
    signals: Mapping[str, float] = dataclasses.field(default_factory=dict)
    transcript: tuple[Mapping[str, Any], ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        _make_tuples(self)

    def __str__(self) -> str:
        answer = self.error or "no answer" if self.final_answer is None else self.final_answer
        return "\n".join([*map(str, self.thoughts), f"Answer: {answer}"])

    def to_json(self) -> str:
        """The trace as JSON text, which :meth:`from_json` reads back to an equal trace.

        Raises:
          TraceError: a field holds what JSON can not.
        """
        return written_record(self, "trace", FORMAT)

    @classmethod
    def from_json(cls, text: str) -> ReasoningTrace:
        """The trace that :meth:`to_json` wrote.

        Raises:
          TraceError: the text is not JSON, or a field is missing, unknown or of the wrong type;
            the message names it.
        """
        made: ReasoningTrace = read_record(cls, text, "trace", FORMAT)
        return made

    def to_html(self) -> str:
        """A page to read: one self-contained HTML text."""
        from lilith.reasoning.page import trace_page

        return trace_page(self)


def written_record(record: Any, name: str, format: str) -> str:
    """A frozen record as JSON text with its format; ``name`` stands for it in errors.

    Raises:
      TraceError: a field holds what JSON can not.
    """
    return json.dumps({"format": format, **_encoded(record, name)}, indent=1)


def read_record(kind: type, text: str, name: str, format: str) -> Any:
    """The record of type ``kind`` that :func:`written_record` wrote.

    Raises:
      TraceError: the text is not JSON, is of another format, or a field is missing, unknown or of
        the wrong type; the message names it.
    """
    try:
        content = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, TypeError) as error:
        raise TraceError(f"the text of a {name} is not JSON: {error}") from None
    except RecursionError:
        raise TraceError(f"the text of a {name} is not JSON: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise TraceError(f"a {name} is {_kind(content)}; expected a JSON object")
    if (found := content.pop("format", None)) != format:
        raise TraceError(f"the {name}'s format is {_shown(found)}; expected {format!r}")
    return _decoded(kind, content, name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _make_tuples(record: Any) -> None:
    """Turn lists in the fields of a frozen record into tuples, so that equal traces are equal."""
    for field in dataclasses.fields(record):
        if isinstance(value := getattr(record, field.name), list):
            object.__setattr__(record, field.name, tuple(value))


def _encoded(value: Any, name: str) -> Any:
    """A value as JSON has it; numbers that JSON lacks are written as texts of their own kind."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: _encoded(getattr(value, f.name), f"{name}.{f.name}") for f in fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TraceError(f"{name} has a key that is not a text; JSON has no others")
        return {key: _encoded(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TraceError(f"{name} is a {type(value).__name__}, which JSON can not hold; "
                     "give texts, numbers, lists and mappings")  # fmt: skip


def _decoded(expected: Any, value: Any, name: str) -> Any:
    """A value of JSON as the type it was written from."""
    origin = typing.get_origin(expected)
    if origin is types.UnionType or origin is typing.Union:
        return _decoded_union(typing.get_args(expected), value, name)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _decoded_record(expected, value, name)
    if origin is tuple:
        _require(isinstance(value, list), value, "a list", name)
        item_type = typing.get_args(expected)[0]
        return tuple(_decoded(item_type, x, f"{name}[{index}]") for index, x in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _require(isinstance(value, dict), value, "an object", name)
        item_type = typing.get_args(expected)[1]
        return {key: _decoded(item_type, item, f"{name}.{key}") for key, item in value.items()}
    if expected is Any:
        return _decoded_any(value)
    if isinstance(expected, type) and issubclass(expected, ReasoningStrategy):
        values = [strategy.value for strategy in expected]
        _require(value in values, value, f"one of {', '.join(values)}", name)
        return expected(value)
    value = _decoded_any(value) if expected is float else value
    good = type(value) is expected or (expected is float and type(value) is int)
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    _require(good, value, words[expected], name)
    return value


def _decoded_union(options: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in options:
        return None
    if isinstance(value, str) and str in options:
        return value
    rest = [option for option in options if option not in (type(None), str)] or [str]
    return _decoded(rest[0], value, name)


def _decoded_record(expected: type, value: Any, name: str) -> Any:
    _require(isinstance(value, dict), value, "an object", name)
    hints = typing.get_type_hints(expected)
    for key in value:
        if key not in hints:
            raise TraceError(f"{name} has an unknown field {_shown(key)}{nearest(key, hints)}; "
                             f"known: {', '.join(hints)}")  # fmt: skip
    for key in hints:
        if key not in value:
            raise TraceError(f"{name}.{key} is missing")
    return expected(**{key: _decoded(kind, value[key], f"{name}.{key}")
                       for key, kind in hints.items()})  # fmt: skip


def _decoded_any(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {key: _decoded_any(item) for key, item in value.items()}
    return [_decoded_any(item) for item in value] if isinstance(value, list) else value


def _require(condition: bool, value: Any, expected: str, name: str) -> None:
    if not condition:
        raise TraceError(f"{name} is {_shown(value)}; expected {expected}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} stands twice in one object")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
