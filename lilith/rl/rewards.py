"""What finished conversations are worth: rules, verifiers, reward models, and mixtures of them.

A source says how it is called. A :class:`Rule` is cheap and asked at once; a :class:`Verifier` may
be slow or hang, so it works in threads of its own while others are still being generated, and is
given up after a time limit; a :class:`Scorer`, such as a reward model, takes a whole batch when
generation is over.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lilith.config import ConfigError, UserError
from lilith.reasoning.verification import within


class RewardError(UserError):
    """A source's rewards can not be used."""


@dataclass(frozen=True)
class Finished:
    """A conversation that is over, as sources see it.

    Attributes:
      messages: the prompt's messages, then what the policy and its tools wrote.
      answer: the policy's last turn, without the token that ended it.
      ids: all token ids; ended: the last turn ended by itself.
      check: what the prompt's record says that its answer can be verified against.
    """

    messages: Sequence[Mapping[str, Any]]
    answer: str
    ids: Sequence[int] = ()
    ended: bool = True
    check: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A cheap function of one conversation."""

    name: str
    function: Callable[[Finished], float]


@dataclass(frozen=True)
class Verifier:
    """A function of one conversation that may take long.

    Attributes:
      seconds: after which it is given up; its thread is left to itself, so that a function which
        can hang should also bound itself, as SHAMSHEL does.
      failure: the reward of a conversation whose verification was given up or raised.
      workers: conversations verified at the same time.
    """

    name: str
    function: Callable[[Finished], float]
    seconds: float = 30.0
    failure: float = 0.0
    workers: int = 2


@dataclass(frozen=True)
class Scorer:
    """A function of a batch of conversations, one number each."""

    name: str
    function: Callable[[Sequence[Finished]], Sequence[float]]


Source = Rule | Verifier | Scorer


@dataclass(frozen=True)
class Rewards:
    """What a batch is worth.

    Attributes:
      total: float32 [n], the weighted sum over the sources.
      by_source: float32 [n] of each source, unweighted.
      given_up: of each verifier how many conversations ran into its time limit.
      failed: of each verifier how many raised an error, and the first one's words.
    """

    total: np.ndarray
    by_source: Mapping[str, np.ndarray]
    given_up: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, tuple[int, str]] = field(default_factory=dict)


class Mixture:
    """A weighted sum of sources.

    Args:
      sources: each with its weight.

    Raises:
      ConfigError: no source, two of one name, or a weight that is not a finite number.
    """

    def __init__(self, sources: Sequence[tuple[float, Source]]) -> None:
        names = [source.name for _, source in sources]
        if not names:
            raise ConfigError("there is no reward source; name one or more in reward.sources")
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two reward sources are called {name!r}; name each once")
        for weight, source in sources:
            if not np.isfinite(weight):
                raise ConfigError(f"the weight of reward source {source.name!r} is {weight}")
        self.sources = tuple(sources)

    def judge(self) -> Judgement:
        """Begin a batch: add conversations as they end, then ask for their rewards."""
        return Judgement(self.sources)


class Judgement:
    """One batch being judged. ``add`` may be called while others are still being generated."""

    def __init__(self, sources: Sequence[tuple[float, Source]]) -> None:
        self._sources = sources
        self._conversations: list[Finished] = []
        self._pools = {
            source.name: _Pool(source) for _, source in sources if isinstance(source, Verifier)
        }

    def add(self, conversation: Finished) -> None:
        """Take a conversation that is over; verifiers start on it at once."""
        self._conversations.append(conversation)
        for pool in self._pools.values():
            pool.submit(conversation)

    def rewards(self) -> Rewards:
        """The rewards of all conversations, in the order in which they were added.

        Raises:
          RewardError: a source gave another number of rewards, or one that is not finite.
        """
        count = len(self._conversations)
        total = np.zeros(count, np.float32)
        by_source = {}
        for weight, source in self._sources:
            found = checked(source.name, self._ask(source), count)
            by_source[source.name] = found
            total += np.float32(weight) * found
        given_up = {name: pool.given_up for name, pool in self._pools.items() if pool.given_up}
        failed = {
            name: (pool.failed, pool.first_error)
            for name, pool in self._pools.items()
            if pool.failed
        }
        return Rewards(total, by_source, given_up, failed)

    def _ask(self, source: Source) -> Sequence[float]:
        if isinstance(source, Scorer):
            return source.function(self._conversations) if self._conversations else []
        if isinstance(source, Verifier):
            return self._pools[source.name].rewards()
        return [source.function(conversation) for conversation in self._conversations]


def checked(name: str, values: Any, count: int) -> np.ndarray:
    """A source's rewards as float32 [count].

    Raises:
      RewardError: there are more or fewer, or one is not a finite number.
    """
    try:
        found = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise RewardError(
            f"reward source {name!r} gave what are not numbers ({error}); it must give one number "
            "a conversation"
        ) from None
    if found.shape != (count,):
        raise RewardError(
            f"reward source {name!r} gave rewards of shape {list(found.shape)} for {count} "
            f"conversations; it must give {count} numbers"
        )
    odd = np.flatnonzero(~np.isfinite(found))
    if len(odd):
        raise RewardError(
            f"reward source {name!r} gave {found[odd[0]]} for conversation {odd[0]} of {count}; "
            "rewards must be finite: return a number for answers that can not be judged, too"
        )
    return found


class _Pool:
    """Threads that verify conversations in order, each within the verifier's time."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.given_up = self.failed = 0
        self.first_error = ""
        self._jobs: queue.SimpleQueue[tuple[int, Finished] | None] = queue.SimpleQueue()
        self._found: dict[int, float] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._workers = [
            threading.Thread(target=self._work, daemon=True) for _ in range(verifier.workers)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, conversation: Finished) -> None:
        """Verify it as soon as a worker is free."""
        self._jobs.put((self._count, conversation))
        self._count += 1

    def rewards(self) -> list[float]:
        """Of all conversations submitted, once the last is verified or given up."""
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()
        return [self._found[number] for number in range(self._count)]

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            number, conversation = job
            reward, given_up, error = self._verify(conversation)
            with self._lock:
                self._found[number] = reward
                self.given_up += given_up
                self.failed += bool(error)
                self.first_error = self.first_error or error

    def _verify(self, conversation: Finished) -> tuple[float, bool, str]:
        """The reward, whether the verifier was given up, and what it raised."""
        outcome = within(self.verifier.seconds, lambda: self.verifier.function(conversation))
        if outcome.given_up or outcome.error:
            return self.verifier.failure, outcome.given_up, outcome.error
        value: Any = outcome.value  # what is no number, such as None, is refused later
        return value, False, ""
