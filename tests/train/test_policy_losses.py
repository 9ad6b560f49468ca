"""PPO, GRPO and their kin: golden numbers by hand in float64, pieces of batches, meshes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from preference_cases import CONFIG, assert_close, on_mesh, piece, random_rollout

from lilith.config import MeshConfig
from lilith.model.params import init_params, param_shardings, spec_shardings
from lilith.sharding import make_mesh
from lilith.train.advantages import gae, group_advantages, leave_one_out
from lilith.train.grpo import policy_gradient_loss, token_weights
from lilith.train.log_probs import TokenLogProbs, token_log_probs
from lilith.train.lora import init_adapter
from lilith.train.lora_config import LoraConfig
from lilith.train.ppo import (
    adaptive_kl,
    clipped_policy_loss,
    clipped_value_loss,
    critic_values,
    policy_term,
    ppo_loss,
    token_rewards,
)
from lilith.train.reward import head_specs, init_head

BATCH = random_rollout()
MASK = BATCH.rows.loss_mask.astype(float)
PPO = partial(
    ppo_loss, config=CONFIG, clip_low=0.2, clip_high=0.3, value_clip=0.4, value_coefficient=0.5,
    entropy_coefficient=0.01, temperature=0.8, chunk=13,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    critic = {"model": init_params(1, CONFIG), "head": init_head(0, CONFIG)}
    return {"policy": init_params(0, CONFIG), "critic": critic}


@jax.jit
def value_and_gradient(params, batch):
    def loss(params):
        sums = PPO(params, batch)
        return sums.objective, sums

    return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.fixture(scope="module")
def whole(params):
    return value_and_gradient(params, BATCH)


@pytest.fixture(scope="module")
def found(params):
    """Float64 log-probabilities, entropies and values of every token."""

    @jax.jit
    def find(params):
        return *token_log_probs(params["policy"], BATCH.rows, config=CONFIG, temperature=0.8), (
            critic_values(params["critic"], BATCH.rows, config=CONFIG)
        )

    return tuple(np.asarray(x, float) for x in find(params))


def surrogate(log_probs, low, high):
    """The clipped loss of each token, and its ratio, in float64; ratio 1 off the mask."""
    ratio = np.exp(np.where(MASK > 0, log_probs - BATCH.old_log_probs_BT, 0.0))
    gain = np.minimum(
        ratio * BATCH.advantages_BT, np.clip(ratio, 1 - low, 1 + high) * BATCH.advantages_BT
    )
    return -gain, ratio


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.5, 1.0, -1.2, 0.0),  # good and already likelier: held
        (0.5, 1.0, -0.5, -0.5),  # good and less likely: free
        (1.5, -1.0, 1.5, 1.5),  # bad and likelier: free
        (0.5, -1.0, 0.8, 0.0),  # bad and already less likely: held
    ],
)
def test_the_four_sign_cases(ratio, advantage, loss, slope):
    def of(log_prob):
        return clipped_policy_loss(log_prob, jnp.float32(-2.0), jnp.float32(advantage), 0.2, 0.2)

    value, gradient = jax.value_and_grad(of)(jnp.float32(np.log(ratio) - 2.0))
    assert (float(value), float(gradient)) == pytest.approx((loss, slope), rel=1e-5)


def test_the_clip_may_be_wider_above():
    loss = clipped_policy_loss(
        jnp.log(jnp.array([1.5, 0.5])), 0.0, jnp.array([1.0, -1.0]), 0.2, 0.3
    )
    np.testing.assert_allclose(loss, [-1.3, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (0.1, 1.0, 0.405, -0.9),  # within the clip: the plain error
        (0.5, 1.0, 0.32, 0.0),  # nearer than the clip allows: held at 0.2
        (0.5, 0.0, 0.125, 0.5),  # away from its aim: free
        (-0.5, 1.0, 1.125, -1.5),
        (-0.5, -1.0, 0.32, 0.0),
    ],
)
def test_values_are_clipped(value, target, loss, slope):
    """Around an old value of 0, by 0.2."""

    def of(value):
        return clipped_value_loss(value, jnp.float32(0.0), jnp.float32(target), 0.2)

    found, gradient = jax.value_and_grad(of)(jnp.float32(value))
    assert (float(found), float(gradient)) == pytest.approx((loss, slope), rel=1e-5)


def test_rewards_a_token():
    log_probs, reference = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    mask = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    score = np.array([0.3, -1.7, 5.0], np.float32)
    found = np.asarray(token_rewards(score, log_probs, reference, mask, kl_coefficient=0.05))
    wanted = -0.05 * (log_probs.astype(float) - reference) * mask
    wanted[0, 4] += score[0]
    wanted[1, 1] += score[1]
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    assert found.dtype == np.float32
    assert not found[2].any()
    with pytest.raises(TypeError, match="scores are int32"):
        token_rewards(np.array([0, 1, 2]), log_probs, reference, mask, kl_coefficient=0.05)


def test_fractional_rewards_survive_to_the_loss():
    """A score of 0.3 is 0.3 in the loss of every token, not 0."""
    mask, zero = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    rewards = token_rewards(np.array([0.3], np.float32), zero, zero, mask, kl_coefficient=0.1)
    advantages, returns = gae(rewards, zero, mask, gamma=1.0, lam=1.0)
    np.testing.assert_allclose(clipped_policy_loss(zero, zero, advantages, 0.2, 0.2), -0.3)
    np.testing.assert_allclose(clipped_value_loss(zero, zero, returns, 0.2), 0.045, rtol=1e-6)
    with pytest.raises(TypeError, match="advantages are int32"):
        clipped_policy_loss(zero, zero, np.ones((1, 4), np.int32), 0.2, 0.2)
    with pytest.raises(TypeError, match="returns are int32"):
        clipped_value_loss(zero, zero, np.ones((1, 4), np.int32), 0.2)


def test_the_adaptive_coefficient_follows_the_divergence():
    assert adaptive_kl(0.2, 6.0, 6.0) == pytest.approx(0.2)
    assert adaptive_kl(0.2, 6.6, 6.0) == pytest.approx(0.2 * 1.01)
    assert adaptive_kl(0.2, 60.0, 6.0) == pytest.approx(0.2 * 1.02)  # the error is held at 0.2
    assert adaptive_kl(0.2, 0.0, 6.0, gain=0.5) == pytest.approx(0.2 * 0.9)
    with pytest.raises(ValueError, match="target KL is 0"):
        adaptive_kl(0.2, 1.0, 0.0)
    with pytest.raises(ValueError, match="NaN"):
        adaptive_kl(0.2, float("nan"), 6.0)


def test_ppo_by_hand(whole, found):
    _, sums = whole[0]
    log_probs, entropy, values = found
    policy, ratio = surrogate(log_probs, 0.2, 0.3)
    old = BATCH.old_values_BT.astype(float)
    near = old + np.clip(values - old, -0.4, 0.4)
    value = 0.5 * np.maximum((values - BATCH.returns_BT) ** 2, (near - BATCH.returns_BT) ** 2)
    objective = policy + 0.5 * value - 0.01 * entropy
    figures = {
        "policy_loss": policy,
        "value_loss": value,
        "entropy": entropy,
        "ratio": ratio,
        "clip_fraction": policy > -ratio * BATCH.advantages_BT + 1e-9,
        "approximate_kl": ratio - 1 - np.log(ratio),
    }
    assert float(sums.weight) == MASK.sum()
    assert float(sums.objective) == pytest.approx((MASK * objective).sum(), rel=2e-5)
    assert sums.figures.keys() == figures.keys()
    for name, wanted in figures.items():
        assert float(sums.figures[name]) == pytest.approx((MASK * wanted).sum(), rel=5e-5), name
    assert 0 < float(sums.figures["clip_fraction"]) < MASK.sum()


def test_ppo_of_halves_adds_up(params, whole):
    one, two = (value_and_gradient(params, piece(BATCH, s)) for s in (np.s_[:4], np.s_[4:]))
    assert_close(jax.tree.map(jnp.add, one, two), whole, share=2e-5)


def test_ppo_on_a_mesh_finds_what_one_device_finds(params, whole):
    mesh = make_mesh(MeshConfig(2, 1, 2, 2))
    model = param_shardings(CONFIG, mesh)
    head = spec_shardings(head_specs(CONFIG), mesh)
    places = {"policy": model, "critic": {"model": model, "head": head}}
    with jax.set_mesh(mesh):
        on_eight = value_and_gradient(jax.device_put(params, places), on_mesh(BATCH, mesh))
    assert_close(on_eight, whole, share=2e-5)


def test_adapters_of_policy_and_critic_share_one_base(params):
    """Fresh adapters change nothing, so against its own log-probabilities the ratio is 1."""
    lora = LoraConfig(rank=2)
    base = params["policy"]
    adapter = init_adapter(0, base, CONFIG, lora)
    trained = {"policy": adapter, "critic": {"model": adapter, "head": params["critic"]["head"]}}

    @jax.jit
    def loss(trained, base, batch):
        old = token_log_probs(base, batch.rows, config=CONFIG, temperature=0.8).log_probs_BT
        frozen = {"policy": base, "critic": base}
        return PPO(trained, batch.replace(old_log_probs_BT=old), lora=lora, frozen=frozen)

    sums = loss(trained, base, BATCH)
    assert float(sums.figures["ratio"] / sums.weight) == pytest.approx(1, abs=1e-5)
    assert float(sums.figures["clip_fraction"]) == 0
    with pytest.raises(ValueError, match="give frozen="):
        PPO(trained, BATCH, lora=lora)
    with pytest.raises(ValueError, match="PPO needs returns_BT and old_values_BT"):
        PPO(params, BATCH.replace(returns_BT=None))


@pytest.mark.parametrize("normalisation", ["token", "sequence", "constant"])
def test_normalisations_by_hand(params, found, normalisation):
    """DAPO, GRPO and Dr. GRPO; an answer that is left out counts for nothing."""
    kept = BATCH.rows.loss_mask.copy()
    kept[2] = 0
    batch = BATCH.replace(rows=BATCH.rows.replace(loss_mask=kept))
    sums = jax.jit(
        partial(
            policy_gradient_loss, config=CONFIG, clip_high=0.3, kl_coefficient=0.05,
            normalisation=normalisation, length=10, temperature=0.8,
        )
    )(params["policy"], batch)  # fmt: skip
    log_probs, entropy, _ = found
    policy, _ = surrogate(log_probs, 0.2, 0.3)
    log_ratio = np.where(MASK > 0, log_probs - BATCH.reference_BT, 0.0)
    kl = np.exp(-log_ratio) - 1 + log_ratio
    counts = kept.sum(1)
    answers = [i for i in range(len(kept)) if counts[i]]
    assert len(answers) == len(kept) - 1
    totals = (kept * (policy + 0.05 * kl)).sum(1)
    wanted = {
        "token": totals.sum() / counts.sum(),
        "sequence": np.mean([totals[i] / counts[i] for i in answers]),
        "constant": np.mean([totals[i] / 10 for i in answers]),
    }[normalisation]
    assert float(sums.objective / sums.weight) == pytest.approx(wanted, rel=5e-5)
    shares = (kept * entropy).sum(1)
    entropy = (
        shares.sum() / counts.sum()
        if normalisation == "token"
        else np.mean([shares[i] / counts[i] for i in answers])
    )
    assert float(sums.figures["entropy"] / sums.weight) == pytest.approx(entropy, rel=1e-5)
    assert {"reference_kl", "clip_fraction", "ratio"} < sums.figures.keys()


def test_groups_with_equal_rewards_have_no_gradient(params):
    rewards = np.array([0.1] * 4 + [1.0, 0.0, 0.0, 0.0], np.float32)

    @jax.jit
    def gradient(policy, advantages):
        batch = BATCH.replace(
            advantages_BT=jnp.broadcast_to(advantages[:, None], BATCH.advantages_BT.shape)
        )

        def loss(policy):
            return policy_gradient_loss(policy, batch, config=CONFIG).objective

        return jax.grad(loss)(policy)

    for equal in (
        group_advantages(rewards, 4, scale=True),
        group_advantages(rewards, 4, scale=False),
        leave_one_out(rewards, 4),
    ):
        nothing = gradient(params["policy"], equal.at[4:].set(0.0))
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(nothing))
        something = gradient(params["policy"], equal)
        assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(something))


def test_rloo_at_the_first_pass_has_the_gradient_of_reinforce(params):
    """The sum of an answer's log-probabilities times its advantage, over answers."""
    advantages = leave_one_out(np.linspace(0, 1, 8, dtype=np.float32) ** 2, 4)

    @jax.jit
    def gradients(policy):
        def log_probs(policy):
            return token_log_probs(policy, BATCH.rows, config=CONFIG).log_probs_BT

        batch = BATCH.replace(
            old_log_probs_BT=log_probs(policy),
            advantages_BT=jnp.broadcast_to(advantages[:, None], MASK.shape),
            reference_BT=None,
        )

        def ours(policy):
            sums = policy_gradient_loss(
                policy, batch, config=CONFIG, normalisation="constant", length=1
            )
            return sums.objective / sums.weight

        def reinforce(policy):
            answers_B = jnp.sum(log_probs(policy) * BATCH.rows.loss_mask, axis=1)
            return -jnp.mean(advantages * answers_B)

        return jax.grad(ours)(policy), jax.grad(reinforce)(policy)

    assert_close(*gradients(params["policy"]))


def test_old_log_probabilities_off_the_mask_are_not_read(found):
    """However unlikely, they overflow nothing."""
    mask = BATCH.rows.loss_mask
    wild = np.where(mask > 0, BATCH.old_log_probs_BT, np.float32(-1e4))
    known = TokenLogProbs(*(jnp.asarray(x, jnp.float32) for x in found[:2]))
    terms = [
        policy_term(known, batch, clip_low=0.2, clip_high=0.2)
        for batch in (BATCH, BATCH.replace(old_log_probs_BT=wild))
    ]
    np.testing.assert_array_equal(*(mask * term.loss_BT for term in terms))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"normalisation": "tokens"}, r"'tokens' \(did you mean 'token'\?\)"),
        ({"normalisation": "constant"}, "length is None"),
    ],
)
def test_bad_normalisations_are_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        token_weights(jnp.ones((2, 3)), **arguments)


def test_a_penalty_without_a_reference_is_refused(params):
    with pytest.raises(ValueError, match="reference_BT"):
        policy_gradient_loss(
            params["policy"], BATCH.replace(reference_BT=None), config=CONFIG, kl_coefficient=0.1
        )
