"""One order for any number of hosts and workers; stop and resume; the whole validation set once."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lilith.data import DataError
from lilith.data.mixture import mix_rows

BATCH = 8


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_same_global_batch(corpus, hosts):
    whole = take(corpus.train_iterator(BATCH, seed=5), 12)
    iterators = [
        corpus.train_iterator(BATCH, seed=5, host=host, hosts=hosts) for host in range(hosts)
    ]
    parts = [take(iterator, 12) for iterator in iterators]
    assert {iterator.state()["next_example"] for iterator in iterators} == {12 * BATCH}
    for step, batch in enumerate(whole):
        for name, array in batch.items():
            joined = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(joined, array)


def test_shapes(corpus):
    batch = next(corpus.train_iterator(BATCH, seed=0, host=1, hosts=2))
    assert {array.shape for array in batch.values()} == {(BATCH // 2, corpus.length)}


def test_workers_do_not_change_the_order_and_resume_works_with_them(corpus):
    inline = corpus.train_iterator(BATCH, seed=3)
    expected = take(inline, 9)
    iterator = corpus.train_iterator(BATCH, seed=3, workers=2)
    try:
        for left, right in zip(take(iterator, 5), expected):
            assert_same(left, right)
        state = iterator.state()
        take(iterator, 2)
        iterator.restore(state)
        for left, right in zip(take(iterator, 4), expected[5:]):
            assert_same(left, right)
    finally:
        iterator.close()


@pytest.mark.parametrize("stop", [0, 1, 7, 40])
def test_stop_and_resume_gives_the_same_next_batch(corpus, stop):
    iterator = corpus.train_iterator(BATCH, seed=1)
    take(iterator, stop)
    state = json.loads(json.dumps(iterator.state()))
    assert state["next_example"] == stop * BATCH
    expected = take(iterator, 5)
    resumed = corpus.train_iterator(BATCH, seed=1)
    resumed.restore(state)
    for left, right in zip(take(resumed, 5), expected):
        assert_same(left, right)


def test_resume_on_another_host_count_and_batch_size(corpus):
    iterator = corpus.train_iterator(BATCH, seed=1)
    take(iterator, 3)
    state = iterator.state()
    expected = next(iterator)
    for batch, hosts in ((BATCH, 2), (BATCH // 2, 1)):
        resumed = corpus.train_iterator(batch, seed=1, hosts=hosts)
        resumed.restore(state)
        for name, array in next(resumed).items():
            np.testing.assert_array_equal(array, expected[name][: BATCH // 2])


def test_a_state_of_other_data_is_refused(corpus):
    iterator = corpus.train_iterator(BATCH, seed=1)
    state = iterator.state()
    for name, value in (("corpus", "0000"), ("seed", 2), ("mixture", {"a": 1.0})):
        with pytest.raises(DataError, match=f"data state has {name} .*bring the old data"):
            iterator.restore({**state, name: value})
    for bad in (-1, None, "7"):
        with pytest.raises(DataError, match="no position"):
            iterator.restore({**state, "next_example": bad})


def key(row):
    return row["tokens"].tobytes() + row["targets"].tobytes()


def test_every_epoch_of_a_source_is_a_new_order_of_all_its_rows(corpus):
    name, rows = corpus.train_rows[0]
    endless = mix_rows([(name, rows)], {name: 1.0}, seed=0)
    everything = sorted(key(rows[i]) for i in range(len(rows)))
    epochs = [[key(endless[epoch * len(rows) + i]) for i in range(len(rows))] for epoch in range(3)]
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_seeds_give_different_orders(corpus):
    first, second = (next(corpus.train_iterator(BATCH, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first["tokens"], second["tokens"])


def test_rows_are_drawn_by_weight(corpus):
    assert corpus.mixture == {"a": 0.75, "b": 0.25}
    from_a = {
        key(rows[i]) for name, rows in corpus.train_rows if name == "a" for i in range(len(rows))
    }
    endless = mix_rows(corpus.train_rows, corpus.mixture, seed=0)
    drawn = [key(endless[i]) in from_a for i in range(400)]
    assert abs(sum(drawn) - 300) <= 2


def test_validation_covers_every_held_out_token_once(corpus):
    held_out = corpus.validation(BATCH)
    batches = list(held_out)
    assert len(batches) == len(held_out)
    assert all(batch["tokens"].shape == (BATCH, corpus.length) for batch in batches)
    texts = list(corpus.validation_texts())
    size = sum(len(text.encode()) for text in texts)
    assert held_out.bytes == size
    assert held_out.tokens == size + len(texts)  # bytes as tokens, and an end for each text
    targets = np.concatenate([batch["targets"][batch["loss_mask"] > 0] for batch in batches])
    expected = [b for text in texts for b in (*text.encode(), corpus.tokenizer.eos_id)]
    assert sorted(targets.tolist()) == sorted(expected)


def test_validation_is_the_same_each_time_and_for_any_hosts(corpus):
    whole = list(corpus.validation(BATCH))
    for left, right in zip(corpus.validation(BATCH), whole, strict=True):
        assert_same(left, right)
    parts = [list(corpus.validation(BATCH, host=host, hosts=4)) for host in range(4)]
    for step, batch in enumerate(whole):
        for name, array in batch.items():
            joined = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(joined, array)


def test_a_quick_validation_counts_its_own_bytes(corpus):
    whole, quick = corpus.validation(BATCH), corpus.validation(BATCH, limit_rows=3)
    assert len(quick) == 1
    (batch,) = quick
    real = batch["loss_mask"] > 0
    assert real.any(axis=1).sum() == 3
    assert quick.tokens == real.sum()
    assert quick.bytes == (batch["targets"][real] < 256).sum()
    for name, array in next(iter(whole)).items():
        np.testing.assert_array_equal(array[:3], batch[name][:3])
    every = corpus.validation(BATCH, limit_rows=10**9)
    assert (every.tokens, every.bytes) == (whole.tokens, whole.bytes)


def test_impossible_batches(corpus):
    with pytest.raises(DataError, match=r"training rows .* fewer than one batch of 100,000; lower"):
        corpus.train_iterator(100_000, seed=0)
    with pytest.raises(DataError, match="batch of 8 rows can not be shared evenly by 3 hosts"):
        corpus.train_iterator(8, seed=0, hosts=3)
    with pytest.raises(DataError, match="host 2 does not exist"):
        corpus.validation(8, host=2, hosts=2)


SCRIPT = """
import sys
from lilith.config import DataConfig, SourceConfig
from lilith.data import prepare
from lilith.tokenizer import ByteTokenizer

if __name__ == "__main__":
    source = SourceConfig(name="a", kind="code", path=sys.argv[1])
    data = DataConfig(sources=(source,), length=64, validation_fraction=0.2)
    iterator = prepare(data, ByteTokenizer(), cache=sys.argv[2]).train_iterator(
        4, seed=0, workers=2
    )
    next(iterator)
"""


def test_a_process_with_workers_ends_quietly(tree, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tree / "a", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
