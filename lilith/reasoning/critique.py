"""Self-critique: the model finds fault with an answer and writes another, and a judge chooses.

A small model's revision is as often worse as better, so it replaces an answer only where something
prefers it: tests or a verifier first, then the arithmetic in both, recomputed, and last the model's
own choice between the two. That last is, with a model of 135M parameters, nearly a coin: it must
choose the revision in both orders of the letters, and by a margin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import UserError
from lilith.reasoning import choices, judgement, prompting, verification
from lilith.reasoning.arithmetic import check_arithmetic
from lilith.reasoning.choices import Answer, Choice
from lilith.reasoning.drafts import Attempt, Settings, attempt
from lilith.reasoning.sampler import (
    Budget,
    BudgetEnded,
    Decoder,
    Model,
    Prompt,
    ReasoningError,
    Sample,
    Sampler,
)
from lilith.reasoning.steps import extract_answer
from lilith.reasoning.tested_code import CodeTests
from lilith.reasoning.verification import VERIFIER_SECONDS, Judgement, Verifier
from lilith.shamshel import Limits

# How far above one half the averaged probability of the revision must be in a vote.
MARGIN = 0.15
MOST_SHOWN = 3  # attempts that failed and lines of failures that the model is shown

_CRITICISE = (
    "Problem: {problem}\n\nProposed answer:\n{answer}\n\n{known}Check the proposed answer: does it "
    "answer the question, is each step and each number right? Name each mistake in one sentence. "
    'If there is none, write "No mistakes."\n\nReview:'
)
_REVISE = (
    "A proposed answer to a problem was reviewed.\n\nProposed answer:\n{answer}\n\n{known}Review:\n"
    "{critique}\n\n{request}\n\nProblem: {problem}"
)
_STEPS = (
    "Write a corrected solution. Work step by step, write out the arithmetic, and end with a line "
    f'"{prompting.ANSWER_MARK}" and the answer alone.'
)
_CODE = "Write the whole corrected program in one code block."
_PLAIN_STOP = (*prompting.PLAIN_STOP, "\nProposed answer:", "\nReview:")


@dataclass(frozen=True)
class Critique:
    """One round.

    Attributes:
      round: from 1; 0 where nothing was asked of the model because the answer is known to be right.
      critique: what the model said about the answer; "" where it was not asked.
      revision: what it wrote then; "" where it was not asked.
      kept: whether the revision was taken in the answer's place.
      reason: why, or why not.
      judged_by: "tests", "verifier", "arithmetic", "vote"; "form" where the revision is none or
        says the same, or there was no answer before it; "nobody" where nothing could judge.
      tokens: read and written by the model.
      seconds: it took.
      failures: of code, what its tests say about the revision (of round 0, about the answer).
    """

    round: int
    critique: str
    revision: str
    kept: bool
    reason: str
    judged_by: str
    tokens: int = 0
    seconds: float = 0.0
    failures: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object, as a trace's transcript holds them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Task:
    problem: str
    kind: str
    tests: CodeTests | None


class SelfCritique:
    """Criticises and revises answers.

    Args:
      model: a :class:`lilith.inference.language_model.LanguageModel` or what has its ``encode``,
        ``generate_batch``, ``score``, ``config.context`` and ``chat_template``.
      tokenizer: None takes the model's.
      max_rounds: critiques and revisions at most.
      sampler: a meter and a budget that are shared with others.
      budget: of all calls together, where no sampler is given.
      verifier: judges an answer: (problem, answer) -> True, False or None; it is given what the
        answer states ("36"), or all of it where it states nothing of the kind.
      verifier_seconds: after which it is given up.
      votes: whether the model's own choice decides where nothing better can.
      margin: how far above 0.5 the revision's probability must be in a vote.
      max_tokens: of one critique or revision.
      temperature: of both; 0 takes the likeliest tokens.
      answer_kind: what kind of answer is looked for; "auto" guesses it from the problem.
      seed: fixes the draws.

    Raises:
      ReasoningError: a setting out of range.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Decoder | None = None,
        max_rounds: int = 2,
        *,
        sampler: Sampler | None = None,
        budget: Budget | None = None,
        verifier: Verifier | None = None,
        verifier_seconds: float = VERIFIER_SECONDS,
        votes: bool = True,
        margin: float = MARGIN,
        max_tokens: int = 512,
        temperature: float = 0.0,
        answer_kind: str = "auto",
        seed: int = 0,
    ) -> None:
        if not isinstance(max_rounds, int) or max_rounds < 1:
            raise ReasoningError(f"max_rounds is {max_rounds!r}; it must be 1 or more")
        if not 0 <= margin < 0.5:
            raise ReasoningError(f"margin is {margin}; it must be at least 0 and below 0.5")
        self.sampler = sampler or Sampler(model, tokenizer, budget=budget)
        self.settings = Settings(
            max_tokens=max_tokens, temperature=temperature, verifier=verifier,
            verifier_seconds=verifier_seconds, answer_kind=answer_kind, seed=seed,
        )  # fmt: skip
        self.max_rounds, self.votes, self.margin = max_rounds, votes, margin

    def critique_and_refine(
        self,
        problem: str,
        initial_answer: str | None,
        *,
        tests: str | None = None,
        cases: Iterable[Any] | None = None,
        entry_point: str | None = None,
        limits: Limits | None = None,
        packages: Sequence[str] = (),
    ) -> tuple[str, list[Critique]]:
        """Let the model criticise and revise an answer until a round changes nothing.

        A round that fails goes on to the next only where the answer is known to be wrong, with
        what was tried in sight.

        Args:
          initial_answer: None or an empty text where there is none: the first revision that states
            an answer and that nobody calls wrong is then taken.
          tests, cases, entry_point, limits, packages: of code, as in
            :func:`lilith.shamshel.verify`: each round repairs the program by its failures, and a
            revision that passes more tests is taken; nothing else judges then.

        Returns:
          The answer that stands, "" where there is none, and a critique for each round. A revision
          is given as the answer was: what it states where that was bare, else all of it.

        Raises:
          ReasoningError: the problem is empty, the answer is no text, or the tests can not be run.
        """
        if initial_answer is not None and not isinstance(initial_answer, str):
            raise ReasoningError(
                f"the initial answer is a {type(initial_answer).__name__}; give a text or None"
            )
        problem = prompting.checked_problem(problem)
        tested = None
        if tests is not None or cases is not None:
            tested = CodeTests(
                tests, cases, entry_point, limits, packages, self.settings.verifier_seconds
            )
        kind = "code" if tested is not None else self.settings.kind(problem)
        task = _Task(problem, kind, tested)
        first = None
        if initial_answer is not None and initial_answer.strip():
            first = self._answer(task, initial_answer)
        if first is not None and first.word.verified:
            words = f"{_judge_of(task)} already finds the answer right: there is nothing to refine"
            failures = first.count.failures if first.count else ""
            return first.text, [
                Critique(0, "", "", False, words, _judge_of(task), 0, 0.0, failures)
            ]
        standing, critiques = self._rounds(task, first)
        if standing is None or standing is first:
            return initial_answer or "", critiques
        bare = first is None or _is_bare(first)
        return standing.stated if bare else standing.text, critiques

    def _rounds(self, task: _Task, first: Answer | None) -> tuple[Answer | None, list[Critique]]:
        standing, tried = first, list[Answer]()
        critiques: list[Critique] = []
        for number in range(1, self.max_rounds + 1):
            critique, revision = self._round(task, standing, tried, number)
            critiques.append(critique)
            if critique.kept:
                standing, tried = revision, []
                if revision is not None and revision.word.verified:
                    break
                continue
            known_wrong = standing is None or standing.word.verified is False
            if revision is None or not known_wrong or critique.judged_by == "form":
                break
            tried.append(revision)
        return standing, critiques

    def _round(
        self, task: _Task, standing: Answer | None, tried: Sequence[Answer], number: int
    ) -> tuple[Critique, Answer | None]:
        """One critique and one revision; whatever ends it early is told in the reason."""
        tokens, began = self.sampler.read + self.sampler.written, self.sampler.seconds
        critique, text = "", ""
        revision: Answer | None = None
        try:
            choice: Choice | None = None
            if standing is not None:
                said = self._criticise(task, standing, tried, number)
                critique = said.text.strip()
                choice = choices.no_critique(critique, said, standing)
            if choice is None:
                found = self._revise(task, standing, tried, critique, number)
                text = found.text if found.sample.text.strip() else ""
                choice = choices.no_revision(found, task.kind)
            if choice is None:
                revision = self._answer(task, text)
                choice = self._choose(task, standing, revision, tried)
        except BudgetEnded:
            choice = Choice(False, "the budget ended; the answer stands", "nobody")
        except ReasoningError:
            raise  # the tests can not be run: no round will mend that
        except UserError as error:
            choice = Choice(False, f"the model could not be asked: {error}", "nobody")
        made = Critique(
            number, critique, text, choice.kept, choice.reason, choice.judged_by,
            self.sampler.read + self.sampler.written - tokens, self.sampler.seconds - began,
            revision.count.failures if revision is not None and revision.count else "",
        )  # fmt: skip
        return made, revision

    def _answer(self, task: _Task, text: str) -> Answer:
        stated = extract_answer(text, task.kind) or text.strip()
        if task.tests is not None:
            count = task.tests.count(stated)
            return Answer(text, stated, Judgement(count.all_pass, str(count)), count)
        if self.settings.verifier is None:
            return Answer(text, stated, Judgement(None))
        word = verification.judge(
            self.settings.verifier, task.problem, stated, self.settings.verifier_seconds
        )
        return Answer(text, stated, word)

    def _criticise(
        self, task: _Task, standing: Answer, tried: Sequence[Answer], number: int
    ) -> Sample:
        request = _CRITICISE.format(
            problem=task.problem, answer=_shown(standing, task), known=_known(standing, tried)
        )
        return self.sampler.sample(
            prompting.ask(request, chat=self.sampler.chat), **self._sampling(2 * number)
        )

    def _revise(
        self,
        task: _Task,
        standing: Answer | None,
        tried: Sequence[Answer],
        critique: str,
        number: int,
    ) -> Attempt:
        """The model's next answer: after a critique, or its first where there is none."""
        if standing is None:
            prompt = prompting.steps_prompt(task.problem, task.kind, chat=self.sampler.chat)
            if tried and not isinstance(prompt, str):
                wrong = ", ".join(one.stated for one in tried[-MOST_SHOWN:])
                prompt = prompting.follow_up(prompt, wrong, f"That is wrong. {_STEPS}")
        else:
            code = task.kind == "code"
            request = _REVISE.format(
                problem=task.problem, answer=_shown(standing, task), critique=critique,
                known=_known(standing, tried), request=_CODE if code else _STEPS,
            )  # fmt: skip
            prompt = _asked(request, "```python\n" if code else "Step 1:", self.sampler.chat)
        sample = self.sampler.sample(prompt, **self._sampling(2 * number + 1))
        return attempt(prompt, sample, task.kind)

    def _sampling(self, place: int) -> dict[str, Any]:
        return {
            "max_tokens": self.settings.max_tokens,
            "temperature": self.settings.temperature,
            "seed": self.settings.seed + place,
            "stop": () if self.sampler.chat else _PLAIN_STOP,
        }

    def _choose(
        self, task: _Task, standing: Answer | None, revision: Answer, tried: Sequence[Answer]
    ) -> Choice:
        """Whether the revision is taken, by the first judge that can tell."""
        for one in tried:
            if choices.says_the_same(one, revision, task.kind):
                words = "the revision states what was tried before and is wrong"
                return Choice(False, words, "form")
        if standing is None:
            return choices.first_answer(revision)
        if choices.says_the_same(standing, revision, task.kind):
            words = "the revision states the same answer; the first stands"
            return Choice(False, words, "form")
        if standing.count is not None and revision.count is not None:
            return choices.by_tests(standing.count, revision.count)
        choice = choices.by_verifier(standing, revision) or choices.by_arithmetic(
            standing, revision
        )
        if choice is not None:
            return choice
        return self._by_vote(task, standing, revision)

    def _by_vote(self, task: _Task, standing: Answer, revision: Answer) -> Choice:
        notes = dict.fromkeys(one.word.note for one in (standing, revision) if one.word.note)
        known = "".join(f"{note}; " for note in notes)
        if not self.votes:
            return Choice(
                False, f"{known}nothing can tell which answer is better; the first stands", "nobody"
            )
        shown = [one.stated if _is_bare(standing) else one.text for one in (revision, standing)]
        said = judgement.better_answer(self.sampler, task.problem, *shown)
        needed = 0.5 + self.margin
        kept = said.probability > needed and said.agrees
        words = (
            f"{known}the model prefers the revision with probability {said.probability:.2f} "
            f"({said.as_a:.2f} as A, {said.as_b:.2f} as B); it takes more than {needed:.2f} and "
            "the same choice in both orders"
        )
        return Choice(kept, words if kept else f"{words}: the first stands", "vote")


