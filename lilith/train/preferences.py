"""Pairs of answers, the rows that a model reads of them, and the sums that their losses give.

In names of arrays P is a pair, S its side (0 chosen, 1 rejected), T a token and B a row.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from lilith.sharding import ShardingRules, constrain
from lilith.train.state import Batch


@flax.struct.dataclass
class PairBatch:
    """Pairs of whole conversations, padded with 0 on the right.

    Attributes:
      tokens_PST: int32 ids; T is one more than the tokens of a row, whose last is only a target.
      learnt_PST: float32, 1 at the tokens that are learnt (the final answers), 0 elsewhere.
      length_PS: int32 real tokens of each side.
      label_P: float32 probability that the chosen side is the better one; 1 is a hard label.
      margin_P: float32 by how much the chosen side should win (Bradley-Terry), 0 for none.
      weight_P: float32 1, or 0 for a pair that only fills up a batch.
      reference_PS: float32 sum of the learnt tokens' log-probabilities under the reference model
        (DPO); 0 where unused.
    """

    tokens_PST: jax.Array
    learnt_PST: jax.Array
    length_PS: jax.Array
    label_P: jax.Array
    margin_P: jax.Array
    weight_P: jax.Array
    reference_PS: jax.Array


class LossSums(NamedTuple):
    """Sums of a loss over a batch, float32 scalars; sums of its pieces are those of the whole.

    Attributes:
      objective: what is minimised; only this one is differentiable.
      nll: the loss that is reported, without added terms such as penalties.
      weight: what the others are divided by for means.
      figures: more sums to report, by name.
    """

    objective: jax.Array
    nll: jax.Array
    weight: jax.Array
    figures: dict[str, jax.Array]


def loss_sums(
    objective: jax.Array,
    nll: jax.Array,
    weights: jax.Array,
    weight: jax.Array,
    figures: dict[str, jax.Array],
    figure_weights: jax.Array | None = None,
) -> LossSums:
    """The weighted sums of elementwise losses and figures; ``weight`` is what makes them means.

    ``figure_weights`` are those of the figures, where they are not ``weights``.
    """
    own = weights if figure_weights is None else figure_weights
    reported = {name: jnp.sum(own * x) for name, x in figures.items()}
    nll, weight, reported = jax.lax.stop_gradient((jnp.sum(weights * nll), weight, reported))
    return LossSums(jnp.sum(weights * objective), nll, weight, reported)


def lay_out_pairs(pairs: PairBatch, rules: ShardingRules) -> PairBatch:
    """``pairs`` split over the mesh by pairs alone."""
    return jax.tree.map(lambda x: constrain(x, rules, "batch", *[None] * (x.ndim - 1)), pairs)


def pair_rows(pairs: PairBatch) -> Batch:
    """The 2P rows [2P, T - 1] of a batch of pairs, the sides of a pair next to each other.

    ``loss_mask`` is 1 at the learnt targets; it does not know of ``weight_P``.
    """
    length = pairs.tokens_PST.shape[2]
    tokens_BT = pairs.tokens_PST.reshape(-1, length)
    learnt_BT = pairs.learnt_PST.reshape(-1, length)
    place_BT = jnp.broadcast_to(
        jnp.arange(length - 1, dtype=jnp.int32), (len(tokens_BT), length - 1)
    )
    real_BT = place_BT + 1 < pairs.length_PS.reshape(-1)[:, None]  # the target is a real token
    return Batch(
        tokens=tokens_BT[:, :-1],
        targets=tokens_BT[:, 1:],
        segment_ids=real_BT.astype(jnp.int32),
        positions=place_BT,
        loss_mask=learnt_BT[:, 1:] * real_BT,
    )


def won(difference_P: jax.Array, label_P: jax.Array) -> jax.Array:
    """1 where the side that the label prefers is ahead, 0 where it is behind, 1/2 for a tie."""
    return 0.5 * (1.0 + jnp.sign(difference_P) * jnp.sign(label_P - 0.5))
