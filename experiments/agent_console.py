"""The terminal of an agent: what a turn shows as it runs, the commands, lines of a pipe."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

from experiments import agent_view, terminal
from experiments.agent_view import PLAN, Look
from experiments.progress import visible_text
from experiments.reason_console import event_line
from experiments.reason_console import trace_lines as reasoning_lines
from lilith.agent.agent import LILITHAgent
from lilith.agent.roles import SYSTEM_PROMPTS
from lilith.agent.turn import (
    ENDINGS,
    AgentTurn,
    CallRecord,
    Done,
    Event,
    Token,
    ToolCallStarted,
    ToolFinished,
)
from lilith.config import UserError
from lilith.train.metrics import write_atomically

COMMANDS = {
    "/help": "show this",
    "/role [NAME]": "take another role; without NAME list them",
    "/tools [NAME]": "what a tool does and takes; without NAME list them",
    "/trace": "the last turn step by step: calls, results, sources of numbers",
    "/plan": "the last plan: dates, critical path, the Gantt chart as a file",
    "/save [FILE]": "write the conversation to a file",
    "/load FILE": "go on with a conversation that was saved",
    "/page [FILE]": "write the conversation as one HTML page",
    "/reset": "forget the conversation and what the tools hold",
    "/quit": "leave; so do Ctrl-D, and Ctrl-C twice at the empty prompt",
}
HINTS = (
    "Ctrl-C stops an answer and keeps what was said and computed so far.\n"
    "A line that begins with a space is never a command."
)
GETTING_READY = "getting ready (what is compiled now is kept)"
PAGE_START = "<!doctype html"
PATIENCE = 1.0  # seconds until a Ctrl-C interrupts what gives no text, such as a tool
_SOURCES = {
    "result": "from",
    "prompt": "from a question or the system prompt",
    "recomputed": "right arithmetic",
    "wrong": "wrong:",
    "unverified": "unverified: from no tool, question or arithmetic",
}


class Commands(terminal.Commands):
    """The commands of an agent; files without a name are put into ``folder``."""

    known, hints = COMMANDS, HINTS

    def __init__(
        self,
        agent: LILITHAgent,
        folder: pathlib.Path,
        look: Look,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(folder, clock)
        self.agent, self._look = agent, look

    def _role(self, name: str) -> str:
        if name:
            self.agent.set_role(name)
            return f"the role is {name}; the conversation stays"
        lines: list[str] = []
        for role, prompt in SYSTEM_PROMPTS.items():
            mark = "*" if role == self.agent.role else " "
            about = prompt.partition(". ")[0].removeprefix("You are LILITH, ")
            lines += self._look.wrapped(f"{mark} {role}: {about}", "    ")
        return "\n".join(lines)

    def _tools(self, name: str) -> str:
        width = max(map(len, self.agent.registry.names), default=0)
        indent = "    " if name else " " * (width + 2)
        told = self.agent.registry.help(name or None)
        return "\n".join(self._look.wrapped(told, indent)) or "there are no tools"

    def _trace(self, _: str) -> str:
        if not self.agent.turns:
            raise UserError("there is no turn yet; ask something first")
        return "\n".join(trace_lines(self.agent.turns[-1], self._look))

    def _plan(self, _: str) -> str:
        plan, warnings = self._last_plan()
        path = self.file("", "plan.svg")
        _write(path, plan["gantt_svg"])
        lines = agent_view.plan_lines(plan, warnings, self._look)
        return "\n".join([*lines, f"Gantt chart: {path}"])

    def _last_plan(self) -> tuple[Mapping[str, Any], list[str]]:
        """The last plan with its chart, and its warnings."""
        calls = [call for turn in self.agent.turns for call in turn.calls]
        made = next((one for one in reversed(calls) if one.ok and one.name == PLAN), None)
        if made is None:
            raise UserError(f"no call of {PLAN} was answered in this conversation; ask for a plan")
        answer = made.answer
        if not agent_view.is_plan(answer["result"]) or not answer["result"].get("gantt_svg"):
            answer = self._planned_again(made)
        return answer["result"], [str(one) for one in answer.get("warnings") or ()]

    def _planned_again(self, call: CallRecord) -> Mapping[str, Any]:
        """The same plan, for a turn keeps no chart that was not asked for, and no giant answer."""
        arguments = self.agent.runner.references.filled_in(call.arguments)
        answer = self.agent.registry[PLAN](**{**arguments, "chart": True})
        if not answer.get("ok"):
            raise UserError(f"the plan can not be made again: {answer['error']['message']}")
        return answer

    def _save(self, name: str) -> str:
        path = self.agent.save(self.file(name, "agent.json"))
        return f"saved {_turns(self.agent)} in {path}"

    def _load(self, name: str) -> str:
        self.agent.load(pathlib.Path(name).expanduser())
        return f"going on after {_turns(self.agent)} as {self.agent.role or 'the saved prompt'}"

    def _page(self, name: str) -> str:
        path = self.file(name, "agent.html")
        if path.is_file() and not _begins_as_page(path):
            raise UserError(f"{path} exists and is no page; choose another name")
        _write(path, self.agent.transcript_html())
        return f"wrote {_turns(self.agent)} to {path}"

    def _reset(self, _: str) -> str:
        self.agent.reset()
        return "the conversation is empty"


class TurnView:
    """Shows the events of a turn.

    Args:
      write: takes pieces of text as they come; None shows no text, only what is called.
      say: takes lines about calls, and a style.
    """

    def __init__(
        self, write: Callable[[str], None] | None, say: Callable[[str, str], None], look: Look
    ) -> None:
        self._write, self._say, self._look = write, say, look
        self._open = False  # a line of text is begun

    def show(self, event: Event) -> None:
        """Show one event, of :meth:`lilith.agent.agent.LILITHAgent.stream`."""
        if isinstance(event, Token):
            text = event.text if self._open else event.text.lstrip()
            if text and self._write is not None:
                self._open = True
                self._write(text)
            return
        self.end_line()
        if isinstance(event, ToolCallStarted) and event.name:
            lines = agent_view.call_lines(event.name, event.arguments, self._look)
            self._tell("\n".join(lines), "cyan")
        elif isinstance(event, ToolFinished):
            if not event.call.name:  # what the model wrote is known only now
                lines = agent_view.call_lines("", {}, self._look, event.call.text)
                self._tell("\n".join(lines), "cyan")
            style = "" if event.call.ok else "red"
            self._tell("\n".join(agent_view.result_lines(event.call, self._look)), style)
        elif isinstance(event, Done):
            self.judge(event.turn)

    def judge(self, turn: AgentTurn) -> None:
        """Say which numbers of a turn's answer nobody vouches for."""
        self._tell("\n".join(agent_view.verdict_lines(turn, self._look)), "yellow")

    def end_line(self) -> None:
        """End a line of text that is begun."""
        if self._open and self._write is not None:
            self._write("\n")
        self._open = False

    def _tell(self, lines: str, style: str) -> None:
        if lines:
            self._say(visible_text(lines), style)


