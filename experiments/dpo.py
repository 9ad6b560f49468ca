"""Direct preference optimisation: a policy learns which answers are preferred, without rewards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import zipfile
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.preference_config import PreferenceConfig
from experiments.preferences import (
    Judged,
    PreferenceTuning,
    dry_run_preferences,
    run_preferences,
)
from experiments.stage import say
from experiments.tuning import Base, Figures, compute_dtype
from lilith.config import ConfigError, ModelConfig
from lilith.data.pairs import PairCorpus, PairRows
from lilith.interop.load import load_model
from lilith.model.params import Params
from lilith.train.dpo import dpo_loss, preference_loss
from lilith.train.log_probs import sequence_log_probs
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.preferences import PairBatch, pair_rows

EXAMPLE = "dpo_hh"
REFERENCES = "references.npz"


def run(config: PreferenceConfig, workdir: pathlib.Path) -> int:
    """Train (or go on training) a policy in ``workdir``; the exit code."""
    return run_preferences(config, workdir, DpoTuning, EXAMPLE)


def dry_run(config: PreferenceConfig) -> int:
    """Print what the run would train, and on what; train nothing."""
    return dry_run_preferences(config, EXAMPLE)


def pair_log_probs(
    params: Params,
    frozen: Params | None,
    pairs: PairBatch,
    *,
    config: ModelConfig,
    lora: LoraConfig,
    chunk: int,
) -> jax.Array:
    """Sums of the answers' log-probabilities, float32 [P, 2]."""
    weights = trained_weights(params, lora, frozen=frozen)
    return sequence_log_probs(weights, pair_rows(pairs), config=config, chunk=chunk).reshape(-1, 2)


class DpoTuning(PreferenceTuning):
    """The stage's functions, bound to one run."""

    def __init__(
        self,
        config: PreferenceConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        pairs: PairCorpus,
    ) -> None:
        super().__init__(config, workdir, mesh, base, pairs)
        dpo = config.dpo
        self.loss = partial(
            dpo_loss, config=config.model, lora=config.lora, beta=dpo.beta, kind=dpo.kind,
            label_smoothing=dpo.label_smoothing, sft=dpo.sft, chunk=config.train.loss_chunk,
        )  # fmt: skip
        self.reader = self._reader(config.model, config.lora)
        self._take_references()

    def _reader(self, model: ModelConfig, lora: LoraConfig) -> Any:
        chunk = self.config.train.loss_chunk
        return jax.jit(partial(pair_log_probs, config=model, lora=lora, chunk=chunk))

    def judge(self, rows: PairRows, order: np.ndarray, values_NS: np.ndarray) -> Judged:
        """How much further than the reference's the chosen side's log-probability is ahead."""
        dpo, lengths_NS = self.config.dpo, rows.answer_lengths[order]
        ratio_NS = values_NS - rows.reference_NS[order]
        if dpo.kind == "ipo":
            ratio_NS = ratio_NS / np.maximum(lengths_NS, 1).astype(np.float32)
        difference = ratio_NS[:, 0] - ratio_NS[:, 1]
        label = rows.label_N[order]
        smooth = label * (1 - dpo.label_smoothing) + (1 - label) * dpo.label_smoothing
        nll = np.asarray(preference_loss(difference, smooth, beta=dpo.beta, kind=dpo.kind))
        return Judged(values_NS, lengths_NS, difference, nll, label)

    def figures(self, judged: Judged) -> Figures:
        """The implicit reward's margin, and log-probabilities in nats an answer."""
        return {
            "validation_margin": float(self.config.dpo.beta * judged.difference_N.mean()),
            "validation_chosen_log_prob": float(judged.values_NS[:, 0].mean()),
            "validation_rejected_log_prob": float(judged.values_NS[:, 1].mean()),
        }

    def more(self, before: Figures, after: Figures) -> dict[str, Any]:
        """How far the chosen answers have moved: DPO may push both sides down."""
        name = "validation_chosen_log_prob"
        change = {"chosen_log_prob_change": after[name] - before[name]}
        return super().more(before, after) | change

    def _take_references(self) -> None:
        """Put the reference's log-probabilities beside the pairs: the kept ones, or new ones."""
        sides = {"train": self.corpus.train} | {
            f"validation/{domain}": rows for domain, rows in self.corpus.validation.items()
        }
        path, key = self.workdir / REFERENCES, self._references_key(sides)
        found = _kept(path, key, sides)
        if found is None:
            shows = jax.process_index() == 0
            count = sum(map(len, sides.values()))
            say(f"  log-probabilities of {count:,} pairs under the reference, once", shows)
            found = self._compute_references(sides)
            if shows:
                unfinished = path.with_suffix(".partial")
                with unfinished.open("wb") as file:
                    np.savez(file, **(found | {"key": np.array(key)}), allow_pickle=False)
                unfinished.replace(path)
        rows = {name: each.with_references(found[name]) for name, each in sides.items()}
        validation = {domain: rows[f"validation/{domain}"] for domain in self.corpus.validation}
        self.corpus = dataclasses.replace(self.corpus, train=rows["train"], validation=validation)

    def _references_key(self, sides: dict[str, PairRows]) -> str:
        """Changes with whatever the reference's log-probabilities depend on."""
        config = self.config
        parts = [
            config.base, config.adapters, config.dpo.reference, config.model.compute_dtype,
            {name: rows.fingerprint for name, rows in sides.items()},
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _compute_references(self, sides: dict[str, PairRows]) -> dict[str, np.ndarray]:
        """Sums of log-probabilities of every pair's sides, [pairs, 2], under the reference."""
        config = self.config
        if config.dpo.reference:
            params, model = load_reference(config, self.base, self.mesh)
            reader = partial(self._reader(model, LoraConfig()), params, None)
        else:
            # An adapter that changes nothing yet is the base itself; read by the program that
            # evaluates, so that the difference before the first step is exactly 0.
            reader = partial(self.reader, self.start(), self.frozen)
        found = {}
        with jax.set_mesh(self.mesh):
            for name, rows in sides.items():
                order, values_NS = self.read(reader, rows)
                found[name] = np.empty_like(values_NS)
                found[name][order] = values_NS
        return found


def load_reference(
    config: PreferenceConfig, base: Base, mesh: jax.sharding.Mesh
) -> tuple[Params, ModelConfig]:
    """The weights of ``config.dpo.reference`` and their config, to read the base's tokens.

    Raises:
      ConfigError: it has another vocabulary than the base, or a shorter context than the rows.
      UserError: it can not be loaded.
    """
    where, dtype = config.dpo.reference, compute_dtype(config)
    params, model, tokenizer, _ = load_model(where, mesh=mesh, dtype=dtype, layered=False)
    if tokenizer.fingerprint != base.tokenizer.fingerprint:
        raise ConfigError(
            f"the reference {where} has another vocabulary ({tokenizer.vocab_size:,} tokens) than "
            f"the base {config.base} ({base.tokenizer.vocab_size:,}); dpo.reference must read the "
            "same tokens"
        )
    if config.data.length > model.context:
        raise ConfigError(
            f"data.length is {config.data.length}, longer than the context of the reference "
            f"{where} ({model.context}); shorten the rows"
        )
    return params, dataclasses.replace(model, compute_dtype=dtype, attention="auto")


def _kept(path: pathlib.Path, key: str, sides: dict[str, PairRows]) -> dict[str, np.ndarray] | None:
    """What an earlier start computed of the same pairs and reference; None where there is none."""
    try:
        with np.load(path) as file:
            if str(file["key"]) == key:
                return {name: file[name] for name in sides}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return None
