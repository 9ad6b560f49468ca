"""Tool calls: read out of what a model wrote, run side by side, answered in data."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lilith import quant
from lilith.agent.planning_tool import plan_project
from lilith.agent.registry import ToolRegistry
from lilith.agent.tool_results import Bounded, References, safe_json, shown
from lilith.config import UserError
from lilith.data.instructions.agent_prompt import brief_plan
from lilith.quant.tool import NotJSONError, Tool
from lilith.quant.tool_values import ToolError
from lilith.reasoning.verification import within

OPEN, CLOSE = "<tool_call>", "</tool_call>"
TOOL_SECONDS = 30.0
MOST_CALLS = 16  # of one message
MOST_AT_ONCE = 8
LONGEST_CALL = 1 << 20  # characters
MOST_BYTES = 32 << 20  # of a whole answer
MOST_ANSWERS = 512  # that are remembered
_FORM = f'write {OPEN}\n{{"name": ..., "arguments": {{...}}}}\n{CLOSE}'


@dataclass(frozen=True)
class ToolCall:
    """A call as a model wrote it.

    Attributes:
      name, arguments: what is called with what; ``{"ref": "r1"}`` stands for a kept value.
      error: why it can not be run, as a tool's error; None for a call that can be read.
      text: as it was written.
    """

    name: str
    arguments: Mapping[str, Any]
    error: Mapping[str, Any] | None = None
    text: str = ""

    def message(self) -> dict[str, Any]:
        """The call as chat templates take it in ``tool_calls``."""
        return {
            "type": "function",
            "function": {"name": self.name, "arguments": dict(self.arguments)},
        }


@dataclass(frozen=True)
class ToolResult:
    """What came of a call.

    Attributes:
      answer: the tool's whole answer, ``{"ok": true, "result": ...}`` or ``{"ok": false,
        "error": {"code", "field", "message", "hint"}}``.
      text: of it what the model is given, one line of JSON that can forge nothing.
      seconds: how long the tool took.
      cached: the same call was answered before, and this is its answer.
    """

    call: ToolCall
    answer: Mapping[str, Any]
    text: str
    seconds: float = 0.0
    cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether the tool answered."""
        return bool(self.answer.get("ok"))

    def message(self) -> dict[str, Any]:
        """The result as a message of the role "tool"."""
        return {"role": "tool", "name": self.call.name or "unknown", "content": self.text}


@dataclass(frozen=True)
class Reading:
    """A message of a model, taken apart.

    Attributes:
      text: what it says outside of calls.
      calls: in their order, those that can not be read too, with an error.
    """

    text: str
    calls: list[ToolCall] = field(default_factory=list)


def read_calls(text: str) -> Reading:
    """The tool calls in a model's message, and the text around them.

    A call that is cut off, is no JSON, names no tool, gives an argument twice or is one of more
    than :data:`MOST_CALLS` comes with an error that says what is wrong.
    """
    said: list[str] = []
    calls: list[ToolCall] = []
    at = 0
    while (start := text.find(OPEN, at)) >= 0:
        said.append(text[at:start])
        body = start + len(OPEN)
        call, at = _read_one(text, body)
        if len(calls) < MOST_CALLS:
            calls.append(call)
        elif len(calls) == MOST_CALLS:
            words = f"a message may make {MOST_CALLS} calls at most; the others were not run"
            calls.append(_unread("too_many_calls", words, "make the others next", call.text))
    said.append(text[at:])
    return Reading("".join(said).replace(CLOSE, "").strip(), calls)


def _read_one(text: str, start: int) -> tuple[ToolCall, int]:
    """The call whose body begins at ``start``, and where the text goes on after it."""
    begin = len(text) - len(text[start:].lstrip())
    end = text.find(CLOSE, begin)
    try:
        if end - begin > LONGEST_CALL or (end < 0 and len(text) - begin > LONGEST_CALL):
            raise ValueError(f"it is longer than {LONGEST_CALL} characters")
        content, stop = _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError) as error:
        after = len(text) if end < 0 else end + len(CLOSE)
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if end < 0:
            why += "; and it does not end"
        return _unread("not_json", f"the call is no JSON: {why}", _FORM, text[start:after]), after
    close = len(text) - len(text[stop:].lstrip())
    if not text.startswith(CLOSE, close):
        after = len(text) if end < 0 else max(end + len(CLOSE), stop)
        words = f"after the call's JSON comes {text[close : close + 30]!r} and not {CLOSE}"
        return _unread("not_closed", words, _FORM, text[start:after]), after
    close += len(CLOSE)
    return _call(content, text[start:stop].strip()), close


def _call(content: Any, text: str) -> ToolCall:
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        return _unread("no_name", "the call names no tool", _FORM, text)
    arguments = content.get("arguments", {})
    if not isinstance(arguments, dict):
        words = f"arguments is a {type(arguments).__name__} and no object"
        return _unread("no_arguments", words, _FORM, text, content["name"])
    unknown = sorted(set(content) - {"name", "arguments"})
    if unknown:
        words = f"a call has name and arguments, and this one has {unknown[0][:60]!r} too"
        return _unread("unknown_field", words, _FORM, text, content["name"])
    return ToolCall(content["name"], arguments, None, text)


def _unread(code: str, message: str, hint: str, text: str, name: str = "") -> ToolCall:
    return ToolCall(name, {}, ToolError(code, None, message, hint).as_dict(), text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key[:60]!r} is given twice, and only one value can be meant")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


