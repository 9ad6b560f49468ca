"""An answer come by in several ways: the votes of them all, and which trace is to be kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lilith.reasoning.answers import Vote, same_answer, votes
from lilith.reasoning.confidence import arithmetic_verdict
from lilith.reasoning.metacognition import MetacognitiveMonitor
from lilith.reasoning.trace import Alternative, ReasoningTrace

_VERIFIED = {True: 2, None: 1, False: 0}
# Kinds of reasons against the text itself: it did not end well, or what it computes is wrong.
_UNSOUND = {"type", "arithmetic", "truncation", "loop"}


class Choice(NamedTuple):
    """Whether a trace is better than the one that was kept, and why, in words."""

    better: bool
    words: str


def pooled(
    trace: ReasoningTrace, ways: Sequence[ReasoningTrace], monitor: MetacognitiveMonitor
) -> ReasoningTrace:
    """The trace with the votes of all ways, and the confidence that follows from them.

    Each sample that was drawn has a vote, and each way that drew none has one, unless arithmetic in
    its steps is wrong. Where only one way is left to vote, its own votes stand.
    """
    answered = [way for way in ways if _may_vote(way)]
    if len(answered) < 2 or trace.final_answer is None:
        return monitor.with_confidence(trace)
    counted = votes([answer for way in answered for answer in _ballots(way)])
    total = sum(_texts(way) for way in answered)
    own = next((v for v in counted if same_answer(v.representative, trace.final_answer)), None)
    mine = own.votes if own else 0
    other = max((vote.votes for vote in counted if vote is not own), default=0)
    signals = {**trace.signals, "vote_share": mine / total, "margin": (mine - other) / total}
    alternatives = tuple(_alternative(vote, answered) for vote in counted)
    # Without its old confidence the monitor makes one from the signals.
    return monitor.with_confidence(dataclasses.replace(
        trace, signals=signals, alternatives=alternatives, confidence=None, calibrated=False,
    ))  # fmt: skip


def choice(new: ReasoningTrace, old: ReasoningTrace, monitor: MetacognitiveMonitor) -> Choice:
    """Whether ``new`` is better than ``old``: both with the votes of all ways.

    In this order: an answer above none; verified above unjudged above rejected; a text that ended
    well, without wrong arithmetic, of the type asked for, above another; more votes; a higher
    confidence. Where none of these speaks
    for the new one, the old one stays.
    """
    both = f"{named(new)} instead of {named(old)}"
    if new.final_answer is None:
        return Choice(False, f"it came to no answer{': ' + new.error if new.error else ''}")
    if old.final_answer is None:
        return Choice(True, f"it came to the answer {named(new)}, and there was none before")
    same = same_answer(new.final_answer, old.final_answer)
    if same:
        both = f"both come to {named(new)}"
    if new.verified is not old.verified:
        better = _VERIFIED[new.verified] > _VERIFIED[old.verified]
        return Choice(better, f"{both}: {_verdict(new)}, {_verdict(old)} before")
    faults = [
        [reason.words for reason in monitor.findings(trace) if reason.kind in _UNSOUND]
        for trace in (new, old)
    ]
    if bool(faults[0]) != bool(faults[1]):
        which = "the new" if faults[0] else "the old"
        return Choice(not faults[0], f"{both}: of {which}, {'; '.join(faults[0] or faults[1])}")
    mine, theirs = votes_of(new), votes_of(old)
    if not same and mine != theirs:
        return Choice(mine > theirs, f"{both}: it has {mine} votes against {theirs}")
    one, other = new.confidence or 0.0, old.confidence or 0.0
    return Choice(one > other, f"{both}: confidence {one:.2f} against {other:.2f}")


def _may_vote(way: ReasoningTrace) -> bool:
    if way.final_answer is None:
        return False
    return _sampled(way) or arithmetic_verdict(way.thoughts) is not False


def _ballots(way: ReasoningTrace) -> Iterator[str | None]:
    """The answer of each text that a way counts."""
    if _sampled(way):
        for one in way.alternatives:
            yield from [one.answer] * one.votes
    else:
        yield way.final_answer


def _sampled(way: ReasoningTrace) -> bool:
    return sum(one.votes for one in way.alternatives if one.answer is not None) >= 2


def _texts(way: ReasoningTrace) -> int:
    """How many texts a way counts, those without an answer too."""
    if not _sampled(way):
        return 1
    counted = sum(one.votes for one in way.alternatives)
    share = way.signals.get("vote_share")
    if not share:
        return counted
    mine = sum(o.votes for o in way.alternatives if same_answer(o.answer, way.final_answer))
    return max(counted, round(mine / share))


def _alternative(vote: Vote, ways: Sequence[ReasoningTrace]) -> Alternative:
    """A vote with a text and a score that one of the ways has for it."""
    known = (one for way in ways for one in way.alternatives)
    like = [one for one in known if same_answer(one.answer, vote.representative)]
    score = next((one.score for one in like if one.score is not None), None)
    text = next((one.text for one in like if one.text), "")
    return Alternative(vote.representative, vote.votes, score, text)


def votes_of(trace: ReasoningTrace) -> int:
    """How many votes a trace's answer has among its alternatives."""
    return sum(
        one.votes for one in trace.alternatives if same_answer(one.answer, trace.final_answer)
    )


def named(trace: ReasoningTrace) -> str:
    """A trace's answer in one short line."""
    text = " ".join((trace.final_answer or "no answer").split())
    return text if len(text) <= 60 else text[:59] + "…"


def _verdict(trace: ReasoningTrace) -> str:
    return {True: "verified", None: "unjudged", False: "rejected by the verifier"}[trace.verified]
