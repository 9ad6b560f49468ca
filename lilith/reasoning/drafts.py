"""What the strategies have in common: their settings, their problems, and what each comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.reasoning import prompting
from lilith.reasoning.arithmetic import check_arithmetic
from lilith.reasoning.prompting import Shot
from lilith.reasoning.sampler import Prompt, ReasoningError, Sample, Sampler
from lilith.reasoning.steps import KINDS, extract_answer, is_loop, split_steps
from lilith.reasoning.trace import Alternative, Decision, Thought
from lilith.reasoning.verification import VERIFIER_SECONDS, Verifier

# A scorer's number for a text that answers a problem; larger is better.
Scorer = Callable[[str, str], float]


@dataclass(frozen=True)
class Settings:
    """How a strategy works.

    Attributes:
      max_tokens: of one text that the model writes.
      temperature: of strategies that draw several texts; one text alone takes the likeliest tokens.
      top_p: as in generation.
      samples: texts drawn by SELF_CONSISTENCY and BEST_OF_N.
      scorer: of BEST_OF_N: "log_prob", "verifier", or a function of a problem and a text, such as
        a reward model's.
      verifier: judges an answer: (problem, answer) -> True, False or None.
      verifier_seconds: after which it is given up.
      shots: worked examples shown before the problem.
      answer_kind: what ``extract_answer`` looks for; "auto" guesses it from the problem.
      seed: fixes the draws.
      width, branches, depth: of TREE_SEARCH: paths kept, steps tried from each, most steps.
      value: of TREE_SEARCH: a function of a problem and its steps so far; None asks the model.
      repairs: of PROGRAM: how often an error goes back.
      agents, rounds: of DEBATE.
      ask_p_true: also ask the model whether its answer is right, as a part of the confidence.
    """

    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 1.0
    samples: int = 8
    scorer: str | Scorer = "log_prob"
    verifier: Verifier | None = None
    verifier_seconds: float = VERIFIER_SECONDS
    shots: Sequence[Shot] = ()
    answer_kind: str = "auto"
    seed: int = 0
    width: int = 2
    branches: int = 3
    depth: int = 8
    value: Callable[[str, Sequence[str]], float] | None = None
    repairs: int = 2
    agents: int = 3
    rounds: int = 2
    ask_p_true: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("max_tokens", 1), ("samples", 1), ("width", 1), ("branches", 1), ("depth", 1),
            ("repairs", 0), ("agents", 1), ("rounds", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ReasoningError(
                    f"{name} is {value!r}; it must be a whole number of at least {least}"
                )
        if self.temperature < 0:
            raise ReasoningError(f"temperature is {self.temperature}; it must be 0 or more")
        if not isinstance(self.shots, Sequence) or not all(isinstance(s, Shot) for s in self.shots):
            raise ReasoningError(
                f"shots is {self.shots!r}; give worked examples, such as prompting.SHOTS[:2]"
            )
        if not self.verifier_seconds > 0:
            raise ReasoningError(f"verifier_seconds is {self.verifier_seconds}; it must be above 0")
        if self.answer_kind not in KINDS:
            raise ReasoningError(f"answer_kind is {self.answer_kind!r}; known: {', '.join(KINDS)}")
        if isinstance(self.scorer, str) and self.scorer not in ("log_prob", "verifier"):
            raise ReasoningError(
                f"scorer is {self.scorer!r}; it is log_prob, verifier, or a function"
            )
        if self.scorer == "verifier" and self.verifier is None:
            raise ReasoningError("scorer is verifier and there is none; set verifier as well")

    def kind(self, problem: str) -> str:
        """What kind of answer a problem asks for."""
        if self.answer_kind != "auto":
            return self.answer_kind
        return prompting.question_kind(problem)


@dataclass(frozen=True)
class Attempt:
    """One text that answers a problem, taken apart.

    Attributes:
      text: all of it, with what a plain prompt had begun it with.
      answer: what it states; None where it states none of the kind.
      sample: what the model wrote.
      offset: characters of ``text`` before what the model wrote.
      whole: the answer is all of the text, which states none of its own.
    """

    text: str
    answer: str | None
    sample: Sample
    offset: int = 0
    whole: bool = False

    @property
    def truncated(self) -> bool:
        """Whether it ended at a limit."""
        return self.sample.truncated

    @property
    def looped(self) -> bool:
        """Whether it says the same again and again."""
        return is_loop(self.text)

    @property
    def answer_log_prob(self) -> float | None:
        """The mean log-probability of the answer's tokens where it stands last, else of all."""
        place = self.text.rfind(self.answer) if self.answer else -1
        if place >= self.offset and self.answer:
            start = place - self.offset
            found = self.sample.log_prob(start, start + len(self.answer))
            if found is not None:
                return found
        return self.sample.log_prob()

    def thoughts(self) -> tuple[Thought, ...]:
        """Its steps, with the arithmetic in each recomputed."""
        made: list[Thought] = []
        at = 0
        for number, step in enumerate(split_steps(self.text), 1):
            place = self.text.find(step, at)
            log_prob = None
            if place >= 0:
                at = place + len(step)
                log_prob = self.sample.log_prob(
                    max(0, place - self.offset), max(0, at - self.offset)
                )
            made.append(thought(number, step, log_prob))
        return tuple(made)


