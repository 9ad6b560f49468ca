"""Asking a model, with a meter: what is generated, what it costs, and where a budget ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lilith.config import UserError

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Messages


class ReasoningError(UserError):
    """A problem, a model or settings that can not be reasoned with."""


class BudgetEnded(Exception):
    """The budget of tokens or seconds is used up; what was found until then stands."""


class Completion(Protocol):
    """An answer as :class:`lilith.inference.language_model.Completion` has it."""

    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def log_probs(self) -> Sequence[float]: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...


class Model(Protocol):
    """What reasoning needs of a model, as ``lilith.inference.language_model.LanguageModel`` has.

    ``config.context`` is how many tokens it can hold, ``chat_template`` None for a base model.
    """

    config: Any
    tokenizer: Any
    chat_template: Any

    def encode(self, prompt: Any) -> list[int]: ...
    def generate_batch(
        self, prompts: Sequence[Any], *, n: int = 1, batch_size: int = 16, **settings: Any
    ) -> Sequence[Completion]: ...
    def score(self, prompt: Any, continuations: Sequence[str]) -> list[float]: ...


class Decoder(Protocol):
    """What reasoning needs of a tokenizer: the text of ids."""

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class Budget:
    """What reasoning about one problem may cost.

    Attributes:
      tokens: written by the model.
      seconds: from the problem to the answer. A generation that has begun is not interrupted: its
        length is chosen by the speed measured so far.
    """

    tokens: int = 4096
    seconds: float = math.inf

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, int) or self.tokens < 1:
            raise ReasoningError(f"budget.tokens is {self.tokens!r}; it must be 1 or more")
        if not self.seconds > 0:
            raise ReasoningError(f"budget.seconds is {self.seconds!r}; it must be more than 0")


@dataclass(frozen=True)
class Sample:
    """A text that the model wrote.

    Attributes:
      text: without what ended it.
      tokens: its ids; log_probs: of each, nats, under the model's own distribution.
      finish_reason: "stop", "length" or "context".
      starts: the place in ``text`` where each token begins.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str
    starts: tuple[int, ...]

    @property
    def truncated(self) -> bool:
        """Whether it ended at a limit and not by itself."""
        return self.finish_reason != "stop"

    def log_prob(self, start: int = 0, end: int | None = None) -> float | None:
        """The mean log-probability of the tokens of ``text[start:end]``; None without any."""
        end = len(self.text) if end is None else end
        ends = (*self.starts[1:], len(self.text))
        own = [
            value
            for value, first, last in zip(self.log_probs, self.starts, ends)
            if first < end and last > start
        ]
        return sum(own) / len(own) if own else None


class Sampler:
    """A model with a meter.

    Attributes:
      written: tokens that the model wrote; read: tokens of prompts; calls: how often it was asked.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Decoder | None = None,
        *,
        budget: Budget | None = None,
        batch_size: int = 16,
    ) -> None:
        self.model = model
        self.tokenizer: Decoder = model.tokenizer if tokenizer is None else tokenizer
        self.budget, self.batch_size = budget, batch_size
        self.written = self.read = self.calls = 0
        self._began = time.monotonic()
        self._step_seconds = 0.0  # of one token of all rows, as last measured

    @property
    def chat(self) -> bool:
        """Whether the model has a chat template, so that it is given messages."""
        return self.model.chat_template is not None

    @property
    def seconds(self) -> float:
        """Since the meter was made."""
        return time.monotonic() - self._began

    def restart(self) -> None:
        """Set the meter to zero, for the next problem."""
        self.written = self.read = self.calls = 0
        self._began = time.monotonic()

    def room(self, prompt: Prompt) -> int:
        """How many tokens an answer to the prompt can have within the context; may be below 1."""
        return int(self.model.config.context) - len(self.model.encode(prompt))

    def samples(
        self,
        prompts: Sequence[Prompt],
        n: int = 1,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> list[list[Sample]]:
        """``n`` texts after each prompt; those of one prompt share one reading of it.

        Raises:
          BudgetEnded: nothing is left to write with.
          UserError: a prompt is empty or longer than the context.
        """
        if not prompts:
            return []
        max_tokens = self._affordable(max_tokens, len(prompts) * n)
        began = time.monotonic()
        found = self.model.generate_batch(
            prompts, n=n, batch_size=max(self.batch_size, n), max_tokens=max_tokens,
            temperature=temperature, top_p=top_p, seed=seed, stop=tuple(stop),
        )  # fmt: skip
        longest = max((len(one.tokens) for one in found), default=0)
        rounds = -(-len(prompts) // max(1, max(self.batch_size, n) // n))
        self._step_seconds = (time.monotonic() - began) / max(1, longest * rounds)
        self.calls += 1
        self.written += sum(len(one.tokens) for one in found)
        self.read += sum(one.prompt_tokens for one in found[::n])
        made = [self._sample(one) for one in found]
        return [made[start : start + n] for start in range(0, len(made), n)]

    def sample(self, prompt: Prompt, **settings: Any) -> Sample:
        """One text after one prompt; the settings are those of :meth:`samples`."""
        return self.samples([prompt], **settings)[0][0]

    def preference(self, prompt: Prompt, first: str, second: str) -> float:
        """The probability of ``first`` against ``second`` as what the model writes next.

        Raises:
          BudgetEnded: the time is over.
          UserError: as :meth:`samples`.
        """
        if self.budget is not None and self.seconds >= self.budget.seconds:
            raise BudgetEnded
        one, other = self.model.score(prompt, [first, second])
        self.calls += 1
        self.read += len(self.model.encode(prompt))
        gap = other - one
        return 1 / (1 + math.exp(gap)) if gap < 700 else 0.0

    def _affordable(self, max_tokens: int, rows: int) -> int:
        """How long each of the rows may be within what is left of the budget."""
        if self.budget is None:
            return max_tokens
        left = (self.budget.tokens - self.written) // rows
        time_left = self.budget.seconds - self.seconds
        if self._step_seconds and math.isfinite(time_left):
            left = min(left, int(time_left / self._step_seconds))
        if left < 1 or time_left <= 0:
            raise BudgetEnded
        return min(max_tokens, left)

    def _sample(self, found: Completion) -> Sample:
        return Sample(
            found.text, tuple(found.tokens), tuple(found.log_probs), found.finish_reason,
            token_starts(found.text, found.tokens, self.tokenizer),
        )  # fmt: skip


def token_starts(text: str, tokens: Sequence[int], tokenizer: Decoder) -> tuple[int, ...]:
    """The place in ``text`` where each token begins.

    A token's own text is looked for behind the one before it; one that is found nowhere near (a
    part of a character, what ended the answer) begins where the last one ended.
    """
    starts: list[int] = []
    at = 0
    for token in tokens:
        piece = tokenizer.decode([token])
        bare = piece.strip()
        found = text.find(bare, at, at + len(piece) + 8) if bare and "\ufffd" not in bare else -1
        spaces = len(piece) - len(piece.lstrip())
        starts.append(min(max(at, found - spaces) if found >= 0 else at, len(text)))
        at = found + len(bare) if found >= 0 else at
    return tuple(starts)