def _is_bare(answer: Answer) -> bool:
    """Whether an answer is only what it states."""
    return answer.stated.strip() == answer.text.strip()


def _known(standing: Answer, tried: Sequence[Answer]) -> str:
    """What tools found about an answer, for the model to read; "" where they found nothing."""
    lines = []
    if standing.count is not None:
        lines += ["The tests failed:", *standing.count.failures.split("\n")[:MOST_SHOWN]]
    elif standing.word.verified is False:
        lines.append("A check found the answer to be wrong.")
    wrong = choices.wrong_claims(check_arithmetic(standing.text)) if standing.count is None else []
    lines += [f"{choices.corrected(one)}." for one in wrong[:MOST_SHOWN]]
    for one in tried[-MOST_SHOWN:]:
        lines.append(f"This was tried and is wrong too:\n{one.stated}")
        if one.count is not None:
            lines += one.count.failures.split("\n")[:MOST_SHOWN]
    return "\n".join(lines) + "\n\n" if lines else ""


def _shown(answer: Answer, task: _Task) -> str:
    """An answer as the model is shown it; a program in a code block."""
    if task.kind == "code" and "```" not in answer.text:
        return f"```python\n{answer.stated}\n```"
    return answer.text.strip()


def _asked(request: str, lead: str, chat: bool) -> Prompt:
    """A request for a solution; plain text begins it, as :func:`drafts.attempt` reads it."""
    return prompting.ask(request if chat else f"{request}\nSolution: {lead}", chat=chat)


def _judge_of(task: _Task) -> str:
    return "tests" if task.tests is not None else "verifier"
