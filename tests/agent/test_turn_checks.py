"""Where the numbers of an answer come from, and turns as data."""

from __future__ import annotations

import json

import pytest
from streaming_model import StreamingModel, call

from lilith.agent.agent import LILITHAgent
from lilith.agent.checks import check_numbers
from lilith.agent.function_tool import tool
from lilith.agent.tool_calls import ToolCall, ToolResult
from lilith.agent.turn import MOST_OF_ANSWER, AgentStep, AgentTurn, CallRecord
from lilith.reasoning.trace import ReasoningTrace, Thought, TraceError

PRICE = ("black_scholes", {"ok": True, "result": {"price": 10.450583572185565, "rho": -0.0532}})


def verdicts(answer: str, prompt: str = "", results=(PRICE,)) -> list[tuple[str, str]]:
    found = check_numbers(answer, prompts=[prompt], results=results)
    assert all(answer[one.start : one.end] == one.text for one in found)
    return [(one.text, one.verdict) for one in found]


@pytest.mark.parametrize(
    ("answer", "prompt", "expected"),
    [
        ("The price is 10.45.", "", [("10.45", "result")]),
        ("The price is $10.450584.", "", [("10.450584", "result")]),
        ("The price is 10.46.", "", [("10.46", "unverified")]),
        ("About 10.", "", [("10", "result")]),
        ("It loses 5.3%.", "", [("5.3%", "result")]),
        ("It loses 5.4%.", "", [("5.4%", "unverified")]),
        ("Spot is 100.", "spot 100", [("100", "prompt")]),
        ("Volatility is 20%.", "vol 0.2", [("20%", "prompt")]),
        ("Volatility is 0.2.", "vol of 20%", [("0.2", "prompt")]),
        ("It costs 1.5 million.", "a budget of 1,500,000", [("1.5 million", "prompt")]),
        ("A spread of 25 bps.", "0.0025", [("25 bps", "prompt")]),
        ("7 of them.", "6.9 or 7.1", [("7", "unverified")]),
        ("12 * 3 = 36", "12 and 3", [("12", "prompt"), ("3", "prompt"), ("36", "recomputed")]),
        ("12 * 4 = 48", "12", [("12", "prompt"), ("4", "unverified"), ("48", "recomputed")]),
        ("12 * 3 = 37", "12, 3, 37", [("12", "prompt"), ("3", "prompt"), ("37", "wrong")]),
        ("It ends on 2026-03-31.", "by 2026-03-31", [("2026-03-31", "prompt")]),
        ("It ends on 2026-04-01.", "by 2026-03-31", [("2026-04-01", "unverified")]),
        ("1. First.\n2) Second.\n- 3. Third", "", []),
        ("Step 4 and P50 of r1, at x^2, are no figures.", "", []),
        ("No numbers.", "1 2 3", []),
        ("", "", []),
    ],
)
def test_numbers_and_where_they_come_from(answer, prompt, expected):
    assert verdicts(answer, prompt) == expected


def test_a_wrong_one_says_what_is_right_and_a_right_one_which_tool():
    (*_, wrong) = check_numbers("2 * 3 = 7", prompts=["2, 3"], results=[])
    assert (wrong.verdict, wrong.note, wrong.supported) == ("wrong", "2 * 3 = 7: it is 6", False)
    (right,) = check_numbers("10.45", prompts=[], results=[PRICE])
    assert (right.note, right.supported) == ("black_scholes", True)


def test_numbers_in_texts_and_lists_of_results_count():
    result = ("execute_python", {"ok": True, "result": {"stdout": "mean 0.731\n", "x": [[1, 2.5]]}})
    assert verdicts("0.731 and 2.5", results=[result]) == [("0.731", "result"), ("2.5", "result")]
    strange = ("odd", {"result": [float("nan"), float("inf"), True, None, 3.5]})
    assert verdicts("3.5 and 1", results=[strange]) == [("3.5", "result"), ("1", "unverified")]


def test_a_giant_answer_is_checked_in_bounded_time():
    many = " ".join(str(number) for number in range(100, 20_000))
    result = ("numbers", {"ok": True, "result": {"x": [i / 7 for i in range(100_000)]}})
    assert len(check_numbers(many, prompts=[many * 3], results=[result])) == 500


@tool
def double(x: float) -> dict:
    """Twice a number."""
    return {"doubled": 2 * x}


def test_numbers_that_come_from_nowhere_are_marked_in_the_turn():
    agent = LILITHAgent(
        StreamingModel([call("double", x=21), "It is 42, up 3.7% on 40.", "So 42, not 41."]),
        tools=[double], system_prompt="Say 40 often.",
    )  # fmt: skip
    turn = agent.run("Double it.")
    assert [one.text for one in turn.unverified] == ["3.7%"]
    assert turn.answer[turn.unverified[0].start :].startswith("3.7%")
    # 21 was only ever an argument that the model chose; 42 is known from the turn before.
    assert [one.text for one in agent.run("Sure?").unverified] == ["41"]


def whole_turn() -> AgentTurn:
    result = ToolResult(
        ToolCall("double", {"x": 1}, None, call("double", x=1)),
        {"ok": True, "result": {"doubled": 2.0}}, '{"ok":true,"result":{"doubled":2}}', 0.25,
    )  # fmt: skip
    step = AgentStep("I see.", (CallRecord.of(result),), 5, 20, 0.5)
    checks = check_numbers("It is 2 and 3.", prompts=[], results=[("double", result.answer)])
    return AgentTurn(
        "Double 1.", "It is 2 and 3.", (step,), "answer", checks, "quant", 0.2, "quant_dev", 9, 40,
        1.5, 0.25, 3, ReasoningTrace("Double 1.", (Thought(1, "1 * 2 = 2"),), "2"),
        ({"principle": "honesty"},), ("a note",),
    )  # fmt: skip


def test_a_turn_is_written_and_read():
    turn = whole_turn()
    assert AgentTurn.from_json(turn.to_json()) == turn
    assert turn.calls[0].ok
    assert [one.text for one in turn.unverified] == ["3"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "lilith-agent-turn-0"}, "format"),
        ({"answer": 3}, r"turn\.answer is 3; expected a text"),
        ({"steps": [{}]}, r"turn\.steps\[0\]\.text is missing"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_what_is_no_turn_is_named(change, words):
    content = json.loads(whole_turn().to_json()) | change
    with pytest.raises(TraceError, match=words):
        AgentTurn.from_json(json.dumps(content))


def test_a_giant_answer_of_a_tool_is_kept_as_it_was_shown():
    answer = {"ok": True, "result": {"x": [0.5] * MOST_OF_ANSWER}}
    shown = '{"ok":true,"result":{"x":{"ref":"r1"}}}'
    record = CallRecord.of(ToolResult(ToolCall("a", {}), answer, shown))
    assert record.answer == json.loads(shown)
