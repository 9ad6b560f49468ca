"""What :mod:`lilith.agent` shows a model before and after its calls, for conversations like its.

This room stands below the agent's and can not import it, so the tools that are declared there
stand here too, in brief; ``tests/data/instructions`` asserts that a model reads the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache, wraps
from types import MappingProxyType
from typing import Any

from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.exact import CALCULATOR, EXECUTE_PYTHON
from lilith.data.instructions.quant_talk import tools
from lilith.data.instructions.tool_text import DIGITS, LEFT_OUT, exact, system_message
from lilith.planning.plan import plan_project
from lilith.planning.project import DISTRIBUTIONS, PlanningError
from lilith.planning.reading import UNITS, read_project
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.quant.tool_values import ToolError
from lilith.roles import SYSTEM_PROMPTS
from lilith.shamshel import verify

HEADING = "You have these tools:"
FROM_QUANT = (
    "stats_summary", "black_scholes", "implied_volatility", "monte_carlo_option",
    "portfolio_optimize", "efficient_frontier", "backtest_metrics",
)  # fmt: skip
_LEVELS = ("P50", "P80", "P95")
Generator = Callable[[Draw], Conversation]
# A conversation must fit rows of 1,024 tokens of SmolLM2. This room has no tokenizer, so pieces are
# counted that are rarely fewer than the tokens: digits, parts of words, marks.
_PIECE = re.compile(r"\d|[^\W\d_]{1,7}|[^\w\s]{1,2}|_|\n| (?=\d)")
MOST_PIECES = 1_015
SYSTEM_PIECES = 520  # the longest system message takes 517 tokens
PIECES_A_TURN = 6  # for the role and the marks around a message
MOST_DRAWS = 100


def _verify(code: str, tests: str | None, entry_point: str | None, cases: Any) -> Answer:
    verdict = verify(code, entry_point, cases or (), tests)
    return Answer({"passed": verdict.passed, "failures": list(verdict.failures)})


def _plan(
    *, runs: int, seed: int, distribution: str, sprint_days: int, chart: bool, **project: Any
) -> Answer:
    given = {name: value for name, value in project.items() if value is not None}
    try:
        plan = plan_project(
            read_project(**given),
            runs=runs, seed=seed, distribution=distribution, sprint_days=sprint_days,
        )  # fmt: skip
    except PlanningError as error:
        raise ToolError(error.code, error.field, error.message, error.hint) from None
    return Answer(plan.to_json(chart=chart))


VERIFY_CODE = Tool(
    "verify_code",
    "Judge Python code by tests in a sandbox: whether all pass, and what failed.",
    (
        Parameter("code", "string", "Python that defines the function"),
        Parameter("tests", "string", "Python that calls it: asserts", default=None),
        Parameter("entry_point", "string", "name of the function", default=None),
        Parameter("cases", "list", "calls and what must come of them", default=None),
    ),
    _verify,
)
PLAN_PROJECT = Tool(
    "plan_project",
    "Plan a project from tasks, estimates, dependencies, people and limits.",
    (
        Parameter("tasks", "list", "the work"),
        Parameter("start", "string", "the first day, as 2026-03-31"),
        Parameter("name", "string", "of the project", default="Project"),
        Parameter("unit", "string", "of estimates", default="days", choices=UNITS),
        Parameter("resources", "list", "the people there are", default=None),
        Parameter("calendar", "object", "days of work", default=None),
        Parameter("constraints", "object", "deadline and downtime", default=None),
        Parameter("risks", "list", "what may go wrong", default=None),
        Parameter("progress", "object", "how far it is", default=None),
        Parameter("sprint_days", "integer", "of a sprint", default=10),
        Parameter("runs", "integer", "of the simulation", default=5_000),
        Parameter("seed", "integer", "of the simulation", default=0),
        Parameter("distribution", "string", "of times", default="pert", choices=DISTRIBUTIONS),
        Parameter("chart", "boolean", "whether to draw it", default=True),
    ),
    _plan,
)


@cache
def agent_tools() -> Mapping[str, Tool]:
    """The tools of every agent by name, in the order in which its system message lists them."""
    own = [*(tools()[name] for name in FROM_QUANT), CALCULATOR, EXECUTE_PYTHON, VERIFY_CODE]
    return MappingProxyType({tool.name: tool for tool in (*own, PLAN_PROJECT)})


def agent_system(role: str) -> dict[str, Any]:
    """The system message of an agent of a role of :data:`SYSTEM_PROMPTS`, with all its tools."""
    lead = f"{SYSTEM_PROMPTS[role]}\n{HEADING}"
    return {
        "role": "system",
        "content": system_message(list(agent_tools().values()), lambda headings: lead),
    }


def agent_called(name: str, arguments: Any, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An assistant's message that calls a tool, and the answer as an agent shows it."""
    call = {"name": name, "arguments": arguments}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": text},
    ]


