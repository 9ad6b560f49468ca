"""One process that renders chat templates, started on first use and shared by all of them."""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from lilith.config import UserError

MEMORY = 1 << 30  # bytes of the process's address space
PROCESSOR_SECONDS = 2.0  # of one rendering; real ones take milliseconds
WALL_SECONDS = 30.0  # a backstop where the system counts no processor time
MOST_CHARACTERS = 32_000_000  # of one rendering
_WORKER = pathlib.Path(__file__).with_name("template_worker.py")
# What an interpreter may need to start, and the time zone for templates that print the date.
_ENVIRONMENT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


class ChatTemplateError(UserError):
    """A chat template can not render a conversation, or a conversation is not well formed."""


class TemplateProcess:
    """A process that answers one request at a time; ended and replaced when one goes wrong."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0  # a forked child must not share its parent's pipe

    def render(
        self,
        source: str,
        variables: Mapping[str, Any],
        own: list[str],
        prefixes: Sequence[tuple[int, bool]],
    ) -> list[tuple[str, list[tuple[int, int]]]]:
        """Of each prefix the text, and its spans [start, end) that the template itself wrote.

        Args:
          source: the template.
          variables: what it may read, as JSON's types; ``messages`` is one of them.
          own: names of variables whose text counts as the template's (bos and eos).
          prefixes: how many of the messages are rendered, and whether what begins an answer
            follows them (``add_generation_prompt``).

        Raises:
          ChatTemplateError: every way in which a template can fail.
        """
        request = {
            "source": source,
            "variables": variables,
            "own": own,
            "prefixes": prefixes,
            "most": MOST_CHARACTERS,
        }
        with self._lock:
            try:
                reply = self._ask(json.dumps(request))
            except BaseException:  # Ctrl-C too: an answer on its way must not meet the next request
                self.close()
                raise
        if "kind" in reply:
            raise ChatTemplateError(_explain(reply["kind"], reply["line"], reply["words"]))
        return [
            (made["text"], [(start, end) for start, end in made["own"]])
            for made in reply["rendered"]
        ]

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _ask(self, request: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(WALL_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            raise ChatTemplateError(_explain_end(process.wait()))
        return json.loads(line)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._process
            self.close()  # ended from outside while nobody asked it anything
        settings = {"path": sys.path, "memory": MEMORY, "seconds": PROCESSOR_SECONDS}
        self._owner = os.getpid()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="ascii",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for the program, not for this process
            )
        except OSError as error:
            raise ChatTemplateError(
                f"the process that renders chat templates could not start: {error}"
            ) from None
        return self._process


def one_line(text: str) -> str:
    """A stranger's words on one line, control characters made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _explain(kind: str, line: int | None, words: str) -> str:
    """What went wrong within the template, in a sentence."""
    where = f" (line {line} of the template)" if line else ""
    words = one_line(words)
    if kind == "RefusedError":
        return f"the chat template refuses this conversation: {words}"
    if kind in ("TemplateSyntaxError", "TemplateAssertionError", "SyntaxError"):
        return f"the chat template is not valid Jinja: {words}{where}"
    if kind == "UndefinedError":
        return f"the chat template reads what this conversation does not have: {words}{where}"
    if kind == "SecurityError":
        return f"the chat template is refused, it tries to leave its sandbox: {words}{where}"
    if kind == "MemoryError":
        return f"the chat template needs more than {MEMORY >> 20} MiB of memory{where}"
    if kind == "RecursionError":
        return f"the chat template calls itself, or nests, too deeply{where}"
    return f"the chat template failed: {kind}: {words}{where}"


def _explain_end(code: int) -> str:
    """Why the process ended without an answer, from its exit code."""
    if code == -getattr(signal, "SIGPROF", 27):
        return f"the chat template took more than {PROCESSOR_SECONDS:g} s and was stopped"
    if code == -getattr(signal, "SIGKILL", 9):
        return (
            "the process that renders chat templates was killed: it took more than "
            f"{WALL_SECONDS:g} s, or the machine ran out of memory"
        )
    return (
        f"the process that renders chat templates ended with exit code {code}; most likely the "
        "template used up its memory or its stack"
    )


RENDERER = TemplateProcess()
atexit.register(RENDERER.close)
