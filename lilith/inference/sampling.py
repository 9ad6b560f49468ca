"""Choosing the next token: penalties, filters, and a draw that depends on a row's seed alone."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lilith.config import UserError
from lilith.sharding import ShardingRules, constrain


@flax.struct.dataclass
class Controls:
    """How each row's tokens are chosen.

    Attributes:
      seed_B: uint32; a row's draws depend on it and on how many tokens the row has generated.
      temperature_B: 0 takes the likeliest token.
      top_k_B: int32; only the k likeliest tokens, ties included; 0 for all.
      top_p_B: only the likeliest tokens that together reach this probability; 1 for all.
      min_p_B: only tokens at least this likely relative to the likeliest; 0 for all.
      repetition_penalty_B: logits of tokens seen in the row are divided by it if positive and
        multiplied if negative (Keskar et al. 2019); 1 for none.
      stop_BM: int32 ids that end a row, padded with -1.

    The filters act in that order on the distribution at the row's temperature, each on what the
    one before has left.
    """

    seed_B: Any
    temperature_B: Any
    top_k_B: Any
    top_p_B: Any
    min_p_B: Any
    repetition_penalty_B: Any
    stop_BM: Any


def make_controls(
    rows: int,
    *,
    seeds: Any = 0,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop_ids: tuple[int, ...] = (),
) -> Controls:
    """The same controls for ``rows`` rows, checked; ``seeds`` is one number or one a row.

    Raises:
      UserError: a value outside its range, with the range.
    """
    for name, value, right, must in (
        ("temperature", temperature, temperature >= 0, "at least 0 (0 takes the likeliest token)"),
        ("top_k", top_k, top_k >= 0 and top_k == int(top_k), "a whole number, 0 for all tokens"),
        ("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1 (1 for all tokens)"),
        ("min_p", min_p, 0 <= min_p <= 1, "between 0 (for all tokens) and 1"),
        ("repetition_penalty", repetition_penalty, repetition_penalty > 0, "above 0 (1 for none)"),
    ):
        if not (np.isfinite(value) and right):
            raise UserError(f"{name} is {value}; it must be {must}")
    stop = np.full((rows, max(4, len(stop_ids))), -1, np.int32)
    stop[:, : len(stop_ids)] = stop_ids

    def each(value: float, dtype: Any) -> np.ndarray:
        return np.full((rows,), value, dtype)

    return Controls(
        seed_B=np.broadcast_to(np.asarray(seeds, np.int64), (rows,)).astype(np.uint32),
        temperature_B=each(temperature, np.float32),
        top_k_B=each(top_k, np.int32),
        top_p_B=each(top_p, np.float32),
        min_p_B=each(min_p, np.float32),
        repetition_penalty_B=each(repetition_penalty, np.float32),
        stop_BM=stop,
    )


def choose(
    logits_BV: jax.Array,
    seen_BV: jax.Array,
    count_B: jax.Array,
    controls: Controls,
    *,
    vocab: int | None,
    rules: ShardingRules,
    allowed_BW: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The next id of each row, and its log-probability under the unmodified distribution.

    Args:
      logits_BV: float32.
      seen_BV: which ids the row already holds.
      count_B: how many tokens the row has generated; with its seed it fixes the draw.
      vocab: only ids below it are chosen: a model may have more than its tokenizer. None: all.
      allowed_BW: uint32; only ids whose bit is set are chosen, 32 a number, lowest bit first. Ids
        past the last number are not. None: all.

    Returns:
      int32 ids [B] and float32 log-probabilities [B].
    """
    logits_BV = constrain(logits_BV, rules, "batch", None)
    size = logits_BV.shape[1]
    penalty_B1 = controls.repetition_penalty_B[:, None]
    penalised_BV = jnp.where(logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1)
    scores_BV = jnp.where(seen_BV, penalised_BV, logits_BV)
    if vocab is not None and vocab < size:
        scores_BV = jnp.where(jnp.arange(size) < vocab, scores_BV, -jnp.inf)
    if allowed_BW is not None:
        scores_BV = jnp.where(_unpacked(allowed_BW, size), scores_BV, -jnp.inf)
    scores_BV = jax.lax.cond(
        jnp.any(controls.temperature_B > 0),
        lambda scores: _draw_scores(scores, count_B, controls, rules),
        lambda scores: scores,
        scores_BV,
    )
    chosen_B = _argmax(scores_BV)
    at_chosen_B = jnp.take_along_axis(logits_BV, chosen_B[:, None], axis=1)[:, 0]
    return chosen_B, at_chosen_B - jax.nn.logsumexp(logits_BV, axis=-1)


