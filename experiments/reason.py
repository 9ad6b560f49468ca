"""The reason stage: one problem, reasoned about while a person watches; the trace in two files."""

from __future__ import annotations

import json
import math
import pathlib
import sys
from dataclasses import fields
from typing import Any

from experiments.chat import model_facts
from experiments.config_kinds import require_kind
from experiments.reason_config import ADVANCED, ReasonConfig
from experiments.reason_console import Console, Watched, trace_lines
from lilith.config import UserError
from lilith.reasoning import prompting
from lilith.reasoning.calibration import CalibrationError, Calibrator
from lilith.reasoning.chain_of_thought import ChainOfThought, made_settings
from lilith.reasoning.constitution import load_constitution
from lilith.reasoning.drafts import Settings
from lilith.reasoning.metacognition import MetacognitiveMonitor
from lilith.reasoning.reasoner import create_advanced_reasoner
from lilith.reasoning.sampler import Budget, Model, Sampler
from lilith.reasoning.trace import ReasoningTrace
from lilith.tokenizer.chat_template import CHATML, ChatTemplate
from lilith.train.metrics import write_atomically


def run(config: ReasonConfig, workdir: pathlib.Path) -> int:
    """Reason, print the trace as it grows, write trace.json and trace.html; the exit code."""
    config = require_kind(config, ReasonConfig, "reason")
    if config.prompt is None:
        raise UserError('there is no problem; give one: --set prompt="What is 15% of 240?"')
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file; name a folder for the trace")
    reasoning_settings(config)  # what is wrong is said before a long load
    read_monitor(config)
    load_constitution(config.constitution or None)
    try:
        return _reason(config, config.prompt, workdir)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130


def dry_run(config: ReasonConfig) -> int:
    """Say which model would be loaded and what it would be asked; ask nothing."""
    config = require_kind(config, ReasonConfig, "reason")
    print(f"{config.name}: stage {config.stage}, strategy {config.strategy}")
    for title, fact in model_facts(config.checkpoint).items():
        print(f"{title:<12}{fact}")
    budget = _budget(config)
    seconds = "any time" if math.isinf(budget.seconds) else f"{budget.seconds:g} s"
    print(f"budget      {budget.tokens:,} tokens, {seconds}")
    for name, value in reasoning_settings(config).items():
        print(f"{name:<12}{len(value) if name == 'shots' else value}")
    read_monitor(config)
    load_constitution(config.constitution or None)
    print(f"problem     {config.prompt or 'none: --set prompt=...'}")
    return 0


def reasoning_settings(config: ReasonConfig) -> dict[str, Any]:
    """The fields of the config that are settings of reasoning.

    Raises:
      ReasoningError: one is out of range.
    """
    names = {field.name for field in fields(Settings)} & {field.name for field in fields(config)}
    found = {name: getattr(config, name) for name in sorted(names)}
    found["shots"] = prompting.SHOTS[: config.shots]
    made_settings(found)
    return found


def read_monitor(config: ReasonConfig) -> MetacognitiveMonitor:
    """The monitor of the config, with the calibrator of its file.

    Raises:
      CalibrationError: the file is missing or holds neither a monitor nor a calibrator.
    """
    if not config.calibrator:
        return MetacognitiveMonitor(config.threshold)
    path = pathlib.Path(config.calibrator).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"the calibrator {path} can not be read: {error}") from None
    if isinstance(content, dict) and "format" in content:
        found = MetacognitiveMonitor.load(path).calibrator
        if found is None:
            raise CalibrationError(f"the monitor {path} was saved before it was calibrated")
    else:
        found = Calibrator.load(path)
    return MetacognitiveMonitor(config.threshold, found)


def load_model(config: ReasonConfig) -> tuple[Model, str]:
    """The model with the template that the config asks for, and a line about it."""
    import lilith.interop

    model, _, info = lilith.interop.load_checkpoint(config.checkpoint)
    if config.template == "chatml":
        model.chat_template = ChatTemplate(CHATML)
    return model, str(info)


def _reason(config: ReasonConfig, prompt: str, workdir: pathlib.Path) -> int:
    console = Console()
    model, title = load_model(config)
    console.say(title)
    console.say(f"problem: {prompt}")
    console.say(f"strategy: {config.strategy}\n")
    trace, told = _trace(config, prompt, model, console)
    console.say()
    for line in trace_lines(trace, decisions=not told):
        console.say(line)
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "trace.json", trace.to_json() + "\n")
    write_atomically(workdir / "trace.html", trace.to_html())
    console.say(f"trace: {workdir / 'trace.json'}\npage: {workdir / 'trace.html'}")
    return 0


def _trace(
    config: ReasonConfig, prompt: str, model: Model, console: Console
) -> tuple[ReasoningTrace, bool]:
    """The trace, and whether its decisions were said on the way.

    The advanced reasoner's texts are not shown while they are written, but its steps and decisions
    as they come: what is against the constitution is never shown.
    """
    settings, monitor, budget = reasoning_settings(config), read_monitor(config), _budget(config)
    if config.strategy != ADVANCED:
        watched = Watched(model, console)
        chain = ChainOfThought(
            watched, strategy=config.strategy, calibrator=monitor.calibrator,
            sampler=Sampler(watched, budget=budget), **settings,
        )  # fmt: skip
        return chain.reason(prompt), False
    reason = create_advanced_reasoner(
        model, use_constitutional_ai=config.constitutional, budget=budget, monitor=monitor,
        constitution=config.constitution or None, on_event=console.tell, **settings,
    )  # fmt: skip
    return reason(prompt), True


def _budget(config: ReasonConfig) -> Budget:
    seconds = config.budget.seconds
    return Budget(config.budget.tokens, math.inf if seconds is None else seconds)
