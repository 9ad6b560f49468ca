"""One iteration's learning: score the answers, turn rewards into advantages, take steps.

Everything that decides a result is a pure function of its arguments: an iteration that is repeated
from the same state, with the same answers, gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lilith.config import ModelConfig, UserError
from lilith.model.params import Params
from lilith.rl.update_config import UpdateConfig
from lilith.train.advantages import (
    explained_variance,
    gae,
    group_advantages,
    leave_one_out,
    whiten,
)
from lilith.train.grpo import policy_gradient_loss
from lilith.train.log_probs import token_log_probs
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.ppo import RolloutBatch, critic_values, ppo_loss, token_rewards
from lilith.train.state import Batch, TrainState, put_batch, put_rows
from lilith.train.step import LossFunction, train_step

FIRST_RATIO = 1e-5  # how far a first minibatch's mean ratio may be from 1


class AgreementError(UserError):
    """Sampler and trainer give the same tokens different probabilities."""


@dataclass(frozen=True)
class Setting:
    """What a learner is made of.

    Attributes:
      critic_model, critic_lora: those of the critic, which may be another model (PPO).
      batch: rows of a minibatch; accumulation: micro-batches of it.
      answer_tokens: most tokens of an answer.
      seed: of the order of the minibatches.
    """

    algorithm: str
    update: UpdateConfig
    model: ModelConfig
    lora: LoraConfig
    critic_model: ModelConfig
    critic_lora: LoraConfig
    batch: int
    accumulation: int
    answer_tokens: int
    clip_norm: float
    chunk: int
    seed: int


@dataclass(frozen=True)
class Scored:
    """What was known of an iteration's answers before it changed the policy; float32 [N, T].

    ``reference`` is None where nothing compares with it, ``values`` where there is no critic.
    """

    log_probs: np.ndarray
    entropy: np.ndarray
    reference: np.ndarray | None
    values: np.ndarray | None


class Learner:
    """Compiled functions around a :class:`Setting`.

    A trained tree is the policy's (all weights or an adapter), with PPO ``{"policy", "critic"}``.
    ``frozen`` is ``{"policy", "critic", "reference"}``: what lies below the adapters (None where
    all weights are trained) and the reference's own weights; one tree may be all three.
    """

    def __init__(
        self, setting: Setting, optimizer: optax.GradientTransformation, mesh: Mesh
    ) -> None:
        self.setting, self.mesh = setting, mesh
        self._score = jax.jit(partial(_score, setting))
        self._step = jax.jit(
            partial(
                train_step,
                loss=_loss(setting),
                optimizer=optimizer,
                accumulation=setting.accumulation,
                clip_norm=setting.clip_norm,
            ),
            donate_argnums=0,
        )
        self._advantages = jax.jit(partial(_advantages, setting), static_argnames=("group",))

    def score(
        self, params: Params, frozen: Mapping[str, Any], rows: Mapping[str, np.ndarray]
    ) -> Scored:
        """Log-probabilities, entropies and values of every row, a minibatch at a time."""
        parts: dict[str, list[np.ndarray]] = {}
        for own in self._slices(rows):
            found = self._score(params, frozen, put_batch(own, self.mesh))
            for name, value in found.items():
                parts.setdefault(name, []).append(np.asarray(value))
        whole = {name: np.concatenate(values) for name, values in parts.items()}
        return Scored(
            whole["log_probs"], whole["entropy"], whole.get("reference"), whole.get("values")
        )

    def advantages(
        self,
        rows: Mapping[str, np.ndarray],
        scored: Scored,
        rewards: np.ndarray,
        kl_coefficient: float,
        group: int,
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """From rewards float32 [N] to the arrays of a :class:`RolloutBatch` but its rows, [N, T].

        Args:
          group: answers to a prompt, which are neighbours; N is a multiple of it.

        Returns:
          The arrays, and with a critic the figure ``explained_variance``.

        Raises:
          TypeError: rewards that are not float32.
        """
        found = self._advantages(
            rows["loss_mask"], scored.log_probs, scored.reference, scored.values,
            rewards, np.float32(kl_coefficient), group=group,
        )  # fmt: skip
        made = {name: np.asarray(value) for name, value in found.items()}
        figures = {name: float(made.pop(name)) for name in ("explained_variance",) if name in made}
        made["old_log_probs_BT"] = scored.log_probs
        if scored.reference is not None:
            made["reference_BT"] = scored.reference
        return made, figures

    def update(
        self,
        state: TrainState,
        frozen: Mapping[str, Any],
        rows: Mapping[str, np.ndarray],
        made: Mapping[str, np.ndarray],
        iteration: int,
    ) -> tuple[TrainState, dict[str, float]]:
        """Take the steps of all epochs; the figures are means over the minibatches.

        Each epoch goes through the rows in an order of its own, by seed, iteration and epoch.

        Raises:
          AgreementError: the ratio of the first minibatch is not 1.
        """
        setting, count = self.setting, len(rows["tokens"])
        below = frozen if setting.algorithm == "ppo" else frozen["policy"]
        seen: list[dict[str, float]] = []
        stopped = 0.0
        for epoch in range(setting.update.epochs):
            order = np.random.default_rng([setting.seed, iteration, epoch]).permutation(count)
            for first in range(0, count, setting.batch):
                chosen = np.sort(order[first : first + setting.batch])
                if not rows["loss_mask"][chosen].any():
                    continue
                batch = self._put({k: v[chosen] for k, v in rows.items()},
                                  {k: v[chosen] for k, v in made.items()})  # fmt: skip
                state, found = self._step(state, batch, below)
                figures = {name: float(value) for name, value in found.items()}
                if not seen:
                    _check_first(figures)
                seen.append(figures)
                if 0 < setting.update.stop_kl < figures["approximate_kl"]:
                    stopped = 1.0
                    break
            if stopped:
                break
        means = {name: float(np.mean([own[name] for own in seen])) for name in seen[0]}
        return state, means | {"minibatches": float(len(seen)), "stopped_by_kl": stopped}

    def _slices(self, rows: Mapping[str, np.ndarray]) -> Any:
        for first in range(0, len(rows["tokens"]), self.setting.batch):
            yield {name: value[first : first + self.setting.batch] for name, value in rows.items()}

    def _put(self, rows: dict[str, np.ndarray], made: dict[str, np.ndarray]) -> RolloutBatch:
        placed = put_rows(dict, made, self.mesh, "batch", "length")
        return RolloutBatch(rows=put_batch(rows, self.mesh), **placed)


def check_agreement(
    rows: Mapping[str, np.ndarray], sampled: np.ndarray, scored: Scored, tolerance: float
) -> float:
    """The largest difference between sampler and trainer over the policy's tokens, in nats.

    Raises:
      AgreementError: it is above ``tolerance``, or not a number.
    """
    mask = rows["loss_mask"] > 0
    difference = float(np.max(np.abs(sampled - scored.log_probs)[mask], initial=0.0))
    if not difference <= tolerance:
        raise AgreementError(
            f"sampler and trainer differ by {difference:.3g} nats at a token, more than "
            f"rollout.tolerance ({tolerance:g}): the answers are not the policy's own. With "
            "bfloat16 allow more, or compute in float32"
        )
    return difference


def _check_first(figures: Mapping[str, float]) -> None:
    """Before the first step of an iteration the policy is the one that answered."""
    if not abs(figures["ratio"] - 1.0) <= FIRST_RATIO:
        raise AgreementError(
            f"the mean ratio of an iteration's first minibatch is {figures['ratio']:.7f}, not 1: "
            "scoring and training do not compute the same log-probabilities"
        )


def _loss(setting: Setting) -> LossFunction:
    update = setting.update
    shared: dict[str, Any] = {
        "config": setting.model, "lora": setting.lora, "clip_low": update.clip_low,
        "clip_high": update.clip_high, "chunk": setting.chunk,
        "entropy_coefficient": update.entropy,
    }  # fmt: skip
    if setting.algorithm == "ppo":
        return partial(
            ppo_loss, critic_config=setting.critic_model, critic_lora=setting.critic_lora,
            value_clip=update.value_clip, value_coefficient=update.value_coefficient, **shared,
        )  # fmt: skip
    if setting.algorithm == "rloo":  # its KL is in the reward, and an answer is one action
        return partial(policy_gradient_loss, normalisation="constant", length=1, **shared)
    return partial(
        policy_gradient_loss, kl_coefficient=update.kl_coefficient,
        normalisation=update.normalisation, length=setting.answer_tokens, **shared,
    )  # fmt: skip


def _score(
    setting: Setting, params: Params, frozen: Mapping[str, Any], rows: Batch
) -> dict[str, jax.Array]:
    has_critic = setting.algorithm == "ppo"
    policy = params["policy"] if has_critic else params
    weights = trained_weights(policy, setting.lora, frozen=frozen["policy"])
    log_probs = partial(token_log_probs, config=setting.model, chunk=setting.chunk)
    own = log_probs(weights, rows)
    found = {"log_probs": own.log_probs_BT, "entropy": own.entropy_BT}
    if frozen["reference"] is not None:
        found["reference"] = log_probs(frozen["reference"], rows).log_probs_BT
    if has_critic:
        found["values"] = critic_values(
            params["critic"], rows, config=setting.critic_model, lora=setting.critic_lora,
            frozen=frozen["critic"],
        )  # fmt: skip
    return found


def _advantages(
    setting: Setting,
    mask_BT: jax.Array,
    log_probs_BT: jax.Array,
    reference_BT: jax.Array | None,
    values_BT: jax.Array | None,
    rewards_B: jax.Array,
    kl_coefficient: jax.Array,
    *,
    group: int,
) -> dict[str, jax.Array]:
    update = setting.update
    if setting.algorithm == "ppo":
        assert values_BT is not None
        reference_BT = log_probs_BT if reference_BT is None else reference_BT
        token_BT = token_rewards(
            rewards_B, log_probs_BT, reference_BT, mask_BT, kl_coefficient=kl_coefficient
        )
        advantages_BT, returns_BT = gae(
            token_BT, values_BT, mask_BT, gamma=update.gamma, lam=update.lam
        )
        return {
            "advantages_BT": whiten(advantages_BT, mask_BT), "returns_BT": returns_BT,
            "old_values_BT": values_BT,
            "explained_variance": explained_variance(values_BT, returns_BT, mask_BT),
        }  # fmt: skip
    if setting.algorithm == "rloo":
        if reference_BT is not None:
            penalty_BT = jnp.where(mask_BT > 0, log_probs_BT - reference_BT, 0.0)
            rewards_B = rewards_B - kl_coefficient * jnp.sum(penalty_BT, axis=1)
        own_B = leave_one_out(rewards_B, group)
    else:
        own_B = group_advantages(rewards_B, group, scale=update.scale)
    return {"advantages_BT": own_B[:, None] * mask_BT}
