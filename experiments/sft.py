"""Instruction tuning: conversations, a base model, all its weights or an adapter over them."""

from __future__ import annotations

import pathlib
from functools import partial
from typing import Any

import jax

from experiments.config_kinds import require_kind
from experiments.conversations import Conversations, prepare_conversations, show_first_batch
from experiments.progress import task
from experiments.stage import with_epochs
from experiments.tuning import (
    Base,
    Figures,
    Tuning,
    load_base,
    of_base,
    run_tuning,
    trained_words,
)
from experiments.tuning_config import TuningConfig
from lilith.model.params import Params
from lilith.sharding import make_mesh
from lilith.train.sft import sft_loss
from lilith.train.state import put_batch


def run(config: TuningConfig, workdir: pathlib.Path) -> int:
    """Tune (or go on tuning) in ``workdir`` and return the exit code."""
    config = require_kind(config, TuningConfig, "sft_smollm2")
    mesh = make_mesh(config.mesh)
    base = load_base(config, mesh)
    config = of_base(config, base)
    with task("reading conversations", enabled=jax.process_index() == 0):
        chats = prepare_conversations(config, base.tokenizer, base.template)
    config = with_epochs(config, len(chats.corpus.train))
    return run_tuning(
        config,
        workdir,
        chats.corpus.lines(),
        lambda: ChatTuning(config, workdir, mesh, base, chats),
    )


def dry_run(config: TuningConfig) -> int:
    """Print what the run would train, and on what; train nothing."""
    config = require_kind(config, TuningConfig, "sft_smollm2")
    base = load_base(config, make_mesh(config.mesh))
    config = of_base(config, base)
    chats = prepare_conversations(config, base.tokenizer, base.template)
    config = with_epochs(config, len(chats.corpus.train))
    print(f"{config.name}: stage {config.stage}, {config.train.steps:,} steps from {base.info}")
    print(trained_words(config))
    tokens = config.train.batch * config.data.length
    print(f"tokens a step     {tokens:,} ({config.train.batch} rows of {config.data.length})")
    for line in chats.corpus.lines():
        print(line)
    show_first_batch(config, chats)
    return 0


class ChatTuning(Tuning):
    """The stage's functions, bound to one run."""

    def __init__(
        self,
        config: TuningConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        chats: Conversations,
    ) -> None:
        super().__init__(config, workdir, mesh, base, chats.corpus)
        self.chats = chats
        self.loss = partial(
            sft_loss,
            config=config.model,
            lora=config.lora,
            neftune=config.neftune,
            z_loss=config.train.z_loss,
            chunk=config.train.loss_chunk,
        )
        self.draws = bool(config.neftune or config.lora.dropout)
        self._sums = jax.jit(
            lambda params, frozen, batch: self.loss(params, batch, frozen=frozen)[1:]
        )

    def evaluate(self, params: Params, whole: bool) -> Figures:
        """Mean loss in nats a learnt token, over all held-out conversations and by domain."""
        limit = None if whole else self.config.train.eval_rows
        found, nll, weight = {}, 0.0, 0.0
        for domain, rows in self.corpus.held_out.items():
            sums = self._sum(params, rows, limit)
            found[f"validation_loss_{domain}"] = sums[0] / sums[1]
            nll, weight = nll + sums[0], weight + sums[1]
        if len(found) == 1:
            found = {}
        for name, rows in self.chats.watched.items():
            sums = self._sum(params, rows, limit)
            found[f"watched_loss_{name}"] = sums[0] / sums[1]
        return {"validation_loss": nll / weight, **found}

    def _sum(self, params: Params, rows: Any, limit: int | None) -> tuple[float, float]:
        nll = weight = 0.0
        for batch in rows.batches(self.config.train.batch, limit_rows=limit, **self.hosts):
            sums = self._sums(params, self.frozen, put_batch(batch, self.mesh))
            nll, weight = nll + float(sums[0]), weight + float(sums[1])
        return nll, weight

    def more(self, before: Figures, after: Figures) -> dict[str, Any]:
        """How well the conversations fill their rows."""
        return {"packing_waste": self.corpus.report.padding}
