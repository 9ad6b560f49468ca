"""Six conversations of the quick-start guide, end to end with a real model, a page each.

Each is asked of an agent of the role that it needs, with all tools. A conversation becomes a page
(`NAME.html`, the transcript with calls, plots and checks) and its turns in JSON (`NAME.json`) in
`--out`; the table tells which tools were called, whether one that the question needs was among
them, errors of calls, numbers of the answers that come from nowhere, and seconds. A conversation
whose JSON is there already is not asked again.

    python -m benchmarks.agent_examples [--model smollm2-135m-instruct] [--only price,plan]
        [--out runs/agent_examples/MODEL] [--message-tokens 1024]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks import harness
from lilith.agent.agent import create_quant_agent
from lilith.agent.turn import AgentTurn
from lilith.agent.turn_run import TurnLimits
from lilith.config import UserError
from lilith.inference.language_model import LanguageModel
from lilith.interop import load_checkpoint
from lilith.train.metrics import write_atomically


@dataclass(frozen=True)
class Example:
    """A conversation: the role of the agent, what the user says, and the tools that it needs.

    ``tools`` are the names of which one at least is to be called; none are needed where it is
    empty.
    """

    role: str
    messages: tuple[str, ...]
    tools: tuple[str, ...] = ()


FLAWED = """\
```python
import math

def norm_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))

def call_price(S, K, T, r, sigma):
    d1 = (math.log(S / K) + (r + 0.5 * sigma ** 2) * T) / (sigma * math.sqrt(T))
    d2 = d1 - sigma * math.sqrt(T)
    return S * norm_cdf(d1) - K * math.exp(-r * T) * norm_cdf(d2)
```"""
EXAMPLES = {
    "price": Example(
        "quant_dev",
        ("Price a call and give its Greeks: S=100, K=105, T=0.5, r=0.05, vol=0.2.",),
        ("black_scholes",),
    ),
    "returns": Example(
        "quant_dev",
        ("Analyse these ten daily returns: 0.012, -0.008, 0.005, 0.009, -0.015, 0.007, 0.011, "
         "-0.004, 0.003, -0.006. Give the mean, the volatility, the Sharpe ratio and the maximum "
         "drawdown.",),
        ("stats_summary", "backtest_metrics"),
    ),
    "trading_system": Example(
        "hybrid_quant_pm",
        ("Plan an options trading system. We start on 2026-03-02 with 4 people: market data takes "
         "10 to 20 days, the pricing engine 15 to 30 days after that, risk limits 8 to 15 days "
         "after the pricing engine, order routing 10 to 25 days after market data, and testing 10 "
         "to 20 days after risk limits and order routing.",),
        ("plan_project",),
    ),
    "cloud": Example(
        "project_manager",
        ("Plan the migration of our infrastructure to the cloud with 3 engineers in 6 months, from "
         "2026-01-05, with under 1 hour of downtime in all. Name the tasks, the critical path, the "
         "finish date with its chance, and the risks.",),
        ("plan_project",),
    ),
    "review": Example(
        "10x_engineer",
        ("Review this pricer. It has flaws where time or volatility is zero: show them by running "
         f"it, and mend it.\n{FLAWED}",),
        ("execute_python", "verify_code"),
    ),
    "market_making": Example(
        "hybrid_quant_pm",
        ("Design a market-making strategy for options on a stock at 100 with a volatility of 25%, "
         "30 days to expiry and a rate of 4%: how to set bid and ask around the fair value of the "
         "100 call, how to hedge the delta, and what limits to keep.",),
        ("black_scholes",),
    ),
}  # fmt: skip
COLUMNS = (
    "example", "role", "tools", "needed_called", "calls", "errors", "unverified", "ended",
    "tokens", "seconds",
)  # fmt: skip


def turns_of(
    model: LanguageModel, name: str, example: Example, arguments: argparse.Namespace
) -> list[AgentTurn]:
    """The turns of a conversation, which is written to its page and its JSON."""
    path = arguments.out / f"{name}.json"
    if path.exists():
        saved = json.loads(path.read_text())["turns"]
        return [AgentTurn.from_json(json.dumps(own)) for own in saved]
    limits = TurnLimits(
        arguments.steps, arguments.tokens, arguments.message_tokens, arguments.seconds
    )
    with create_quant_agent(model, role=example.role, limits=limits, seed=arguments.seed) as agent:
        for message in example.messages:
            agent.run(message)
        write_atomically(arguments.out / f"{name}.html", agent.transcript_html())
        whole: dict[str, Any] = {"example": name, "model": arguments.model, "role": example.role}
        whole["turns"] = [json.loads(turn.to_json()) for turn in agent.turns]
        write_atomically(path, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        return list(agent.turns)


def row(name: str, example: Example, turns: Sequence[AgentTurn]) -> list[Any]:
    """The figures of a conversation, in the order of COLUMNS."""
    calls = [call for turn in turns for call in turn.calls]
    called = list(dict.fromkeys(call.name or "unread" for call in calls))
    needed = not example.tools or any(call.ok and call.name in example.tools for call in calls)
    return [
        name, example.role, ", ".join(called) or "none", "yes" if needed else "no", len(calls),
        sum(not call.ok for call in calls), sum(len(turn.unverified) for turn in turns),
        ", ".join(turn.ended for turn in turns), sum(turn.tokens for turn in turns),
        round(sum(turn.seconds for turn in turns), 2),
    ]  # fmt: skip


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct",
                        help="a name, a run's or an adapter's folder, or a .gguf file")  # fmt: skip
    parser.add_argument("--only", default=",".join(EXAMPLES), help="some of the examples")
    parser.add_argument("--out", type=pathlib.Path, help="runs/agent_examples/MODEL by default")
    parser.add_argument("--steps", type=int, default=6, help="messages of the model a turn")
    parser.add_argument("--tokens", type=int, default=3072, help="that a turn writes")
    parser.add_argument("--message-tokens", type=int, default=1024, help="of one message")
    parser.add_argument("--seconds", type=float, default=600.0, help="of a turn")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    arguments.only = arguments.only.split(",")
    for name in arguments.only:
        if name not in EXAMPLES:
            parser.error(f"--only has {name!r}; known: {', '.join(EXAMPLES)}")
    arguments.label = pathlib.Path(arguments.model).name
    arguments.out = arguments.out or pathlib.Path("runs/agent_examples") / arguments.label
    return arguments


SETTINGS = ("model", "steps", "tokens", "message_tokens", "seconds", "seed")


def main(words: Sequence[str] | None = None) -> int:
    arguments = parsed(words)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    rows = []
    try:
        harness.claim(arguments.out, settings)
        model, _, info = load_checkpoint(arguments.model)
        print(info, flush=True)
        for name in arguments.only:
            rows.append(row(name, EXAMPLES[name], turns_of(model, name, EXAMPLES[name], arguments)))
            print(f"{name}: {rows[-1][-1]} s, {arguments.out / f'{name}.html'}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts = {"loaded": str(info), **settings, **harness.machine("jax", "llguidance")}
    name = f"agent_examples_{arguments.label}"
    print(f"written: {harness.report(name, COLUMNS, rows, facts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
