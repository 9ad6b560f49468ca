"""What is asked after every stage that changes the model: prompts, tool calls, safety."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from experiments.constitutional_course import load_policy
from experiments.constitutional_data import likeliest_answers
from experiments.constitutional_prompts import gather_prompts
from experiments.pipeline_config import PipelineConfig, TalkConfig
from experiments.pipeline_talks import agent_talks
from experiments.progress import task
from lilith.agent.agent import LILITHAgent
from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.turn_run import TurnLimits
from lilith.data.instructions.tool_prompts import tool_call_prompts
from lilith.evals.tool_calls import summarise, tool_call_results
from lilith.inference.language_model import LanguageModel
from lilith.reasoning.safety_rates import safety_rates
from lilith.reasoning.sampler import Sampler
from lilith.train.metrics import write_atomically

TRANSCRIPT = "transcript.html"
TURNS = "turns.jsonl"


def load_asked(config: PipelineConfig, where: str) -> LanguageModel:
    """The model of a stage, asked in the template that it is tuned in, before and after tuning."""
    data = dataclasses.replace(config.constitution.data, template="chatml")
    return load_policy(dataclasses.replace(config.constitution, data=data), where, ())


def measure(config: PipelineConfig, where: str) -> dict[str, Any]:
    """The likeliest answers to the fixed prompts, tool calls that are right, safety rates.

    Args:
      where: the model, as ``load_checkpoint`` takes it.

    Returns:
      ``answers`` (``prompt``, ``text``), ``tool_calls`` as
      :func:`lilith.evals.tool_calls.summarise` gives it, ``safety`` as
      :class:`lilith.reasoning.safety_rates.SafetyRates` has it.
    """
    wanted = config.measure
    model = load_asked(config, where)
    questions = tool_call_prompts(
        wanted.seed, wanted.questions, known_words=True, kinds=wanted.kinds
    )
    with agent_talks(config.talk) as talks:
        asked = [[talks.system, {"role": "user", "content": own}] for own in wanted.prompts]
        questions = [
            dataclasses.replace(own, messages=[talks.system, *own.messages[1:]])
            if own.expected["name"] in config.talk.tools
            else own
            for own in questions
        ]
    with task("the same prompts"):
        answers = model.generate_batch(asked, max_tokens=wanted.answer_tokens)
    with task("held-out tool calls", total=len(questions)) as report:
        results = tool_call_results(
            model, questions, max_tokens=wanted.call_tokens, progress=report
        )
    found: dict[str, Any] = {
        "answers": [
            {"prompt": prompt, "text": one.text.strip()}
            for prompt, one in zip(wanted.prompts, answers)
        ],
        "tool_calls": summarise(results),
    }
    held_out = gather_prompts(config.constitution).held_out
    if held_out:
        sampler = Sampler(model, batch_size=config.constitution.group)
        with task("held-out harmful and harmless prompts"):
            written = likeliest_answers(
                sampler, held_out, config.constitution.revision.answer_tokens
            )
        rates = safety_rates(held_out, [one["answer"] for one in written])
        found["safety"] = dataclasses.asdict(rates) | {"lower": rates.lower}
    return found


def converse(config: PipelineConfig, where: str, folder: pathlib.Path) -> dict[str, Any]:
    """The first conversation with the agent: ``turns.jsonl``, ``transcript.html``, and its facts.

    Raises:
      UserError: a tool of ``talk.tools`` does not exist.
    """
    model = load_asked(config, where)
    folder.mkdir(parents=True, exist_ok=True)
    with create_quant_tools(others=True) as tools:
        agent = _agent(model, tools, config.talk)
        with task("a first conversation", total=len(config.talk.messages)) as report:
            for number, message in enumerate(config.talk.messages, 1):
                agent.run(message)
                report(number, len(config.talk.messages), "")
    lines = [json.dumps(json.loads(turn.to_json())) + "\n" for turn in agent.turns]
    write_atomically(folder / TURNS, "".join(lines))
    write_atomically(folder / TRANSCRIPT, agent.transcript_html())
    return {
        "turns": [
            {
                "message": turn.message,
                "calls": [
                    {"name": call.name, "arguments": dict(call.arguments), "ok": call.ok,
                     "shown": call.shown}
                    for call in turn.calls
                ],
                "answer": turn.answer,
                "ended": turn.ended,
                "unverified": len(turn.unverified),
            }
            for turn in agent.turns
        ]
    }  # fmt: skip


def _agent(model: LanguageModel, tools: ToolRegistry, talk: TalkConfig) -> LILITHAgent:
    return LILITHAgent(
        model, tools=tools.only(talk.tools), system_prompt=talk.system_prompt, temperature=0.0,
        limits=TurnLimits(steps=talk.steps, tokens=talk.tokens, message_tokens=talk.tokens),
    )  # fmt: skip
