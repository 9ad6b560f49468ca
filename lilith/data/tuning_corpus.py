"""Prepared rows of tuning: those to train on in a shuffled order, those held out, and a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lilith.data.chat_report import ChatReport
from lilith.data.iterator import Batch, TrainIterator
from lilith.data.mixture import mix_rows
from lilith.data.report import DataError
from lilith.tokenizer import Tokenizer


class TuningRows(Protocol):
    """Rows by index that a corpus can hold."""

    @property
    def fingerprint(self) -> str:
        """Digits that change with anything that is learnt from."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Batch: ...
    def too_few(self, batch: int) -> str:
        """Why they do not fill a batch, and what to do, in words."""
        ...


RowsT = TypeVar("RowsT", bound=TuningRows)


@dataclass(frozen=True)
class TuningCorpus(Generic[RowsT]):
    """Prepared conversations or pairs.

    Attributes:
      train: the training rows.
      validation: held-out rows by ``metadata["domain"]`` or ``metadata["subset"]``, "all" for
        those without.
      report: what was kept and left out.
      seed: of the training rows' order.
    """

    tokenizer: Tokenizer
    train: RowsT
    validation: dict[str, RowsT]
    report: ChatReport
    seed: int

    @property
    def held_out(self) -> dict[str, RowsT]:
        """What a model is judged by: ``validation``, or the training rows where it is empty."""
        return self.validation or {"train": self.train}

    def lines(self) -> list[str]:
        """What was kept and left out, one fact a line, for a log."""
        lines = self.report.lines()
        if not self.validation:
            lines.append(
                f"nothing was held out (few {self.report.unit}s, or a small "
                "data.validation_fraction): validation is on the training rows"
            )
        return lines

    def train_iterator(
        self, batch: int, *, seed: int | None = None, **sharing: int
    ) -> TrainIterator:
        """Endless batches of ``batch`` rows over all hosts, shuffled anew each time through.

        Args:
          seed: of the order; None: the corpus's own.
          sharing: ``host``, ``hosts`` and ``workers`` of :class:`TrainIterator`.

        Raises:
          DataError: there are fewer rows than one batch, or the hosts can not share a batch.
        """
        if len(self.train) < batch:
            raise DataError(self.train.too_few(batch))
        seed = self.seed if seed is None else seed
        return shuffled_batches(self.train, batch, seed, **sharing)


def shuffled_batches(rows: Any, batch: int, seed: int, **sharing: int) -> TrainIterator:
    """Endless batches of ``rows``, which have a ``fingerprint``, shuffled anew each time through.

    ``sharing`` is ``host``, ``hosts`` and ``workers`` of :class:`TrainIterator`.
    """
    order = mix_rows([("chats", rows)], {"chats": 1.0}, seed)
    return TrainIterator(order, batch, {"corpus": rows.fingerprint, "seed": seed}, **sharing)
