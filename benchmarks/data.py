"""Figures of the data room on the default corpus: size, tokens, packing waste, speeds.

    python -m benchmarks.data [--length 512] [--vocab 4096] [--repeats 5]

Prints a table and writes benchmarks/results/data.json. Speeds are medians over the repeats, with
the slowest and the fastest beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import interleaved, machine, median, report
from lilith.config import DataConfig, TokenizerConfig
from lilith.data import Corpus, prepare

BATCH = 8  # rows
STEPS = 100  # batches read in one repeat
ENCODED = 8_000_000  # bytes of text tokenised in one repeat


def texts_of(corpus: Corpus, size: int) -> list[str]:
    """Whole training documents of about ``size`` bytes."""
    texts: list[str] = []
    for text in corpus.train_texts():
        if size <= 0:
            break
        texts.append(text)
        size -= len(text.encode())
    return texts


def rate(name: str, amount: float, seconds: Sequence[float]) -> tuple[str, float, float, float]:
    """A row of the table: amount a second, in the median, at least and at most."""
    return name, amount / median(seconds), amount / max(seconds), amount / min(seconds)


def measure(length: int, vocab: int, repeats: int) -> tuple[list[Any], dict[str, Any]]:
    """The rows of the table and the facts beneath it."""
    data, tokenizer = DataConfig(length=length), TokenizerConfig(vocab=vocab)
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        corpus = prepare(data, tokenizer, cache=cache)
        first = time.perf_counter() - start
        texts = texts_of(corpus, ENCODED)
        size = sum(len(text.encode()) for text in texts)
        iterator = corpus.train_iterator(BATCH, seed=0)
        seconds = interleaved(
            {
                "tokenise": lambda: corpus.tokenizer.encode_batch(texts),
                "read": lambda: [next(iterator) for _ in range(STEPS)],
                "prepare again": lambda: prepare(data, tokenizer, cache=cache),
            },
            repeats,
        )
        held_out = corpus.validation(BATCH)
    kept = sum(source.bytes for source in corpus.report.sources)
    rows = [
        rate("tokenised bytes a second", size, seconds["tokenise"]),
        rate("rows read a second", BATCH * STEPS, seconds["read"]),
    ]
    facts = {
        "training documents": sum(source.documents for source in corpus.report.sources),
        "training bytes": kept,
        "training tokens": corpus.tokens,
        "bytes a token": kept / corpus.tokens,
        "rows": corpus.rows,
        "packing waste": corpus.waste,
        "validation bytes": held_out.bytes,
        "validation bytes a token": held_out.bytes / held_out.tokens,
        "seconds to prepare": first,
        "seconds to prepare again": median(seconds["prepare again"]),
        "length": length,
        "vocab": vocab,
        **machine("sentencepiece", "grain", "numpy"),
    }
    return rows, facts


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=512, help="tokens a row")
    parser.add_argument("--vocab", type=int, default=4096, help="pieces of the tokenizer")
    parser.add_argument("--repeats", type=int, default=5, help="runs behind each median")
    arguments = parser.parse_args()
    rows, facts = measure(arguments.length, arguments.vocab, arguments.repeats)
    report("data", ("figure", "median", "slowest", "fastest"), rows, facts)


if __name__ == "__main__":
    main()
