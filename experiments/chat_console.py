"""The terminal of a chat: questions, commands, answers as they come, Ctrl-C."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from experiments import terminal
from experiments.chat_session import Answer, Chat
from experiments.progress import format_value, visible_text

COMMANDS = {
    "/help": "show this",
    "/reset": "forget the conversation; the system prompt stays",
    "/system [TEXT]": "set the system prompt; without TEXT show it, with - remove it",
    "/save [FILE]": "write the conversation as JSON; --set history=FILE goes on with it",
    "/quit": "leave; so do Ctrl-D, and Ctrl-C twice at the empty prompt",
}
HINTS = (
    "Ctrl-C stops an answer and keeps what was said so far.\n"
    "A line that begins with a space is never a command."
)


class Commands(terminal.Commands):
    """The commands of a chat; /save puts a file without a name into ``folder``."""

    known, hints = COMMANDS, HINTS

    def __init__(
        self, chat: Chat, folder: pathlib.Path, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(folder, clock)
        self.chat = chat

    def _reset(self, _: str) -> str:
        self.chat.reset()
        return "the conversation is empty"

    def _system(self, text: str) -> str:
        if text == "-":
            self.chat.system = None
            return "there is no system prompt now"
        if text:
            self.chat.system = text
            return "the system prompt is set"
        return self.chat.system if self.chat.system is not None else "there is no system prompt"

    def _save(self, name: str) -> str:
        path = self.chat.save(self.file(name, "chat.json"))
        return f"saved {len(self.chat.messages)} messages in {path}"


def answer_once(chat: Chat, question: str, out: TextIO) -> None:
    """Write the answer to one question, and the end of its line."""
    shown = out.isatty()
    with contextlib.closing(chat.ask(question)) as pieces:
        for piece in pieces:
            out.write(visible_text(piece) if shown else piece)
            out.flush()
    out.write("\n")
    out.flush()


def answer_lines(
    chat: Chat, lines: Iterable[bytes], folder: pathlib.Path, out: TextIO, errors: TextIO
) -> int:
    """Answer every line of a file or a pipe as one conversation; ``out`` gets only answers.

    Commands work as typed, and what they say goes to ``errors``, as do mistakes, after which the
    next line is answered.

    Returns:
      The exit code: 2 if a line could not be answered.
    """
    return terminal.take_lines(
        lambda line: answer_once(chat, line, out), Commands(chat, folder), lines, errors
    )


class Terminal(terminal.Terminal):
    """A chat with a person at the keyboard.

    Args:
      title: what is said of the model before the first question.
      folder: where /save puts a file without a name.
    """

    def __init__(self, chat: Chat, title: str, folder: pathlib.Path) -> None:
        super().__init__(Commands(chat, folder))
        self.chat = chat
        said = len(chat.messages)
        going_on = f"going on after {said} messages; " if said else ""
        self.greeting = f"{title}\n{going_on}/help lists the commands, Ctrl-C stops an answer"

    def answer(self, question: str) -> None:
        """Show the answer as it comes, and a line about it."""
        what = "thinking" if self.chat.answer else "getting ready (what is compiled now is kept)"
        waiting = self.console.status(what) if self.styled else contextlib.nullcontext()
        stopped, begun = False, False
        with terminal.Stop() as stop, contextlib.closing(self.chat.ask(question)) as pieces:
            try:
                with waiting:
                    first = next(pieces, "")
                begun = True
                self.write(first)
                for piece in pieces if not stop.asked else ():
                    self.write(piece)
                    if stop.asked:
                        break
                stopped = stop.asked
            except KeyboardInterrupt:
                stopped = True
        if begun:
            print(flush=True)
        self.say(self._status(stopped))

    def _status(self, stopped: bool) -> str:
        answer = self.chat.answer
        facts = ["stopped"] if stopped else []
        if answer is not None:
            facts += _facts(answer, self.chat.model.config.context, stopped)
        return ", ".join(facts)


def _facts(answer: Answer, context: int, stopped: bool) -> list[str]:
    """What the line under an answer says."""
    facts = [f"{answer.tokens:,} tokens"]
    if answer.tokens_per_second:
        facts.append(format_value("tokens_per_second", answer.tokens_per_second))
    facts.append(f"first after {answer.first_seconds:.1f} s")
    facts.append(f"{answer.prompt_tokens + answer.tokens:,} of {context:,} in the context")
    if answer.cut and not stopped:
        facts.append("cut at max_tokens" if answer.cut == "max_tokens" else "the context is full")
    if answer.left_out:
        facts.append(f"{answer.left_out} oldest turns left out")
    return facts
