"""The names within one object of a call: none may be written twice."""

from __future__ import annotations


class KeyTracker:
    """Follows JSON byte by byte and knows the names of each open object.

    It reads what a grammar has let through, so that it need not check it.
    """

    def __init__(self) -> None:
        self._open: list[set[bytes] | None] = []  # the names of an object; None for a list
        self._text: bytearray | None = None  # of the string that is open
        self._escaped = False
        self._is_key = False

    def copy(self) -> KeyTracker:
        """One that goes on for itself."""
        made = KeyTracker()
        made._open = [None if names is None else set(names) for names in self._open]
        made._text = None if self._text is None else bytearray(self._text)
        made._escaped, made._is_key = self._escaped, self._is_key
        return made

    def feed(self, data: bytes) -> None:
        """Go on by some bytes."""
        for byte in data:
            self._byte(byte)

    def repeats(self, data: bytes) -> bool:
        """Whether these bytes would end a name that its object has already."""
        if self._text is None or not self._is_key or not self._open[-1]:
            return False
        before, quote, _ = data.partition(b'"')
        return bool(quote) and bytes(self._text) + before in self._open[-1]

    @property
    def depth(self) -> int:
        """How many objects and lists are open."""
        return len(self._open)

    @property
    def in_text(self) -> bool:
        """Whether a string is open."""
        return self._text is not None

    @property
    def may_repeat(self) -> bool:
        """Whether a name is being written in an object that has others."""
        return self._text is not None and self._is_key and bool(self._open[-1])

    def _byte(self, byte: int) -> None:
        if self._text is not None:
            if self._escaped:
                self._escaped = False
            elif byte == ord("\\"):
                self._escaped = True
            elif byte == ord('"'):
                if self._is_key:
                    names = self._open[-1]
                    assert names is not None  # only objects have names
                    names.add(bytes(self._text))
                self._text, self._is_key = None, False
                return
            self._text.append(byte)
        elif byte == ord('"'):
            self._text = bytearray()
        elif byte in b"{[":
            self._open.append(set() if byte == ord("{") else None)
            self._is_key = byte == ord("{")
        elif byte in b"}]":
            self._open.pop()
            self._is_key = False
        elif byte == ord(","):
            self._is_key = self._open[-1] is not None
