"""A problem in, a trace out: the strategies behind one door."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lilith.config import UserError
from lilith.reasoning import (
    confidence,
    debate,
    program,
    prompting,
    tree_search,
    verification,
    voting,
)
from lilith.reasoning.calibration import Calibrator
from lilith.reasoning.drafts import Draft, Settings
from lilith.reasoning.sampler import BudgetEnded, Decoder, Model, ReasoningError, Sampler
from lilith.reasoning.trace import Decision, ReasoningStrategy, ReasoningTrace

Strategy = Callable[[Sampler, Sequence[str], Settings], list[Draft]]
STRATEGIES: dict[ReasoningStrategy, Strategy] = {
    ReasoningStrategy.DIRECT: voting.direct,
    ReasoningStrategy.CHAIN_OF_THOUGHT: voting.chain_of_thought,
    ReasoningStrategy.SELF_CONSISTENCY: voting.self_consistency,
    ReasoningStrategy.BEST_OF_N: voting.best_of_n,
    ReasoningStrategy.TREE_SEARCH: tree_search.tree_search,
    ReasoningStrategy.PROGRAM: program.program,
    ReasoningStrategy.DEBATE: debate.debate,
}


class ChainOfThought:
    """Reasons about problems by a strategy; CHAIN_OF_THOUGHT unless another is named.

    Args:
      model: a :class:`lilith.inference.language_model.LanguageModel`, or what has its ``encode``,
        ``generate_batch``, ``score``, ``config.context`` and ``chat_template``.
      tokenizer: None takes the model's.
      calibrator: makes the confidence one that was measured; see
        :class:`lilith.reasoning.metacognition.MetacognitiveMonitor`.
      sampler: a meter and a budget that are shared with others.
      batch_size: texts generated together.
      settings: those of :class:`lilith.reasoning.drafts.Settings`.

    Raises:
      ReasoningError: a setting does not exist or is out of range.
      StrategyError: the strategy does not exist.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Decoder | None = None,
        *,
        strategy: str | ReasoningStrategy = ReasoningStrategy.CHAIN_OF_THOUGHT,
        calibrator: Calibrator | None = None,
        sampler: Sampler | None = None,
        batch_size: int = 16,
        **settings: Any,
    ) -> None:
        self.strategy = ReasoningStrategy.find(strategy)
        self.calibrator = calibrator
        self.sampler = sampler or Sampler(model, tokenizer, batch_size=batch_size)
        self.settings = made_settings(settings)

    def reason(
        self, problem: str, strategy: str | ReasoningStrategy | None = None
    ) -> ReasoningTrace:
        """Reason about one problem.

        Raises:
          ReasoningError: the problem is empty or no text.
          UserError: it does not fit into the model's context.
        """
        chosen = self.strategy if strategy is None else ReasoningStrategy.find(strategy)
        return self._traces([prompting.checked_problem(problem)], chosen)[0]

    def reason_batch(
        self, problems: Sequence[str], strategy: str | ReasoningStrategy | None = None
    ) -> list[ReasoningTrace]:
        """Reason about many problems, generated together where the strategy can.

        A problem that can not be reasoned about gives a trace whose ``error`` says why; it does
        not disturb the others.
        """
        chosen = self.strategy if strategy is None else ReasoningStrategy.find(strategy)
        traces: dict[int, ReasoningTrace] = {}
        good: list[tuple[int, str]] = []
        for place, problem in enumerate(problems):
            try:
                good.append((place, prompting.checked_problem(problem)))
            except ReasoningError as error:
                traces[place] = _failed(problem, chosen, str(error))
        try:
            made = self._traces([problem for _, problem in good], chosen) if good else []
        except UserError:  # one of them does not fit: find out which
            made = [self._alone(problem, chosen) for _, problem in good]
        traces |= {place: trace for (place, _), trace in zip(good, made, strict=True)}
        return [traces[place] for place in range(len(problems))]

    def trace_of(self, problem: str, draft: Draft, strategy: ReasoningStrategy) -> ReasoningTrace:
        """The trace of a draft, judged by the verifier and with its confidence."""
        began = self.sampler.seconds
        judged, verdict = self._judged(problem, draft)
        return self._trace(problem, judged, strategy, verdict, self.sampler.seconds - began)

    def _alone(self, problem: str, strategy: ReasoningStrategy) -> ReasoningTrace:
        try:
            return self._traces([problem], strategy)[0]
        except UserError as error:
            return _failed(problem, strategy, str(error))

    def _traces(self, problems: list[str], strategy: ReasoningStrategy) -> list[ReasoningTrace]:
        began, calls = self.sampler.seconds, self.sampler.written
        try:
            drafts = STRATEGIES[strategy](self.sampler, problems, self.settings)
        except BudgetEnded:
            words = "the budget of tokens or seconds ended before there was an answer"
            written = (self.sampler.written - calls) // len(problems)
            drafts = [Draft(None, tokens=written, error=words) for _ in problems]
        judged = [self._judged(problem, draft) for problem, draft in zip(problems, drafts)]
        seconds = (self.sampler.seconds - began) / len(problems)
        return [
            self._trace(problem, draft, strategy, verdict, seconds)
            for problem, (draft, verdict) in zip(problems, judged, strict=True)
        ]

    def _judged(self, problem: str, draft: Draft) -> tuple[Draft, bool | None]:
        """The draft with the signals of what judges its answer, and the verifier's verdict."""
        signals, decisions = dict(draft.signals), list(draft.decisions)
        verdict: bool | None = None
        if draft.answer is not None:
            if self.settings.verifier is not None:
                said = verification.judge(
                    self.settings.verifier, problem, draft.answer, self.settings.verifier_seconds
                )
                verdict = said.verified
                if said.note:
                    decisions.append(Decision("verify", said.note))
            checked = verdict
            if checked is None:
                checked = confidence.arithmetic_verdict(draft.thoughts)
            if checked is not None:
                signals["verifier"] = float(checked)
            if self.settings.ask_p_true:
                # Without it there is one signal less, and the answer stands.
                with contextlib.suppress(BudgetEnded, UserError):
                    signals["p_true"] = confidence.p_true(self.sampler, problem, draft.answer)
        judged = dataclasses.replace(draft, signals=signals, decisions=tuple(decisions))
        return judged, verdict

    def _trace(
        self,
        problem: str,
        draft: Draft,
        strategy: ReasoningStrategy,
        verdict: bool | None,
        seconds: float,
    ) -> ReasoningTrace:
        value, calibrated = confidence.confidence(draft.signals, draft.answer, self.calibrator)
        return ReasoningTrace(
            problem, draft.thoughts, draft.answer, value, calibrated, verified=verdict,
            strategy=strategy, tokens=draft.tokens, seconds=seconds,
            alternatives=draft.alternatives, decisions=draft.decisions,
            truncated=draft.truncated, looped=draft.looped,
            answer_kind=self.settings.kind(problem), signals=draft.signals,
            transcript=draft.transcript, error=draft.error,
        )  # fmt: skip


def made_settings(given: dict[str, Any]) -> Settings:
    """The settings of keyword arguments.

    Raises:
      ReasoningError: a name that does not exist, or a value out of range.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise ReasoningError(f"reasoning has no setting {name!r}; it has {', '.join(known)}")
    return Settings(**given)


def _failed(problem: object, strategy: ReasoningStrategy, words: str) -> ReasoningTrace:
    text = problem if isinstance(problem, str) else repr(problem)
    return ReasoningTrace(text, confidence=0.0, strategy=strategy, error=words)
