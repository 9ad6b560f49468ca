"""The terminal of a chat: questions, commands, answers as they come, Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import signal
import sys
import time
import types
from collections.abc import Callable, Iterable
from typing import TextIO

from experiments.chat_session import Answer, Chat
from experiments.progress import format_value, visible_text
from lilith.config import UserError, nearest

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
LEAVING = "Ctrl-C again leaves; so does /quit"


class _Left(Exception):
    """The person wants to leave."""


@dataclasses.dataclass
class Commands:
    """What a line that begins with a slash does."""

    chat: Chat
    folder: pathlib.Path  # where /save puts a file without a name
    clock: Callable[[], float] = time.time

    def run(self, line: str) -> str:
        """Do what ``line`` says, and return what there is to tell.

        Raises:
          UserError: an unknown command, or one that can not be done.
          _Left: /quit.
        """
        word, _, rest = line.strip().partition(" ")
        known = {name.split()[0]: name for name in COMMANDS}
        if word not in known:
            raise UserError(f"unknown command {word!r}{nearest(word, known)}; /help lists them")
        if rest.strip() and "[" not in known[word]:
            raise UserError(f"{word} takes nothing after it")
        return getattr(self, f"_{word[1:]}")(rest.strip())

    def _help(self, _: str) -> str:
        width = max(map(len, COMMANDS))
        lines = [f"{name:<{width}}  {does}" for name, does in COMMANDS.items()]
        return "\n".join([*lines, HINTS])

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
        moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.clock()))
        default = self.folder / f"chat-{moment}.json"
        path = self.chat.save(pathlib.Path(name).expanduser() if name else default)
        return f"saved {len(self.chat.messages)} messages in {path}"

    def _quit(self, _: str) -> str:
        raise _Left


class _Stop:
    """While it is entered, the first Ctrl-C only sets ``asked``; a second one interrupts."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Stop:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


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
    commands, code = Commands(chat, folder), 0
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
            if line.startswith("/"):
                print(commands.run(line), file=errors)
            elif line.strip():
                answer_once(chat, line, out)
        except UnicodeDecodeError:
            code = _failed(f"line {number} is not UTF-8 text", errors)
        except UserError as error:
            code = _failed(f"line {number}: {error}", errors)
        except _Left:
            break
    return code


def _failed(sentence: str, errors: TextIO) -> int:
    print(f"error: {sentence}", file=errors, flush=True)
    return 2


class Terminal:
    """A chat with a person at the keyboard.

    Args:
      title: what is said of the model before the first question.
      folder: where /save puts a file without a name.
    """

    def __init__(self, chat: Chat, title: str, folder: pathlib.Path) -> None:
        from rich.console import Console

        self.chat, self.title = chat, title
        self.commands = Commands(chat, folder)
        self.console = Console(highlight=False, markup=False, emoji=False)
        self._styled = self.console.is_terminal and not self.console.is_dumb_terminal

    def run(self) -> None:
        """Ask and answer until the person leaves."""
        # A shell that started this in the background has Ctrl-C ignored; here is a person.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(ImportError):  # Windows: without editing of lines and history
            import readline  # noqa: F401 (input() uses it)
        self._say(f"{self.title}\n{self._greeting()}")
        interrupted = False
        while True:
            try:
                line = input(self._prompt())
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                typed = _typed()
                if interrupted and not typed:
                    print()
                    return
                interrupted = not typed
                print()
                self._say(LEAVING if interrupted else "")
                continue
            interrupted = False
            try:
                self._take(line)
            except UserError as error:
                self._say(visible_text(str(error)), "red")
            except _Left:
                return

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            self._say(visible_text(self.commands.run(line)))
        elif line.strip():
            self._answer(line)

    def _answer(self, question: str) -> None:
        what = "thinking" if self.chat.answer else "getting ready (what is compiled now is kept)"
        waiting = self.console.status(what) if self._styled else contextlib.nullcontext()
        stopped, begun = False, False
        with _Stop() as stop, contextlib.closing(self.chat.ask(question)) as pieces:
            try:
                with waiting:
                    first = next(pieces, "")
                begun = True
                self._write(first)
                for piece in pieces if not stop.asked else ():
                    self._write(piece)
                    if stop.asked:
                        break
                stopped = stop.asked
            except KeyboardInterrupt:
                stopped = True
        if begun:
            print(flush=True)
        self._say(self._status(stopped))

    def _write(self, text: str) -> None:
        self.console.file.write(visible_text(text, self.console.encoding))
        self.console.file.flush()

    def _status(self, stopped: bool) -> str:
        answer = self.chat.answer
        facts = ["stopped"] if stopped else []
        if answer is not None:
            facts += _facts(answer, self.chat.model.config.context, stopped)
        return ", ".join(facts)

    def _greeting(self) -> str:
        said = len(self.chat.messages)
        going_on = f"going on after {said} messages; " if said else ""
        return f"{going_on}/help lists the commands, Ctrl-C stops an answer"

    def _say(self, text: str, style: str = "dim") -> None:
        if text:
            self.console.print(text, style=style, soft_wrap=True)

    def _prompt(self) -> str:
        if not self._styled or self.console.no_color or "readline" not in sys.modules:
            return "> "
        # \1 and \2 tell readline which characters take no room.
        return "\1\x1b[1;36m\2> \1\x1b[0m\2"


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


def _typed() -> str:
    """What stood on the line when Ctrl-C came."""
    readline = sys.modules.get("readline")
    return readline.get_line_buffer() if readline else ""
