"""Policy gradients without a critic: one loss, of which the published methods are settings.

- GRPO (Shao et al. 2024, equation 3): ``group_advantages(scale=True)``, normalisation
  ``"sequence"``, ``kl_coefficient`` above 0.
- Dr. GRPO (Liu et al. 2025): ``group_advantages(scale=False)``, normalisation ``"constant"`` with
  the largest length of an answer.
- DAPO (Yu et al. 2025): ``group_advantages(scale=True)``, normalisation ``"token"``, ``clip_high``
  above ``clip_low``, no KL; groups without variance are drawn again before they come here.
- RLOO (Ahmadian et al. 2024): ``leave_one_out`` of the scores less their KL penalty, normalisation
  ``"constant"`` with length 1, so that an answer counts by the sum of its log-probabilities. At the
  first pass over a batch the gradient is the paper's; in later ones the ratio is clipped token by
  token.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig, nearest
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain
from lilith.train.advantages import kl_estimate, require_float32
from lilith.train.log_probs import token_log_probs
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.ppo import RolloutBatch, policy_term
from lilith.train.preferences import LossSums, loss_sums

NORMALISATIONS = ("token", "sequence", "constant")


def token_weights(
    mask_BT: jax.Array, normalisation: str, length: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """What each token weighs [B, T], and what the sum is divided by for the loss of a batch.

    Answers without a token in the mask, such as overlong ones that are left out, do not count.

    Args:
      mask_BT: float32, 1 at the policy's tokens.
      normalisation: ``"token"``: all tokens of the batch alike; ``"sequence"``: the mean of each
        answer, then of answers; ``"constant"``: the sum of each answer over ``length``, then the
        mean of answers.

    Raises:
      ValueError: an unknown normalisation, or ``"constant"`` without a positive ``length``.
    """
    count_B1 = jnp.sum(mask_BT, axis=1, keepdims=True)
    answers = jnp.sum(count_B1 > 0).astype(jnp.float32)
    if normalisation == "token":
        return mask_BT, jnp.sum(mask_BT)
    if normalisation == "sequence":
        return mask_BT / jnp.maximum(count_B1, 1.0), answers
    if normalisation == "constant":
        if not length or length < 0:
            raise ValueError(
                f"length is {length}; the constant normalisation divides each answer by it, so "
                "give the largest length of an answer, or 1 for plain sums"
            )
        return mask_BT / length, answers
    raise ValueError(
        f"normalisation is {normalisation!r}{nearest(normalisation, NORMALISATIONS)}; known: "
        f"{', '.join(NORMALISATIONS)}"
    )


def policy_gradient_loss(
    params: Params,
    batch: RolloutBatch,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    normalisation: str = "token",
    length: int | None = None,
    temperature: float = 1.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> LossSums:
    """Sums of the clipped policy loss, plus kl_coefficient times k3 to the reference, less entropy.

    The module says which settings are which published method.

    Args:
      params: all weights; or, with ``lora.rank``, the adapter of the weights ``frozen``.
      key: draws dropout; None for none, which makes the ratio of a first pass 1.
      normalisation, length: see :func:`token_weights`.
      temperature: at which the answers were drawn.

    Returns:
      Figures of :func:`policy_term`, and with a reference ``reference_kl``, as means over tokens
      (over the answers' means, unless the normalisation is ``"token"``); nll is the whole
      objective.

    Raises:
      ValueError: ``kl_coefficient`` without ``batch.reference_BT``; a bad normalisation.
    """
    if kl_coefficient and batch.reference_BT is None:
        raise ValueError("kl_coefficient needs the reference's log-probabilities: reference_BT")
    weights = trained_weights(params, lora, frozen=frozen, key=key)
    found = token_log_probs(
        weights, batch.rows, config=config, temperature=temperature, chunk=chunk, rules=rules
    )
    term = policy_term(found, batch, clip_low=clip_low, clip_high=clip_high, rules=rules)
    objective_BT, figures = term.loss_BT - entropy_coefficient * found.entropy_BT, term.figures
    mask_BT = constrain(batch.rows.loss_mask, rules, "batch", "length")
    if batch.reference_BT is not None:
        require_float32(reference_log_probs=batch.reference_BT)
        reference_BT = constrain(batch.reference_BT, rules, "batch", "length")
        log_ratio_BT = jnp.where(mask_BT > 0, found.log_probs_BT - reference_BT, 0.0)
        kl_BT = kl_estimate(log_ratio_BT, "k3")
        objective_BT = objective_BT + kl_coefficient * kl_BT
        figures = figures | {"reference_kl": kl_BT}
    weights_BT, weight = token_weights(mask_BT, normalisation, length)
    # A fixed length belongs to the loss alone: figures are means.
    means_BT = weights_BT
    if normalisation == "constant":
        means_BT, _ = token_weights(mask_BT, "sequence")
    return loss_sums(objective_BT, objective_BT, weights_BT, weight, figures, means_BT)
