"""The pretraining stage: corpus, training, held-out bits per byte beside honest baselines."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments import dry_run as dry
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
from experiments.workdir import checkpoints_of, claim_workdir, open_checkpoints
from lilith.config import ConfigError, ExperimentConfig
from lilith.config_parsing import to_json
from lilith.data import Corpus, ValidationSet, prepare
from lilith.model.attention import choose_implementation
from lilith.model.params import count_params
from lilith.paths import cache_folder
from lilith.sharding import DEFAULT_RULES, ShardingRules, make_mesh
from lilith.storage import local_copy
from lilith.tokenizer import load_tokenizer
from lilith.train.checkpoint import CheckpointInfo, list_checkpoints
from lilith.train.metrics import write_atomically
from lilith.train.offload import require_host_memory
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import put_batch
from lilith.train.step import LossFunction

BASELINE_MEGABYTES = 512  # of training text that the n-gram baseline counts, in memory


def run(config: ExperimentConfig, workdir: pathlib.Path) -> int:
    """Train (or go on training) in ``workdir`` and return the exit code."""
    shows = jax.process_index() == 0
    mesh = make_mesh(config.mesh)
    require_host_memory(mesh, remat=config.model.remat, offload=config.optimizer.offload)
    for line in claim_workdir(config, workdir):
        say(line, shows)
    folder = checkpoints_of(config, workdir)
    with open_checkpoints(config, workdir) as checkpointer:
        latest = checkpointer.latest_step()
        corpus = None
        if config.data.epochs:  # how many steps they are shows when the rows are counted
            corpus = _corpus(config, next(reversed(list_checkpoints(folder)), None), shows)
            config = with_epochs(config, corpus.rows)
            if shows:
                write_atomically(workdir / "config.json", to_json(config))
        if latest is not None and latest >= config.train.steps and is_reported(workdir):
            say_finished(workdir, latest, config.train.steps, shows)
            return 0
        corpus = corpus or _corpus(config, next(reversed(list_checkpoints(folder)), None), shows)
        stage = _Pretraining(config, workdir, mesh, corpus)
        say(stage.introduction(), shows)
        began = time.perf_counter()
        with progress_of(config, latest or 0, shows) as progress:
            outcome = train(stage.as_stage(), progress, checkpointer)
    if outcome.signal is not None and not outcome.finished:
        return stopped(outcome, workdir, shows)
    if shows:
        _finish(config, workdir, corpus, time.perf_counter() - began)
    return 0


def dry_run(config: ExperimentConfig) -> int:
    """Print what the run would be; train nothing."""
    dry.show_costs(config)
    corpus = _corpus(config, None, shows=True)
    if config.data.epochs:
        print(f"steps             {with_epochs(config, corpus.rows).train.steps:,}")
    dry.show_first_batch(config, corpus)
    return 0


def loss_of(config: ExperimentConfig, rules: ShardingRules = DEFAULT_RULES) -> LossFunction:
    """The loss that this stage trains with."""
    return partial(
        pretrain_loss,
        config=config.model,
        z_loss=config.train.z_loss,
        chunk=config.train.loss_chunk,
        rules=rules,
    )


class _Pretraining:
    """The stage's functions, bound to one run."""

    def __init__(
        self, config: ExperimentConfig, workdir: pathlib.Path, mesh: Any, corpus: Corpus
    ) -> None:
        self.config, self.workdir, self.mesh, self.corpus = config, workdir, mesh, corpus
        self.loss = loss_of(config)
        self.evaluation = jax.jit(lambda params, batch: self.loss(params, batch)[1:])
        hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
        self.whole = corpus.validation(config.train.batch, **hosts)
        self.quick = corpus.validation(
            config.train.batch, limit_rows=config.train.eval_rows, **hosts
        )
        self.batches = corpus.train_iterator(
            config.train.batch, seed=config.seed, workers=config.data.workers, **hosts
        )
        tokenizer, prompts = corpus.tokenizer, config.train.sample_prompts
        ids = [[tokenizer.bos_id, *tokenizer.encode(prompt)] for prompt in prompts]
        self.samples = Samples(workdir, prompts, ids, (tokenizer.eos_id,), tokenizer, mesh)

    def as_stage(self) -> Stage:
        """What the loop asks for."""
        tokenizer_directory = self.workdir / "tokenizer"
        if jax.process_index() == 0:
            self.corpus.tokenizer.save(tokenizer_directory)
        samples = bool(self.config.train.sample_prompts)
        return Stage(
            config=self.config,
            workdir=self.workdir,
            mesh=self.mesh,
            loss=self.loss,
            batches=self.batches,
            evaluate=self.evaluate,
            sample=self.sample if samples else None,
            tokenizer_directory=tokenizer_directory,
        )

    def introduction(self) -> str:
        """A line on what is about to be trained on what."""
        with jax.set_mesh(self.mesh):
            implementation = choose_implementation(
                self.config.model,
                self.config.data.length,
                in_order=True,
                platform=jax.default_backend(),
            )
        return (
            f"{count_params(self.config.model):,} parameters; {self.corpus.tokens:,} training "
            f"tokens in {self.corpus.rows:,} rows of {self.corpus.length} "
            f"({self.corpus.waste:.2%} padding); {self.whole.bytes:,} bytes held out; "
            f"{implementation} attention on {jax.default_backend()}"
        )

    def evaluate(self, params: Any, whole: bool) -> dict[str, float]:
        """Mean loss in nats a token and bits per byte on held-out text."""
        chosen: ValidationSet = self.whole if whole else self.quick
        nll = weight = 0.0
        for rows in chosen:
            sums = self.evaluation(params, put_batch(rows, self.mesh))
            nll, weight = nll + float(sums[0]), weight + float(sums[1])
        return {
            "validation_loss": nll / weight,
            "validation_bits_per_byte": nll / np.log(2) / chosen.bytes,
        }

    def sample(self, params: Any, step: int) -> str:
        """Continue the config's prompts, keep the texts, and show the first."""
        config = self.config
        return self.samples.write(params, step, config.model, config.train, config.seed)


