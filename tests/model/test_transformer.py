"""The forward pass: scan, remat, packing, the cache, patterns and meshes, all one function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import MeshConfig, ModelConfig, RopeScaling
from lilith.model.cache import init_cache
from lilith.model.layers import rope_frequencies, rope_table
from lilith.model.params import init_params, param_shardings
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward, unembed
from lilith.sharding import ShardingError, ShardingRules, make_mesh

CONFIG = dataclasses.replace(PRESETS["tiny"], layers=3, compute_dtype="float32")
TOKENS = jax.random.randint(jax.random.key(1), (8, 96), 0, CONFIG.vocab)
SEGMENTS = jnp.concatenate(
    [jnp.ones((8, 30), int), jnp.full((8, 60), 2), jnp.zeros((8, 6), int)], 1
)


def logits(params, tokens, config, segments=None):
    hidden, _ = forward(params, tokens, config, segments_BT=segments)
    return unembed(params, hidden, config)


jitted = jax.jit(logits, static_argnums=2)


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


def test_tokens_see_only_earlier_ones_of_their_document(params):
    base = jitted(params, TOKENS, CONFIG, SEGMENTS)
    changed = TOKENS.at[:, 40].set((TOKENS[:, 40] + 1) % CONFIG.vocab)
    difference = np.abs(np.asarray(jitted(params, changed, CONFIG, SEGMENTS) - base)).max((0, 2))
    assert (difference[:40] == 0).all()  # the other document, and what came before
    assert (difference[40:90] > 0).all()
    assert (difference[90:] == 0).all()  # padding is a segment of its own


def test_scan_equals_unrolled(params):
    unrolled = dataclasses.replace(CONFIG, scan_layers=False)
    a, b = jitted(params, TOKENS, CONFIG, SEGMENTS), jitted(params, TOKENS, unrolled, SEGMENTS)
    np.testing.assert_allclose(a, b, atol=5e-6)


@pytest.mark.parametrize(
    "pattern", [("window",), ("window", "global"), ("window", "window", "global", "global")]
)
def test_patterns_scan_as_they_unroll(params, pattern):
    """Periods that divide the layers, that leave a rest, and that are longer than the model."""
    scanned = dataclasses.replace(CONFIG, attention_pattern=pattern, window=9)
    unrolled = dataclasses.replace(scanned, scan_layers=False, attention="reference")
    a, b = jitted(params, TOKENS, scanned), jitted(params, TOKENS, unrolled)
    np.testing.assert_allclose(a, b, atol=5e-6)
    assert np.abs(np.asarray(a - jitted(params, TOKENS, CONFIG))).max() > 1e-3


@pytest.mark.parametrize("remat", ["dots", "attention", "full"])
def test_remat_changes_what_is_kept_and_no_gradient(params, remat):
    def gradient(params, config):
        return jax.grad(lambda p: jnp.square(logits(p, TOKENS, config, SEGMENTS)).mean())(params)

    compiled = jax.jit(gradient, static_argnums=1)
    config = dataclasses.replace(CONFIG, remat=remat)
    expected, found = compiled(params, CONFIG), compiled(params, config)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max())
    residuals = [
        sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(
            lambda p, c=c: jax.vjp(lambda p: logits(p, TOKENS, c), p)[1], params
        ))) for c in (CONFIG, config)
    ]  # fmt: skip
    assert residuals[1] < residuals[0], "the policy keeps as much as none at all"


@pytest.mark.parametrize("attention", ["auto", "xla"])
def test_decoding_equals_training(params, attention):
    """Prefill of unequal prompts, then tokens one by one: the trainer's own logits."""
    config = dataclasses.replace(
        CONFIG, attention=attention, attention_pattern=("window", "global"), window=11
    )
    whole = jitted(params, TOKENS[:3, :40], config)
    lengths = jnp.array([30, 17, 1])
    cache = init_cache(config, 3, 48)
    shown = (jnp.arange(32) < lengths[:, None]).astype(int)

    @jax.jit
    def step(tokens, cache, shown=None):
        hidden, cache = forward(params, tokens, config, segments_BT=shown, cache=cache)
        return unembed(params, hidden, config), cache

    prefill, cache = step(TOKENS[:3, :32] * shown, cache, shown)
    np.testing.assert_array_equal(cache.length_B, lengths)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(prefill[row, :length], whole[row, :length], atol=2e-5)
    for i in range(8):
        token = TOKENS[jnp.arange(3), lengths + i][:, None]
        found, cache = step(token, cache)
        expected = whole[jnp.arange(3), lengths + i]
        np.testing.assert_allclose(found[:, 0], expected, atol=2e-5)


