"""Adapters as things: their config, files, taking off, and what training one costs."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import ConfigError, OptimizerConfig
from lilith.model.params import abstract_params, flatten, init_params
from lilith.model.presets import PRESETS
from lilith.train.lora import (
    AdapterError,
    abstract_adapter,
    init_adapter,
    load_adapter,
    lora_specs,
    merge,
    merged_norms,
    read_description,
    save_adapter,
    unmerge,
)
from lilith.train.lora_config import LoraConfig
from lilith.train.optimizer import make_optimizer
from lilith.train.sft import sft_loss
from lilith.train.state import Batch, state_from_params
from lilith.train.step import train_step

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
LORA = LoraConfig(rank=4)
DORA = LoraConfig(rank=4, dora=True)


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


def moved(params, lora):
    adapter = init_adapter(1, params, CONFIG, lora)
    return jax.tree.map(lambda x: x + 0.03 * jax.random.normal(jax.random.key(5), x.shape), adapter)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank": -1}, "lora.rank is -1"),
        ({"alpha": 0.0}, "lora.alpha is 0.0"),
        ({"alpha": float("nan")}, "lora.alpha is nan"),
        ({"dropout": 1.0}, "lora.dropout is 1.0"),
        ({"targets": ("attention/x$",)}, "matches none of layers/attention/q"),
        ({"targets": ("attention/(",)}, "is no pattern"),
        ({"rank": 2, "targets": ()}, "lora.targets is empty"),
    ],
)
def test_bad_configs(fields, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        LoraConfig(**fields)


def test_targets_are_patterns_of_paths():
    only = lora_specs(CONFIG, LoraConfig(rank=3, targets=("attention/[qv]$",)))
    assert sorted(flatten(only)) == [
        f"layers/attention/{name}/{part}" for name in "qv" for part in "ab"
    ]
    every = flatten(lora_specs(CONFIG, LORA))
    assert len(every) == 14
    shapes = {path: spec.shape for path, spec in every.items()}
    assert shapes["layers/attention/o/a"] == (2, 64, 4)
    assert shapes["layers/attention/k/b"] == (2, 4, 32)
    assert shapes["layers/mlp/down/a"] == (2, 176, 4)


@pytest.mark.parametrize("lora", [LORA, DORA], ids=["lora", "dora"])
def test_what_is_merged_comes_off_again(params, lora):
    adapter = moved(params, lora)
    norms = merged_norms(params, adapter, lora) if lora.dora else None
    back = unmerge(merge(params, adapter, lora), adapter, lora, norms=norms)
    for mine, truth in zip(jax.tree.leaves(back), jax.tree.leaves(params)):
        np.testing.assert_allclose(mine, truth, atol=2e-6)


def test_dora_needs_its_norms_to_come_off(params):
    with pytest.raises(AdapterError, match="merged_norms"):
        unmerge(params, moved(params, DORA), DORA)


@pytest.mark.parametrize("lora", [LORA, DORA], ids=["lora", "dora"])
def test_saved_alone_and_loaded(tmp_path, params, lora):
    adapter = moved(params, lora)
    save_adapter(tmp_path / "own", adapter, lora, base="some/base", base_config=CONFIG,
                 adapters=("first",))  # fmt: skip
    back, config = load_adapter(tmp_path / "own", CONFIG)
    assert config == lora
    assert jax.tree.structure(back) == jax.tree.structure(adapter)
    for mine, truth in zip(jax.tree.leaves(back), jax.tree.leaves(adapter)):
        np.testing.assert_array_equal(mine, truth)
    about = read_description(tmp_path / "own")
    assert (about.base, about.adapters) == ("some/base", ("first",))


def test_an_adapter_of_another_model_is_refused(tmp_path, params):
    save_adapter(tmp_path, moved(params, LORA), LORA, base="this", base_config=CONFIG)
    other = dataclasses.replace(CONFIG, d_ff=200)
    with pytest.raises(AdapterError, match=r"'this' with d_ff = 176, and this model has d_ff = 20"):
        load_adapter(tmp_path, other)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "adapter.safetensors").write_bytes(b"no"), "can not be read"),
        (lambda folder: (folder / "adapter.safetensors").unlink(), "can not be read"),
        (lambda folder: (folder / "adapter.json").write_text("{"), "as the description"),
        (lambda folder: (folder / "adapter.json").unlink(), "as the description"),
    ],
)
def test_damaged_folders(tmp_path, params, break_it, words):
    save_adapter(tmp_path, moved(params, LORA), LORA, base="this", base_config=CONFIG)
    break_it(tmp_path)
    with pytest.raises(AdapterError, match=words):
        load_adapter(tmp_path, CONFIG)


def test_arrays_that_the_description_does_not_name(tmp_path, params):
    save_adapter(tmp_path, moved(params, LORA), LORA, base="this", base_config=CONFIG)
    about = json.loads((tmp_path / "adapter.json").read_text())
    about["lora"]["rank"] = 8
    (tmp_path / "adapter.json").write_text(json.dumps(about))
    with pytest.raises(AdapterError, match="missing, unknown or of another shape"):
        load_adapter(tmp_path, CONFIG)


@pytest.mark.parametrize("lora", [LORA, DORA], ids=["lora", "dora"])
def test_only_the_adapter_has_gradients_and_moments(lora):
    """By the compiler's own account, with a table of words that would show."""
    config = dataclasses.replace(CONFIG, vocab=20_000, d_ff=1024, layers=6, remat="dots")
    base = abstract_params(config)
    size = sum(leaf.size for leaf in jax.tree.leaves(base)) * 4
    rows = [jax.ShapeDtypeStruct((1, 8), jnp.int32)] * 4
    batch = Batch(*rows, jax.ShapeDtypeStruct((1, 8), jnp.float32))
    optimizer = make_optimizer(OptimizerConfig(), 10)

    def memory(own: LoraConfig) -> tuple[int, int]:
        params = abstract_adapter(config, own) if own.rank else base
        state = jax.eval_shape(lambda params: state_from_params(params, optimizer), params)
        step = jax.jit(
            partial(train_step, loss=partial(sft_loss, config=config, lora=own, chunk=4),
                    optimizer=optimizer),
            donate_argnums=0,
        )  # fmt: skip
        found = step.lower(state, batch, base if own.rank else None).compile().memory_analysis()
        return found.argument_size_in_bytes, found.temp_size_in_bytes

    whole, adapter = memory(LoraConfig()), memory(lora)
    assert whole[0] > 2.9 * size  # weights and two moments
    assert adapter[0] < 1.3 * size
    # No gradient of the base, neither of its layers nor of the table.
    assert adapter[1] < whole[1] - 0.8 * size
