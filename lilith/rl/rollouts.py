"""Answers collected from a policy: its tokens, their log-probabilities, and what answered it.

Tokens are drawn from the policy's own distribution: temperature 1, no filters, so that the
sampler's log-probabilities are those that a policy gradient is about. A row's draws depend on its
seed alone, not on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lilith.inference.engine import Engine
from lilith.inference.sampling import make_controls

# Given a rollout that ended: ids that follow it (a tool's answer and what begins the next turn of
# the assistant), or None where the conversation is over.
Reply = Callable[["Rollout"], Sequence[int] | None]
_SEED_STEP = 0x9E3779B1  # between the seeds of a row's turns; odd, so that 2^32 turns differ


@dataclass(frozen=True)
class Rollout:
    """One conversation that a policy took part in.

    Attributes:
      ids: the prompt and all that follows.
      learnt: of each id whether the policy wrote it: not the prompt, not what tools answered.
      log_probs: float32, the sampler's log-probability of each id that the policy wrote, 0 at the
        others.
      prompt: its number among the prompts; copy: its number among the answers to that prompt.
      prompt_tokens: how many of the ids are the prompt.
      ended: the last turn ended with a stop token, not because there was no room left.
      turns: how often the policy wrote.
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]
    log_probs: tuple[float, ...]
    prompt: int
    copy: int
    prompt_tokens: int
    ended: bool = False
    turns: int = 0

    @property
    def written(self) -> int:
        """How many tokens the policy wrote."""
        return sum(self.learnt)

    def replied(self, ids: Sequence[int]) -> Rollout:
        """With ids that somebody else wrote, after which the policy is to go on."""
        extra = len(ids)
        return replace(
            self,
            ids=(*self.ids, *ids),
            learnt=(*self.learnt, *(False,) * extra),
            log_probs=(*self.log_probs, *(0.0,) * extra),
            ended=False,
        )


@dataclass(frozen=True)
class Limits:
    """How much is collected.

    Attributes:
      answer_tokens: most ids after the prompt, those of tools included.
      turns: how often the policy may write in one conversation.
      rows: conversations generated together.
    """

    answer_tokens: int
    turns: int = 1
    rows: int = 64


@dataclass
class _Row:
    """A conversation under way: what was written in this turn so far."""

    rollout: Rollout
    seed: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


def collect(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    *,
    copies: int = 1,
    stop_ids: Sequence[int],
    limits: Limits,
    reply: Reply | None = None,
    temperature: float = 1.0,
) -> Iterator[Rollout]:
    """Rollouts of every prompt, each as soon as it is over, in no fixed order.

    The contents depend on the policy, the prompts and the seeds alone.

    Args:
      seeds: one for each rollout, those of a prompt's copies as neighbours.
      copies: answers to each prompt; they share one reading of it.
      reply: what answers the policy when it has ended a turn; None: nobody.
      temperature: 1 draws from the policy, as learning needs; 0 takes the likeliest tokens, for
        evaluation. Log-probabilities are at temperature 1 in any case.

    Raises:
      UserError: a prompt is empty or leaves no room in the model's context.
    """
    if len(seeds) != len(prompts) * copies:
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts times {copies}")
    together = max(1, limits.rows // copies)
    for first in range(0, len(prompts), together):
        chosen = [list(prompt) for prompt in prompts[first : first + together]]
        rows = [
            _Row(_begun(ids, first + number, copy), seeds[(first + number) * copies + copy])
            for number, ids in enumerate(chosen)
            for copy in range(copies)
        ]
        again: list[_Row] = []
        for row in _turn(engine, rows, chosen, copies, stop_ids, limits, temperature):
            yield from _ended(row, reply, limits, again)
        while again:
            rows, again = sorted(again, key=lambda row: len(row.rollout.ids)), []
            parts = [list(row.rollout.ids) for row in rows]
            for row in _turn(engine, rows, parts, 1, stop_ids, limits, temperature):
                yield from _ended(row, reply, limits, again)


def _begun(ids: list[int], prompt: int, copy: int) -> Rollout:
    size = len(ids)
    return Rollout(tuple(ids), (False,) * size, (0.0,) * size, prompt, copy, size)


def _room(rollout: Rollout, limits: Limits) -> int:
    return limits.answer_tokens - (len(rollout.ids) - rollout.prompt_tokens)


def _ended(row: _Row, reply: Reply | None, limits: Limits, again: list[_Row]) -> Iterator[Rollout]:
    """The rollout if it is over; otherwise it goes into ``again``, with its reply."""
    rollout = row.rollout
    follows = None
    if reply is not None and rollout.ended and rollout.turns < limits.turns:
        follows = reply(rollout)
    if follows is None or len(follows) >= _room(rollout, limits):
        yield rollout
        return
    seed = (row.seed + rollout.turns * _SEED_STEP) % 2**32
    again.append(_Row(rollout.replied(follows), seed))


def _turn(
    engine: Engine,
    rows: list[_Row],
    prompts: list[list[int]],
    copies: int,
    stop_ids: Sequence[int],
    limits: Limits,
    temperature: float,
) -> Iterator[_Row]:
    """Let the policy write one turn in each row; rows come out as they end."""
    room = max(_room(row.rollout, limits) for row in rows)
    controls = make_controls(
        len(rows),
        seeds=[row.seed for row in rows],
        temperature=temperature,
        stop_ids=tuple(stop_ids),
    )
    generation = engine.begin(prompts, controls, copies=copies, reserve=room)
    slots: list[_Row | None] = list(rows)
    while any(slots):
        budgets = [
            0 if row is None else _room(row.rollout, limits) - len(row.tokens) for row in slots
        ]
        step = engine.step(generation, budgets)
        for number, row in enumerate(slots):
            if row is None:
                continue
            row.tokens += step.tokens[number]
            row.log_probs += step.log_probs[number]
            stopped = row.tokens[-1] in stop_ids
            if stopped or len(row.tokens) >= _room(row.rollout, limits):
                slots[number] = None
                yield _Row(_written(row, stopped), row.seed)
        going = [number for number, row in enumerate(slots) if row is not None]
        if engine.keep(generation, going):
            slots = [slots[number] for number in going]


def _written(row: _Row, stopped: bool) -> Rollout:
    """The rollout with what the policy wrote in this turn."""
    rollout = row.rollout
    return replace(
        rollout,
        ids=(*rollout.ids, *row.tokens),
        learnt=(*rollout.learnt, *(True,) * len(row.tokens)),
        log_probs=(*rollout.log_probs, *row.log_probs),
        ended=stopped,
        turns=rollout.turns + 1,
    )
