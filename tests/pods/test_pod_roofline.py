"""Rooflines by hand, and the report's sums."""

import dataclasses
from types import SimpleNamespace

import pytest

from lilith.config import ModelConfig
from lilith.model.estimates import flops_per_token
from lilith.model.presets import get_model_config
from lilith.pods.collectives import Collective
from lilith.pods.report import Memory, PodReport, memory_by_kind
from lilith.pods.roofline import (
    StepFlops,
    decode_flops,
    prefill_flops,
    roofline,
    training_flops,
)
from lilith.pods.topologies import get_topology

GATHER = Collective("all-gather", "fsdp", 64, 64e9, 63e9, 2, True, True, "")
SUM = Collective("all-reduce", "data", 2, 10e9, 10e9, 1, False, False, "")


def test_a_v5p_slice_by_hand():
    topology = get_topology("v5p:4x4x4")
    found = roofline(topology, StepFlops(64 * 459e12, 64 * 153e12), 2765e9 / 2, [GATHER, SUM])
    assert found.model_compute == pytest.approx(1.0)
    assert found.compute == pytest.approx(4 / 3)
    assert found.hbm == pytest.approx(0.5)
    assert found.ici == pytest.approx((126e9 + 10e9) / 600e9)
    assert found.dcn == 0
    assert found.exposed == pytest.approx(10 / 600)
    assert found.limit == "compute"
    assert found.bound == pytest.approx(4 / 3)
    assert found.mfu_bound == pytest.approx(0.75)
    assert found.scheduled_mfu_bound == pytest.approx(1 / (4 / 3 + 1 / 60))


def test_the_data_axis_crosses_slices_over_the_slow_network():
    found = roofline(get_topology("v5p:4x4x4", 2), StepFlops(1.0), 0.0, [GATHER, SUM])
    assert found.ici == pytest.approx(126e9 / 600e9)
    assert found.dcn == pytest.approx(10e9 / 6.25e9)
    assert found.limit == "network between slices"


def test_two_devices_of_a_chip_share_it():
    found = roofline(get_topology("tpu7x:4x4x4"), StepFlops(128 * 1e15), 3.69e12, [GATHER])
    assert found.compute == pytest.approx(1e15 / (2307e12 / 2))
    assert found.hbm == pytest.approx(1.0)
    assert found.ici == pytest.approx(2 * 126e9 / 600e9)


def test_recomputation_by_policy_adds_up():
    config = dataclasses.replace(get_model_config("7b"), remat="none")
    plain = training_flops(config, 100, 4096)
    assert plain.model == 100 * flops_per_token(config, 4096).causal
    assert plain.recomputed == 0
    again = {
        policy: training_flops(dataclasses.replace(config, remat=policy), 100, 4096).recomputed
        for policy in ("dots", "attention", "full")
    }
    assert again["full"] == pytest.approx(again["dots"] + again["attention"])
    # Causal attention: 2 products of 2 FLOPs over (4096 + 1) / 2 keys of 4,096 numbers, 32 layers.
    assert again["dots"] == pytest.approx(100 * 4 * 4096 * 4097 / 2 * 32)
    # Layers forward without the unembedding's product.
    loss = 100 * 2 * 32_000 * 4096
    assert again["full"] == pytest.approx(plain.model / 3 - loss)


def test_windows_shorten_attention_again():
    config = ModelConfig(
        layers=2,
        attention_pattern=("window", "global"),
        window=4,
        remat="dots",
        heads=4,
        d_model=64,
    )
    # A window of 4 over 8 tokens sees 1, 2, 3, 4, 4, 4, 4, 4 keys; all see 4.5 on average.
    seen = (1 + 2 + 3 + 4 * 5) / 8 + 4.5
    assert training_flops(config, 8, 8).recomputed == pytest.approx(8 * 4 * 64 * seen)


def test_generation_counts_the_forward_alone():
    config = get_model_config("7b")
    own = decode_flops(config, 8, 2048).model
    products = 2 * (6_738_415_616 - 32_000 * 4096)  # norms are within the tolerance
    attention = 4 * 4096 * 2048 * 32
    assert own == pytest.approx(8 * (products + attention), rel=1e-4)
    without_logits = products - 2 * 32_000 * 4096 + attention
    assert prefill_flops(config, 10, 2048).model == pytest.approx(10 * without_logits, rel=1e-4)


def test_memory_kinds_add_up_to_what_the_compiler_says():
    stats = SimpleNamespace(
        argument_size_in_bytes=100, temp_size_in_bytes=50, output_size_in_bytes=90,
        alias_size_in_bytes=85, generated_code_size_in_bytes=7, host_argument_size_in_bytes=40,
        host_temp_size_in_bytes=3, host_output_size_in_bytes=42, host_alias_size_in_bytes=40,
    )  # fmt: skip
    memory = memory_by_kind(stats, {"weights": 60, "optimizer": 30}, 20, 200)
    assert memory.kinds == {
        "weights": 60, "optimizer": 30, "inputs": 10, "activations": 20, "temporaries": 30,
        "outputs": 5, "program": 7,
    }  # fmt: skip
    assert (memory.used, memory.host) == (162, 45)
    assert memory.fits
    assert not dataclasses.replace(memory, capacity=161).fits


def test_the_report_names_what_it_found():
    topology = get_topology("v5p:4x4x4", 2)
    flops = StepFlops(1e16, 3e15)
    report = PodReport(
        step="train", topology=topology, mesh={"data": 2, "fsdp": 64, "tensor": 1}, rows=512,
        length=4096, remat="full", parameters=6_738_415_616, tokens=4096,
        memory=Memory({"weights": 2.0**30, "temporaries": 2.0**31}, 95 * 2.0**30, 2.0**32),
        found=[GATHER, SUM], flops=flops, traffic=1e11,
        roofline=roofline(topology, flops, 1e11, [GATHER, SUM]), compile_seconds=12.34,
    )  # fmt: skip
    text = "\n".join(report.lines())
    for part in (
        "train on v5p:4x4x4 slices=2 (128 chips, 128 devices)",
        "data 2 x fsdp 64",
        "6,738,415,616",
        "3.00 of 95.00 GiB (3%)",
        "weights             1.00 GiB",
        "host a device     4.00 GiB",
        "93% of the bytes sent run beside compute",
        "all-gather",
        "1600.00 ms a step, by network between slices",
        "compile time      12.3 s",
    ):
        assert part in text
    found = report.to_dict()
    assert found["overlapped_share"] == pytest.approx(126 / 136)
    assert found["roofline"]["mfu_bound"] == pytest.approx(1e16 / 128 / 459e12 / 1.6)
    assert len(found["collectives"]) == 2
