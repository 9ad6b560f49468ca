"""What the stages that start from a model share: the model, what is trained, a run's course."""

from __future__ import annotations

import abc
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax

from experiments.loop import Stage, train
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
)
from experiments.tuning_config import FromModelConfig, LoopConfig
from experiments.workdir import checkpoints_of, claim_workdir, open_checkpoints
from lilith.config import ConfigError, ModelConfig
from lilith.data.chat import prompt_ids
from lilith.data.chat_rows import ChatCorpus
from lilith.data.pairs import PairCorpus
from lilith.interop.huggingface_tokenizer import TEMPLATE_FILE
from lilith.interop.load import CheckpointInfo, load_model, merge_adapters
from lilith.model.params import Params, abstract_params, count_params
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate
from lilith.train.lora import abstract_adapter, apply_adapter, init_adapter, save_adapter
from lilith.train.metrics import write_atomically
from lilith.train.offload import require_host_memory
from lilith.train.step import LossFunction

F = TypeVar("F", bound=FromModelConfig)
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Base:
    """The model that a run starts from; ``params`` are stacked and in their places."""

    params: Params
    model: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate
    info: CheckpointInfo

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Any of these ends an answer."""
        return (self.tokenizer.eos_id, *self.info.stop_ids)


def load_base(config: FromModelConfig, mesh: jax.sharding.Mesh) -> Base:
    """The base, its adapters merged, spread over ``mesh``.

    Raises:
      ConfigError: it has no chat template, or a shorter context than the rows; or the devices have
        no host memory for what is to be kept there.
      UserError: it can not be loaded.
    """
    require_host_memory(mesh, remat=config.remat, offload=config.optimizer.offload)
    compute = compute_dtype(config)
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


def compute_dtype(config: FromModelConfig) -> str:
    """The type that products are computed in; a CPU has no fast ones of smaller types."""
    if config.compute_dtype != "auto":
        return config.compute_dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def of_base(config: F, base: Base) -> F:
    """The config with what it takes from its base."""
    return dataclasses.replace(
        config, model=base.model, add_bos=base.info.add_bos, stop_ids=base.info.stop_ids
    )


def fresh_adapter(
    config: FromModelConfig, mesh: jax.sharding.Mesh, base: Base, seed: int
) -> Params:
    """An adapter on ``mesh`` that changes nothing yet."""
    target = abstract_adapter(config.model, config.lora, mesh)
    make = jax.jit(
        partial(init_adapter, seed, config=config.model, lora=config.lora),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, target),
    )
    with jax.set_mesh(mesh):
        return make(base.params)


def write_tokenizer(folder: pathlib.Path, base: Base) -> None:
    """Write the base's tokenizer and the template of the run."""
    base.tokenizer.save(folder)
    write_atomically(folder / TEMPLATE_FILE, base.template.source)


def write_adapter(
    folder: pathlib.Path, adapter: Params, config: FromModelConfig, base: Base
) -> str:
    """Write an adapter so that ``load_checkpoint`` reads it; a line that says where."""
    save_adapter(
        folder, adapter, config.lora, base=config.base, base_config=config.model,
        adapters=config.adapters,
    )  # fmt: skip
    write_atomically(folder / TEMPLATE_FILE, base.template.source)
    return f"adapter: {folder}"


