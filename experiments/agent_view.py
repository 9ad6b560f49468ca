"""Tool calls and their results as lines of a terminal: figures, sparklines, bars of a plan.

Everything here makes lines of text and prints nothing.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from rich.cells import cell_len, set_cell_size

from lilith.agent.transcript import result_views, share
from lilith.agent.turn import AgentTurn, CallRecord

PLAN = "plan_project"
MOST_LINES = 24  # of one result
MOST_FIGURES = 15  # of one grid
MOST_ROWS = 8  # of a table of numbers; of more, each column is a sparkline
MOST_TEXT_LINES = 10
MOST_TASKS = 20  # of a plan
LONGEST_SPARK = 24
LONGEST_VALUE = 60  # characters of an argument
SHORT_LIST = 6  # numbers that are all written
_INDENT = "  "


@dataclass(frozen=True)
class Look:
    """How lines are made: at most ``width`` columns, and only what an encoding has."""

    width: int = 80
    blocks: bool = True  # arrows, blocks and dots beyond ASCII can be written

    @classmethod
    def of(cls, width: int, encoding: str | None) -> Look:
        """The look of a stream of that encoding; None is one that holds any text."""
        try:
            "▁→◆…✗".encode(encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return cls(max(width, 20), blocks=False)
        return cls(max(width, 20))

    @property
    def arrow(self) -> str:
        return "→" if self.blocks else "->"

    @property
    def ramp(self) -> str:
        """The marks of a sparkline, from the lowest."""
        return "▁▂▃▄▅▆▇█" if self.blocks else "_.-~=+*#"

    def cut(self, line: str, width: int | None = None) -> str:
        """``line`` in one line and at most ``width`` columns."""
        most, line = width or self.width, " ".join(line.split("\n"))
        if cell_len(line) <= most:
            return line
        dots = "…" if self.blocks else "..."
        return set_cell_size(line, most - len(dots)).rstrip() + dots

    def wrapped(self, text: str, indent: str = _INDENT) -> list[str]:
        """Lines of prose that may be set in once more, all but the first set in by ``indent``."""
        width = self.width - len(_INDENT)
        return [
            line
            for part in text.splitlines()
            for line in textwrap.wrap(part, width, subsequent_indent=indent) or [""]
        ]


def call_lines(name: str, arguments: Mapping[str, Any], look: Look, text: str = "") -> list[str]:
    """A call in one line, two where it needs them.

    Args:
      text: what the model wrote, for a call without a name, which could not be read.
    """
    written = ", ".join(f"{key}={_argument(value, look)}" for key, value in arguments.items())
    line = f"{name}({written})" if name else f"a call that can not be read: {text.strip()}"
    first, *rest = look.wrapped(f"{look.arrow} {' '.join(line.split())}", _INDENT * 2)
    more = look.cut(_INDENT * 2 + " ".join(part.strip() for part in rest))
    return [look.cut(first), more] if rest else [look.cut(first)]


def result_lines(call: CallRecord, look: Look) -> list[str]:
    """What came of a call: its figures, series and tables, or its error with what to do."""
    name = call.name or "the call"
    if not call.ok:
        words = " ".join(_error(call).split())
        return [_INDENT + line for line in look.wrapped(f"{name} failed: {words}")]
    took = "answered before" if call.cached else f"{call.seconds:.2f} s"
    result = call.answer.get("result")
    warnings = [str(one) for one in call.answer.get("warnings") or ()]
    if call.name == PLAN and is_plan(result):
        lines, warnings = plan_lines(result, warnings, look), []
    else:
        lines = [line for view in result_views("", result) for line in _view_lines(view, look)]
        if len(lines) > MOST_LINES:
            more = len(lines) - MOST_LINES + 1
            lines = [*lines[: MOST_LINES - 1], f"{more} more lines"]
    lines += [line for one in warnings for line in look.wrapped(f"warning: {one}")]
    return [f"{_INDENT}{name}: {took}", *(look.cut(_INDENT + line) for line in lines)]


def is_plan(result: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a result is a whole plan of plan_project."""
    return isinstance(result, Mapping) and {"schedule", "forecast", "critical_path"} <= set(result)


