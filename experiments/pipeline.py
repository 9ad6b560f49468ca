"""The whole path in one resumable run: data, tokenizer, pretraining, tuning, rewards, an agent."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from typing import Any

import jax

from experiments.config_kinds import require_kind
from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_cost import Prices, estimate, load_prices, stage_lines
from experiments.pipeline_measure import converse, measure
from experiments.pipeline_report import write_pipeline_report
from experiments.pipeline_stages import Chain
from experiments.progress import format_duration
from lilith.config import ConfigError, UserError
from lilith.config_parsing import to_json
from lilith.train.metrics import write_atomically

MEASURED = ("pretrain", "sft", "constitution", "ppo")  # the stages that change what writes
STARTS = "starts.json"  # how often each stage was begun


def run(config: PipelineConfig, workdir: pathlib.Path) -> int:
    """Go through the stages that are not done, from where the last run stopped; the exit code.

    Raises:
      ConfigError: a stage lacks its predecessor, or was finished with another config.
      UserError: what a stage says; everything before it stays.
    """
    config = require_kind(config, PipelineConfig, "pipeline_nano")
    if jax.process_count() > 1:
        raise UserError(
            "a pipeline runs in one process, on all devices of its machine; start it without "
            "--processes"
        )
    prices = load_prices(config.prices)
    prices.hardware(config.hardware)  # a mistake in the table is said now, and not at the end
    chain = Chain(config, workdir.resolve())
    _claim(config, chain.workdir)
    chain.check()
    write_atomically(chain.workdir / "config.json", to_json(config))
    missing = [stage for stage in config.chosen if chain.after(stage) is None]
    if not missing and (chain.workdir / "report.html").exists():
        print(f"{workdir} is finished: {', '.join(config.chosen)}; see {workdir / 'report.html'}")
        return 0
    chain.write_configs()
    for number, stage in enumerate(config.chosen, 1):
        where = f"stage {number} of {len(config.chosen)}: {stage}"
        if stage not in missing:
            print(f"{where} is done")
            continue
        print(f"\n== {where}", flush=True)
        code = _run_stage(chain, stage, prices)
        if chain.after(stage) is None:  # stopped by a signal
            return code
    path = write_pipeline_report(chain, prices)
    print(f"\nreport: {path}")
    if chain.after("ppo") is not None:
        print(f"model: {chain.model('ppo')}")
    return 0


def _run_stage(chain: Chain, stage: str, prices: Prices) -> int:
    """Run a stage and, if it came to its end, measure and mark it; the exit code."""
    began = time.perf_counter()
    starts = _count_start(chain.workdir, stage)
    inputs = chain.inputs(stage)
    if stage == "agent":
        facts: dict[str, Any] | None = converse(
            chain.config, chain.model("ppo"), chain.folder(stage)
        )
        code = 0
    else:
        code, facts = chain.run(stage)
    if facts is None:
        return code
    seconds = time.perf_counter() - began
    record = {"stage": stage, "seconds": seconds, "starts": starts, "config": inputs, **facts}
    if stage in MEASURED:
        improved = stage == "constitution"  # perhaps by fewer iterations than were asked for
        where = chain.improved(facts["iterations"]) if improved else chain.model(stage)
        record |= measure(chain.config, where)
        record["measured_seconds"] = time.perf_counter() - began - seconds
        right = record["tool_calls"]["right"]
        print(f"after {stage}: {right:.0%} of held-out tool calls are right")
    write_atomically(chain.mark(stage), json.dumps(record, indent=2) + "\n")
    chain.write_configs()  # what follows may depend on what was found
    write_pipeline_report(chain, prices)
    return code


def _count_start(workdir: pathlib.Path, stage: str) -> int:
    """How often a stage was begun, this time too: its time is that of the last start."""
    counts: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        counts = json.loads((workdir / STARTS).read_text())
    counts[stage] = counts.get(stage, 0) + 1
    write_atomically(workdir / STARTS, json.dumps(counts, indent=2) + "\n")
    return counts[stage]


def _claim(config: PipelineConfig, workdir: pathlib.Path) -> None:
    """Make the folder, and refuse one that holds something else.

    Raises:
      ConfigError: the folder holds a run of another stage.
      UserError: it can not be made.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file; name a folder for the run")
    path = workdir / "config.json"
    if path.exists():
        found: Any = None
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
        stage = found.get("stage") if isinstance(found, dict) else None
        if stage != config.stage:
            raise ConfigError(
                f"{workdir} holds a run of stage {stage!r}; choose another --workdir for a pipeline"
            )
        if found.get("seed") != config.seed:
            raise ConfigError(
                f"{workdir} holds a pipeline of seed {found.get('seed')}, and this config has "
                f"{config.seed}; choose another --workdir"
            )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the run's folder {workdir} can not be made ({os.strerror(error.errno or 0)}); "
            "choose another --workdir"
        ) from None


def dry_run(config: PipelineConfig) -> int:
    """Say what each stage reads, how far it goes and what it would cost; make and load nothing.

    No weights are allocated: sizes are counted from the declarations of the model alone.
    """
    from experiments import dry_run as dry

    config = require_kind(config, PipelineConfig, "pipeline_nano")
    prices = load_prices(config.prices)
    hardware = prices.hardware(config.hardware)
    print(f"{config.name}: stage {config.stage}, {', '.join(config.chosen)}\n")
    dry.show_costs(dataclasses.replace(config.pretrain, name=config.name))
    print()
    costs = estimate(config, hardware)
    for line in stage_lines(config, costs, prices):
        print(line)
    seconds, price = sum(own.seconds for own in costs), sum(own.price for own in costs)
    print(f"\nin all         {format_duration(seconds)}, {price:,.2f} {prices.currency}")
    print(prices.words())
    return 0
