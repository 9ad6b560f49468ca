"""The advanced reasoner: think, verify, refine while there is reason and budget, keep the law.

A small model profits from what it need not do itself, so that doubt is met in this order: a program
computes, samples vote, and only then the model criticises itself. Which answer stands is decided by
verifiers, votes and confidence, and each decision is in the trace with its reason and its cost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from lilith.config import UserError
from lilith.reasoning import prompting
from lilith.reasoning.chain_of_thought import made_settings
from lilith.reasoning.constitution import Constitution
from lilith.reasoning.constitutional import ConstitutionalAI
from lilith.reasoning.critique import SelfCritique
from lilith.reasoning.metacognition import MetacognitiveMonitor
from lilith.reasoning.reasoner_run import Event, Run
from lilith.reasoning.sampler import Budget, Decoder, Model, ReasoningError, Sampler
from lilith.reasoning.trace import ReasoningStrategy, ReasoningTrace
from lilith.reasoning.verification import Verifier

# Room for one text, a program with its repairs, eight samples and a critique of a usual length;
# the time is a backstop on slow machines.
DEFAULT_BUDGET = Budget(tokens=8192, seconds=600.0)


class AdvancedReasoner:
    """Reasons about a problem until there is no reason left to doubt the answer.

    A problem is thought about by a strategy. While the monitor has reasons to doubt the answer,
    and the budget lasts, it is refined: where a number is asked for or arithmetic is wrong, a
    program computes; samples vote (with a verifier, it judges the answer of each: BEST_OF_N); the
    model criticises itself. An answer replaces another only where it is verified and the other is
    not, or neither is and the arithmetic and form of the text, the votes of all ways together or
    the confidence prefer it. What a verifier confirms is refined no further. Then the constitution
    is applied to the answer (to a bare number or letter its rules alone); a request that the rules
    find harmful is declined before the model writes anything.

    Attributes:
      budget: of each problem.
      monitor, constitution, critic, settings, sampler: the parts; ``constitution`` None for none.
      rules: the constitution's, without the model.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        strategy: ReasoningStrategy,
        monitor: MetacognitiveMonitor,
        constitution: ConstitutionalAI | None,
        critique_rounds: int,
        on_event: Callable[[Event], None] | None,
        **settings: Any,
    ) -> None:
        self.settings = made_settings(settings)
        self.sampler, self.strategy, self.monitor = sampler, strategy, monitor
        self.constitution, self.on_event = constitution, on_event
        self.rules = ConstitutionalAI(
            use_model=False, constitution=constitution.constitution if constitution else None
        )
        own = self.settings
        self.critic = SelfCritique(
            sampler.model, max_rounds=critique_rounds, sampler=sampler, verifier=own.verifier,
            verifier_seconds=own.verifier_seconds, max_tokens=own.max_tokens,
            answer_kind=own.answer_kind, seed=own.seed,
        )  # fmt: skip

    @property
    def budget(self) -> Budget | None:
        """What reasoning about one problem may cost."""
        return self.sampler.budget

    def __call__(
        self, problem: str, strategy: str | ReasoningStrategy | None = None
    ) -> ReasoningTrace:
        """Reason about one problem.

        Returns:
          The trace. ``decisions`` say what was done, why, and its cost; ``tokens`` are all that the
          model wrote. ``is_safe`` is False where the request or the model's answer was against the
          constitution; ``final_answer`` is then the one that is not.

        Raises:
          ReasoningError: the problem is empty or no text.
          StrategyError: the strategy does not exist.
          UserError: the problem does not fit into the model's context.
        """
        chosen = self.strategy if strategy is None else ReasoningStrategy.find(strategy)
        problem = prompting.checked_problem(problem)
        self.sampler.restart()
        return Run(self, problem, chosen, self._emit).trace()

    def reason(
        self, problem: str, strategy: str | ReasoningStrategy | None = None
    ) -> ReasoningTrace:
        """As calling it."""
        return self(problem, strategy)

    def reason_batch(
        self, problems: Sequence[str], strategy: str | ReasoningStrategy | None = None
    ) -> list[ReasoningTrace]:
        """Reason about each problem with a budget of its own.

        A problem that can not be reasoned about gives a trace whose ``error`` says why; whatever
        goes wrong with one does not disturb the others.

        Raises:
          StrategyError: the strategy does not exist.
        """
        chosen = self.strategy if strategy is None else ReasoningStrategy.find(strategy)
        return [self._alone(problem, chosen) for problem in problems]

    def _alone(self, problem: str, strategy: ReasoningStrategy) -> ReasoningTrace:
        try:
            return self(problem, strategy)
        except UserError as error:
            words = str(error)
        except Exception as error:  # of the model's program: the others' traces must not be lost
            words = f"{type(error).__name__}: {error}"
        text = problem if isinstance(problem, str) else repr(problem)
        return ReasoningTrace(text, confidence=0.0, strategy=strategy, error=words)

    def _emit(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)


def create_advanced_reasoner(
    model: Model,
    tokenizer: Decoder | None = None,
    use_constitutional_ai: bool = True,
    budget: Budget | None = None,
    *,
    strategy: str | ReasoningStrategy = ReasoningStrategy.CHAIN_OF_THOUGHT,
    verifier: Verifier | None = None,
    monitor: MetacognitiveMonitor | None = None,
    constitution: str | os.PathLike[str] | Constitution | None = None,
    critique_rounds: int = 2,
    batch_size: int = 16,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> AdvancedReasoner:
    """A reasoner with all parts: ``reasoner(problem) -> ReasoningTrace``.

    Args:
      model: a :class:`lilith.inference.language_model.LanguageModel`, or what has its ``encode``,
        ``generate_batch``, ``score``, ``config.context`` and ``chat_template``.
      tokenizer: None takes the model's.
      use_constitutional_ai: whether the constitution is applied.
      budget: tokens and seconds of each problem; None takes :data:`DEFAULT_BUDGET`.
      strategy: of the first thinking.
      verifier: judges an answer: (problem, answer) -> True, False or None.
      monitor: with its thresholds and its calibrator; None takes an uncalibrated one.
      constitution: a file, a :class:`Constitution`, or None for the project's own.
      critique_rounds: of self-critique.
      batch_size: texts generated together.
      on_event: is given each thought and each decision as it comes, to show the trace as it grows.
        Steps that the rules of the constitution find harmful are not given to it.
      settings: those of :class:`lilith.reasoning.drafts.Settings`.

    Raises:
      ReasoningError: a setting does not exist or is out of range.
      StrategyError: the strategy does not exist.
      ConstitutionError: the constitution can not be used.
    """
    if budget is not None and not isinstance(budget, Budget):
        raise ReasoningError(f"budget is {budget!r}; give a Budget(tokens=..., seconds=...)")
    if constitution is not None and not use_constitutional_ai:
        raise ReasoningError(
            "a constitution is given and use_constitutional_ai is False; leave one of them out"
        )
    chosen = ReasoningStrategy.find(strategy)
    checked = made_settings({**settings, "verifier": verifier})
    sampler = Sampler(model, tokenizer, budget=budget or DEFAULT_BUDGET, batch_size=batch_size)
    keeper = None
    if use_constitutional_ai:
        keeper = ConstitutionalAI(
            model, tokenizer, constitution=constitution, sampler=sampler,
            max_tokens=checked.max_tokens, seed=checked.seed,
        )  # fmt: skip
    return AdvancedReasoner(
        sampler, strategy=chosen, monitor=monitor or MetacognitiveMonitor(), constitution=keeper,
        critique_rounds=critique_rounds, on_event=on_event, verifier=verifier, **settings,
    )  # fmt: skip
