"""The advanced reasoner: every branch of its loop, driven by a scripted model."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_model import ScriptedModel
from told_model import NUMBER, RIGHT, UNSURE, WORD, WRONG, Told, actions, reason_of, reasoner

import lilith
from lilith.reasoning import chain_of_thought
from lilith.reasoning.calibration import Calibrator
from lilith.reasoning.drafts import Draft, Settings, thought
from lilith.reasoning.metacognition import MetacognitiveMonitor
from lilith.reasoning.reasoner import create_advanced_reasoner
from lilith.reasoning.reasoner_run import Event
from lilith.reasoning.sampler import Budget, ReasoningError, Sampler
from lilith.reasoning.trace import Decision, ReasoningStrategy, ReasoningTrace, StrategyError


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], list[str]]:
    """Makes PROGRAM give an answer without a sandbox; returns the problems it is asked."""

    def give(answer: str | None) -> list[str]:
        asked: list[str] = []

        def program(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
            asked.extend(problems)
            if answer is None:
                return [Draft(None, error="SHAMSHEL did not run the program")]
            call = {"name": "execute_python"}
            step = thought(1, "It ran.", None, tool_calls=(call,))
            return [Draft(answer, (step,), signals={"answer_log_prob": -0.1, "truncated": 0.0},
                          decisions=(Decision("run", "it ran"),))]  # fmt: skip

        monkeypatch.setitem(chain_of_thought.STRATEGIES, ReasoningStrategy.PROGRAM, program)
        return asked

    return give


def test_a_sure_answer_is_taken_at_once() -> None:
    model = Told(steps=RIGHT)
    trace = reasoner(model)(NUMBER)
    assert actions(trace) == ["think", "accept", "monitor"]
    assert (trace.final_answer, trace.strategy) == ("36", ReasoningStrategy.CHAIN_OF_THOUGHT)
    # 4 * 0.5 for the arithmetic, 0.4 for the log-probability, 0 for p(true) of one half.
    assert trace.confidence == pytest.approx(1 / (1 + math.exp(-2.4)))
    assert trace.calibrated is False
    assert reason_of(trace, "think") == "chain of thought: the answer 36"
    assert reason_of(trace, "monitor") == "there is no reason left to doubt the answer"


def test_wrong_arithmetic_calls_for_a_program(programs: Any) -> None:
    asked = programs("36")
    trace = reasoner(Told(steps=WRONG), monitor=MetacognitiveMonitor(0.5))(NUMBER)
    assert asked == [NUMBER]
    assert actions(trace) == ["think", "refine", "run", "replace", "accept", "monitor"]
    assert 'a program, because confidence 0.17 is below 0.50; step 1 claims "12 * 3 = 38" and ' in (
        reason_of(trace, "refine")
    )
    assert "36 instead of 38: of the old, step 1 claims" in reason_of(trace, "replace")
    assert (trace.final_answer, trace.strategy) == ("36", ReasoningStrategy.PROGRAM)


def test_a_real_program_in_the_sandbox() -> None:
    def lines(prompt: str, place: int) -> str:
        return "```python\nprint(12 * 3)\n```" if "Python program" in prompt else WRONG

    trace = reasoner(ScriptedModel(lines))(NUMBER)
    assert (trace.final_answer, trace.strategy) == ("36", ReasoningStrategy.PROGRAM)
    # That it ran does not prove it: other ways are asked, and their wrong sums do not replace it.
    assert actions(trace)[-2:] == ["keep", "monitor"]


def test_samples_with_wrong_arithmetic_do_not_overrule_a_program(programs: Any) -> None:
    programs("36")
    model = Told(steps=WRONG, samples=[WRONG], critique="No mistakes.")
    trace = reasoner(model, monitor=MetacognitiveMonitor(0.95))(NUMBER)
    assert "38 instead of 36: of the new, step 1 claims" in reason_of(trace, "keep")
    assert trace.final_answer == "36"
    assert [(one.answer, one.votes) for one in trace.alternatives] == [("38", 4), ("36", 1)]
    assert "the samples disagree: the answer has 20% of the votes" in reason_of(trace, "monitor")


def test_a_program_that_fails_leaves_the_answer(programs: Any) -> None:
    programs(None)
    model = Told(steps="Answer: 36", samples=["Answer: 36"])
    trace = reasoner(model, monitor=MetacognitiveMonitor(0.8))(NUMBER)
    words = "program: it came to no answer: SHAMSHEL did not run the program"
    assert reason_of(trace, "keep").startswith(words)
    assert (trace.final_answer, trace.error) == ("36", "")
    # One vote of the first text and four of the samples, all alike.
    assert [(one.answer, one.votes) for one in trace.alternatives] == [("36", 5)]
    assert trace.signals["vote_share"] == trace.signals["margin"] == 1.0
    assert actions(trace)[-2:] == ["accept", "monitor"]


def test_low_confidence_calls_for_samples_whose_votes_replace_the_answer() -> None:
    model = Told(steps=UNSURE, samples=["Answer: Mercury", "Answer: mercury.", "Answer: Venus",
                                        "Answer: Mercury"])  # fmt: skip
    trace = reasoner(model, monitor=MetacognitiveMonitor(0.6, agreement_threshold=0.5))(WORD)
    assert actions(trace) == ["think", "refine", "replace", "accept", "monitor"]
    assert reason_of(trace, "refine").startswith("samples, because confidence 0.08 is below 0.60")
    assert reason_of(trace, "replace") == (
        "self consistency: Mercury instead of Venus: it has 3 votes against 2"
    )
    assert trace.final_answer == "Mercury"
    assert trace.strategy is ReasoningStrategy.SELF_CONSISTENCY
    assert [(one.answer, one.votes) for one in trace.alternatives] == [("Mercury", 3), ("Venus", 2)]
    assert trace.signals["vote_share"] == pytest.approx(0.6)
    assert trace.signals["margin"] == pytest.approx(0.2)


def test_fewer_votes_do_not_replace_the_answer(programs: Any) -> None:
    programs("36")
    model = Told(steps=("Answer: 36", -3.0), critique="No mistakes.",
                 samples=["Answer: 35", "Answer: 35", "none", "so"])  # fmt: skip
    trace = reasoner(model, monitor=MetacognitiveMonitor(0.99))(NUMBER)
    assert "self consistency: 35 instead of 36: confidence" in reason_of(trace, "keep")
    assert trace.final_answer == "36"
    # Texts without an answer are counted: two of six.
    assert trace.signals["vote_share"] == pytest.approx(2 / 6)


def critic(better: float | None = None, **told: Any) -> Told:
    """A model whose choice between two answers has the probability ``better`` for the revision."""

    def scores(prompt: str, continuations: Sequence[str]) -> list[float]:
        if better is None or "Which of these answers" not in prompt:
            return [math.log(0.5)] * 2
        first = prompt.index("Mars") < prompt.index("Venus")
        chances = {"A": better if first else 1 - better, "B": 1 - better if first else better}
        return [math.log(chances[one]) for one in continuations]

    mixed = ["Answer: Venus", "Answer: Earth", "Answer: Pluto", "Answer: Mercury"]
    told = {"steps": UNSURE, "samples": mixed, "critique": "Venus is larger.", **told}
    return Told(scores, fix="Step 1: It is red.\nAnswer: Mars", **told)


def test_critique_that_the_models_choice_does_not_prefer_is_kept_out() -> None:
    trace = reasoner(critic(0.4))(WORD)
    assert trace.final_answer == "Venus"
    assert "critique: the model prefers the revision with probability 0.40" in (
        reason_of(trace, "keep")
    )
    assert "every way was tried; the answer Venus stands" in reason_of(trace, "keep")
    assert "confidence" in reason_of(trace, "monitor")
    turn = trace.transcript[0]
    assert (turn["speaker"], turn["round"], turn["kept"]) == ("critic", 1, False)
    assert "Venus is larger." in turn["text"]
    assert "Answer: Mars" in turn["text"]


def test_critique_that_is_preferred_needs_as_many_votes() -> None:
    several = ["Answer: Venus", "Answer: Earth", "Answer: Pluto", "Answer: Mercury"]
    trace = reasoner(critic(0.9, samples=several))(WORD)
    assert trace.final_answer == "Venus"  # two votes to one
    assert "2 votes are for the answer before, although judged by vote" in reason_of(trace, "keep")
    silent = reasoner(critic(0.9, samples=["\n\n"]))(WORD)
    assert silent.final_answer == "Mars"  # one to one
    assert "critique: judged by vote: the model prefers" in reason_of(silent, "replace")
    assert [str(one) for one in silent.thoughts] == ["Step 1: It is red."]


def test_a_verifier_ends_doubt() -> None:
    model = Told(steps=UNSURE)
    trace = reasoner(model, verifier=lambda problem, answer: True)(WORD)
    assert actions(trace) == ["think", "accept", "monitor"]
    assert trace.verified is True
    assert reason_of(trace, "accept") == "a verifier confirms the answer Venus"


def test_a_verifier_finds_the_right_answer_among_the_samples() -> None:
    model = Told(steps="Answer: Venus", samples=["Answer: Venus", "Answer: Earth",
                                                 "Answer: Venus", "Answer: Mercury"])  # fmt: skip
    trace = reasoner(model, verifier=lambda problem, answer: answer == "Mercury")(WORD)
    assert (trace.final_answer, trace.verified) == ("Mercury", True)
    assert trace.strategy is ReasoningStrategy.BEST_OF_N
    assert "samples, because" in reason_of(trace, "refine")
    assert "a verifier rejected the answer" in reason_of(trace, "refine")
    assert "Mercury instead of Venus: verified, rejected by the verifier before" in (
        reason_of(trace, "replace")
    )


def test_unjudged_stands_above_rejected_whatever_the_votes() -> None:
    def verifier(problem: str, answer: str) -> bool | None:
        return False if answer == "Venus" else None

    model = Told(steps="Answer: Venus", samples=["Answer: Earth", "none at all, is it?\nSo\n\nhm"],
                 critique="No mistakes.")  # fmt: skip
    trace = reasoner(model, verifier=verifier)(WORD)
    assert (trace.final_answer, trace.verified) == ("Earth", None)
    assert "unjudged, rejected by the verifier before" in reason_of(trace, "replace")


def test_critique_is_taken_where_the_verifier_finds_it_right() -> None:
    model = critic(samples=["Answer: Venus"])
    trace = reasoner(model, verifier=lambda problem, answer: answer == "Mars")(WORD)
    assert (trace.final_answer, trace.verified) == ("Mars", True)
    assert "critique: judged by verifier" in reason_of(trace, "replace")
    assert actions(trace)[-2:] == ["accept", "monitor"]


def test_verifiers_that_raise_or_hang() -> None:
    def raises(problem: str, answer: str) -> bool:
        raise RuntimeError("no tool")

    trace = reasoner(Told(steps=RIGHT), verifier=raises)(NUMBER)
    assert trace.verified is None
    assert "the verifier raised RuntimeError: no tool" in reason_of(trace, "verify")
    slow = reasoner(
        Told(steps=RIGHT), verifier=lambda p, a: time.sleep(5) or True, verifier_seconds=0.05
    )(NUMBER)
    assert (slow.verified, slow.final_answer) == (None, "36")
    assert "was given up" in reason_of(slow, "verify")


def test_the_budget_of_tokens_ends_it_with_the_best_so_far() -> None:
    model = Told(steps=("Answer: Venus it is", -3.0))
    trace = reasoner(model, budget=Budget(tokens=4))(WORD)
    assert actions(trace) == ["think", "stop", "monitor"]
    assert (trace.final_answer, trace.tokens) == ("Venus it is", 4)
    assert "the budget of tokens or seconds is used up" in reason_of(trace, "stop")


def test_too_little_for_samples() -> None:
    model = Told(steps=UNSURE, critique="No mistakes.")
    trace = reasoner(model, budget=Budget(tokens=30))(WORD)
    assert "the tokens that are left are too few for 2 texts" in reason_of(trace, "skip")
    assert trace.final_answer == "Venus"


def test_fewer_samples_where_the_budget_has_no_more() -> None:
    model = Told(steps=UNSURE, samples=["Answer: Venus"])
    reasoner(model, budget=Budget(tokens=52), samples=8)(WORD)
    assert [one["n"] for one in model.settings][:2] == [1, 3]  # 50 tokens left, 16 each


def test_the_budget_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr("lilith.reasoning.sampler.time.monotonic", lambda: next(clock))
    trace = reasoner(Told(steps=UNSURE), budget=Budget(tokens=1000, seconds=35.0))(WORD)
    assert actions(trace) == ["think", "stop", "monitor"]
    assert trace.final_answer == "Venus"  # its text was begun in time
    late = reasoner(Told(steps=UNSURE), budget=Budget(tokens=1000, seconds=5.0))(WORD)
    assert "no answer: the budget of tokens or seconds ended" in reason_of(late, "think")
    assert (late.final_answer, late.confidence) == (None, 0.0)


def test_each_problem_has_a_budget_of_its_own() -> None:
    model = Told(steps=RIGHT)
    traces = reasoner(model, budget=Budget(tokens=12)).reason_batch([NUMBER] * 3)
    assert [trace.final_answer for trace in traces] == ["36"] * 3
    assert len({trace.tokens for trace in traces}) == 1


def test_costs_add_up(programs: Any) -> None:
    programs("35")
    model = critic(0.9, steps=WRONG)
    made = create_advanced_reasoner(model, samples=4)
    trace = made(NUMBER)
    assert trace.tokens == made.sampler.written
    spent = sum(one.tokens for one in trace.decisions)
    assert spent == made.sampler.written + made.sampler.read
    assert sum(one.seconds for one in trace.decisions) <= trace.seconds
    assert ReasoningTrace.from_json(trace.to_json()) == trace
    assert "every way was tried" in trace.to_html()


def test_the_trace_as_it_grows() -> None:
    seen: list[Event] = []
    trace = reasoner(Told(steps=RIGHT), on_event=seen.append)(NUMBER)
    assert [one for one in seen if isinstance(one, Decision)] == list(trace.decisions)
    assert str(seen[0]) == "Step 1: There are 12 * 3 = 36 pens."


def test_a_monitor_with_a_calibrator() -> None:
    # From p(true) alone: 0.2 at 0, 0.6 at 1; the trace has signals that it does not know.
    fitted = Calibrator(("p_true",), (0.0,), (1.0,), (1.0,), (0.0,), 0.0, (0.0, 1.0), (0.2, 0.6), 9)
    trace = reasoner(Told(steps=RIGHT), monitor=MetacognitiveMonitor(0.4, fitted))(NUMBER)
    assert trace.calibrated is True
    assert trace.confidence == pytest.approx(0.4)


@pytest.mark.parametrize(
    "strategy", [ReasoningStrategy.DIRECT, "self-consistency", "best_of_n", "program"]
)
def test_the_first_thinking_is_by_any_strategy(strategy: Any, programs: Any) -> None:
    programs("36")
    trace = reasoner(Told(steps="Answer: 36", samples=[RIGHT]), monitor=MetacognitiveMonitor(0.2))(
        NUMBER, strategy=strategy
    )
    assert trace.final_answer == "36"
    assert trace.strategy is ReasoningStrategy.find(strategy)
    assert "accept" in actions(trace)


def test_samples_are_not_drawn_twice() -> None:
    model = Told(samples=["Answer: Venus", "Answer: Mars"], critique="No mistakes.")
    trace = reasoner(model, strategy="self_consistency")(WORD)
    assert [one["n"] for one in model.settings] == [4, 1]  # the samples, the critique
    assert reason_of(trace, "refine").startswith("critique, because")


def test_code_is_neither_computed_nor_voted_on() -> None:
    model = Told(steps=("```python\nx = 1\n```", -3.0), critique="No mistakes.")
    trace = reasoner(model)("Write a function that gives one.")
    assert trace.final_answer == "x = 1"
    assert [one["n"] for one in model.settings] == [1, 1]


def test_settings_that_can_not_be() -> None:
    model = Told()
    with pytest.raises(ReasoningError, match="budget is 100; give a Budget"):
        create_advanced_reasoner(model, budget=100)
    with pytest.raises(ReasoningError, match="reasoning has no setting 'sample'"):
        create_advanced_reasoner(model, sample=3)
    with pytest.raises(StrategyError, match="strategy is 'magic'"):
        create_advanced_reasoner(model, strategy="magic")
    with pytest.raises(StrategyError, match="strategy is 'magic'"):
        create_advanced_reasoner(model).reason_batch([WORD], "magic")
    with pytest.raises(ReasoningError, match="use_constitutional_ai is False"):
        create_advanced_reasoner(model, use_constitutional_ai=False, constitution="mine.toml")
    with pytest.raises(ReasoningError, match="max_rounds is 0"):
        create_advanced_reasoner(model, critique_rounds=0)


def test_the_public_example() -> None:
    model = Told(steps=RIGHT, scores=lambda prompt, continuations: [math.log(0.5)] * 2)
    trace = lilith.create_advanced_reasoner(model, model.tokenizer, use_constitutional_ai=True)(
        NUMBER, strategy=lilith.ReasoningStrategy.CHAIN_OF_THOUGHT
    )
    assert (trace.thoughts[0].step_number, trace.is_safe) == (1, True)
    assert trace.thoughts[0].thought == "There are 12 * 3 = 36 pens."
    assert isinstance(trace, lilith.ReasoningTrace)
    assert all(
        getattr(lilith, name).__name__ == name
        for name in ("ChainOfThought", "SelfCritique", "ConstitutionalAI", "MetacognitiveMonitor")
    )


def test_public_names_load_without_jax() -> None:
    code = (
        "import sys, lilith\n"
        "lilith.create_advanced_reasoner, lilith.ChainOfThought, lilith.ConstitutionalAI\n"
        "print([m for m in ('jax', 'matplotlib', 'sklearn', 'jinja2') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")
