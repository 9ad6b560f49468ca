"""Log-probabilities in chunks against the softmax of the model's logits: values, gradients."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from preference_cases import CONFIG, assert_close, on_mesh, random_rows

from lilith.config import MeshConfig
from lilith.model.params import init_params, param_shardings
from lilith.model.transformer import forward, unembed
from lilith.sharding import make_mesh
from lilith.train.log_probs import sequence_log_probs, token_log_probs
from lilith.train.lora import init_adapter, trained_weights
from lilith.train.lora_config import LoraConfig

ROWS = random_rows()
LORA = LoraConfig(rank=2)
WEIGHTS = np.random.default_rng(5).normal(size=(2, *ROWS.tokens.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


def plain(params, rows, temperature):
    """By definition, with all logits at once."""
    hidden, _ = forward(
        params, rows.tokens, CONFIG, positions_BT=rows.positions, segments_BT=rows.segment_ids
    )
    every = jax.nn.log_softmax(unembed(params, hidden, CONFIG) / temperature)
    own = jnp.take_along_axis(every, rows.targets[..., None], -1)[..., 0]
    entropy = -jnp.sum(jnp.exp(every) * every, axis=-1)
    return tuple(jnp.where(rows.segment_ids > 0, x, 0.0) for x in (own, entropy))


def weighted(function, params, rows):
    """A scalar that depends on every log-probability and every entropy, and what it is made of."""
    found = function(params, rows)
    return sum(jnp.sum(w * x) for w, x in zip(WEIGHTS, found)), tuple(found)


def ours(params, rows, temperature=0.7, config=CONFIG, chunk=7):
    return token_log_probs(params, rows, config=config, temperature=temperature, chunk=chunk)


def value_and_gradient(function):
    return jax.jit(jax.value_and_grad(partial(weighted, function), has_aux=True))


@pytest.fixture(scope="module")
def alone(params):
    return value_and_gradient(ours)(params, ROWS)


def test_values_and_gradients_are_those_of_the_softmax(params, alone):
    assert_close(alone, value_and_gradient(partial(plain, temperature=0.7))(params, ROWS))
    (_, (log_probs, entropy)), _ = alone
    assert log_probs.dtype == entropy.dtype == jnp.float32
    padding = ROWS.segment_ids == 0
    assert padding.any()
    assert not log_probs[padding].any()
    assert not entropy[padding].any()
    assert (log_probs[~padding] < 0).all()


def test_adapted_weights_get_the_gradients_of_their_adapter(params):
    adapter = init_adapter(0, params, CONFIG, LORA)
    adapter = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), adapter
    )

    def with_adapter(function, adapter, rows):
        return function(trained_weights(adapter, LORA, frozen=params), rows)

    found, wanted = (
        value_and_gradient(partial(with_adapter, function))(adapter, ROWS)
        for function in (ours, partial(plain, temperature=0.7))
    )
    assert_close(found, wanted)


@pytest.mark.parametrize("mesh", [(8, 1, 1, 1), (1, 2, 2, 2)], ids=str)
def test_meshes_find_what_one_device_finds(params, alone, mesh):
    """(data, fsdp, context, tensor); in the second, four devices share the vocabulary."""
    mesh = make_mesh(MeshConfig(*mesh))
    placed = jax.device_put(params, param_shardings(CONFIG, mesh))
    with jax.set_mesh(mesh):
        found = value_and_gradient(ours)(placed, on_mesh(ROWS, mesh))
    assert_close(found, alone)


def test_rows_sum_over_their_mask(params, alone):
    found = jax.jit(partial(sequence_log_probs, config=CONFIG, temperature=0.7))(params, ROWS)
    (_, (log_probs, _)), _ = alone
    np.testing.assert_allclose(found, (log_probs * ROWS.loss_mask).sum(1), rtol=1e-5)


def test_memory_does_not_grow_with_tokens_times_vocabulary():
    """Eight times the tokens, with gradients of all weights: the compiler's own count."""
    config = dataclasses.replace(CONFIG, vocab=32_768, layers=1)
    params = jax.eval_shape(lambda: init_params(0, config))

    def temporaries(count):
        def step(params, rows):
            return jax.grad(lambda p: ours(p, rows, config=config, chunk=64).log_probs_BT.sum())(
                params
            )

        rows = jax.eval_shape(lambda: random_rows(count, length=64))
        analysis = jax.jit(step).lower(params, rows).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    small, large = temporaries(4), temporaries(32)
    one_chunk = 64 * config.vocab * 4
    assert large - small < one_chunk  # the logits of 1,792 more tokens are 28 such chunks
    assert large < 8 * one_chunk


def test_no_temperature_is_refused(params):
    with pytest.raises(ValueError, match="temperature is 0"):
        ours(params, ROWS, temperature=0.0)
