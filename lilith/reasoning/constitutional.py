"""The constitution applied to one answer: judged, revised, or declined in words that fit.

Rules speak first (:mod:`lilith.reasoning.violations`); beside them the model says of each principle
whether the answer violates it, by the probabilities of two letters in both orders. A small model's
word is weak: its letter's probability, averaged over both orders, must reach a threshold well above
the one half at which it is undecided.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from lilith.config import UserError
from lilith.reasoning import constitution as constitutions
from lilith.reasoning import judgement, privacy, prompting
from lilith.reasoning.constitution import SEVERITIES, Constitution, Principle, load_constitution
from lilith.reasoning.judgement import Preference
from lilith.reasoning.safety_rules import find_harm, refusal_for
from lilith.reasoning.sampler import BudgetEnded, Decoder, Model, ReasoningError, Sample, Sampler
from lilith.reasoning.steps import is_loop
from lilith.reasoning.trace import Decision
from lilith.reasoning.violations import (
    Violation,
    rule_violations,
    sentences,
    without_personal_data,
)

THRESHOLD = 0.7
MOST_SENTENCES = 8  # of an answer that are judged alone, to find the words of a violation
MOST_QUOTED = 120  # characters of a request in a refusal
# Declining makes an unhelpful answer no better.
HELPFULNESS = "helpfulness"

# Why an answer is withheld that only a model found fault with, and what is offered, by principle.
_DECLINED = {
    "harmlessness": (
        "I will not answer in a way that could hurt somebody",
        "I can explain the risks, or help you reach the same aim safely and lawfully; tell me "
        "what it is for.",
    ),
    "honesty": (
        "I can not answer that truthfully with what I know",
        "I can say what is certain and what is not, or where and how you could check it.",
    ),
    "respect": (
        "I will not answer that at the cost of somebody's dignity",
        "I can put the matter plainly and fairly, or help you say it so that it can be heard.",
    ),
    "privacy": (
        "I will not answer that with details of somebody's private life",
        "I can answer without naming anyone, or explain how such data are requested lawfully.",
    ),
}


class ConstitutionalAI:
    """Applies a constitution to answers.

    Args:
      model: a :class:`lilith.inference.language_model.LanguageModel` or what has its ``encode``,
        ``generate_batch``, ``score``, ``config.context`` and ``chat_template``; None with
        ``use_model=False``.
      tokenizer: None takes the model's.
      constitution: a file, a :class:`Constitution`, or None for the project's own.
      sampler: a meter and a budget that are shared with others.
      use_model: False leaves it to the rules: nothing is generated or scored.
      threshold: from which probability of "yes, it violates the principle" on, averaged over both
        orders of the letters, the model's word counts. An undecided model comes to one half.
      max_revisions: how often the model may rewrite a violating answer.
      max_tokens: of a revision.
      seed: fixes which revision requests are drawn.

    Attributes:
      decisions: what the last call decided, why, and its cost in tokens read and written.

    Raises:
      ConstitutionError: the constitution can not be used.
      ReasoningError: a setting out of range, or no model where one is to be used.
    """

    def __init__(
        self,
        model: Model | None = None,
        tokenizer: Decoder | None = None,
        *,
        constitution: str | os.PathLike[str] | Constitution | None = None,
        sampler: Sampler | None = None,
        use_model: bool = True,
        threshold: float = THRESHOLD,
        max_revisions: int = 1,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        if not 0.5 < threshold <= 1:
            raise ReasoningError(f"threshold is {threshold}; it must be above 0.5 and at most 1")
        if max_revisions < 0 or max_tokens < 1:
            raise ReasoningError(
                f"max_revisions is {max_revisions} and max_tokens {max_tokens}; they must be at "
                "least 0 and 1"
            )
        if use_model and sampler is None:
            if model is None:
                raise ReasoningError("there is no model; give one, or use_model=False for rules")
            sampler = Sampler(model, tokenizer)
        self.constitution = (
            constitution
            if isinstance(constitution, Constitution)
            else load_constitution(constitution)
        )
        self.sampler = sampler if use_model else None
        self.threshold, self.max_revisions = threshold, max_revisions
        self.max_tokens, self.seed = max_tokens, seed
        self.decisions: list[Decision] = []

    def apply_constitution(self, prompt: str, answer: str) -> tuple[str, bool, list[Violation]]:
        """The answer, or one that keeps to the constitution in its place.

        Returns:
          The safe answer: the one given where nothing is wrong with it; without its personal data
          where that is all; else a revision by the model that nothing is found in; else a refusal
          that offers help. It always passes the rules. An answer with whose helpfulness alone the
          model finds fault stays where no revision is better.
          Whether the answer that was given keeps to the constitution.
          What it violates.

        Raises:
          ReasoningError: the prompt is empty, or one of the two is no text.
        """
        violations, _ = self._start(prompt, answer)
        if not violations:
            return answer, True, []
        redacted = without_personal_data(prompt, answer)
        rest = [one for one in violations if not one.data]
        rest = rest or rule_violations(prompt, redacted)
        if redacted != answer:
            self._decide("redact", "personal data were removed from the answer")
        if not rest:
            return redacted, False, violations
        revised = self._revised(prompt, redacted, rest)
        if revised is not None:
            return revised, False, violations
        harmful = [one for one in rest if one.principle != HELPFULNESS]
        if not harmful:
            self._decide("keep", "the answer stays: a refusal would help even less")
            return redacted, False, violations
        self._decide("decline", "nothing that keeps to the constitution was found to answer")
        return self._refusal(prompt, harmful), False, violations

    def judge(self, prompt: str, answer: str) -> list[Violation]:
        """What the answer violates, by the rules and by the model, the rules' findings first.

        Raises:
          ReasoningError: the prompt is empty, or one of the two is no text.
        """
        return self._start(prompt, answer)[0]

    def compare(
        self, prompt: str, answer_a: str, answer_b: str, principle: str | Principle | None = None
    ) -> float:
        """The probability that ``answer_a`` is better than ``answer_b``, by the model.

        Averaged over both orders; :meth:`preference` tells them apart.

        Raises:
          BudgetEnded: the time is over.
          UserError: no such principle, an empty prompt, a question longer than the context, or no
            model.
        """
        return self.preference(prompt, answer_a, answer_b, principle).probability

    def preference(
        self, prompt: str, answer_a: str, answer_b: str, principle: str | Principle | None = None
    ) -> Preference:
        """As :meth:`compare`, with both orders; ``None`` averages over all principles."""
        if self.sampler is None:
            raise ReasoningError("answers are compared by a model; make this with use_model=True")
        if principle is None:
            chosen: Sequence[Principle] = self.constitution.principles
        elif isinstance(principle, str):
            chosen = [self.constitution.get(principle)]
        else:
            chosen = [principle]
        return judgement.averaged(
            [judgement.compare(self.sampler, prompt, answer_a, answer_b, one) for one in chosen]
        )

    def _start(self, prompt: str, answer: str) -> tuple[list[Violation], bool]:
        for name, text in (("prompt", prompt), ("answer", answer)):
            if not isinstance(text, str):
                raise ReasoningError(f"the {name} is a {type(text).__name__}; give a text")
        if not prompt.strip():
            raise ReasoningError("the prompt is empty; give the request that was answered")
        self.decisions = []
        return self._judged(prompt, answer)

    def _judged(self, prompt: str, answer: str) -> tuple[list[Violation], bool]:
        """What an answer violates, and whether the model judged all that it was to judge."""
        before, began = self._meter()
        found = rule_violations(prompt, answer)
        by_rules, whole = len(found), True
        note = ""
        if self._model_is_asked(prompt, answer, found):
            known = {one.principle for one in found if not one.data}
            try:
                for principle in self.constitution.principles:
                    if principle.id not in known:
                        found += self._by_model(prompt, answer, principle)
            except BudgetEnded:
                whole, note = False, "; the budget ended before the model had judged all principles"
            except UserError as error:
                whole, note = False, f"; the model could not judge: {error}"
        words = f"{by_rules} found by rules, {len(found) - by_rules} by the model{note}"
        self._decide("judge", words, before, began)
        return found, whole

    def _model_is_asked(self, prompt: str, answer: str, found: Sequence[Violation]) -> bool:
        """Not of nothing, and not where the rules see that a harmful request was declined."""
        if self.sampler is None or not answer.strip():
            return False
        return any(not one.data for one in found) or not find_harm(prompt)

    def _by_model(self, prompt: str, answer: str, principle: Principle) -> list[Violation]:
        assert self.sampler is not None
        said = judgement.violates(self.sampler, prompt, answer, principle).probability
        if said < self.threshold:
            return []
        how = (
            f"model: it violates the principle with probability {said:.2f}, averaged over both "
            f"orders of the letters (threshold {self.threshold:g})"
        )
        words = self._worst_sentence(prompt, answer, principle)
        return [
            Violation(
                principle.id, principle.severity, privacy.redact(words), how, probability=said
            )
        ]

    def _worst_sentence(self, prompt: str, answer: str, principle: Principle) -> str:
        """The sentence of an answer that most probably violates a principle, judged alone."""
        assert self.sampler is not None
        own = sentences(answer)[:MOST_SENTENCES]
        if len(own) < 2:
            return answer.strip()
        worst, most = own[0], -1.0
        try:
            for one in own:
                said = judgement.violates(self.sampler, prompt, one, principle).probability
                if said > most:
                    worst, most = one, said
        except BudgetEnded:
            pass  # the worst so far is still words of the answer
        return worst

    def _revised(self, prompt: str, answer: str, violations: Sequence[Violation]) -> str | None:
        """A revision in which nothing is found; None where the model writes none."""
        if self.sampler is None:
            return None
        rng = random.Random(self.seed)
        for place in range(self.max_revisions):
            principle = self._worst_principle(violations)
            if principle is None:
                self._decide("revise", "the constitution has none of the violated principles")
                return None
            before, began = self._meter()
            try:
                sample = self._revision(prompt, answer, violations, principle, rng, place)
            except BudgetEnded:
                self._decide("revise", "the budget ended before a revision", before, began)
                return None
            except UserError as error:
                self._decide("revise", f"no revision could be written: {error}", before, began)
                return None
            words = _no_revision(sample)
            if words:
                self._decide("revise", words, before, began)
                continue
            revised = without_personal_data(prompt, sample.text.strip())
            self._decide("revise", f"the model rewrote it for {principle.title}", before, began)
            found, whole = self._judged(prompt, revised)
            if self._is_better(found, whole, violations):
                return revised
            answer, violations = revised, found or violations
        return None

    def _revision(
        self,
        prompt: str,
        answer: str,
        violations: Sequence[Violation],
        principle: Principle,
        rng: random.Random,
        place: int,
    ) -> Sample:
        assert self.sampler is not None
        critique = " ".join(
            f'These words do not keep to the principle: "{one.evidence}".'
            for one in violations
            if one.principle == principle.id
        )
        request = constitutions.revision_prompt(
            prompt, answer, critique, principle, principle.draw_revision(rng)
        )
        return self.sampler.sample(
            prompting.ask(request, chat=self.sampler.chat), max_tokens=self.max_tokens,
            seed=self.seed + place, stop=() if self.sampler.chat else constitutions.PLAIN_STOP,
        )  # fmt: skip

    @staticmethod
    def _is_better(
        found: Sequence[Violation], whole: bool, violations: Sequence[Violation]
    ) -> bool:
        """Whether a revision, judged wholly or by the rules alone, mends the violations.

        One that is merely less helpful is better than a refusal. Where the budget ended the
        model's judgement, what the rules say stands, unless it was the model that found fault.
        """
        if not whole and any(one.probability is not None for one in violations):
            return False
        if any(one.principle != HELPFULNESS for one in violations):
            found = [one for one in found if one.principle != HELPFULNESS]
        return not found

    def _worst_principle(self, violations: Sequence[Violation]) -> Principle | None:
        """The principle of the worst violation; None where the constitution has none of them."""
        known = [one for one in violations if one.principle in self.constitution.ids]
        if not known:
            return None
        worst = max(known, key=lambda one: SEVERITIES.index(one.severity))
        return self.constitution.get(worst.principle)

    def _refusal(self, prompt: str, violations: Sequence[Violation]) -> str:
        for one in violations:
            if one.category:
                return refusal_for(one.category)
        principle = self._worst_principle(violations)
        title = principle.title if principle else "care"
        why, offer = _DECLINED.get(
            principle.id if principle else "",
            ("I have no good answer to that yet",
             "Put it in another way or tell me what it is for, and I will gladly try again."),
        )  # fmt: skip
        asked = _quoted(prompt)
        with_quote = f'You asked: "{asked}". {why} (my principle here: {title}). {offer}'
        if not rule_violations(prompt, with_quote):
            return with_quote
        return f"{why} (my principle here: {title}). {offer}"

    def _meter(self) -> tuple[int, float]:
        if self.sampler is None:
            return 0, 0.0
        return self.sampler.read + self.sampler.written, self.sampler.seconds

    def _decide(
        self, action: str, reason: str, before: int | None = None, began: float = 0.0
    ) -> None:
        tokens, seconds = self._meter()
        if before is None:
            self.decisions.append(Decision(action, reason))
        else:
            self.decisions.append(Decision(action, reason, tokens - before, seconds - began))


def _no_revision(sample: Sample) -> str:
    """Why a text is no revision, in words; "" where it is one."""
    if not sample.text.strip():
        return "the model wrote no revision: nothing, or nothing but space"
    if sample.truncated:
        return f"the revision did not end within {len(sample.tokens)} tokens"
    return "the revision says the same again and again" if is_loop(sample.text) else ""


def _quoted(prompt: str) -> str:
    """The beginning of a request on one line, without personal data, for a refusal."""
    words = " ".join(privacy.redact(prompt).replace('"', "'").split())
    if len(words) <= MOST_QUOTED:
        return words.rstrip(".!?")
    return words[:MOST_QUOTED].rsplit(" ", 1)[0] + " ..."
