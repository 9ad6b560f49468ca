"""Traces as data: they go through JSON unchanged, and what is no trace is named."""

from __future__ import annotations

import json
import math

import hypothesis
import hypothesis.strategies as st
import pytest

from lilith.config import UserError
from lilith.reasoning.arithmetic import check_arithmetic
from lilith.reasoning.trace import (
    Alternative,
    Decision,
    ReasoningStrategy,
    ReasoningTrace,
    StrategyError,
    Thought,
    TraceError,
)

STEP = "4 * 5 = 21 and 2 + 2 = 4"
TRACE = ReasoningTrace(
    problem="How many?\n<b>Say</b>",
    thoughts=(
        Thought(1, STEP, ({"name": "calc", "arguments": {"x": [1, 2.5]}},), -0.25, False,
                tuple(check_arithmetic(STEP))),
        Thought(2, "So 20."),
    ),
    final_answer="20", confidence=0.8125, calibrated=True, is_safe=False,
    violations=("rude", {"principle": "kindness", "severity": 2}), verified=True,
    strategy=ReasoningStrategy.SELF_CONSISTENCY, tokens=321, seconds=1.5,
    alternatives=(Alternative("21", 2, -1.5, "so 21"), Alternative(None)),
    decisions=(Decision("refine", "arithmetic is wrong", 40, 0.1),),
    truncated=True, looped=True, answer_kind="number", signals={"vote_share": 0.75},
    transcript=({"speaker": "A", "round": 1, "text": "I say 20"},), error="the budget ended",
)  # fmt: skip


def test_a_thought_reads_as_a_step() -> None:
    assert str(Thought(1, "add 2 and 3")) == "Step 1: add 2 and 3"
    assert str(TRACE).endswith("Step 2: So 20.\nAnswer: 20")


def test_a_trace_goes_through_json_unchanged() -> None:
    assert ReasoningTrace.from_json(TRACE.to_json()) == TRACE
    assert ReasoningTrace.from_json(ReasoningTrace("x").to_json()) == ReasoningTrace("x")


def test_lists_are_the_same_as_tuples() -> None:
    assert ReasoningTrace("x", thoughts=[Thought(1, "a", [])]) == ReasoningTrace(
        "x", thoughts=(Thought(1, "a", ()),)
    )


def test_numbers_that_json_lacks_come_back() -> None:
    trace = ReasoningTrace("x", thoughts=(Thought(1, "a", log_prob=-math.inf),), seconds=math.nan)
    read = ReasoningTrace.from_json(trace.to_json())
    assert read.thoughts[0].log_prob == -math.inf
    assert math.isnan(read.seconds)
    json.loads(trace.to_json(), parse_constant=pytest.fail)


@hypothesis.given(
    st.text(max_size=20), st.floats(allow_nan=False), st.none() | st.booleans(),
    st.sampled_from(ReasoningStrategy), st.none() | st.text(max_size=10),
)  # fmt: skip
@hypothesis.settings(max_examples=100, deadline=None)
def test_any_trace_goes_through_json(
    text: str, number: float, verified: bool | None, strategy: ReasoningStrategy, answer: str | None
) -> None:
    trace = ReasoningTrace(
        text, (Thought(1, text, ({text: [number, None]},), number, verified),), answer, number,
        strategy=strategy, violations=(text, {"why": text}), signals={text: number},
    )  # fmt: skip
    assert ReasoningTrace.from_json(trace.to_json()) == trace


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(TRACE.to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"tokens": 1, "tokens": 2}', "'tokens' stands twice"),
        ("[]", "a list; expected a JSON object"),
        ("{}", "format is null"),
        (changed(format="other"), 'format is "other"'),
        (changed(tokens="many"), 'trace.tokens is "many"; expected a whole number'),
        (changed(tokens=True), "trace.tokens is true"),
        (changed(problem=None), "trace.problem is null; expected a text"),
        (changed(verified="yes"), 'trace.verified is "yes"; expected true or false'),
        (changed(strategy="guess"), "trace.strategy"),
        (changed(strategy=[]), "trace.strategy"),
        (changed(thoughts=[{}]), r"trace.thoughts\[0\].step_number is missing"),
        (changed(thoughts=[5]), r"trace.thoughts\[0\] is 5; expected an object"),
        (changed(thoughts={}), "trace.thoughts is {}; expected a list"),
        (changed(signals={"a": "b"}), "trace.signals.a"),
        (changed(violations=[7]), r"trace.violations\[0\]"),
        (changed(confidnce=1), "unknown field \"confidnce\" .did you mean 'confidence'"),
    ],
)
def test_a_malformed_text_is_named(text: str, named: str) -> None:
    with pytest.raises(TraceError, match=named):
        ReasoningTrace.from_json(text)
    assert issubclass(TraceError, UserError)


def test_what_json_can_not_hold_is_named() -> None:
    with pytest.raises(TraceError, match=r"trace.thoughts\[0\].tool_calls\[0\].x is a set"):
        ReasoningTrace("p", thoughts=(Thought(1, "a", ({"x": {1}},)),)).to_json()


@pytest.mark.parametrize("name", ["BEST_OF_N", "best_of_n", "best-of-n", " Best of N ",
                                  ReasoningStrategy.BEST_OF_N])  # fmt: skip
def test_a_strategy_is_found_by_its_name(name: str) -> None:
    assert ReasoningStrategy.find(name) is ReasoningStrategy.BEST_OF_N


def test_an_unknown_strategy_is_named_with_the_nearest() -> None:
    with pytest.raises(StrategyError, match=r"'debat' .did you mean 'debate'.*; known: direct"):
        ReasoningStrategy.find("debat")
