"""The agent with a real model: calls that parse and validate, right calls, right answers, seconds.

Held-out questions on pricing, statistics, backtests, portfolios and plans are asked one by one,
each in a conversation of its own, as a user of `create_quant_agent` would ask them: all tools
granted, the role's system prompt, the temperature of the kind of work, calls held to the grammar.
Every turn is kept in `--out` as soon as it is over, so the same command goes on where it stopped.

A small model that was not tuned on calls makes few. With `--begin-calls` the mark of a call is
written for it at the start of each turn, which shows what its calls are worth.

`--only time` takes the seconds of one tool turn, "Price a call: S=100, K=105, T=0.5, r=0.05,
vol=0.2". It is warm: everything is compiled, and another conversation has made the model read the
system message, as in an agent that has been used. The question is new each time. The parts are:
reading the prompt (until the first text or call comes), writing the calls, running the tools,
reading their results, writing the answer, and the rest (the grammar's masks are in the writing;
fitting the history, building the grammar and checking the answer's numbers are in the rest). The
same without the warm system message is given beside it.

    python -m benchmarks.agent [--model smollm2-135m-instruct|RUN|ADAPTER|FILE.gguf] [--items 50]
        [--kinds pricing,planning] [--begin-calls] [--out FOLDER] [--only table|time]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks import harness
from lilith.agent.agent import LILITHAgent, create_quant_agent
from lilith.agent.turn import AgentTurn, Done, ToolCallStarted, ToolFinished
from lilith.agent.turn_run import TurnLimits
from lilith.config import UserError
from lilith.evals.agent_answers import (
    TABLE_HEAD,
    BegunCalls,
    Figures,
    answer_all,
    figures_by_kind,
    markdown_row,
)
from lilith.evals.agent_prompts import KINDS, SEED, agent_prompts
from lilith.inference.language_model import LanguageModel
from lilith.interop import load_checkpoint

PRICING = "Price a call: S=100, K=105, T=0.5, r=0.05, vol=0.2"
ANOTHER = "How is the weather on the trading floor today?"  # shares the system message only
MOST_SECONDS = 6.0  # of the pricing question's turn
COLUMNS = tuple(field.name for field in fields(Figures))


class Watched:
    """A model whose messages are timed.

    Attributes:
      messages: of each when it was asked for, when its first text came and when it ended.
      read: how many tokens each made the model read; the others were read before.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.messages: list[list[float]] = []
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def stream(self, prompt: Any, **settings: Any) -> Iterator[str]:
        """The model's own stream."""
        times = [time.perf_counter()]
        self.messages.append(times)
        before = self.model.engine.read_tokens
        try:
            for piece in self.model.stream(prompt, **settings):
                if len(times) == 1:
                    times.append(time.perf_counter())
                yield piece
        finally:
            times += [time.perf_counter()] * (3 - len(times))
            self.read.append(self.model.engine.read_tokens - before)


@dataclass(frozen=True)
class Parts:
    """Seconds of one turn, and what they went into; the parts add up to ``turn``."""

    turn: float
    read_prompt: float
    write_calls: float
    run_tools: float
    read_results: float
    write_answer: float
    rest: float


def timed(agent: LILITHAgent, watched: Watched, question: str) -> tuple[AgentTurn, Parts]:
    """A turn and its parts."""
    watched.messages.clear()
    watched.read.clear()
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    turn: AgentTurn | None = None
    began = time.perf_counter()
    for event in agent.stream(question):
        now = time.perf_counter()
        if isinstance(event, ToolCallStarted):
            begun.setdefault(event.step, now)
        elif isinstance(event, ToolFinished):
            ended[event.step] = now
        elif isinstance(event, Done):
            turn = event.turn
    whole = time.perf_counter() - began
    assert turn is not None  # a turn that is not closed ends in Done
    messages = watched.messages
    reading = [first - asked for asked, first, _ in messages]
    writing = [end - first for _, first, end in messages]
    calling = len(turn.steps)
    parts = (
        reading[0], sum(writing[:calling]), sum(ended[step] - begun[step] for step in ended),
        sum(reading[1:]), sum(writing[calling:]),
    )  # fmt: skip
    return turn, Parts(whole, *parts, whole - sum(parts))


