"""A reward model: a scalar head on a language model, learnt from which answers are preferred."""

from __future__ import annotations

import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.preference_config import PreferenceConfig
from experiments.preferences import (
    Judged,
    PreferenceTuning,
    dry_run_preferences,
    run_preferences,
)
from experiments.tuning import Base, Figures
from lilith.config import ConfigError, ModelConfig
from lilith.data.pairs import PairCorpus, PairRows
from lilith.evals.preferences import correlation, preference_calibration
from lilith.interop.reward_model import save_reward_model
from lilith.model.params import Params, abstract_from_specs
from lilith.train.lora_config import LoraConfig
from lilith.train.preferences import PairBatch
from lilith.train.reward import bradley_terry, head_specs, init_head, reward_loss, reward_scores

EXAMPLE = "reward_hh"


def run(config: PreferenceConfig, workdir: pathlib.Path) -> int:
    """Train (or go on training) a reward model in ``workdir``; the exit code."""
    return run_preferences(config, workdir, RewardTuning, EXAMPLE)


def dry_run(config: PreferenceConfig) -> int:
    """Print what the run would train, and on what; train nothing."""
    return dry_run_preferences(config, EXAMPLE)


def pair_scores(
    params: Params,
    frozen: Params | None,
    pairs: PairBatch,
    *,
    config: ModelConfig,
    lora: LoraConfig,
) -> jax.Array:
    """Scores of both sides, float32 [P, 2]."""
    tokens_BT = pairs.tokens_PST.reshape(-1, pairs.tokens_PST.shape[2])
    scores_B = reward_scores(
        params, tokens_BT, pairs.length_PS.reshape(-1), config=config, lora=lora, frozen=frozen
    )
    return scores_B.reshape(-1, 2)


class RewardTuning(PreferenceTuning):
    """The stage's functions, bound to one run. Trained is ``{"model", "head"}``."""

    writes = False

    def __init__(
        self,
        config: PreferenceConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        pairs: PairCorpus,
    ) -> None:
        if config.data.length >= base.model.context:
            raise ConfigError(
                f"data.length is {config.data.length}, and a scored side may have one token more, "
                f"which the context of {config.base} ({base.model.context}) has no room for; "
                "shorten the rows"
            )
        super().__init__(config, workdir, mesh, base, pairs)
        self.loss = partial(
            reward_loss, config=config.model, lora=config.lora, centring=config.reward.centring
        )
        self.reader = jax.jit(partial(pair_scores, config=config.model, lora=config.lora))

    def target(self) -> Params:
        """Shapes, dtypes and places of the model's trained part and of the head."""
        specs = head_specs(self.config.model)
        head = abstract_from_specs(specs, jnp.float32, self.mesh)
        return {"model": super().target(), "head": head}

    def start(self) -> Params:
        """The base or a fresh adapter, and a fresh head."""
        places = jax.tree.map(lambda leaf: leaf.sharding, self.target()["head"])
        make = jax.jit(
            partial(init_head, self.config.seed, self.config.model), out_shardings=places
        )
        with jax.set_mesh(self.mesh):
            head = make()
        return {"model": super().start(), "head": head}

    def judge(self, rows: PairRows, order: np.ndarray, values_NS: np.ndarray) -> Judged:
        """Which side has the higher score, and the loss without centring."""
        difference = values_NS[:, 0] - values_NS[:, 1]
        label = rows.label_N[order]
        nll = np.asarray(bradley_terry(difference, label, rows.margin_N[order]))
        return Judged(values_NS, rows.answer_lengths[order], difference, nll, label)

    def figures(self, judged: Judged) -> Figures:
        """How far the sides are apart, how true probabilities are, what length is worth."""
        calibration = preference_calibration(_probability(judged), judged.label_N)
        return {
            "validation_reward_margin": float(judged.difference_N.mean()),
            "validation_calibration_error": calibration.error,
            "validation_length_correlation": correlation(judged.values_NS, judged.lengths_NS),
        }

    def save(self, params: Params) -> list[str]:
        """The reward model with what its scores on the reference responses were."""
        config, (mean, deviation) = self.config, self._normalisation()
        folder = self.workdir / "reward_model"
        save_reward_model(
            folder, params, base=config.base, adapters=config.adapters, lora=config.lora,
            config=config.model, chat_template=self.base.template.source, mean=mean,
            deviation=deviation,
        )  # fmt: skip
        return [f"reward model: {folder}"]

    def more(self, before: Figures, after: Figures) -> dict[str, Any]:
        """The calibration by ranges, and the scores that later ones are normalised by."""
        assert self.judged is not None
        calibration = preference_calibration(_probability(self.judged), self.judged.label_N)
        mean, deviation = self._normalisation()
        return super().more(before, after) | {
            "calibration": {
                f"predicted {each.low:.1f} to {each.high:.1f}": f"{each.count:,} predictions, "
                f"{each.predicted:.3f} on average; {each.observed:.3f} came true"
                for each in calibration.bins
            },
            "reference_scores": {
                "responses": len(self.judged.values_NS), "mean": mean, "deviation": deviation,
            },
        }  # fmt: skip

    def _normalisation(self) -> tuple[float, float]:
        """Mean and deviation of the scores of the reference responses: the chosen answers."""
        assert self.judged is not None  # the loop ends with a whole evaluation
        scores = self.judged.values_NS[:, 0].astype(np.float64)
        mean, deviation = float(scores.mean()), float(scores.std())
        if deviation == 0:
            print(
                f"warning: all {len(scores)} reference responses have the score {mean:.4g}; scores "
                "are centred, and not scaled"
            )
            deviation = 1.0
        return mean, deviation


def _probability(judged: Judged) -> np.ndarray:
    """Predicted probability that the chosen side is the better one, without margins."""
    return 1.0 / (1.0 + np.exp(-np.clip(judged.difference_N.astype(np.float64), -500, 500)))
