"""Every attention implementation against the definition, values and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import ConfigError, MeshConfig
from lilith.model.attention import AttentionContext, attention, choose_implementation
from lilith.model.presets import PRESETS
from lilith.sharding import DEFAULT_RULES, make_mesh


def inputs(length, heads=4, kv_heads=2, width=16, batch=2, dtype=jnp.float32, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    q = jax.random.normal(keys[0], (batch, length, heads, width), dtype)
    k = jax.random.normal(keys[1], (batch, length, kv_heads, width), dtype)
    v = jax.random.normal(keys[2], (batch, length, kv_heads, width), dtype)
    d_out = jax.random.normal(keys[3], q.shape, dtype)
    cuts = np.sort(np.random.default_rng(seed).integers(1, length, (batch, 2)))
    segments = 1 + (np.arange(length)[None, :, None] >= cuts[:, None, :]).sum(-1)
    segments[:, -length // 10 :] = 0  # padding
    return q, k, v, d_out, jnp.asarray(segments, jnp.int32)


def by_hand(q, k, v, segments, window):
    """A loop over every query, in float64 numpy."""
    q, k, v, segments = (np.asarray(x, np.float64) for x in (q, k, v, segments))
    out = np.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(q.shape[:3]):
        first = 0 if window is None else max(0, t - window + 1)
        seen = [s for s in range(first, t + 1) if segments[b, s] == segments[b, t]]
        scores = k[b, seen, n // group] @ q[b, t, n] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights @ v[b, seen, n // group] / weights.sum()
    return out


def run(implementation, window, q, k, v, d_out, segments, block=0):
    def function(q, k, v):
        context = AttentionContext(segments, segments)
        return attention(
            q, k, v, context, window=window, implementation=implementation, rules=DEFAULT_RULES,
            block=block,
        )  # fmt: skip

    out, pull = jax.vjp(function, q, k, v)
    return out, *pull(d_out)


jitted = jax.jit(run, static_argnums=(0, 1), static_argnames="block")


@pytest.mark.parametrize("window", [None, 7])
def test_the_reference_is_the_definition(window):
    q, k, v, _, segments = inputs(24)
    out = jitted("reference", window, q, k, v, q, segments)[0]
    np.testing.assert_allclose(out, by_hand(q, k, v, segments, window), atol=2e-6)


@pytest.mark.parametrize("implementation", ["xla", "blocked"])
@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("length", [150, 192])  # with and without a shorter last block
def test_implementations_equal_the_reference(implementation, window, length):
    arguments = inputs(length)
    expected = jitted("reference", window, *arguments)
    found = jitted(implementation, window, *arguments)
    for name, a, b in zip(("out", "dq", "dk", "dv"), found, expected):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("window", "block"), [(None, 0), (100, 128), (None, 512)])
def test_splash_equals_the_reference(window, block):
    """The TPU kernel, interpreted: exact, whatever the platform."""
    q, k, v, d_out, segments = inputs(256, width=64, batch=1)
    expected = jitted("reference", window, q, k, v, d_out, segments)
    found = jitted("splash", window, q, k, v, d_out, segments, block=block)
    for name, a, b in zip(("out", "dq", "dk", "dv"), found, expected):
        np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)


def test_splash_under_a_mesh_equals_the_reference():
    q, k, v, d_out, segments = inputs(128, width=64, batch=4)
    expected = jitted("reference", None, q, k, v, d_out, segments)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        spec = jax.P(("data", "fsdp"), None, "tensor", None)
        q, k, v, d_out = (jax.device_put(x, spec) for x in (q, k, v, d_out))
        segments = jax.device_put(segments, jax.P(("data", "fsdp"), None))
        found = jitted("splash", None, q, k, v, d_out, segments)
    for name, a, b in zip(("out", "dq", "dk", "dv"), found, expected):
        np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel runs on a GPU only")
def test_cudnn_equals_the_reference():
    arguments = inputs(128, width=64, dtype=jnp.bfloat16)
    for a, b in zip(run("cudnn", None, *arguments), run("reference", None, *arguments)):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=0.1)


def test_bfloat16_stays_close():
    arguments = inputs(128, dtype=jnp.bfloat16)
    exact = jitted("reference", None, *(x.astype(jnp.float32) for x in arguments[:4]), arguments[4])
    found = jitted("blocked", None, *arguments)
    assert found[0].dtype == found[1].dtype == jnp.bfloat16
    for a, b in zip(found, exact):
        np.testing.assert_allclose(np.asarray(a, np.float32), b, atol=0.1)


def test_a_choice_is_made_by_platform_and_shape():
    config = dataclasses.replace(PRESETS["7b"], attention="auto")

    def choose(length=256, in_order=True, platform="cpu", config=config):
        return choose_implementation(config, length, in_order=in_order, platform=platform)

    assert choose() == "blocked"
    assert choose(in_order=False) == "cached"
    assert choose(platform="tpu") == "splash"
    assert choose(platform="tpu", length=100) == "xla"
    assert choose(platform="gpu") == "xla"
    with pytest.raises(ConfigError, match="multiple of 128"):
        choose(length=100, config=dataclasses.replace(config, attention="splash"))
    larger = dataclasses.replace(config, attention_block=1024)
    assert choose(platform="tpu", config=larger) == "splash"  # a row shorter than the block
    with pytest.raises(ConfigError, match="attention_block is 1024, which does not divide rows of"):
        choose(length=1536, platform="tpu", config=larger)
    with pytest.raises(ConfigError, match="attention_block is 100; it must be a multiple of 128"):
        dataclasses.replace(config, attention_block=100)
    with pytest.raises(ConfigError, match="runs on GPUs"):
        choose(config=dataclasses.replace(config, attention="cudnn"))
    with jax.set_mesh(make_mesh(MeshConfig(fsdp=4, context=2))):
        assert choose() == "reference"
        with pytest.raises(ConfigError, match=r"mesh\.context is 2"):
            choose(config=dataclasses.replace(config, attention="blocked"))