def time_turns(model: LanguageModel, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of the pricing question's turn and its parts, warm and with nothing read before."""
    watched = Watched(BegunCalls(model) if arguments.begin_calls else model)
    found: dict[str, list[Parts]] = {"warm": [], "cold": []}
    read: dict[str, list[int]] = {}
    with agent_of(watched, arguments) as agent:
        system = {"role": "system", "content": agent.system_message}
        other = agent.dialect.prompt([system, {"role": "user", "content": ANOTHER}])
        for repeat in range(arguments.repeats + 1):  # the first one compiles
            for name, own in found.items():
                agent.reset()
                model.engine.forget()
                if name == "warm":
                    model.generate(other, max_tokens=1)
                turn, parts = timed(agent, watched, PRICING)
                own += [parts] * (repeat > 0)
                read[name] = list(watched.read)
                print(f"{name} {repeat}: {parts.turn:.2f} s, {turn.tokens} tokens", flush=True)
        tokens = agent.dialect.count([system])
    facts: dict[str, Any] = {
        "question": PRICING, "target_s": MOST_SECONDS, "repeats": arguments.repeats,
        "system_tokens": tokens, "prompt_tokens": turn.prompt_tokens,
        "written_tokens": turn.tokens, "called": [call.name for call in turn.calls],
        "answer": turn.answer, "ended": turn.ended,
        **{f"{name}_read_tokens": own for name, own in read.items()},
    }  # fmt: skip
    for name, own in found.items():
        for part in fields(Parts):
            values = [getattr(parts, part.name) for parts in own]
            facts[f"{name}_{part.name}_s"] = harness.median(values)
    return facts


def agent_of(model: Any, arguments: argparse.Namespace) -> LILITHAgent:
    """The agent that is measured."""
    limits = TurnLimits(
        arguments.steps, arguments.tokens, min(arguments.message_tokens, arguments.tokens),
        arguments.seconds,
    )  # fmt: skip
    return create_quant_agent(
        model, limits=limits, seed=arguments.seed, temperature=arguments.temperature
    )


def table(
    model: LanguageModel, arguments: argparse.Namespace
) -> tuple[list[list[Any]], dict[str, Any]]:
    """A row of figures for each kind; the Markdown table is printed."""
    prompts = agent_prompts(arguments.items, arguments.kinds, seed=arguments.prompt_seed)

    def report(done: int, total: int, what: str) -> None:
        print(f"{done}/{total}: {what}", flush=True)

    asked = BegunCalls(model) if arguments.begin_calls else model
    with agent_of(asked, arguments) as agent:
        answers = answer_all(agent, prompts, arguments.out / "answers.jsonl", progress=report)
        facts = {"notes": list(agent.notes)}
    found = figures_by_kind(answers)
    print(f"\n{TABLE_HEAD}")
    for own in found:
        print(markdown_row(own))
    print()
    return [list(asdict(own).values()) for own in found], facts


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct",
                        help="a name, a run's or an adapter's folder, or a .gguf file")  # fmt: skip
    parser.add_argument("--items", type=int, default=50, help="of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=pathlib.Path, help="runs/agent/MODEL by default")
    parser.add_argument("--steps", type=int, default=4, help="messages of the model a turn")
    parser.add_argument("--tokens", type=int, default=1536, help="that a turn writes")
    parser.add_argument("--message-tokens", type=int, default=768,
                        help="of one message; calls beyond half of it are cut short")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=300.0, help="of a turn")
    parser.add_argument("--temperature", type=float, help="the agent's own by default")
    parser.add_argument("--seed", type=int, default=0, help="of the model's draws")
    parser.add_argument("--prompt-seed", type=int, default=SEED, help="of the questions")
    parser.add_argument("--begin-calls", action="store_true",
                        help="begin each turn's first message with a call")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("table", "time"))
    arguments = parser.parse_args(words)
    arguments.kinds = arguments.kinds.split(",")
    for kind in arguments.kinds:
        if kind not in KINDS:
            parser.error(f"--kinds has {kind!r}; known: {', '.join(KINDS)}")
    if arguments.items < 1 or arguments.repeats < 1:
        parser.error("--items and --repeats must be at least 1")
    arguments.label = pathlib.Path(arguments.model).name + "_begun" * arguments.begin_calls
    arguments.out = arguments.out or pathlib.Path("runs/agent") / arguments.label
    return arguments


SETTINGS = (
    "model", "steps", "tokens", "message_tokens", "seconds", "temperature", "seed", "prompt_seed",
    "begin_calls",
)  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    arguments = parsed(words)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    rows: list[list[Any]] = []
    try:
        if arguments.only != "time":
            harness.claim(arguments.out, settings)
        model, _, info = load_checkpoint(arguments.model)
        print(info, flush=True)
        facts: dict[str, Any] = {"loaded": str(info), **settings}
        if arguments.only != "time":
            rows, more = table(model, arguments)
            facts |= more
        if arguments.only != "table":
            facts |= time_turns(model, arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts |= harness.machine("jax", "llguidance")
    name = "_".join(["agent", arguments.label, *([arguments.only] if arguments.only else [])])
    print(f"written: {harness.report(name, COLUMNS, rows, facts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