class ToolRunner:
    """Runs the calls of one conversation.

    Args:
      registry: the tools that are granted. A call of any other is an error, whoever asks for it.
      seconds: how long a tool may take.
      limits: seconds of single tools, by name.

    Raises:
      UserError: a limit is not above zero, or is of a tool that is not granted.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        *,
        seconds: float = TOOL_SECONDS,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.registry, self.seconds, self.limits = registry, seconds, dict(limits or {})
        for name, limit in (("seconds", seconds), *self.limits.items()):
            if name != "seconds":
                registry[name]
            if not limit > 0:
                raise UserError(f"the time limit {name} is {limit}; it must be above 0 seconds")
        self.references = References()
        self._answered = Bounded(MOST_ANSWERS)
        self._in_order, self._in_memory = threading.Lock(), threading.Lock()

    def run(
        self,
        calls: Sequence[ToolCall],
        *,
        on_result: Callable[[int, ToolResult], None] | None = None,
    ) -> list[ToolResult]:
        """Run calls side by side; the results are in the order of the calls.

        Equal calls are run once, and one that was answered before in this conversation is not run
        again. Tools that keep a state run one after another, in order, each time. What a tool
        raises, its time limit and an answer that is no JSON come back as errors in data.

        Args:
          on_result: given each index and result as soon as it is there, from this thread's or
            another's.
        """
        results: dict[int, ToolResult] = {}
        groups: dict[str, list[int]] = {}
        stateful: list[int] = []
        for index, call in enumerate(calls):
            if call.error is None and self.registry.runs_in_order(call.name):
                stateful.append(index)
            else:
                groups.setdefault(_key(call) if call.error is None else str(index), []).append(
                    index
                )

        def finish(index: int, result: ToolResult) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        def run_equal(indices: list[int]) -> None:
            first = self._run_one(calls[indices[0]])
            finish(indices[0], first)
            for index in indices[1:]:
                finish(index, ToolResult(calls[index], first.answer, first.text, 0.0, True))

        def run_stateful() -> None:
            for index in stateful:
                with self._in_order:
                    result = self._run_one(calls[index])
                finish(index, result)

        jobs: list[Callable[[], None]] = [partial(run_equal, own) for own in groups.values()]
        _side_by_side([*jobs, *([run_stateful] if stateful else [])])
        return [results[index] for index in range(len(calls))]

    def _run_one(self, call: ToolCall) -> ToolResult:
        if call.error is not None:
            return self._result(call, {"ok": False, "error": dict(call.error)}, 0.0)
        key = _key(call)
        with self._in_memory:
            known = self._answered.get(key)
        if known is not None:
            answer, text = known
            return ToolResult(call, answer, text, 0.0, True)
        began = time.perf_counter()
        answer, certain = self._answer(call)
        result = self._result(call, answer, time.perf_counter() - began)
        if certain and not self.registry.runs_in_order(call.name):
            with self._in_memory:
                self._answered[key] = (result.answer, result.text)
        return result

    def _answer(self, call: ToolCall) -> tuple[dict[str, Any], bool]:
        """The tool's answer, and whether it would be the same again."""
        try:
            tool = self.registry[call.name]
            arguments = self.references.filled_in(call.arguments)
        except UserError as error:
            return _error("unknown_tool", str(error), "call one of the tools there are"), True
        except ToolError as error:
            return {"ok": False, "error": error.as_dict()}, False
        limit = self.limits.get(call.name, self.seconds)
        outcome = within(limit, lambda: _in_json(tool, arguments))
        if outcome.given_up:
            return _error(
                "timed_out",
                f"{call.name} gave no answer within {limit:g} s and was given up",
                "ask for less at once, or answer without it",
            ), False
        if outcome.value is None:
            return _error(
                "tool_failed",
                f"{call.name} failed: {outcome.error[:500]}",
                "check the arguments; if they are right, answer without this tool",
            ), False
        return outcome.value, True

    def _result(self, call: ToolCall, answer: dict[str, Any], seconds: float) -> ToolResult:
        brief = call.name in quant.__all__ and call.name in self.registry
        home = getattr(self.registry[call.name].function, "__module__", "") if brief else ""
        brief = home.startswith("lilith.quant")
        if answer.get("ok") and self.registry[call.name] is plan_project:
            # As conversations for training show it; all of it takes a thousand tokens and more.
            return ToolResult(call, answer, safe_json(brief_plan(answer)), seconds)
        return ToolResult(call, answer, shown(answer, self.references, brief=brief), seconds)


def _in_json(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The tool's answer, or an error where it is none that JSON can hold."""
    try:
        answer = tool(**arguments)
        size = len(json.dumps(answer, allow_nan=False))
        if isinstance(answer, dict) and isinstance(answer.get("ok"), bool) and size <= MOST_BYTES:
            return answer
        why = f"is {size} characters long" if size > MOST_BYTES else "does not say whether it is ok"
    except NotJSONError as error:
        why = f"can not be written as JSON: {error}"
    except (TypeError, ValueError) as error:
        if "JSON" not in str(error) and "Circular" not in str(error):
            raise
        why = f"can not be written as JSON: {error}"
    return _error(
        "not_json",
        f"the answer of {tool.name} {why}",
        "answer without this tool: it is at fault, and not the call",
    )


def _side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads of their own, and raise what one of them raised.

    An interrupt leaves them behind, as threads that do not keep the program from ending.
    """
    if len(jobs) == 1:
        jobs[0]()
        return
    errors: list[BaseException] = []
    free = threading.BoundedSemaphore(MOST_AT_ONCE)

    def guarded(job: Callable[[], None]) -> None:
        with free:
            try:
                job()
            except BaseException as error:  # raised again where the calls were asked for
                errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _key(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)


def _error(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"ok": False, "error": ToolError(code, None, message, hint).as_dict()}
