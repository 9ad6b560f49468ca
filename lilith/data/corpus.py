"""A prepared corpus: its tokenizer, its training batches, its validation batches, its texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lilith.data.iterator import Batch, TrainIterator, host_rows, stack
from lilith.data.mixture import mix_rows
from lilith.data.packing import PackedRows
from lilith.data.report import DataError, PrepareReport
from lilith.data.store import Texts
from lilith.tokenizer import Tokenizer

_VALIDATION_ORDER = 20_240  # seed of the fixed order, in which any beginning is a fair sample


@dataclass(frozen=True)
class Corpus:
    """Rows and texts of a prepared corpus. Made by :func:`lilith.data.prepare`.

    Attributes:
      tokenizer: what the rows were tokenised with.
      report: what was kept and left out.
      fingerprint: changes with the tokenizer, the row length, or any kept document; the same on
        every machine that has the same documents.
      mixture: share of the training rows each present source gives; they add up to 1.
      length: tokens a row.
    """

    tokenizer: Tokenizer
    report: PrepareReport
    fingerprint: str
    mixture: dict[str, float]
    length: int
    train_rows: Sequence[tuple[str, PackedRows]]
    validation_rows: PackedRows
    train_documents: Sequence[Texts]
    validation_documents: Texts

    @property
    def rows(self) -> int:
        """How many training rows there are, over all sources."""
        return sum(len(rows) for _, rows in self.train_rows)

    @cached_property
    def tokens(self) -> int:
        """How many training tokens are predicted in one pass over all sources."""
        return sum(int(rows.packing.lengths.sum(dtype=np.int64)) for _, rows in self.train_rows)

    @property
    def waste(self) -> float:
        """Share of the training rows' places that is padding."""
        return 1.0 - self.tokens / (self.rows * self.length)

    def train_iterator(
        self, batch: int, *, seed: int, host: int = 0, hosts: int = 1, workers: int = 0
    ) -> TrainIterator:
        """Endless shuffled batches of ``batch`` rows over all hosts; see `TrainIterator`.

        Raises:
          DataError: the corpus has fewer rows than one batch, or the hosts can not share a batch.
        """
        if self.rows < batch:
            raise DataError(
                f"the corpus has {self.rows:,} training rows of {self.length} tokens, fewer than "
                f"one batch of {batch:,}; lower train.batch or data.length, or add data sources"
            )
        identity = {"corpus": self.fingerprint, "mixture": self.mixture, "seed": seed}
        rows = mix_rows(self.train_rows, self.mixture, seed)
        return TrainIterator(rows, batch, identity, host=host, hosts=hosts, workers=workers)

    def validation(
        self, batch: int, *, limit_rows: int | None = None, host: int = 0, hosts: int = 1
    ) -> ValidationSet:
        """The held-out rows in a fixed order, or the first ``limit_rows`` of them.

        Raises:
          DataError: the hosts can not share a batch.
        """
        return ValidationSet(self, batch, limit_rows, host, hosts)

    def train_texts(self) -> Iterator[str]:
        """The training documents, source by source; for baselines that learn from raw text."""
        for texts in self.train_documents:
            yield from (raw.decode() for raw in texts)

    def validation_texts(self) -> Iterator[str]:
        """The held-out documents: their UTF-8 bytes are what bits per byte are counted over."""
        yield from (raw.decode() for raw in self.validation_documents)


class ValidationSet:
    """Held-out batches for one host: every held-out token once, then rows of padding.

    Iterating gives batches as :class:`TrainIterator` does; the rows that fill up the last batch
    have a loss mask of zeros. It can be iterated again and again.

    Attributes:
      tokens: how many tokens carry loss, over all hosts.
      bytes: how many bytes of text those tokens stand for. For the whole set that is the size of
        the held-out text, whatever the tokenizer.
    """

    def __init__(
        self, corpus: Corpus, batch: int, limit_rows: int | None, host: int, hosts: int
    ) -> None:
        self._rows = corpus.validation_rows
        self._batch, self._mine = batch, host_rows(batch, host, hosts)
        order = np.random.default_rng(_VALIDATION_ORDER).permutation(len(self._rows))
        self._order = order if limit_rows is None else order[:limit_rows]
        chosen = [self._rows[i] for i in self._order]
        self.tokens = int(sum(row["loss_mask"].sum() for row in chosen))
        if len(self._order) == len(self._rows):
            self.bytes = sum(len(text.encode()) for text in corpus.validation_texts())
        else:
            lengths = corpus.tokenizer.byte_lengths()
            self.bytes = int(
                sum(lengths[row["targets"][row["loss_mask"] > 0]].sum() for row in chosen)
            )

    def __len__(self) -> int:
        """How many batches."""
        return math.ceil(len(self._order) / self._batch)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self._order), self._batch):
            places = [first + row for row in self._mine]
            yield stack(
                [
                    self._rows[self._order[place]]
                    if place < len(self._order)
                    else self._rows.padding()
                    for place in places
                ]
            )
