"""One problem on its way through the advanced reasoner, within its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lilith.config import UserError
from lilith.reasoning import safe_trace
from lilith.reasoning.answers import canonical
from lilith.reasoning.chain_of_thought import ChainOfThought
from lilith.reasoning.drafts import Draft, Settings, thought
from lilith.reasoning.metacognition import Reason
from lilith.reasoning.sampler import BudgetEnded
from lilith.reasoning.steps import extract_answer, is_loop, split_steps
from lilith.reasoning.trace import Decision, ReasoningStrategy, ReasoningTrace, Thought
from lilith.reasoning.violations import Violation
from lilith.reasoning.ways import choice, named, pooled, votes_of

if TYPE_CHECKING:
    from lilith.reasoning.reasoner import AdvancedReasoner

Event = Decision | Thought
LEAST_SAMPLES = 2  # fewer can not vote
LEAST_TOKENS = 16  # of a text that is worth beginning
_DRAWN = (ReasoningStrategy.SELF_CONSISTENCY, ReasoningStrategy.BEST_OF_N)


class Run:
    """Think, verify, critique, constitution, monitor, refine: each step of one problem.

    Args:
      reasoner: whose parts are used; its sampler's meter was set to zero.
      problem: checked; strategy: of the first thinking.
      emit: is given each thought and each decision as it comes.
    """

    def __init__(
        self,
        reasoner: AdvancedReasoner,
        problem: str,
        strategy: ReasoningStrategy,
        emit: Callable[[Event], None],
    ) -> None:
        self.problem, self.strategy, self.emit = problem, strategy, emit
        self.parts, self.sampler, self.monitor = reasoner, reasoner.sampler, reasoner.monitor
        self.ways: list[ReasoningTrace] = []
        self.decisions: list[Decision] = []
        self.best = ReasoningTrace(problem, strategy=strategy)
        self.transcript: list[Mapping[str, Any]] = []
        self._spent, self._seen = 0, 0.0

    def trace(self) -> ReasoningTrace:
        """The trace of the whole work.

        Raises:
          UserError: the problem does not fit into the model's context.
        """
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        self._think()
        self._refine()
        self._apply_constitution()
        return self._finished()

    def _refusal(self) -> ReasoningTrace | None:
        """A request that the rules call harmful is declined before the model writes anything."""
        found = safe_trace.declined(self.problem) if self.parts.constitution else None
        if found is None:
            return None
        answer, violations = found
        words = ", ".join(sorted({one.principle for one in violations}))
        self._decide("decline", f"the rules find the request against the constitution: {words}")
        self.best = dataclasses.replace(
            self.best, final_answer=answer, is_safe=False,
            violations=tuple(one.to_dict() for one in violations),
        )  # fmt: skip
        return self._totalled()

    def _think(self) -> None:
        first = self._chain(self.parts.settings).reason(self.problem, self.strategy)
        self.ways.append(first)
        self._replace_best(self.monitor.with_confidence(first))
        self._adopt_decisions(first.decisions)
        self._decide("think", f"{_words(self.strategy)}: {_came_to(first)}")

    def _refine(self) -> None:
        """Other ways while there is a reason and a budget for them."""
        for name, way in self._further_ways():
            reasons = self._doubts()
            if self._settled(reasons):
                return
            if self._over():
                self._decide("stop", "the budget of tokens or seconds is used up; the best answer "
                                     "so far stands")  # fmt: skip
                return
            self._decide("refine", f"{name}, because " + "; ".join(r.words for r in reasons))
            try:
                way()
            except BudgetEnded:
                self._decide("skip", f"{name}: the budget ended before it came to an answer")
            except UserError as error:
                self._decide("skip", f"{name}: {error}")
        if not self._settled(self._doubts()):
            stands = "there is still no answer"
            if self.best.final_answer is not None:
                stands = f"the answer {named(self.best)} stands"
            self._decide("keep", f"every way was tried; {stands}")

    def _further_ways(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What can be tried, in the order that a small model profits from."""
        settings = self.parts.settings
        kind = settings.kind(self.problem)
        computes = kind == "number" or any(r.kind == "arithmetic" for r in self._doubts())
        if computes and self.strategy is not ReasoningStrategy.PROGRAM and kind != "code":
            yield "a program", lambda: self._try(ReasoningStrategy.PROGRAM, settings)
        if self.strategy not in _DRAWN and (kind != "code" or settings.verifier is not None):
            yield "samples", self._draw
        yield "critique", self._critique

    def _settled(self, reasons: Sequence[Reason]) -> bool:
        """Whether the answer can stand; a verifier's word is above every doubt."""
        if self.best.verified is True:
            self._decide("accept", f"a verifier confirms the answer {named(self.best)}")
        elif not reasons:
            self._decide("accept", f"there is no reason to doubt the answer {named(self.best)}")
        else:
            return False
        return True

    def _draw(self) -> None:
        """Samples that vote, or whose answers the verifier judges; as many as can be afforded."""
        settings = self.parts.settings
        wanted = settings.samples
        if self.sampler.budget is not None:
            typical = min(settings.max_tokens, max(LEAST_TOKENS, self._longest()))
            wanted = min(wanted, (self.sampler.budget.tokens - self.sampler.written) // typical)
        if wanted < LEAST_SAMPLES:
            self._decide("skip", f"samples: the tokens that are left are too few for "
                                 f"{LEAST_SAMPLES} texts")  # fmt: skip
            return
        if settings.verifier is None:
            chosen = dataclasses.replace(settings, samples=wanted)
            self._try(ReasoningStrategy.SELF_CONSISTENCY, chosen)
        else:  # the verifier finds a right answer that only few samples give
            chosen = dataclasses.replace(settings, samples=wanted, scorer="verifier")
            self._try(ReasoningStrategy.BEST_OF_N, chosen)

    def _longest(self) -> int:
        """Tokens of the longest way that wrote one text."""
        return max((w.tokens for w in self.ways if w.strategy not in _DRAWN), default=0)

    def _try(self, strategy: ReasoningStrategy, settings: Settings) -> None:
        """Another way to an answer, kept if it is better."""
        made = self._chain(settings).reason(self.problem, strategy)
        self.ways.append(made)
        new = pooled(made, self.ways, self.monitor)
        self.best = pooled(self.best, self.ways, self.monitor)
        chosen = choice(new, self.best, self.monitor)
        self._adopt_decisions(made.decisions)
        if chosen.better:
            self._replace_best(new)
        self._decide("replace" if chosen.better else "keep", f"{_words(strategy)}: {chosen.words}")

    def _critique(self) -> None:
        """The model criticises and revises the answer; a judge decides."""
        old = self.best
        refined, critiques = self.parts.critic.critique_and_refine(self.problem, _text_of(old))
        self.transcript += [
            {"speaker": "critic", "round": one.round, "kept": one.kept, "judged_by": one.judged_by,
             "text": f"{one.critique}\n\nRevision:\n{one.revision}\n\n{one.reason}"}
            for one in critiques
        ]  # fmt: skip
        last = next((one for one in reversed(critiques) if one.kept), None)
        if last is None:
            words = "; ".join(one.reason for one in critiques)
            self._decide("keep", f"critique: {words}")
            return
        made = self._revised(refined, last.revision)
        self.ways.append(made)
        new = pooled(made, self.ways, self.monitor)
        self.best = pooled(old, self.ways, self.monitor)
        words = f"judged by {last.judged_by}: {last.reason}"
        # Many texts that say otherwise are more than one model's choice between two of them.
        weak = last.judged_by not in ("verifier", "form")
        if weak and votes_of(new) < votes_of(self.best):
            words = f"{votes_of(self.best)} votes are for the answer before, although {words}"
            self._decide("keep", f"critique: {words}")
            return
        self._replace_best(new)
        self._decide("replace", f"critique: {words}")

    def _revised(self, refined: str, revision: str) -> ReasoningTrace:
        """The trace of a revision that was taken."""
        answer = extract_answer(revision, self.parts.settings.kind(self.problem))
        steps = tuple(thought(n, text) for n, text in enumerate(split_steps(revision), 1))
        draft = Draft(answer or refined.strip(), steps, signals={"truncated": 0.0},
                      looped=is_loop(revision))  # fmt: skip
        made = self._chain(self.parts.settings).trace_of(self.problem, draft, self.best.strategy)
        self._adopt_decisions(made.decisions)
        return made

    def _apply_constitution(self) -> None:
        """The answer keeps to the constitution, or another that does stands in its place."""
        keeper, answer = self.parts.constitution, self.best.final_answer
        if keeper is None:
            return
        harm = safe_trace.harm_in_steps(self.problem, self.best)
        self.best = safe_trace.without_data(self.problem, self.best)
        found: list[Violation] = []
        safe = answer
        if answer is not None and answer.strip():
            # There is nothing in a bare number or letter that a model could judge.
            if canonical(answer).kind != "text":
                keeper = self.parts.rules
            safe, _, found = keeper.apply_constitution(self.problem, answer)
            self._adopt_decisions(keeper.decisions)
        if safe != answer:  # what was known of the answer is not known of the other one
            self.best = dataclasses.replace(
                self.best, final_answer=safe, verified=None, confidence=None, calibrated=False
            )
        if harm or (safe != answer and any(not one.data for one in found)):
            self.best, self.transcript = safe_trace.withheld(self.best), []
            self.decisions = [
                dataclasses.replace(d, reason=safe_trace.WITHHELD) for d in self.decisions
            ]
            self._decide("withhold", "the steps and the other answers are not shown: they go with "
                                     "what is against the constitution")  # fmt: skip
        violations = tuple(one.to_dict() for one in (*harm, *found))
        self.best = dataclasses.replace(self.best, is_safe=not violations, violations=violations)
        words = ", ".join(sorted({one.principle for one in (*harm, *found)}))
        self._decide("constitution", f"against it: {words}" if words else "nothing is against it")

    def _finished(self) -> ReasoningTrace:
        """The trace with the monitor's last word."""
        reasons = self.monitor.reasons(self.best)
        self._decide("monitor", "; ".join(reasons) or "there is no reason left to doubt the answer")
        return self._totalled()

    def _totalled(self) -> ReasoningTrace:
        return dataclasses.replace(
            self.best, tokens=self.sampler.written, seconds=self.sampler.seconds,
            decisions=tuple(self.decisions),
            transcript=(*self.best.transcript, *self.transcript),
        )  # fmt: skip

    def _chain(self, settings: Settings) -> ChainOfThought:
        chain = ChainOfThought(self.sampler.model, sampler=self.sampler)
        chain.settings = settings
        return chain

    def _doubts(self) -> list[Reason]:
        """Reasons to think again; what is unsafe is the constitution's matter."""
        return [one for one in self.monitor.findings(self.best) if one.kind != "safety"]

    def _over(self) -> bool:
        budget = self.sampler.budget
        return budget is not None and (
            self.sampler.written >= budget.tokens or self.sampler.seconds >= budget.seconds
        )

    def _replace_best(self, trace: ReasoningTrace) -> None:
        self.best = trace
        shown = trace.thoughts
        if self.parts.constitution is not None:
            shown = safe_trace.shown_thoughts(self.problem, trace)
        for one in shown:
            self.emit(one)

    def _adopt_decisions(self, decisions: Sequence[Decision]) -> None:
        """Decisions of a part, with the costs that it measured."""
        for one in decisions:
            self._spent += one.tokens
            self._seen += one.seconds
            self._note(one)

    def _decide(self, action: str, reason: str) -> None:
        """Note a decision; its cost is what was spent since the one before it."""
        spent, seen = self.sampler.read + self.sampler.written, self.sampler.seconds
        made = Decision(action, reason, max(0, spent - self._spent), max(0.0, seen - self._seen))
        self._spent, self._seen = spent, seen
        self._note(made)

    def _note(self, made: Decision) -> None:
        """Keep and show a decision, with words that may be shown."""
        # The monitor's last word quotes a violation's evidence, which stands in the trace anyway.
        if self.parts.constitution is not None and made.action != "monitor":
            words = safe_trace.shown_words(self.problem, made.reason)
            made = dataclasses.replace(made, reason=words)
        self.decisions.append(made)
        self.emit(made)


def _text_of(trace: ReasoningTrace) -> str | None:
    """What is criticised: the steps with the answer; the answer alone where a program gave it."""
    if trace.final_answer is None or trace.answer_kind == "code":
        return trace.final_answer
    if any(one.tool_calls for one in trace.thoughts):
        return trace.final_answer
    return str(trace)


def _words(strategy: ReasoningStrategy) -> str:
    return strategy.value.replace("_", " ")


def _came_to(trace: ReasoningTrace) -> str:
    if trace.final_answer is None:
        return f"no answer: {trace.error}" if trace.error else "no answer"
    return f"the answer {named(trace)}"
