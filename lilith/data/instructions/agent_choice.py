"""Questions on options and track records to an agent, which picks from all of its tools."""

from __future__ import annotations

from collections.abc import Callable

from lilith.data.instructions import quant_exotics, quant_options, quant_returns
from lilith.data.instructions.agent_prompt import (
    agent_called,
    agent_system,
    brief_figures,
    fitting,
)
from lilith.data.instructions.conversations import conversation
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_talk import run

ROLES = ("quant_dev", "quant_dev", "quant_dev", "hybrid_quant_pm")
# Kinds of one call of an agent's tool, short enough to stand behind the agent's system message.
SOURCES = {
    name: function
    for module in (quant_options, quant_exotics, quant_returns)
    for name, function in module.GENERATORS.items()
    if name in ("quant_price_european", "quant_greeks", "quant_implied_volatility",
                "quant_monte_carlo", "quant_delta_hedge", "quant_backtest_metrics",
                "quant_statistics")
}  # fmt: skip


def agent_choice(draw: Draw) -> Conversation:
    """One question, the tool that answers it and the answer, before the agent's system message."""
    record = SOURCES[draw.choice(sorted(SOURCES))](draw)
    _, asked, _, _, answer = record["messages"]
    facts = record["metadata"]
    (call,) = facts["check"]["tool_calls"]
    told = brief_figures(run(call))
    system = agent_system(draw.choice(ROLES))
    messages = [system, asked, *agent_called(call["name"], call["arguments"], told), answer]
    check = facts["check"] | {"results": [told]}
    return conversation("agent_choice", "quant", facts["difficulty"], messages, check)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"agent_choice": fitting(agent_choice)}