@pytest.mark.parametrize(
    "mesh", [(8, 1, 1, 1), (1, 8, 1, 1), (2, 2, 1, 2), (2, 1, 2, 2), (1, 1, 8, 1)]
)
def test_meshes_give_the_same_logits(params, mesh):
    """Data, fully sharded, tensor and context axes, and their products."""
    expected = jitted(params, TOKENS, CONFIG, SEGMENTS)
    mesh = make_mesh(MeshConfig(*mesh))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, param_shardings(CONFIG, mesh))
        found = jitted(placed, TOKENS, CONFIG, SEGMENTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_shape_that_does_not_divide_is_a_sentence():
    mesh = make_mesh(MeshConfig(fsdp=1, tensor=8))
    with pytest.raises(
        ShardingError, match=r"layers/attention/k has kv_heads = 2, which does not divide over 8"
    ):
        param_shardings(CONFIG, mesh)
    with pytest.raises(ShardingError, match="would split two dimensions"):
        ShardingRules(embed=("tensor",)).spec("embed", "ff")
    with pytest.raises(ShardingError, match="did you mean 'tensor'"):
        ShardingRules(ff=("tensr",))
    with pytest.raises(ShardingError, match="needs 3 devices and there are 8"):
        make_mesh(MeshConfig(data=3, fsdp=1))
    with pytest.raises(ShardingError, match="does not divide the 8 devices"):
        make_mesh(MeshConfig(data=3))


def test_softcap_bounds_the_logits(params):
    capped = dataclasses.replace(CONFIG, logit_softcap=0.5)
    found = jitted(params, TOKENS, capped)
    assert np.abs(np.asarray(found)).max() <= 0.5
    np.testing.assert_allclose(
        found, 0.5 * np.tanh(jitted(params, TOKENS, CONFIG) / 0.5), atol=1e-5
    )


def test_positions_restart_where_they_are_told_to(params):
    positions = jnp.concatenate([jnp.arange(30), jnp.arange(66)])[None].repeat(8, 0)
    packed, _ = forward(params, TOKENS, CONFIG, positions_BT=positions, segments_BT=SEGMENTS)
    alone, _ = forward(params, TOKENS[:, 30:90], CONFIG)
    np.testing.assert_allclose(packed[:, 30:90], alone, atol=1e-5)


def test_rope_turns_by_position_times_frequency():
    config = ModelConfig(d_model=16, heads=2, kv_heads=2, rope_base=100.0)
    cos, sin = rope_table(jnp.array([[0, 5]]), config)
    angles = 5 * 100.0 ** (-np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(cos[0, 1, 0], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(sin[0, 1, 0], np.sin(angles), atol=1e-6)
    np.testing.assert_array_equal(sin[0, 0], 0)


def test_rope_scalings_stretch_what_they_should():
    plain, one = rope_frequencies(64, 10_000.0, RopeScaling(), 8192)
    linear, _ = rope_frequencies(64, 10_000.0, RopeScaling("linear", 4.0), 8192)
    np.testing.assert_allclose(linear, plain / 4)
    llama, _ = rope_frequencies(64, 10_000.0, RopeScaling("llama3", 8.0, 8192), 131_072)
    np.testing.assert_allclose(llama[0], plain[0])  # fast turns stay
    np.testing.assert_allclose(llama[-1], plain[-1] / 8)  # slow ones are stretched in full
    assert (llama <= plain + 1e-12).all()
    assert (llama >= plain / 8 - 1e-12).all()
    yarn, factor = rope_frequencies(64, 10_000.0, RopeScaling("yarn", 4.0, 4096), 16_384)
    np.testing.assert_allclose(yarn[[0, -1]], [plain[0], plain[-1] / 4])
    assert factor == pytest.approx(0.1 * np.log(4.0) + 1)
    assert one == 1.0
