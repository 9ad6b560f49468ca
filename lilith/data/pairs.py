"""Pairs of answers as rows, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from lilith.data.chat import Rendered
from lilith.data.chat_report import ChatReport
from lilith.data.iterator import Batch, RowBatches
from lilith.data.report import DataError
from lilith.data.tuning_corpus import TuningCorpus


class Pair(NamedTuple):
    """Two conversations with a shared beginning, as tokens.

    Attributes:
      chosen, rejected: ``mask`` marks the answers that follow the shared beginning.
      label: probability that the chosen side is the better one, in [0, 1].
      margin: by how much it should be better, for Bradley-Terry; 0 for none.
    """

    chosen: Rendered
    rejected: Rendered
    label: float = 1.0
    margin: float = 0.0


class PairReport(ChatReport):
    """Figures of pairs. Rows, tokens and padding count both sides of each."""

    unit: ClassVar[str] = "pair"


class PairRows:
    """Pairs by index, in the fields of :class:`lilith.train.preferences.PairBatch`.

    Args:
      pairs: each side at most ``length + 1`` tokens.
      length: inputs of a row: a side may have one token more, since the last is only a target.
      references: float32 [pairs, 2], sums of the learnt tokens' log-probabilities under the
        reference; None: zeros.

    Attributes:
      label_N, margin_N: float32, of each pair.
      reference_NS: float32 ``references``.
    """

    def __init__(
        self, pairs: Sequence[Pair], length: int, references: np.ndarray | None = None
    ) -> None:
        sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
        empty = np.zeros(0, np.int32)
        self.length = length
        self._tokens = np.concatenate([empty, *(side.ids for side in sides)]).astype(np.int32)
        self._learnt = np.concatenate([empty.astype(bool), *(side.mask for side in sides)])
        self._offsets = np.cumsum([0, *(len(side.ids) for side in sides)])
        self.label_N = np.array([pair.label for pair in pairs], np.float32)
        self.margin_N = np.array([pair.margin for pair in pairs], np.float32)
        if references is None:
            references = np.zeros((len(pairs), 2), np.float32)
        self.reference_NS = references

    def __len__(self) -> int:
        return len(self.label_N)

    def __getitem__(self, index: int) -> Batch:
        """Pair ``index``, the chosen side first: int32 ``tokens_PST`` and float32 ``learnt_PST``,
        each [2, length + 1], padded with 0; int32 ``length_PS`` and float32 ``reference_PS``, each
        [2]; float32 scalars ``label_P``, ``margin_P`` and ``weight_P``."""
        row = self.padding()
        for side in range(2):
            start, end = self._offsets[2 * index + side : 2 * index + side + 2]
            row["tokens_PST"][side, : end - start] = self._tokens[start:end]
            row["learnt_PST"][side, : end - start] = self._learnt[start:end]
            row["length_PS"][side] = end - start
        row["label_P"] = np.asarray(self.label_N[index])
        row["margin_P"] = np.asarray(self.margin_N[index])
        row["reference_PS"] = self.reference_NS[index]
        row["weight_P"] = np.ones((), np.float32)
        return row

    def padding(self) -> Batch:
        """A pair that only fills up a batch: its weight is 0."""
        return {
            "tokens_PST": np.zeros((2, self.length + 1), np.int32),
            "learnt_PST": np.zeros((2, self.length + 1), np.float32),
            "length_PS": np.ones(2, np.int32),  # so that each side has a last real token
            "label_P": np.ones((), np.float32),
            "margin_P": np.zeros((), np.float32),
            "weight_P": np.zeros((), np.float32),
            "reference_PS": np.zeros(2, np.float32),
        }

    @property
    def tokens(self) -> int:
        """How many inputs both sides of all pairs have, padding not counted."""
        return len(self._tokens) - 2 * len(self)

    @property
    def trained_tokens(self) -> int:
        """How many tokens are learnt, over both sides."""
        return int(self._learnt.sum())

    @cached_property
    def answer_lengths(self) -> np.ndarray:
        """Learnt tokens of each side, int64 [pairs, 2]."""
        before = np.concatenate([[0], np.cumsum(self._learnt)])
        return np.diff(before[self._offsets]).reshape(-1, 2)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any token, its being learnt, a label, a margin or
        the length; not with the references, which are found by it."""
        digest = hashlib.sha256(f"pairs/{self.length}".encode())
        for array in (
            self._tokens, self._learnt, self._offsets, self.label_N, self.margin_N,
        ):  # fmt: skip
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def too_few(self, batch: int) -> str:
        """Why they do not fill a batch, and what to do, in words."""
        return (
            f"there are {len(self):,} pairs to train on, fewer than one batch of {batch:,}; lower "
            "train.batch, or add pairs"
        )

    def with_references(self, references: np.ndarray) -> PairRows:
        """The same pairs with the reference's log-probabilities, [pairs, 2].

        Raises:
          DataError: they are of another number of pairs, or not finite.
        """
        found = np.asarray(references, np.float32)
        if found.shape != (len(self), 2):
            raise DataError(
                f"the reference's log-probabilities have the shape {found.shape}, and there are "
                f"{len(self):,} pairs of two sides; compute them anew"
            )
        if not np.isfinite(found).all():
            pair = int(np.argwhere(~np.isfinite(found))[0, 0])
            raise DataError(
                f"the reference's log-probability of pair {pair} is {found[pair].tolist()}, not "
                "finite; look at the reference model"
            )
        other = object.__new__(PairRows)
        other.__dict__.update(self.__dict__, reference_NS=found)
        return other

    def batches(
        self, batch: int, *, limit_rows: int | None = None, host: int = 0, hosts: int = 1
    ) -> RowBatches:
        """Every pair once in a fixed order (``.order``), or the first ``limit_rows`` of it.

        The last batch is filled up with pairs of weight 0.

        Raises:
          DataError: the hosts can not share a batch.
        """
        return RowBatches(self, batch, limit_rows, host, hosts)


# Made by :func:`lilith.data.preferences.prepare_pairs`.
PairCorpus = TuningCorpus[PairRows]
