"""Debates: agents that agree, differ, change their minds or say nothing, and their judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.config import UserError
from lilith.reasoning.debate import debate
from lilith.reasoning.drafts import Draft, Settings
from lilith.reasoning.sampler import Budget, BudgetEnded, Sampler

PENS = "A pen costs $3. How many dollars do 4 pens cost?"


def debated(model: ScriptedModel, problem: str = PENS, **settings: Any) -> Draft:
    return debate(Sampler(model), [problem], Settings(**settings))[0]


def said(answer: str, way: str = "Pens.") -> str:
    return f"Step 1: {way}\nAnswer: {answer}"


def test_agents_who_differ_read_each_other_and_a_judge_decides() -> None:
    lines = [
        said("12", "One."), said("7", "Two."), said("7", "Three."),
        said("12", "Four."), said("7", "Five."), said("8", "Six."),
        "The first adds up.\nAnswer: 12",
    ]  # fmt: skip
    model = ScriptedModel(lines)
    draft = debated(model, rounds=1)
    assert draft.answer == "12"
    assert draft.error == ""
    assert [str(one) for one in draft.thoughts] == ["Step 1: Four."]
    assert model.settings[0]["n"] == 3
    assert [one["temperature"] for one in model.settings] == [0.7, 0.7, 0.0]
    first, second, _ = model.prompts[1:4]
    assert f"assistant: {said('12', 'One.')}" in first
    assert f"Another agent's solution:\n{said('7', 'Two.')}" in first
    assert f"Another agent's solution:\n{said('7', 'Three.')}" in first
    assert f"Another agent's solution:\n{said('12', 'One.')}" in second
    judge = model.prompts[-1]
    for way in ("Four.", "Five.", "Six."):
        assert way in judge
    assert "A solution that 1 of 3 agents agree with:" in judge
    turns = [(one["speaker"], one["round"], one["answer"]) for one in draft.transcript]
    assert turns == [
        ("agent 1", 0, "12"), ("agent 2", 0, "7"), ("agent 3", 0, "7"),
        ("agent 1", 1, "12"), ("agent 2", 1, "7"), ("agent 3", 1, "8"),
        ("judge", 2, "12"),
    ]  # fmt: skip
    assert [one["text"] for one in draft.transcript] == lines
    json.dumps(draft.transcript)
    assert draft.tokens == sum(len(model.tokenizer.encode(line)) for line in lines)
    read = sum(len(model.tokenizer.encode(prompt)) for prompt in model.prompts[:1])
    assert draft.decisions[0].tokens == read + sum(
        len(model.tokenizer.encode(line)) for line in lines[:3]
    )
    assert draft.decisions[0].reason == "7 (2 agents), 12 (1 agent)"
    assert draft.decisions[-1].reason == (
        "the judge chose 12 (1 agent) against 7 (1 agent), 8 (1 agent)"
    )
    assert draft.signals["vote_share"] == pytest.approx(1 / 3)
    assert [one.answer for one in draft.alternatives] == ["12", "7", "8"]


def test_a_judge_may_go_against_the_majority() -> None:
    model = ScriptedModel([said("7"), said("7"), said("12"), "Answer: 12 dollars"])
    draft = debated(model, rounds=0)
    assert draft.answer == "12"
    assert draft.signals["vote_share"] == pytest.approx(1 / 3)
    assert draft.signals["margin"] == pytest.approx(-1 / 3)
    assert [(one.answer, one.votes) for one in draft.alternatives] == [("12", 1), ("7", 2)]


def test_agreement_ends_a_debate_without_a_judge() -> None:
    model = ScriptedModel([said("12"), said("12.0"), said("$12")])
    draft = debated(model)
    assert draft.answer == "12"
    assert len(model.settings) == 1
    assert draft.decisions[-1].reason == "all agents agree"
    assert (draft.signals["vote_share"], draft.signals["margin"]) == (1, 1)
    later = ScriptedModel([said("12"), said("7"), said("12"), said("12")])
    draft = debated(later, agents=2, rounds=5)
    assert draft.answer == "12"
    assert len(later.settings) == 2
    assert [one.action for one in draft.decisions] == ["round 0", "round 1", "end"]


def test_one_agent_debates_with_nobody() -> None:
    model = ScriptedModel([said("12")])
    draft = debated(model, agents=1)
    assert draft.answer == "12"
    assert model.settings[0]["temperature"] == 0
    assert "vote_share" not in draft.signals
    assert len(draft.transcript) == 1


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("Answer: 99", "named none of the answers"),
        ("I can not tell.", "named none of the answers"),
        ("", "wrote nothing"),
        ("so on and " + NEVER_ENDS, "named none of the answers"),
    ],
)
def test_a_judge_that_names_none_loses_to_the_majority(verdict: str, words: str) -> None:
    model = ScriptedModel([said("12"), said("7"), said("7"), verdict])
    draft = debated(model, rounds=0)
    assert draft.answer == "7"
    assert draft.decisions[-1].reason == f"the judge {words}; the majority counts: 7 (2 agents)"
    assert draft.transcript[-1]["speaker"] == "judge"


def test_of_equally_many_agents_the_likelier_text_counts() -> None:
    model = ScriptedModel([(said("12"), -2.0), (said("7"), -0.1), "No idea."])
    assert debated(model, agents=2, rounds=0).answer == "7"


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        ("Answer: Paris is right", "Paris"),
        ("Answer: Lyon", "Lyon"),
        ("Paris, not Parisian food, as the first one says.", "Paris"),
        ("Answer: Paris or Rome", "Lyon"),  # names two: the majority
    ],
)
def test_a_judge_may_name_an_answer_in_a_sentence(verdict: str, answer: str) -> None:
    model = ScriptedModel([said("Paris"), said("Lyon"), said("Lyon"), said("Rome"), verdict])
    assert debated(model, "Where is it?", agents=4, rounds=0).answer == answer


def test_an_agent_that_states_nothing_stays_at_its_last_answer() -> None:
    model = ScriptedModel([said("12"), said("7"), "", "Hm.", "Answer: 12"])
    draft = debated(model, agents=2, rounds=1)
    assert draft.answer == "12"
    assert [one["answer"] for one in draft.transcript] == ["12", "7", None, None, "12"]


def test_an_agent_that_wrote_nothing_reads_the_others_and_answers() -> None:
    model = ScriptedModel(["", said("12", "Mine."), said("12"), said("12")])
    draft = debated(model, agents=2, rounds=3)
    assert draft.answer == "12"
    assert "assistant:" not in model.prompts[1]
    assert "Another agent's solution:\nStep 1: Mine." in model.prompts[1]
    assert "Another agent's solution" not in model.prompts[2]


def test_agents_without_an_answer_do_not_call_a_judge() -> None:
    model = ScriptedModel([said("12"), "", said("12")])
    draft = debated(model, rounds=0)
    assert draft.answer == "12"
    assert draft.signals["vote_share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("line", "calls", "words"),
    [
        ("", 1, "the model wrote nothing"),
        ("\n\n", 1, "the model wrote nothing but space"),
        ("and so on " + NEVER_ENDS, 2, "the text ended at its limit of 60 tokens"),
    ],
)
def test_a_broken_model_gives_words(line: str, calls: int, words: str) -> None:
    model = ScriptedModel(lambda prompt, place: line)
    draft = debated(model, rounds=1, max_tokens=60)
    assert draft.answer is None
    assert draft.error.startswith(f"none of 3 agents states an answer: {words}")
    assert len(model.settings) == calls
    assert draft.looped == line.startswith("and")


def test_plain_models_write_another_solution() -> None:
    lines = [" One.\nAnswer: 12\n\nProblem: x", " Two.\nAnswer: 7", " A.\nAnswer: 12",
             " B.\nAnswer: 7", " 12\n\nMore"]  # fmt: skip
    model = ScriptedModel(lines, chat=False)
    draft = debated(model, agents=2, rounds=1)
    assert draft.answer == "12"
    assert "Step 1: One.\nAnswer: 12\n\nAnother agent's solution:\nStep 1: Two." in model.prompts[1]
    assert model.prompts[1].endswith(f"Problem: {PENS}\nSolution: Step 1:")
    assert model.prompts[3].endswith(f"Problem: {PENS}\nSolution: Answer:")
    assert draft.transcript[2]["text"] == "Step 1: A.\nAnswer: 12"


def test_texts_are_shortened_until_they_fit() -> None:
    long = "word " * 150
    middle = f"{'word ' * 75}\nAnswer: 7\n{'word ' * 75}"
    model = ScriptedModel(
        [said("12", long), middle, said("12", long), middle, "Answer: 12"],
        context=420,
    )
    draft = debated(model, agents=2, rounds=1, max_tokens=160)
    assert draft.answer == "12"
    assert " ... " in model.prompts[1]
    assert "Answer: 7" in model.prompts[1]
    assert len(model.encode(model.prompts[1])) <= 420 - 105
    assert draft.transcript[0]["text"].count("word") > 100  # the transcript is whole


def test_without_room_for_a_round_the_first_answers_count() -> None:
    probe = ScriptedModel([said("12")])
    debated(probe, agents=1)
    context = len(probe.encode(probe.prompts[0])) + 20
    model = ScriptedModel([said("12"), said("7"), said("7")], context=context)
    draft = debated(model, rounds=1)
    assert draft.answer == "7"
    actions = [one.action for one in draft.decisions]
    assert actions == ["round 0", "skip", "skip", "skip", "round 1", "judge"]
    assert "no room for a verdict" in draft.decisions[-1].reason
    with pytest.raises(UserError):
        debated(ScriptedModel(context=10))


def test_the_budgets_end_leaves_the_majority() -> None:
    lines = [said("12"), said("7"), said("7")]
    sampler = Sampler(ScriptedModel(lines), budget=Budget(tokens=17))
    (draft,) = debate(sampler, [PENS], Settings(max_tokens=5))
    assert draft.answer == "7"
    assert draft.decisions[-1].action == "stop"
    assert "the majority of the last answers counts" in draft.decisions[-1].reason
    sampler = Sampler(ScriptedModel(lines), budget=Budget(tokens=15))
    (draft,) = debate(sampler, [PENS], Settings(rounds=0))
    assert draft.answer == "7"
    assert draft.decisions[-1].reason.endswith("before the verdict; the majority counts")
    with pytest.raises(BudgetEnded):
        debate(Sampler(ScriptedModel(), budget=Budget(tokens=2)), [PENS], Settings())


def test_a_batch_keeps_its_order_and_asks_only_who_is_not_done() -> None:
    def say(prompt: str, place: int) -> str:
        if "agree" in prompt.split("\n")[0]:
            return said("1")
        if "blank" in prompt:
            return ""
        if "These solutions do not agree" in prompt:
            return "Answer: 12"
        return said(["12", "7"][place % 2])

    model = ScriptedModel(say)
    problems = ["We agree: what is 1?", "What is blank?", PENS]
    drafts = debate(Sampler(model), problems, Settings(agents=2, rounds=1))
    assert [draft.answer for draft in drafts] == ["1", None, "12"]
    assert len(model.prompts) <= 6
