"""The memory table: its rows and limits, what it keeps, and the programs below an adapter."""

import dataclasses
from types import SimpleNamespace

import jax
import pytest

from benchmarks import memory
from benchmarks.memory import ROWS, chosen, kept, measured, table_row
from experiments import pod_steps
from experiments.compile_pod import DoesNotFit
from experiments.compile_pod_config import CompilePodConfig
from lilith.config import ConfigError, MeshConfig, ModelConfig, UserError
from lilith.sharding import ShardingRules, make_mesh
from lilith.train.lora_config import LoraConfig

SMALL = CompilePodConfig(
    model=ModelConfig(layers=2, d_model=512, heads=4, kv_heads=4, d_ff=1024, vocab=2048,
                      context=1024, remat="full"),
    lora=LoraConfig(rank=8),
)  # fmt: skip


def test_limits_are_those_that_are_asked_for():
    limits = {
        "1b": {"train": 10, "lora": 10, "generate": 6},
        "7b": {"train": 35, "lora": 35, "generate": 20},
        "13b": {"train": 80, "lora": 80, "generate": 40},
    }
    found = {model: {} for model in limits}
    for row in ROWS:
        assert row.limit == limits[row.model][row.use]
        found[row.model][row.use] = row.limit
        config = row.config()
        assert (config.batch, config.topology) == (1, "v5p:1x1x1")
        assert config.step == ("decode" if row.use == "generate" else "train")
        assert bool(config.lora.rank) == (row.use == "lora")
        assert config.row_length == config.model.context
    assert found == limits
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_row_that_is_there_is_not_compiled_again(monkeypatch, tmp_path):
    asked = []

    def compiled(config):
        asked.append(config)
        kinds = {"weights": 2e9, "temporaries": 1e9}
        return SimpleNamespace(memory=SimpleNamespace(kinds=kinds, used=3e9), compile_seconds=5.0)

    monkeypatch.setattr(memory, "compile_step", compiled)
    (row,) = chosen(["1b-train"])
    assert kept(row, tmp_path) is None
    found = measured(row, tmp_path / "new")
    assert measured(row, tmp_path / "new") == found
    assert len(asked) == 1
    assert table_row(row, found) == [
        "1b-train", 2048, 2.0, "", "", "", "", 1.0, 3.0, 10, "yes",
    ]  # fmt: skip
    changed = dataclasses.replace(row, length=1024)
    assert measured(changed, tmp_path / "new")["words"] == list(changed.words)
    assert len(asked) == 2


def test_a_row_that_does_not_fit_says_what_it_needs(monkeypatch, tmp_path):
    def compiled(config):
        raise DoesNotFit(120e9, 102e9)

    monkeypatch.setattr(memory, "compile_step", compiled)
    (row,) = chosen(["13b-train"])
    assert table_row(row, measured(row, tmp_path))[-3:] == [120.0, 80, "no"]
    with pytest.raises(UserError, match=r"unknown row '7b-dance'; known: 1b-train, "):
        chosen(["7b-dance"])


def test_below_an_adapter_the_weights_are_read_only():
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    program = pod_steps.program_of(SMALL, mesh, ShardingRules())
    whole = pod_steps.program_of(dataclasses.replace(SMALL, lora=LoraConfig()), mesh,
                                 ShardingRules())  # fmt: skip
    sizes, others = program.argument_bytes(), whole.argument_bytes()
    assert 2 * sizes["base"] == others["weights"]  # bfloat16 and float32
    assert sizes["weights"] < 0.2 * sizes["base"]
    # Two moments of an adapter, and two small counters.
    assert sizes["optimizer"] == pytest.approx(2 * sizes["weights"], abs=64)
    assert program.flops.model == pytest.approx(2 / 3 * whole.flops.model)
    with jax.set_mesh(mesh):
        assert "sharding" in program.lower().as_text()


def test_an_adapter_is_for_training():
    with pytest.raises(ConfigError, match=r"lora\.rank is 8 and step is 'decode'"):
        dataclasses.replace(SMALL, step="decode")