def _corpus(config: ExperimentConfig, checkpoint: CheckpointInfo | None, shows: bool) -> Corpus:
    """The corpus of the run; if it goes on from a checkpoint, the one it was trained on."""
    fingerprint = None if checkpoint is None else checkpoint.data_state.get("corpus")
    cache = pathlib.Path(config.data.cache).expanduser() if config.data.cache else cache_folder()
    with task("preparing the corpus", enabled=shows) as report:
        corpus = prepare(
            config.data, config.tokenizer, cache=cache, resume=fingerprint, progress=report
        )
    for line in corpus.report.lines():
        say(f"  {line}", shows)
    size = corpus.tokenizer.vocab_size
    if size > config.model.vocab:
        raise ConfigError(
            f"the tokenizer has {size:,} tokens and model.vocab is {config.model.vocab:,}; set "
            f"model.vocab={size} or train a smaller tokenizer with tokenizer.vocab"
        )
    if checkpoint is not None and checkpoint.tokenizer_directory is not None:
        with local_copy(checkpoint.tokenizer_directory) as tokenizer:
            saved = load_tokenizer(tokenizer)
        if saved.fingerprint != corpus.tokenizer.fingerprint:
            raise ConfigError(
                f"the tokenizer of this config ({size:,} tokens) is not the one of the "
                f"checkpoint {checkpoint.directory} ({saved.vocab_size:,} tokens); use another "
                "--workdir, or the tokenizer of the checkpoint with tokenizer.path"
            )
    return corpus


def _finish(
    config: ExperimentConfig, workdir: pathlib.Path, corpus: Corpus, seconds: float
) -> None:
    """Baselines, summary, report, and the table a person came for."""
    from lilith.evals.compression import NgramModel, xz_bits_per_byte

    held_out = [text.encode() for text in corpus.validation_texts()]
    with task("counting byte 5-grams", total=1) as report:
        ngram = NgramModel.train(_first_bytes(corpus, BASELINE_MEGABYTES * 10**6))
        baselines = {
            "model": last_evaluation(workdir)["validation_bits_per_byte"],
            "byte 5-gram, Kneser-Ney": ngram.bits_per_byte(held_out),
            "xz -9": xz_bits_per_byte(b"".join(held_out)),
        }
        report(1, 1, "")
    summary = {
        "parameters": count_params(config.model),
        "tokens": config.train.steps * config.train.batch * config.data.length,
        "wall_seconds": seconds,
        "packing_waste": corpus.waste,
        "baselines": baselines,
        "corpus": [
            {
                "source": source.name,
                "documents": source.documents,
                "bytes": source.bytes,
                "tokens": source.tokens,
                "share": source.share,
            }
            for source in corpus.report.sources
            if not source.absent
        ],
        "tokenizer": {
            "kind": corpus.tokenizer.kind,
            "vocabulary": corpus.tokenizer.vocab_size,
            "bytes per token": sum(s.bytes for s in corpus.report.sources) / corpus.tokens,
        },
        "versions": versions(),
    }
    write_atomically(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    path = write_report(workdir)
    size = sum(map(len, held_out))
    print(f"\nbits per byte on {size:,} held-out bytes ({len(held_out)} documents):")
    for name, bits in sorted(baselines.items(), key=lambda item: item[1]):
        label = f"LILITH, {count_params(config.model):,} parameters" if name == "model" else name
        print(f"  {bits:6.3f}  {label}")
    print(f"\nreport: {path}\ncheckpoints: {checkpoints_of(config, workdir)}")


def _first_bytes(corpus: Corpus, count: int) -> Iterator[bytes]:
    """Training documents until they add up to ``count`` bytes."""
    for text in corpus.train_texts():
        if count <= 0:
            return
        raw = text.encode()
        count -= len(raw)
        yield raw