def fitting(function: Generator) -> Generator:
    """A generator whose conversations fit rows of 1,024 tokens: it draws again until one does.

    What it makes raises ValueError where none of :data:`MOST_DRAWS` is short enough.
    """

    @wraps(function)
    def drawn(draw: Draw) -> Conversation:
        for _ in range(MOST_DRAWS):
            record = function(draw)
            texts = [_written(message) for message in record["messages"][1:]]
            pieces = sum(len(_PIECE.findall(text)) + PIECES_A_TURN for text in texts)
            if SYSTEM_PIECES + pieces <= MOST_PIECES:
                return record
        raise ValueError(f"{function.__name__}: no conversation in {MOST_DRAWS} is short enough")

    return drawn


def _written(message: Mapping[str, Any]) -> str:
    """A message with its calls, and a result with its marks, as SmolLM2's template writes them."""
    if message["role"] == "tool":
        return f"<tool_response>\n{message['content']}\n</tool_response>"
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls", ())]
    return message["content"] + "".join(f"<tool_call>\n{own}\n</tool_call>" for own in calls)


def brief_figures(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What an agent shows of an answer of :mod:`lilith.quant` without tables and long lists.

    It differs from :func:`tool_text.brief_answer`: lists and warnings of the figures that are left
    out stay.
    """
    told: dict[str, Any] = {"ok": True, "result": _kept(answer["result"])}
    return told | ({"warnings": answer["warnings"]} if answer["warnings"] else {})


def _kept(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _kept(item)
            for key, item in value.items()
            if key not in LEFT_OUT or isinstance(item, list)
        }
    return [_kept(item) for item in value] if isinstance(value, list) else _rounded(value)


def brief_plan(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is shown of an answer of ``plan_project``: what people ask about, in 100 tokens.

    The whole answer takes 1,100 tokens and more for a few tasks. Kept are the finish, the length,
    the critical path and the slack of the other tasks; the simulated dates, where estimates are
    uncertain; the verdicts on the limits; who would be overloaded, and the chain that then drives
    the finish. An error is kept whole.
    """
    if not answer["ok"]:
        return {"ok": False, "error": dict(answer["error"])}
    plan = answer["result"]
    slack = {
        own["task"]: _rounded(own["total_slack_days"])
        for own in plan["schedule"]
        if own["total_slack_days"] > 0
    }
    told = {
        "finish": plan["finish"],
        "length_days": _rounded(plan["length_days"]),
        "critical_path": plan["critical_path"],
        "slack_days": slack,
    }
    if plan["forecast"]["deviation_days"]:  # else every percentile is the finish
        told |= {level: plan["forecast"]["percentiles"][level]["date"] for level in _LEVELS}
    if plan["overloaded"]:
        told["overloaded"] = {own["resource"]: own["tasks"] for own in plan["overloaded"]}
        told["critical_chain"] = plan["critical_chain"]
    for name, figures in (
        ("deadline", ("verdict", "late_by_days", "cause", "probability")),
        ("downtime", ("verdict", "expected_hours", "probability")),
    ):
        if plan[name]:
            told[name] = {own: _rounded(plan[name][own]) for own in figures if plan[name][own]}
            told[name]["probability"] = _rounded(plan[name]["probability"])
    return {"ok": True, "result": told}


def _rounded(value: Any) -> Any:
    return exact(Decimal(f"{value:.{DIGITS}g}")) if isinstance(value, float) else value