def _unpacked(bits_BW: jax.Array, size: int) -> jax.Array:
    """One boolean an id, [B, size]."""
    bits_BW3 = bits_BW[:, :, None] >> jnp.arange(32, dtype=jnp.uint32) & 1
    flat_BV = bits_BW3.reshape(len(bits_BW), -1)[:, :size] > 0
    return jnp.pad(flat_BV, ((0, 0), (0, size - flat_BV.shape[1])))


def _argmax(scores_BV: jax.Array) -> jax.Array:
    """The first place of each row's maximum, int32: two passes, which XLA's CPU backend makes wide.

    Its own argmax takes ten times as long there. A row with a NaN gives the last place.
    """
    size = scores_BV.shape[1]
    most_B1 = jnp.max(scores_BV, axis=1, keepdims=True)
    places_BV = jnp.where(scores_BV == most_B1, jnp.arange(size, dtype=jnp.int32), size - 1)
    return jnp.min(places_BV, axis=1)


def _draw_scores(
    scores_BV: jax.Array, count_B: jax.Array, controls: Controls, rules: ShardingRules
) -> jax.Array:
    """Scores whose argmax is a draw from softmax(filtered scores / temperature), or greedy at 0."""
    sampled_B1 = controls.temperature_B[:, None] > 0
    heat_B1 = jnp.where(sampled_B1, controls.temperature_B[:, None], 1.0)
    filters = (controls.top_k_B > 0) | (controls.top_p_B < 1) | (controls.min_p_B > 0)
    kept_BV = jax.lax.cond(
        jnp.any(filters),
        lambda scores: _filtered(scores, controls),
        lambda scores: scores,
        scores_BV / heat_B1,
    )
    keys_B = jax.vmap(lambda seed, count: jax.random.fold_in(jax.random.key(seed), count))(
        controls.seed_B, count_B
    )
    # argmax(log p + Gumbel noise) is a draw from p.
    noise_BV = jax.vmap(lambda key: jax.random.gumbel(key, scores_BV.shape[1:]))(keys_B)
    noise_BV = constrain(noise_BV, rules, "batch", None)
    return jnp.where(sampled_B1, kept_BV + noise_BV, scores_BV)


def _filtered(scores_BV: jax.Array, controls: Controls) -> jax.Array:
    """Scores with those outside top-k, top-p and min-p at minus infinity."""
    size = scores_BV.shape[1]
    order_BV = _ordered(scores_BV)
    wanted_B = jnp.where(controls.top_k_B > 0, jnp.minimum(controls.top_k_B, size), size)
    floor_B = _largest(lambda t_B1: jnp.sum(order_BV >= t_B1, axis=1) >= wanted_B, order_BV)
    scores_BV = jnp.where(order_BV >= floor_B[:, None], scores_BV, -jnp.inf)

    probabilities_BV = jax.nn.softmax(scores_BV, axis=-1)
    order_BV = _ordered(probabilities_BV)
    # Sums round: a target of 1 must not ask for more than there is.
    target_B = jnp.minimum(controls.top_p_B, jnp.sum(probabilities_BV, axis=1))

    def reaches(t_B1: jax.Array) -> jax.Array:
        return jnp.sum(probabilities_BV, axis=1, where=order_BV >= t_B1) >= target_B

    floor_B = jnp.where(controls.top_p_B < 1, _largest(reaches, order_BV), 0)
    scores_BV = jnp.where(order_BV >= floor_B[:, None], scores_BV, -jnp.inf)

    most_B1 = jnp.max(probabilities_BV, axis=1, keepdims=True)
    likely_BV = probabilities_BV >= controls.min_p_B[:, None] * most_B1
    return jnp.where(likely_BV, scores_BV, -jnp.inf)


def _ordered(x: jax.Array) -> jax.Array:
    """Int32 keys in the order of the float32 numbers."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, jnp.int32(-(2**31)) - bits, bits)


def _largest(holds: Any, order_BV: jax.Array) -> jax.Array:
    """The largest key [B] at which ``holds(key [B, 1])`` is true, by bisection over all int32.

    Exact, and 32 passes over the row are far cheaper than sorting a vocabulary.
    """
    least_B = jnp.min(order_BV, axis=1)  # true there
    most_B = jnp.max(order_BV, axis=1)

    def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_B, high_B = ends
        middle_B = (low_B | high_B) - ((low_B ^ high_B) >> 1)  # their mean, rounded up
        good_B = holds(middle_B[:, None])
        return jnp.where(good_B, middle_B, low_B), jnp.where(good_B, high_B, middle_B - 1)

    return jax.lax.fori_loop(0, 32, halve, (least_B, most_B))[0]
