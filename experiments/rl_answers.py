"""An iteration's answers: prompts taken in order, answered by the policy, judged, grouped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments.rl_config import RLConfig
from experiments.tuning import Base
from lilith.data.prompts import ChatPrompt, PromptSet
from lilith.inference.engine import Engine
from lilith.model.layered import fuse_layers, unstack_layers
from lilith.model.params import Params
from lilith.rl import rollouts as collecting
from lilith.rl.answers import finished
from lilith.rl.rewards import Finished, Mixture, Rewards
from lilith.rl.rollouts import Reply, Rollout
from lilith.rl.shaping import missing_end_penalty, overlong_penalty, varied_groups
from lilith.rl.tool_turns import quant_tool_answer, replying
from lilith.train.lora import apply_adapter, merge


@dataclass(frozen=True)
class Answers:
    """What a policy answered to some prompts; the copies of a prompt are neighbours.

    Attributes:
      rewards: float32 [n], with the penalties.
      judged: what the sources said.
    """

    prompts: list[ChatPrompt]  # of each rollout
    rollouts: list[Rollout]
    conversations: list[Finished]
    rewards: np.ndarray
    judged: Rewards

    def chosen(self, numbers: Sequence[int]) -> tuple[list[Rollout], np.ndarray]:
        """The rollouts of these numbers, and their rewards."""
        return [self.rollouts[i] for i in numbers], self.rewards[list(numbers)]


class Collector:
    """Answers prompts by the policy of the moment and asks what the answers are worth.

    Args:
      look: called before each piece of work; what it raises ends the collecting.
    """

    def __init__(
        self,
        config: RLConfig,
        mesh: jax.sharding.Mesh,
        base: Base,
        mixture: Mixture,
        look: Callable[[], None],
    ) -> None:
        self.config, self.mesh, self.base = config, mesh, base
        self.mixture, self._look = mixture, look
        self.limits = collecting.Limits(
            config.rollout.answer_tokens, config.rollout.turns, config.rollout.rows
        )
        own_copy = config.rollout.layout == "own" or (
            config.rollout.layout == "auto" and jax.default_backend() == "cpu"
        )
        self._lay_out = jax.jit(self._merged) if own_copy and config.lora.rank else None
        self._unstacks = own_copy and mesh.size == 1

    def engine(self, policy: Params) -> Engine:
        """Generation by a policy: with the trained weights, or a copy of them laid out for it."""
        config, frozen = self.config, self.base.params
        if not config.lora.rank:
            params = policy
        elif self._lay_out is not None:
            params = self._lay_out(frozen, policy)
        else:
            params = apply_adapter(frozen, policy, config.lora)
        if self._unstacks:
            params = fuse_layers(unstack_layers(params))
        mesh = None if self.mesh.size == 1 else self.mesh
        return Engine(params, config.model, vocab=self.base.tokenizer.vocab_size, mesh=mesh)

    def _merged(self, frozen: Params, adapter: Params) -> Params:
        return merge(frozen, adapter, self.config.lora)

    def answers(
        self,
        engine: Engine,
        prompts: Sequence[ChatPrompt],
        seeds: Sequence[int],
        *,
        copies: int,
        temperature: float = 1.0,
    ) -> Answers:
        """Answer each prompt ``copies`` times; judging goes on beside the generation."""
        judgement = self.mixture.judge()
        found: list[tuple[Rollout, Finished]] = []
        for rollout in collecting.collect(
            engine,
            [prompt.ids for prompt in prompts],
            seeds,
            copies=copies,
            stop_ids=self.base.stop_ids,
            limits=self.limits,
            reply=self._reply(),
            temperature=temperature,
        ):
            self._look()
            conversation = finished(rollout, prompts[rollout.prompt], self.base.tokenizer)
            judgement.add(conversation)
            found.append((rollout, conversation))
        judged = judgement.rewards()
        order = sorted(range(len(found)), key=lambda i: (found[i][0].prompt, found[i][0].copy))
        rollouts = [found[i][0] for i in order]
        judged = Rewards(
            judged.total[order],
            {name: values[order] for name, values in judged.by_source.items()},
            judged.given_up,
            judged.failed,
        )
        return Answers(
            [prompts[own.prompt] for own in rollouts],
            rollouts,
            [found[i][1] for i in order],
            judged.total + self._penalties(rollouts),
            judged,
        )

    def _reply(self) -> Reply | None:
        if self.config.rollout.tools == "none":
            return None
        return replying(quant_tool_answer, self.base.tokenizer, self.base.template)

    def _penalties(self, rollouts: Sequence[Rollout]) -> np.ndarray:
        config = self.config
        found = missing_end_penalty(rollouts, config.reward.missing_eos_penalty)
        if config.update.overlong == "penalty":
            most, buffer = config.rollout.answer_tokens, config.update.overlong_tokens
            found += overlong_penalty(rollouts, most, buffer)
        return found


@dataclass
class Batch:
    """What an iteration learns from, and figures of all that was answered for it."""

    rollouts: list[Rollout]
    rewards: np.ndarray
    figures: dict[str, float]
    answers: list[Answers]
    position: int  # in the order of the prompts, after those taken


def collect_batch(collector: Collector, policy: Params, prompts: PromptSet, position: int) -> Batch:
    """Answer an iteration's prompts from ``position`` on, and choose what is learnt from.

    Groups whose rewards are all equal are left out where the config says so, and more prompts are
    answered in their place, as often as it says.
    """
    config, began = collector.config, time.perf_counter()
    copies, need = config.rollout.copies, config.rollout.prompts
    drops = config.update.drop_equal and config.algorithm != "ppo"
    engine = collector.engine(policy)
    rollouts: list[Rollout] = []
    rewards: list[np.ndarray] = []
    every: list[Answers] = []
    for _ in range(1 + config.update.resample):
        wanted = need - len(rollouts) // copies
        if not wanted:
            break
        numbers = prompts.order(config.seed, position, wanted)
        seeds = [
            _seed(config.seed, position + i, copy) for i in range(wanted) for copy in range(copies)
        ]
        chosen = [prompts.train[number] for number in numbers]
        answers = collector.answers(engine, chosen, seeds, copies=copies)
        position += wanted
        every.append(answers)
        groups = varied_groups(answers.rewards, copies) if drops else range(wanted)
        kept = [group * copies + copy for group in groups for copy in range(copies)]
        own, worth = answers.chosen(kept)
        rollouts += own
        rewards.append(worth)
    figures = answer_figures(every) | {
        "groups_learnt": float(len(rollouts) // copies),
        "groups_answered": float(sum(len(own.rollouts) for own in every) // copies),
        "rollout_seconds": time.perf_counter() - began,
    }
    return Batch(rollouts, np.concatenate(rewards), figures, every, position)


def answer_figures(every: Sequence[Answers]) -> dict[str, float]:
    """Means over answers: reward, each source's, tokens, the share that ended."""
    rollouts = [own for answers in every for own in answers.rollouts]
    found = {
        "reward": float(np.mean(np.concatenate([answers.rewards for answers in every]))),
        "answer_tokens": float(np.mean([own.written for own in rollouts])),
        "share_ended": float(np.mean([own.ended for own in rollouts])),
    }
    for name in every[0].judged.by_source:
        values = np.concatenate([answers.judged.by_source[name] for answers in every])
        found[f"reward_{name}"] = float(np.mean(values))
    given_up = sum(sum(answers.judged.given_up.values()) for answers in every)
    failed = sum(sum(n for n, _ in answers.judged.failed.values()) for answers in every)
    return found | {"verifiers_given_up": float(given_up), "verifiers_failed": float(failed)}


def _seed(seed: int, position: int, copy: int) -> int:
    """Of a rollout's draws: its own for every prompt position and copy."""
    return int(np.random.SeedSequence([seed, position, copy]).generate_state(1)[0])


def shown_sample(answers: Answers, number: int, step: int) -> dict[str, Any]:
    """A conversation for samples.json: its last question, what the policy wrote, its rewards."""
    conversation = answers.conversations[number]
    prompt = answers.prompts[number]
    size = len(prompt.messages)
    text = "\n".join(
        message["content"] if message["role"] == "assistant" else f"[tool] {message['content']}"
        for message in conversation.messages[size:]
    )
    parts = ", ".join(
        f"{name} {values[number]:.3g}" for name, values in answers.judged.by_source.items()
    )
    return {
        "step": step,
        "prompt": f"{prompt.messages[-1]['content']}\n",
        "text": f"{text}\n[reward {answers.rewards[number]:.3g}: {parts}]",
    }
