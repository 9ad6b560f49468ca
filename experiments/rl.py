"""Reinforcement learning: answers collected, judged and learnt from, by PPO, GRPO or RLOO."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np

from experiments.config_kinds import require_kind
from experiments.conversations import prepare_chat_prompts
from experiments.loop import Outcome
from experiments.progress import Progress, task
from experiments.report import write_report, write_samples
from experiments.rl_answers import (
    Answers,
    Batch,
    Collector,
    answer_figures,
    collect_batch,
    shown_sample,
)
from experiments.rl_config import RLConfig
from experiments.rl_parts import Parts, assemble
from experiments.stage import (
    is_reported,
    last_evaluation,
    progress_of,
    say,
    say_finished,
    stopped,
    versions,
)
from experiments.stop_signals import StopSignals
from experiments.tuning import (
    Base,
    load_base,
    of_base,
    trained_words,
    write_adapter,
    write_tokenizer,
)
from experiments.watchdog import Watchdog
from experiments.workdir import checkpoints_of, claim_workdir, open_checkpoints
from lilith.config import UserError
from lilith.config_parsing import to_json
from lilith.data.prompts import PromptSet
from lilith.model.params import count_params
from lilith.rl.answers import answer_rows
from lilith.rl.collapse import CollapseDetector
from lilith.rl.learner import check_agreement
from lilith.sharding import make_mesh
from lilith.train.checkpoint import Checkpointer
from lilith.train.metrics import MetricsWriter, write_atomically
from lilith.train.ppo import adaptive_kl
from lilith.train.state import TrainState, abstract_of, abstract_state_of, place_state

SHOWN = 4  # conversations of an iteration that are kept as samples
EVALUATED_TOGETHER = 32  # held-out prompts


class _Interrupted(Exception):
    """A signal asked for a stop while answers were being collected."""


def run(config: RLConfig, workdir: pathlib.Path) -> int:
    """Learn (or go on learning) in ``workdir`` and return the exit code."""
    config, mesh, base, prompts = _prepare(config)
    for line in claim_workdir(config, workdir):
        say(line, True)
    with open_checkpoints(config, workdir) as checkpointer:
        latest = checkpointer.latest_step()
        if latest is not None and latest >= config.train.steps and is_reported(workdir):
            say_finished(workdir, latest, config.train.steps, True)
            return 0
        for line in prompts.report.lines():
            say(f"  {line}", True)
        say(
            f"{base.info}; {config.algorithm}, {trained_words(config)}; {len(prompts.train):,} "
            f"prompts, {len(prompts.held_out):,} held out",
            True,
        )
        limit = config.train.hang_seconds
        with jax.set_mesh(mesh), StopSignals().watch() as signals, Watchdog(limit) as watchdog:
            course = Course(config, workdir, mesh, base, prompts, checkpointer, signals, watchdog)
            with progress_of(config, latest or 0, True) as progress:
                outcome = course.run(progress)
    if outcome.signal is not None and not outcome.finished:
        return stopped(outcome, workdir, True)
    course.finish(outcome.state)
    return 0


def dry_run(config: RLConfig) -> int:
    """Print what the run would learn from, and its first prompts; learn nothing."""
    config, _, base, prompts = _prepare(config)
    print(f"{config.name}: {config.algorithm}, {config.train.steps:,} iterations from {base.info}")
    print(trained_words(config))
    rollout = config.rollout
    print(
        f"an iteration      {rollout.prompts} prompts, {rollout.copies} answers to each of at most "
        f"{rollout.answer_tokens} tokens; learnt {config.update.epochs} times in minibatches of "
        f"{config.train.batch}"
    )
    print(f"rewards           {', '.join(config.reward.sources)}")
    for line in prompts.report.lines():
        print(line)
    for number in prompts.order(config.seed, 0, min(2, rollout.prompts)):
        print(f"--- {prompts.train[number].where}")
        print(base.tokenizer.decode(list(prompts.train[number].ids)))
    return 0


def _prepare(config: RLConfig) -> tuple[RLConfig, jax.sharding.Mesh, Base, PromptSet]:
    config = require_kind(config, RLConfig, "grpo_tool_calls")
    if jax.process_count() > 1:
        raise UserError(
            "reinforcement learning runs in one process, on all devices of its machine; start it "
            "without --processes"
        )
    mesh = make_mesh(config.mesh)
    base = load_base(config, mesh)
    config = of_base(config, base)
    with task("reading prompts"):
        prompts = prepare_chat_prompts(config, base.tokenizer, base.template)
    if config.data.epochs:
        steps = math.ceil(len(prompts.train) * config.data.epochs / config.rollout.prompts)
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))
    return config, mesh, base, prompts


class Course:
    """The iterations of one run, and what is kept of them.

    What an iteration does depends on the state, on its number and on ``memory``, all of which are
    in the checkpoint: killed at any point and started again, a run goes on to the same bits.
    """

    def __init__(
        self,
        config: RLConfig,
        workdir: pathlib.Path,
        mesh: jax.sharding.Mesh,
        base: Base,
        prompts: PromptSet,
        checkpointer: Checkpointer,
        signals: StopSignals,
        watchdog: Watchdog,
    ) -> None:
        self.config, self.workdir, self.mesh = config, workdir, mesh
        self.base, self.prompts, self.checkpointer = base, prompts, checkpointer
        self.signals, self.watchdog = signals, watchdog
        self.work = "starting"
        self.parts: Parts = assemble(config, mesh, base)
        self.collector = Collector(config, mesh, base, self.parts.mixture, self._look)
        self.collapse = CollapseDetector(config.collapse)
        self.memory: dict[str, Any] = {
            "position": 0, "kl_coefficient": config.update.kl_coefficient,
            "collapse": self.collapse.state(),
        }  # fmt: skip
        self.samples: list[dict[str, Any]] = []
        if (workdir / "samples.json").exists():
            self.samples = json.loads((workdir / "samples.json").read_text())
        self.config_json = to_json(config)
        self.began = time.perf_counter()

    def run(self, progress: Progress) -> Outcome:
        """Go through the iterations from the newest checkpoint on."""
        self._begin("restoring or making the first state")
        state, start = self._restore_or_start(progress)
        write_tokenizer(self.workdir / "tokenizer", self.base)
        steps = self.config.train.steps
        with MetricsWriter(self.workdir / "metrics.jsonl") as self.metrics:
            self.metrics.resume(start)
            number = start
            try:
                if start == 0 and not (self.workdir / "before.json").exists():
                    self._look_before(state, progress)
                elif start >= steps:  # stopped before the last evaluation, or made shorter
                    self._evaluate(start, state, progress)
                while number < steps:
                    self._begin(f"an answer of iteration {number + 1}")
                    batch = self._collect(state)
                    self._begin(f"learning in iteration {number + 1}")
                    state, figures = self._learn(number, state, batch)
                    number += 1
                    self._note(number, figures, batch, progress)
                    self._after(number, state, batch, progress)
                    if number < steps:
                        self._look()
            except _Interrupted:
                if number > start:
                    self._save(number, state)
                self.checkpointer.wait()
                return Outcome(state, number, False, self.signals.received)
        self.checkpointer.wait()
        return Outcome(state, steps, True)

    def _look(self) -> None:
        """Between two answers, or iterations."""
        self._begin(self.work)
        if self.signals.received is not None:
            raise _Interrupted

    def _begin(self, work: str) -> None:
        """Say that something else is done now, or the next part of it: it has its own time."""
        self.work = work
        self.watchdog.working(work)

    def _collect(self, state: TrainState) -> Batch:
        position = self.memory["position"]
        return collect_batch(self.collector, self._policy(state), self.prompts, position)

    def _policy(self, state: TrainState) -> Any:
        return state.params["policy"] if self.config.algorithm == "ppo" else state.params

    def _restore_or_start(self, progress: Progress) -> tuple[TrainState, int]:
        params, optimizer = self.parts.start(), self.parts.optimizer
        if self.checkpointer.latest_step() is None:
            return place_state(params, optimizer, self.mesh), 0
        target = abstract_state_of(abstract_of(params), optimizer, self.mesh)
        restored = self.checkpointer.restore(target)
        for warning in restored.warnings:
            progress.message(f"warning: {warning}")
        self.memory = dict(restored.info.data_state)
        self.collapse.restore(self.memory["collapse"])
        progress.message(f"resumed from the checkpoint of iteration {restored.step}")
        return restored.state, restored.step

    def _learn(
        self, number: int, state: TrainState, batch: Batch
    ) -> tuple[TrainState, dict[str, float]]:
        """Score what was answered and take the iteration's steps; its figures."""
        config, learner = self.config, self.parts.learner
        self.memory["position"] = batch.position
        if not batch.rollouts:
            return state, batch.figures
        began = time.perf_counter()
        step = int(np.lcm(config.train.batch, config.rollout.copies))
        count = -(-len(batch.rollouts) // step) * step
        rows, sampled = answer_rows(batch.rollouts, count, config.data.length - 1)
        scored = learner.score(state.params, self.parts.frozen, rows)
        difference = check_agreement(rows, sampled, scored, config.rollout.tolerance)
        if config.update.overlong == "mask":
            unfinished = [i for i, own in enumerate(batch.rollouts) if not own.ended]
            rows["loss_mask"][unfinished] = 0.0
        rewards = np.zeros(count, np.float32)
        rewards[: len(batch.rewards)] = batch.rewards
        made, more = learner.advantages(
            rows, scored, rewards, self.memory["kl_coefficient"], config.rollout.copies
        )
        mask = rows["loss_mask"] > 0
        kl = 0.0
        if scored.reference is not None:
            gap = np.where(mask, scored.log_probs - scored.reference, 0.0)
            kl = float(gap.sum() / len(batch.rollouts))
        figures = {
            "kl": kl, "kl_coefficient": float(self.memory["kl_coefficient"]),
            "sampler_difference": difference,
            "entropy": float(scored.entropy[mask].mean()) if mask.any() else 0.0,
        }  # fmt: skip
        if mask.any():
            state, found = learner.update(state, self.parts.frozen, rows, made, number)
            found["objective"] = found.pop("loss")  # no nats a token, which that name means
            figures = found | figures
        if config.update.kl == "adaptive" and config.update.kl_coefficient:
            self.memory["kl_coefficient"] = adaptive_kl(
                self.memory["kl_coefficient"], max(kl, 0.0), config.update.target_kl
            )
        return state, batch.figures | more | figures | {"seconds": time.perf_counter() - began}

    def _note(self, step: int, figures: dict[str, float], batch: Batch, progress: Progress) -> None:
        """Write an iteration's figures, show some, and warn of collapse."""
        self.metrics.write(step, **figures)
        names = ("reward", "kl", "answer_tokens")
        progress.update(step, **{name: figures[name] for name in names if name in figures})
        if not batch.rollouts:
            progress.message(
                f"iteration {step}: the answers to every prompt had equal rewards, so nothing was "
                "learnt; raise rollout.copies or update.resample, or use easier or harder prompts"
            )
        for answers in batch.answers:
            for name, (count, words) in answers.judged.failed.items():
                progress.message(f"iteration {step}: {name} failed on {count} answers: {words}")
            for name, count in answers.judged.given_up.items():
                progress.message(f"iteration {step}: {name} was given up on {count} answers")
        if "entropy" in figures:
            for warning in self.collapse.look(
                figures["reward"], figures["answer_tokens"], figures["entropy"], figures["kl"]
            ):
                progress.message(f"warning: iteration {step}: {warning}")
        self.memory["collapse"] = self.collapse.state()

    def _after(self, step: int, state: TrainState, batch: Batch, progress: Progress) -> None:
        """Sample, evaluate and save where this iteration asks for it."""
        config = self.config
        last = step == config.train.steps
        if config.train.sample_every and (last or step % config.train.sample_every == 0):
            self._keep_samples(step, batch.answers[0], progress)
        if last or step % config.train.eval_every == 0:
            self._evaluate(step, state, progress)
        if last or step % config.checkpoint.every == 0:
            self._save(step, state)

    def _keep_samples(self, step: int, answers: Answers, progress: Progress) -> None:
        """The best and the worst of the first prompts' answers, with their rewards."""
        copies = self.config.rollout.copies
        chosen: list[int] = []
        for first in range(0, min(len(answers.rollouts), SHOWN // 2 * copies), copies):
            group = answers.rewards[first : first + copies]
            chosen += sorted({first + int(group.argmax()), first + int(group.argmin())})
        made = [shown_sample(answers, number, step) for number in chosen]
        self.samples = [old for old in self.samples if old["step"] < step] + made
        write_samples(self.workdir, self.samples)
        lines = (made[0]["prompt"] + made[0]["text"]).splitlines()[:12]
        progress.message("\n".join([f"iteration {step}:", *(f"    {line}" for line in lines)]))

    def evaluate(self, state: TrainState, whole: bool) -> dict[str, float]:
        """Means over the likeliest answers to held-out prompts, or to training ones without any."""
        prompts = self.prompts.held_out or self.prompts.train[: self.config.train.eval_rows]
        if not whole:
            prompts = prompts[: self.config.train.eval_rows]
        engine = self.collector.engine(self._policy(state))
        every = []
        for first in range(0, len(prompts), EVALUATED_TOGETHER):
            part = prompts[first : first + EVALUATED_TOGETHER]
            every.append(
                self.collector.answers(engine, part, range(len(part)), copies=1, temperature=0.0)
            )
        return {f"validation_{name}": value for name, value in answer_figures(every).items()}

    def _evaluate(self, step: int, state: TrainState, progress: Progress) -> None:
        whole = step >= self.config.train.steps
        self._begin(f"an answer of the evaluation after iteration {step}")
        figures = self.evaluate(state, whole)
        seconds = time.perf_counter() - self.began
        self.metrics.write(step, seconds=seconds, whole_validation=whole, **figures)
        words = "  ".join(f"{name.replace('_', ' ')} {figures[name]:.4g}" for name in figures)
        progress.message(f"iteration {step}: {words}")

    def _look_before(self, state: TrainState, progress: Progress) -> None:
        self._begin("an answer of the evaluation before the first iteration")
        found = self.evaluate(state, whole=True)
        write_atomically(self.workdir / "before.json", json.dumps(found, indent=2) + "\n")
        progress.message(f"before: held-out reward {found['validation_reward']:.4f}")

    def _save(self, step: int, state: TrainState) -> None:
        self._begin(f"saving iteration {step}")
        self.checkpointer.save(
            step, state, data_state=self.memory, config_json=self.config_json,
            tokenizer_directory=self.workdir / "tokenizer",
        )  # fmt: skip

    def finish(self, state: TrainState) -> None:
        """Save the adapter, write summary and report, and print figures before and after."""
        config, lines = self.config, []
        if config.lora.rank:
            folder = self.workdir / "adapter"
            lines.append(write_adapter(folder, self._policy(state), config, self.base))
        before = json.loads((self.workdir / "before.json").read_text())
        last = last_evaluation(self.workdir)
        table = {
            name.replace("_", " "): f"{before[name]:.4g} before, {last[name]:.4g} after"
            for name in before
            if name in last
        }
        summary = {
            "parameters": count_params(config.model),
            "wall_seconds": last["seconds"],
            "answers": table,
            "prompts": self.prompts.report.to_dict(),
            "before": before,
            "after": {name: last[name] for name in before if name in last},
            "versions": versions(),
        }
        write_atomically(self.workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
        path = write_report(self.workdir)
        print(f"\nlikeliest answers to {len(self.prompts.held_out):,} held-out prompts:")
        for name, words in table.items():
            print(f"  {name:<32} {words}")
        kept = checkpoints_of(config, self.workdir)
        for line in (*lines, f"report: {path}", f"checkpoints: {kept}"):
            print(line)
