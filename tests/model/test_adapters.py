"""Adapted weights in the forward: nothing at the start, the merged weight, stacked, on meshes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import MeshConfig
from lilith.inference.sampler import pad_prompts, sample
from lilith.inference.sampling import make_controls
from lilith.model.adapters import Adapted, merged
from lilith.model.layered import unstack_layers
from lilith.model.params import init_params, param_shardings
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward
from lilith.sharding import make_mesh
from lilith.train.lora import abstract_adapter, apply_adapter, init_adapter, merge
from lilith.train.lora_config import LoraConfig

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab, (8, 12))
KINDS = {"lora": LoraConfig(rank=4, alpha=6.0), "dora": LoraConfig(rank=4, alpha=6.0, dora=True)}


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


@pytest.fixture(scope="module", params=KINDS)
def adapted(request, params):
    """Base, adapter moved away from its start, its config."""
    lora = KINDS[request.param]
    adapter = init_adapter(1, params, CONFIG, lora)
    leaves, tree = jax.tree.flatten(adapter)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)]
    return params, jax.tree.unflatten(tree, moved), lora


@jax.jit
def hidden(params):
    return forward(params, jnp.asarray(TOKENS), CONFIG)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(params, kind):
    adapter = init_adapter(1, params, CONFIG, KINDS[kind])
    found = hidden(apply_adapter(params, adapter, KINDS[kind]))
    np.testing.assert_allclose(found, hidden(params), atol=2e-6)


def test_merged_equals_adapted(adapted):
    params, adapter, lora = adapted
    found = hidden(apply_adapter(params, adapter, lora))
    assert np.abs(found - hidden(params)).max() > 0.1
    np.testing.assert_allclose(hidden(merge(params, adapter, lora)), found, atol=1e-5)


def test_one_weight_by_the_formula(adapted):
    """In NumPy float64, as the papers write it."""
    params, adapter, lora = adapted
    own = {n: np.asarray(x[1], np.float64) for n, x in adapter["layers"]["attention"]["o"].items()}
    weight = np.asarray(params["layers"]["attention"]["o"][1], np.float64)
    flat = weight.reshape(-1, weight.shape[-1]) + 1.5 * own["a"] @ own["b"]
    if lora.dora:
        flat = own["magnitude"] * flat / np.sqrt((flat**2).sum(axis=0))
    found = merge(params, adapter, lora)["layers"]["attention"]["o"][1]
    np.testing.assert_allclose(found, flat.reshape(weight.shape), rtol=1e-5, atol=1e-6)


def test_two_adapters_one_over_the_other(adapted):
    params, adapter, lora = adapted
    twice = apply_adapter(apply_adapter(params, adapter, lora), adapter, lora)
    truth = merge(merge(params, adapter, lora), adapter, lora)
    np.testing.assert_allclose(hidden(twice), hidden(truth), atol=2e-5)
    both = jax.tree.map(merged, twice, is_leaf=lambda x: isinstance(x, Adapted))
    np.testing.assert_allclose(hidden(both), hidden(truth), atol=2e-5)


def test_layers_one_by_one(adapted):
    params, adapter, lora = adapted
    truth = hidden(apply_adapter(params, adapter, lora))
    layered = unstack_layers(params)
    np.testing.assert_allclose(hidden(apply_adapter(layered, adapter, lora)), truth, atol=2e-6)
    np.testing.assert_allclose(hidden(merge(layered, adapter, lora)), truth, atol=1e-5)


def test_generation_reads_adapted_weights(adapted):
    params, adapter, lora = adapted
    tokens, lengths = pad_prompts([row[:5].tolist() for row in TOKENS[:2]])
    texts = [
        sample(own, tokens, lengths, make_controls(2), config=CONFIG, new_tokens=6,
               vocab=CONFIG.vocab).tokens_BN
        for own in (apply_adapter(params, adapter, lora), merge(params, adapter, lora), params)
    ]  # fmt: skip
    assert (texts[0] == texts[1]).all()
    assert (texts[0] != texts[2]).any()


@pytest.mark.parametrize("sizes", [(1, 4, 1, 2), (2, 2, 2, 1)], ids=str)
def test_meshes_agree_with_one_device(adapted, sizes):
    """(data, fsdp, context, tensor)."""
    params, adapter, lora = adapted
    config = dataclasses.replace(CONFIG, attention="reference")
    mesh = make_mesh(MeshConfig(*sizes))
    placed = jax.device_put(params, param_shardings(config, mesh))
    target = abstract_adapter(config, lora, mesh)
    own = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), adapter, target)

    def total(own, params):
        found, _ = forward(apply_adapter(params, own, lora), jnp.asarray(TOKENS), config)
        return jnp.sum(jnp.square(found[..., ::3]))

    truth = jax.jit(jax.value_and_grad(total))(adapter, params)
    with jax.set_mesh(mesh):
        found = jax.jit(jax.value_and_grad(total))(own, placed)
    assert float(found[0]) == pytest.approx(float(truth[0]), rel=1e-5)
    for mine, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(truth[1])):
        np.testing.assert_allclose(mine, other, atol=2e-5 * np.abs(other).max())


def test_dropout_leaves_out_inputs_of_the_change_alone(params):
    lora = dataclasses.replace(KINDS["lora"], dropout=0.5)
    adapter = init_adapter(1, params, CONFIG, lora)
    fresh = hidden(apply_adapter(params, adapter, lora, key=jax.random.key(0)))
    np.testing.assert_allclose(fresh, hidden(params), atol=2e-6)

    x = jnp.ones((1, 1, 4000))
    own = Adapted(jnp.zeros((4000, 1)), jnp.ones((4000, 1)), jnp.ones((1, 1)), dropout=0.25,
                  key=jax.random.key(3))  # fmt: skip
    kept = np.asarray(own.dropped(x))
    assert set(np.unique(kept).round(4)) == {0.0, np.float32(1 / 0.75).round(4)}
    assert kept.mean() == pytest.approx(1.0, abs=0.03)
    assert own.replace(key=None).dropped(x) is x
