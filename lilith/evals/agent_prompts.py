"""Held-out questions for an agent: the call that each needs, and what a right answer says.

Those on pricing, statistics, backtests and portfolios are the held-out questions of
:mod:`lilith.data.instructions` whose tools every agent has; those on plans are written in
:mod:`lilith.evals.planning_prompts`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import ConfigError, nearest
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.quant_talk import run
from lilith.data.instructions.registry import make, user_prompt
from lilith.data.instructions.tool_prompts import same_call
from lilith.evals.agent_keys import Figure, Key, figure
from lilith.evals.planning_prompts import planning_question, same_plan

SEED = 1_000
LEAST_WEIGHT = 0.005  # of an asset that an answer must name
MOST_REPEATS = 1_000  # in a row, of questions that were there before
PLANNING = "planning"
# The generators of each kind of question, in turn.
SOURCES: dict[str, tuple[str, ...]] = {
    "pricing": (
        "quant_price_european", "quant_greeks", "quant_implied_volatility", "quant_monte_carlo",
        "quant_delta_hedge",
    ),
    "statistics": ("quant_statistics",),
    "backtest": ("quant_backtest_metrics",),
    "portfolio": ("quant_portfolio", "quant_frontier"),
    PLANNING: ("plan_project",),
    "calculator": ("agent_calculator",),
}  # fmt: skip
KINDS = ("pricing", "statistics", "backtest", "portfolio", PLANNING)  # of the agent's benchmark


@dataclass(frozen=True)
class AgentPrompt:
    """A question, the call that it needs and what a right answer says.

    Attributes:
      kind: of :data:`SOURCES`; source: the generator; index: which of its questions.
      expected: ``{"name", "arguments"}``.
      keys: each of them must be said.
    """

    kind: str
    source: str
    index: int
    question: str
    expected: Mapping[str, Any]
    keys: tuple[Key, ...]

    @property
    def role(self) -> str:
        """Of the agent that is asked."""
        return "project_manager" if self.kind == PLANNING else "quant_dev"

    def same(self, call: Mapping[str, Any]) -> bool:
        """Whether a call, ``{"name", "arguments"}``, is the expected one."""
        if self.kind == PLANNING:
            return same_plan(self.expected, call)
        return same_call(self.expected, call)


def agent_prompts(
    count: int, kinds: Sequence[str] = KINDS, *, seed: int = SEED, known_words: bool = False
) -> list[AgentPrompt]:
    """``count`` different questions of each kind; the same arguments give the same ones.

    Args:
      kinds: of :data:`SOURCES`, or single generators of them.
      known_words: held out are the numbers alone; else the words as well. Those on plans have no
        other words.

    Raises:
      ConfigError: there is no such kind, or a negative count.
    """
    if count < 0:
        raise ConfigError(f"count is {count}; ask for 0 or more prompts")
    for kind in kinds:
        if kind not in SOURCES and kind not in _KEYS:
            known = (*SOURCES, *_KEYS)
            raise ConfigError(
                f"there is no kind {kind!r}{nearest(kind, known)}; known: {', '.join(known)}"
            )
    return [
        prompt
        for kind in kinds
        for prompt in itertools.islice(_different(kind, seed, known_words), count)
    ]


def _different(kind: str, seed: int, known_words: bool) -> Iterator[AgentPrompt]:
    """Questions of one kind, no two the same, its generators in turn."""
    seen: set[str] = set()
    repeats = 0
    sources = SOURCES.get(kind, (kind,))
    for turn in itertools.count():
        index, at = divmod(turn, len(sources))
        prompt = _made(kind, sources[at], seed, index, known_words)
        repeats = repeats + 1 if prompt.question in seen else 0
        if repeats > MOST_REPEATS:
            raise ConfigError(f"there are no more than {len(seen)} questions of kind {kind}")
        if not repeats:
            seen.add(prompt.question)
            yield prompt


def _made(kind: str, source: str, seed: int, index: int, known_words: bool) -> AgentPrompt:
    if kind == PLANNING:
        draw = Draw(seed, source, index, held_out=True)
        return AgentPrompt(kind, source, index, *planning_question(draw))
    record = make(source, seed, index, held_out=True, known_words=known_words)
    check = record["metadata"]["check"]
    (expected,) = check["tool_calls"]
    result = run(expected)["result"] if "quoted" in check else check["results"][0]
    keys = _KEYS[source](result, check.get("quoted", ()))
    return AgentPrompt(kind, source, index, user_prompt(record), expected, tuple(keys))


Result = Mapping[str, Any]
Quoted = Sequence[Mapping[str, Any]]


def _greek(result: Result, quoted: Quoted) -> list[Key]:
    """The Greek that is asked for, in either of the units that it is quoted in."""
    name = quoted[0]["path"][0]
    scales = [entry["scale"] for entry in quoted if entry["path"] == [name]]
    return [Figure(name, tuple(dict.fromkeys(result[name] * scale for scale in scales)))]


def _shares(result: Result, quoted: Quoted) -> list[Key]:
    return [Figure("shares", (float(round(result["delta"] * quoted[0]["scale"])),))]


def _weights(result: Result, quoted: Quoted) -> list[Key]:
    return [
        figure(result, "weights", at, name=f"weight {at + 1}")
        for at, weight in enumerate(result["weights"])
        if weight >= LEAST_WEIGHT
    ]


def _at(*paths: tuple[str | int, ...]) -> Callable[[Result, Quoted], list[Key]]:
    return lambda result, quoted: [figure(result, *path) for path in paths]


# What a right answer to a question of each generator says.
_KEYS: dict[str, Callable[[Result, Quoted], list[Key]]] = {
    "quant_price_european": _at(("price",)),
    "quant_greeks": _greek,
    "quant_implied_volatility": _at(("implied_volatility",)),
    "quant_monte_carlo": _at(("price",)),
    "quant_delta_hedge": _shares,
    "quant_statistics": _at(("mean",), ("std",)),
    "quant_backtest_metrics": _at(("sharpe",), ("max_drawdown",)),
    "quant_portfolio": _weights,
    "quant_frontier": _at(
        ("minimum_variance", "expected_return"), ("minimum_variance", "volatility")
    ),
    "agent_calculator": _at(("value",)),
}
