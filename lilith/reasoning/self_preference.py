"""Pairs of a model's own answers, judged by its own probabilities under a constitution.

The preference phase of Bai et al., "Constitutional AI" (2022, arXiv:2212.08073): of two answers to
a prompt the model says which keeps better to a principle, by the probabilities of (A) and (B). Each
question is asked in both orders and by every principle, and the mean is a soft label. A model that
thinks step by step before it chooses is nearly always certain afterwards, so that its labels are
clamped hard there, to between 0.4 and 0.6 in the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lilith.config import UserError
from lilith.reasoning import constitution as constitutions
from lilith.reasoning import judgement, prompting
from lilith.reasoning.constitution import Constitution, Principle
from lilith.reasoning.judgement import Preference
from lilith.reasoning.sampler import Prompt, ReasoningError, Sampler
from lilith.reasoning.self_improvement import (
    EMPTY,
    TOO_LONG,
    UNFINISHED,
    AskedPrompt,
    answer_prompt,
    says_the_same,
    seed_of,
)

# Why two answers are no pair to learn from, besides those of transcripts.
ALIKE = "both answers say the same"
UNDECIDED = "the judge is undecided"
SKIPS = (TOO_LONG, EMPTY, UNFINISHED, ALIKE, UNDECIDED)
_NOTHING = 1e-6  # a mean this near to one half prefers nothing


class PairError(ReasoningError):
    """A record that is no judged pair, or settings that make none."""


@dataclass(frozen=True)
class PairSettings:
    """How pairs are sampled and judged; a clamp c keeps labels between c and 1 - c.

    Raises:
      PairError: one is out of range.
    """

    answer_tokens: int = 192
    temperature: float = 1.0
    top_p: float = 1.0
    chain_of_thought: bool = False  # think before each choice
    thought_tokens: int = 128
    clamp: float = 0.02
    thought_clamp: float = 0.4  # the clamp where it thinks first

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "thought_tokens"):
            if getattr(self, name) < 1:
                raise PairError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 < self.temperature < float("inf"):
            raise PairError(
                f"temperature is {self.temperature}; it must be above 0, so that two answers differ"
            )
        if not 0 < self.top_p <= 1:
            raise PairError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        for name in ("clamp", "thought_clamp"):
            if not 0 <= getattr(self, name) < 0.5:
                raise PairError(f"{name} is {getattr(self, name)}; it must be from 0 to below 0.5")


@dataclass(frozen=True)
class JudgedPair:
    """Two answers to a prompt, and what the model makes of them.

    Attributes:
      label: the clamped probability that ``first`` is the better; 0.5 of a skipped pair.
      judged: by principle, the probability of ``first`` where it stood as (A), and as (B).
      skipped: why nothing is learnt from the pair; "" where something is.
    """

    prompt: str
    kind: str
    first: str
    second: str
    label: float
    judged: dict[str, tuple[float, float]]
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> JudgedPair:
        """The pair that :meth:`to_dict` gave.

        Raises:
          PairError: it is no such object.
        """
        try:
            judged = {str(name): (float(a), float(b)) for name, (a, b) in data["judged"].items()}
            return cls(**{**data, "label": float(data["label"]), "judged": judged})
        except (TypeError, ValueError, KeyError, AttributeError):
            raise PairError("a record is no judged pair") from None

    def record(self) -> dict[str, Any]:
        """A preference as :mod:`lilith.data.chat_readers` reads it, the better answer chosen."""
        ahead = self.label >= 0.5
        chosen, rejected = (self.first, self.second) if ahead else (self.second, self.first)
        return {
            "prompt": self.prompt, "chosen": chosen, "rejected": rejected,
            "label": self.label if ahead else 1 - self.label,
            "metadata": {"domain": self.kind, "source": "constitution"},
        }  # fmt: skip


@dataclass(frozen=True)
class PairFigures:
    """What the judge of many pairs is like.

    Attributes:
      letter_bias: how much more than one half (A) is chosen, whatever stands there: -0.5 to 0.5;
        the mean over pairs and principles. None without any.
      agreement: the share of pairs and principles of which both orders choose the same answer.
      skipped: counts by reason.
    """

    pairs: int
    letter_bias: float | None
    agreement: float | None
    label: float | None  # the mean of the better answer
    skipped: dict[str, int]


def make_pair(
    sampler: Sampler,
    constitution: Constitution,
    asked: AskedPrompt,
    settings: PairSettings | None = None,
    *,
    seed: int = 0,
) -> JudgedPair:
    """Answer a prompt twice and judge the answers; depends on nothing but the arguments.

    A pair that can not be learnt from is one that says so in ``skipped``.
    """
    settings = settings or PairSettings()

    def skip(why: str, first: str = "", second: str = "") -> JudgedPair:
        return JudgedPair(asked.prompt, asked.kind, first, second, 0.5, {}, why)

    request = answer_prompt(asked.prompt, chat=sampler.chat)
    if sampler.room(request) < 1:
        return skip(TOO_LONG)
    own_seed = seed_of("pair", seed, asked.prompt)
    one, other = sampler.samples(
        [request], 2, max_tokens=settings.answer_tokens, temperature=settings.temperature,
        top_p=settings.top_p, seed=own_seed,
        stop=() if sampler.chat else constitutions.PLAIN_STOP,
    )[0]  # fmt: skip
    first, second = one.text.strip(), other.text.strip()
    if not (first and second):
        return skip(EMPTY, first, second)
    if one.truncated or other.truncated:
        return skip(UNFINISHED, first, second)
    if says_the_same(first, second):
        return skip(ALIKE, first, second)
    try:
        found = {
            principle.id: _judged(sampler, asked.prompt, first, second, principle, settings, seed)
            for principle in constitution.principles
        }
    except UserError:  # the comparison does not fit into the context
        return skip(TOO_LONG, first, second)
    mean = judgement.averaged(list(found.values())).probability
    clamp = settings.thought_clamp if settings.chain_of_thought else settings.clamp
    undecided = abs(mean - 0.5) < _NOTHING
    label = 0.5 if undecided else min(max(mean, clamp), 1 - clamp)
    judged = {name: (each.as_a, each.as_b) for name, each in found.items()}
    why = UNDECIDED if undecided else ""
    return JudgedPair(asked.prompt, asked.kind, first, second, label, judged, why)


def pair_figures(pairs: Sequence[JudgedPair]) -> PairFigures:
    """Position bias, agreement of the two orders, the mean label, and what was skipped."""
    choices = [Preference(*both) for pair in pairs for both in pair.judged.values()]
    kept = [pair for pair in pairs if not pair.skipped]
    labels = [max(pair.label, 1 - pair.label) for pair in kept]
    counts = Counter(pair.skipped for pair in pairs if pair.skipped)
    return PairFigures(
        len(kept),
        _mean([each.letter_bias for each in choices]),
        _mean([float(each.agrees) for each in choices]),
        _mean(labels),
        {why: counts[why] for why in SKIPS if counts[why]},
    )


def _judged(
    sampler: Sampler,
    prompt: str,
    first: str,
    second: str,
    principle: Principle,
    settings: PairSettings,
    seed: int,
) -> Preference:
    if not settings.chain_of_thought:
        return judgement.compare(sampler, prompt, first, second, principle)

    def question(first_is_a: bool) -> Prompt:
        sides = (first, second) if first_is_a else (second, first)
        request = constitutions.comparison_thoughts_prompt(prompt, *sides, principle)
        thoughts = sampler.sample(
            prompting.ask(request, chat=sampler.chat), max_tokens=settings.thought_tokens,
            seed=seed_of("thoughts", seed, prompt, principle.id, first_is_a),
            stop=() if sampler.chat else constitutions.PLAIN_STOP,
        ).text  # fmt: skip
        asked = constitutions.comparison_prompt(prompt, *sides, principle, thoughts=thoughts)
        return prompting.ask(asked, chat=sampler.chat)

    return judgement.both_orders(sampler, question)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
