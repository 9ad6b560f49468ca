"""The core of reasoning: one text or many, counted or scored, within a budget, from bad input."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.config import UserError
from lilith.reasoning import prompting, verification
from lilith.reasoning.calibration import Calibrator
from lilith.reasoning.chain_of_thought import ChainOfThought, made_settings
from lilith.reasoning.confidence import arithmetic_verdict, confidence, p_true, standing
from lilith.reasoning.drafts import Attempt, Settings, attempt, thought
from lilith.reasoning.prompting import SHOTS, question_kind
from lilith.reasoning.sampler import Budget, ReasoningError, Sample, Sampler
from lilith.reasoning.trace import ReasoningStrategy, StrategyError, Thought

NUMBER = "How many pens are 12 boxes of 3?"
RIGHT = "Step 1: There are 12 * 3 = 36 pens.\nAnswer: 36"
S = ReasoningStrategy


def chain(model: ScriptedModel, **settings: Any) -> ChainOfThought:
    return ChainOfThought(model, **{"ask_p_true": False, **settings})


# One text.


def test_direct() -> None:
    model = ScriptedModel(["Answer: 36"])
    trace = chain(model).reason(NUMBER, S.DIRECT)
    assert (trace.final_answer, trace.strategy, trace.answer_kind) == ("36", S.DIRECT, "number")
    assert "Give the answer alone" in model.prompts[0]
    assert model.settings[0]["temperature"] == 0.0
    assert (trace.tokens, trace.verified, trace.error) == (2, None, "")


def test_chain_of_thought_takes_the_likeliest_text_apart() -> None:
    model = ScriptedModel(
        [("Step 1: There are 12 * 3 = 38 pens.\nStep 2: So 38.\nAnswer: 38", -0.2)]
    )
    trace = chain(model).reason(f"  {NUMBER}\n")
    assert trace.problem == NUMBER
    assert "step by step" in model.prompts[0]
    assert [str(one) for one in trace.thoughts] == [
        "Step 1: There are 12 * 3 = 38 pens.", "Step 2: So 38."
    ]  # fmt: skip
    assert [one.verified for one in trace.thoughts] == [False, None]
    assert trace.thoughts[0].log_prob == pytest.approx(-0.2)
    assert trace.thoughts[0].checks[0].true_value == "36"
    assert trace.signals == {
        "truncated": 0.0, "answer_log_prob": pytest.approx(-0.2), "verifier": 0.0
    }  # fmt: skip
    assert trace.confidence == pytest.approx(1 / (1 + math.exp(2 - 0.3)))
    assert trace.calibrated is False


def test_a_base_model_is_given_plain_text_and_stopped_at_another_problem() -> None:
    model = ScriptedModel(
        [" There are 12 * 3 = 36.\nAnswer: 36\nProblem: What is 2 + 2?"], chat=False
    )
    trace = chain(model, shots=SHOTS[:1]).reason(NUMBER)
    prompt = model.prompts[0]
    assert prompt.startswith(f"Problem: {SHOTS[0].problem}\nSolution: Step 1:")
    assert prompt.endswith(f"\n\nProblem: {NUMBER}\nSolution: Step 1:")
    assert "\nProblem:" in model.settings[0]["stop"]
    assert (trace.final_answer, len(trace.thoughts)) == ("36", 1)
    assert trace.thoughts[0].thought == "There are 12 * 3 = 36."
    assert trace.thoughts[0].log_prob == pytest.approx(-0.1)


def test_worked_examples_are_turns_of_a_chat() -> None:
    model = ScriptedModel([RIGHT])
    chain(model, shots=SHOTS).reason(NUMBER)
    lines = model.prompts[0]
    assert lines.count("user: ") == 4
    assert lines.count("assistant: ") == 3
    assert lines.count("Answer: ") == 3
    program = prompting.program_prompt(NUMBER, chat=False, shots=SHOTS)
    assert isinstance(program, str)
    assert "print(20 - 12)" in program
    assert program.endswith("Solution: ```python\n")


@pytest.mark.parametrize("shot", SHOTS)
def test_the_worked_examples_are_right(shot: prompting.Shot) -> None:
    checks = [check for line in shot.steps.split("\n") for check in thought(1, line).checks]
    assert len(checks) == len(shot.steps.split("\n"))
    assert all(check.right for check in checks)
    assert checks[-1].true_value == shot.answer


@pytest.mark.parametrize(
    ("problem", "kind"),
    [("How many are there?", "number"), ("What is 15% of 240?", "number"),
     ("Which?\nA) one\nB) two", "choice"), ("Write a function that adds.", "code"),
     ("What is the total cost?", "number"), ("Name a planet.", "auto")],
)  # fmt: skip
def test_kinds_of_problems(problem: str, kind: str) -> None:
    assert question_kind(problem) == kind
    assert Settings().kind(problem) == kind
    assert Settings(answer_kind="text").kind(problem) == "text"


def test_p_true_asks_in_both_orders() -> None:
    model = ScriptedModel(["Answer: 36"], scores=[[math.log(0.9), math.log(0.1)],
                                                  [math.log(0.4), math.log(0.6)]])  # fmt: skip
    trace = ChainOfThought(model).reason(NUMBER)
    assert trace.signals["p_true"] == pytest.approx((0.9 + 0.6) / 2)
    assert "(A) right or (B) wrong" in model.scored[0]
    assert "(A) wrong or (B) right" in model.scored[1]
    plain = ScriptedModel(scores=[[0.0, 0.0], [0.0, -800.0]], chat=False)
    assert p_true(Sampler(plain), "q", "a") == pytest.approx((0.5 + 0.0) / 2)
    assert plain.scored[0].endswith("The proposed answer is (")


# Many texts.


def test_self_consistency_counts_answers_that_say_the_same() -> None:
    model = ScriptedModel([("Answer: 36", -2.0), ("Answer: 35", -0.1), ("Answer: 36.0", -0.5),
                           ("hm", -0.1)])  # fmt: skip
    trace = chain(model, samples=4, answer_kind="number").reason(NUMBER, S.SELF_CONSISTENCY)
    assert model.settings[0]["n"] == 4
    assert model.settings[0]["temperature"] == 0.7
    assert len(model.prompts) == 1  # one prompt, read once
    assert trace.final_answer == "36.0"  # of those that say the same, the likeliest text
    assert [(one.answer, one.votes) for one in trace.alternatives] == [("36", 2), ("35", 1)]
    assert trace.signals["vote_share"] == 0.5
    assert trace.signals["margin"] == 0.25
    assert trace.signals["answer_log_prob"] == pytest.approx(-0.5)
    assert trace.tokens == 7


def test_equal_votes_go_to_the_likelier_answer() -> None:
    lines = [("Answer: 1", -2.0), ("Answer: 2", -0.1)]
    for order in (lines, lines[::-1]):
        model = ScriptedModel(order)
        trace = chain(model, samples=2).reason(NUMBER, S.SELF_CONSISTENCY)
        assert trace.final_answer == "2"
        assert trace.signals["margin"] == 0.0


def test_no_text_states_an_answer() -> None:
    model = ScriptedModel(["well", "so it goes on", ""])
    trace = chain(model, samples=3).reason(NUMBER, S.SELF_CONSISTENCY)
    assert trace.final_answer is None
    assert trace.error == "none of 3 texts states an answer: the text states no answer"
    assert (trace.signals["vote_share"], trace.confidence) == (0.0, 0.0)


def test_best_of_n_by_log_probability_sums_over_equal_answers() -> None:
    likely = [("Answer: 1", -0.1), ("Answer: 2", -1.0), ("Answer: 2", -1.2)]
    trace = chain(ScriptedModel(likely), samples=3).reason(NUMBER, S.BEST_OF_N)
    assert trace.final_answer == "1"  # 0.905 against 0.368 + 0.301
    assert [one.score for one in trace.alternatives] == pytest.approx(
        [math.exp(-0.1), math.exp(-1.0) + math.exp(-1.2)]
    )
    third = [*likely, ("Answer: 2", -1.0)]
    trace = chain(ScriptedModel(third), samples=4).reason(NUMBER, S.BEST_OF_N)
    assert trace.final_answer == "2"


def test_best_of_n_by_a_verifier() -> None:
    asked: list[str] = []

    def verifier(problem: str, answer: str) -> bool | None:
        asked.append(answer)
        return {"1": False, "2": True, "3": None}[answer]

    model = ScriptedModel(["Answer: 1", "Answer: 1", "Answer: 3", "Answer: 2", "hm"])
    trace = chain(model, samples=5, scorer="verifier", verifier=verifier).reason(
        NUMBER, S.BEST_OF_N
    )
    assert (trace.final_answer, trace.verified) == ("2", True)
    assert [(one.answer, one.score) for one in trace.alternatives] == [
        ("2", 1.0), ("3", 0.5), ("1", 0.0)
    ]  # fmt: skip
    assert asked == ["1", "3", "2", "2"]  # each answer once, the chosen one for its verdict


def test_best_of_n_by_a_function() -> None:
    def scorer(problem: str, text: str) -> float:
        if "3" in text:
            raise RuntimeError("no reward")
        return {"Answer: 1": 0.4, "Answer: 2": 0.9}.get(text, math.nan)

    model = ScriptedModel(["Answer: 1", "Answer: 2", "Answer: 3", "Answer: 4", "Answer: 1"])
    trace = chain(model, samples=5, scorer=scorer).reason(NUMBER, S.BEST_OF_N)
    assert trace.final_answer == "2"  # 0.9 against 0.4 twice
    assert [one.score for one in trace.alternatives] == [0.9, 0.8, -math.inf, -math.inf]


# What judges, and what does not work.


def test_a_verifiers_verdict_is_kept() -> None:
    for verdict, signal in ((True, 1.0), (False, 0.0)):
        trace = chain(ScriptedModel(["Answer: 36"]), verifier=lambda p, a, v=verdict: v)
        trace = trace.reason(NUMBER)
        assert trace.verified is verdict
        assert trace.signals["verifier"] == signal


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        (lambda p, a: 1 / 0, "the verifier raised ZeroDivisionError: division by zero"),
        (lambda p, a: time.sleep(3), "the verifier gave no verdict within 0.05 s and was given up"),
        (lambda p, a: None, "the verifier could not tell"),
        (lambda p, a: "yes", "the verifier gave 'yes'; a verdict is True, False or None"),
    ],
)
def test_a_verifier_that_does_not_work(verifier: Any, words: str) -> None:
    model = ScriptedModel([RIGHT])
    trace = chain(model, verifier=verifier, verifier_seconds=0.05).reason(NUMBER)
    assert (trace.final_answer, trace.verified) == ("36", None)
    assert [(one.action, one.reason) for one in trace.decisions] == [("verify", words)]
    assert trace.signals["verifier"] == 1.0  # of the arithmetic, recomputed


def test_a_verifier_is_not_asked_about_nothing() -> None:
    def verifier(problem: str, answer: str) -> bool:
        raise AssertionError

    assert chain(ScriptedModel(["hm"]), verifier=verifier).reason(NUMBER).verified is None


def test_within() -> None:
    assert verification.within(5, lambda: 3) == verification.Outcome(3)
    assert verification.within(5, lambda: [][1]).error == "IndexError: list index out of range"
    assert verification.within(0.01, lambda: time.sleep(1)).given_up


@pytest.mark.parametrize(
    ("said", "words"),
    [("", "the model wrote nothing"), ("\n\n", "the model wrote nothing but space"),
     ("I do not know.", "the text states no answer"),
     (f"so {NEVER_ENDS}", "the text ended at its limit of 12 tokens without an answer")],
)  # fmt: skip
@pytest.mark.parametrize(
    "strategy", [S.DIRECT, S.CHAIN_OF_THOUGHT, S.SELF_CONSISTENCY, S.BEST_OF_N]
)
def test_a_model_that_states_nothing(said: str, words: str, strategy: ReasoningStrategy) -> None:
    model = ScriptedModel(lambda prompt, place: said)
    trace = chain(model, max_tokens=12, samples=2).reason(NUMBER, strategy)
    assert trace.final_answer is None
    assert trace.error.endswith(words)
    assert trace.confidence == 0.0
    assert trace.truncated is (NEVER_ENDS in said)


def test_loops_and_cut_texts_are_marked() -> None:
    model = ScriptedModel([f"The sum is 36. {NEVER_ENDS}"])
    trace = chain(model, max_tokens=60).reason(NUMBER)
    assert (trace.looped, trace.truncated) == (True, True)
    assert trace.signals["truncated"] == 1.0


# Problems that are none.


def test_an_empty_problem() -> None:
    for empty in ("", "  \n\t"):
        with pytest.raises(ReasoningError, match="the problem is empty"):
            chain(ScriptedModel()).reason(empty)
    with pytest.raises(ReasoningError, match="the problem is a int"):
        chain(ScriptedModel()).reason(3)
    assert chain(ScriptedModel()).reason_batch([]) == []


def test_a_batch_with_problems_that_can_not_be_reasoned_about() -> None:
    model = ScriptedModel(lambda prompt, place: "Answer: 36", context=100)
    problems: list[Any] = [NUMBER, "", "word " * 200, None, NUMBER]
    for strategy in (S.CHAIN_OF_THOUGHT, S.SELF_CONSISTENCY):
        traces = chain(model, samples=2).reason_batch(problems, strategy)
        assert [trace.final_answer for trace in traces] == ["36", None, None, None, "36"]
        assert [trace.error[:22] for trace in traces] == [
            "", "the problem is empty; ", "the prompt is longer t", "the problem is a NoneT", ""
        ]  # fmt: skip
        assert {trace.strategy for trace in traces} == {strategy}
        assert [trace.confidence for trace in traces][1:4] == [0.0] * 3
    with pytest.raises(UserError, match="longer than the context"):
        chain(model).reason("word " * 200)


def test_a_batch_is_generated_together() -> None:
    model = ScriptedModel([f"Answer: {number}" for number in (1, 2, 3, 4, 5, 6)])
    traces = chain(model, samples=2).reason_batch([NUMBER, "How many?", "How much?"],
                                                  "self_consistency")  # fmt: skip
    assert len(model.settings) == 1
    assert [[one.answer for one in trace.alternatives] for trace in traces] == [
        ["1", "2"], ["3", "4"], ["5", "6"]
    ]  # fmt: skip


def test_settings_that_can_not_be() -> None:
    for name, value in (("samples", 0), ("max_tokens", 1.5), ("repairs", -1), ("width", "two"),
                        ("temperature", -1.0), ("verifier_seconds", 0), ("answer_kind", "poem"),
                        ("scorer", "taste"), ("shots", 3), ("shots", "worked")):  # fmt: skip
        with pytest.raises(ReasoningError, match=f"{name} is {value!r}"):
            chain(ScriptedModel(), **{name: value})
    with pytest.raises(ReasoningError, match="scorer is verifier and there is none"):
        chain(ScriptedModel(), scorer="verifier")
    with pytest.raises(
        ReasoningError, match="reasoning has no setting 'tokens'; it has max_tokens"
    ):
        made_settings({"tokens": 3})
    with pytest.raises(StrategyError, match="strategy is 'magic'"):
        chain(ScriptedModel()).reason(NUMBER, "magic")
    for field in ({"tokens": 0}, {"tokens": 2.5}, {"seconds": 0.0}, {"seconds": math.nan}):
        with pytest.raises(ReasoningError, match=f"budget.{next(iter(field))} is"):
            Budget(**field)


# Small parts.


def sample(text: str, log_probs: Sequence[float]) -> Sample:
    words = text.split(" ")
    starts = tuple(itertools.accumulate((len(word) + 1 for word in words[:-1]), initial=0))
    return Sample(text, tuple(range(len(words))), tuple(log_probs), "stop", starts)


def test_log_probabilities_of_parts() -> None:
    one = sample("so it is 36", [-1.0, -2.0, -3.0, -4.0])
    assert one.log_prob() == -2.5
    assert one.log_prob(0, 5) == -1.5
    assert one.log_prob(9, 11) == -4.0
    assert one.log_prob(11) is None
    found = attempt("prompt without a lead", sample("Answer: 36", [-1.0, -3.0]), "number")
    assert (found.answer, found.answer_log_prob) == ("36", -3.0)
    assert Attempt("x", None, sample("x", [-1.0])).answer_log_prob == -1.0


def test_confidence_by_hand() -> None:
    assert confidence({}, "a") == (0.5, False)
    assert confidence({"vote_share": 1.0}, None) == (0.0, False)
    everything = {"vote_share": 1.0, "margin": 0.8, "answer_log_prob": 0.0, "p_true": 1.0,
                  "verifier": 1.0, "truncated": 1.0}  # fmt: skip
    assert confidence(everything, "a")[0] == pytest.approx(1 / (1 + math.exp(-3.0)))
    fitted = Calibrator(("p_true",), (0.0,), (1.0,), (1.0,), (0.0,), 0.0, (0.0, 1.0), (0.2, 0.6), 9)
    assert confidence(everything, "a", fitted) == (pytest.approx(0.6), True)
    assert confidence({"vote_share": 1.0}, None, fitted) == (0.0, True)


def test_a_program_that_was_repaired_is_no_fault() -> None:
    call = ({"name": "execute_python"},)
    failed = Thought(1, "It failed.", call, verified=False)
    ran = Thought(2, "It ran.", call, verified=True)
    assert arithmetic_verdict([failed, ran]) is None  # it ran, which is not to be right
    assert arithmetic_verdict([failed, ran, thought(3, "1 + 1 = 2")]) is True
    assert arithmetic_verdict([failed]) is False
    assert standing([failed, thought(2, "1 + 1 = 3"), ran])[0].verified is False
    assert arithmetic_verdict([failed, thought(2, "1 + 1 = 3"), ran]) is False
    assert arithmetic_verdict([thought(1, "no sums")]) is None


def test_a_text_that_states_nothing_answers_an_open_question_as_a_whole() -> None:
    design = "Step 1: Read the quotes.\nStep 2: Price them by a tree."
    trace = ChainOfThought(ScriptedModel([design])).reason("Design an options pricing system")
    assert (trace.final_answer, trace.error) == (design, "")
    assert [str(one) for one in trace.thoughts] == design.split("\n")
    looped = ScriptedModel(["and so on it goes and it goes on " + NEVER_ENDS])
    assert ChainOfThought(looped).reason("Design a system").final_answer is None
    counted = ScriptedModel(["Read the quotes.\nPrice them."])
    assert ChainOfThought(counted).reason("How many systems are there?").final_answer is None
    several = ScriptedModel([design, "Answer: Mars", design])
    voted = ChainOfThought(several, strategy="self_consistency", samples=3).reason("Which planet?")
    assert (voted.final_answer, voted.signals["vote_share"]) == ("Mars", pytest.approx(1 / 3))
