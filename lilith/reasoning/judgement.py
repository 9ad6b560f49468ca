"""Which of two: a model's choice between (A) and (B), asked in both orders.

A small model likes a letter or a place more than it knows which answer is better. Each question
is therefore asked twice, with the two swapped, and the probabilities are averaged: what is liked
only for its letter comes to one half. Self-critique, the constitution and training share this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lilith.reasoning import constitution, prompting
from lilith.reasoning.constitution import Principle
from lilith.reasoning.sampler import Prompt, ReasoningError, Sampler

_VOTE = (
    "Problem:\n{problem}\n\n(A)\n{a}\n\n(B)\n{b}\n\nWhich of these answers is correct? "
    "(A) the first answer (B) the second answer\n\n"
    "Answer with the letter only. The correct answer is ("
)


@dataclass(frozen=True)
class Preference:
    """The probability of the first of two, in both orders.

    Attributes:
      as_a: where the first stood as (A).
      as_b: where it stood as (B).
    """

    as_a: float
    as_b: float

    @property
    def probability(self) -> float:
        """Of the first, averaged over both orders; 0.5 where only the letter decides."""
        return (self.as_a + self.as_b) / 2

    @property
    def letter_bias(self) -> float:
        """How much more than one half (A) is chosen, whatever stands there: -0.5 to 0.5."""
        return (self.as_a - self.as_b) / 2

    @property
    def agrees(self) -> bool:
        """Whether both orders choose the same one; not where an order is undecided."""
        return (self.as_a - 0.5) * (self.as_b - 0.5) > 0


def both_orders(sampler: Sampler, question: Callable[[bool], Prompt]) -> Preference:
    """Ask a question whose answer is A or B, as it is and with the two swapped.

    Args:
      question: gives the prompt; its argument says whether the first of the two stands as (A).

    Raises:
      BudgetEnded: the time is over.
      UserError: the question is longer than the model's context.
    """
    as_a = sampler.preference(question(True), "A", "B")
    as_b = 1 - sampler.preference(question(False), "A", "B")
    return Preference(as_a, as_b)


def compare(
    sampler: Sampler, prompt: str, first: str, second: str, principle: Principle
) -> Preference:
    """How probably ``first`` keeps better to the principle than ``second``, by the model.

    Raises:
      BudgetEnded, UserError: as :func:`both_orders`.
      ConstitutionError: the prompt is empty.
    """
    return both_orders(
        sampler,
        lambda first_is_a: prompting.ask(
            constitution.comparison_prompt(
                prompt, *((first, second) if first_is_a else (second, first)), principle
            ),
            chat=sampler.chat,
        ),
    )


def violates(sampler: Sampler, prompt: str, answer: str, principle: Principle) -> Preference:
    """How probably the answer violates the principle, by the model: "yes" against "no".

    Raises:
      BudgetEnded, UserError: as :func:`both_orders`.
      ConstitutionError: the prompt is empty.
    """
    return both_orders(
        sampler,
        lambda yes_is_a: prompting.ask(
            constitution.violation_prompt(prompt, answer, principle, yes_is_a=yes_is_a),
            chat=sampler.chat,
        ),
    )


def better_answer(sampler: Sampler, problem: str, first: str, second: str) -> Preference:
    """How probably ``first`` is the correct answer to the problem and not ``second``.

    Raises:
      BudgetEnded, UserError: as :func:`both_orders`.
    """

    def question(first_is_a: bool) -> Prompt:
        a, b = (first, second) if first_is_a else (second, first)
        return prompting.ask(_VOTE.format(problem=problem, a=a, b=b), chat=sampler.chat)

    return both_orders(sampler, question)


def averaged(preferences: Sequence[Preference]) -> Preference:
    """The mean of several, such as one comparison by each principle.

    Raises:
      ReasoningError: there are none.
    """
    if not preferences:
        raise ReasoningError(
            "there are no preferences to average; compare by one principle or more"
        )
    count = len(preferences)
    return Preference(
        sum(one.as_a for one in preferences) / count, sum(one.as_b for one in preferences) / count
    )
