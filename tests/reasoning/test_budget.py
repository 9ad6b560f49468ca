"""The meter of tokens and seconds, and the budget that ends a work."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.reasoning.chain_of_thought import ChainOfThought
from lilith.reasoning.sampler import Budget, BudgetEnded, Sampler
from lilith.reasoning.trace import ReasoningStrategy

NUMBER = "How many pens are 12 boxes of 3?"
RIGHT = "Step 1: There are 12 * 3 = 36 pens.\nAnswer: 36"
S = ReasoningStrategy


def chain(model: ScriptedModel, **settings: Any) -> ChainOfThought:
    return ChainOfThought(model, **{"ask_p_true": False, **settings})


# The meter and the budget.


def test_the_meter() -> None:
    model = ScriptedModel(["one two", "three"])
    sampler = Sampler(model)
    found = sampler.samples(["a prompt of words"], 2, max_tokens=9)
    assert [[one.text for one in own] for own in found] == [["one two", "three"]]
    assert (sampler.written, sampler.read, sampler.calls) == (3, 4, 1)
    assert sampler.room("a prompt of words") == 4096 - 4
    assert sampler.samples([], max_tokens=1) == []
    sampler.restart()
    assert (sampler.written, sampler.read, sampler.calls) == (0, 0, 0)


def test_a_budget_of_tokens_is_shared_by_the_rows_and_never_passed() -> None:
    model = ScriptedModel(lambda prompt, place: f"go {NEVER_ENDS}")
    sampler = Sampler(model, budget=Budget(tokens=23))
    sampler.samples(["p"], 4, max_tokens=100)
    assert model.settings[0]["max_tokens"] == 5
    assert sampler.written == 20
    with pytest.raises(BudgetEnded):
        sampler.samples(["p"], 4, max_tokens=100)
    sampler.sample("p", max_tokens=100)
    assert sampler.written == 23


def test_a_budget_of_seconds_bounds_the_length_by_the_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("lilith.reasoning.sampler.time.monotonic", lambda: now[0])

    def lines(prompt: str, place: int) -> str:
        now[0] += 10.0
        return f"go {NEVER_ENDS}"

    model = ScriptedModel(lines)
    sampler = Sampler(model, budget=Budget(tokens=1000, seconds=25.0))
    sampler.sample("p", max_tokens=10)  # a second a token
    sampler.sample("p", max_tokens=100)
    assert model.settings[1]["max_tokens"] == 15
    now[0] = 25.0
    for work in (
        lambda: sampler.sample("p", max_tokens=1),
        lambda: sampler.preference("p", "a", "b"),
    ):
        with pytest.raises(BudgetEnded):
            work()


def test_a_budget_that_ends_gives_a_trace_that_says_so() -> None:
    model = ScriptedModel(lambda prompt, place: "Answer: 36")
    sampler = Sampler(model, budget=Budget(tokens=3))
    made = chain(model, sampler=sampler, samples=2)
    assert made.reason(NUMBER, S.DIRECT).final_answer == "36"
    ended = made.reason(NUMBER, S.SELF_CONSISTENCY)
    assert ended.error == "the budget of tokens or seconds ended before there was an answer"
    assert (ended.final_answer, ended.confidence, ended.tokens) == (None, 0.0, 0)


def test_the_budget_ends_after_the_answer() -> None:
    clock = itertools.count()

    class Late(Sampler):
        def preference(self, prompt: Any, first: str, second: str) -> float:
            next(clock)
            raise BudgetEnded

    model = ScriptedModel(["Answer: 36"])
    trace = ChainOfThought(model, sampler=Late(model)).reason(NUMBER)
    assert next(clock) == 1
    assert (trace.final_answer, "p_true" in trace.signals) == ("36", False)
