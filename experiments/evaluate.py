"""The runner of evaluations: a table on the screen, every answer in a file."""

from __future__ import annotations

import json
import pathlib

from experiments import evaluate_agent
from experiments.config_kinds import require_kind
from experiments.evaluate_config import EvaluateConfig
from experiments.progress import task
from experiments.stage import versions
from experiments.watchdog import Watchdog
from lilith.data.instructions.tool_prompts import CALL_KINDS, tool_call_prompts
from lilith.evals.tool_calls import summarise, tool_call_results
from lilith.interop.load import load_checkpoint
from lilith.train.metrics import write_atomically

ANEW = "the same command asks all questions anew"


def run(config: EvaluateConfig, workdir: pathlib.Path) -> int:
    """Ask, judge, print, and write ``results.json`` and ``answers.jsonl``; the exit code."""
    config = require_kind(config, EvaluateConfig, "eval_tool_calls")
    if config.benchmark == "agent":
        return evaluate_agent.run(config, workdir)
    model, _, info = load_checkpoint(config.checkpoint)
    print(info, flush=True)
    prompts = tool_call_prompts(config.seed, config.count, kinds=config.kinds or CALL_KINDS)
    with (
        task("answering", total=len(prompts)) as report,
        Watchdog(config.hang_seconds, field="hang_seconds", again=ANEW) as watchdog,
    ):
        results = tool_call_results(
            model,
            prompts,
            max_tokens=config.max_tokens,
            progress=watchdog.counted("answer", report),
        )
    summary = summarise(results)
    workdir.mkdir(parents=True, exist_ok=True)
    answers = [
        {
            "kind": own.prompt.kind, "question": own.prompt.messages[-1]["content"],
            "expected": own.prompt.expected, "answer": own.text, "right": own.right,
        }
        for own in results
    ]  # fmt: skip
    lines = "".join(json.dumps(answer) + "\n" for answer in answers)
    write_atomically(workdir / "answers.jsonl", lines)
    whole = {"checkpoint": config.checkpoint, "seed": config.seed, **summary}
    whole["versions"] = versions()
    write_atomically(workdir / "results.json", json.dumps(whole, indent=2) + "\n")
    print(f"\ntool calls, {summary['questions']} held-out questions:")
    for name in ("well_formed", "right_tool", "right"):
        print(f"  {name.replace('_', ' '):<28} {summary[name]:6.1%}")
    for kind, share in summary["by_kind"].items():
        print(f"    {kind:<26} {share:6.1%}")
    print(f"answers: {workdir / 'answers.jsonl'}")
    return 0


def dry_run(config: EvaluateConfig) -> int:
    """Print the first questions and what answers them; ask nothing."""
    config = require_kind(config, EvaluateConfig, "eval_tool_calls")
    if config.benchmark == "agent":
        return evaluate_agent.dry_run(config)
    kinds = config.kinds or CALL_KINDS
    for prompt in tool_call_prompts(config.seed, min(config.count, 3), kinds=kinds):
        for message in prompt.messages:
            print(f"[{message['role']}] {message['content']}")
        print(f"[expected] {json.dumps(prompt.expected)}\n")
    return 0
