"""One run of self-improvement: what is made, in which order, from which files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from experiments import dpo, reward, sft
from experiments.constitutional_config import ConstitutionalConfig
from experiments.constitutional_data import (
    claim_inputs,
    conversation,
    digest,
    drop_words,
    helpful_conversations,
    human_pairs,
    likeliest_answers,
    tuned_data,
    write_records,
)
from experiments.constitutional_prompts import Prompts
from experiments.constitutional_report import DPO, Evaluated, table_lines, write_run_report
from experiments.json_lines import grow
from experiments.preference_config import PreferenceConfig
from experiments.stage import is_reported
from experiments.tuning_config import RecordsConfig, TuningConfig
from lilith.config import ConfigError, UserError
from lilith.config_parsing import to_dict, to_json
from lilith.data.json_lines import JsonLines
from lilith.inference.language_model import LanguageModel
from lilith.interop.load import load_model, merge_adapters
from lilith.reasoning.constitution import Constitution
from lilith.reasoning.sampler import Sampler
from lilith.reasoning.self_improvement import Transcript, make_transcripts, seed_of
from lilith.reasoning.self_preference import JudgedPair, make_pair
from lilith.tokenizer.chat_template import CHATML
from lilith.train.metrics import write_atomically

# What the texts of a run depend on; the rest may change between starts.
FIXED = ("seed", "base", "adapters", "compute_dtype", "group", "prompts", "revision")
FIXED_DATA = ("template", "helpful_files", "helpful_limit")
JUDGING = (
    "prompts", "answer_tokens", "temperature", "top_p", "chain_of_thought", "thought_tokens",
    "clamp", "thought_clamp", "human_files", "human_limit",
)  # fmt: skip
Weights = tuple[str, tuple[str, ...]]  # a base, and adapters over it


def load_policy(config: ConstitutionalConfig, base: str, adapters: Sequence[str]) -> LanguageModel:
    """The model that answers: a base with adapters merged, and the template it is tuned in.

    Raises:
      ConfigError: it has no chat template.
    """
    dtype = config.compute_dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    params, model, tokenizer, info = load_model(base, dtype=dtype)
    params = merge_adapters(params, model, adapters)
    template = CHATML if config.data.template == "chatml" else info.chat_template
    if template is None:
        raise ConfigError(
            f"{base} carries no chat template; --set data.template=chatml asks and trains it in "
            "LILITH's own"
        )
    return LanguageModel(
        params, model, tokenizer, chat_template=template, stop_ids=info.stop_ids,
        add_bos=info.add_bos,
    )  # fmt: skip


class NoRevisionKept(UserError):
    """An iteration has nothing to learn from: every revision was dropped."""


class Course:
    """One run: its folder, and what is made in it in which order.

    Everything that is made is a file that holds all of it or grows by whole groups of prompts, and
    depends on the files before it alone. So a run goes on wherever it was killed.
    """

    def __init__(
        self,
        config: ConstitutionalConfig,
        workdir: pathlib.Path,
        constitution: Constitution,
        prompts: Prompts,
    ) -> None:
        self.config, self.workdir = config, workdir
        self.constitution, self.prompts = constitution, prompts
        self._sampler: tuple[Weights, Sampler] | None = None

    def claim(self) -> None:
        """Make the folder, and refuse one whose texts were made from something else.

        Raises:
          UserError: it holds another run, or can not be written.
        """
        if self.workdir.exists() and not self.workdir.is_dir():
            raise UserError(f"--workdir {self.workdir} is a file; name a folder for the run")
        config = to_dict(self.config)
        claim_inputs(
            self.workdir,
            {name: config[name] for name in FIXED}
            | {f"data.{name}": config["data"][name] for name in FIXED_DATA}
            | {
                "constitution": digest(to_dict(self.constitution)),
                "drawn prompts": digest([asked.prompt for asked in self.prompts.learnt]),
            },
        )
        write_atomically(self.workdir / "config.json", to_json(self.config))

    def is_finished(self) -> bool:
        """Whether everything that the config asks for is there."""
        last = self.workdir / "finished.json"
        if not last.exists() or not is_reported(self.workdir):
            return False
        with contextlib.suppress(ValueError):
            return json.loads(last.read_text()) == self._asked_for()
        return False

    def run(self) -> int:
        """Go through what is missing; the exit code."""
        self._evaluate(0)
        for iteration in range(1, self.config.iterations + 1):
            code = self._improve(iteration)
            if code is not None:
                return code
        if self.config.preference.prompts:
            code = self._prefer()
            if code is not None:
                return code
        path = self.report()
        write_atomically(self.workdir / "finished.json", json.dumps(self._asked_for()) + "\n")
        print("\n".join(table_lines(self.evaluated())))
        print(f"model: {self._words(self.weights(self.config.iterations))}\nreport: {path}")
        return 0

    def folder(self, iteration: int) -> pathlib.Path:
        """Of an iteration's files; 0 is the model that the run starts from."""
        return self.workdir / f"iteration_{iteration}"

    def weights(self, iteration: int) -> Weights:
        """The base and the adapters of the model after an iteration."""
        config = self.config
        if config.lora.rank:
            own = [str(self.folder(i) / "tuning" / "adapter") for i in range(1, iteration + 1)]
            return config.base, (*config.adapters, *own)
        if not iteration:
            return config.base, config.adapters
        return str(self.folder(iteration) / "tuning"), ()

    def transcripts(self, iteration: int) -> list[Transcript]:
        """What was made of the prompts so far."""
        path = self.folder(iteration) / "transcripts.jsonl"
        return [Transcript.from_dict(record) for record in JsonLines(path).records]

    def pairs(self) -> list[JudgedPair]:
        """What was judged so far."""
        path = self.workdir / "preference" / "judged.jsonl"
        return [JudgedPair.from_dict(record) for record in JsonLines(path).records]

    def evaluated(self) -> list[Evaluated]:
        """The models whose answers to the held-out prompts are all there, the first one first."""
        names = ["before"] + [f"iteration {i}" for i in range(1, self.config.iterations + 1)]
        folders = [self.folder(i) for i in range(len(names))]
        names.append(DPO)
        folders.append(self.workdir / "preference")
        found = []
        for name, folder in zip(names, folders):
            answers = [
                record["answer"] for record in JsonLines(folder / "evaluation.jsonl").records
            ]
            if len(answers) == len(self.prompts.held_out):
                found.append(Evaluated(name, self.prompts.held_out, answers))
        return found

    def report(self) -> pathlib.Path:
        """Write summary, samples and report.html from the files so far."""
        made = {i: self.transcripts(i) for i in range(1, self.config.iterations + 1)}
        return write_run_report(
            self.workdir, self._description(), self.evaluated(), made, self.pairs()
        )

    def _description(self) -> str:
        config = self.config
        return (
            f"{config.base} answered {len(self.prompts.learnt):,} prompts, criticised and rewrote "
            f"its answers by the principles {', '.join(self.constitution.ids)}, and learnt from "
            f"the last revisions: {config.iterations} such iterations were asked for."
        )

    def _improve(self, iteration: int) -> int | None:
        """One iteration; an exit code where the run ends in it."""
        folder = self.folder(iteration)
        tuning = folder / "tuning"
        if not is_reported(tuning):
            self._transcribe(iteration)
            self._write_conversations(iteration)
            self._sampler = None  # before the weights are loaded again, to be trained
            base, adapters = self.weights(iteration - 1)
            config = self.config
            code = sft.run(
                TuningConfig(
                    name=f"{config.name}, iteration {iteration}", seed=config.seed + iteration - 1,
                    base=base, adapters=adapters, compute_dtype=config.compute_dtype,
                    remat=config.remat, data=tuned_data(config.data, folder), lora=config.lora,
                    mesh=config.mesh, optimizer=config.optimizer, train=config.train,
                    checkpoint=config.checkpoint,
                ),
                tuning,
            )  # fmt: skip
            if not is_reported(tuning):  # stopped by a signal
                return code
        self._evaluate(iteration)
        self.report()
        return None

    def _transcribe(self, iteration: int) -> None:
        learnt = self.prompts.learnt
        seed = seed_of(self.config.seed, iteration)

        def make(part: slice) -> list[dict[str, Any]]:
            sampler = self._model(self.weights(iteration - 1))
            made = make_transcripts(
                sampler, self.constitution, learnt[part], self.config.revision, seed=seed
            )
            return [one.to_dict() for one in made]

        grow(
            self.folder(iteration) / "transcripts.jsonl", [one.prompt for one in learnt], make,
            group=self.config.group, what=f"iteration {iteration}: answers and revisions",
            hang_seconds=self.config.train.hang_seconds,
        )  # fmt: skip

    def _write_conversations(self, iteration: int) -> None:
        """What is learnt from: last revisions, plain answers, conversations that are mixed in.

        Raises:
          NoRevisionKept: no revision was kept.
        """
        made = self.transcripts(iteration)
        kept = [one for one in made if not one.dropped]
        if not any(one.rounds for one in kept):
            self.report()
            raise NoRevisionKept(
                f"iteration {iteration}: no revision was kept ({drop_words(made)}); see "
                f"{self.folder(iteration) / 'transcripts.jsonl'}"
            )
        records = [conversation(one) for one in kept]
        records += helpful_conversations(self.config.data)
        write_records(self.folder(iteration) / "conversations.jsonl", records)

    def _evaluate(self, iteration: int) -> None:
        name = "the base" if not iteration else f"iteration {iteration}"
        self._answer(self.folder(iteration), self.weights(iteration), name)

    def _answer(self, folder: pathlib.Path, weights: Weights, name: str) -> None:
        """The likeliest answers of a model to the held-out prompts."""
        asked = self.prompts.held_out

        def make(part: slice) -> list[dict[str, Any]]:
            sampler = self._model(weights)
            return likeliest_answers(sampler, asked[part], self.config.revision.answer_tokens)

        grow(
            folder / "evaluation.jsonl", [one.prompt for one in asked], make,
            group=self.config.group, what=f"{name}: held-out prompts",
            hang_seconds=self.config.train.hang_seconds,
        )  # fmt: skip

    def _prefer(self) -> int | None:
        """Judge pairs, mix in those of people, and train on them where that is asked for."""
        config, wanted = self.config, self.config.preference
        folder = self.workdir / "preference"
        asked = self.prompts.learnt[: wanted.prompts]
        weights = self.weights(config.iterations)
        seed = seed_of(config.seed, "pairs")
        judging = {key: value for key, value in to_dict(wanted).items() if key in JUDGING}
        claim_inputs(folder, {**judging, "iterations": config.iterations})

        def make(part: slice) -> list[dict[str, Any]]:
            sampler = self._model(weights)
            return [
                make_pair(sampler, self.constitution, one, wanted, seed=seed).to_dict()
                for one in asked[part]
            ]

        grow(
            folder / "judged.jsonl", [one.prompt for one in asked], make, group=1,
            what="pairs judged", hang_seconds=config.train.hang_seconds,
        )  # fmt: skip
        records = [pair.record() for pair in self.pairs() if not pair.skipped]
        records += human_pairs(wanted, config.data.on_error)
        write_records(folder / "pairs.jsonl", records)
        print(f"pairs: {len(records):,} in {folder / 'pairs.jsonl'}")
        if wanted.train == "none":
            return None
        if not records:
            self.report()
            raise UserError(
                f"no pair was kept, so nothing can be trained on; see {folder / 'judged.jsonl'}"
            )
        self._sampler = None
        trained = folder / wanted.train
        if not is_reported(trained):
            stage = dpo if wanted.train == "dpo" else reward
            code = stage.run(self._preference_config(weights, folder / "pairs.jsonl"), trained)
            if not is_reported(trained):
                return code
        if wanted.train == "dpo":
            own = str(trained / "adapter")
            tuned = (weights[0], (*weights[1], own)) if config.lora.rank else (str(trained), ())
            self._answer(folder, tuned, DPO)
        return None

    def _preference_config(self, weights: Weights, pairs: pathlib.Path) -> PreferenceConfig:
        config, wanted = self.config, self.config.preference
        data = RecordsConfig(
            files=(str(pairs),), length=config.data.length, template=config.data.template,
            on_error=config.data.on_error, validation_fraction=wanted.validation_fraction,
            epochs=wanted.epochs, workers=config.data.workers,
        )  # fmt: skip
        return PreferenceConfig(
            name=f"{config.name}, {wanted.train}", stage=wanted.train, seed=config.seed,
            base=weights[0], adapters=weights[1], compute_dtype=config.compute_dtype,
            remat=config.remat, data=data, lora=config.lora, mesh=config.mesh, dpo=wanted.dpo,
            reward=wanted.reward, train=config.train, checkpoint=config.checkpoint,
            optimizer=dataclasses.replace(
                config.optimizer, learning_rate=wanted.learning_rate
            ),
        )  # fmt: skip

    def _model(self, weights: Weights) -> Sampler:
        """The sampler of these weights, loaded when it is first asked for."""
        if self._sampler is None or self._sampler[0] != weights:
            self._sampler = None
            model = load_policy(self.config, *weights)
            self._sampler = weights, Sampler(model, batch_size=self.config.group)
        return self._sampler[1]

    def _asked_for(self) -> dict[str, Any]:
        found = {
            "iterations": self.config.iterations,
            "preference": to_dict(self.config.preference),
        }
        return json.loads(json.dumps(found))

    @staticmethod
    def _words(weights: Weights) -> str:
        return " + ".join([weights[0], *weights[1]])
