"""Double precision by scope: float64 for values, the caller's choice inside transforms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.quant.precision import double_precision


class Pair(NamedTuple):
    value: jax.Array
    good: jax.Array


@double_precision(static=("power",))
def cube(x, y=1.0, *, power=3):
    result = x**power + y
    return Pair(result, result > 0)


def test_values_are_computed_in_float64():
    found = cube(1 / 3)
    assert found.value == (1 / 3) ** 3 + 1.0
    assert isinstance(found.value, np.float64)
    assert found.good.dtype == np.bool_
    for given in ([1, 2], np.array([1, 2]), (jnp.array([1, 2]))):
        assert cube(given).value.dtype == np.float64
        assert cube(given).value.tolist() == [2.0, 9.0]
    assert cube(2, power=2).value == 5.0
    assert not jax.config.jax_enable_x64


def test_what_follows_stays_in_float64():
    """Outside the scope JAX would cut the next operation on its own array to float32."""
    assert float(cube(0.1).value - 1.001) == pytest.approx(0, abs=1e-15)


def test_float32_arrays_stay_float32():
    found = cube(np.float32([0.1, 0.2])).value
    assert found.dtype == np.float32
    assert cube(np.float32([0.1]), np.float64([1.0])).value.dtype == np.float64


def test_inside_transforms_the_caller_chooses():
    assert jax.jit(lambda x: cube(x).value)(0.1).dtype == np.float32
    with jax.enable_x64(True):
        assert isinstance(cube(0.1).value, jax.Array)
        slope = jax.grad(lambda x: cube(x).value)(0.1)
        assert slope.dtype == np.float64
        assert float(slope) == pytest.approx(0.03, rel=1e-15)
        assert jax.vmap(lambda x: cube(x).value)(jnp.arange(3.0)).tolist() == [1.0, 2.0, 9.0]
