"""Reward models and DPO: golden numbers by hand in float64, pieces of batches, meshes."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from preference_cases import CONFIG, assert_close, on_mesh, piece, random_pairs

from lilith.config import MeshConfig
from lilith.model.params import init_params, param_shardings, spec_shardings
from lilith.sharding import make_mesh
from lilith.train.dpo import dpo_loss, preference_loss
from lilith.train.log_probs import sequence_log_probs
from lilith.train.preferences import pair_rows
from lilith.train.reward import (
    bradley_terry,
    head_specs,
    init_head,
    reward_loss,
    reward_scores,
)

PAIRS = random_pairs()
CENTRING = 0.1


@pytest.fixture(scope="module")
def params():
    return {"model": init_params(0, CONFIG), "head": init_head(0, CONFIG)}


def both_losses(params, pairs):
    """The objective of a reward model and of DPO at once, and all their sums."""
    reward = reward_loss(params, pairs, config=CONFIG, centring=CENTRING)
    dpo = dpo_loss(params["model"], pairs, config=CONFIG, sft=0.5, chunk=13)
    return reward.objective + dpo.objective, (reward, dpo)


value_and_gradient = jax.jit(jax.value_and_grad(both_losses, has_aux=True))


@pytest.fixture(scope="module")
def whole(params):
    return value_and_gradient(params, PAIRS)


@pytest.fixture(scope="module")
def log_probs(params):
    """Float64 log-probabilities [P, S] of the learnt tokens."""
    found = jax.jit(partial(sequence_log_probs, config=CONFIG))(params["model"], pair_rows(PAIRS))
    return np.asarray(found, float).reshape(-1, 2)


@pytest.fixture(scope="module")
def rewards(params):
    """Float64 rewards [P, S]."""
    flat = PAIRS.tokens_PST.reshape(-1, PAIRS.tokens_PST.shape[2]), PAIRS.length_PS.reshape(-1)
    found = jax.jit(partial(reward_scores, config=CONFIG))(params, *flat)
    return np.asarray(found, float).reshape(-1, 2)


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, float))


def mean_of(sums, name):
    return float(sums.figures[name] / sums.weight)


def test_bradley_terry_at_eighty():
    """Neither the loss nor its gradient overflows or vanishes."""
    margins = jnp.array([80.0, -80.0, 0.0])
    loss = bradley_terry(margins, jnp.ones(3), jnp.zeros(3))
    np.testing.assert_allclose(loss, softplus([-80, 80, 0]), rtol=1e-6)
    assert float(loss[0]) == pytest.approx(1.8048513878454153e-35, rel=1e-5)
    slope = jax.grad(lambda x: bradley_terry(x, jnp.ones(3), jnp.zeros(3)).sum())(margins)
    np.testing.assert_allclose(slope, [-1.8048513878454153e-35, -1.0, -0.5], rtol=1e-5)


def test_soft_labels_and_margins_by_hand():
    difference, label, margin = (np.array(x, np.float32) for x in ([2, -1], [0.7, 0.1], [0.5, 2]))
    logit = np.array([1.5, -3.0])
    wanted = label * softplus(-logit) + (1 - label) * softplus(logit)
    np.testing.assert_allclose(bradley_terry(difference, label, margin), wanted, rtol=1e-6)


def test_rows_of_pairs():
    rows = pair_rows(PAIRS)
    assert rows.tokens.shape == (16, 12)
    np.testing.assert_array_equal(rows.tokens[3], PAIRS.tokens_PST[1, 1, :-1])
    np.testing.assert_array_equal(rows.targets[3], PAIRS.tokens_PST[1, 1, 1:])
    np.testing.assert_array_equal(rows.loss_mask[3], PAIRS.learnt_PST[1, 1, 1:])
    assert rows.segment_ids[3].sum() == PAIRS.length_PS[1, 1] - 1
    assert rows.positions[3].tolist() == list(range(12))


def test_a_head_starts_with_the_stated_deviation():
    config = dataclasses.replace(CONFIG, d_model=4096)
    head = init_head(3, config)
    assert float(head["weight"].std()) == pytest.approx(4097**-0.5, rel=0.05)
    assert (head["weight"].dtype, float(head["bias"])) == (jnp.float32, 0.0)


def test_reward_loss_by_hand(whole, rewards):
    _, (sums, _) = whole[0]
    chosen, rejected = rewards.T
    difference, label = chosen - rejected, PAIRS.label_P.astype(float)
    logit = difference - PAIRS.margin_P
    nll = label * softplus(-logit) + (1 - label) * softplus(logit)
    assert float(sums.nll) == pytest.approx(nll.sum(), rel=1e-5)
    objective = nll + CENTRING * (chosen + rejected) ** 2
    assert float(sums.objective) == pytest.approx(objective.sum(), rel=1e-5)
    assert float(sums.weight) == len(label)
    assert mean_of(sums, "accuracy") == np.mean((difference > 0) == (label > 0.5))
    assert mean_of(sums, "chosen_reward") == pytest.approx(chosen.mean(), rel=1e-4)
    assert mean_of(sums, "rejected_reward") == pytest.approx(rejected.mean(), rel=1e-4)
    assert mean_of(sums, "reward_margin") == pytest.approx(difference.mean(), rel=1e-4)


def test_rewards_do_not_depend_on_padding_or_company(params, rewards):
    """The last real token is read, alone as in a full batch, and whatever follows it."""
    score = jax.jit(partial(reward_scores, config=CONFIG))
    for pair, side in ((0, 0), (5, 1)):
        size = int(PAIRS.length_PS[pair, side])
        tokens = PAIRS.tokens_PST[pair, side]
        junk = np.where(np.arange(len(tokens)) < size, tokens, 7)[None]
        alone = score(params, junk, np.array([size]))
        assert alone.dtype == jnp.float32
        assert float(alone[0]) == pytest.approx(rewards[pair, side], rel=2e-6)


def test_a_tie_counts_half_and_rewards_are_float32_in_bfloat16(params):
    config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    tied = PAIRS.replace(
        tokens_PST=np.repeat(PAIRS.tokens_PST[:, :1], 2, 1),
        length_PS=np.repeat(PAIRS.length_PS[:, :1], 2, 1),
        margin_P=np.zeros_like(PAIRS.margin_P),
    )
    sums = jax.jit(partial(reward_loss, config=config))(params, tied)
    assert mean_of(sums, "accuracy") == 0.5
    assert float(sums.nll / sums.weight) == pytest.approx(np.log(2), rel=1e-6)
    assert {x.dtype for x in jax.tree.leaves(sums)} == {jnp.dtype("float32")}


def test_dpo_at_zero_difference_is_log_2_with_half_beta_as_gradient():
    def loss(x):
        return preference_loss(x, jnp.ones(()), beta=0.3)

    value, slope = jax.value_and_grad(loss)(jnp.zeros(()))
    assert float(value) == pytest.approx(np.log(2), rel=1e-6)
    assert float(slope) == pytest.approx(-0.3 / 2, rel=1e-6)


def test_dpo_of_the_reference_itself(params, log_probs):
    """Log 2 a pair, and the gradient pulls at the answers' log-probabilities by half of beta."""
    same = PAIRS.replace(
        reference_PS=log_probs.astype(np.float32), label_P=np.ones_like(PAIRS.label_P)
    )

    @jax.jit
    def gradients(model):
        def difference(model):
            found = sequence_log_probs(model, pair_rows(same), config=CONFIG).reshape(-1, 2)
            return jnp.sum(found[:, 0] - found[:, 1])

        def loss(model):
            sums = dpo_loss(model, same, config=CONFIG, beta=0.3)
            return sums.objective, sums

        _, sums = loss(model)
        return sums, jax.grad(loss, has_aux=True)(model)[0], jax.grad(difference)(model)

    sums, found, pull = gradients(params["model"])
    assert float(sums.objective / sums.weight) == pytest.approx(np.log(2), rel=1e-5)
    assert_close(found, jax.tree.map(lambda x: -0.15 * x, pull), share=1e-4)


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_dpo_by_hand(params, log_probs, kind):
    """Soft labels, conservative smoothing and the chosen answers' likelihood with it."""
    beta, smoothing, sft = 0.7, 0.1, 0.25
    found = jax.jit(
        partial(dpo_loss, config=CONFIG, kind=kind, beta=beta, label_smoothing=smoothing, sft=sft)
    )(params["model"], PAIRS)
    count = (PAIRS.learnt_PST * (np.arange(13) > 0)).sum(2)
    ratio = log_probs - PAIRS.reference_PS
    label = PAIRS.label_P * (1 - smoothing) + (1 - PAIRS.label_P) * smoothing
    if kind == "ipo":
        ratio = ratio / count
        difference = ratio[:, 0] - ratio[:, 1]
        aim = 1 / (2 * beta)
        losses = label * (difference - aim) ** 2 + (1 - label) * (difference + aim) ** 2
    else:
        difference = ratio[:, 0] - ratio[:, 1]
        losses = label * softplus(-beta * difference) + (1 - label) * softplus(beta * difference)
    likelihood = -log_probs[:, 0] / count[:, 0]
    assert float(found.nll) == pytest.approx(losses.sum(), rel=1e-5)
    assert float(found.objective) == pytest.approx((losses + sft * likelihood).sum(), rel=1e-5)
    assert mean_of(found, "accuracy") == np.mean((difference > 0) == (PAIRS.label_P > 0.5))
    assert mean_of(found, "margin") == pytest.approx(beta * difference.mean(), rel=1e-4)
    assert mean_of(found, "chosen_log_prob") == pytest.approx(log_probs[:, 0].mean(), rel=1e-5)
    assert mean_of(found, "rejected_log_prob") == pytest.approx(log_probs[:, 1].mean(), rel=1e-5)
    assert mean_of(found, "sft_loss") == pytest.approx(likelihood.mean(), rel=1e-5)


def test_halves_add_up_to_the_whole_and_a_filler_to_nothing(params, whole):
    one, two = (value_and_gradient(params, piece(PAIRS, s)) for s in (np.s_[:4], np.s_[4:]))
    assert_close(jax.tree.map(jnp.add, one, two), whole)
    gone = np.zeros_like(PAIRS.weight_P)
    gone[:4] = 1
    assert_close(value_and_gradient(params, PAIRS.replace(weight_P=gone)), one)


def test_a_mesh_finds_what_one_device_finds(params, whole):
    """Conversations of 13 tokens do not divide over a context of two."""
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, context=2, tensor=2))
    places = {
        "model": param_shardings(CONFIG, mesh),
        "head": spec_shardings(head_specs(CONFIG), mesh),
    }
    with jax.set_mesh(mesh):
        found = value_and_gradient(jax.device_put(params, places), on_mesh(PAIRS, mesh))
    assert_close(found, whole)


def test_an_unknown_kind_is_refused_in_words():
    with pytest.raises(ValueError, match=r"'ip' \(did you mean 'ipo'\?\); known: sigmoid, ipo"):
        preference_loss(jnp.zeros(1), jnp.ones(1), beta=0.1, kind="ip")
