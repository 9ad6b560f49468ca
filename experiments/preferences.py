"""What the stages on preferences share: how pairs are read, judged and shown."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from experiments.config_kinds import require_kind
from experiments.conversations import prepare_preferences, show_first_pairs
from experiments.loop import Stage
from experiments.preference_config import PreferenceConfig
from experiments.progress import task
from experiments.stage import with_epochs
from experiments.tuning import (
    Base,
    Figures,
    Tuning,
    load_base,
    of_base,
    run_tuning,
    shown,
    trained_words,
)
from lilith.data.pairs import PairCorpus, PairRows
from lilith.evals.preferences import wilson_interval
from lilith.model.params import Params
from lilith.sharding import make_mesh
from lilith.train.preferences import PairBatch, won
from lilith.train.state import put_rows

BOUNDS = ("low", "high")  # of the interval of the accuracy


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a model makes of pairs, N of them with two sides each.

    Attributes:
      values_NS: scores, or log-probabilities of the answers.
      lengths_NS: learnt tokens.
      difference_N: what says which side is ahead.
      nll_N: the loss.
      label_N: probability that the chosen side is the better one.
    """

    values_NS: np.ndarray
    lengths_NS: np.ndarray
    difference_N: np.ndarray
    nll_N: np.ndarray
    label_N: np.ndarray

    @property
    def won_N(self) -> np.ndarray:
        """1 where the better side is ahead, 1/2 for a tie."""
        return np.asarray(won(jnp.asarray(self.difference_N), jnp.asarray(self.label_N)))

    @classmethod
    def together(cls, parts: list[Judged]) -> Judged:
        """All pairs of several."""
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in dataclasses.fields(cls)
            )
        )


class PreferenceTuning(Tuning):
    """One run of a stage on preferences; the stage says how a model judges pairs.

    Attributes:
      reader: jitted (params, frozen, pairs) -> one value a side, float32 [P, 2]; set by the stage.
      judged: what the last whole evaluation found.
    """

    config: PreferenceConfig
    corpus: PairCorpus
    reader: Callable[[Params, Params | None, PairBatch], jax.Array]
    heading = "on held-out pairs"
    table_name = "preferences"
    rows_each = 2

    def __init__(
        self,
        config: PreferenceConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        pairs: PairCorpus,
    ) -> None:
        super().__init__(config, workdir, mesh, base, pairs)
        self.draws = bool(config.lora.dropout)
        self.judged: Judged | None = None

    def as_stage(self) -> Stage:
        """What the loop asks for: pairs instead of rows."""
        return dataclasses.replace(super().as_stage(), put=partial(put_rows, PairBatch))

    @abc.abstractmethod
    def judge(self, rows: PairRows, order: np.ndarray, values_NS: np.ndarray) -> Judged:
        """What the values of the pairs ``order`` of ``rows`` say."""

    @abc.abstractmethod
    def figures(self, judged: Judged) -> Figures:
        """The stage's own figures of held-out pairs."""

    def read(
        self, reader: Callable[[PairBatch], jax.Array], rows: PairRows, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the pairs in the order of reading, and ``reader``'s values of them [N, 2]."""
        batches = rows.batches(self.config.train.batch, limit_rows=limit, **self.hosts)
        found = []
        for batch in batches:
            values = reader(put_rows(PairBatch, batch, self.mesh))
            if jax.process_count() > 1:
                values = multihost_utils.process_allgather(values, tiled=True)
            found.append(np.asarray(values))
        order = np.array(batches.order, np.int64)
        return order, np.concatenate(found)[: len(order)]

    def evaluate(self, params: Params, whole: bool) -> Figures:
        """Loss, accuracy with its 95% interval and the stage's figures; accuracy by domain."""
        limit = None if whole else self.config.train.eval_rows
        reader = partial(self.reader, params, self.frozen)
        parts = {
            domain: self.judge(rows, *self.read(reader, rows, limit))
            for domain, rows in self.corpus.held_out.items()
        }
        every = Judged.together(list(parts.values()))
        if whole:
            self.judged = every
        wins, count = float(every.won_N.sum()), len(every.won_N)
        found = {"validation_loss": float(every.nll_N.mean()), "validation_accuracy": wins / count}
        for name, bound in zip(BOUNDS, wilson_interval(wins, count)):
            found[f"validation_accuracy_{name}"] = bound
        found |= self.figures(every)
        if len(parts) > 1:
            for domain, part in parts.items():
                found[f"validation_accuracy_of_{domain}"] = float(part.won_N.mean())
        return found

    def table(self, before: Figures, after: Figures) -> dict[str, str]:
        """The figures before and after, the interval of the accuracy beside it."""
        bounds = [f"validation_accuracy_{name}" for name in BOUNDS]

        def words(found: Figures, name: str) -> str:
            if name != "validation_accuracy":
                return f"{found[name]:.4f}"
            low, high = (found[bound] for bound in bounds)
            return f"{found[name]:.4f} (95%: {low:.4f} to {high:.4f})"

        return {
            shown(name): f"{words(before, name)} before, {words(after, name)} after"
            for name in after
            if name not in bounds
        }

    def more(self, before: Figures, after: Figures) -> dict[str, Any]:
        """How many pairs the figures are of."""
        return {"held_out_pairs": sum(map(len, self.corpus.held_out.values()))}


def run_preferences(
    config: PreferenceConfig, workdir: pathlib.Path, kind: type[PreferenceTuning], example: str
) -> int:
    """Train (or go on training) a stage on preferences in ``workdir``; the exit code."""
    config = require_kind(config, PreferenceConfig, example)
    mesh = make_mesh(config.mesh)
    base = load_base(config, mesh)
    config = of_base(config, base)
    with task("reading pairs", enabled=jax.process_index() == 0):
        pairs = prepare_preferences(config, base.tokenizer, base.template)
    config = with_epochs(config, len(pairs.train))
    return run_tuning(
        config, workdir, pairs.lines(), lambda: kind(config, workdir, mesh, base, pairs)
    )


def dry_run_preferences(config: PreferenceConfig, example: str) -> int:
    """Print what the run would train, and on what; train nothing."""
    config = require_kind(config, PreferenceConfig, example)
    base = load_base(config, make_mesh(config.mesh))
    config = of_base(config, base)
    pairs = prepare_preferences(config, base.tokenizer, base.template)
    config = with_epochs(config, len(pairs.train))
    print(f"{config.name}: stage {config.stage}, {config.train.steps:,} steps from {base.info}")
    print(trained_words(config))
    tokens = 2 * config.train.batch * config.data.length
    print(f"tokens a step     {tokens:,} ({config.train.batch} pairs of rows of "
          f"{config.data.length})")  # fmt: skip
    for line in pairs.lines():
        print(line)
    show_first_pairs(config, pairs)
    return 0
