"""One turn of an agent as it runs: write, call, read the results, write again, check."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lilith.agent.checks import check_numbers
from lilith.agent.history import ContextError, Fitted, Message, messages_of_steps
from lilith.agent.tool_calls import CLOSE, OPEN, ToolCall, read_calls
from lilith.agent.turn import (
    ENDINGS,
    AgentStep,
    AgentTurn,
    CallRecord,
    Done,
    Event,
    Token,
    ToolCallStarted,
    ToolFinished,
)
from lilith.config import UserError
from lilith.reasoning.answers import canonical
from lilith.reasoning.prompting import question_kind
from lilith.reasoning.safe_trace import declined
from lilith.reasoning.trace import ReasoningTrace

if TYPE_CHECKING:
    from lilith.agent.agent import LILITHAgent

ANSWER_SHARE = 4  # at least one part of so many of the context is kept free for a message
CHECKED_TURNS = 50  # in whose messages and results the numbers of an answer are looked for
CIRCLE = 600  # characters of nothing but one phrase, after which a message is cut off
MOST_SHOWN = 300  # characters of a result in the words for a turn without an answer
_SEVERAL_STEPS = re.compile(
    r"\bstep by step\b|\bprove\b|\bderive\b|\bshow (?:that|your (?:work|steps))\b"
    r"|\bthink (?:hard|carefully)\b",
    re.IGNORECASE,
)
_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_NEW_LOCK = threading.Lock()


@dataclass(frozen=True)
class TurnLimits:
    """What one turn may cost.

    Attributes:
      steps: messages of the model.
      tokens: that it writes, all messages together; message_tokens: in one message.
      seconds: after which nothing more is written or called. A tool that has begun is ended by its
        own limit, and the advanced reasoner by its budget.
    """

    steps: int = 8
    tokens: int = 2048
    message_tokens: int = 1024
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "message_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"limits.{name} is {value!r}; it must be a whole number from 1 on")
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)) or not (
            self.seconds > 0
        ):  # fmt: skip
            raise UserError(f"limits.seconds is {self.seconds!r}; it must be more than 0")


def is_hard(message: str) -> bool:
    """Whether a question that no tool was called for is given to the advanced reasoner.

    It is where the question asks for a number or one of several choices
    (:func:`lilith.reasoning.prompting.question_kind`), or says that it takes several steps ("step
    by step", prove, derive, show that).
    """
    return question_kind(message) in ("number", "choice") or bool(_SEVERAL_STEPS.search(message))


class TurnRun:
    """A turn of one agent. :meth:`events` runs it once."""

    def __init__(
        self, agent: LILITHAgent, message: str, kind: str, temperature: float, limits: TurnLimits
    ) -> None:
        self.agent, self.message, self.limits = agent, message, limits
        self.kind, self.temperature = kind, temperature
        self._began = time.monotonic()
        self._first: float | None = None
        self._steps: list[AgentStep] = []
        self._text = ""  # of the message that is being written
        self._given = 0  # characters of it that were shown
        self._answer = ""
        self._ended = "answer"
        self._tokens = self._prompt_tokens = self._left_out = 0
        self._step_cost = (0, 0, 0.0)  # tokens written and read for it, and when it began
        self._reasoning: ReasoningTrace | None = None
        self._violations: tuple[Mapping[str, Any], ...] = ()
        self._notes: list[str] = []
        # What the reasoner and the constitution may replace is shown only when they have spoken.
        self._held = agent.reasoner is not None

    def events(self) -> Iterator[Event]:
        """Run the turn, and make it part of the conversation.

        One that is closed or interrupted becomes part of it as far as it came: steps whose results
        are all there, and the text that was shown. One in which something is raised leaves no
        trace.
        """
        try:
            yield from self._run()
        except (GeneratorExit, KeyboardInterrupt):
            self._answer = "" if self._held else self._shown_text()
            if self._steps or self._answer.strip():
                self._ended = "stopped"
                self.agent.history.add(self._turn())
            raise
        turn = self._turn()
        self.agent.history.add(turn)
        yield Done(turn)

    def _run(self) -> Iterator[Event]:
        refusal = None
        if self.agent.reasoner is not None and self.agent.reasoner.constitution is not None:
            refusal = declined(self.message)
        if refusal is not None:
            self._answer, self._ended = refusal[0], "declined"
            self._violations = tuple(one.to_dict() for one in refusal[1])
            yield from self._tell(self._answer)
            return
        while True:
            calls = yield from self._write()
            if not calls:
                break
            if not (yield from self._call(calls)):
                break
        written = self._ended in ("answer", "tokens", "loop")
        if not self._steps and written and is_hard(self.message):
            self._ask_reasoner()
        without = not self._answer.strip()
        if without:
            self._ended = "empty" if self._ended == "answer" else self._ended
            self._answer = self._words_without_answer()
        if self._reasoning is None:
            self._keep_constitution()
        if without or self._held:
            yield from self._tell(self._answer)

    def _write(self) -> Generator[Event, None, list[ToolCall]]:
        """A message of the model; returns its calls, none where it is the answer or the end."""
        self._text, self._given = "", 0
        began = time.monotonic()
        try:
            fitted = self._fit()
        except ContextError:
            if not self._steps:
                raise
            self._ended = "context"
            return []
        context = int(self.agent.model.config.context)
        room = min(self.limits.message_tokens, context - fitted.tokens)
        room = min(room, self.limits.tokens - self._tokens)
        if room < 1 or self._seconds() >= self.limits.seconds:
            self._ended = "tokens" if room < 1 else "seconds"
            return []
        self._prompt_tokens, self._left_out = fitted.tokens, fitted.left_out
        with contextlib.closing(self._pieces(fitted.messages, room)) as pieces:
            for piece in pieces:
                self._first = self._seconds() if self._first is None else self._first
                self._text += piece
                yield from self._newly_shown(certain=False)
                if _goes_on_after_calls(self._text):
                    break
                if self._seconds() >= self.limits.seconds:
                    self._ended = "seconds"
                    break
                if OPEN not in self._text and _goes_in_circles(self._text):
                    self._ended = "loop"
                    break
        written = len(self.agent.tokenizer.encode(self._text)) if self._text else 0
        self._tokens += written
        reading = read_calls(self._text)
        if not reading.calls:
            yield from self._newly_shown(certain=True)
            self._answer = self._text.strip()
            if self._ended == "answer" and written >= room:
                self._ended = "tokens"
            return []
        if self._ended == "seconds":
            return []
        if len(self._steps) + 1 >= self.limits.steps:
            self._ended = "steps"
            return []
        self._step_cost = (written, fitted.tokens, began)
        return reading.calls

    def _call(self, calls: Sequence[ToolCall]) -> Generator[Event, None, bool]:
        """Run calls side by side; returns whether the model is to be asked again."""
        step = len(self._steps)
        for index, call in enumerate(calls):
            yield ToolCallStarted(step, index, call.name, call.arguments)
        results: dict[int, CallRecord] = {}
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                self.agent.runner.run(calls, on_result=lambda at, own: finished.put((at, own)))
                finished.put(None)
            except BaseException as error:  # raised again where the turn runs
                finished.put(error)

        threading.Thread(target=work, daemon=True).start()
        while (found := finished.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            index, result = found
            results[index] = CallRecord.of(result)
            yield ToolFinished(step, index, results[index])
        records = tuple(results[index] for index in range(len(calls)))
        written, read, began = self._step_cost
        text = "" if self._held else self._text.partition(OPEN)[0].strip()
        seconds = time.monotonic() - began
        same = bool(self._steps) and _asked(self._steps[-1].calls) == _asked(records)
        self._steps.append(AgentStep(text, records, written, read, seconds))
        self._text, self._given = "", 0
        if same and all(record.cached or not record.ok for record in records):
            self._ended = "repetition"
            return False
        return True

    def _fit(self) -> Fitted:
        current: list[Message] = [
            {"role": "user", "content": self.message}, *messages_of_steps(self._steps)
        ]  # fmt: skip
        context = int(self.agent.model.config.context)
        reserve = min(self.limits.message_tokens, context // ANSWER_SHARE)
        return self.agent.history.fit(self.agent.system_message, current, context - reserve)

    def _pieces(self, messages: Sequence[Message], room: int) -> Generator[str, None, None]:
        """The model's text as it comes. Agents of one model take turns at it, piece by piece."""
        agent = self.agent
        settings: dict[str, Any] = {
            "max_tokens": room,
            "temperature": self.temperature,
            "top_p": agent.top_p,
            "seed": (agent.seed + 101 * len(agent.history.turns) + len(self._steps)) % 2**32,
            "stop": agent.dialect.stops,
        }
        grammar = agent.grammar()
        if grammar is not None:
            settings["grammar"] = grammar
        lock = _lock_of(agent.model)
        prompt = agent.dialect.prompt(messages)
        with lock:
            stream = iter(agent.model.stream(prompt, **settings))
        try:
            while True:
                with lock:
                    piece = next(stream, None)
                if piece is None:
                    return
                yield piece
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                with lock:
                    close()

    def _newly_shown(self, *, certain: bool) -> Iterator[Event]:
        """The text before any call that was not shown yet, and is certain to be no call's mark."""
        if self._held:
            return
        end = self._text.find(OPEN)
        if end < 0:
            end = len(self._text) - (0 if certain else _held_back(self._text))
        if end > self._given:
            piece, self._given = self._text[self._given : end], end
            yield Token(piece)

    def _shown_text(self) -> str:
        return self._text[: self._given].strip()

    def _tell(self, text: str) -> Iterator[Event]:
        """Show a text that the model did not stream."""
        self._text, self._given, self._held = text, len(text), False
        yield Token(text)

    def _ask_reasoner(self) -> None:
        """Take the advanced reasoner's answer to the message, where it finds one."""
        reasoner = self.agent.reasoner
        if reasoner is None:
            return
        try:
            with _lock_of(self.agent.model):
                trace = reasoner(self.message)
        except UserError as error:
            self._notes.append(f"the advanced reasoner could not be asked: {error}")
            return
        self._tokens += trace.tokens
        if trace.final_answer is None:
            self._notes.append("the advanced reasoner found no answer; the model's own stands")
            return
        self._reasoning, self._answer, self._ended = trace, str(trace), "answer"
        self._violations = tuple(
            {"how": one} if isinstance(one, str) else one for one in trace.violations
        )

    def _keep_constitution(self) -> None:
        """The answer, or one in its place that keeps to the reasoner's constitution."""
        reasoner = self.agent.reasoner
        if reasoner is None or reasoner.constitution is None:
            return
        keeper = reasoner.constitution
        if canonical(self._answer).kind != "text":  # nothing in a number that a model could judge
            keeper = reasoner.rules
        reasoner.sampler.restart()
        with _lock_of(self.agent.model):
            self._answer, _, found = keeper.apply_constitution(self.message, self._answer)
        self._violations = tuple(one.to_dict() for one in found)

    def _words_without_answer(self) -> str:
        words = f"I have no answer: {ENDINGS[self._ended]}."
        if not self._steps:
            return words
        last = self._steps[-1].calls[-1]
        cut = "..." if len(last.shown) > MOST_SHOWN else ""
        return (
            f"{words} The last result, of {last.name or 'a call'}: {last.shown[:MOST_SHOWN]}{cut}"
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _turn(self) -> AgentTurn:
        earlier = self.agent.history.turns[-CHECKED_TURNS:]
        calls = [call for turn in earlier for call in turn.calls]
        calls += [call for step in self._steps for call in step.calls]
        checks = check_numbers(
            self._answer,
            prompts=[self.message, *(turn.message for turn in earlier), self.agent.system_prompt],
            results=[(call.name, call.answer) for call in reversed(calls) if call.ok],
        )
        seconds = self._seconds()
        return AgentTurn(
            self.message, self._answer, tuple(self._steps), self._ended, checks, self.kind,
            self.temperature, self.agent.role, self._tokens, self._prompt_tokens, seconds,
            seconds if self._first is None else self._first, self._left_out, self._reasoning,
            self._violations, (*self.agent.notes, *self._notes),
        )  # fmt: skip


def _goes_on_after_calls(text: str) -> bool:
    """Whether words follow calls that are all whole: their results must be read first."""
    if CLOSE not in text:
        return False
    tail = text.rpartition(CLOSE)[2].strip()
    if not tail or OPEN.startswith(tail[: len(OPEN)]):
        return False
    whole = text[: len(text) - len(text.rpartition(CLOSE)[2])]
    return all(call.error is None for call in read_calls(whole).calls)


def _goes_in_circles(text: str) -> bool:
    """Whether a text ends in so much of one phrase, four times at least, that no more is to come.

    Lines that a person asked for several times are shorter than that.
    """
    tail = text[-CIRCLE:]
    phrases = range(1, CIRCLE // 4 + 1)
    return len(tail) == CIRCLE and any(tail[size:] == tail[:-size] for size in phrases)


def _held_back(text: str) -> int:
    """How many last characters may be the beginning of a call."""
    sizes = range(min(len(text), len(OPEN) - 1), 0, -1)
    return next((size for size in sizes if OPEN.startswith(text[-size:])), 0)


def _asked(calls: Sequence[CallRecord]) -> list[tuple[str, Any, str]]:
    return [(call.name, call.arguments, call.text if not call.name else "") for call in calls]


def _lock_of(model: Any) -> threading.RLock:
    """The lock of a model, which keeps what one generation left behind for the next."""
    with _NEW_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())