@dataclass(frozen=True)
class Draft:
    """What a strategy came to on one problem.

    Attributes:
      answer: None where none was found.
      thoughts: the steps that lead to it.
      alternatives: other answers, or all with their votes, best first.
      signals: what the confidence is made from; see :data:`calibration.FEATURES`.
      truncated, looped: of the text that the answer is from.
      tokens: written by the model for it.
      error: what went wrong, in words.
    """

    answer: str | None
    thoughts: tuple[Thought, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    signals: Mapping[str, float] = dataclasses.field(default_factory=dict)
    truncated: bool = False
    looped: bool = False
    decisions: tuple[Decision, ...] = ()
    transcript: tuple[Mapping[str, Any], ...] = ()
    tokens: int = 0
    error: str = ""


def thought(number: int, text: str, log_prob: float | None = None, **fields: Any) -> Thought:
    """A step, verified by the arithmetic in it: False where some is wrong, None without any."""
    checks = tuple(check_arithmetic(text))
    decided = [check.right for check in checks if check.right is not None]
    return Thought(
        number, text, log_prob=log_prob, verified=all(decided) if decided else None,
        checks=checks, **fields,
    )  # fmt: skip


def attempts(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    kinds: Sequence[str],
    settings: Settings,
    *,
    n: int = 1,
    temperature: float = 0.0,
) -> list[list[Attempt]]:
    """``n`` texts for each prompt, taken apart.

    Raises:
      BudgetEnded: nothing is left to write with.
    """
    stop = () if sampler.chat else prompting.PLAIN_STOP
    found = sampler.samples(
        prompts, n, max_tokens=settings.max_tokens, temperature=temperature,
        top_p=settings.top_p, seed=settings.seed, stop=stop,
    )  # fmt: skip
    return [
        [attempt(prompt, sample, kind) for sample in own]
        for prompt, own, kind in zip(prompts, found, kinds, strict=True)
    ]


def attempt(prompt: Prompt, sample: Sample, kind: str) -> Attempt:
    """A sample after a prompt, with the answer that it states.

    A text that states none answers an open question ("auto") as a whole, unless it is a loop.
    """
    lead = prompting.written_before(prompt)
    text = lead + sample.text
    answer = extract_answer(text, kind) if sample.text.strip() else None
    if answer is None and kind == "auto" and sample.text.strip() and not is_loop(text):
        return Attempt(text, text.strip(), sample, len(lead), whole=True)
    return Attempt(text, answer, sample, len(lead))


def empty_words(found: Attempt) -> str:
    """What is wrong where a text states no answer, in words; "" where it states one."""
    if found.answer is not None:
        return ""
    if not found.sample.tokens or not found.sample.text:
        return "the model wrote nothing"
    if not found.sample.text.strip():
        return "the model wrote nothing but space"
    if found.truncated:
        return f"the text ended at its limit of {len(found.sample.tokens)} tokens without an answer"
    return "the text states no answer"


def signals_of(found: Attempt) -> dict[str, float]:
    """What one text says about its answer's chance to be right."""
    signals = {"truncated": float(found.truncated)}
    log_prob = found.answer_log_prob
    if log_prob is not None:
        signals["answer_log_prob"] = log_prob
    return signals


def single(found: Attempt) -> Draft:
    """The draft of one text."""
    return Draft(
        found.answer, found.thoughts(), signals=signals_of(found), truncated=found.truncated,
        looped=found.looped, tokens=len(found.sample.tokens), error=empty_words(found),
    )  # fmt: skip