def answer_once(
    agent: LILITHAgent, question: str, out: TextIO, errors: TextIO, *, as_json: bool = False
) -> None:
    """Answer one question: ``out`` gets the answer, or the turn as a line of JSON.

    Calls and unverified numbers go to ``errors``, not so with JSON, which has them.
    """

    def write(text: str) -> None:
        out.write(visible_text(text))
        out.flush()

    def say(text: str, _: str = "") -> None:
        print(text, file=errors, flush=True)

    if as_json:
        turn = json.loads(agent.run(question).to_json())
        print(json.dumps(turn, separators=(",", ":")), file=out, flush=True)
        return
    shown = out.isatty()
    view = TurnView(write if shown else None, say, Look.of(terminal_width(), errors.encoding))
    if agent.reasoner is not None:
        agent.reasoner.on_event = lambda event: say(visible_text(event_line(event)))
    with contextlib.closing(agent.stream(question)) as events:
        for event in events:
            if isinstance(event, Done) and not shown:
                print(event.turn.answer, file=out, flush=True)
            view.show(event)
            if isinstance(event, Done) and ENDINGS.get(event.turn.ended):
                say(f"note: {ENDINGS[event.turn.ended]}")


def answer_lines(
    agent: LILITHAgent,
    lines: Iterable[bytes],
    folder: pathlib.Path,
    out: TextIO,
    errors: TextIO,
    *,
    as_json: bool = False,
) -> int:
    """Answer every line of a file or a pipe as one conversation; the exit code, 2 after mistakes.

    Commands work as typed, and what they say goes to ``errors``, as do mistakes.
    """
    commands = Commands(agent, folder, Look.of(terminal_width(), errors.encoding))
    return terminal.take_lines(
        lambda line: answer_once(agent, line, out, errors, as_json=as_json),
        commands, lines, errors,
    )  # fmt: skip


