"""From rewards to advantages: GAE, groups of answers, whitening; estimators of the KL divergence.

Masks are of any dtype; what is above 0 counts. Rewards, values and advantages are float32: rewards
kept as integers would lose their fractions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lilith.config import nearest
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain

KL_KINDS = ("k1", "k2", "k3")


def require_float32(**arrays: Any) -> None:
    """Raise TypeError naming the first array that is not float32."""
    for name, array in arrays.items():
        if jnp.result_type(array) != jnp.float32:
            raise TypeError(
                f"{name} are {jnp.result_type(array)}; rewards and what is made of them are kept "
                "in float32, so that no fraction is lost: convert them with .astype(numpy.float32)"
            )


def gae(
    rewards_BT: jax.Array,
    values_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    gamma: float,
    lam: float,
    rules: ShardingRules = DEFAULT_RULES,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimation (Schulman et al. 2015, equation 16).

    The recursion steps from each token of the mask to the next one of it, so what lies between them
    (a tool's response) or after the last (padding) costs no discount and gives no reward. After the
    last token the value is 0.

    Args:
      rewards_BT: float32 reward of each token; those outside the mask are not read.
      values_BT: float32 value before each token.
      mask_BT: the policy's own tokens.
      gamma, lam: discount and the weight of longer estimates, each a step.

    Returns:
      advantages_BT, 0 outside the mask, and returns_BT = advantages_BT + values_BT.

    Raises:
      TypeError: rewards or values that are not float32.
    """
    require_float32(rewards=rewards_BT, values=values_BT)
    rewards_BT, values_BT, mask_BT = (
        constrain(jnp.asarray(x), rules, "batch", None) for x in (rewards_BT, values_BT, mask_BT)
    )

    def step(carry: tuple[jax.Array, jax.Array], token: Any) -> tuple[Any, jax.Array]:
        later_B, next_value_B = carry
        reward_B, value_B, own_B = token
        advantage_B = reward_B + gamma * next_value_B - value_B + gamma * lam * later_B
        carry = jnp.where(own_B, advantage_B, later_B), jnp.where(own_B, value_B, next_value_B)
        return carry, jnp.where(own_B, advantage_B, 0.0)

    zero_B = jnp.zeros_like(values_BT[:, 0])
    tokens = (rewards_BT.T, values_BT.T, mask_BT.T > 0)
    _, advantages_TB = jax.lax.scan(step, (zero_B, zero_B), tokens, reverse=True)
    advantages_BT = advantages_TB.T
    returns_BT = advantages_BT + values_BT
    return (
        constrain(advantages_BT, rules, "batch", "length"),
        constrain(returns_BT, rules, "batch", "length"),
    )


def masked_mean(x_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """The mean over the mask of all rows, on whatever devices they are; NaN for an empty mask."""
    own_BT = mask_BT > 0
    return jnp.sum(jnp.where(own_BT, x_BT, 0.0)) / jnp.sum(own_BT)


def whiten(x_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """``x_BT`` with mean 0 and deviation 1 over the mask of the global batch, 0 outside it.

    Values that are all equal become 0.

    Raises:
      TypeError: values that are not float32.
    """
    require_float32(advantages=x_BT)
    centred_BT = x_BT - masked_mean(x_BT, mask_BT)
    variance = masked_mean(jnp.square(centred_BT), mask_BT)
    return jnp.where(mask_BT > 0, centred_BT * jax.lax.rsqrt(variance + 1e-8), 0.0)


def group_advantages(rewards_B: jax.Array, group: int, *, scale: bool) -> jax.Array:
    """Rewards less the mean of their group, float32 [B].

    Equal rewards give exactly 0.

    Args:
      rewards_B: float32; each ``group`` rows in a row answer one prompt.
      group: answers to a prompt, at least 2.
      scale: divide by the group's sample deviation: GRPO (Shao et al. 2024, section 4.1.2). Without
        it, the advantages of Dr. GRPO (Liu et al. 2025).

    Raises:
      TypeError: rewards that are not float32.
      ValueError: rows that do not make whole groups, or a group of 1.
    """
    centred_GN = _centred(rewards_B, group)
    if scale:
        variance_G1 = jnp.sum(jnp.square(centred_GN), axis=1, keepdims=True) / (group - 1)
        centred_GN = centred_GN / (jnp.sqrt(variance_G1) + 1e-6)
    return centred_GN.reshape(-1)


def leave_one_out(rewards_B: jax.Array, group: int) -> jax.Array:
    """Rewards less the mean of the others of their group: RLOO (Ahmadian et al. 2024).

    Arguments and errors are those of :func:`group_advantages`; equal rewards give exactly 0.
    """
    # r - (sum - r) / (n - 1) = (r - sum / n) n / (n - 1)
    return (_centred(rewards_B, group) * (group / (group - 1))).reshape(-1)


def _centred(rewards_B: jax.Array, group: int) -> jax.Array:
    """Rewards [groups, group] less their group's mean."""
    require_float32(rewards=rewards_B)
    rewards_B = jnp.asarray(rewards_B)
    if group < 2:
        raise ValueError(f"group is {group}; advantages within a group need at least 2 answers")
    if rewards_B.size % group:
        raise ValueError(f"{rewards_B.size} rewards do not make whole groups of {group} answers")
    rewards_GN = rewards_B.reshape(-1, group)
    # Less the first, equal rewards are exactly 0; the mean of three times 0.1 is not 0.1.
    shifted_GN = rewards_GN - rewards_GN[:, :1]
    return shifted_GN - jnp.mean(shifted_GN, axis=1, keepdims=True)


def kl_estimate(log_ratio: jax.Array, kind: str) -> jax.Array:
    """Estimates of KL(pi || ref) from samples of pi, elementwise.

    Schulman 2020, "Approximating KL divergence": k1 is the log-ratio itself (unbiased, may be
    negative), k2 half its square (biased, low variance), k3 = exp(-x) - 1 + x (unbiased, never
    negative).

    Args:
      log_ratio: log pi - log ref of what was sampled, float32.

    Raises:
      TypeError: log-ratios that are not float32.
      ValueError: an unknown ``kind``.
    """
    require_float32(log_ratios=log_ratio)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return 0.5 * jnp.square(log_ratio)
    if kind == "k3":
        return jnp.expm1(-log_ratio) + log_ratio
    raise ValueError(
        f"the KL estimator is {kind!r}{nearest(kind, KL_KINDS)}; known: {', '.join(KL_KINDS)}"
    )


def explained_variance(
    values_BT: jax.Array, returns_BT: jax.Array, mask_BT: jax.Array
) -> jax.Array:
    """1 - Var(returns - values) / Var(returns) over the mask; 0 where the returns do not vary."""

    def variance(x_BT: jax.Array) -> jax.Array:
        return masked_mean(jnp.square(x_BT - masked_mean(x_BT, mask_BT)), mask_BT)

    total = variance(returns_BT)
    rest = variance(returns_BT - values_BT)
    # Equal returns vary by rounding alone.
    varies = total > 1e-10 * masked_mean(jnp.square(returns_BT), mask_BT)
    return jnp.where(varies, 1.0 - rest / jnp.where(varies, total, 1.0), 0.0)
