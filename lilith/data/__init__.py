"""From documents to packed rows of tokens."""

from __future__ import annotations

from lilith.data.corpus import Corpus, ValidationSet
from lilith.data.iterator import TrainIterator
from lilith.data.mixture import CODE_MIXTURE, code_mixture
from lilith.data.prepare import prepare
from lilith.data.report import AbsentSource, DataError, PrepareReport, SourceReport

__all__ = [
    "prepare",
    "Corpus",
    "TrainIterator",
    "ValidationSet",
    "code_mixture",
    "CODE_MIXTURE",
    "PrepareReport",
    "SourceReport",
    "DataError",
    "AbsentSource",
]
