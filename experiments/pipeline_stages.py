"""The stages of the whole path: what each is given, what it hands on, and whether it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import pathlib
from typing import Any

from experiments.constitutional_config import ConstitutionalConfig, RevisedDataConfig
from experiments.constitutional_course import NoRevisionKept
from experiments.evaluate_config import WORDS
from experiments.pipeline_config import NEEDS, PipelineConfig
from experiments.pipeline_data import LESSONS, PAIRS, PROMPTS, TALKS, TEXTS, write_data
from experiments.progress import task
from experiments.stage import is_reported
from lilith.config import ConfigError, SourceConfig, TokenizerConfig, UserError
from lilith.config_parsing import to_dict, to_json
from lilith.paths import cache_folder
from lilith.train.checkpoint import list_checkpoints
from lilith.train.metrics import write_atomically

# The runner of each stage that has one of its own, and the file that it writes last.
RUNNERS = {
    "pretrain": "experiments.pretrain",
    "sft": "experiments.sft",
    "constitution": "experiments.constitutional",
    "reward": "experiments.reward",
    "ppo": "experiments.rl",
    "evaluation": "experiments.evaluate",
}
LAST_FILE = {"constitution": "finished.json", "evaluation": "results.json"}
SOURCE = "conversations"  # the name of the generated texts among the sources of pretraining


class Chain:
    """The stages of one folder.

    Attributes:
      config: of the pipeline; workdir: absolute, for it is what the stages name their bases by.
    """

    def __init__(self, config: PipelineConfig, workdir: pathlib.Path) -> None:
        self.config, self.workdir = config, workdir

    def folder(self, stage: str) -> pathlib.Path:
        """Of a stage's files."""
        return self.workdir / stage

    def mark(self, stage: str) -> pathlib.Path:
        """The file that says that a stage is done, and what was measured after it."""
        return self.workdir / f"after_{stage}.json"

    def after(self, stage: str) -> dict[str, Any] | None:
        """What the mark of a stage holds; None for a stage that is not done."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.mark(stage).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None

    def check(self) -> None:
        """Raise unless every stage that is to be run has what it needs, before any is.

        Raises:
          ConfigError: a predecessor is neither done nor to be run, or a done stage was another.
        """
        for stage in self.config.chosen:
            for needed in NEEDS[stage]:
                if needed not in self.config.chosen and self.after(needed) is None:
                    raise ConfigError(
                        f"stage {stage} needs stage {needed}, which has not run in {self.workdir}; "
                        f"add it: --set stages={needed},{','.join(self.config.chosen)}"
                    )
            self._check_unchanged(stage)

    def _check_unchanged(self, stage: str) -> None:
        done = self.after(stage)
        if done is None:
            return
        before, now = done.get("config", {}), self.inputs(stage)
        changed = [key for key in sorted(before.keys() | now.keys())
                   if before.get(key) != now.get(key)]  # fmt: skip
        if changed:
            raise ConfigError(
                f"{self.workdir} has finished stage {stage} with another {stage}.{changed[0]}; "
                f"choose another --workdir, the config that began it, or remove {self.mark(stage)} "
                f"and {self.folder(stage)} and those of the stages after it"
            )

    def inputs(self, stage: str) -> dict[str, Any]:
        """What a stage's result depends on besides the stages before it, as JSON values."""
        config = self.config
        if stage == "data":
            talk = config.talk
            return {"instructions": to_dict(config.instructions), "made": to_dict(config.made),
                    "kinds": list(config.measure.kinds), "seed": config.seed,
                    "system_prompt": talk.system_prompt, "tools": list(talk.tools)}  # fmt: skip
        if stage == "tokenizer":
            return {"tokenizer": to_dict(config.pretrain.tokenizer),
                    "sources": to_dict(self.corpus_data())["sources"]}  # fmt: skip
        if stage == "agent":
            return to_dict(config.talk)
        return to_dict(self.stage_config(stage))

    def model(self, stage: str) -> str:
        """The model that a stage hands on, as ``load_checkpoint`` takes it."""
        if stage in ("reward", "evaluation", "agent"):  # they change nothing of what writes
            return self.model("constitution" if stage == "reward" else "ppo")
        if stage == "constitution":
            done = self.after("constitution") or {}
            return self.improved(done.get("iterations", self.config.constitution.iterations))
        if stage == "pretrain":
            return str(self.folder(stage))
        return _trained(self.folder(stage), self._section(stage).lora.rank)

    def improved(self, iterations: int) -> str:
        """The model after so many iterations of the constitution."""
        if not iterations:
            return self.model("sft")
        tuning = self.folder("constitution") / f"iteration_{iterations}" / "tuning"
        return _trained(tuning, self.config.constitution.lora.rank)

    def corpus_data(self) -> Any:
        """``pretrain.data`` with the generated conversations among its sources."""
        data, weight = self.config.pretrain.data, self.config.made.text_weight
        if not weight:
            return data
        path = str(self.folder("data") / TEXTS)
        own = SourceConfig(name=SOURCE, kind="jsonl", path=path, weight=weight)
        return dataclasses.replace(data, sources=(*data.sources, own))

    def _section(self, stage: str) -> Any:
        return getattr(self.config, stage)

    def stage_config(self, stage: str) -> Any:
        """The config that the stage's own runner is given."""
        config, data = self.config, self.folder("data")
        named: dict[str, Any] = {"name": f"{config.name}, {stage}"}
        section = self._section(stage)
        if stage == "evaluation":
            if section.benchmark == "agent":
                named |= {"system_prompt": config.talk.system_prompt, "tools": config.talk.tools}
            return dataclasses.replace(section, **named, checkpoint=self.model("ppo"))
        if stage == "pretrain":
            tokenizer = TokenizerConfig(
                kind=section.tokenizer.kind, path=str(self.folder("tokenizer") / "tokenizer")
            )
            return dataclasses.replace(
                section, **named, seed=config.seed, tokenizer=tokenizer, data=self.corpus_data()
            )
        before = {"sft": "pretrain", "constitution": "sft"}.get(stage, "constitution")
        tuned: Any = dataclasses.replace(
            section, **named, seed=config.seed, base=self.model(before), adapters=(),
            data=dataclasses.replace(section.data, template="chatml"),
        )  # fmt: skip
        if stage == "constitution":
            return self._with_helpful(tuned, data)
        files = tuned.data.files or self._files(stage, data)
        tuned = dataclasses.replace(tuned, data=dataclasses.replace(tuned.data, files=files))
        if stage != "ppo":
            return tuned
        model = str(self.folder("reward") / "reward_model")
        update = section.update
        if config.reward_model_weight and update.critic == "policy":
            update = dataclasses.replace(update, critic=model)
        return dataclasses.replace(tuned, reward=config.rewards(model), update=update)

    def _with_helpful(self, tuned: Any, data: pathlib.Path) -> ConstitutionalConfig:
        """The generated conversations among what an iteration learns, where none are named."""
        own: RevisedDataConfig = tuned.data
        if not own.helpful_files:
            own = dataclasses.replace(own, helpful_files=(str(data / TALKS),))
        return dataclasses.replace(tuned, data=own)

    def _files(self, stage: str, data: pathlib.Path) -> tuple[str, ...]:
        """The files of the data stage and of the constitution that a stage learns from."""
        if stage == "sft":
            names = [TALKS] + [LESSONS] * bool(self.config.made.lessons)
            return tuple(str(data / name) for name in names)
        if stage == "ppo":
            return (str(data / PROMPTS),)
        judged = self.folder("constitution") / "preference" / PAIRS
        more = self.config.constitution.preference.prompts and (
            (self.after("constitution") or {}).get("pairs", 1)
        )
        return (str(data / PAIRS), *([str(judged)] if more else []))

    def write_configs(self) -> None:
        """Write the config that each stage's own runner is given, for a run of its own.

        On several hosts: ``--config WORKDIR/stages/pretrain.json --workdir WORKDIR/pretrain``.
        """
        folder = self.workdir / "stages"
        folder.mkdir(exist_ok=True)
        for stage in RUNNERS:
            write_atomically(folder / f"{stage}.json", to_json(self.stage_config(stage)))

    def run(self, stage: str) -> tuple[int, dict[str, Any] | None]:
        """Run a stage, or go on with it; the exit code, and what is known of it when it is done.

        The facts are None for a stage that a signal has stopped.
        """
        if stage == "data":
            return 0, write_data(self.config, self.folder(stage))
        if stage == "tokenizer":
            return 0, self._tokenizer()
        folder = self.folder(stage)
        module = importlib.import_module(RUNNERS[stage])
        facts: dict[str, Any] = {}
        code = 0
        if stage == "constitution":
            facts["iterations"] = self.config.constitution.iterations
        try:
            if not self._is_complete(stage):
                code = module.run(self.stage_config(stage), folder)
        except NoRevisionKept as error:
            if self.config.without_revisions == "stop":
                raise UserError(
                    f"{error}; or hand the weights on as they are: --set without_revisions=pass"
                ) from None
            facts |= {"iterations": _improvements(folder), "note": str(error), "pairs": 0}
            print(f"{error}; the weights are handed on as they are")
            return 0, facts
        if stage == "constitution" and self.config.constitution.preference.prompts:
            written = folder / "preference" / PAIRS
            facts["pairs"] = len(written.read_text().splitlines()) if written.exists() else 0
        if not self._is_complete(stage):
            return code, None
        if stage == "evaluation":
            found = json.loads((folder / LAST_FILE[stage]).read_text())
            words = [found[one] for one in WORDS if one in found]
            facts["tool_calls"] = words[0] if words else found
            facts["turns"] = {one: found[one]["rows"] for one in WORDS if one in found}
        return code, facts

    def _is_complete(self, stage: str) -> bool:
        """Whether a stage's own run has come to its end, here or in a run of its own."""
        folder, last = self.folder(stage), LAST_FILE.get(stage)
        if last:
            return (folder / last).exists()
        if not is_reported(folder):
            return False
        steps = [own.step for own in list_checkpoints(folder)]
        return max(steps, default=0) >= self._section(stage).train.steps

    def _tokenizer(self) -> dict[str, Any]:
        """Train (or take) the tokenizer on a sample of what pretraining reads."""
        from lilith.data import prepare

        data = self.corpus_data()
        cache = pathlib.Path(data.cache).expanduser() if data.cache else cache_folder()
        with task("preparing the corpus") as report:
            corpus = prepare(data, self.config.pretrain.tokenizer, cache=cache, progress=report)
        tokenizer = corpus.tokenizer
        size, most = tokenizer.vocab_size, self.config.pretrain.model.vocab
        if size > most:
            raise ConfigError(
                f"the tokenizer has {size:,} tokens and pretrain.model.vocab is {most:,}; set it "
                f"to {size} or train a smaller tokenizer with pretrain.tokenizer.vocab"
            )
        folder = self.folder("tokenizer")
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(folder / "tokenizer")
        facts = {
            "kind": tokenizer.kind,
            "vocabulary": size,
            "fingerprint": tokenizer.fingerprint,
            "bytes per token": sum(own.bytes for own in corpus.report.sources) / corpus.tokens,
        }
        write_atomically(folder / "summary.json", json.dumps(facts, indent=2) + "\n")
        return facts


def _trained(folder: pathlib.Path, rank: int) -> str:
    """What a run of tuning leaves: an adapter over its base, or weights of its own."""
    return str(folder / "adapter" if rank else folder)


def _improvements(folder: pathlib.Path) -> int:
    """How many iterations of the constitution were tuned."""
    count = 0
    while is_reported(folder / f"iteration_{count + 1}" / "tuning"):
        count += 1
    return count
