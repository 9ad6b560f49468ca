"""What a run of reinforcement learning is made of: rewards, first weights, reference, learner."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.rl_config import RLConfig
from experiments.tuning import Base, fresh_adapter
from lilith.data.chat import prompt_ids, render_conversation
from lilith.interop.reward_model import (
    RewardModel,
    RewardModelError,
    load_reward_model,
    read_reward_description,
)
from lilith.model.params import Params
from lilith.rl.learner import Learner, Setting
from lilith.rl.rewards import Finished, Mixture, Scorer, Source
from lilith.rl.verifiers import source
from lilith.tokenizer.chat_template import ChatTemplate
from lilith.train.optimizer import make_optimizer


@dataclass(frozen=True)
class Parts:
    """The pieces of a run.

    Attributes:
      frozen: see :class:`lilith.rl.learner.Learner`.
      start: makes the first trained tree.
    """

    mixture: Mixture
    learner: Learner
    optimizer: optax.GradientTransformation
    frozen: dict[str, Any]
    start: Callable[[], Params]


def assemble(config: RLConfig, mesh: jax.sharding.Mesh, base: Base) -> Parts:
    """Load the reward models that the config names, and make the rest.

    Raises:
      ConfigError: a reward source that does not exist.
      RewardModelError: a reward model that can not be read or does not fit.
    """
    models: dict[str, RewardModel] = {}

    def reward_model(folder: str) -> RewardModel:
        if folder not in models:
            models[folder] = _load(folder, config, mesh, base)
        return models[folder]

    mixture = Mixture(
        [(weight, _source(name, config, base, reward_model))
         for name, weight in config.reward.weights().items()]
    )  # fmt: skip
    critic = None
    if config.algorithm == "ppo" and config.update.critic != "policy":
        critic = reward_model(config.update.critic)
        if critic.config.vocab < base.model.vocab:
            raise RewardModelError(
                f"the reward model {config.update.critic} knows {critic.config.vocab:,} tokens and "
                f"the policy has {base.model.vocab:,}: a critic must read the policy's tokens; use "
                "one that was trained from the same base"
            )
    has_adapter = config.lora.rank > 0
    compares = config.algorithm == "ppo" or config.update.kl_coefficient > 0
    frozen = {
        "policy": base.params if has_adapter else None,
        "critic": critic.frozen if critic else base.params if has_adapter else None,
        "reference": base.params if compares else None,
    }
    rows = config.answers / config.train.batch
    steps = config.train.steps * config.update.epochs * math.ceil(rows)
    optimizer = make_optimizer(config.optimizer, steps, config.seed)
    setting = Setting(
        algorithm=config.algorithm, update=config.update, model=base.model, lora=config.lora,
        critic_model=critic.config if critic else base.model,
        critic_lora=critic.about.lora if critic else config.lora,
        batch=config.train.batch, accumulation=config.train.accumulation,
        answer_tokens=config.rollout.answer_tokens, clip_norm=config.optimizer.clip_norm,
        chunk=config.train.loss_chunk, seed=config.seed,
    )  # fmt: skip
    start = partial(_start, config, mesh, base, critic)
    return Parts(mixture, Learner(setting, optimizer, mesh), optimizer, frozen, start)


def _load(folder: str, config: RLConfig, mesh: jax.sharding.Mesh, base: Base) -> RewardModel:
    """A reward model, over the policy's own base where that is what it was trained from."""
    about = read_reward_description(pathlib.Path(folder).expanduser())
    same = (about.base, tuple(about.adapters)) == (config.base, tuple(config.adapters))
    loaded = (base.params, base.model, base.tokenizer) if same else None
    return load_reward_model(
        folder, mesh=mesh, loaded=loaded, dtype=base.model.compute_dtype, batch=config.train.batch
    )


def _source(
    name: str, config: RLConfig, base: Base, reward_model: Callable[[str], RewardModel]
) -> Source:
    if name != "model":
        return source(name, seconds=config.reward.seconds, failure=config.reward.failure)
    model = reward_model(config.reward.model)
    if model.tokenizer is base.tokenizer:
        # The very ids that the policy wrote; white space after the end of a turn was never there.
        return Scorer("model", lambda every: model.score([own.ids for own in every]).tolist())
    template = ChatTemplate.of(model.about.chat_template or base.template.source, model.tokenizer)

    def scores(every: Sequence[Finished]) -> list[float]:
        return model.score([_rendered(own, model, template) for own in every]).tolist()

    return Scorer("model", scores)


def _rendered(own: Finished, model: RewardModel, template: ChatTemplate) -> list[int]:
    """A conversation in the reward model's own tokens, up to the end of its last answer."""
    if not own.answer.strip():  # nothing was answered: the prompt alone is scored
        return prompt_ids(own.messages[:-1], model.tokenizer, template)
    rendered = render_conversation(own.messages, model.tokenizer, template)
    return rendered.ids[: rendered.turn_ends[-1][1]].tolist()


def _start(
    config: RLConfig, mesh: jax.sharding.Mesh, base: Base, critic: RewardModel | None
) -> Params:
    """The policy as the base is, and for PPO a critic: a reward model's, or one that says 0."""
    policy = _fresh(config, mesh, base, config.seed)
    if config.algorithm != "ppo":
        return policy
    if critic is not None:
        return {"policy": policy, "critic": jax.tree.map(jnp.copy, critic.trained)}
    head = {
        "weight": jnp.zeros((base.model.d_model,), jnp.float32),
        "bias": jnp.zeros((), jnp.float32),
    }
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    head = jax.device_put(head, whole)
    return {
        "policy": policy,
        "critic": {"model": _fresh(config, mesh, base, config.seed + 1), "head": head},
    }


def _fresh(config: RLConfig, mesh: jax.sharding.Mesh, base: Base, seed: int) -> Params:
    """An adapter that changes nothing yet; a copy of all weights where there is no adapter."""
    if not config.lora.rank:
        return jax.tree.map(jnp.copy, base.params)
    return fresh_adapter(config, mesh, base, seed)
