"""Large arrays: the same figures in blocks as in one call, whatever the arguments look like."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from lilith.quant.options import black_scholes, blocks, implied_volatility


@pytest.fixture
def small_blocks(monkeypatch) -> int:
    monkeypatch.setattr(blocks, "BLOCK", 8)
    monkeypatch.setattr(blocks, "LEAST", 16)
    return 8


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_blocks_change_nothing(small_blocks: int, dtype) -> None:
    spot = np.linspace(60, 150, 21, dtype=dtype).reshape(7, 3)
    strike, is_call = np.array([90, 100, 110], dtype), spot > 100
    expected = black_scholes.greeks.__wrapped__(
        spot, strike, 0.5, [[0.05]], 0.2, dividend=0.01, is_call=is_call
    )
    found = black_scholes.greeks(spot, strike, 0.5, [[0.05]], 0.2, dividend=0.01, is_call=is_call)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert isinstance(found[name], np.ndarray) == isinstance(value, np.ndarray)
        assert (found[name].shape, found[name].dtype) == ((7, 3), dtype)
        assert np.asarray(found[name]) == pytest.approx(np.asarray(value), rel=1e-6)
    few = black_scholes.greeks(spot, strike, 0.5, 0.05, 0.2, names=("delta",))
    assert list(few) == ["delta"]


def test_blocks_of_tuples_and_of_lists(small_blocks: int) -> None:
    price = np.linspace(1, 20, 17)
    found = implied_volatility.solve_implied_volatility(list(price), 100, 105, 0.5, 0.05)
    expected = implied_volatility.solve_implied_volatility.__wrapped__(price, 100, 105, 0.5, 0.05)
    assert type(found) is type(expected)
    for own, other in zip(found, expected):
        assert own == pytest.approx(other, rel=1e-14)


def test_blocks_leave_tracers_alone(small_blocks: int) -> None:
    spot = np.linspace(60, 150, 21)
    with jax.enable_x64(True):
        traced = jax.jit(lambda s: black_scholes.price(s, 100.0, 0.5, 0.05, 0.2))(spot)
        inside = black_scholes.price(spot, 100.0, 0.5, 0.05, 0.2)
    assert isinstance(inside, jax.Array)
    assert np.asarray(traced) == pytest.approx(np.asarray(inside), rel=1e-14)
