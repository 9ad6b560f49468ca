"""Batches of training rows, in an order that depends on the seed and the position alone."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags

from lilith.data.report import DataError

Batch = dict[str, np.ndarray]
_VALIDATION_ORDER = 20_240  # seed of the fixed order, in which any beginning is a fair sample


def host_rows(batch: int, host: int, hosts: int) -> range:
    """Which rows of a global batch of ``batch`` are host ``host``'s.

    Raises:
      DataError: the hosts can not share the batch evenly, or there is no such host.
    """
    if batch <= 0 or hosts <= 0 or batch % hosts:
        raise DataError(
            f"a batch of {batch} rows can not be shared evenly by {hosts} hosts; make train.batch "
            "a multiple of the number of hosts"
        )
    if not 0 <= host < hosts:
        raise DataError(f"host {host} does not exist among {hosts} hosts, numbered from 0")
    share = batch // hosts
    return range(host * share, (host + 1) * share)


def stack(rows: list[Batch]) -> Batch:
    """Rows of shape [length] as one batch of shape [rows, length]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class HostBatches:
    """One host's part of each global batch from example ``start`` on, by batch number.

    Random access, as Grain asks of a source.
    """

    def __init__(self, rows: Any, start: int, batch: int, host: int, hosts: int) -> None:
        self._rows, self._start, self._batch = rows, start, batch
        self._mine = host_rows(batch, host, hosts)

    def __len__(self) -> int:
        return (sys.maxsize - self._start) // self._batch

    def __getitem__(self, index: int) -> Batch:
        first = self._start + index * self._batch
        return stack([self._rows[first + row] for row in self._mine])


class RowBatches:
    """Batches of each row once in a fixed order; the last is filled up with ``rows.padding()``.

    Attributes:
      order: the rows' indices, in the order in which they come; at most ``limit_rows`` of them.
    """

    def __init__(
        self, rows: Any, batch: int, limit_rows: int | None, host: int = 0, hosts: int = 1
    ) -> None:
        self._rows, self._batch, self._mine = rows, batch, host_rows(batch, host, hosts)
        order = np.random.default_rng(_VALIDATION_ORDER).permutation(len(rows))
        self.order: list[int] = order[:limit_rows].tolist()

    def __len__(self) -> int:
        """How many batches."""
        return math.ceil(len(self.order) / self._batch)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self.order), self._batch):
            chosen = self.order[first : first + self._batch]
            yield stack(
                [
                    self._rows[chosen[row]] if row < len(chosen) else self._rows.padding()
                    for row in self._mine
                ]
            )


class TrainIterator:
    """Endless batches of training rows for one host.

    ``next`` gives int32 ``tokens``, ``targets``, ``segment_ids``, ``positions`` and float32
    ``loss_mask``, each [batch / hosts, length]. The position is the global example index of the
    next batch's first row; neither it nor the order depends on hosts or workers.

    Args:
      rows: endless ``grain.MapDataset`` of rows, by global example index.
      batch: rows a step, over all hosts.
      identity: plain data that must be the same for a state to fit, such as corpus and seed.
      host, hosts: this host's number and how many there are.
      workers: reading processes; 0 reads in the calling one.
    """

    def __init__(
        self,
        rows: Any,
        batch: int,
        identity: Mapping[str, Any],
        *,
        host: int = 0,
        hosts: int = 1,
        workers: int = 0,
    ) -> None:
        self.batch = batch
        self._rows, self._identity = rows, dict(identity)
        self._host, self._hosts, self._workers = host, hosts, workers
        self._next_example = 0
        host_rows(batch, host, hosts)
        # At most one open Grain iterator, opened by the first batch. In a list, so that it can be
        # let go at the interpreter's exit: its worker processes do not outlive that quietly.
        self._open: list[Any] = []
        weakref.finalize(self, _close_all, self._open)

    def __iter__(self) -> TrainIterator:
        return self

    def __next__(self) -> Batch:
        if not self._open:
            self._open.append(self._start())
        batch = next(self._open[0])
        self._next_example += self.batch
        if self._workers:
            # The arrays lie in memory shared with a worker, which is freed with them: keep copies.
            batch = {name: np.array(array) for name, array in batch.items()}
        return batch

    def state(self) -> dict[str, Any]:
        """The position, ready for JSON: what :meth:`restore` needs to give the same next batch."""
        return {"next_example": self._next_example, **self._identity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position. The batch size and the number of hosts may have changed since.

        Raises:
          DataError: the state is of another corpus, mixture or seed, or is no state.
        """
        for name, mine in self._identity.items():
            if state.get(name) != mine:
                raise DataError(
                    f"the checkpoint's data state has {name} {state.get(name)!r}, but this run has "
                    f"{mine!r}: it would not see the rows that follow; bring the old data, "
                    "tokenizer and seed back, or start in a new --workdir"
                )
        position = state.get("next_example")
        if not isinstance(position, int) or position < 0:
            raise DataError(f"the checkpoint's data state has no position: {dict(state)!r}")
        self.close()
        self._next_example = position

    def close(self) -> None:
        """Stop the reading processes; the next batch starts them again."""
        _close_all(self._open)

    def _start(self) -> Any:
        source = HostBatches(self._rows, self._next_example, self.batch, self._host, self._hosts)
        # A row takes some 20 microseconds: threads would cost more than they hide.
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        dataset = grain.MapDataset.source(source).to_iter_dataset(options)
        if self._workers:
            # Grain reads its own absl flags here, and refuses where no absl main parsed any.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        return iter(dataset)


def _close_all(iterators: list[Any]) -> None:
    while iterators:
        iterators.pop().close()