def plan_lines(plan: Mapping[str, Any], warnings: Sequence[str], look: Look) -> list[str]:
    """A plan's dates, critical path, bars, limits and warnings."""
    rows = plan["schedule"]
    names = {row["task"]: row["name"] for row in rows}
    levels = plan["forecast"]["percentiles"]
    path = f" {look.arrow} ".join(names[own] for own in plan["critical_path"])
    dates = ", ".join(f"{name} {own['date']}" for name, own in levels.items())
    lines = [
        f"{plan['project']}: {plan['start']} to {plan['finish']}, "
        f"{plan['length_days']:.4g} working days",
        f"simulated finish: {dates}",
        *look.wrapped(f"critical path: {path}"),
        *_bars(rows, names, look),
    ]
    if len(rows) > MOST_TASKS:
        lines.append(f"{len(rows) - MOST_TASKS} more tasks")
    limits = [plan[limit]["sentence"] for limit in ("deadline", "downtime") if plan.get(limit)]
    for sentence in dict.fromkeys([*limits, *warnings]):
        lines += look.wrapped(sentence)
    return lines


def _bars(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], look: Look) -> Iterator[str]:
    """A bar a task over the working days of the project, critical ones darker."""
    end = max((row["finish_day"] for row in rows), default=0.0) or 1.0
    title = min(max((cell_len(name) for name in names.values()), default=0), 20)
    room = max(look.width - title - len(_INDENT) - len(" 2026-03-02 2026-03-04 "), 10)
    critical, plain, empty, point = "█▒·◆" if look.blocks else "#=.+"
    for row in rows[:MOST_TASKS]:
        start, finish = (round(room * row[key] / end) for key in ("start_day", "finish_day"))
        mark = critical if row["critical"] else plain
        if row["start_day"] == row["finish_day"]:
            start, finish, mark = min(start, room - 1), min(start, room - 1) + 1, point
        finish = max(finish, start + 1)
        bar = (empty * start + mark * (finish - start)).ljust(room, empty)[:room]
        name = set_cell_size(look.cut(names[row["task"]], title), title)
        yield f"{name} {row['start']} {row['finish']} {bar}"


