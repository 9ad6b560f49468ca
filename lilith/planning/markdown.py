"""A plan as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LONGEST_BAR = 20  # characters


def plan_markdown(told: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """The page of what ``Plan.to_json`` gives."""
    names = {row["task"]: row["name"] for row in told["schedule"]}
    parts = [
        f"# {_cell(told['project'])}",
        f"{told['start']} to {told['finish']}, {told['length_days']:.4g} working days.",
        *(told[limit]["sentence"] for limit in ("deadline", "downtime") if told[limit]),
        *_section("Warnings", "\n".join(f"- {_cell(own)}" for own in warnings)),
        *_section("Schedule", _schedule(told["schedule"])),
        f"Critical path: {' → '.join(_cell(names[own]) for own in told['critical_path'])}.",
        *_section("People", _people(told["resources"])),
        *_section("Forecast", _forecast(told["forecast"])),
        *_section("What drives the finish", _tornado(told["forecast"]["tornado"], names)),
        *_section("Risks", _risks(told["risks"])),
        *_section("Sprints", _sprints(told["sprints"], names)),
        *_section("Figures", _figures(told["kpis"])),
        *_section("Earned value", _figures(told["earned_value"] or {})),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[_cell(own) for own in row] for row in rows]
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*head], ["---"] * len(head), *lines))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _schedule(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("task", "start", "finish", "days", "slack", "critical", "who")
    return _table(
        head,
        (
            (row["name"], row["start"], row["finish"], row["days"], row["total_slack_days"],
             "yes" if row["critical"] else "", ", ".join(row["team"]))
            for row in rows
        ),
    )  # fmt: skip


def _people(resources: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("who", "capacity", "used"),
        (
            (own["resource"], own["capacity"],
             "" if own["utilisation"] is None else f"{own['utilisation']:.0%}")
            for own in resources
        ),
    )  # fmt: skip


def _forecast(forecast: Mapping[str, Any]) -> str:
    levels = forecast["percentiles"]
    return _table(
        ("", "working days", "date"),
        ((name, own["days"], own["date"]) for name, own in levels.items()),
    )


def _tornado(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    widest = max((row["swing_days"] for row in rows), default=0.0)
    return _table(
        ("task", "at P10", "at P90", "swing in days", ""),
        (
            (names[row["task"]], row["finish_at_p10"], row["finish_at_p90"], row["swing_days"],
             "█" * round(_LONGEST_BAR * row["swing_days"] / widest) if widest else "")
            for row in rows
        ),
    )  # fmt: skip


def _risks(risks: Mapping[str, Any]) -> str:
    if not risks["risks"]:
        return ""
    matrix = _table(
        ("probability", *risks["columns"]),
        (
            (name, *(", ".join(cell) for cell in row))
            for name, row in zip(risks["rows"], risks["matrix"])
        ),
    )
    register = _table(
        ("risk", "score", "band", "mitigation", "owner", "trigger"),
        (
            [row[name] for name in ("risk", "score", "band", "mitigation", "owner", "trigger")]
            for row in risks["risks"]
        ),
    )
    return f"{matrix}\n\n{register}"


def _sprints(sprints: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    return _table(
        ("sprint", "from", "to", "load", "capacity", "tasks"),
        (
            (
                own["sprint"],
                own["from"],
                own["to"],
                own["load"],
                "" if own["capacity"] is None else own["capacity"],
                ", ".join(
                    names[part["task"]] + ("" if part["share"] >= 1 else f" ({part['share']:.0%})")
                    for part in own["tasks"]
                ),
            )
            for own in sprints
        ),
    )


def _figures(figures: Mapping[str, Any]) -> str:
    return _table(
        ("figure", "value"),
        (
            (name.replace("_", " "), value)
            for name, value in figures.items()
            if value is not None and not isinstance(value, (Mapping, list))
        ),
    )
