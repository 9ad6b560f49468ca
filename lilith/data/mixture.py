"""Weighted mixtures: which share of the training rows each source gives."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import grain

from lilith.config import SourceConfig, nearest
from lilith.data.packing import Rows
from lilith.data.report import DataError

CODE_MIXTURE = {"code": 0.60, "books": 0.20, "encyclopaedia": 0.10, "papers": 0.05, "web": 0.05}
_KINDS = {"code": "code", "books": "text", "encyclopaedia": "jsonl", "papers": "jsonl",
          "web": "jsonl"}  # fmt: skip


def code_mixture(**parts: str | SourceConfig) -> tuple[SourceConfig, ...]:
    """The default mixture for pretraining on code: 60% code, 20% books, 10% encyclopaedia, 5%
    papers, 5% web.

    Args:
      **parts: for each of ``code``, ``books``, ``encyclopaedia``, ``papers`` and ``web`` a path (a
        source tree, a folder of texts, JSON lines) or a :class:`SourceConfig` whose name and weight
        are replaced. A part that is not given is left out; a part given by its path may be absent
        from a machine. Either way the others keep their proportions, and the report gives the
        shares that result.

    Raises:
      DataError: an unknown part, or none.
    """
    for name in parts:
        if name not in CODE_MIXTURE:
            raise DataError(
                f"unknown part of the code mixture: {name!r}{nearest(name, CODE_MIXTURE)}; known: "
                f"{', '.join(CODE_MIXTURE)}"
            )
    if not parts:
        raise DataError(
            f"the code mixture is empty; give at least one of {', '.join(CODE_MIXTURE)}"
        )
    sources = []
    for name, weight in CODE_MIXTURE.items():
        part = parts.get(name)
        if isinstance(part, str):
            part = SourceConfig(name=name, kind=_KINDS[name], path=part, optional=True)
        if part is not None:
            sources.append(dataclasses.replace(part, name=name, weight=weight))
    return tuple(sources)


def shares(weights: Mapping[str, float], rows: Mapping[str, int]) -> dict[str, float]:
    """Weights as shares that add up to 1, over the sources that have rows."""
    present = {name: weight for name, weight in weights.items() if rows.get(name, 0) > 0}
    total = sum(present.values())
    return {name: weight / total for name, weight in present.items()}


def mix_rows(sources: Sequence[tuple[str, Rows]], weights: Mapping[str, float], seed: int) -> Any:
    """An endless ``grain.MapDataset`` of training rows; its index is the global example index.

    Each source is shuffled anew each time through, by ``seed`` and its own name, and drawn from in
    proportion to ``weights``.
    """
    datasets = [
        grain.MapDataset.source(rows).shuffle(seed=source_seed(seed, name)).repeat()
        for name, rows in sources
    ]
    if len(datasets) == 1:
        return datasets[0]
    return grain.MapDataset.mix(datasets, [weights[name] for name, _ in sources])


def source_seed(seed: int, name: str) -> int:
    """A seed below 2**32 of a source's own.

    Grain shuffles epoch e by seed + e, so that nearby seeds would repeat each other's epochs.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
