"""Advantages and KL estimates: golden numbers by hand, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from preference_cases import on_mesh

from lilith.config import MeshConfig
from lilith.sharding import make_mesh
from lilith.train.advantages import (
    explained_variance,
    gae,
    group_advantages,
    kl_estimate,
    leave_one_out,
    whiten,
)

REWARDS = np.array([[0.0, 0.0, 1.0]], np.float32)
VALUES = np.array([[0.2, 0.4, 0.5]], np.float32)
GOLDEN = np.array([[0.74625, 0.575, 0.5]])


def by_hand(rewards, values, mask, gamma, lam):
    """In float64 over the tokens of the mask alone, as if there were no others."""
    advantages = np.zeros(rewards.shape)
    for row in range(len(rewards)):
        own = np.flatnonzero(mask[row])
        later = next_value = 0.0
        for t in own[::-1]:
            delta = rewards[row, t] + gamma * next_value - values[row, t]
            later = delta + gamma * lam * later
            next_value = values[row, t]
            advantages[row, t] = later
    return advantages


def test_gae_golden():
    advantages, returns = gae(REWARDS, VALUES, np.ones((1, 3)), gamma=1.0, lam=0.95)
    np.testing.assert_allclose(advantages, GOLDEN, rtol=1e-6)
    np.testing.assert_allclose(returns, GOLDEN + VALUES, rtol=1e-6)
    assert advantages.dtype == returns.dtype == jnp.float32


def test_gae_is_carried_across_masked_tokens():
    """A prompt, a tool's response and padding between the tokens change nothing."""
    mask = np.array([[0, 1, 0, 0, 1, 1, 0]], np.float32)
    junk = np.full(mask.shape, 9.0, np.float32)
    rewards, values = junk.copy(), junk.copy()
    rewards[mask > 0], values[mask > 0] = REWARDS[0], VALUES[0]
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
    np.testing.assert_allclose(advantages[mask > 0], GOLDEN[0], rtol=1e-6)
    assert not advantages[mask == 0].any()
    np.testing.assert_allclose(returns, advantages + values, rtol=1e-6)


def test_gae_of_ragged_rows_with_discount_on_one_and_eight_devices():
    random = np.random.default_rng(0)
    rewards, values = random.normal(size=(2, 8, 12)).astype(np.float32)
    mask = random.random((8, 12)) < 0.6
    wanted = by_hand(rewards.astype(float), values.astype(float), mask, 0.9, 0.8)
    advantages, _ = gae(rewards, values, mask, gamma=0.9, lam=0.8)
    np.testing.assert_allclose(advantages, wanted, atol=1e-6)
    mesh = make_mesh(MeshConfig(2, 1, 2, 2))
    with jax.set_mesh(mesh):
        placed = on_mesh((rewards, values, mask), mesh)
        found, returns = jax.jit(lambda *x: gae(*x, gamma=0.9, lam=0.8))(*placed)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(returns, wanted + values, atol=1e-6)


def test_integer_rewards_are_refused_in_words():
    whole = np.array([[0, 0, 1]])
    with pytest.raises(TypeError, match=r"rewards are int32; .* float32, so that no fraction is"):
        gae(whole, VALUES, np.ones((1, 3)), gamma=1.0, lam=0.95)
    for function in (lambda x: group_advantages(x, 2, scale=True), lambda x: leave_one_out(x, 2)):
        with pytest.raises(TypeError, match="rewards are int32"):
            function(np.array([0, 1]))
    with pytest.raises(TypeError, match="advantages are bfloat16"):
        whiten(jnp.ones((1, 3), jnp.bfloat16), np.ones((1, 3)))


