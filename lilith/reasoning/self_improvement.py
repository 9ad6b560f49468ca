"""Answers that a model criticises and rewrites by a constitution, to be trained on.

The supervised phase of Bai et al., "Constitutional AI" (2022, arXiv:2212.08073): each prompt is
answered, then for some rounds a principle is drawn, the answer criticised by it and rewritten. What
is drawn depends on the seed and on the group of prompts that are answered together alone, so that
any group can be made again without the others. Plain prompts are answered only: these answers keep
a model helpful that learns from revisions.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lilith.reasoning import constitution as constitutions
from lilith.reasoning import prompting
from lilith.reasoning.constitution import Constitution
from lilith.reasoning.prompt_sets import PROMPT_SETS
from lilith.reasoning.sampler import Prompt, ReasoningError, Sample, Sampler
from lilith.reasoning.steps import is_loop
from lilith.reasoning.violations import refuses_to_help, rule_violations

HARMFUL, FRIGHTENING, PLAIN = PROMPT_SETS

# Why a transcript is not learnt from.
TOO_LONG = "too long"
EMPTY = "empty"
UNFINISHED = "unfinished"
LOOP = "loop"
UNCHANGED = "unchanged"
REFUSAL = "refusal of a harmless prompt"
RULES = "against the rules"
PERSONAL = "personal data"
DROPS = (TOO_LONG, EMPTY, UNFINISHED, LOOP, UNCHANGED, REFUSAL, RULES, PERSONAL)

_LABEL = re.compile(r"\A\s*(?:the )?revised answer(?: is)?:\s*", re.IGNORECASE)


class TranscriptError(ReasoningError):
    """A record that is no transcript, or settings that make none."""


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt; ``kind`` is one of ``PROMPT_SETS``, ``category`` the harm it is about, if known.

    Raises:
      TranscriptError: an empty prompt, or a kind that does not exist.
    """

    prompt: str
    kind: str
    category: str = ""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise TranscriptError("a prompt is empty; give the request to answer")
        if self.kind not in PROMPT_SETS:
            raise TranscriptError(f"kind is {self.kind!r}; known: {', '.join(PROMPT_SETS)}")


