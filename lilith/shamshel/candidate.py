"""The candidate's side of a verdict: loads the source, then answers calls with plain data.

Nothing here is trusted, since the candidate shares the process and may rewrite it. It holds no
expected value and no test; all that leaves is bytes, which the trusted side decodes strictly.
"""

from __future__ import annotations

import sys
from typing import Any

from .frames import read_frame, write_frame
from .plain import NotPlainData, decode, encode

_MAX_TEXT = 2000


class Candidate:
    """The loaded source, and the objects that stay on this side."""

    def __init__(self, source: str) -> None:
        self.objects: list[Any] = []
        module = type(sys)("candidate")
        sys.modules["candidate"] = module
        self.names = module.__dict__
        exec(compile(source, "candidate.py", "exec"), self.names)

    def keep(self, value: Any) -> int:
        """Give an object a number by which the tests may name it."""
        self.objects.append(value)
        return len(self.objects) - 1

    def answer(self, kind: str, target: Any, *rest: Any) -> bytes:
        """Do one request; returns the encoded answer."""
        if kind == "call":
            if target not in self.names:
                raise NameError(f"the candidate defines no {target!r}")
            return encode(("value", self.names[target](*rest[0], **rest[1])))
        if kind == "make":
            made = self.names[target](*rest[0], **rest[1])
            return encode(("value", made), self.keep)
        if kind == "get":
            return encode(("value", getattr(target, rest[0])), self.keep)
        setattr(target, rest[0], rest[1])
        return encode(("value", None))


def describe(error: BaseException) -> bytes:
    """An exception as its class names, nearest first, and its message."""
    try:
        text = str(error)[:_MAX_TEXT]
    except BaseException:
        text = ""
    names = [kind.__name__[:200] for kind in type(error).__mro__]
    return encode(("raise", names[:16], text))


def main(code: str) -> None:
    """Serve until the supervisor hangs up."""
    candidate = None
    while True:
        try:
            raw = read_frame()
        except EOFError:
            return
        try:
            if candidate is None:
                with open(code + "/candidate.txt", encoding="utf-8") as file:
                    source = file.read()
                candidate = Candidate(source)
                reply = encode(("value", None))
            else:
                objects = candidate.objects
                reply = candidate.answer(*decode(raw, objects.__getitem__))
        except NotPlainData as error:
            reply = encode(("refuse", str(error)[:_MAX_TEXT]))
        except BaseException as error:
            reply = describe(error)
        write_frame(reply)