class Terminal(terminal.Terminal):
    """An agent with a person at the keyboard; commands put files without a name into ``folder``."""

    def __init__(self, agent: LILITHAgent, folder: pathlib.Path) -> None:
        self.look = Look.of(terminal_width(), sys.stdout.encoding)
        super().__init__(Commands(agent, folder, self.look))
        self.agent = agent
        if agent.reasoner is not None:
            agent.reasoner.on_event = lambda event: self.say(event_line(event))

    def answer(self, line: str) -> None:
        """Show a turn as it runs; Ctrl-C stops it and nothing else."""
        earlier = self.agent.turns[-1:]
        view = TurnView(self.write, self.say, self.look)
        events = self.agent.stream(line)
        try:
            with (
                contextlib.suppress(KeyboardInterrupt),
                terminal.Stop(PATIENCE) as stop,
                contextlib.closing(events),
            ):
                for event in self._waited(events):
                    view.show(event)
                    if stop.asked:
                        break
        finally:
            view.end_line()
        last = self.agent.turns[-1:]
        if not last or (earlier and last[0] is earlier[0]):
            self.say("stopped; nothing of it is kept")
            return
        if last[0].ended == "stopped":
            view.judge(last[0])
        self.say(turn_line(last[0]))

    def _waited(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, with a sign that something goes on where no text comes."""
        waits_for = "thinking" if self.agent.turns else GETTING_READY
        running: dict[tuple[int, int], str] = {}
        while True:
            waiting = self.console.status(waits_for) if self.styled and waits_for else None
            with waiting or contextlib.nullcontext():
                event = next(events, None)
            if event is None:
                return
            if isinstance(event, ToolCallStarted):
                running[event.step, event.index] = visible_text(event.name) or "a call"
            elif isinstance(event, ToolFinished):
                running.pop((event.step, event.index), None)
            waits_for = f"running {', '.join(running.values())}" if running else "thinking"
            if isinstance(event, (Token, Done)):
                waits_for = ""
            yield event


def turn_line(turn: AgentTurn) -> str:
    """What a turn cost, and what ended it other than its answer."""
    facts = [ENDINGS[turn.ended]] if ENDINGS.get(turn.ended) else []
    facts = ["stopped"] if turn.ended == "stopped" else facts
    count = len(turn.calls)
    facts += [f"{count} call{'s' if count > 1 else ''}"] if count else []
    facts += [
        f"{turn.tokens:,} tokens",
        f"{turn.seconds:.1f} s",
        f"{turn.kind} at temperature {turn.temperature:g}",
    ]
    if turn.left_out:
        facts.append(f"{turn.left_out} oldest turns left out")
    return ", ".join(facts)


def trace_lines(turn: AgentTurn, look: Look) -> list[str]:
    """A turn step by step, with every argument and result as the model had it."""
    lines = [f"message: {turn.message}", f"role {turn.role or 'of its own'}, {turn_line(turn)}"]
    for number, step in enumerate(turn.steps, 1):
        lines.append(
            f"step {number}: {step.prompt_tokens:,} tokens read, {step.tokens:,} written, "
            f"{step.seconds:.1f} s"
        )
        lines += [f"  {step.text}"] if step.text else []
        for call in step.calls:
            given = json.dumps(dict(call.arguments), ensure_ascii=False)
            lines.append(f"  {look.arrow} {f'{call.name} {given}' if call.name else call.text}")
            lines.append(f"    {'answered before' if call.cached else f'{call.seconds:.2f} s'}")
            lines.append(f"    {call.shown}")
    if turn.reasoning is not None:
        lines += ["reasoning:", *reasoning_lines(turn.reasoning)]
    lines.append(f"answer: {turn.answer}")
    lines += [f"  {one.text}: {_SOURCES[one.verdict]} {one.note}".rstrip() for one in turn.checks]
    lines += [line for line in agent_view.verdict_lines(turn, look) if turn.violations]
    return [*lines, *(f"note: {one}" for one in turn.notes)]


def terminal_width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def _turns(agent: LILITHAgent) -> str:
    count = len(agent.turns)
    return f"{count} turn{'' if count == 1 else 's'}"


def _begins_as_page(path: pathlib.Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(len(PAGE_START)).lower() == PAGE_START


def _write(path: pathlib.Path, text: str) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path} can not be written: {error.strerror or error}") from None
