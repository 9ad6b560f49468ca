"""Strategies that draw texts at once: one, or many whose answers are counted or scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lilith.reasoning import prompting, verification
from lilith.reasoning.answers import Vote, votes
from lilith.reasoning.drafts import (
    Attempt,
    Draft,
    Settings,
    attempts,
    empty_words,
    signals_of,
    single,
)
from lilith.reasoning.sampler import Prompt, Sampler
from lilith.reasoning.trace import Alternative


def direct(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """The answer at once, without steps."""
    return _one_each(sampler, problems, settings, prompting.direct_prompt)


def chain_of_thought(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Steps, then the answer; the likeliest text."""
    return _one_each(sampler, problems, settings, prompting.steps_prompt)


def self_consistency(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Many texts; the answer that most of them give (Wang et al., 2023, arXiv:2203.11171).

    Answers are compared in their canonical form. Of equal counts the likelier answer is taken: the
    one whose likeliest text has the larger mean log-probability.
    """
    drawn = _many(sampler, problems, settings)
    return [_voted(own, {}) for own in drawn]


def best_of_n(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Many texts; the answer whose texts have the largest sum of scores.

    A scorer of log-probability counts a text's likelihood, exp(mean log-probability); a verifier
    counts 1 for True, 0 for False, and a half where it can not tell. A function's scores are summed
    as they are, so it should give numbers of at least 0.
    """
    drawn = _many(sampler, problems, settings)
    return [
        _voted(own, _scores(problem, own, settings))
        for problem, own in zip(problems, drawn, strict=True)
    ]


def _one_each(
    sampler: Sampler,
    problems: Sequence[str],
    settings: Settings,
    prompt_of: Callable[..., Prompt],
) -> list[Draft]:
    kinds = [settings.kind(problem) for problem in problems]
    prompts = [
        prompt_of(problem, kind, chat=sampler.chat, shots=settings.shots)
        for problem, kind in zip(problems, kinds, strict=True)
    ]
    return [single(own[0]) for own in attempts(sampler, prompts, kinds, settings)]


def _many(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[list[Attempt]]:
    kinds = [settings.kind(problem) for problem in problems]
    prompts = [
        prompting.steps_prompt(problem, kind, chat=sampler.chat, shots=settings.shots)
        for problem, kind in zip(problems, kinds, strict=True)
    ]
    return attempts(
        sampler, prompts, kinds, settings, n=settings.samples, temperature=settings.temperature
    )


def _scores(problem: str, own: Sequence[Attempt], settings: Settings) -> dict[int, float]:
    """A score for each text that states an answer, by its place."""
    found: dict[int, float] = {}
    asked: dict[str, float] = {}
    for place, attempt in enumerate(own):
        if attempt.answer is None:
            continue
        if settings.scorer == "log_prob":
            found[place] = likelihood(attempt)
        elif settings.scorer == "verifier":
            if attempt.answer not in asked:
                asked[attempt.answer] = _verifier_score(problem, attempt.answer, settings)
            found[place] = asked[attempt.answer]
        else:
            found[place] = _own_score(problem, attempt, settings)
    return found


def _verifier_score(problem: str, answer: str, settings: Settings) -> float:
    assert settings.verifier is not None  # Settings refuses the scorer without one
    said = verification.judge(settings.verifier, problem, answer, settings.verifier_seconds)
    return 0.5 if said.verified is None else float(said.verified)


def _own_score(problem: str, attempt: Attempt, settings: Settings) -> float:
    """What a function scores; minus infinity where it raises, hangs or gives no number."""
    scorer = settings.scorer
    assert callable(scorer)
    outcome = verification.within(
        settings.verifier_seconds, lambda: float(scorer(problem, attempt.text))
    )
    value = outcome.value
    return -math.inf if value is None or math.isnan(value) else value


def likelihood(attempt: Attempt) -> float:
    """exp of the mean log-probability of a text's tokens; 0 without any."""
    mean = attempt.sample.log_prob()
    return 0.0 if mean is None else math.exp(mean)


def _voted(own: Sequence[Attempt], scores: dict[int, float]) -> Draft:
    """The draft of texts whose answers are counted, or scored where ``scores`` has them."""
    stated = any(attempt.answer and not attempt.whole for attempt in own)
    counted = votes(
        None if stated and attempt.whole else attempt.answer for attempt in own
    )  # a whole text is an answer only where no text states one
    tokens = sum(len(attempt.sample.tokens) for attempt in own)
    if not counted:
        longest = max(own, key=lambda attempt: len(attempt.text))
        words = f"none of {len(own)} texts states an answer: {empty_words(longest)}"
        return Draft(
            None, longest.thoughts(), signals={**signals_of(longest), "vote_share": 0.0},
            truncated=longest.truncated, looped=longest.looped, tokens=tokens, error=words,
        )  # fmt: skip

    def weight(vote: Vote) -> tuple[float, float]:
        likeliest = max(likelihood(own[place]) for place in vote.members)
        if not scores:
            return float(vote.votes), likeliest
        return sum(scores[place] for place in vote.members), likeliest

    ranked = sorted(counted, key=weight, reverse=True)
    first = ranked[0]
    best = max(first.members, key=lambda p: (scores.get(p, 0.0), likelihood(own[p])))
    chosen = own[best]
    second = ranked[1].votes if len(ranked) > 1 else 0
    signals = {
        **signals_of(chosen),
        "vote_share": first.votes / len(own),
        "margin": (first.votes - second) / len(own),
    }
    return Draft(
        chosen.answer, chosen.thoughts(), tuple(_alternative(own, vote, scores) for vote in ranked),
        signals, chosen.truncated, chosen.looped, tokens=tokens,
    )  # fmt: skip


def _alternative(own: Sequence[Attempt], vote: Vote, scores: dict[int, float]) -> Alternative:
    place = vote.members[0]
    score = sum(scores[member] for member in vote.members) if scores else None
    return Alternative(vote.representative, vote.votes, score, own[place].text)
