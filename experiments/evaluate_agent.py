"""The benchmark "agent": whole turns with real tools, from the question to the answer's number."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from experiments.evaluate_config import EvaluateConfig
from experiments.progress import task
from experiments.stage import versions
from experiments.watchdog import Watchdog
from lilith.agent.agent import LILITHAgent
from lilith.agent.registry import create_quant_tools
from lilith.agent.turn_run import TurnLimits
from lilith.evals.agent_answers import TABLE_HEAD, Answered, answer_all, figures_by_kind
from lilith.evals.agent_answers import markdown_row as row
from lilith.evals.agent_prompts import KINDS, agent_prompts
from lilith.interop.load import load_checkpoint
from lilith.train.metrics import write_atomically

GO_ON = "the same command goes on after the last answer"
STEPS = 3  # of a turn: a call, its answer, and one more call to spare


def run(config: EvaluateConfig, workdir: pathlib.Path) -> int:
    """Ask, judge, print, and write ``results.json`` and the answers; the exit code.

    Answers are kept as they come: the same command goes on where it was stopped.

    Raises:
      UserError: a tool, a kind of question or the model does not exist.
    """
    model, _, info = load_checkpoint(config.checkpoint)
    print(info, flush=True)
    workdir.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"checkpoint": config.checkpoint, "seed": config.seed}
    with create_quant_tools(others=True) as tools:
        agent = LILITHAgent(
            model, tools=tools.only(config.tools) if config.tools else tools,
            system_prompt=config.system_prompt or None, temperature=0.0,
            limits=TurnLimits(STEPS, config.max_tokens, config.max_tokens),
        )  # fmt: skip
        for words in config.words:
            found[words] = summarise(_answers(agent, config, workdir, words))
    found["versions"] = versions()
    write_atomically(workdir / "results.json", json.dumps(found, indent=2) + "\n")
    print(f"answers: {workdir}")
    return 0


def _answers(
    agent: LILITHAgent, config: EvaluateConfig, workdir: pathlib.Path, words: str
) -> list[Answered]:
    kinds = config.kinds or KINDS
    prompts = agent_prompts(
        -(-config.count // len(kinds)), kinds, seed=config.seed, known_words=words == "known"
    )
    path = workdir / f"answers_{words}.jsonl"
    with (
        task(f"answering, {words.replace('_', ' ')} words", total=len(prompts)) as report,
        Watchdog(config.hang_seconds, field="hang_seconds", again=GO_ON) as watchdog,
    ):
        answers = answer_all(
            agent, prompts, path, roles=not config.system_prompt,
            progress=watchdog.counted("answer", report),
        )  # fmt: skip
    print(f"\nheld-out numbers in {words.replace('_', ' ')} words\n{TABLE_HEAD}")
    print("\n".join(map(row, figures_by_kind(answers))))
    return answers


def summarise(answers: list[Answered]) -> dict[str, Any]:
    """Shares of all questions, and the figures of each kind.

    Returns:
      ``questions``, ``well_formed`` (of the calls), ``right_tool``, ``right`` (the right tool with
      every argument right), ``answered`` (the answer says the tool's number), ``by_kind``: of each
      the share that is right, and ``rows``: :class:`lilith.evals.agent_answers.Figures` of each
      kind and of all.
    """
    rows = figures_by_kind(answers)
    whole = rows[-1]
    return {
        "questions": whole.prompts,
        "well_formed": whole.valid / max(whole.calls, 1),
        "right_tool": whole.right_tool / whole.prompts,
        "right": whole.right_call / whole.prompts,
        "answered": whole.right_answer / whole.prompts,
        "by_kind": {own.kind: own.right_call / own.prompts for own in rows if own.kind != "all"},
        "rows": [dataclasses.asdict(own) for own in rows],
    }


def dry_run(config: EvaluateConfig) -> int:
    """Print the first question of each kind and the call that it needs; ask nothing."""
    for prompt in agent_prompts(1, config.kinds or KINDS, seed=config.seed):
        print(f"[user] {prompt.question}\n[expected] {json.dumps(prompt.expected)}\n")
    return 0