def sparkline(numbers: Sequence[float], look: Look, width: int = LONGEST_SPARK) -> str:
    """Numbers as marks of eight heights; of more than ``width``, neighbours are averaged."""
    count = min(len(numbers), width)
    parts = [
        numbers[len(numbers) * at // count : len(numbers) * (at + 1) // count]
        for at in range(count)
    ]
    means = [sum(one / len(part) for one in part) for part in parts]
    low, high = min(means), max(means)
    top = len(look.ramp) - 1
    return "".join(look.ramp[round(top * share(one, low, high))] for one in means)


def verdict_lines(turn: AgentTurn, look: Look) -> list[str]:
    """Which numbers of an answer nobody vouches for, and what the constitution objects to."""
    doubtful = turn.unverified
    wrong = [f"{one.text} ({one.note})" for one in doubtful if one.verdict == "wrong"]
    nowhere = list(dict.fromkeys(one.text for one in doubtful if one.verdict != "wrong"))
    lines = look.wrapped(f"wrong: {', '.join(wrong)}") if wrong else []
    if nowhere:
        words = f"unverified: {', '.join(nowhere)} (from no tool, question or arithmetic)"
        lines += look.wrapped(words)
    for one in turn.violations:
        told = ", ".join(f"{name}: {value}" for name, value in one.items() if value)
        lines += look.wrapped(f"against the constitution: {told}")
    return lines


def _argument(value: Any, look: Look) -> str:
    """An argument in few characters."""
    if isinstance(value, Mapping):
        reference = value.get("ref")
        return reference if isinstance(reference, str) and len(value) == 1 else f"{{{len(value)}}}"
    if isinstance(value, (list, tuple)):
        if len(value) > SHORT_LIST or any(isinstance(own, (list, tuple)) for own in value):
            return f"[{len(value)} {'rows' if _is_nested(value) else 'values'}]"
        return f"[{', '.join(_argument(own, look) for own in value)}]"
    return look.cut(json.dumps(value, ensure_ascii=False), LONGEST_VALUE)


def _is_nested(value: Sequence[Any]) -> bool:
    return isinstance(value[0], (list, tuple, Mapping))


def _error(call: CallRecord) -> str:
    error = call.answer.get("error")
    if not isinstance(error, Mapping):
        return str(error)
    hint = f" ({error['hint']})" if error.get("hint") else ""
    return f"{error.get('message') or error.get('code')}{hint}"


def _view_lines(view: Mapping[str, Any], look: Look) -> Iterator[str]:
    """The lines of one view of :func:`lilith.agent.transcript.result_views`."""
    title = f"{view['title']}  " if view["title"] else ""
    if view["kind"] == "line":
        yield from _series(title, view["numbers"], look)
    elif view["kind"] == "drawing":
        yield f"{title}a drawing; /page shows it"
    elif len(view.get("items", ())) in range(1, SHORT_LIST + 1):
        yield from look.wrapped(f"{title}{', '.join(view['items'])}")
    elif view["kind"] == "text":
        lines = view["text"].rstrip("\n").split("\n")
        if title and lines != [""]:
            yield f"{title.rstrip()}:"
        yield from (f"{_INDENT if title else ''}{line}" for line in lines[:MOST_TEXT_LINES] if line)
        if len(lines) > MOST_TEXT_LINES:
            yield f"{len(lines) - MOST_TEXT_LINES} more lines"
    elif view.get("named"):
        rows = [(name, value) for name, value in view["rows"] if value not in ("", "–")]
        lines = list(_grid(rows, look))
        if title and len(lines) == 1 and cell_len(title + lines[0]) <= look.width - len(_INDENT):
            yield title + lines[0]
        else:
            yield from [f"{title.rstrip()}:", *lines] if title and lines else lines
    elif len(view.get("numbers", ())) > MOST_ROWS:
        columns = zip(*view["numbers"], strict=False)
        for place, column in enumerate(columns, 1):
            yield from _series(f"{title}{place}  ", column, look)
    else:
        if title:
            yield f"{title.rstrip()}:"
        yield from _table(view["head"], view["rows"], look)


def _series(title: str, numbers: Sequence[float], look: Look) -> Iterator[str]:
    """A series in one line, and its numbers or what they span."""
    line = f"{title}{sparkline(numbers, look)}"
    if len(numbers) <= SHORT_LIST:
        words = ", ".join(f"{one:.6g}" for one in numbers)
    else:
        first, last = numbers[0], numbers[-1]
        words = f"{len(numbers)}: {first:.4g} to {last:.4g}"
        for name, extreme in (("least", min(numbers)), ("most", max(numbers))):
            words += "" if extreme in (first, last) else f", {name} {extreme:.4g}"
    if cell_len(f"{_INDENT}{line}  {words}") <= look.width:
        yield f"{line}  {words}"
    else:
        yield line
        yield f"{_INDENT}{words}"


def _grid(rows: Sequence[tuple[str, str]], look: Look) -> Iterator[str]:
    """Names and values side by side, as many pairs in a row as there is room for."""
    shown, room = rows[:MOST_FIGURES], look.width - len(_INDENT)
    for count in range(min(4, len(shown)), 0, -1):
        columns = [shown[at::count] for at in range(count)]
        widths = [
            (max(cell_len(name) for name, _ in own), max(cell_len(value) for _, value in own))
            for own in columns
        ]
        if sum(name + value + 1 for name, value in widths) + 3 * (count - 1) <= room:
            break
    for at in range(0, len(shown), max(count, 1)) if shown else ():
        cells = [
            f"{set_cell_size(name, widths[place][0])} {set_cell_size(value, widths[place][1])}"
            if count > 1
            else f"{set_cell_size(name, widths[place][0])} {value}"
            for place, (name, value) in enumerate(shown[at : at + count])
        ]
        yield "   ".join(cells).rstrip()
    if len(rows) > MOST_FIGURES:
        yield f"{len(rows) - MOST_FIGURES} more"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], look: Look) -> Iterator[str]:
    """Rows with their columns aligned; columns that do not fit are left out, which is said."""
    shown = [list(row) for row in ([head] if head else []) + list(rows[:MOST_ROWS])]
    if not shown:
        return
    widths = [
        min(max(cell_len(row[at]) if at < len(row) else 0 for row in shown), LONGEST_SPARK)
        for at in range(max(map(len, shown)))
    ]
    fitting, used = 0, len(_INDENT)
    while fitting < len(widths) and used + widths[fitting] <= look.width:
        used += widths[fitting] + 2
        fitting += 1
    for row in shown:
        cells = [set_cell_size(look.cut(cell, wide), wide) for cell, wide in zip(row, widths)]
        yield "  ".join(cells[:fitting]).rstrip()
    left = [f"{len(widths) - fitting} columns"] if fitting < len(widths) else []
    left += [f"{len(rows) - MOST_ROWS} rows"] if len(rows) > MOST_ROWS else []
    if left:
        yield f"{' and '.join(left)} more"
