"""Choosing tokens: the filters against their definitions by sorting, penalties, the checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import UserError
from lilith.inference.sampling import Controls, _filtered, choose, make_controls
from lilith.sharding import DEFAULT_RULES

VOCAB = 50
LOGITS = 3 * np.random.default_rng(0).standard_normal((4, VOCAB)).astype(np.float32)


def probabilities(logits):
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def kept_by_definition(logits, top_k, top_p, min_p):
    """Indices left by the three filters in turn, by sorting."""
    left = np.argsort(-logits, kind="stable")[: top_k or None]
    mass = probabilities(logits[left])
    if top_p < 1:
        count = int(np.argmax(np.cumsum(mass) >= top_p)) + 1
        left, mass = left[:count], mass[:count]
    return set(left[mass >= min_p * mass[0]].tolist())


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [(0, 0.9, 0.0), (5, 1.0, 0.0), (0, 1.0, 0.1), (1, 1.0, 0.0), (0, 1e-6, 0.0), (20, 0.7, 0.05)],
)
def test_filters_keep_what_their_definitions_keep(top_k, top_p, min_p):
    controls = make_controls(4, temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
    found = np.asarray(jax.jit(_filtered)(LOGITS, controls))
    for row, logits in zip(found, LOGITS):
        kept = set(np.flatnonzero(np.isfinite(row)).tolist())
        assert kept == kept_by_definition(logits, top_k, top_p, min_p)
        np.testing.assert_array_equal(row[list(kept)], logits[list(kept)])


def test_each_row_has_its_own_controls():
    many = make_controls(4, temperature=1.0)
    mixed = Controls(**{**vars(many), "top_k_B": np.array([1, 0, 3, VOCAB], np.int32)})
    found = np.isfinite(np.asarray(_filtered(LOGITS, mixed))).sum(axis=1)
    assert found.tolist() == [1, VOCAB, 3, VOCAB]


def draw(controls, logits=LOGITS, seen=None, count=0, vocab=None):
    rows = len(logits)
    seen = np.zeros((rows, VOCAB), bool) if seen is None else seen
    count = np.full((rows,), count, np.int32)
    chosen, log_probs = choose(
        jnp.asarray(logits), seen, count, controls, vocab=vocab, rules=DEFAULT_RULES
    )
    return np.asarray(chosen), np.asarray(log_probs)


def test_log_probabilities_are_of_the_unmodified_distribution():
    controls = make_controls(4, temperature=2.0, top_k=3, repetition_penalty=1.5)
    chosen, log_probs = draw(controls, seen=np.ones((4, VOCAB), bool))
    for i, token in enumerate(chosen):
        assert log_probs[i] == pytest.approx(np.log(probabilities(LOGITS[i])[token]), abs=1e-5)


def test_a_penalty_lowers_what_was_seen():
    best = LOGITS.argmax(axis=1)
    seen = np.zeros((4, VOCAB), bool)
    seen[np.arange(4), best] = True
    chosen, _ = draw(make_controls(4, repetition_penalty=100.0), seen=seen)
    assert (chosen != best).all()
    # Negative logits are multiplied: dividing would raise them.
    low = np.full((1, VOCAB), -1.0, np.float32)
    low[0, 7], low[0, 8] = -0.5, -0.6
    first = np.zeros((1, VOCAB), bool)
    first[0, 7] = True
    assert draw(make_controls(1, repetition_penalty=2.0), low, first)[0] == [8]


def test_only_the_tokenizers_ids_are_chosen():
    chosen, _ = draw(make_controls(4), vocab=10)
    assert (chosen == LOGITS[:, :10].argmax(axis=1)).all()
    heated = [draw(make_controls(4, temperature=9.0, seeds=s), vocab=10)[0] for s in range(40)]
    assert np.max(heated) < 10


def test_draws_follow_the_heated_distribution():
    rows = 4000
    logits = np.repeat(LOGITS[:1], rows, axis=0)
    controls = make_controls(rows, seeds=np.arange(rows), temperature=1.7, top_p=0.8)
    chosen, _ = draw(controls, logits)
    heated = LOGITS[0] / 1.7
    kept = list(kept_by_definition(heated, 0, 0.8, 0.0))
    expected = np.zeros(VOCAB)
    expected[kept] = probabilities(heated[kept])
    counts = np.bincount(chosen, minlength=VOCAB)
    assert (np.abs(counts - rows * expected) <= 5 * np.sqrt(rows * expected) + 1e-9).all()


def test_a_draw_depends_on_the_seed_and_the_count():
    logits = np.zeros((200, VOCAB), np.float32)
    a, b, c = (
        draw(make_controls(200, seeds=np.arange(200) + seed, temperature=1.0), logits, count=n)[0]
        for seed, n in ((0, 0), (0, 1), (1, 0))
    )
    assert (a != b).any()
    np.testing.assert_array_equal(a[1:], c[:-1])  # by the seed alone, not by the row


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("temperature", -0.1, "temperature is -0.1; it must be at least 0"),
        ("temperature", float("nan"), "temperature is nan"),
        ("top_k", -1, "top_k is -1"),
        ("top_k", 1.5, "a whole number"),
        ("top_p", 0.0, "above 0 and at most 1"),
        ("top_p", 1.1, "top_p is 1.1"),
        ("min_p", 2.0, "min_p is 2.0"),
        ("repetition_penalty", 0.0, "above 0"),
        ("repetition_penalty", float("inf"), "repetition_penalty is inf"),
    ],
)
def test_controls_out_of_range_are_named(name, value, says):
    with pytest.raises(UserError, match=says):
        make_controls(1, **{name: value})


def test_only_allowed_ids_are_chosen_and_log_probs_stay_the_models():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 70)), jnp.float32)
    words = np.zeros((3, 3), np.uint32)
    for row, ids in enumerate(([0, 69], [31, 32], [64])):
        for index in ids:
            words[row, index // 32] |= np.uint32(1 << (index % 32))
    true = jax.nn.log_softmax(logits)
    for temperature, filters in ((0.0, {}), (2.0, {}), (1.0, {"top_p": 0.5, "top_k": 1})):
        controls = make_controls(3, seeds=np.arange(3), temperature=temperature, **filters)
        seen = jnp.zeros((3, 70), bool)
        ids, log_probs = choose(
            logits, seen, jnp.zeros(3, jnp.int32), controls, vocab=None, rules=DEFAULT_RULES,
            allowed_BW=jnp.asarray(words),
        )  # fmt: skip
        assert int(ids[0]) in (0, 69)
        assert int(ids[1]) in (31, 32)
        assert int(ids[2]) == 64
        np.testing.assert_allclose(log_probs, true[jnp.arange(3), ids], rtol=1e-6)
    controls = make_controls(3)
    wide = jnp.pad(logits, ((0, 0), (0, 60)), constant_values=50.0)  # ids that no word speaks of
    ids, _ = choose(
        wide, jnp.zeros((3, 130), bool), jnp.zeros(3, jnp.int32), controls, vocab=None,
        rules=DEFAULT_RULES, allowed_BW=jnp.full((3, 3), 0xFFFFFFFF, jnp.uint32),
    )  # fmt: skip
    assert int(ids.max()) < 96
