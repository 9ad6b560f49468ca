"""A beam over steps: what is kept, merged and dropped, and what a broken model or value does."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.config import UserError
from lilith.reasoning.drafts import Draft, Settings
from lilith.reasoning.sampler import Budget, BudgetEnded, Sampler
from lilith.reasoning.tree_search import tree_search

PENS = "A pen costs $3. How many dollars do 4 pens cost?"


def searched(model: ScriptedModel, problem: str = PENS, **settings: Any) -> Draft:
    return tree_search(Sampler(model), [problem], Settings(**settings))[0]


def preferring(good: str, weight: float = 3.0) -> Any:
    """Scores by which solutions with ``good`` are right, whatever the order of the letters."""

    def scores(prompt: str, continuations: Any) -> list[float]:
        right_first = "(A) right" in prompt
        worth = weight if good in prompt else -weight
        return [worth, 0.0] if right_first else [0.0, worth]

    return scores


def rounds(draft: Draft) -> list[str]:
    return [one.reason for one in draft.decisions if one.action.startswith("round")]


def test_the_beam_keeps_the_best_paths_and_the_best_finished_one_answers() -> None:
    lines: list[Any] = [
        "The pens cost 4 * 3.", "I add 4 + 3.", "Something else.",  # step 1
        "That is 4 * 3 = 12.\nAnswer: 12", "That is 7.\nAnswer: 7",
        ("Answer: 12", -0.5),  # the last three from the best, the next from the second
        "Answer: 7", "Answer: 8", "Hm.",
    ]  # fmt: skip
    model = ScriptedModel(lines, preferring("4 * 3"))
    draft = searched(model, width=2, branches=3, seed=5)
    assert draft.answer == "12"
    assert draft.error == ""
    assert [str(one) for one in draft.thoughts] == [
        "Step 1: The pens cost 4 * 3.", "Step 2: That is 4 * 3 = 12.",
    ]  # fmt: skip
    assert draft.thoughts[1].verified is True
    assert model.settings[0]["n"] == 3
    assert len(model.settings) == 2  # the paths of a round are asked together
    assert [one["seed"] for one in model.settings] == [6, 7]
    counts = {one.answer: one.votes for one in draft.alternatives}
    assert counts == {"12": 2, "7": 2, "8": 1}
    assert draft.signals["vote_share"] == pytest.approx(2 / 5)
    assert draft.signals["margin"] == 0
    assert draft.signals["truncated"] == 0
    texts = [line if isinstance(line, str) else line[0] for line in lines]
    assert draft.tokens == sum(len(model.tokenizer.encode(text)) for text in texts)
    assert 'kept "The pens cost 4 * 3."' in rounds(draft)[0]
    assert 'dropped "Something else."' in rounds(draft)[0]
    assert all(one.tokens > 0 for one in draft.decisions if one.action.startswith("round"))
    assert draft.decisions[-1].action == "end"


def test_values_of_equal_answers_are_added() -> None:
    worth = {"a": 0.6, "b": 0.4, "c": 0.4}
    model = ScriptedModel(["a\nAnswer: 7", "b\nAnswer: 12", "c\nAnswer: 12.0"])
    draft = searched(model, width=3, value=lambda _, steps: worth[steps[-1][0]])
    assert draft.answer == "12"
    assert [(one.answer, one.votes) for one in draft.alternatives] == [("12", 2), ("7", 1)]
    assert draft.alternatives[0].score == pytest.approx(0.8)
    assert model.scored == []


def test_of_values_below_zero_the_best_path_counts() -> None:
    worth = {"a": -1.5, "b": -1.0, "c": -1.0}
    model = ScriptedModel(["a\nAnswer: 7", "b\nAnswer: 12", "c\nAnswer: 12"])
    draft = searched(model, width=3, value=lambda _, steps: worth[steps[-1][0]])
    assert draft.answer == "12"


def test_wrong_arithmetic_loses_whatever_the_model_thinks() -> None:
    lines = ["4 * 3 = 13\nAnswer: 13", "4 * 3 = 13, I am sure.\nAnswer: 13", "12.\nAnswer: 12"]
    model = ScriptedModel(lines, preferring("13"))
    draft = searched(model, width=1)
    assert draft.answer == "12"
    assert not any("13" in prompt for prompt in model.scored)  # it is not even asked about them
    assert '"4 * 3 = 13 Answer: 13" (-1, wrong arithmetic' in rounds(draft)[0]


def test_both_orders_of_the_letters_are_averaged() -> None:
    # A model that always says A has no opinion.
    model = ScriptedModel(["One.\nAnswer: 1"], lambda prompt, _: [2.0, 0.0])
    draft = searched(model, branches=1)
    assert draft.alternatives[0].score == pytest.approx(0.5)
    assert len(model.scored) == 2
    assert model.settings[0]["temperature"] == 0  # one branch is the likeliest one


def test_equal_steps_are_merged_and_empty_ones_and_loops_dropped() -> None:
    loop = "the same thing again and again " * 5
    model = ScriptedModel(["Add  them.", "Step 1: add them.", "", loop, "4 * 3 = 12\nAnswer: 12"])
    draft = searched(model, branches=5, width=1, depth=1, value=lambda _, steps: len(steps))
    assert "1 that repeat themselves" in rounds(draft)[0]
    assert "1 empty" in rounds(draft)[0]
    assert "merged 1 equal" in rounds(draft)[0]
    assert draft.answer == "12"


def test_a_finished_path_keeps_its_place_only_while_it_is_the_best() -> None:
    worth = {"a": 0.2, "b": 0.1, "c": 0.9, "d": 0.8}
    lines = ["a\nAnswer: 1", "b", "c", "d", "c\nAnswer: 2", "a", "d\nAnswer: 3", "a"]
    model = ScriptedModel(lines)
    draft = searched(
        model, width=2, branches=2, depth=3, value=lambda _, steps: worth[steps[-1][0]]
    )
    assert draft.answer == "2"
    assert {one.answer for one in draft.alternatives} == {"1", "2", "3"}  # the first still counts
    worth = {"a": 0.9, "b": 0.5, "c": 0.3, "d": 0.2}
    model = ScriptedModel(["a\nAnswer: 1", "b", "c", "d", "b", "d"])
    draft = searched(
        model, width=2, branches=2, depth=3, value=lambda _, steps: worth[steps[-1][0]]
    )
    assert draft.answer == "1"
    assert len(model.prompts) == 3  # the finished one took the place of "d"


def test_chat_models_get_the_steps_in_the_users_message() -> None:
    model = ScriptedModel(["First. 4 pens.", "Answer: 12"])
    searched(model, branches=1)
    assert model.prompts[0].count("user:") == 1
    assert "The steps so far:" not in model.prompts[0]
    assert "The steps so far:\nStep 1: First. 4 pens.\n\nWrite Step 2 only" in model.prompts[1]
    assert model.settings[0]["stop"][0] == "\nStep 2"
    assert model.settings[1]["stop"][0] == "\nStep 3"


def test_plain_models_write_on_behind_the_steps() -> None:
    text = " First. 4 pens.\nStep 2: and more\nProblem: another"
    model = ScriptedModel([text, " It is 12.\n\nAnswer: 12\n\nProblem: x"], chat=False)
    draft = searched(model, branches=1)
    assert model.prompts[0].endswith("Solution: Step 1:")
    assert model.prompts[1].endswith("Solution: Step 1: First. 4 pens.\nStep 2:")
    assert draft.answer == "12"
    assert [one.thought for one in draft.thoughts] == ["First. 4 pens.", "It is 12."]


def test_a_number_on_the_way_ends_no_path() -> None:
    lines = ["The result of 4 * 3 is 12.", "The answer is 12."]
    draft = searched(ScriptedModel(lines), branches=1)
    assert draft.answer == "12"
    assert len(draft.thoughts) == 2


@pytest.mark.parametrize("chat", [True, False])
def test_without_a_finished_path_the_best_is_asked_once(chat: bool) -> None:
    last = "Answer: 12" if chat else " 12"
    model = ScriptedModel(["Think.", "Think more.", last], chat=chat)
    draft = searched(model, branches=1, depth=2)
    assert draft.answer == "12"
    assert [one.thought for one in draft.thoughts] == ["Think.", "Think more."]
    assert draft.decisions[-1].action == "answer"
    assert "vote_share" not in draft.signals
    assert "answer_log_prob" in draft.signals
    if not chat:
        assert model.prompts[-1].endswith("Step 1: Think.\nStep 2: Think more.\nAnswer:")
    else:
        assert "Step 2: Think more.\n\nWrite only one line" in model.prompts[-1]
    assert model.settings[-1]["temperature"] == 0


def test_a_path_that_never_states_an_answer_is_told_in_words() -> None:
    draft = searched(ScriptedModel(["Think.", "I do not know."]), branches=1, depth=1)
    assert draft.answer is None
    assert draft.error == "no path of steps states an answer: the text states no answer"
    assert [one.thought for one in draft.thoughts] == ["Think."]


def test_a_model_that_says_no_more_is_asked_for_the_answer_of_what_it_said() -> None:
    draft = searched(ScriptedModel(["It is 4 * 3 = 12.", "", "12"]), branches=1)
    assert draft.answer == "12"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the model wrote nothing"),
        ("\n\n\n", "the model wrote nothing but space"),
        ("again and again " + NEVER_ENDS, "the steps only repeat themselves"),
    ],
)
def test_a_broken_model_gives_words(line: str, words: str) -> None:
    draft = searched(ScriptedModel(lambda prompt, place: line))
    assert draft.answer is None
    assert draft.error == f"no path of steps states an answer: {words}"
    assert draft.thoughts == ()


def test_steps_that_say_a_step_again_are_no_steps() -> None:
    draft = searched(ScriptedModel(lambda prompt, place: "I think."), branches=2)
    assert len(draft.thoughts) == 1
    assert draft.answer is None
    assert "2 that repeat themselves" in rounds(draft)[1]


def test_a_value_function_that_raises_or_gives_no_number_loses() -> None:
    def value(_: str, steps: Any) -> Any:
        return {"a": math.nan, "b": None, "c": 0.1, "d": 1 / 0 if steps[-1][0] == "d" else 0}[
            steps[-1][0]
        ]

    lines = [f"{name}\nAnswer: {number}" for number, name in enumerate("abcd")]
    draft = searched(ScriptedModel(lines), branches=4, width=4, value=value)
    assert draft.answer == "2"
    said = [one.reason for one in draft.decisions if one.action == "value"]
    assert "NaN" in said[0]
    assert "TypeError" in said[1]
    assert "ZeroDivisionError" in said[2]


def test_a_value_function_that_hangs_is_asked_once_a_problem() -> None:
    asked = []

    def value(problem: str, steps: Any) -> float:
        asked.append(problem)
        threading.Event().wait(60)
        return 1.0

    model = ScriptedModel([("a\nAnswer: 1", -2.0), ("b\nAnswer: 2", -0.1)] * 2)
    drafts = tree_search(
        Sampler(model),
        [PENS, PENS + " Really?"],
        Settings(branches=2, width=2, value=value, verifier_seconds=0.05),
    )
    assert len(asked) == 2
    assert [draft.answer for draft in drafts] == ["2", "2"]  # equal values: the likelier path
    assert any("not asked again" in one.reason for one in drafts[0].decisions)


def test_the_budgets_end_leaves_the_best_so_far() -> None:
    model = ScriptedModel(["Some words here.", "Words.\nAnswer: 12", "More.", "More."])
    sampler = Sampler(model, budget=Budget(tokens=8))
    draft = tree_search(sampler, [PENS], Settings(branches=2, width=2))[0]
    assert draft.answer == "12"
    assert any(one.action == "stop" for one in draft.decisions) or len(model.settings) > 1
    again = Sampler(ScriptedModel(["One two three.", "Four five six."]), budget=Budget(tokens=6))
    draft = tree_search(again, [PENS], Settings(branches=2))[0]
    assert draft.answer is None
    assert "the budget of tokens or seconds ended" in draft.error
    assert len(draft.thoughts) == 1
    assert [one.action for one in draft.decisions] == ["round 1", "stop", "stop"]


def test_a_budget_that_allows_nothing_is_raised() -> None:
    sampler = Sampler(ScriptedModel(), budget=Budget(tokens=1))
    with pytest.raises(BudgetEnded):
        tree_search(sampler, [PENS], Settings(branches=2))


def test_the_time_may_end_while_paths_are_valued(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(["a\nAnswer: 1", "4 * 3 = 13\nAnswer: 13"])
    sampler = Sampler(model, budget=Budget(seconds=1000))

    def late(*_: Any) -> float:
        raise BudgetEnded

    monkeypatch.setattr(sampler, "preference", late)
    draft = tree_search(sampler, [PENS], Settings(branches=2))[0]
    assert draft.answer == "1"
    assert draft.decisions[-1].reason.endswith("before all paths were valued")


def test_a_context_without_room_ends_the_search() -> None:
    probe = ScriptedModel(["Think about it.", "8"])
    searched(probe, branches=1, depth=1)
    first = len(probe.tokenizer.encode(probe.prompts[0]))
    model = ScriptedModel(["Think about it.", "12"], context=first + 18)
    draft = searched(model, branches=1)
    assert draft.answer == "12"  # that prompt is shorter
    assert any("no room for another step" in one.reason for one in draft.decisions)
    draft = searched(ScriptedModel([" ".join(map(str, range(60)))], context=first + 18), branches=1)
    assert draft.answer is None
    assert "no room to ask for the answer" in draft.error
    with pytest.raises(UserError):
        searched(ScriptedModel(context=8))


def test_code_has_one_step() -> None:
    code = "```python\ndef f(x):\n    return x\n\nStep 2\n```"
    model = ScriptedModel([code, "Sorry."], preferring("def f"))
    draft = searched(model, "Write a function f that returns x.", branches=2)
    assert draft.answer == "def f(x):\n    return x\n\nStep 2"
    assert model.settings[0]["max_tokens"] == 512
    assert len(draft.thoughts) == 1
    model = ScriptedModel(["Sorry.", "No."])
    draft = searched(model, "Write a function f that returns x.", branches=2)
    assert draft.answer is None
    assert draft.error == "no path of steps states an answer: the text states no answer"


def test_a_batch_is_searched_together_and_keeps_its_order() -> None:
    def say(prompt: str, place: int) -> str:
        if "Write a function" in prompt:
            return "```python\nx = 1\n```"
        if "blank" in prompt:
            return ""
        return "Answer: 12" if "so far:" in prompt else "Think."

    model = ScriptedModel(say)
    drafts = tree_search(
        Sampler(model), ["What is blank?", PENS, "Write a function f."], Settings(branches=2)
    )
    assert [draft.answer for draft in drafts] == [None, "12", "x = 1"]
    assert len(model.settings) == 3  # steps, code, and the second steps
