"""The stage constitutional: a model that improves itself by a constitution."""

from __future__ import annotations

import pathlib
import signal

import jax

from experiments.config_kinds import require_kind
from experiments.constitutional_config import ConstitutionalConfig
from experiments.constitutional_course import Course
from experiments.constitutional_prompts import gather_prompts
from experiments.json_lines import Stopped
from lilith.config import UserError
from lilith.reasoning.constitution import load_constitution
from lilith.reasoning.self_improvement import PLAIN


def run(config: ConstitutionalConfig, workdir: pathlib.Path) -> int:
    """Improve (or go on improving) a model in ``workdir`` and return the exit code."""
    course = _prepare(config, workdir)
    course.claim()
    if course.is_finished():
        print(f"{workdir} is finished: {config.iterations} iterations; see "
              f"{workdir / 'report.html'}, or set iterations higher to go on")  # fmt: skip
        return 0
    for line in course.prompts.lines:
        print(f"  {line}")
    try:
        return course.run()
    except Stopped as stopped:
        name = signal.Signals(stopped.signal).name
        print(f"stopped by {name}: everything is saved in {workdir}; the same command goes on")
        return 130 if stopped.signal == signal.SIGINT else 0


def dry_run(config: ConstitutionalConfig) -> int:
    """Print what the run would do, and its first prompts; load and sample nothing."""
    course = _prepare(config, pathlib.Path())
    revised = sum(asked.kind != PLAIN for asked in course.prompts.learnt)
    plain = len(course.prompts.learnt) - revised
    texts = revised * (1 + 2 * config.revision.rounds) + plain
    print(f"{config.name}: {config.iterations} iterations from {config.base}")
    print(f"constitution      {', '.join(course.constitution.ids)}")
    print(f"an iteration      {texts:,} texts of {len(course.prompts.learnt):,} prompts, then "
          f"{len(course.prompts.held_out):,} answers to held-out ones")  # fmt: skip
    print(f"pairs             {config.preference.prompts:,}, train: {config.preference.train}")
    for line in course.prompts.lines:
        print(line)
    for asked in course.prompts.learnt[:3]:
        print(f"--- {asked.kind}\n{asked.prompt}")
    return 0


def _prepare(config: ConstitutionalConfig, workdir: pathlib.Path) -> Course:
    config = require_kind(config, ConstitutionalConfig, "constitutional")
    if jax.process_count() > 1:
        raise UserError("self-improvement runs in one process; start it without --processes")
    constitution = load_constitution(config.constitution or None)
    return Course(config, workdir, constitution, gather_prompts(config))
