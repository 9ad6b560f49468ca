"""Metrics survive kills, throughput leaves out what is not training, peaks are per jax device."""

import errno
import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.train import metrics
from lilith.train.metrics import (
    MetricsError,
    MetricsWriter,
    Throughput,
    bfloat16_peak,
    measure_matmul_peak,
    model_flops_utilization,
    read_metrics,
    total_peak_flops,
    write_atomically,
)


class Clock:
    """A time source that stands still until told otherwise."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def written(path, steps):
    with MetricsWriter(path, clock=Clock()) as writer:
        for step in steps:
            writer.write(step, loss=1 / (step + 1))
    return path


def steps_of(path):
    return [record["step"] for record in read_metrics(path)]


def test_records_are_json_lines_with_step_and_time(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsWriter(path, clock=Clock()) as writer:
        writer.write(3, loss=2.5, tokens=np.int64(7), skipped=False)
        assert json.loads(path.read_text()) == {  # before the file is closed
            "step": 3, "time": 100.0, "loss": 2.5, "tokens": 7, "skipped": False,
        }  # fmt: skip
        writer.write(4, loss=jnp.float32(0.5))
    assert read_metrics(path)[1] == {"step": 4, "time": 100.0, "loss": 0.5}


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write(1, loss=math.nan, up=math.inf, down=np.float32(-math.inf))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    (record,) = read_metrics(path)
    assert math.isnan(record["loss"])
    assert (record["up"], record["down"]) == (math.inf, -math.inf)


def test_a_value_that_is_not_a_number_is_refused(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        with pytest.raises(TypeError, match="metric 'loss' is 'high'"):
            writer.write(1, loss="high")
        with pytest.raises((TypeError, ValueError)):
            writer.write(1, loss=np.ones(2))
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 200))
def test_any_cut_leaves_whole_records_to_read_and_to_continue(tmp_path_factory, cut):
    path = written(tmp_path_factory.mktemp("cut") / "metrics.jsonl", range(4))
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    whole = list(range(content.count(b"\n")))
    assert steps_of(path) == whole
    written(path, [90])
    assert steps_of(path) == [*whole, 90]


def test_resume_removes_what_comes_after_the_step(tmp_path):
    path = written(tmp_path / "metrics.jsonl", [10, 20, 20, 30])
    kept = path.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(path.read_bytes() + b'{"step": 40, "lo')
    with MetricsWriter(path, clock=Clock()) as writer:
        writer.resume(20)
        assert path.read_bytes() == b"".join(kept)
        writer.write(21, loss=0.0)
    assert steps_of(path) == [10, 20, 20, 21]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_resume_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = written(tmp_path / "metrics.jsonl", [1, 2])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics.os, "fsync", full)
    with MetricsWriter(path) as writer, pytest.raises(MetricsError, match="No space left"):
        writer.resume(1)
    assert steps_of(path) == [1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for line in ("\x00\x00", "[1]", '{"loss": 1}', '{"step": "2"}'):
        path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
        with pytest.raises(MetricsError, match=r"line 2 of .*metrics.jsonl is not a metrics"):
            read_metrics(path)


def test_no_file_is_no_records(tmp_path):
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_a_folder_that_can_not_be_made_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MetricsError, match=r"cannot write .*metrics.jsonl: "):
        MetricsWriter(tmp_path / "file" / "metrics.jsonl")


def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:

        def full(line):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            fake = types.SimpleNamespace(write=full, flush=lambda: None)
            patch.setattr(writer, "_file", fake)
            with pytest.raises(MetricsError, match="No space left on device; make room"):
                writer.write(1, loss=1.0)


def test_write_atomically_replaces(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "zweiter — ✓\n"):
        write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text


def test_throughput_leaves_out_the_first_step_and_slides():
    clock = Clock()
    throughput = Throughput(window=3, clock=clock)
    clock.now += 60  # the first step compiles for a minute
    assert throughput.update(1000) is None
    rates = []
    for seconds in (1, 1, 1, 2, 2, 2):
        clock.now += seconds
        rates.append(throughput.update(1000))
    assert rates == pytest.approx([1000, 1000, 1000, 750, 600, 500])
    assert throughput.rate == pytest.approx(500)


def test_throughput_does_not_count_pauses():
    clock = Clock()
    throughput = Throughput(clock=clock)
    throughput.update(10)
    clock.now += 1
    throughput.update(10)
    with throughput.paused():
        clock.now += 500
    clock.now += 1
    assert throughput.update(30) == pytest.approx(20)


def test_throughput_of_no_time_is_unknown():
    throughput = Throughput(clock=Clock())
    throughput.update(1)
    assert throughput.update(1) is None


def test_model_flops_utilization():
    assert model_flops_utilization(6e9, 1000, 12e12) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="must be positive"):
        model_flops_utilization(6e9, 1000, 0)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v4 lite", 137e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("TPU7x", 1153.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("cpu", None),
        ("NVIDIA H1", None),
    ],
)
def test_peak_table(kind, peak):
    assert bfloat16_peak(kind) == peak


def device(kind, platform, process=0):
    return types.SimpleNamespace(device_kind=kind, platform=platform, process_index=process)


def test_total_peak_adds_devices_but_not_pretended_ones(monkeypatch):
    monkeypatch.setattr(metrics, "measure_matmul_peak", lambda dtype: 1e11)
    tpus = [device("TPU v5p", "tpu", i // 4) for i in range(8)]
    assert total_peak_flops(tpus, "float32")[0] == 8 * 459e12
    assert "bfloat16" in total_peak_flops(tpus, "float32")[1]
    pretended = [device("cpu", "cpu", i // 4) for i in range(8)]  # two processes, four each
    assert total_peak_flops(pretended, "float32")[0] == 2e11
    assert "measured float32" in total_peak_flops(pretended, "float32")[1]
    assert total_peak_flops([device("new", "gpu")] * 2, "bfloat16")[0] == 2e11


def test_measured_peak_counts_multiply_and_add():
    ticks = iter(range(1000))
    peak = measure_matmul_peak("float32", seconds=3, clock=lambda: next(ticks))
    assert peak == 2 * 1024**3  # each product takes one tick of this clock
    assert total_peak_flops(jax.devices(), "float32")[0] > 1e8
