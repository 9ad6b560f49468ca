"""Tools as a model reads them: short signatures, a system message, answers cut to what matters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from lilith.quant.tool import Parameter, Tool

DIGITS = 6  # significant ones of a number in a tool's answer
MOST_ENTRIES = 8  # of a list in a tool's answer
MOST_CHOICES = 5  # of an argument in a signature
# Of tools with many arguments, those that a signature shows; the others are behind "...".
SHOWN = {
    "monte_carlo_option": (
        "spot", "strike", "time", "rate", "volatility", "dividend", "option_type", "kind", "paths",
        "steps", "seed",
    ),
    "portfolio_optimize": (
        "returns", "method", "risk_free_rate", "periods_per_year", "target_return",
    ),
    "efficient_frontier": ("returns", "points", "risk_free_rate", "periods_per_year"),
    "backtest_metrics": (
        "returns", "benchmark", "periods_per_year", "risk_free_rate", "confidence",
    ),
    "backtest": ("signals", "prices", "costs", "cash_rate", "periods_per_year"),
    "stats_summary": ("data", "ddof", "percentiles", "lags"),
    "fit_ar1": ("data", "mean", "horizon"),
    "fit_garch": ("data", "mean", "horizon"),
    "volatility_surface": ("quotes", "spot", "rate", "dividend"),
}  # fmt: skip
# Figures that an answer to a model leaves out, wherever they stand: the Greeks beyond the main
# five, what follows from others, and series. A question about one of them needs the whole answer.
LEFT_OUT = frozenset(
    {
        "phi", "vanna", "volga", "charm", "veta", "speed", "zomma", "color", "ultima",
        "dual_delta", "dual_gamma", "intrinsic_value", "time_value", "risk_contributions",
        "omega", "ulcer_index", "mean_return", "win_rate_incl_zero", "zero_periods",
        "profit_factor", "tail_ratio", "skew_biased", "kurtosis_excess_biased", "std_ddof0",
        "std_ddof1", "alpha_compounded", "var95_normal", "cvar95_normal", "var95_cornish_fisher",
        "cvar95_cornish_fisher", "drawdown", "longest_drawdown", "percentiles", "autocorrelation",
        "ljung_box", "adf", "calmar", "best",
        "kurtosis_excess_unbiased", "cvar95_historical", "turnover_per_year", "equity", "returns",
        "turnover", "costs", "cash", "leverage", "dates",
    }
)  # fmt: skip
WARNINGS_LEFT_OUT = ("the Cornish-Fisher expansion",)  # how those about such figures begin
HEADINGS = (
    "You are a quant assistant. You have these tools:",
    "You help with quantitative finance. Tools you may call:",
    "You are LILITH, a quant assistant. Tools:",
    "Answer quant questions. Compute with these tools, never guess:",
)
RULE = (
    'Call: <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>. 5% is 0.05, '
    "times are years."
)


def signature(tool: Tool) -> str:
    """A tool as one line, such as ``black_scholes(spot, ..., dividend=0, option_type=call|put)``.

    ``name`` must be given, ``name?`` may be left out, ``name=value`` has that default, choices are
    joined by ``|`` with the default first, ``name:a|b`` is a choice that must be made. At most
    :data:`MOST_CHOICES` are written, and of the tools in :data:`SHOWN` only the arguments named
    there, with ``...`` for the others.
    """
    shown = SHOWN.get(tool.name)
    parts = [_argument(own) for own in tool.parameters if shown is None or own.name in shown]
    if shown is not None and len(parts) < len(tool.parameters):
        parts.append("...")
    return f"{tool.name}({', '.join(parts)})"


def _argument(own: Parameter) -> str:
    if own.choices is not None:
        first = () if own.required else (own.default,)
        ordered = [*first, *(name for name in own.choices if name not in first)]
        named = [*ordered[:MOST_CHOICES], *(["..."] if len(ordered) > MOST_CHOICES else [])]
        return f"{own.name}{':' if own.required else '='}{'|'.join(named)}"
    if own.required:
        return own.name
    if isinstance(own.default, bool):
        return f"{own.name}={str(own.default).lower()}"
    if isinstance(own.default, (int, float)):
        return f"{own.name}={own.default:g}" if own.default < 1e6 else f"{own.name}={own.default}"
    return f"{own.name}={own.default}" if isinstance(own.default, str) else f"{own.name}?"


def system_message(tools: Sequence[Tool], choose: Callable[[Sequence[str]], str]) -> str:
    """A system message with the signatures of ``tools``, its heading picked by ``choose``."""
    lines = [choose(HEADINGS), *(f"- {signature(tool)}" for tool in tools), RULE]
    return "\n".join(lines)


def brief(answer: Mapping[str, Any]) -> str:
    """A tool's answer as a model is shown it: compact JSON.

    Kept are ``ok``, the result and the warnings (where there are any). In the result numbers have
    :data:`DIGITS` significant digits, lists end after :data:`MOST_ENTRIES` entries with a word on
    how many follow; tables (lists of lists), the figures of :data:`LEFT_OUT` and the warnings about
    them are left out.
    An error is kept whole.
    """
    return json.dumps(brief_answer(answer), ensure_ascii=False, separators=(",", ":"))


def brief_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer that :func:`brief` writes, before it is text."""
    if not answer["ok"]:
        return {"ok": False, "error": dict(answer["error"])}
    shown: dict[str, Any] = {"ok": True, "result": _shortened(answer["result"])}
    gone = (*(f"result.{name}" for name in LEFT_OUT), *WARNINGS_LEFT_OUT)
    warnings = [text for text in answer.get("warnings", ()) if not text.startswith(gone)]
    return shown | ({"warnings": warnings} if warnings else {})


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _shortened(item)
            for key, item in value.items()
            if key not in LEFT_OUT and not _is_table(item)
        }
    if isinstance(value, (list, tuple)):
        kept = [_shortened(item) for item in value[:MOST_ENTRIES]]
        rest = len(value) - len(kept)
        return [*kept, f"{rest} more"] if rest else kept
    if isinstance(value, float):
        rounded = float(f"{value:.{DIGITS}g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
    return value


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def exact(number: Decimal) -> int | float:
    """A decimal number as JSON's: whole ones as int, others by their shortest text."""
    whole = number.to_integral_value()
    return int(whole) if number == whole else float(str(number))
