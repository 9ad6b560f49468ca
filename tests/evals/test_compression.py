"""The baselines: exact probabilities, equal to a plain reading of the formula."""

import lzma
import math
import pathlib
import shutil
import subprocess
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.evals import compression
from lilith.evals.compression import CompressionError, NgramModel, xz_bits_per_byte

BEGIN, END = "begin", "end"
SOURCE = pathlib.Path(pytest.__file__).read_bytes()[:4000]
documents_strategy = st.lists(
    st.lists(st.sampled_from(b"ab\x00\xff"), max_size=30).map(bytes), min_size=1, max_size=8
)


def ngrams(document, order):
    symbols = [BEGIN] * (order - 1) + list(document) + [END]
    return [tuple(symbols[i : i + order]) for i in range(len(document) + 1)]


def plain_discounts(counts):
    n = Counter(counts.values())
    if 0 in (n[1], n[2], n[3], n[4]):
        return (0.5, 1.0, 1.5)
    y = n[1] / (n[1] + 2 * n[2])
    found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
    return found if all(0 < d <= i for i, d in enumerate(found, 1)) else (0.5, 1.0, 1.5)


def plain_kneser_ney(documents, order):
    """Chen and Goodman's modified Kneser-Ney with dictionaries: a function P(ngram)."""

    def discount(c, discounts):
        return discounts[min(c, 3) - 1] if c else 0.0

    counts = [Counter(gram for document in documents for gram in ngrams(document, order))]
    while len(counts) < order:
        before = defaultdict(set)
        for gram in counts[-1]:
            before[gram[1:]].add(gram[0])
        counts.append(Counter({gram: len(symbols) for gram, symbols in before.items()}))
    levels = {order - i: (count, plain_discounts(count)) for i, count in enumerate(counts)}

    def probability(gram):
        if not gram:
            return 1 / 257
        count, discounts = levels[len(gram)]
        lower = probability(gram[1:])
        follow = [c for other, c in count.items() if other[:-1] == gram[:-1]]
        if not follow:
            return lower
        here = count[gram] - discount(count[gram], discounts)
        return (here + sum(discount(c, discounts) for c in follow) * lower) / sum(follow)

    return probability


@settings(max_examples=40, deadline=None)
@given(documents_strategy, st.integers(1, 7), st.binary(max_size=9))
def test_probabilities_sum_to_one_and_are_positive(documents, order, context):
    probabilities = NgramModel.train(documents, order).probabilities(context)
    assert probabilities.shape == (257,)
    assert probabilities.min() > 0
    assert abs(probabilities.sum() - 1) < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    documents_strategy,
    st.integers(1, 5),
    st.lists(st.sampled_from(b"ab\x00\xffz"), max_size=6).map(bytes),
)
def test_equals_the_plain_formula(documents, order, context):
    model, plain = NgramModel.train(documents, order), plain_kneser_ney(documents, order)
    history = tuple(([BEGIN] * (order - 1) + list(context))[len(context) :])
    expected = [plain((*history, symbol)) for symbol in (*range(256), END)]
    np.testing.assert_allclose(model.probabilities(context), expected, rtol=1e-12)


def test_equals_the_plain_formula_where_discounts_are_estimated():
    plain_levels = Counter(ngrams(SOURCE, 5))
    assert plain_discounts(plain_levels) != (0.5, 1.0, 1.5)
    model, plain = NgramModel.train([SOURCE], 5), plain_kneser_ney([SOURCE], 5)
    for context in (b"", b"d", b"from ", b"import", b"\xff\xff\xff\xff", b"    def"):
        history = tuple(([BEGIN] * 4 + list(context))[len(context) :])
        for symbol in (*b"e \n_t\xff", END):
            index = 256 if symbol == END else symbol
            expected = plain((*history, symbol))
            assert model.probabilities(context)[index] == pytest.approx(expected, rel=1e-12)


def test_bits_per_byte_is_the_cost_of_coding_each_symbol():
    model = NgramModel.train([SOURCE])
    documents = [SOURCE[100:160], b"", b"xyz \x00\xff"]
    bits = 0.0
    for document in documents:
        for at, symbol in enumerate([*document, 256]):
            bits -= math.log2(model.probabilities(document[:at])[symbol])
    size = sum(map(len, documents))
    assert model.bits_per_byte(documents) == pytest.approx(bits / size, rel=1e-12)


def test_documents_do_not_run_into_each_other():
    model = NgramModel.train([b"abab", b"cdcd"] * 20)
    apart = model.bits_per_byte([b"abab", b"cdcd"])
    assert model.bits_per_byte([b"cdcd", b"abab"]) == pytest.approx(apart, rel=1e-12)
    assert model.probabilities(b"abab")[256] > 0.9  # the end is expected there
    assert model.probabilities(b"abab")[ord("c")] < 0.05


def test_batches_change_nothing(monkeypatch):
    documents = [SOURCE[i : i + 97] for i in range(0, len(SOURCE), 97)]
    whole = NgramModel.train(documents)
    expected = whole.bits_per_byte(documents)
    monkeypatch.setattr(compression, "BATCH_BYTES", 300)
    split = NgramModel.train(iter(documents))
    for level, other in zip(whole.levels, split.levels):
        np.testing.assert_array_equal(level.ngrams_N, other.ngrams_N)
        np.testing.assert_array_equal(level.probabilities_N, other.probabilities_N)
    assert split.bits_per_byte(iter(documents)) == pytest.approx(expected, rel=1e-12)


def test_learns():
    half = len(SOURCE) // 2
    model = NgramModel.train([SOURCE[:half]])
    assert model.bits_per_byte([SOURCE[:half]]) < 1.5
    assert model.bits_per_byte([SOURCE[half:]]) < 5
    assert model.bits_per_byte([bytes(range(128, 256))]) > 8


def test_xz_bits_per_byte():
    noise = np.random.default_rng(0).bytes(20_000)
    assert 8 < xz_bits_per_byte(noise) < 8.1
    assert xz_bits_per_byte(SOURCE * 50) < 1
    with pytest.raises(CompressionError, match="no held-out bytes"):
        xz_bits_per_byte(b"")


@pytest.mark.skipif(shutil.which("xz") is None, reason="the xz command is not installed")
def test_xz_is_what_the_command_writes():
    written = subprocess.run(
        ["xz", "-9", "--stdout"], input=SOURCE, capture_output=True, check=True, timeout=30
    ).stdout
    assert lzma.decompress(written) == SOURCE
    assert xz_bits_per_byte(SOURCE) == 8 * len(written) / len(SOURCE)


@pytest.mark.parametrize("order", [0, 8])
def test_an_order_out_of_range_is_refused(order):
    with pytest.raises(CompressionError, match=f"order is {order}; it must be in 1 to 7"):
        NgramModel.train([b"a"], order)


def test_no_documents_are_refused():
    with pytest.raises(CompressionError, match="no training documents"):
        NgramModel.train([])
    with pytest.raises(CompressionError, match="no held-out bytes"):
        NgramModel.train([b"a"]).bits_per_byte([b""])