class Tuning(abc.ABC):
    """One run of a stage that starts from a model.

    A stage gives :meth:`evaluate`, and what it changes of the rest.

    Attributes:
      loss: what the training step minimises; set by the stage.
      draws: whether the loss draws random numbers; set by the stage.
      frozen: the weights below an adapter; None where all are trained.
      samples: what the model writes for the config's prompts; None for a stage that shows none.
    """

    loss: LossFunction
    draws: bool
    heading = "loss in nats a learnt token"  # above the figures before and after
    table_name = "losses"  # of the same figures, in the report
    rows_each = 1  # see Stage
    writes = True  # whether what is trained writes texts

    def __init__(
        self,
        config: LoopConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        corpus: ChatCorpus | PairCorpus,
    ) -> None:
        self.config, self.workdir, self.mesh = config, workdir, mesh
        self.base, self.corpus = base, corpus
        self.frozen = base.params if config.lora.rank else None
        self.hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
        self.samples = self._samples() if self.writes and config.train.sample_prompts else None

    @abc.abstractmethod
    def evaluate(self, params: Params, whole: bool) -> Figures:
        """Named figures of what is held out, ``validation_loss`` among them."""

    def target(self) -> Params:
        """Shapes, dtypes and places of what is trained."""
        if self.config.lora.rank:
            return abstract_adapter(self.config.model, self.config.lora, self.mesh)
        return abstract_params(self.config.model, self.mesh)

    def start(self) -> Params:
        """The first parameters: the base's, or an adapter that changes nothing yet."""
        if not self.config.lora.rank:
            return self.base.params
        return fresh_adapter(self.config, self.mesh, self.base, self.config.seed)

    def as_stage(self) -> Stage:
        """What the loop asks for."""
        config = self.config
        folder = self.workdir / "tokenizer"
        if jax.process_index() == 0:
            write_tokenizer(folder, self.base)
        return Stage(
            config=config,
            workdir=self.workdir,
            mesh=self.mesh,
            loss=self.loss,
            batches=self.corpus.train_iterator(
                config.train.batch, seed=config.seed, workers=config.data.workers, **self.hosts
            ),
            evaluate=self.evaluate,
            sample=None if self.samples is None else self.sample,
            tokenizer_directory=folder,
            start=self.start,
            target=self.target(),
            frozen=self.frozen,
            draws=self.draws,
            rows_each=self.rows_each,
        )

    def introduction(self) -> str:
        """A line on what is about to be trained on what."""
        rows = self.corpus.train
        return (
            f"{self.base.info}; {trained_words(self.config)}; {rows.trained_tokens:,} "
            f"learnt tokens in {self.rows_each * len(rows):,} rows of {rows.length}"
        )

    def _samples(self) -> Samples:
        base, prompts = self.base, self.config.train.sample_prompts
        ids = [
            prompt_ids([{"role": "user", "content": prompt}], base.tokenizer, base.template)
            for prompt in prompts
        ]
        shown = [f"{prompt}\n" for prompt in prompts]
        return Samples(self.workdir, shown, ids, base.stop_ids, base.tokenizer, self.mesh)

    def sample(self, params: Params, step: int) -> str:
        """Answer the config's prompts, keep the texts, and show the first."""
        assert self.samples is not None
        config = self.config
        if self.frozen is not None:
            params = apply_adapter(self.frozen, params, config.lora)
        return self.samples.write(params, step, config.model, config.train, config.seed)

    def look_before(self) -> None:
        """Figures and answers before the first step, to compare with."""
        params = self.start()
        with jax.set_mesh(self.mesh):
            found = self.evaluate(params, whole=True)
            if self.samples is not None:
                self.sample(params, 0)
        if jax.process_index() == 0:
            write_atomically(self.workdir / "before.json", json.dumps(found, indent=2) + "\n")
            words = "  ".join(f"{shown(name)} {value:.4f}" for name, value in found.items())
            print(f"before: {words}", flush=True)

    def finish(self, params: Params, seconds: float) -> None:
        """Save what was learnt, write summary and report, and print figures before and after."""
        config = self.config
        saved = self.save(params)
        before = json.loads((self.workdir / "before.json").read_text())
        last = last_evaluation(self.workdir)
        after = {name: last[name] for name in before if name in last}
        table = self.table(before, after)
        tokens = config.train.steps * config.train.batch * config.data.length * self.rows_each
        summary = {
            "parameters": count_params(config.model),
            "tokens": tokens,
            "wall_seconds": seconds,
            self.table_name: table,
            "conversations": self.corpus.report.to_dict(),
            "before": before,
            "after": after,
            **self.more(before, after),
            "versions": versions(),
        }
        write_atomically(self.workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
        path = write_report(self.workdir)
        print(f"\n{self.heading}:")
        for name, words in table.items():
            print(f"  {name:<28} {words}")
        kept = checkpoints_of(self.config, self.workdir)
        for line in (*saved, f"report: {path}", f"checkpoints: {kept}"):
            print(line)

    def save(self, params: Params) -> list[str]:
        """Write what was learnt apart from the checkpoints; lines that say where."""
        config = self.config
        if not config.lora.rank:
            return []
        return [write_adapter(self.workdir / "adapter", params, config, self.base)]

    def table(self, before: Figures, after: Figures) -> dict[str, str]:
        """The figures before and after, in words."""
        return {
            shown(name): f"{before[name]:.4f} before, {value:.4f} after"
            for name, value in after.items()
        }

    def more(self, before: Figures, after: Figures) -> dict[str, Any]:
        """What else the summary says."""
        return {}


def run_tuning(
    config: LoopConfig,
    workdir: pathlib.Path,
    lines: Sequence[str],
    make: Callable[[], Tuning],
) -> int:
    """Train, or go on training, in ``workdir``; the exit code.

    Args:
      lines: on the data, for the log.
      make: gives the run, once the folder is this config's.
    """
    shows = jax.process_index() == 0
    for line in claim_workdir(config, workdir):
        say(line, shows)
    with open_checkpoints(config, workdir) as checkpointer:
        latest = checkpointer.latest_step()
        if latest is not None and latest >= config.train.steps and is_reported(workdir):
            say_finished(workdir, latest, config.train.steps, shows)
            return 0
        for line in lines:
            say(f"  {line}", shows)
        tuning = make()
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


def trained_words(config: FromModelConfig) -> str:
    """How much of the model is trained."""
    if not config.lora.rank:
        return f"all {count_params(config.model):,} parameters trained"
    adapter = abstract_adapter(config.model, config.lora)
    count = sum(leaf.size for leaf in jax.tree.leaves(adapter))
    kind = "DoRA" if config.lora.dora else "LoRA"
    return (
        f"{count:,} of {count + count_params(config.model):,} parameters trained ({kind}, rank "
        f"{config.lora.rank})"
    )


def shown(name: str) -> str:
    """A figure's name, to read."""
    return name.replace("_", " ")
