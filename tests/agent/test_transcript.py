"""The conversation as a page: everything in it, nothing out of it."""

from __future__ import annotations

import base64
import html.parser
import re
from typing import Any

import pytest
from streaming_model import StreamingModel, call

from lilith.agent.agent import LILITHAgent
from lilith.agent.checks import NumberCheck
from lilith.agent.function_tool import tool
from lilith.agent.transcript import MOST_ROWS, transcript_page
from lilith.agent.turn import AgentStep, AgentTurn, CallRecord
from lilith.reasoning.trace import Decision, ReasoningTrace

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
_VOID = {"meta", "img", "br", "polyline"}


class Reader(html.parser.HTMLParser):
    """Tags of a page, in order, and whether each that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def turn_of(result: Any, *, ok: bool = True, **fields: Any) -> AgentTurn:
    answer = {"ok": ok, "result" if ok else "error": result}
    record = CallRecord("look", {"at": 1}, call("look", at=1), answer, "{}", 0.5)
    return AgentTurn("Look.", "I did.", (AgentStep("I look.", (record,)),), **fields)


def read(*turns: AgentTurn, **settings: Any) -> tuple[str, Reader]:
    page = transcript_page(turns, **settings)
    reader = Reader(page)
    assert reader.open == []
    return page, reader


def test_a_conversation_without_words():
    page, _ = read()
    assert "Nothing has been said." in page


def test_plain_fields_are_a_table_and_numbers_a_line():
    page, reader = read(
        turn_of(
            {
                "price": 10.4505835,
                "note": None,
                "met": True,
                "path": ["a", "b"],
                "equity": [1.0, 2.5, -3, 4],
            }
        )
    )
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert cells == ["price", "10.4506", "note", "–", "met", "yes", "path", "a, b"]
    (line,) = reader.of("polyline")
    assert line["points"] == "0.00,8.71 33.33,4.86 66.67,19.00 100.00,1.00"
    assert "4 numbers: first 1, last 4, least -3, most 4" in page
    assert "I look." in page
    assert "0.50 s" in page


@pytest.mark.parametrize("numbers", [[5, 5, 5], [1e308, -1e308, 0.0], list(range(100_000))])
def test_lines_of_any_numbers_are_drawn(numbers):
    _, reader = read(turn_of({"x": numbers}))
    points = [pair.split(",") for pair in reader.of("polyline")[0]["points"].split()]
    assert len(points) <= 401
    assert all(0 <= float(x) <= 100 and 0 <= float(y) <= 20 for x, y in points)


def test_rows_are_tables_of_bounded_size():
    rows = [{"task": f"t{i}", "days": i} for i in range(MOST_ROWS + 7)]
    page, reader = read(turn_of({"schedule": rows, "matrix": [[1.0, 2.0], [3.0, 4.0]]}))
    assert re.findall(r"<th>(.*?)</th>", page) == ["task", "days"]
    assert len(reader.of("tr")) == 1 + MOST_ROWS + 2
    assert "7 more are not shown." in page


def test_drawings_are_images_in_which_no_script_runs():
    drawing = f"<svg onload='alert(1)'>{SCRIPT}</svg>"
    page, reader = read(turn_of({"gantt_svg": drawing}))
    (image,) = reader.of("img")
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == drawing
    assert "alert" not in page
    assert reader.of("svg") == []


def test_every_text_is_escaped():
    record = CallRecord(
        SCRIPT, {SCRIPT: SCRIPT}, SCRIPT,
        {"ok": True, "warnings": [SCRIPT], "result": {
            SCRIPT: SCRIPT, "x": [SCRIPT], "y": [{SCRIPT: SCRIPT}], "z": [[SCRIPT]],
            "w": {"a": SCRIPT},
        }},
        "{}",
    )  # fmt: skip
    unread = CallRecord("", {}, SCRIPT, {"ok": False, "error": {"message": SCRIPT}}, "{}")
    turn = AgentTurn(
        SCRIPT, SCRIPT + " 7", (AgentStep(SCRIPT, (record, unread)),), SCRIPT,
        (NumberCheck("7", len(SCRIPT) + 1, len(SCRIPT) + 2, "wrong", SCRIPT),), SCRIPT,
        reasoning=ReasoningTrace("x", decisions=(Decision(SCRIPT, SCRIPT),)),
        violations=({SCRIPT: SCRIPT},), notes=(SCRIPT,),
    )  # fmt: skip
    page, reader = read(turn, system_prompt=SCRIPT, role=SCRIPT)
    assert reader.of("script") == reader.of("img") == []
    assert page.count("&lt;script&gt;") >= 20
    assert all(not name.startswith("on") for _, own in reader.tags for name in own)


def test_the_page_loads_nothing_from_elsewhere():
    page, reader = read(turn_of({"x": "see https://example.org"}))
    assert reader.of("link") == reader.of("script") == []
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page
    assert "--accent" in page  # the style that the pages of traces have


def test_numbers_from_nowhere_are_marked_with_their_reason():
    checks = (
        NumberCheck("42", 6, 8, "result", "double"),
        NumberCheck("3.7%", 13, 17, "unverified"),
        NumberCheck("7", 22, 23, "wrong", "2 * 3 = 7: it is 6"),
    )
    page, _ = read(AgentTurn("How much?", "It is 42, up 3.7% and 7.", checks=checks))
    assert '<mark class="open">3.7%</mark> and <mark class="wrong">7</mark>' in page
    assert "1 of 3 numbers come from" in page
    assert "3.7%: comes from nowhere" in page
    assert "2 * 3 = 7: it is 6" in page


def test_arguments_are_shown_one_a_line_and_code_as_it_is():
    record = CallRecord("run", {"code": "x = 1\nprint(x)", "n": [1, 2]}, "", {"ok": True}, "{}")
    page, _ = read(AgentTurn("Run.", "Ran.", (AgentStep("", (record,)),)))
    assert "<pre>code =\nx = 1\nprint(x)\nn = [1, 2]</pre>" in page


def test_errors_ends_and_notes_are_told():
    error = {"code": "bad", "field": "x", "message": "x is odd", "hint": "take 2"}
    turn = turn_of(error, ok=False, ended="steps", left_out=3, notes=("a note",))
    page, _ = read(turn)
    for words in ("x is odd", "take 2", "more tools than", "3 earlier turns", "a note", "error"):
        assert words in page


def test_an_agent_s_conversation_shows_its_charts():
    @tool
    def plan(start: str) -> dict:
        """Plan."""
        return {"finish": start, "gantt_svg": "<svg>" + "<rect/>" * 1000 + "</svg>"}

    model = StreamingModel([call("plan", start="2026-03-02"), "Planned."])
    agent = LILITHAgent(model, tools=[plan], role="project_manager")
    turn = agent.run("Plan it from 2026-03-02.")
    assert "<rect/>" not in turn.calls[0].shown  # the model is given a reference
    page = agent.transcript_html()
    (image,) = Reader(page).of("img")
    assert b"<svg" in base64.b64decode(image["src"].partition(",")[2])
    assert "project_manager" in page
    assert "earned value" in page
