"""Self-critique: a revision is taken only where a judge prefers it, and every refusal says why."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.reasoning.choices import Answer, says_the_same
from lilith.reasoning.critique import Critique, SelfCritique
from lilith.reasoning.sampler import Budget, ReasoningError
from lilith.reasoning.tested_code import CodeTests, taken_apart
from lilith.reasoning.verification import Judgement
from lilith.shamshel import Limits

PROBLEM = "How many apples are in 3 boxes of 12?"
REVISED = "Step 1: 12 * 3 = 36 apples.\nAnswer: 36"
GOOD = "def add(a, b):\n    return a + b"
BAD = "def add(a, b):\n    return a - b"
TESTS = "assert add(1, 0) == 1\nassert add(2, 2) == 4\nassert add(1, 2) == 3"


def favouring(text: str, log_odds: float = 3.0, bias: float = 0.0) -> Any:
    """Scores of a judge who likes what holds ``text``, and (A) by ``bias`` in log-odds."""

    def scores(prompt: str, continuations: Any) -> list[float]:
        a, b = prompt.rindex("(A)\n"), prompt.rindex("(B)\n")
        liked_is_a = text in prompt[a:b]
        gap = bias + (log_odds if liked_is_a else -log_odds)
        return [-math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))]

    return scores


def refine(
    lines: Any, first: str | None, *, scores: Any = (), chat: bool = True, **settings: Any
) -> tuple[str, list[Critique], ScriptedModel]:
    model = ScriptedModel(lines, scores, chat=chat)
    critic = SelfCritique(model, **settings)
    refined, critiques = critic.critique_and_refine(PROBLEM, first)
    return refined, critiques, model


def is_36(problem: str, answer: str) -> bool:
    assert problem == PROBLEM
    return answer == "36"


def test_the_verifier_takes_a_right_revision_and_ends_the_rounds() -> None:
    refined, critiques, model = refine(
        ["The product is wrong.", REVISED], "35", verifier=is_36, max_rounds=5
    )
    assert refined == "36"
    (one,) = critiques
    assert (one.round, one.kept, one.judged_by) == (1, True, "verifier")
    assert (one.critique, one.revision) == ("The product is wrong.", REVISED)
    assert one.reason == "the verifier finds the revision right and not the first"
    assert "A check found the answer to be wrong." in model.prompts[0]
    assert "The product is wrong." in model.prompts[1]
    read = sum(len(model.encode(prompt)) - 1 for prompt in model.prompts)
    assert one.tokens >= read
    assert one.seconds >= 0
    assert json.loads(json.dumps(one.to_dict()))["judged_by"] == "verifier"


def test_an_answer_that_the_verifier_finds_right_is_left_alone() -> None:
    refined, (one,), model = refine([], "36", verifier=is_36)
    assert refined == "36"
    assert (one.round, one.kept, one.judged_by, one.tokens) == (0, False, "verifier", 0)
    assert "nothing to refine" in one.reason
    assert model.prompts == []


def test_a_revision_comes_back_in_the_form_of_the_answer() -> None:
    first = "Step 1: I guess.\nAnswer: 35"
    refined, _, _ = refine(["Guessed.", REVISED], first, verifier=is_36)
    assert refined == REVISED


def test_a_wrong_revision_is_told_to_the_next_round_and_not_tried_twice() -> None:
    lines = ["Wrong.", "Answer: 41", "Still wrong.", "Answer: 41", "never asked", "never asked"]
    refined, critiques, model = refine(lines, "35", verifier=is_36, max_rounds=3)
    assert refined == "35"
    assert [one.judged_by for one in critiques] == ["verifier", "form"]
    assert "calls the revision wrong, as the first" in critiques[0].reason
    assert "tried before" in critiques[1].reason
    assert "This was tried and is wrong too:\n41" in model.prompts[2]
    assert "tried" not in model.prompts[0]


def test_the_verifier_refuses_a_revision_where_it_could_not_tell_the_first() -> None:
    verdicts = {"35": None, "41": False}
    refined, (one,), _ = refine(
        ["Hm.", "Answer: 41"], "35", verifier=lambda _, answer: verdicts[answer],
        scores=favouring("41"),
    )  # fmt: skip
    assert (refined, one.kept, one.judged_by) == ("35", False, "verifier")
    assert "as the first" not in one.reason


@pytest.mark.parametrize("kind", ["raises", "hangs", "no verdict"])
def test_a_verifier_that_does_not_work_leaves_it_to_the_next_judge(kind: str) -> None:
    def broken(problem: str, answer: str) -> Any:
        if kind == "raises":
            raise ZeroDivisionError("oh")
        if kind == "hangs":
            time.sleep(0.5)
        return "maybe"

    refined, critiques, _ = refine(
        ["Hm.", "Answer: 36", "No mistakes."], "35", verifier=broken, verifier_seconds=0.05,
        scores=favouring("36"),
    )  # fmt: skip
    one = critiques[0]
    assert (refined, one.kept, one.judged_by) == ("36", True, "vote")
    words = {"raises": "raised ZeroDivisionError: oh", "hangs": "no verdict within 0.05 s",
             "no verdict": "gave 'maybe'"}  # fmt: skip
    assert words[kind] in one.reason


def test_recomputed_arithmetic_decides_without_a_verifier() -> None:
    first = "12 * 3 = 35. Answer: 35"
    refined, critiques, model = refine(["Check 12 * 3.", REVISED, "No mistakes."], first)
    assert refined == REVISED
    assert (critiques[0].kept, critiques[0].judged_by) == (True, "arithmetic")
    assert "12 * 3 = 35 is wrong: the left side is 36" in critiques[0].reason
    assert "12 * 3 = 35 is wrong: the left side is 36." in model.prompts[0]
    assert critiques[1].reason == "the critique finds no mistakes; the answer stands"
    assert model.scored == []  # no vote was needed


def test_wrong_arithmetic_in_the_revision_keeps_the_first_whatever_a_vote_says() -> None:
    revision = "12 * 3 = 38. Answer: 38"
    refined, (one,), model = refine(["Hm.", revision], "35", scores=favouring("38"))
    assert (refined, one.kept, one.judged_by) == ("35", False, "arithmetic")
    assert "12 * 3 = 38 is wrong" in one.reason
    assert model.scored == []


def test_leaving_the_arithmetic_out_mends_nothing() -> None:
    refined, (one,), _ = refine(["Hm.", "Answer: 99"], "12 * 3 = 35. Answer: 35")
    assert (refined, one.judged_by) == ("12 * 3 = 35. Answer: 35", "vote")


def test_a_vote_takes_a_clear_preference_in_both_orders() -> None:
    refined, critiques, model = refine(
        ["Hm.", "Answer: 36", "No mistakes."], "35", scores=favouring("36")
    )
    assert (refined, critiques[0].kept, critiques[0].judged_by) == ("36", True, "vote")
    assert "0.95 as A, 0.95 as B" in critiques[0].reason
    assert len(model.scored) == 2
    assert model.scored[0].index("36") < model.scored[0].index("35")
    assert model.scored[1].index("35") < model.scored[1].index("36")


@pytest.mark.parametrize(
    ("log_odds", "bias"),
    [
        (0.0, 0.0),  # a coin
        (0.0, 5.0),  # a letter
        (0.0, -5.0),
        (0.5, 0.0),  # too weak: 0.62
        (-3.0, 0.0),  # the first is better
        (2.5, 3.0),  # on average, but one order says the other
    ],
)
def test_a_vote_that_is_not_clear_keeps_the_first(log_odds: float, bias: float) -> None:
    refined, (one,), _ = refine(
        ["Hm.", "Answer: 36"], "35", scores=favouring("36", log_odds, bias), margin=0.15
    )
    assert (refined, one.kept, one.judged_by) == ("35", False, "vote")
    assert "it takes more than 0.65" in one.reason
    assert "the first stands" in one.reason


def test_a_strong_letter_bias_alone_would_pass_the_margin() -> None:
    """Both orders must agree: the mean of 1.0 and 0.38 is above the margin."""
    _, (one,), _ = refine(["Hm.", "Answer: 36"], "35", scores=favouring("36", 9.5, 10))
    assert not one.kept
    assert "0.69" in one.reason


def test_without_votes_nobody_judges() -> None:
    refined, (one,), model = refine(["Hm.", "Answer: 36"], "35", votes=False)
    assert (refined, one.kept, one.judged_by) == ("35", False, "nobody")
    assert "nothing can tell" in one.reason
    assert model.scored == []


@pytest.mark.parametrize("revision", ["Answer: 36.0", "Answer: $36$", "It is 36.\nAnswer: 36"])
def test_the_same_answer_changes_nothing(revision: str) -> None:
    refined, (one,), _ = refine(["Hm.", revision], "36", scores=favouring("never"))
    assert (refined, one.kept, one.judged_by) == ("36", False, "form")
    assert "the same answer" in one.reason


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        ("", "the model wrote nothing"),
        ("\n\n\n", "nothing but space"),
        (f"more {NEVER_ENDS}", "did not end within 60 tokens"),
        (f"Answer: 36 {NEVER_ENDS}", "did not end within 60 tokens"),
        ("I do not know.", "states no answer"),
        ("so it is\n" * 5 + "Answer: 36", "the same again and again"),
    ],
)
def test_what_is_no_revision_leaves_the_answer(revision: str, reason: str) -> None:
    refined, (one,), _ = refine(["Hm.", revision], "35", max_tokens=60, scores=favouring("36"))
    assert (refined, one.kept, one.judged_by) == ("35", False, "form")
    assert reason in one.reason
    assert one.critique == "Hm."


@pytest.mark.parametrize(
    ("critique", "reason"),
    [
        ("", "no critique"),
        ("\n \n", "no critique"),
        (f"it is wrong {NEVER_ENDS}", "again and again"),
        ("**No mistakes.**", "finds no mistakes"),
    ],
)
def test_a_critique_that_says_nothing_ends_the_round(critique: str, reason: str) -> None:
    refined, (one,), model = refine([critique], "35", max_tokens=100)
    assert (refined, one.kept, one.judged_by, one.revision) == ("35", False, "form", "")
    assert reason in one.reason
    assert len(model.prompts) == 1


def test_no_mistakes_is_not_believed_where_tools_found_one() -> None:
    refined, _, _ = refine(["No mistakes.", REVISED], "35", verifier=is_36)
    assert refined == "36"
    refined, _, _ = refine(["No mistakes.", REVISED, "No mistakes."], "12 * 3 = 35. Answer: 35")
    assert refined == REVISED


@pytest.mark.parametrize("first", [None, "", "  \n"])
def test_without_an_answer_the_first_acceptable_revision_stands(first: str | None) -> None:
    refined, critiques, model = refine([REVISED, "No mistakes."], first)
    assert refined == "36"
    assert (critiques[0].kept, critiques[0].critique) == (True, "")
    assert critiques[0].reason == "there was no answer before"
    assert model.prompts[0].startswith(f"user: {PROBLEM}")


def test_without_an_answer_what_the_verifier_calls_wrong_is_not_taken() -> None:
    refined, critiques, model = refine(["Answer: 35", REVISED], None, verifier=is_36)
    assert refined == "36"
    assert [one.kept for one in critiques] == [False, True]
    assert "calls this one wrong" in critiques[0].reason
    assert "assistant: 35" in model.prompts[1]
    refined, critiques, _ = refine(["Answer: 35", "Answer: 35"], "", verifier=is_36)
    assert (refined, [one.judged_by for one in critiques]) == ("", ["verifier", "form"])
    refined, critiques, _ = refine([""], None)
    assert (refined, critiques[0].kept) == ("", False)


def test_a_base_model_is_given_plain_text_that_ends_in_the_solutions_beginning() -> None:
    lines = ["Wrong sum.\nProblem: other", " 12 * 3 = 36.\nAnswer: 36\nProblem: other", ""]
    refined, critiques, model = refine(lines, "35", chat=False, verifier=is_36)
    assert refined == "36"
    assert critiques[0].critique == "Wrong sum."
    assert critiques[0].revision == "Step 1: 12 * 3 = 36.\nAnswer: 36"
    assert model.prompts[0].endswith("Review:")
    assert model.prompts[1].endswith(f"Problem: {PROBLEM}\nSolution: Step 1:")


def test_the_budget_may_end_at_any_call() -> None:
    for tokens, parts in [(1, ("Hm.", "")), (4, ("Hm.", "Answer: 36"))]:
        model = ScriptedModel(["Hm.", "Answer: 36"] if tokens > 1 else ["Hm."])
        critic = SelfCritique(model, budget=Budget(tokens=tokens), votes=tokens > 1)
        refined, critiques = critic.critique_and_refine(PROBLEM, "35")
        assert refined == "35"
        assert (critiques[0].critique, critiques[0].revision) == parts
    model = ScriptedModel(["Hm.", "Answer: 36"])
    critic = SelfCritique(model, budget=Budget(seconds=1e-9))
    refined, (one,) = critic.critique_and_refine(PROBLEM, "35")
    assert (refined, one.judged_by, model.prompts) == ("35", "nobody", [])
    assert "the budget ended" in one.reason


def test_a_prompt_longer_than_the_context_is_told_and_not_raised() -> None:
    model = ScriptedModel(["Hm."], context=80)
    refined, (one,) = SelfCritique(model).critique_and_refine(PROBLEM, "35 " * 100)
    assert refined == "35 " * 100
    assert (one.kept, one.judged_by) == (False, "nobody")
    assert "longer than the context" in one.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_rounds": 0}, "max_rounds is 0"),
        ({"margin": 0.5}, "margin is 0.5"),
        ({"answer_kind": "colour"}, "answer_kind is 'colour'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"verifier_seconds": 0}, "verifier_seconds"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ReasoningError, match=words):
        SelfCritique(ScriptedModel(), **change)


def test_bad_problems_answers_and_tests_are_errors_in_words() -> None:
    critic = SelfCritique(ScriptedModel())
    number: Any = 35
    with pytest.raises(ReasoningError, match="the problem is empty"):
        critic.critique_and_refine(" ", "35")
    with pytest.raises(ReasoningError, match="the initial answer is a int"):
        critic.critique_and_refine(PROBLEM, number)
    with pytest.raises(ReasoningError, match="the tests are not Python"):
        critic.critique_and_refine(PROBLEM, GOOD, tests="assert (")
    with pytest.raises(ReasoningError, match="nothing to test by"):
        critic.critique_and_refine(PROBLEM, GOOD, tests=" ")
    with pytest.raises(ReasoningError, match="case 0 is not"):
        critic.critique_and_refine(PROBLEM, GOOD, cases=[1])


def repair(lines: Any, first: str | None, **given: Any) -> tuple[str, list[Critique], Any]:
    model = ScriptedModel(lines, favouring("never"))
    critic = SelfCritique(model, max_rounds=given.pop("max_rounds", 2))
    refined, critiques = critic.critique_and_refine("Write add.", first, **given)
    return refined, critiques, model


def test_code_is_repaired_by_its_tests() -> None:
    refined, (one,), model = repair(["Minus.", f"```python\n{GOOD}\n```"], BAD, tests=TESTS)
    assert refined == GOOD
    assert (one.kept, one.judged_by, one.failures) == (True, "tests", "")
    assert one.reason == "the revision passes 3 of 3 tests, the first passes 1 of 3 tests"
    assert "The tests failed:\nadd(2, 2); expected 4; came 0" in model.prompts[0]
    assert model.scored == []


def test_code_that_passes_is_left_alone() -> None:
    refined, (one,), model = repair([], f"```python\n{GOOD}\n```", cases=[((2, 2), {}, 4)])
    assert refined == f"```python\n{GOOD}\n```"
    assert (one.round, one.judged_by, model.prompts) == (0, "tests", [])


def test_code_that_passes_more_tests_is_taken_and_one_that_passes_fewer_is_told() -> None:
    half = "def add(a, b):\n    return 4 if a == b else a - b"
    none = "def add(a, b):\n    return None"
    fenced = [f"```python\n{source}\n```" for source in (none, half, GOOD)]
    lines = ["a", fenced[0], "b", fenced[1], "c", fenced[2]]
    refined, critiques, model = repair(lines, BAD, tests=TESTS, max_rounds=3)
    assert [one.kept for one in critiques] == [False, True, True]
    assert refined == GOOD
    assert "no more than the first" in critiques[0].reason
    assert critiques[0].failures.startswith("add(1, 0); expected 1; came None")
    assert none in model.prompts[2]  # what was tried is in sight


def test_a_program_that_passes_as_many_tests_does_not_replace_the_first() -> None:
    times = "```python\ndef add(a, b):\n    return a * b\n```"
    refined, (one,), _ = repair(["a", times], BAD, tests=TESTS, max_rounds=1)
    assert (refined, one.kept) == (BAD, False)
    assert "the revision passes 1 of 3 tests, no more than" in one.reason


def test_the_best_program_stands_when_the_rounds_are_over() -> None:
    broken = "```python\ndef add(a, b) return\n```"
    refined, critiques, _ = repair(["a", broken, "b", "no code at all"], BAD, tests=TESTS)
    assert refined == BAD
    assert critiques[0].reason.startswith("the revision passes 0 of 3 tests")
    assert "SyntaxError" in critiques[0].failures
    assert critiques[1].judged_by == "form"


def test_without_a_program_the_first_stands_and_is_repaired() -> None:
    lines = [f"```python\n{BAD}\n```", "Minus.", f"```python\n{GOOD}\n```"]
    refined, critiques, _ = repair(lines, None, cases=[((1, 0), {}, 1), ((2, 2), {}, 4)])
    assert refined == GOOD
    assert critiques[0].reason == "there was no program before; this one passes 1 of 2 tests"
    assert [one.kept for one in critiques] == [True, True]


def test_one_failure_of_a_program_that_hangs_is_not_fewer_than_three() -> None:
    hangs = "def add(a, b):\n    if b:\n        while True: pass\n    return 0"
    assert CodeTests(TESTS, limits=Limits(wall_s=0.3, cpu_s=0.3)).count(hangs).passed == 0
    tests = CodeTests(TESTS)
    assert tests.count(BAD).passed == 1
    assert tests.count("x = 1").passed == 0
    assert CodeTests(cases=[((1, 0), {}, 1), ((0, 0), {}, 0)]).count("raise 1").passed == 0


def test_the_function_is_the_last_that_the_tests_name() -> None:
    source = f"{GOOD}\ndef helper():\n    return 1"
    assert CodeTests(TESTS).count(source).all_pass
    assert CodeTests(cases=[((2, 2), {}, 4)], entry_point="add").count(source).all_pass


def test_a_text_of_tests_is_taken_apart() -> None:
    check = "N = 4\ndef check(candidate):\n    k = 2\n    assert candidate(k, k) == N\n" \
            "    assert candidate(0, 0) == 0\n"  # fmt: skip
    assert len(taken_apart(check)) == 2
    assert CodeTests(check).count(BAD.replace("add", "f")).passed == 1
    assert CodeTests(check).count(GOOD).all_pass
    functions = "def test_a():\n    assert add(1, 0) == 1\ndef test_b():\n    assert add(1, 1) == 2"
    assert CodeTests(functions).count(BAD).passed == 1
    klass = (
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_a(self):\n        self.assertEqual(add(1, 0), 1)\n" + functions
    )
    assert CodeTests(klass).count(BAD).passed == 2
    assert taken_apart("") == ()
    whole = "assert add(1, 1) == 2"
    assert taken_apart(whole) == (whole,)
    many = "\n".join(f"assert add({n}, 0) == {n}" for n in range(65))
    assert taken_apart(many) == (many,)


def test_programs_are_the_same_only_where_they_are_equal() -> None:
    def answer(text: str) -> Answer:
        return Answer(text, text, Judgement(None))

    assert says_the_same(answer(GOOD), answer(GOOD + "  \n"), "code")
    assert not says_the_same(answer("x = a(b)"), answer("x = a [b]"), "code")
    assert says_the_same(answer("x = a(b)"), answer("x = a [b]"), "text")


def test_a_fault_in_the_code_is_not_taken_for_a_users_error() -> None:
    def broken(prompt: str, place: int) -> str:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        refine(broken, "35")
