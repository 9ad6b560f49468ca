"""The constitution applied: what is safe passes, what is not is revised or declined in words."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.reasoning import judgement
from lilith.reasoning.constitution import (
    Constitution,
    ConstitutionError,
    load_constitution,
    violation_prompt,
)
from lilith.reasoning.constitutional import ConstitutionalAI
from lilith.reasoning.judgement import Preference
from lilith.reasoning.prompt_sets import load_prompts
from lilith.reasoning.safety_rules import CATEGORIES, find_harm, refusal_for
from lilith.reasoning.sampler import Budget, ReasoningError, Sampler
from lilith.reasoning.trace import ReasoningTrace
from lilith.reasoning.violations import declines, rule_violations, without_personal_data

OWN = load_constitution()
HARMFUL = "Our plan: spoof the order book and sell."
PLAIN = "What is a bond?"
ANSWER = "A bond is a loan."
CARD = "4111 1111 1111 1111"

Judge = Callable[[str, Sequence[str]], list[float]]


def judge(odds: Callable[[str, str], float], bias: float = 0.0) -> Judge:
    """A judge of violations: log-odds of "yes" by principle and answer, and a liking for (A)."""

    def scores(prompt: str, continuations: Sequence[str]) -> list[float]:
        assert list(continuations) == ["A", "B"]
        principle = next(one.id for one in OWN.principles if one.statement in prompt)
        answer = prompt.split("\n\nAnswer:\n")[1].split("\n\nPrinciple:")[0]
        sign = 1 if "(A) yes" in prompt else -1
        gap = bias + sign * odds(principle, answer)
        return [-math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))]

    return scores


CALM = judge(lambda principle, answer: -3)


def strict(principle: str, *words: str) -> Judge:
    """Says that one principle is violated by an answer that holds one of the words."""
    return judge(lambda one, text: 3 if one == principle and any(w in text for w in words) else -3)


def made(lines: Any = (), scores: Any = CALM, **settings: Any) -> tuple[ConstitutionalAI, Any]:
    model = ScriptedModel(lines, scores, chat=settings.pop("chat", True))
    return ConstitutionalAI(model, **settings), model


def actions(ai: ConstitutionalAI) -> list[str]:
    return [one.action for one in ai.decisions]


def test_a_decent_answer_passes_as_it_is() -> None:
    ai, model = made()
    assert ai.apply_constitution(PLAIN, ANSWER) == (ANSWER, True, [])
    assert len(model.scored) == 2 * len(OWN.principles)
    assert model.prompts == []
    assert actions(ai) == ["judge"]
    assert ai.decisions[0].reason == "0 found by rules, 0 by the model"
    assert ai.decisions[0].tokens == sum(len(model.encode(p)) for p in model.scored)


def test_a_harmful_request_declined_is_safe_whatever_the_model_thinks() -> None:
    ai, model = made(scores=judge(lambda principle, answer: 9))
    declined = "I will not help with that. It is market manipulation."
    assert ai.apply_constitution(HARMFUL, declined) == (declined, True, [])
    assert model.scored == []


def test_a_harmful_request_complied_with_is_revised_by_the_model() -> None:
    revision = "I can not help with spoofing, since it deceives others. I can explain hedging."
    ai, model = made([revision])
    safe, is_safe, (one,) = ai.apply_constitution(HARMFUL, "Sure, sell at noon.")
    assert (safe, is_safe) == (revision, False)
    assert (one.principle, one.severity, one.category) == (
        "harmlessness", "high", "market_manipulation",
    )  # fmt: skip
    assert one.evidence in HARMFUL
    assert one.evidence
    assert one.how.startswith("rule: ")
    assert one.how.endswith("which the answer does not decline")
    prompt = model.prompts[0]
    assert OWN.get("harmlessness").statement in prompt
    assert one.evidence in prompt.split("Critique: ")[1]
    assert any(text in prompt for text in OWN.get("harmlessness").revisions)
    assert actions(ai) == ["judge", "revise", "judge"]
    assert "rewrote it for Harmlessness" in ai.decisions[1].reason


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        ("Sure: spoof the order book at noon.", "rewrote it"),
        ("", "wrote no revision"),
        ("\n\n", "wrote no revision"),
        (f"I will not {NEVER_ENDS}", "did not end within 40 tokens"),
        ("I will not help.\n" * 6, "again and again"),
    ],
)
def test_a_revision_that_fails_gives_a_refusal_that_fits(revision: str, reason: str) -> None:
    ai, _ = made([revision], max_tokens=40)
    safe, is_safe, violations = ai.apply_constitution(HARMFUL, "Sure, sell at noon.")
    assert (safe, is_safe) == (refusal_for("market_manipulation"), False)
    assert len(violations) == 1
    assert any(reason in one.reason for one in ai.decisions if one.action == "revise")
    assert actions(ai)[-1] == "decline"
    assert rule_violations(HARMFUL, safe) == []


def test_more_revisions_go_on_from_the_last() -> None:
    lines = ["First spoof the order book.", "I will not help with spoofing."]
    ai, model = made(lines, max_revisions=2)
    safe, _, _ = ai.apply_constitution(HARMFUL, "Sure, sell at noon.")
    assert safe == lines[1]
    assert lines[0] in model.prompts[1]


def test_harmful_words_in_the_answer_count_after_a_harmless_request_too() -> None:
    ai, _ = made(use_model=False)
    answer = "First, launder the cash through a bar."
    safe, is_safe, (one,) = ai.apply_constitution("How do I get rich?", answer)
    assert (safe, is_safe) == (refusal_for("laundering"), False)
    assert one.evidence in answer
    half = "I will not help with that. First, launder the cash through a bar."
    assert ai.judge("How do I launder cash?", half)[0].evidence == "launder"


def test_personal_data_are_removed_and_the_rest_stays() -> None:
    ai, model = made()
    safe, is_safe, (one,) = ai.apply_constitution(PLAIN, f"A loan. Pay with {CARD} now.")
    assert (safe, is_safe) == ("A loan. Pay with [card number removed] now.", False)
    assert (one.principle, one.severity, one.data) == ("privacy", "high", True)
    assert CARD[-4:] in one.evidence
    assert CARD[:4] not in one.evidence
    assert "Luhn" in one.how
    assert model.prompts == []
    assert actions(ai) == ["judge", "redact"]


@pytest.mark.parametrize(
    ("prompt", "answer", "safe"),
    [
        ("Sign as ana@corp.com.", "Regards, ANA@corp.com", "Regards, ANA@corp.com"),
        ("Sign as Ana.", "Regards, ana@corp.com", "Regards, [e-mail address removed]"),
        ("Sign as ana@corp.com.", "bob@corp.com", "[e-mail address removed]"),
        (f"Is {CARD} valid?", f"{CARD} is valid.", "[card number removed] is valid."),
    ],
)
def test_the_persons_own_address_stays_and_their_card_does_not(
    prompt: str, answer: str, safe: str
) -> None:
    found = ConstitutionalAI(use_model=False).apply_constitution(prompt, answer)
    assert found[:2] == (safe, safe == answer)
    assert without_personal_data(prompt, answer) == safe


def test_the_model_finds_a_violation_and_names_the_sentence() -> None:
    answer = "A bond is a loan. Only fools buy them. Ask your bank."
    revision = "A bond is a loan. Ask your bank."
    ai, model = made([revision], strict("respect", "fools"))
    safe, is_safe, (one,) = ai.apply_constitution(PLAIN, answer)
    assert (safe, is_safe) == (revision, False)
    assert (one.principle, one.severity, one.evidence) == (
        "respect", "medium", "Only fools buy them.",
    )  # fmt: skip
    assert one.probability == pytest.approx(1 / (1 + math.exp(-3)))
    assert "model: it violates the principle with probability 0.95" in one.how
    assert "threshold 0.7" in one.how
    assert "Only fools buy them." in model.prompts[0].split("Critique: ")[1]


@pytest.mark.parametrize("principle", ["harmlessness", "honesty", "respect", "privacy"])
def test_a_refusal_for_what_only_the_model_finds_names_the_principle(principle: str) -> None:
    ai, _ = made(["Still bad."], strict(principle, "bad"))
    safe, is_safe, violations = ai.apply_constitution(PLAIN, "This is bad.")
    assert not is_safe
    assert safe.startswith('You asked: "What is a bond".')
    assert f"my principle here: {OWN.get(principle).title}" in safe
    assert " can " in safe
    assert [one.principle for one in violations] == [principle]
    assert rule_violations(PLAIN, safe) == []


def test_the_quote_in_a_refusal_is_short_and_without_personal_data() -> None:
    ai, _ = made([""], strict("honesty", "bad"))
    safe, _, _ = ai.apply_constitution(f"My card is {CARD}. " + "Tell me more " * 40, "bad")
    assert "[card number removed]" in safe
    assert CARD not in safe
    assert len(safe) < 420


def test_an_unhelpful_answer_is_better_than_a_refusal() -> None:
    ai, _ = made(["A revision that is bad too."], strict("helpfulness", "bad"))
    safe, is_safe, (one,) = ai.apply_constitution(PLAIN, "This is bad.")
    assert (safe, is_safe, one.principle) == ("This is bad.", False, "helpfulness")
    assert actions(ai)[-1] == "keep"
    revision = "I will not help with spoofing: bad."
    ai, _ = made([revision], strict("helpfulness", "bad"))
    assert ai.apply_constitution(HARMFUL, "Sure.")[0] == revision


@pytest.mark.parametrize("bias", [-8.0, 0.0, 8.0])
def test_a_letter_that_the_model_likes_is_no_violation(bias: float) -> None:
    ai, _ = made(scores=judge(lambda principle, answer: 0, bias))
    assert ai.judge(PLAIN, ANSWER) == []


def test_the_threshold_is_where_the_models_word_begins_to_count() -> None:
    almost = judge(lambda principle, answer: 1.0)  # 0.731
    assert made(scores=almost, threshold=0.74)[0].judge(PLAIN, ANSWER) == []
    assert len(made(scores=almost, threshold=0.73)[0].judge(PLAIN, ANSWER)) == 5


def test_rules_alone_ask_no_model() -> None:
    ai, model = made(use_model=False)
    assert not ai.apply_constitution(HARMFUL, "Sure.")[1]
    assert (model.scored, model.prompts) == ([], [])
    assert ConstitutionalAI(use_model=False).judge(PLAIN, ANSWER) == []


def test_an_empty_answer_violates_nothing() -> None:
    ai, model = made()
    assert ai.apply_constitution(HARMFUL, " \n") == (" \n", True, [])
    assert model.scored == []


class Ending(Sampler):
    """A budget that ends at a number of questions of either kind."""

    def __init__(self, model: Any, asked: int) -> None:
        super().__init__(model, budget=Budget(tokens=10**6, seconds=1000))
        self.asked = asked

    def _count(self) -> None:
        self.asked -= 1
        if self.asked < 0:
            self.budget = Budget(seconds=1e-12)

    def samples(self, *args: Any, **settings: Any) -> Any:
        self._count()
        return super().samples(*args, **settings)

    def preference(self, *args: Any) -> float:
        self._count()
        return super().preference(*args)


def ending(asked: int, lines: Any, scores: Judge) -> ConstitutionalAI:
    model = ScriptedModel(lines, scores)
    return ConstitutionalAI(model, sampler=Ending(model, asked))


def test_where_the_budget_ends_what_the_rules_say_stands() -> None:
    ai = ending(3, [], CALM)
    assert ai.apply_constitution(PLAIN, ANSWER) == (ANSWER, True, [])
    assert "the budget ended before the model had judged" in ai.decisions[0].reason
    ai = ending(0, [], CALM)
    assert ai.apply_constitution(HARMFUL, "Sure.")[:2] == (
        refusal_for("market_manipulation"), False,
    )  # fmt: skip
    assert "the budget ended before a revision" in ai.decisions[1].reason


def test_a_revision_that_the_budget_left_unjudged_stands_only_against_rules() -> None:
    revision = "I will not help with that, and here is why not."
    # 8 questions on the four principles without a rule's finding, one revision; then it ends.
    ai = ending(9, [revision], CALM)
    assert ai.apply_constitution(HARMFUL, "Sure.")[0] == revision
    # 10 questions on five principles, one sentence, one revision, 3 of its 10 questions.
    ai = ending(14, ["A good one."], strict("respect", "bad"))
    safe, _, _ = ai.apply_constitution(PLAIN, "This is bad.")
    assert safe.startswith("You asked:")
    ai = ending(21, ["A good one."], strict("respect", "bad"))
    assert ai.apply_constitution(PLAIN, "This is bad.")[0] == "A good one."


def test_the_budget_may_end_while_the_words_are_looked_for() -> None:
    ai = ending(9, [], strict("respect", "bad"))
    answer = "One thing. This is bad. More."
    (one,) = ai.judge(PLAIN, answer)
    assert one.evidence in answer


def test_what_is_longer_than_the_context_is_judged_by_rules() -> None:
    model = ScriptedModel(["I will not."], CALM, context=60)
    ai = ConstitutionalAI(model)
    safe, _, _ = ai.apply_constitution(HARMFUL, "Sure. " * 80)
    assert safe == refusal_for("market_manipulation")
    assert "longer than the context" in ai.decisions[1].reason

    class Short(ScriptedModel):
        def score(self, prompt: Any, continuations: Any) -> list[float]:
            raise ReasoningError("both pass the context")

    ai = ConstitutionalAI(Short())
    assert ai.apply_constitution(PLAIN, ANSWER) == (ANSWER, True, [])
    assert "could not judge: both pass the context" in ai.decisions[0].reason


def test_a_base_model_is_given_plain_text() -> None:
    revision = "I will not help with that.\n\nRequest:\nanother"
    ai, model = made([revision], chat=False)
    assert ai.apply_constitution(HARMFUL, "Sure.")[0] == "I will not help with that."
    assert model.prompts[0].endswith("Revised answer:")
    assert model.scored[0].endswith("The right choice is (")


def test_another_constitution(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[[principle]]\nid = "brevity"\ntitle = "Brevity"\nstatement = "It is brief."\n'
        'severity = "low"\ncritiques = ["Is it?"]\nrevisions = ["Shorten it."]\n'
        'comparison = "Which is briefer? (A) one (B) two"\n'
    )
    model = ScriptedModel(["Long."], lambda prompt, both: [0.0, -3.0] if "(A) yes" in prompt
                          else [-3.0, 0.0])  # fmt: skip
    ai = ConstitutionalAI(model, constitution=path)
    safe, is_safe, (one,) = ai.apply_constitution(PLAIN, "Long.")
    assert (one.principle, one.severity, is_safe) == ("brevity", "low", False)
    assert "my principle here: Brevity" in safe
    # The rules' principles are not in it: nothing to revise by, so it declines.
    safe, _, _ = ConstitutionalAI(
        ScriptedModel(scores=lambda prompt, both: [0.0, 0.0]), constitution=path
    ).apply_constitution(HARMFUL, "Sure.")
    assert safe == refusal_for("market_manipulation")
    path.write_text("")
    with pytest.raises(ConstitutionError, match="no principles"):
        ConstitutionalAI(model, constitution=path)
    with pytest.raises(ConstitutionError, match="no principles"):
        Constitution(())


def test_bad_arguments_are_errors_in_words() -> None:
    ai, model = made()
    nothing: Any = None
    for call, words in [
        (lambda: ai.judge(" ", ANSWER), "the prompt is empty"),
        (lambda: ai.judge(PLAIN, nothing), "the answer is a NoneType"),
        (lambda: ConstitutionalAI(model, threshold=0.5), "threshold is 0.5"),
        (lambda: ConstitutionalAI(model, max_revisions=-1), "max_revisions is -1"),
        (lambda: ConstitutionalAI(), "there is no model"),
        (lambda: ConstitutionalAI(use_model=False).compare("a", "b", "c"), "by a model"),
        (lambda: judgement.averaged([]), "no preferences"),
    ]:
        with pytest.raises(ReasoningError, match=words):
            call()
    with pytest.raises(ConstitutionError, match="no principle 'honest'"):
        ai.compare(PLAIN, "a", "b", "honest")


def test_violations_fit_into_a_trace() -> None:
    violations = made(use_model=False)[0].judge(HARMFUL, f"Sure, with {CARD}.")
    trace = ReasoningTrace(HARMFUL, violations=tuple(one.to_dict() for one in violations))
    assert ReasoningTrace.from_json(trace.to_json()) == trace
    content = json.loads(trace.to_json())["violations"][0]
    assert {"principle", "severity", "evidence", "how"} <= content.keys()


# --- (A) against (B) ---------------------------------------------------------------------------


def liking(text: str, odds: float, bias: float) -> Judge:
    def scores(prompt: str, continuations: Sequence[str]) -> list[float]:
        gap = bias + (odds if text in prompt.split("\n\n(B)\n")[0] else -odds)
        return [-math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))]

    return scores


@pytest.mark.parametrize("bias", [-6.0, -1.0, 0.0, 1.0, 6.0])
def test_comparing_cancels_a_planted_position_bias(bias: float) -> None:
    ai, model = made(scores=liking("nothing", 0.0, bias))
    found = ai.preference(PLAIN, "one", "two", "honesty")
    assert found.probability == pytest.approx(0.5)
    assert found.letter_bias == pytest.approx(1 / (1 + math.exp(-bias)) - 0.5)
    assert not found.agrees
    assert OWN.get("honesty").comparison in model.scored[0]
    ai, _ = made(scores=liking("one", 0.5, bias))
    assert ai.compare(PLAIN, "one", "two", "honesty") > 0.5
    assert ai.compare(PLAIN, "two", "one", OWN.get("honesty")) < 0.5
    total = ai.compare(PLAIN, "one", "two") + ai.compare(PLAIN, "two", "one")
    assert total == pytest.approx(1)


def test_comparing_by_all_principles_averages_them() -> None:
    def scores(prompt: str, continuations: Sequence[str]) -> list[float]:
        return liking("one", 2.0 if OWN.get("honesty").comparison in prompt else -1.0, 0)(
            prompt, ""
        )

    ai, _ = made(scores=scores)
    each = [ai.compare(PLAIN, "one", "two", one) for one in OWN.ids]
    assert ai.compare(PLAIN, "one", "two") == pytest.approx(sum(each) / 5)
    assert max(each) == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_preference_says_whether_its_orders_agree() -> None:
    assert Preference(0.9, 0.6).agrees
    assert Preference(0.1, 0.4).agrees
    assert not Preference(0.9, 0.4).agrees
    assert not Preference(0.5, 0.9).agrees
    mean = judgement.averaged([Preference(0.9, 0.5), Preference(0.7, 0.1)])
    assert (mean.as_a, mean.as_b) == (pytest.approx(0.8), pytest.approx(0.3))
    assert mean.letter_bias == pytest.approx(0.25)


def test_the_judgement_names_both_letters_in_either_order() -> None:
    principle = OWN.get("honesty")
    yes, no = (violation_prompt(PLAIN, "", principle, yes_is_a=a) for a in (True, False))
    assert "(A) yes (B) no" in yes
    assert "(A) no (B) yes" in no
    assert "(no text)" in yes
    assert yes.endswith("The right choice is (")
    with pytest.raises(ConstitutionError, match="the prompt is empty"):
        violation_prompt(" ", "", principle, yes_is_a=True)


# --- rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can’t assist with that.",
        "No, I will not do this.",
        "Spoofing is illegal. Talk to compliance.",
        "I understand. That is hard. I have to decline, though.",
        "I'm not able to provide that.",
        "We cannot help.",
        "I am not going to write this.",
        "Sorry, I can't.",
        "I must respectfully decline.",
    ],
)
def test_answers_that_decline(answer: str) -> None:
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! Don't forget to sell afterwards. Never tell anyone.",
        "I can not recommend it, but here's how: place large orders.",
        "I will not help. Still, here are the steps.",
        "That is illegal. Step 1: open an account.",
        "One. Two. Three. Four. I will not help.",
        "I can't wait to help you.",
    ],
)
def test_answers_that_only_seem_to_decline(answer: str) -> None:
    assert not declines(answer)


def test_who_speaks_of_their_own_death_is_answered_with_care() -> None:
    caring = "I'm so glad you told me. You can call 988 at any hour."
    assert rule_violations("I want to kill myself.", caring) == []
    assert rule_violations("I want to kill myself.", "Take many pills.")
    assert rule_violations(HARMFUL, caring)


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_refusal_passes_the_rules_after_each_harmful_request(category: str) -> None:
    refusal = refusal_for(category)
    prompts = [one.prompt for one in load_prompts("harmful") if one.category == category]
    assert prompts
    for prompt in prompts:
        assert rule_violations(prompt, refusal) == [], prompt
        assert without_personal_data(prompt, refusal) == refusal


def test_the_rules_answer_all_harmful_prompts_and_leave_the_others_alone() -> None:
    ai = ConstitutionalAI(use_model=False)
    flagged = 0
    for one in load_prompts("harmful"):
        safe, is_safe, violations = ai.apply_constitution(one.prompt, "Sure, here you are.")
        assert is_safe == (not violations) == (not find_harm(one.prompt))
        assert rule_violations(one.prompt, safe) == []
        flagged += not is_safe
    assert flagged == 222
    for name in ("frightening", "plain"):
        assert all(
            ai.apply_constitution(one.prompt, "Gladly.") == ("Gladly.", True, [])
            for one in load_prompts(name)[::4]  # all of them: test_safety_rules
        )
