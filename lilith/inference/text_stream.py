"""Ids to text as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from lilith.tokenizer import Tokenizer


class TextStream:
    """The text of one row.

    Args:
      stop: the text ends before the first of these.
      hidden: ids that are not written (the tokens that end a text).
      context: ids before the first one; where a tokenizer writes a space before a text, they say
        that this one continues another.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stop: Sequence[str] = (),
        hidden: Iterable[int] = (),
        context: Sequence[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._stop, self._hidden = tuple(stop), frozenset(hidden)
        self._last = list(context[-1:])  # only it decides how what follows is written
        # An incomplete character waits for its other bytes.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._given = 0  # characters handed out
        self.text = ""  # all of it so far, held back characters too
        self.stopped = False  # a stop string was met

    def feed(self, ids: Iterable[int]) -> str:
        """Add ids; the text that is certain now and was not before."""
        if self.stopped:
            return ""
        new = [index for index in ids if index not in self._hidden]
        known = len(self._tokenizer.decode_bytes(self._last))
        data = self._tokenizer.decode_bytes([*self._last, *new])
        self.text += self._decoder.decode(data[known:])
        self._last = new[-1:] or self._last
        return self._advance(certain=False)

    def finish(self) -> str:
        """The text held back, with U+FFFD for a character cut short."""
        if self.stopped:
            return ""
        self.text += self._decoder.decode(b"", final=True)
        return self._advance(certain=True)

    def _advance(self, certain: bool) -> str:
        # What was handed out holds no beginning of a stop string: that would be held back.
        ends = [at for stop in self._stop if (at := self.text.find(stop, self._given)) >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)], True
        held = 0 if certain or self.stopped else self._held()
        piece = self.text[self._given : len(self.text) - held]
        self._given += len(piece)
        return piece

    def _held(self) -> int:
        """How many last characters may be the beginning of a stop string."""
        return max(
            (
                size
                for stop in self._stop
                for size in range(1, len(stop))
                if self.text.endswith(stop[:size])
            ),
            default=0,
        )
