"""Every token is a target once, rows are full, nothing crosses a document."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.data.packing import PackedRows, pack

PAD = 9_999


def stream_of(sizes):
    """Documents of distinct tokens: document d is 1000 d, 1000 d + 1, ..."""
    documents = [np.arange(1000 * d, 1000 * d + size) for d, size in enumerate(sizes)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return documents, offsets


def rows_of(tmp_path, sizes, length, dtype="uint32"):
    documents, offsets = stream_of(sizes)
    tokens = np.concatenate(documents) if documents else np.zeros(0)
    tokens.astype(dtype).tofile(tmp_path / "items.bin")
    (tmp_path / "rows").mkdir(exist_ok=True)
    pack(offsets, length).save(tmp_path / "rows")
    return PackedRows(tmp_path / "items.bin", dtype, tmp_path / "rows", length, PAD)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 90), max_size=30), st.integers(2, 20))
def test_each_token_is_a_target_once(tmp_path_factory, sizes, length):
    rows = rows_of(tmp_path_factory.mktemp("rows"), sizes, length)
    pairs = []
    for i in range(len(rows)):
        row = rows[i]
        real = row["loss_mask"] > 0
        assert real.any()
        pairs += zip(row["tokens"][real].tolist(), row["targets"][real].tolist())
    expected = [(1000 * d + i, 1000 * d + i + 1) for d, n in enumerate(sizes) for i in range(n - 1)]
    assert sorted(pairs) == sorted(expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 90), min_size=1, max_size=30), st.integers(2, 20))
def test_segments_and_positions(tmp_path_factory, sizes, length):
    rows = rows_of(tmp_path_factory.mktemp("rows"), sizes, length)
    for i in range(len(rows)):
        row = rows[i]
        segments = row["segment_ids"]
        used = int(row["loss_mask"].sum())
        assert (segments[:used] > 0).all()
        assert set(np.diff(segments[:used])) <= {0, 1}
        assert segments[0] == 1
        for segment in range(1, segments.max() + 1):
            mine = segments == segment
            assert row["positions"][mine].tolist() == list(range(mine.sum()))
            assert len(set(row["tokens"][mine] // 1000)) == 1
        for name in ("tokens", "targets"):
            assert (row[name][used:] == PAD).all()
        for name in ("segment_ids", "positions", "loss_mask"):
            assert (row[name][used:] == 0).all()
        assert {name: array.dtype.name for name, array in row.items()} == {
            "tokens": "int32",
            "targets": "int32",
            "segment_ids": "int32",
            "positions": "int32",
            "loss_mask": "float32",
        }


def test_best_fit_by_hand():
    # Pairs 6, 5, 4, 3, 2 in rows of 10: 6 + 4 and 5 + 3 + 2 fill two rows.
    _, offsets = stream_of([3, 4, 5, 6, 7])
    packing = pack(offsets, 10)
    rows = [
        sorted(packing.lengths[packing.row_offsets[i] : packing.row_offsets[i + 1]].tolist())
        for i in range(len(packing))
    ]
    assert sorted(rows) == [[2, 3, 5], [4, 6]]


def test_a_long_document_fills_rows_of_its_own(tmp_path):
    rows = rows_of(tmp_path, [26], 10)  # 25 pairs
    assert len(rows) == 3
    assert rows[1]["tokens"].tolist() == list(range(10, 20))
    assert rows[1]["targets"].tolist() == list(range(11, 21))
    assert rows[1]["positions"].tolist() == list(range(10))
    assert rows[2]["loss_mask"].sum() == 5


@pytest.mark.parametrize("length", [128, 512])
def test_little_is_wasted(length):
    sizes = np.random.default_rng(0).lognormal(6, 1.5, 3000).astype(int) + 2
    _, offsets = stream_of(sizes)
    packing = pack(offsets, length)
    waste = 1 - packing.lengths.sum() / (len(packing) * length)
    assert waste < 0.001


def test_no_documents(tmp_path):
    assert len(rows_of(tmp_path, [], 8)) == 0


def test_rows_travel_to_another_process(tmp_path):
    rows = rows_of(tmp_path, [5, 30, 7], 8, dtype="uint16")
    data = pickle.dumps(rows)
    assert len(data) < 1000
    copy = pickle.loads(data)
    for i in range(len(rows)):
        for name, array in rows[i].items():
            np.testing.assert_array_equal(copy[i][name], array)
