"""Stochastic rounding of bfloat16 weights: unbiased, repeatable, and small updates add up."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lean_cases import MESH, assert_same_bits, make, mesh_of, train

from lilith.config import ConfigError
from lilith.train.rounding import round_stochastically, to_bfloat16
from lilith.train.state import abstract_state_of, place_state

BFLOAT16 = {"param_dtype": "bfloat16"}


def neighbours(x):
    """The bfloat16 below and above, in magnitude."""
    bits = np.float32(x).view(np.uint32)
    low = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    return low, ((bits & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)


@pytest.mark.parametrize("x", [1.0009765625, -3.14159265, 1e-30, 0.0999, -65600.0])
def test_the_mean_of_many_roundings_is_the_value(x):
    count = 40_000
    drawn = np.asarray(to_bfloat16(jnp.full(count, x, jnp.float32), jax.random.key(1)), np.float64)
    low, high = (float(own) for own in neighbours(x))
    assert set(np.unique(drawn)) == {low, high}
    share = (np.float32(x) - low) / (high - low)
    deviation = abs(high - low) * np.sqrt(share * (1 - share) / count)
    assert abs(drawn.mean() - float(np.float32(x))) < 4 * deviation
    nearest = abs(float(jnp.bfloat16(x)) - float(np.float32(x)))
    assert nearest > 10 * deviation  # which rounding to the nearest would fail by


def test_what_is_bfloat16_already_and_what_is_no_number_stay():
    x = jnp.array([0.0, -0.0, 1.5, -384.0, jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
    for seed in range(20):
        found = to_bfloat16(x, jax.random.key(seed)).astype(jnp.float32)
        np.testing.assert_array_equal(found, x)


def descend(rounding, steps=400, change=2.0**-11):
    """1024 weights of 1 after ``steps`` updates of ``change``."""
    optimizer = optax.sgd(change)
    if rounding == "stochastic":
        optimizer = round_stochastically(optimizer, seed=3)
    weights = {"w": jnp.ones(1024, jnp.bfloat16)}
    gradients = {"w": -jnp.ones(1024, jnp.float32)}

    def step(carry, _):
        weights, state = carry
        updates, state = optimizer.update(gradients, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), length=steps)
    return np.asarray(weights["w"], np.float64)


def test_small_updates_are_lost_to_nearest_rounding_and_add_up_stochastically():
    np.testing.assert_array_equal(descend("nearest"), 1.0)
    found = descend("stochastic")
    goal = 1 + 400 * 2.0**-11
    # A random walk of up to 400 jumps of 2^-7, each with probability 1/16.
    deviation = 2.0**-7 * np.sqrt(400 / 16 * 15 / 16)
    assert abs(found.mean() - goal) < 4 * deviation / np.sqrt(found.size)
    assert found.std() < 1.2 * deviation


def test_numbers_depend_on_seed_step_and_path_alone():
    weights = {"a": jnp.ones((4, 64), jnp.bfloat16), "b": jnp.ones((4, 64), jnp.bfloat16),
               "c": jnp.ones(3)}  # fmt: skip
    gradients = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0**-9), weights)

    def updates(seed, count):
        optimizer = round_stochastically(optax.sgd(1.0), seed)
        state = optimizer.init(weights)
        for _ in range(count):
            found, state = optimizer.update(gradients, state, weights)
        return jax.tree.map(np.asarray, found)

    first = updates(0, 1)
    assert_same_bits(first, updates(0, 1))
    for other in (updates(1, 1), updates(0, 2)):
        assert not np.array_equal(first["a"], other["a"])
    assert not np.array_equal(first["a"], first["b"])
    np.testing.assert_array_equal(first["c"], -(2.0**-9))  # float32 weights are left alone


def test_the_layout_changes_no_number():
    weights = {"up": jax.random.normal(jax.random.key(0), (2, 64, 176), jnp.bfloat16)}
    optimizer = make(name="lion", learning_rate=1e-4, rounding="stochastic")
    found = []
    for shape, spec in ((None, jax.P()), (MESH, jax.P(None, "fsdp", "tensor"))):
        mesh = mesh_of(shape)
        placed = jax.device_put(weights, jax.NamedSharding(mesh, spec))
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), placed
        )
        target = abstract_state_of(abstract, optimizer, mesh)
        state = place_state(jax.tree.map(jnp.copy, placed), optimizer, mesh)
        with jax.set_mesh(mesh):
            updates, _ = jax.jit(optimizer.update)(placed, state.opt_state, placed)
            found.append(jax.tree.map(np.asarray, optax.apply_updates(placed, updates)))
        assert jax.tree.structure(target) == jax.tree.structure(state)
    assert_same_bits(*found)
    assert not np.array_equal(found[0]["up"], weights["up"])


def test_bfloat16_weights_learn_as_float32_ones_do():
    """Measured over 30 steps: 0.001 nats behind float32, and 0.04 with nearest rounding."""
    _, whole = train(make(learning_rate=3e-3), 12)
    _, drawn = train(make(learning_rate=3e-3, rounding="stochastic"), 12, **BFLOAT16)
    np.testing.assert_allclose(drawn, whole, atol=0.02)
    state, again = train(make(learning_rate=3e-3, rounding="stochastic"), 12, **BFLOAT16)
    np.testing.assert_array_equal(drawn, again)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"bfloat16"}


def test_without_bfloat16_weights_it_is_refused():
    with pytest.raises(ConfigError, match=re.escape("and these are float32; set optimizer.round")):
        make(rounding="stochastic").init({"w": jnp.ones(3)})
