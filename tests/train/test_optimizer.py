"""Schedules, masks and optimizers by config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lilith.config import OptimizerConfig
from lilith.model.params import flatten, init_params
from lilith.model.presets import PRESETS
from lilith.train.optimizer import decay_mask, make_optimizer, make_schedule

PARAMS = init_params(0, PRESETS["tiny"])


def rates(steps=100, **fields):
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, final_fraction=0.1, **fields)
    schedule = make_schedule(config, steps)
    return np.array([float(schedule(jnp.int32(i))) for i in range(steps + 1)])


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "wsd"])
def test_schedules_rise_from_a_first_small_step_to_the_peak(shape):
    found = rates(schedule=shape)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert found.max() == pytest.approx(1.0)
    assert found[100] == pytest.approx(1.0 if shape == "constant" else 0.1, abs=1e-6)


def test_schedules_have_their_shapes():
    assert rates(schedule="cosine")[55] == pytest.approx(0.1 + 0.9 * 0.5, abs=1e-3)
    assert rates(schedule="linear")[55] == pytest.approx(1 - 0.9 * 0.5, abs=1e-3)
    wsd = rates(schedule="wsd", decay_fraction=0.2)
    np.testing.assert_allclose(wsd[10:81], 1.0)
    assert wsd[90] == pytest.approx(1 - 0.9 * 0.5, abs=1e-6)
    assert rates(steps=5, schedule="wsd").max() == pytest.approx(1.0)  # all warm-up


def test_norms_and_biases_do_not_decay():
    mask = decay_mask(PARAMS, OptimizerConfig().no_decay)
    kept = {path for path, decays in flatten(mask).items() if not decays}
    assert kept == {"final_norm", "layers/attention_norm", "layers/mlp_norm"}
    assert not decay_mask(PARAMS, ("embedding$",))["unembedding"]


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_every_optimizer_descends_and_keeps_its_state_dtype(name, state_dtype):
    config = OptimizerConfig(
        name=name, learning_rate=3e-3, schedule="constant", warmup_steps=0, weight_decay=0.0,
        state_dtype=state_dtype,
    )  # fmt: skip
    optimizer = make_optimizer(config, 100)
    goal = init_params(1, PRESETS["tiny"])

    def distance(params):
        return sum(jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (params, goal))))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(distance)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(20):
        params, state = step(params, state)
    assert distance(params) < 0.97 * distance(PARAMS)
    floats = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)}
    assert floats == {jnp.dtype(state_dtype)}


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_weight_decay_shrinks_matrices_and_leaves_norms(name):
    config = OptimizerConfig(
        name=name, learning_rate=0.1, schedule="constant", warmup_steps=0, weight_decay=0.5
    )
    optimizer = make_optimizer(config, 10)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(
        updates["layers"]["mlp"]["up"], -0.05 * PARAMS["layers"]["mlp"]["up"], atol=1e-6
    )
    assert not np.asarray(updates["final_norm"]).any()


def test_muon_makes_each_layers_matrix_nearly_orthogonal():
    config = OptimizerConfig(
        name="muon", learning_rate=1.0, schedule="constant", warmup_steps=0, weight_decay=0.0
    )
    optimizer = make_optimizer(config, 10)
    gradients = init_params(5, PRESETS["tiny"])
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(PARAMS), PARAMS)
    for name, matrix in (("up", (64, 176)), ("q", (64, 64)), ("o", (64, 64))):
        where = updates["layers"]["mlp" if name == "up" else "attention"][name]
        for layer in range(2):
            singular = np.linalg.svd(np.asarray(where[layer]).reshape(matrix), compute_uv=False)
            scale = 0.2 * np.sqrt(max(matrix))
            # The smallest few of a random square matrix are too small for five iterations.
            assert 0.5 * scale < np.sort(singular)[5], name
            assert singular.max() < 1.3 * scale, name