def test_whitening_on_one_and_eight_devices():
    random = np.random.default_rng(1)
    values = random.normal(3.0, 2.5, (8, 12)).astype(np.float32)
    mask = (random.random((8, 12)) < 0.5).astype(np.float32)
    one = np.asarray(whiten(values, mask))
    assert one[mask > 0].mean(dtype=float) == pytest.approx(0, abs=1e-6)
    assert one[mask > 0].std(dtype=float) == pytest.approx(1, abs=1e-6)
    assert not one[mask == 0].any()
    chosen = values[mask > 0].astype(float)
    np.testing.assert_allclose(one[mask > 0], (chosen - chosen.mean()) / chosen.std(), atol=2e-6)
    mesh = make_mesh(MeshConfig(data=8))
    with jax.set_mesh(mesh):
        eight = jax.jit(whiten)(*on_mesh((values, mask), mesh))
    np.testing.assert_allclose(eight, one, atol=1e-6)
    assert not whiten(np.full((1, 4), 0.5, np.float32), np.ones((1, 4))).any()


def test_group_advantages_by_hand():
    rewards = np.array([1.0, 0.0, 0.25, 0.75, 0.1, 0.1, 0.1, 0.1], np.float32)
    centred = rewards[:4].astype(float) - 0.5
    plain = np.asarray(group_advantages(rewards, 4, scale=False))
    scaled = np.asarray(group_advantages(rewards, 4, scale=True))
    alone = np.asarray(leave_one_out(rewards, 4))
    np.testing.assert_allclose(plain[:4], centred, rtol=1e-6)
    np.testing.assert_allclose(scaled[:4], centred / rewards[:4].std(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(alone[0], 1.0 - (0.0 + 0.25 + 0.75) / 3, rtol=1e-6)
    np.testing.assert_allclose(alone[2], 0.25 - (1.0 + 0.0 + 0.75) / 3, rtol=1e-6)
    for found in (plain, scaled, alone):
        assert not found[4:].any()  # equal rewards: exactly 0
    for count in (3, 7):
        equal = np.full(count, 0.1, np.float32)
        assert not group_advantages(equal, count, scale=True).any()


@pytest.mark.parametrize(
    ("size", "group", "words"), [(6, 4, "6 rewards do not make whole groups of 4"), (4, 1, "is 1;")]
)
def test_odd_groups_are_refused_in_words(size, group, words):
    with pytest.raises(ValueError, match=words):
        leave_one_out(np.zeros(size, np.float32), group)


def test_kl_estimators_on_a_known_pair_of_distributions():
    """Expectations under pi, all outcomes enumerated: k1 and k3 are unbiased, k2 is not."""
    pi, ref = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.25, 0.35, 0.1, 0.3])
    log_ratio = np.log(pi) - np.log(ref)
    kl = float(pi @ log_ratio)
    found = {
        kind: np.asarray(kl_estimate(log_ratio.astype(np.float32), kind), float)
        for kind in ("k1", "k2", "k3")
    }
    assert pi @ found["k1"] == pytest.approx(kl, rel=1e-6)
    assert pi @ found["k3"] == pytest.approx(kl, rel=1e-6)
    assert pi @ found["k2"] == pytest.approx(float(pi @ log_ratio**2) / 2, rel=1e-6)
    np.testing.assert_allclose(found["k3"], ref / pi - 1 + log_ratio, atol=1e-6)
    assert (found["k3"] >= 0).all()
    assert (found["k1"] < 0).any()
    with pytest.raises(ValueError, match=r"'k4' \(did you mean 'k\d'\?\); known: k1, k2, k3"):
        kl_estimate(np.zeros(1, np.float32), "k4")


def test_explained_variance():
    random = np.random.default_rng(2)
    returns, noise = random.normal(size=(2, 4, 6)).astype(np.float32)
    mask = random.random((4, 6)) < 0.7
    values = returns + 0.5 * noise
    wanted = 1 - (0.5 * noise[mask]).var() / returns[mask].var()
    assert explained_variance(values, returns, mask) == pytest.approx(wanted, rel=1e-4)
    assert explained_variance(returns + 3, returns, mask) == pytest.approx(1, abs=1e-5)
    assert explained_variance(values, np.full_like(returns, 0.7), mask) == 0
