"""What conversations at a terminal share: commands, lines of a pipe, the prompt, Ctrl-C."""

from __future__ import annotations

import _thread
import abc
import contextlib
import io
import os
import pathlib
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from experiments.progress import visible_text
from lilith.config import UserError, nearest

LEAVING = "Ctrl-C again leaves; so does /quit"


class Left(Exception):
    """The person wants to leave."""


class Commands:
    """What a line that begins with a slash does: ``/name`` is done by the method ``_name``.

    Attributes:
      known: what each command is called with, and what it does. ``[X]`` may be left out, any other
        word after the name must be given.
      hints: lines at the end of /help.
      folder: where a file without a name is put.
    """

    known: Mapping[str, str] = {}
    hints = ""

    def __init__(self, folder: pathlib.Path, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._clock = folder, clock

    def run(self, line: str) -> str:
        """Do what ``line`` says, and return what there is to tell.

        Raises:
          UserError: an unknown command, or one that can not be done.
          Left: /quit.
        """
        word, _, rest = line.strip().partition(" ")
        forms = {form.split()[0]: form for form in self.known}
        if word not in forms:
            raise UserError(f"unknown command {word!r}{nearest(word, forms)}; /help lists them")
        takes = forms[word][len(word) :].strip()
        if rest.strip() and not takes:
            raise UserError(f"{word} takes nothing after it")
        if takes and not takes.startswith("[") and not rest.strip():
            raise UserError(f"{word} needs a {takes} after it")
        return getattr(self, f"_{word[1:]}")(rest.strip())

    def _help(self, _: str) -> str:
        width = max(map(len, self.known))
        lines = [f"{form:<{width}}  {does}" for form, does in self.known.items()]
        return "\n".join([*lines, self.hints])

    def file(self, name: str, ending: str) -> pathlib.Path:
        """The file that a person names, or one of this moment: ``chat.json`` ends such a name."""
        if name:
            return pathlib.Path(name).expanduser()
        stem, dot, suffix = ending.partition(".")
        moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._clock()))
        return self.folder / f"{stem}-{moment}{dot}{suffix}"

    def _quit(self, _: str) -> str:
        raise Left


class Stop:
    """While it is entered, the first Ctrl-C only sets ``asked``; a second one interrupts.

    Args:
      patience: seconds after which the first one interrupts too, where nobody has looked at it.
    """

    def __init__(self, patience: float | None = None) -> None:
        self.asked, self._patience = False, patience
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Stop:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer.join()  # so that no interrupt of it comes later
            signal.signal(signal.SIGINT, self._before)
        except KeyboardInterrupt:  # one that was on its way; it has been obeyed
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._patience is not None:
            self._timer = threading.Timer(self._patience, _interrupt_main)
            self._timer.daemon = True
            self._timer.start()


def _interrupt_main() -> None:
    """Ctrl-C for the main thread, also where it waits."""
    main = threading.main_thread().ident
    if sys.platform == "win32" or main is None:
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main, signal.SIGINT)


def take_lines(
    answer: Callable[[str], None], commands: Commands, lines: Iterable[bytes], errors: TextIO
) -> int:
    """Give every line of a file or a pipe that is not blank to ``answer``, or to ``commands``.

    What commands say goes to ``errors``, as do mistakes, after which the next line is taken.

    Returns:
      The exit code: 2 if a line could not be answered.
    """
    code = 0
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
            if line.startswith("/"):
                print(commands.run(line), file=errors)
            elif line.strip():
                answer(line)
        except UnicodeDecodeError:
            code = _failed(f"line {number} is not UTF-8 text", errors)
        except UserError as error:
            code = _failed(f"line {number}: {error}", errors)
        except Left:
            break
    return code


def _failed(sentence: str, errors: TextIO) -> int:
    print(f"error: {sentence}", file=errors, flush=True)
    return 2


class Terminal(abc.ABC):
    """A conversation with a person at the keyboard; a stage says in ``answer`` how it goes on."""

    def __init__(self, commands: Commands) -> None:
        from rich.console import Console

        self.commands = commands
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.styled = self.console.is_terminal and not self.console.is_dumb_terminal

    @abc.abstractmethod
    def answer(self, line: str) -> None:
        """Answer what was typed."""

    def run(self, greeting: str) -> None:
        """Greet, then ask and answer until the person leaves."""
        # A shell that started this in the background has Ctrl-C ignored; here is a person.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(ImportError):  # Windows: without editing of lines and history
            import readline  # noqa: F401 (input() uses it)
        self.say(greeting)
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
                self.say(LEAVING if interrupted else "")
                continue
            interrupted = False
            try:
                self._take(line)
            except UserError as error:
                self.say(str(error), "red")
            except Left:
                return

    def write(self, text: str) -> None:
        """Print a piece of an answer as it is, its control characters made visible."""
        self.console.file.write(visible_text(text, self.console.encoding))
        self.console.file.flush()

    def say(self, text: str, style: str = "dim") -> None:
        """Print lines that are no answer, their control characters made visible."""
        if text:
            shown = visible_text(text, self.console.encoding)
            self.console.print(shown, style=style, soft_wrap=True)

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            self.say(self.commands.run(line))
        elif line.strip():
            self.answer(line)

    def _prompt(self) -> str:
        if not self.styled or self.console.no_color or "readline" not in sys.modules:
            return "> "
        # \1 and \2 tell readline which characters take no room.
        return "\1\x1b[1;36m\2> \1\x1b[0m\2"


def _typed() -> str:
    """What stood on the line when Ctrl-C came."""
    readline = sys.modules.get("readline")
    return readline.get_line_buffer() if readline else ""


def printable(stream: TextIO) -> TextIO:
    """``stream``, which now writes what its encoding lacks as escapes instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def conversing(converse: Callable[[], int]) -> int:
    """The exit code of a conversation, quiet where its reader has gone or Ctrl-C ends it."""
    try:
        return converse()
    except BrokenPipeError:  # the reader has gone, and with it the reason to go on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
