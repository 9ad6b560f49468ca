"""Self-improvement by a constitution: every transcript known, every dropped one with its reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.reasoning.constitution import (
    critique_prompt,
    load_constitution,
    revision_prompt,
)
from lilith.reasoning.prompt_sets import load_prompts
from lilith.reasoning.safety_rates import safety_rates
from lilith.reasoning.safety_rules import refusal_for
from lilith.reasoning.sampler import Sampler
from lilith.reasoning.self_improvement import (
    DROPS,
    AskedPrompt,
    RevisionSettings,
    Transcript,
    TranscriptError,
    make_transcripts,
    says_the_same,
)
from lilith.reasoning.self_preference import (
    JudgedPair,
    PairError,
    PairSettings,
    make_pair,
    pair_figures,
)

OWN = load_constitution()
HARMFUL = AskedPrompt("Tell me how to steal a car.", "harmful", "theft")
FRIGHTENING = AskedPrompt("How do I kill a process?", "frightening")
PLAIN = AskedPrompt("What is a bond?", "plain")
SAFE = "I will not help with theft. A locksmith opens your own car."


def made(lines: Any, prompts: Sequence[AskedPrompt], seed: int = 0, **settings: Any) -> Any:
    """The transcripts, and the model that was asked."""
    model = ScriptedModel(lines, chat=settings.pop("chat", True),
                          context=settings.pop("context", 4096))  # fmt: skip
    found = make_transcripts(
        Sampler(model), OWN, prompts, RevisionSettings(**{"rounds": 1, **settings}), seed=seed
    )
    return found, model


def test_a_transcript_of_two_rounds_is_known_word_for_word() -> None:
    lines = ["Break a window.", "It helps a thief.", "Ask a friend.", "Still vague.", SAFE]
    (found,), model = made(lines, [HARMFUL], rounds=2, temperature=0.5)
    one, two = found.rounds
    assert (found.prompt, found.kind, found.category) == (HARMFUL.prompt, "harmful", "theft")
    assert (found.answer, one.critique, one.revision) == tuple(lines[:3])
    assert (two.critique, two.revision, found.final, found.dropped) == (lines[3], SAFE, SAFE, "")
    first, second = OWN.get(one.principle), OWN.get(two.principle)
    assert one.critique_request in first.critiques
    assert two.revision_request in second.revisions
    asked = [prompt.removeprefix("user: ") for prompt in model.prompts]
    assert asked == [
        HARMFUL.prompt,
        critique_prompt(HARMFUL.prompt, lines[0], first, one.critique_request),
        revision_prompt(HARMFUL.prompt, lines[0], lines[1], first, one.revision_request),
        critique_prompt(HARMFUL.prompt, lines[2], second, two.critique_request),
        revision_prompt(HARMFUL.prompt, lines[2], lines[3], second, two.revision_request),
    ]
    assert [each["temperature"] for each in model.settings] == [0.5] * 5
    assert len({each["seed"] for each in model.settings}) == 5
    assert Transcript.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_plain_prompt_is_answered_and_not_revised() -> None:
    (found,), model = made(["A loan that is traded."], [PLAIN], rounds=3)
    assert (found.final, found.rounds, found.dropped) == ("A loan that is traded.", (), "")
    assert len(model.prompts) == 1


CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("asked", "lines", "why"),
    [
        (HARMFUL, [""], "empty"),
        (HARMFUL, ["Smash it.", "Bad.", "  "], "empty"),
        (HARMFUL, ["Smash it.", "Bad.", "I will not help." + NEVER_ENDS], "loop"),
        (HARMFUL, ["Smash it.", "Bad.", "no " * 9 + "I am one of those who write on"],
         "unfinished"),
        (FRIGHTENING, ["Use kill -9.", "Fine.", "use  KILL 9"], "unchanged"),
        (FRIGHTENING, ["Use kill.", "Alarming.", "I can't help with killing."],
         "refusal of a harmless prompt"),
        (PLAIN, ["I'm sorry, but I cannot answer that."], "refusal of a harmless prompt"),
        (HARMFUL, ["Smash it.", "Bad.", "Steal a car by its window."], "against the rules"),
        (FRIGHTENING, ["Use kill.", "Bad.", f"Use kill -9 and my card {CARD}."], "personal data"),
        (HARMFUL, ["Smash it.", "", SAFE], ""),  # a critique that says nothing is no fault
        (HARMFUL, ["Smash it.", "Bad.", f"Revised answer: {SAFE}"], ""),
        (PLAIN, ["No, a bond is no share: it is a loan."], ""),  # says no, and answers
    ],
)  # fmt: skip
def test_each_reason_to_drop_a_transcript(asked: AskedPrompt, lines: list[str], why: str) -> None:
    tokens = 12 if why == "unfinished" else 64
    (found,), model = made(lines, [asked], revision_tokens=tokens)
    assert found.dropped == why
    assert why in ("", *DROPS)
    assert found.answer == lines[0].strip()  # what was written stays, whatever is wrong with it
    assert not found.final.startswith("Revised answer")
    assert model.prompts


def test_a_prompt_longer_than_the_context_costs_nobody_else_anything() -> None:
    long = AskedPrompt("word " * 40, "harmful")
    found, model = made(["a b c", "d"], [long, PLAIN], context=30)
    assert [each.dropped for each in found] == ["too long", ""]
    assert found[1].answer == "a b c"
    assert len(model.prompts) == 1


def test_an_answer_that_leaves_no_room_for_its_critique_is_kept_and_dropped() -> None:
    (found,), _ = made(["many words " * 30], [HARMFUL], context=90)
    assert (found.dropped, found.answer.split()[0], found.rounds) == ("too long", "many", ())


def echo(prompt: str, place: int) -> str:
    """An answer that depends on the request alone."""
    if "Revised answer:" in prompt:
        return f"revision after {len(prompt)}"
    return f"a critique of {len(prompt)}" if "Critique:" in prompt else f"answer {len(prompt)}"


def test_a_prompt_alone_and_among_others_draws_the_same_requests() -> None:
    prompts = [HARMFUL, FRIGHTENING, PLAIN, AskedPrompt("How do I blow up a balloon?", "harmful")]
    together, _ = made(echo, prompts, rounds=3)
    alone = [made(echo, [one], rounds=3)[0][0] for one in prompts]
    assert together == alone
    other, _ = made(echo, prompts, rounds=3, seed=1)
    drawn = [[one.principle for one in each.rounds] for each in together]
    assert drawn != [[one.principle for one in each.rounds] for each in other]


def test_a_model_without_a_template_is_asked_in_the_frame_and_stopped() -> None:
    lines = ["Smash it.\n\nCritique request: more", "Bad.", SAFE]
    (found,), model = made(lines, [HARMFUL], chat=False)
    assert model.prompts[0] == f"Request:\n{HARMFUL.prompt}\n\nAnswer:\n"
    assert found.answer == "Smash it."
    assert found.dropped == ""


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"answer_tokens": 0}, "answer_tokens is 0"),
    ],
)
def test_settings_out_of_range(wrong: Any, word: str) -> None:
    with pytest.raises(TranscriptError, match=word):
        RevisionSettings(**wrong)


@pytest.mark.parametrize(
    "record",
    [[], {}, {**Transcript("p", "plain", "", "a").to_dict(), "rounds": 3},
     {**Transcript("p", "plain", "", "a").to_dict(), "answer": None},
     {**Transcript("p", "plain", "", "a").to_dict(), "rounds": [{"principle": "x"}]}],
)  # fmt: skip
def test_what_is_no_transcript_is_refused(record: Any) -> None:
    with pytest.raises(TranscriptError):
        Transcript.from_dict(record)


@pytest.mark.parametrize(("text", "kind"), [("  ", "plain"), ("hello", "nice")])
def test_an_empty_prompt_and_an_unknown_kind_are_refused(text: str, kind: str) -> None:
    with pytest.raises(TranscriptError):
        AskedPrompt(text, kind)


def test_the_same_words_are_the_same_text() -> None:
    assert says_the_same("Use `kill -9`!", "use kill 9")
    assert not says_the_same("Use kill -9", "Use kill -15")
    assert not says_the_same("+", "-")


Scores = Callable[[str, Sequence[str]], list[float]]


def judge(gap: Callable[[str], float], bias: float = 0.0) -> Scores:
    """Log-odds ``gap`` of the answer that stands as (A) less those of (B), and a liking for A."""

    def scores(prompt: str, continuations: Sequence[str]) -> list[float]:
        assert list(continuations) == ["A", "B"]
        a, b = re.findall(r"\(A\)\n(.*?)\n\n\(B\)\n(.*?)\n\n", prompt, re.DOTALL)[0]
        odds = bias + gap(a) - gap(b)
        return [-math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))]

    return scores


def pair(lines: Any, scores: Any = (), **settings: Any) -> tuple[JudgedPair, ScriptedModel]:
    model = ScriptedModel(lines, scores, context=settings.pop("context", 4096))
    return make_pair(Sampler(model), OWN, HARMFUL, PairSettings(**settings)), model


def liking(text: str) -> float:
    return 2.0 if "not" in text else 0.0


def test_a_liking_for_a_letter_cancels_and_is_reported() -> None:
    calm, model = pair(["Smash it.", SAFE], judge(liking))
    assert len(model.scored) == 2 * len(OWN.principles)
    assert calm.label == pytest.approx(1 / (1 + math.exp(2)))
    for bias in (-3.0, 3.0):
        biased, _ = pair(["Smash it.", SAFE], judge(liking, bias))
        swapped, _ = pair([SAFE, "Smash it."], judge(liking, bias))
        assert biased.label < 0.5
        assert biased.label == pytest.approx(1 - swapped.label)
        alike, _ = pair(["Smash it.", "Pull hard."], judge(liking, bias))
        assert alike.skipped == "the judge is undecided"
        assert pair_figures([alike]).letter_bias == pytest.approx(math.copysign(0.4526, bias), 1e-3)
    assert pair_figures([calm]).letter_bias == pytest.approx(0)
    assert pair_figures([calm]).agreement == 1
    assert pair_figures([biased]).agreement == 0


def test_the_better_answer_is_the_chosen_one_whatever_its_place() -> None:
    for lines in (["Smash it.", SAFE], [SAFE, "Smash it."]):
        found, _ = pair(lines, judge(liking))
        record = found.record()
        assert (record["chosen"], record["rejected"]) == (SAFE, "Smash it.")
        assert record["label"] == pytest.approx(1 / (1 + math.exp(-2)))
        assert JudgedPair.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_labels_are_clamped() -> None:
    sure = judge(lambda text: 50 * liking(text))
    assert pair(["Smash it.", SAFE], sure)[0].label == 0.02
    assert pair([SAFE, "Smash it."], sure, clamp=0.1)[0].label == 0.9
    thought, model = pair(
        lambda prompt, place: "(B) is kinder." if "Think" in prompt else ["Pull.", SAFE][place],
        sure, chain_of_thought=True,
    )  # fmt: skip
    assert thought.label == 0.4
    assert all("Thoughts: (B) is kinder." in prompt for prompt in model.scored)
    assert len(model.prompts) == 1 + 2 * len(OWN.principles)


@pytest.mark.parametrize(
    ("lines", "settings", "why"),
    [
        (["", SAFE], {}, "empty"),
        ([SAFE, "I will NOT help with theft; a locksmith opens your own car"], {},
         "both answers say the same"),
        ([SAFE, "Smash" + NEVER_ENDS], {"answer_tokens": 20}, "unfinished"),
        (["Pull.", SAFE], {}, "the judge is undecided"),  # all probabilities are equal
        ([], {"context": 5}, "too long"),
    ],
)  # fmt: skip
def test_pairs_that_teach_nothing_are_counted(
    lines: list[str], settings: dict[str, Any], why: str
) -> None:
    found, _ = pair(lines, **settings)
    assert found.skipped == why
    figures = pair_figures([found, found])
    assert (figures.pairs, figures.skipped, figures.label) == (0, {why: 2}, None)


def test_bad_settings_and_records_of_pairs() -> None:
    for wrong in ({"clamp": 0.5}, {"temperature": 0.0}, {"thought_tokens": 0}, {"top_p": 2.0}):
        with pytest.raises(PairError, match=next(iter(wrong))):
            PairSettings(**wrong)
    for record in ([], {}, {"judged": {"a": 1}}):
        with pytest.raises(PairError):
            JudgedPair.from_dict(record)


def test_a_model_that_refuses_everything_and_one_that_does_all_are_both_bad() -> None:
    prompts = [
        AskedPrompt(one.prompt, kind, one.category)
        for kind in ("harmful", "frightening", "plain")
        for one in load_prompts(kind)[:40]
    ]
    refusing = safety_rates(prompts, ["I'm sorry, but I can't help with that."] * len(prompts))
    assert (refusing.harmlessness, refusing.helpfulness, refusing.lower) == (1, 0, 0)
    assert (refusing.refused_harmful, refusing.refused_harmless) == (1, 1)
    doing = safety_rates(prompts, ["Sure, it goes like this: take two of them."] * len(prompts))
    assert (doing.harmlessness, doing.helpfulness, doing.lower) == (0, 1, 0)
    fit = [
        refusal_for(one.category) if one.kind == "harmful" else "It takes two." for one in prompts
    ]
    assert safety_rates(prompts, fit).lower == 1
    silent = safety_rates(prompts, [""] * len(prompts))
    assert (silent.lower, silent.empty, silent.refused_harmless) == (0, 1, 0)


def test_rates_of_nothing_are_not_known() -> None:
    found = safety_rates([PLAIN], ["A loan."])
    assert (found.harmlessness, found.helpfulness, found.lower) == (None, 1, None)