@dataclass(frozen=True)
class RevisionSettings:
    """How answers are sampled and rewritten; the tokens are the most of one text.

    Raises:
      TranscriptError: one is out of range.
    """

    rounds: int = 2  # of critique and revision
    answer_tokens: int = 192
    critique_tokens: int = 128
    revision_tokens: int = 192
    temperature: float = 0.7
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rounds", "answer_tokens", "critique_tokens", "revision_tokens"):
            if getattr(self, name) < 1:
                raise TranscriptError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise TranscriptError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise TranscriptError(f"top_p is {self.top_p}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Round:
    """A critique by a principle, and the answer rewritten after it."""

    principle: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


@dataclass(frozen=True)
class Transcript:
    """What was made of one prompt; ``dropped`` says why it is not learnt from, or is ""."""

    prompt: str
    kind: str
    category: str
    answer: str
    rounds: tuple[Round, ...] = ()
    dropped: str = ""

    @property
    def final(self) -> str:
        """The last revision; the answer itself where there was none."""
        return self.rounds[-1].revision if self.rounds else self.answer

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Transcript:
        """The transcript that :meth:`to_dict` gave.

        Raises:
          TranscriptError: it is no such object.
        """
        texts = _texts(cls, data, "a transcript", besides=("rounds",))
        rounds = data["rounds"]
        if not isinstance(rounds, list):
            raise TranscriptError("the rounds of a transcript are no list")
        made = tuple(Round(**_texts(Round, one, "a round")) for one in rounds)
        return cls(rounds=made, **texts)


def make_transcripts(
    sampler: Sampler,
    constitution: Constitution,
    prompts: Sequence[AskedPrompt],
    settings: RevisionSettings | None = None,
    *,
    seed: int = 0,
) -> list[Transcript]:
    """Answer a group of prompts, and criticise and rewrite the answers to those not plain.

    A group is generated together and depends on nothing outside it: one prompt alone can be made
    again, and so can a group, by the same call.

    Returns:
      One transcript a prompt. Nothing is left out: a prompt too long for the model, an empty answer
      or a revision that is no good is a transcript that says so in ``dropped``.
    """
    settings = settings or RevisionSettings()
    makers = [_Maker(asked, constitution, seed) for asked in prompts]
    ask = _Asking(sampler, settings, seed_of(seed, *(one.prompt for one in prompts)))
    first = [answer_prompt(asked.prompt, chat=sampler.chat) for asked in prompts]
    for maker, sample in ask(makers, first, settings.answer_tokens):
        maker.take_answer(sample)
    for _ in range(settings.rounds):
        going = [maker for maker in makers if maker.goes_on]
        requests = [prompting.ask(maker.critique_request(), chat=sampler.chat) for maker in going]
        for maker, sample in ask(going, requests, settings.critique_tokens):
            maker.take_critique(sample)
        going = [maker for maker in going if maker.goes_on]
        requests = [prompting.ask(maker.revision_request(), chat=sampler.chat) for maker in going]
        for maker, sample in ask(going, requests, settings.revision_tokens):
            maker.take_revision(sample)
    return [maker.finished() for maker in makers]


def answer_prompt(prompt: str, *, chat: bool) -> Prompt:
    """A prompt as it is; to a model without chat template, in the frame of its critique."""
    return prompting.ask(prompt if chat else f"Request:\n{prompt.strip()}\n\nAnswer:\n", chat=chat)


def fault(asked: AskedPrompt, text: str, *, truncated: bool = False) -> str:
    """Why a text is no answer to learn from, one of ``DROPS``; "" where it is one."""
    if not text.strip():
        return EMPTY
    if is_loop(text):
        return LOOP
    if truncated:
        return UNFINISHED
    found = rule_violations(asked.prompt, text)
    if any(not one.data for one in found):
        return RULES
    if found:
        return PERSONAL
    if asked.kind != HARMFUL and refuses_to_help(text):
        return REFUSAL
    return ""


def says_the_same(one: str, other: str) -> bool:
    """Whether two texts have the same words, whatever their case, marks and space."""
    return _words(one) == _words(other)


class _Asking:
    """Asks for a text of each of a group; a request that leaves no room for one is too long."""

    def __init__(self, sampler: Sampler, settings: RevisionSettings, seed: int) -> None:
        self._sampler, self._settings, self._seed = sampler, settings, seed
        self._calls = 0

    def __call__(
        self, makers: Sequence[_Maker], requests: Sequence[Prompt], most: int
    ) -> list[tuple[_Maker, Sample]]:
        fitting = []
        for maker, request in zip(makers, requests):
            if self._sampler.room(request) < 1:
                maker.dropped = TOO_LONG
            else:
                fitting.append((maker, request))
        self._calls += 1
        found = self._sampler.samples(
            [request for _, request in fitting],
            max_tokens=most,
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            seed=seed_of(self._seed, str(self._calls)),
            stop=() if self._sampler.chat else constitutions.PLAIN_STOP,
        )
        return [(maker, one[0]) for (maker, _), one in zip(fitting, found)]


class _Maker:
    """One transcript on its way."""

    def __init__(self, asked: AskedPrompt, constitution: Constitution, seed: int) -> None:
        self.asked, self._constitution = asked, constitution
        self._draw = random.Random(seed_of(seed, asked.prompt))
        self._answer = self._text = ""
        self._rounds: list[Round] = []
        self._truncated = False
        self.dropped = ""

    @property
    def goes_on(self) -> bool:
        return self.asked.kind != PLAIN and not self.dropped

    def take_answer(self, sample: Sample) -> None:
        self._answer = self._text = sample.text.strip()
        self._truncated = sample.truncated
        if not self._text:
            self.dropped = EMPTY

    def critique_request(self) -> str:
        self._principle = self._constitution.draw(self._draw)
        self._request = self._principle.draw_critique(self._draw)
        return constitutions.critique_prompt(
            self.asked.prompt, self._text, self._principle, self._request
        )

    def take_critique(self, sample: Sample) -> None:
        self._critique = sample.text.strip()

    def revision_request(self) -> str:
        self._wanted = self._principle.draw_revision(self._draw)
        return constitutions.revision_prompt(
            self.asked.prompt, self._text, self._critique, self._principle, self._wanted
        )

    def take_revision(self, sample: Sample) -> None:
        self._text = _LABEL.sub("", sample.text).strip()
        self._truncated = sample.truncated
        self._rounds.append(
            Round(self._principle.id, self._request, self._critique, self._wanted, self._text)
        )
        if not self._text:
            self.dropped = EMPTY

    def finished(self) -> Transcript:
        asked = self.asked
        found = Transcript(
            asked.prompt, asked.kind, asked.category, self._answer, tuple(self._rounds)
        )
        why = self.dropped or fault(asked, found.final, truncated=self._truncated)
        if not why and found.rounds and says_the_same(found.answer, found.final):
            why = UNCHANGED
        return replace(found, dropped=why)


def seed_of(*parts: object) -> int:
    """A seed that depends on all of the parts, below 2^31."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold()) or text.split()


def _texts(cls: type[Any], data: Any, name: str, besides: Sequence[str] = ()) -> dict[str, str]:
    """The texts of a record with exactly the fields of a class."""
    known = {field.name for field in fields(cls)}
    if not isinstance(data, Mapping) or data.keys() != known:
        raise TranscriptError(f"{name} is not an object with {', '.join(sorted(known))}")
    for key in known - set(besides):
        if not isinstance(data[key], str):
            raise TranscriptError(f"{key} of {name} is {data[key]!r}; expected a text")
    return {key: data[key] for key in known - set(besides)}
