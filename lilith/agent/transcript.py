"""A conversation with an agent as one self-contained page."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lilith.agent.turn import ENDINGS, AgentTurn, CallRecord
from lilith.reasoning.page import page_template

TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS = 30  # of a table
MOST_COLUMNS = 12
MOST_TEXT = 8000  # characters of one text
MOST_POINTS = 400  # of a line
MOST_DEPTH = 5  # of objects within objects that are shown one by one
_LEAST_POINTS = 3
_LONGEST_CELL = 120  # characters
_DRAWING = "<svg"


def transcript_page(
    turns: Sequence[AgentTurn], *, system_prompt: str = "", role: str | None = None
) -> str:
    """The page: each message, the calls with their results as tables, lines and drawings, answers.

    Every text is escaped. A drawing that a tool made stands in the page as an image, in which no
    script runs. The page loads nothing from elsewhere.
    """
    return page_template("transcript.html.jinja", TEMPLATES).render(
        title=turns[0].message if turns else "A conversation without words",
        role=role,
        system_prompt=system_prompt,
        facts=_facts(turns),
        turns=[_turn(turn) for turn in turns],
    )


def _facts(turns: Sequence[AgentTurn]) -> list[tuple[str, str]]:
    checks = [one for turn in turns for one in turn.checks]
    facts = [
        ("Turns", f"{len(turns):,}"),
        ("Calls of tools", f"{sum(len(turn.calls) for turn in turns):,}"),
        ("Tokens written", f"{sum(turn.tokens for turn in turns):,}"),
        ("Time", f"{sum(turn.seconds for turn in turns):.1f} s"),
    ]
    if checks:
        supported = sum(one.supported for one in checks)
        facts.append(("Numbers with a source", f"{supported} of {len(checks)}"))
    return facts


def _turn(turn: AgentTurn) -> dict[str, Any]:
    doubtful = turn.unverified
    verdict = ("", "")
    if turn.checks:
        supported = len(turn.checks) - len(doubtful)
        words = (
            f"{supported} of {len(turn.checks)} numbers come from tools, the prompt or arithmetic."
        )
        verdict = ("wrong" if doubtful else "right", words)
    violations = [
        "Against the constitution: "
        + ", ".join(f"{name} {_cell(value)}" for name, value in one.items())
        for one in turn.violations
    ]
    left_out = [f"{turn.left_out} earlier turns were no longer shown to the model."]
    return {
        "message": turn.message,
        "steps": [
            {"text": step.text, "calls": [_call(call) for call in step.calls]}
            for step in turn.steps
        ],
        "pieces": _pieces(turn),
        "verdict": verdict,
        "checks": [(_mark(one.verdict), _finding(one.text, one.note)) for one in doubtful],
        "ended": ENDINGS.get(turn.ended, turn.ended),
        "warnings": [*violations, *turn.notes, *(left_out if turn.left_out else [])],
        "decisions": turn.reasoning.decisions if turn.reasoning is not None else (),
        "costs": f"{turn.tokens:,} tokens in {turn.seconds:.1f} s, {turn.kind} at temperature "
        f"{turn.temperature:g}",
    }


def _mark(verdict: str) -> str:
    return "wrong" if verdict == "wrong" else "open"


def _finding(text: str, note: str) -> str:
    return f"{text}: wrong ({note})" if note else f"{text}: comes from nowhere"


def _pieces(turn: AgentTurn) -> list[tuple[str, str]]:
    """The answer in pieces, with the numbers set off that come from nowhere."""
    made: list[tuple[str, str]] = []
    at = 0
    for one in turn.unverified:
        if at <= one.start and turn.answer[one.start : one.end] == one.text:
            made += [("", turn.answer[at : one.start]), (_mark(one.verdict), one.text)]
            at = one.end
    return [piece for piece in (*made, ("", turn.answer[at:])) if piece[1]]


def _call(call: CallRecord) -> dict[str, Any]:
    status = ("right", f"{call.seconds:.2f} s") if call.ok else ("wrong", "error")
    if call.cached and call.ok:
        status = ("right", "answered before")
    content = call.answer.get("result" if call.ok else "error")
    views = list(result_views("", content))
    warnings = call.answer.get("warnings")
    if isinstance(warnings, (list, tuple)) and warnings:
        views += [{"kind": "text", "title": "Warnings", "text": "\n".join(map(str, warnings))}]
    return {
        "name": call.name or "a call that could not be read",
        "arguments": _text(_arguments(call) if call.name else call.text),
        "status": status,
        "views": [{"title": "", "more": "", **view} for view in views],
    }


def _arguments(call: CallRecord) -> str:
    """One argument a line; texts of several lines, such as code, as they are."""
    return "\n".join(
        f"{name} =\n{value}" if isinstance(value, str) and "\n" in value
        else f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in call.arguments.items()
    )  # fmt: skip


def result_views(title: str, value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """What of a value is shown: one table of its plain fields, then the others one by one.

    Each view has a ``kind`` and a ``title``: a table has ``head`` (empty for plain fields and rows
    without names), ``rows`` of texts and ``more``, a line ``points`` and ``words``, a drawing its
    ``uri``, a text its ``text`` and, of a list, the ``items``. ``named`` says that a table is of
    plain fields; ``numbers`` are those that a line or a table without a head was made of.
    """
    if isinstance(value, Mapping) and depth < MOST_DEPTH:
        plain = [(name, item) for name, item in value.items() if _is_plain(item)]
        if plain:
            rows = [[_words(name), _cell(item)] for name, item in plain[: 4 * MOST_ROWS]]
            yield {"kind": "table", "title": title, "head": [], "rows": rows, "named": True,
                   "more": _more(len(plain), 4 * MOST_ROWS)}  # fmt: skip
        for name, item in value.items():
            if not _is_plain(item):
                yield from result_views(f"{title} · {_words(name)}".lstrip(" ·"), item, depth + 1)
    elif isinstance(value, str) and value.lstrip().startswith(_DRAWING):
        data = base64.b64encode(value.encode("utf-8", "replace")).decode()
        yield {"kind": "drawing", "title": title, "uri": f"data:image/svg+xml;base64,{data}"}
    elif isinstance(value, (list, tuple)):
        yield _list(title, value)
    elif not isinstance(value, str):
        yield {"kind": "text", "title": title, "text": _text(json.dumps(value, indent=1))}
    else:
        yield {"kind": "text", "title": title, "text": _text(value)}


def _list(title: str, value: Sequence[Any]) -> dict[str, Any]:
    """Numbers as a line, rows and objects as a table, all else as text."""
    if len(value) >= _LEAST_POINTS and all(_is_number(item) for item in value):
        return {"kind": "line", "title": title, "numbers": value, **_line(value)}
    if value and all(isinstance(item, Mapping) for item in value):
        names = list(dict.fromkeys(name for item in value[:MOST_ROWS] for name in item))
        return {
            "kind": "table", "title": title,
            "head": [_words(name) for name in names[:MOST_COLUMNS]],
            "rows": [
                [_cell(item.get(name)) for name in names[:MOST_COLUMNS]]
                for item in value[:MOST_ROWS]
            ],
            "more": _more(len(value), MOST_ROWS),
        }  # fmt: skip
    if value and all(isinstance(item, (list, tuple)) for item in value):
        rows = [[_cell(cell) for cell in item[:MOST_COLUMNS]] for item in value[:MOST_ROWS]]
        numbers = value if all(_is_number(cell) for item in value for cell in item) else ()
        return {"kind": "table", "title": title, "head": [], "rows": rows, "numbers": numbers,
                "more": _more(len(value), MOST_ROWS)}  # fmt: skip
    items = list(map(_cell, value))
    return {"kind": "text", "title": title, "text": _text("\n".join(items) or "none"),
            "items": items}  # fmt: skip


def _line(value: Sequence[float]) -> dict[str, str]:
    """A line through numbers: its points in a box of 100 by 20, and its figures in words."""
    step = max(1, math.ceil(len(value) / MOST_POINTS))
    shown = [*value[::step], *([value[-1]] if (len(value) - 1) % step else [])]
    low, high = min(shown), max(shown)
    points = " ".join(
        f"{100 * at / (len(shown) - 1):.2f},{19 - 18 * share(item, low, high):.2f}"
        for at, item in enumerate(shown)
    )
    figures = (
        ("first", value[0]),
        ("last", value[-1]),
        ("least", min(value)),
        ("most", max(value)),
    )
    words = ", ".join(f"{name} {_cell(number)}" for name, number in figures)
    return {"points": points, "words": f"{len(value)} numbers: {words}"}


def share(item: float, low: float, high: float) -> float:
    """Where a number stands between two others, 0 to 1, of numbers of any size."""
    size = max(abs(low), abs(high), 1e-300)
    spread = high / size - low / size
    return (item / size - low / size) / spread if spread > 0 else 0.5


def _is_number(item: Any) -> bool:
    if isinstance(item, bool) or not isinstance(item, (int, float)):
        return False
    try:
        return math.isfinite(item)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_plain(item: Any) -> bool:
    """Whether a value stands in one cell."""
    if isinstance(item, (list, tuple)):
        return _is_texts(item) and sum(map(len, item)) <= _LONGEST_CELL
    if isinstance(item, str):
        return (
            len(item) <= _LONGEST_CELL
            and "\n" not in item
            and not item.lstrip().startswith(_DRAWING)
        )
    return item is None or isinstance(item, (bool, int, float))


def _is_texts(item: Sequence[Any]) -> bool:
    """Whether a list holds nothing but texts of one line."""
    return all(isinstance(one, str) and _is_plain(one) for one in item)


def _cell(item: Any) -> str:
    if item is None or isinstance(item, bool):
        return {None: "–", True: "yes", False: "no"}[item]
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, str):
        return item if len(item) <= 300 else item[:300] + "..."
    if isinstance(item, int):
        return str(item) if abs(item) < 10**30 else "a giant number"
    if isinstance(item, (list, tuple)) and _is_texts(item):
        return ", ".join(item) or "–"
    text = json.dumps(item, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "..."


def _more(count: int, most: int) -> str:
    return f"{count - most:,} more are not shown." if count > most else ""


def _text(text: str) -> str:
    if len(text) <= MOST_TEXT:
        return text
    return f"{text[:MOST_TEXT]}\n[{len(text) - MOST_TEXT:,} more characters]"


def _words(name: Any) -> str:
    return str(name).replace("_", " ")[:80]
