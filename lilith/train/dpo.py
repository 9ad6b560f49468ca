"""Direct preference optimisation: the policy learns preferences itself, with no reward model."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig, nearest
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain
from lilith.train.log_probs import sequence_log_probs
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.preferences import (
    LossSums,
    PairBatch,
    lay_out_pairs,
    loss_sums,
    pair_rows,
    won,
)
from lilith.train.reward import bradley_terry

DPO_KINDS = ("sigmoid", "ipo")


def preference_loss(
    difference_P: jax.Array, label_P: jax.Array, *, beta: float, kind: str = "sigmoid"
) -> jax.Array:
    """The loss of each pair from how much further the chosen side rose than the rejected one.

    Args:
      difference_P: log-ratio to the reference of the chosen side less that of the rejected one; for
        ``"ipo"`` of means per token.
      label_P: probability that the chosen side is the better one.
      kind: ``"sigmoid"``, Rafailov et al. 2023, equation 7; ``"ipo"``, Azar et al. 2023, equation
        17, whose tau is ``beta``.

    Raises:
      ValueError: an unknown ``kind``.
    """
    if kind == "sigmoid":
        return bradley_terry(beta * difference_P, label_P)
    if kind == "ipo":
        aim = 1.0 / (2.0 * beta)
        wins_P, loses_P = jnp.square(difference_P - aim), jnp.square(difference_P + aim)
        return label_P * wins_P + (1.0 - label_P) * loses_P
    raise ValueError(
        f"the kind of DPO is {kind!r}{nearest(kind, DPO_KINDS)}; known: {', '.join(DPO_KINDS)}"
    )


def dpo_loss(
    params: Params,
    pairs: PairBatch,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    beta: float = 0.1,
    kind: str = "sigmoid",
    label_smoothing: float = 0.0,
    sft: float = 0.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> LossSums:
    """Sums over pairs of the preference loss against ``pairs.reference_PS``.

    Args:
      params: all weights; or, with ``lora.rank``, the adapter of the weights ``frozen``.
      key: draws dropout; None for none, as in evaluation.
      beta: how dear it is to leave the reference.
      kind: see :func:`preference_loss`. IPO compares log-ratios per token, as its authors did, so
        that long answers do not outweigh short ones.
      label_smoothing: probability that a label is wrong, from 0 to below 1/2: conservative DPO
        (Mitchell 2023).
      sft: coefficient of the chosen side's mean negative log-likelihood, per token of the answer
        (Pang et al. 2024, "Iterative reasoning preference optimization"), then averaged over pairs.

    Returns:
      Figures ``accuracy`` (of the side that the label prefers; a tie counts half), ``margin`` (beta
      times the difference), ``chosen_log_prob`` and ``rejected_log_prob`` (sums of an answer's
      tokens), and ``sft_loss`` (before its coefficient).
    """
    weights = trained_weights(params, lora, frozen=frozen, key=key)
    pairs = lay_out_pairs(pairs, rules)
    rows = pair_rows(pairs)
    log_probs_PS = sequence_log_probs(
        weights, rows, config=config, chunk=chunk, rules=rules
    ).reshape(-1, 2)
    mask_BT = constrain(rows.loss_mask, rules, "batch", None)
    count_PS = jnp.maximum(jnp.sum(mask_BT, axis=1), 1.0).reshape(-1, 2)
    ratio_PS = log_probs_PS - pairs.reference_PS
    if kind == "ipo":
        ratio_PS = ratio_PS / count_PS
    difference_P = ratio_PS[:, 0] - ratio_PS[:, 1]
    label_P = pairs.label_P * (1.0 - label_smoothing) + (1.0 - pairs.label_P) * label_smoothing
    nll_P = preference_loss(difference_P, label_P, beta=beta, kind=kind)
    sft_P = -log_probs_PS[:, 0] / count_PS[:, 0]
    figures = {
        "accuracy": won(difference_P, pairs.label_P),
        "margin": beta * difference_P,
        "chosen_log_prob": log_probs_PS[:, 0],
        "rejected_log_prob": log_probs_PS[:, 1],
        "sft_loss": sft_P,
    }
    return loss_sums(nll_P + sft * sft_P, nll_P, pairs.weight_P, jnp.sum(pairs.weight_P), figures)
