"""The cache's attention and the layout of generation give what training's forward gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.model.attention import reference_attention
from lilith.model.cache import init_cache
from lilith.model.cached_attention import BLOCK, cached_attention
from lilith.model.layered import fuse_layers, split_layers, unstack_layers
from lilith.model.params import flatten, init_params
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward

FORWARD = jax.jit(forward, static_argnames="config")
CONFIG = dataclasses.replace(
    PRESETS["tiny"], compute_dtype="float32", layers=3, qkv_bias=True, qk_norm=True
)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("capacity", [64, BLOCK, 3 * BLOCK, 5 * BLOCK])
@pytest.mark.parametrize("length", [1, 7])
def test_cached_attention_equals_the_reference(capacity, length, window):
    rng = np.random.default_rng(0)
    batch, heads, kv_heads, width = 3, 4, 2, 16
    q = rng.standard_normal((batch, length, heads, width)).astype(np.float32)
    k, v = rng.standard_normal((2, batch, capacity, kv_heads, width)).astype(np.float32)
    start = np.array([0, capacity // 2, capacity - length])
    index = start[:, None] + np.arange(length)
    back = index[:, :, None] - np.arange(capacity)
    mask = (back >= 0) & (back < (window or capacity + 1))
    expected = reference_attention(q, k, v, mask)
    # What lies after a row is never read: not even a NaN would show.
    unseen = np.arange(capacity) > index[:, -1:]
    keys = np.where(unseen[:, :, None, None], 1e9, k).transpose(0, 2, 3, 1)
    found = jax.jit(cached_attention, static_argnums=4)(
        q, keys, v.swapaxes(1, 2), jnp.asarray(index), window
    )
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.fixture(scope="module")
def params():
    # Biases and norms start at 0 and 1; moved, a mistake with them shows.
    return jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape),
        init_params(0, CONFIG),
    )


def test_the_layout_changes_no_result(params):
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab, (2, 20)).astype(np.int32)
    expected, _ = FORWARD(params, tokens, config=CONFIG)
    fused = fuse_layers(unstack_layers(params))
    assert isinstance(fused["layers"], tuple)
    assert set(fused["layers"][0]["attention"]) == {"qkv", "qkv_bias", "o", "q_norm", "k_norm"}
    np.testing.assert_allclose(FORWARD(fused, tokens, config=CONFIG)[0], expected, atol=2e-5)
    cache = init_cache(CONFIG, 2, 300, layered=True)
    assert cache.capacity == 3 * BLOCK
    first, cache = FORWARD(fused, tokens[:, :13], config=CONFIG, cache=cache)
    second, cache = FORWARD(fused, tokens[:, 13:19], config=CONFIG, cache=cache)
    third, cache = FORWARD(fused, tokens[:, 19:], config=CONFIG, cache=cache)
    found = np.concatenate([first, second, third], axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert cache.length_B.tolist() == [20, 20]


def test_one_token_alone_equals_it_among_others(params):
    """A single row takes another product on CPUs."""
    fused = fuse_layers(unstack_layers(params))
    tokens = np.array([[5], [9]], np.int32)
    both, _ = FORWARD(fused, tokens, config=CONFIG)
    for row, expected in zip(tokens, both):
        alone, _ = FORWARD(fused, row[None], config=CONFIG)
        np.testing.assert_allclose(alone[0], expected, atol=2e-5)


def test_splitting_undoes_fusing(params):
    apart = unstack_layers(params)
    layers = apart["layers"]
    split = split_layers(fuse_layers(dict(apart)), CONFIG.kv_heads)["layers"]
    for before, after in zip(layers, split):
        before, after = flatten(before), flatten(after)
        assert before.keys() == after.keys()
        for path, leaf in before.items():
            np.testing.assert_array_equal(after[path], leaf, err_msg=path)


def test_fusing_takes_the_parameters_over(params):
    apart = unstack_layers(params)
    fuse_layers(apart)
    assert not apart
    assert "layers" in params
