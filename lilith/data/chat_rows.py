"""Whole conversations packed into rows of one length, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from lilith.data.chat import Rendered
from lilith.data.iterator import Batch, RowBatches
from lilith.data.packing import Packing, Rows, pack
from lilith.data.report import DataError
from lilith.data.tuning_corpus import TuningCorpus


class ChatRows(Rows):
    """Rows by index, like :class:`lilith.data.packing.PackedRows`, that learn only answers.

    A row holds whole conversations, each a segment of its own; ``loss_mask`` is 1 at an input
    whose target is learnt. Made by :func:`pack_conversations`; pickles with its tokens.

    Args:
      tokens: int32 [tokens], conversations one after another.
      learnt: bool [tokens], which of them are learnt.
      packing: which conversations make up each row.
      length: tokens a row.
      pad_id: fills padding.
    """

    def __init__(
        self, tokens: np.ndarray, learnt: np.ndarray, packing: Packing, length: int, pad_id: int
    ) -> None:
        super().__init__(tokens, packing, length, pad_id)
        self._learnt = learnt

    def __getitem__(self, index: int) -> Batch:
        """Row ``index``: int32 ``tokens``, ``targets``, ``segment_ids`` and ``positions``, float32
        ``loss_mask``, each [length]."""
        row = super().__getitem__(index)
        at = 0
        first, last = self.packing.row_offsets[index], self.packing.row_offsets[index + 1]
        for piece in range(first, last):
            start, size = int(self.packing.starts[piece]), int(self.packing.lengths[piece])
            row["loss_mask"][at : at + size] = self._learnt[start + 1 : start + 1 + size]
            at += size
        return row

    @property
    def tokens(self) -> int:
        """How many tokens the rows hold, padding not counted."""
        return int(self.packing.lengths.sum(dtype=np.int64))

    @cached_property
    def trained_tokens(self) -> int:
        """How many tokens carry loss in one pass."""
        return int(self._learnt.sum())  # a conversation's first token is never learnt

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any token, its being learnt, or the length."""
        digest = hashlib.sha256(f"{self.length}/{self._pad_id}".encode())
        for array in (self._tokens, self._learnt, self.packing.starts, self.packing.row_offsets):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def too_few(self, batch: int) -> str:
        """Why they do not fill a batch, and what to do, in words."""
        return (
            f"the conversations fill {len(self):,} rows of {self.length:,} tokens, fewer than one "
            f"batch of {batch:,}; lower train.batch or data.length, or add conversations"
        )

    def batches(
        self, batch: int, *, limit_rows: int | None = None, host: int = 0, hosts: int = 1
    ) -> ChatBatches:
        """Every row once in a fixed order, or the first ``limit_rows`` of that order.

        Raises:
          DataError: the hosts can not share a batch.
        """
        return ChatBatches(self, batch, limit_rows, host, hosts)


class ChatBatches(RowBatches):
    """Batches of each row once; the last one is filled up with rows that carry no loss.

    Attributes:
      tokens: how many tokens carry loss, over all hosts.
    """

    def __init__(
        self, rows: ChatRows, batch: int, limit_rows: int | None, host: int, hosts: int
    ) -> None:
        super().__init__(rows, batch, limit_rows, host, hosts)
        self.tokens = int(sum(rows[i]["loss_mask"].sum() for i in self.order))


def pack_conversations(
    conversations: Sequence[Rendered], length: int, pad_id: int, names: Sequence[str] = ()
) -> ChatRows:
    """Pack whole conversations into rows of ``length`` by best fit, longest first.

    Args:
      conversations: each at most ``length + 1`` tokens: a row holds the inputs, and the last token
        is only a target.
      names: what errors call each of them; without, they are numbered.

    Raises:
      DataError: a conversation is too long, or has no token that is learnt.
    """
    for number, chat in enumerate(conversations):
        name = names[number] if names else f"conversation {number}"
        if len(chat.ids) > length + 1:
            raise DataError(
                f"{name} has {len(chat.ids):,} tokens, and a row of {length:,} has room for "
                f"{length + 1:,}; drop or truncate it, or lengthen the rows"
            )
        if not chat.mask[1:].any():
            raise DataError(f"{name} has no token that is learnt: it would teach nothing")
    offsets = np.cumsum([0, *(len(chat.ids) for chat in conversations)])
    empty = np.zeros(0, np.int32)
    tokens = np.concatenate([empty, *(chat.ids for chat in conversations)]).astype(np.int32)
    learnt = np.concatenate([empty.astype(bool), *(chat.mask for chat in conversations)])
    learnt[offsets[:-1]] = False  # nothing comes before a first token to predict it from
    return ChatRows(tokens, learnt, pack(offsets, length), length, pad_id)


# Made by :func:`lilith.data.chat_prepare.prepare_chats`.
ChatCorpus = TuningCorpus[ChatRows]
