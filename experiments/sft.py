"""Instruction tuning: conversations, a base model, all its weights or an adapter over them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from functools import partial
from typing import Any

import jax

from experiments.config_kinds import require_kind
from experiments.conversations import Conversations, prepare_conversations, show_first_batch
from experiments.loop import Stage, train
from experiments.progress import task
from experiments.report import write_report
from experiments.stage import (
    Samples,
    is_reported,
    last_evaluation,
    progress_of,
    say,
    say_finished,
    stopped,
    versions,
    with_epochs,
)
from experiments.tuning_config import TuningConfig
from experiments.workdir import claim_workdir
from lilith.config import ConfigError, ModelConfig
from lilith.data.chat import prompt_ids
from lilith.interop.huggingface_tokenizer import TEMPLATE_FILE
from lilith.interop.load import CheckpointInfo, load_model, merge_adapters
from lilith.model.params import Params, abstract_params, count_params
from lilith.sharding import make_mesh
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate
from lilith.train.checkpoint import Checkpointer
from lilith.train.lora import (
    abstract_adapter,
    apply_adapter,
    init_adapter,
    save_adapter,
)
from lilith.train.metrics import write_atomically
from lilith.train.sft import sft_loss
from lilith.train.state import put_batch


@dataclasses.dataclass(frozen=True)
class Base:
    """The model that a run starts from; ``params`` are stacked and in their places."""

    params: Params
    model: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate
    info: CheckpointInfo


def run(config: TuningConfig, workdir: pathlib.Path) -> int:
    """Tune (or go on tuning) in ``workdir`` and return the exit code."""
    config = require_kind(config, TuningConfig, "sft_smollm2")
    shows = jax.process_index() == 0
    mesh = make_mesh(config.mesh)
    base = load_base(config, mesh)
    config = of_base(config, base)
    with task("reading conversations", enabled=shows):
        chats = prepare_conversations(config, base.tokenizer, base.template)
    config = with_epochs(config, len(chats.corpus.train))
    for line in claim_workdir(config, workdir):
        say(line, shows)
    with Checkpointer(
        workdir / "checkpoints", keep=config.checkpoint.keep, keep_best=config.checkpoint.keep_best
    ) as checkpointer:
        latest = checkpointer.latest_step()
        if latest is not None and latest >= config.train.steps and is_reported(workdir):
            say_finished(workdir, latest, config.train.steps, shows)
            return 0
        for line in chats.lines():
            say(f"  {line}", shows)
        tuning = Tuning(config, workdir, mesh, base, chats)
        say(tuning.introduction(), shows)
        began = time.perf_counter()
        if latest is None:
            tuning.look_before()
        with progress_of(config, latest or 0, shows) as progress:
            outcome = train(tuning.as_stage(), progress, checkpointer)
    if outcome.signal is not None and not outcome.finished:
        return stopped(outcome, workdir, shows)
    if shows:
        tuning.finish(outcome.state.params, time.perf_counter() - began)
    return 0


def dry_run(config: TuningConfig) -> int:
    """Print what the run would train, and on what; train nothing."""
    config = require_kind(config, TuningConfig, "sft_smollm2")
    base = load_base(config, make_mesh(config.mesh))
    config = of_base(config, base)
    chats = prepare_conversations(config, base.tokenizer, base.template)
    config = with_epochs(config, len(chats.corpus.train))
    print(f"{config.name}: stage {config.stage}, {config.train.steps:,} steps from {base.info}")
    print(_trained_words(config))
    tokens = config.train.batch * config.data.length
    print(f"tokens a step     {tokens:,} ({config.train.batch} rows of {config.data.length})")
    for line in chats.lines():
        print(line)
    show_first_batch(config, chats)
    return 0


def load_base(config: TuningConfig, mesh: jax.sharding.Mesh) -> Base:
    """The base, its adapters merged, spread over ``mesh``.

    Raises:
      ConfigError: it has no chat template, or a shorter context than the rows.
      UserError: it can not be loaded.
    """
    compute = config.compute_dtype
    if compute == "auto":
        compute = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    # All weights are trained in float32; those below an adapter are only read.
    stored = compute if config.lora.rank else "float32"
    params, model, tokenizer, info = load_model(config.base, mesh=mesh, dtype=stored, layered=False)
    params = merge_adapters(params, model, config.adapters)
    model = dataclasses.replace(
        model, param_dtype=stored, compute_dtype=compute, remat=config.remat, attention="auto"
    )
    if config.data.length > model.context:
        raise ConfigError(
            f"data.length is {config.data.length}, longer than the context of {config.base} "
            f"({model.context}); shorten the rows"
        )
    source = CHATML if config.data.template == "chatml" else info.chat_template
    if source is None:
        raise ConfigError(
            f"{config.base} carries no chat template; --set data.template=chatml trains it in "
            "LILITH's own"
        )
    return Base(params, model, tokenizer, ChatTemplate.of(source, tokenizer), info)


def of_base(config: TuningConfig, base: Base) -> TuningConfig:
    """The config with what it takes from its base."""
    return dataclasses.replace(
        config, model=base.model, add_bos=base.info.add_bos, stop_ids=base.info.stop_ids
    )


class Tuning:
    """The stage's functions, bound to one run."""

    def __init__(
        self,
        config: TuningConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        chats: Conversations,
    ) -> None:
        self.config, self.workdir, self.mesh = config, workdir, mesh
        self.base, self.chats = base, chats
        self.frozen = base.params if config.lora.rank else None
        self.loss = partial(
            sft_loss,
            config=config.model,
            lora=config.lora,
            neftune=config.neftune,
            z_loss=config.train.z_loss,
            chunk=config.train.loss_chunk,
        )
        self._sums = jax.jit(
            lambda params, frozen, batch: self.loss(params, batch, frozen=frozen)[1:]
        )
        tokenizer, prompts = base.tokenizer, config.train.sample_prompts
        ids = [
            prompt_ids([{"role": "user", "content": prompt}], tokenizer, base.template)
            for prompt in prompts
        ]
        stops = (tokenizer.eos_id, *base.info.stop_ids)
        shown = [f"{prompt}\n" for prompt in prompts]
        self.samples = Samples(workdir, shown, ids, stops, tokenizer, mesh)

    def as_stage(self) -> Stage:
        """What the loop asks for."""
        config = self.config
        hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
        folder = self.workdir / "tokenizer"
        if jax.process_index() == 0:
            self.base.tokenizer.save(folder)
            write_atomically(folder / TEMPLATE_FILE, self.base.template.source)
        if config.lora.rank:
            target = abstract_adapter(config.model, config.lora, self.mesh)
        else:
            target = abstract_params(config.model, self.mesh)
        return Stage(
            config=config,
            workdir=self.workdir,
            mesh=self.mesh,
            loss=self.loss,
            batches=self.chats.corpus.train_iterator(
                config.train.batch, seed=config.seed, workers=config.data.workers, **hosts
            ),
            evaluate=self.evaluate,
            sample=self.sample if config.train.sample_prompts else None,
            tokenizer_directory=folder,
            start=self.start,
            target=target,
            frozen=self.frozen,
            draws=bool(config.neftune or config.lora.dropout),
        )

    def start(self) -> Params:
        """The first parameters: the base's, or an adapter that changes nothing yet."""
        config = self.config
        if not config.lora.rank:
            return self.base.params
        target = abstract_adapter(config.model, config.lora, self.mesh)
        make = jax.jit(
            partial(init_adapter, config.seed, config=config.model, lora=config.lora),
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, target),
        )
        with jax.set_mesh(self.mesh):
            return make(self.base.params)

    def introduction(self) -> str:
        """A line on what is about to be trained on what."""
        corpus = self.chats.corpus
        return (
            f"{self.base.info}; {_trained_words(self.config)}; {corpus.train.trained_tokens:,} "
            f"learnt tokens in {len(corpus.train):,} rows of {corpus.train.length}"
        )

    def evaluate(self, params: Params, whole: bool) -> dict[str, float]:
        """Mean loss in nats a learnt token, over all held-out conversations and by domain."""
        limit = None if whole else self.config.train.eval_rows
        found, nll, weight = {}, 0.0, 0.0
        for domain, rows in self.chats.held_out.items():
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
        hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
        for batch in rows.batches(self.config.train.batch, limit_rows=limit, **hosts):
            sums = self._sums(params, self.frozen, put_batch(batch, self.mesh))
            nll, weight = nll + float(sums[0]), weight + float(sums[1])
        return nll, weight

    def sample(self, params: Params, step: int) -> str:
        """Answer the config's prompts, keep the texts, and show the first."""
        config = self.config
        if self.frozen is not None:
            params = apply_adapter(self.frozen, params, config.lora)
        return self.samples.write(params, step, config.model, config.train, config.seed)

    def look_before(self) -> None:
        """Losses and answers before the first step, to compare with."""
        params = self.start()
        with jax.set_mesh(self.mesh):
            found = self.evaluate(params, whole=True)
            if self.config.train.sample_prompts:
                self.sample(params, 0)
        if jax.process_index() == 0:
            write_atomically(self.workdir / "before.json", json.dumps(found, indent=2) + "\n")
            print(f"before: {_figures(found)}", flush=True)

    def finish(self, params: Params, seconds: float) -> None:
        """Save the adapter, write summary and report, and print losses before and after."""
        config, corpus = self.config, self.chats.corpus
        if config.lora.rank:
            folder = self.workdir / "adapter"
            save_adapter(
                folder, params, config.lora, base=config.base, base_config=config.model,
                adapters=config.adapters,
            )  # fmt: skip
            write_atomically(folder / TEMPLATE_FILE, self.base.template.source)
        before = json.loads((self.workdir / "before.json").read_text())
        after = last_evaluation(self.workdir)
        table = {
            _shown(name): f"{value:.4f} before, {after[name]:.4f} after"
            for name, value in before.items()
            if name in after
        }
        summary = {
            "parameters": count_params(config.model),
            "tokens": config.train.steps * config.train.batch * config.data.length,
            "wall_seconds": seconds,
            "packing_waste": corpus.report.padding,
            "losses": table,
            "conversations": corpus.report.to_dict(),
            "before": before,
            "after": {name: after[name] for name in before if name in after},
            "versions": versions(),
        }
        write_atomically(self.workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
        path = write_report(self.workdir)
        print("\nloss in nats a learnt token:")
        for name, words in table.items():
            print(f"  {name:<28} {words}")
        if config.lora.rank:
            print(f"adapter: {self.workdir / 'adapter'}")
        print(f"report: {path}\ncheckpoints: {self.workdir / 'checkpoints'}")


def _trained_words(config: TuningConfig) -> str:
    if not config.lora.rank:
        return f"all {count_params(config.model):,} parameters trained"
    adapter = abstract_adapter(config.model, config.lora)
    count = sum(leaf.size for leaf in jax.tree.leaves(adapter))
    kind = "DoRA" if config.lora.dora else "LoRA"
    return (
        f"{count:,} of {count + count_params(config.model):,} parameters trained ({kind}, rank "
        f"{config.lora.rank})"
    )


def _figures(found: dict[str, float]) -> str:
    return "  ".join(f"{_shown(name)} {value:.4f}" for name, value in found.items())


def _shown(name: str) -> str:
    return name.replace("_", " ")
