"""TREE_SEARCH: a beam over steps, kept by what each path of steps is worth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from lilith.config import UserError
from lilith.reasoning import prompting, verification
from lilith.reasoning.answers import votes
from lilith.reasoning.confidence import word_probability
from lilith.reasoning.drafts import Attempt, Draft, Settings, empty_words, signals_of
from lilith.reasoning.paths import Path, clean
from lilith.reasoning.rounds import BUDGET_ENDED, fits, prompt_tokens, quoted
from lilith.reasoning.sampler import BudgetEnded, Prompt, Sample, Sampler
from lilith.reasoning.steps import extract_answer, is_loop
from lilith.reasoning.trace import Alternative, Decision

STEP_TOKENS = 160  # of one step at most
ANSWER_TOKENS = 64  # of the answer that is asked for at the end
WRONG = -1.0  # the value of a path with wrong arithmetic; the model's own values are 0 to 1
UNKNOWN = 0.5  # the value of a path that the model could not be asked about
_NEXT = (
    "Write Step {number} only: one short step, with its arithmetic written out. If the steps so "
    'far are enough, write instead one line that begins with "Answer:" and the answer alone.'
)
_LAST = 'Write only one line that begins with "Answer:" and the answer alone.'


@dataclasses.dataclass
class _Search:
    """One problem's search on its way.

    Attributes:
      kept: the paths in the beam, best first, with finished ones among them.
      finished: every path that stated an answer, also those that fell out of the beam.
      asked: the answer that was asked for at the end.
      given_up: why the value function is not asked any more; "" where it is.
      cost: tokens read and written since the last decision.
    """

    problem: str
    kind: str
    kept: list[Path] = dataclasses.field(default_factory=lambda: [Path()])
    finished: list[Path] = dataclasses.field(default_factory=list)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    asked: Attempt | None = None
    given_up: str = ""
    failure: str = ""
    tokens: int = 0
    cost: int = 0
    open: bool = True

    def decide(self, action: str, reason: str) -> None:
        """Take down a decision with what the work for it cost."""
        self.decisions.append(Decision(action, reason, self.cost))
        self.cost = 0

    def end(self, action: str, reason: str) -> None:
        """Stop looking for steps."""
        self.decide(action, reason)
        self.open = False


def tree_search(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Steps tried and kept one at a time (Yao et al., 2023, Tree of Thoughts, arXiv:2305.10601).

    In each of at most ``settings.depth`` rounds, ``settings.branches`` next steps are drawn for
    each open path; empty ones and loops are dropped, equal ones merged, and of all paths the
    ``settings.width`` best stay. A path is finished where a step announces an answer ("the answer
    is", "Answer:", a box) of the kind asked for; it keeps its place in the beam while its value
    does, and the search ends when all that are kept are finished. A chat model gets the steps so
    far in the user's message; a model without a chat goes on writing behind them.

    The value of a path is ``settings.value(problem, steps)`` where that is given; one that raises
    or gives no number counts minus infinity, and one that hangs is not asked again about the same
    problem. Otherwise it is the model's probability that the steps are right and lead to the
    answer, averaged over both orders of the letters A and B; a path with a step whose arithmetic
    was recomputed as wrong has the value -1 and so loses to every path without one. Equal values
    are ordered by likelihood.

    Every finished path is a vote for its answer. Answers that say the same add up the values of
    their paths, those below 0 as 0; the largest sum is the answer, of equal sums the one with the
    best path. Where no path is finished in time, the best one is asked for its answer once.

    A question of the kind "code" has one step: its whole text.

    Raises:
      BudgetEnded: before the first steps.
      UserError: a problem does not fit into the context.
    """
    searches = [_Search(problem, settings.kind(problem)) for problem in problems]
    for number in range(1, settings.depth + 1):
        for code in (False, True):  # steps end where the next begins, code where it ends
            asked = [one for one in searches if one.open and (one.kind == "code") is code]
            try:
                _round(sampler, asked, number, settings)
            except BudgetEnded:
                if not any(one.tokens for one in searches):
                    raise
                for one in asked:
                    one.failure = BUDGET_ENDED
                    one.end("stop", BUDGET_ENDED)
    _ask_answers(sampler, [one for one in searches if not one.finished], settings)
    return [_draft(one) for one in searches]


def _round(sampler: Sampler, searches: Sequence[_Search], number: int, settings: Settings) -> None:
    """Draw the next steps of all open paths, value them, and keep the best of each problem."""
    asked: list[tuple[_Search, Path, Prompt]] = []
    for one in searches:
        for path in one.kept:
            if path.answer is None:
                prompt = _step_prompt(sampler, one, path, settings)
                # The first prompts are checked by the generation itself, which says what is wrong.
                if number == 1 or fits(sampler, prompt):
                    asked.append((one, path, prompt))
    code = any(one.kind == "code" for one in searches)
    found = sampler.samples(
        [prompt for _, _, prompt in asked], settings.branches,
        max_tokens=settings.max_tokens if code else min(settings.max_tokens, STEP_TOKENS),
        temperature=settings.temperature if settings.branches > 1 else 0.0, top_p=settings.top_p,
        seed=settings.seed + number, stop=_stops(sampler, number, code),
    )  # fmt: skip
    drawn: dict[int, list[tuple[Path, Sample]]] = {}
    for (one, path, prompt), own in zip(asked, found, strict=True):
        drawn.setdefault(id(one), []).extend((path, sample) for sample in own)
        written = sum(len(sample.tokens) for sample in own)
        one.tokens += written
        one.cost += written + prompt_tokens(sampler, prompt)
    for one in searches:
        _keep(sampler, one, number, drawn.get(id(one)), settings)


def _step_prompt(sampler: Sampler, one: _Search, path: Path, settings: Settings) -> Prompt:
    """What is asked for the step behind a path."""
    first = prompting.steps_prompt(one.problem, one.kind, chat=sampler.chat, shots=settings.shots)
    if one.kind == "code":
        return first
    number = len(path.steps) + 1
    if isinstance(first, str):
        lead = prompting.written_before(first)
        return f"{first.removesuffix(lead)}{path.text()}\nStep {number}:" if path.steps else first
    return [*first[:-1], _message(one, path, _NEXT.format(number=number))]


def _message(one: _Search, path: Path, request: str) -> dict[str, str]:
    """A user's message with the problem, the steps so far, and a request."""
    so_far = f"The steps so far:\n{path.text()}\n\n" if path.steps else ""
    return {"role": "user", "content": f"Problem: {one.problem}\n\n{so_far}{request}"}


def _stops(sampler: Sampler, number: int, code: bool) -> tuple[str, ...]:
    """What ends a step: the mark of the next one."""
    marks = () if code else ("\nStep ", "\n**Step ", "\n### Step ")
    following = tuple(f"{mark}{number + 1}" for mark in marks)
    return following if sampler.chat else (*following, *prompting.PLAIN_STOP)


def _keep(
    sampler: Sampler,
    one: _Search,
    number: int,
    drawn: list[tuple[Path, Sample]] | None,
    settings: Settings,
) -> None:
    """Take the steps that were drawn, value them, and keep the best paths."""
    if drawn is None:
        one.end(f"round {number}", "the context has no room for another step")
        return
    grown, dropped = _grown(one, drawn)
    before = sampler.read
    valued, ended = _valued(sampler, one, grown, settings)
    one.cost += sampler.read - before
    one.finished += [path for path in valued if path.answer is not None]
    pool = [path for path in one.kept if path.answer is not None] + valued
    pool.sort(key=lambda path: path.rank, reverse=True)
    if not pool:
        one.end(f"round {number}", "; ".join(["no step to go on with", *dropped]))
        return
    one.kept = pool[: settings.width]
    dropped += [f"dropped {path.shown()}" for path in pool[settings.width :]]
    kept = ", ".join(path.shown() for path in one.kept)
    one.decide(f"round {number}", "; ".join([f"kept {kept}", *dropped]))
    if ended:
        one.end("stop", f"{BUDGET_ENDED} before all paths were valued")
    elif all(path.answer is not None for path in one.kept):
        one.end("end", "all paths that are kept state an answer")
    elif one.kind == "code":
        one.end("end", "code has one step")


def _grown(one: _Search, drawn: Sequence[tuple[Path, Sample]]) -> tuple[list[Path], list[str]]:
    """The paths with each step that was drawn, and what was dropped or merged, in words."""
    found: dict[tuple[str, ...], Path] = {}
    blank = loops = merged = 0
    for path, sample in drawn:
        step = sample.text.strip() if one.kind == "code" else clean(sample.text)
        if not step:
            blank += 1
            one.failure = one.failure or empty_words(Attempt(sample.text, None, sample))
        elif is_loop(step) or step in path.steps:
            loops += 1
            one.failure = "the steps only repeat themselves"
        else:
            key = tuple(" ".join(each.split()).casefold() for each in (*path.steps, step))
            merged += key in found
            found.setdefault(key, path.grown(step, sample, one.kind))
    counts = (
        (merged, "merged {} equal"), (blank, "{} empty"), (loops, "{} that repeat themselves")
    )  # fmt: skip
    return list(found.values()), [words.format(count) for count, words in counts if count]


def _valued(
    sampler: Sampler, one: _Search, grown: Sequence[Path], settings: Settings
) -> tuple[list[Path], bool]:
    """The paths with their values, and whether the budget ended before all were known."""
    found, ended = [], False
    for path in grown:
        value = WRONG if path.wrong and settings.value is None else UNKNOWN
        if not ended:
            try:
                value = _value(sampler, one, path, settings)
            except BudgetEnded:
                ended = True
        found.append(dataclasses.replace(path, value=value))
    return found, ended


def _value(sampler: Sampler, one: _Search, path: Path, settings: Settings) -> float:
    """What a path is worth.

    Raises:
      BudgetEnded: the time is over.
    """
    if settings.value is not None:
        return _given_value(one, path, settings)
    if path.wrong:
        return WRONG
    question = (
        f"Problem: {one.problem}\nThe solution so far:\n{path.text()}\n\nIs the solution so far"
    )
    try:
        return word_probability(
            sampler,
            question,
            "The solution so far is",
            "right and on the way to the answer",
            "wrong",
        )
    except UserError:  # the question is longer than the context
        return UNKNOWN


def _given_value(one: _Search, path: Path, settings: Settings) -> float:
    """What the user's function says; minus infinity where it does not work."""
    function = settings.value
    assert function is not None
    if one.given_up:
        return -math.inf
    outcome = verification.within(
        settings.verifier_seconds, lambda: float(function(one.problem, list(path.steps)))
    )
    words = f"the value function raised {outcome.error}" if outcome.error else ""
    if outcome.given_up:
        words = f"the value function gave nothing within {settings.verifier_seconds:g} s"
        one.given_up = words
        words += " and is not asked again"
    elif outcome.value is not None and math.isnan(outcome.value):
        words = "the value function gave no number (NaN)"
    if words:
        one.decide("value", f"{words}: {quoted(path.steps[-1])}")
        return -math.inf
    assert outcome.value is not None
    return outcome.value


def _ask_answers(sampler: Sampler, searches: Sequence[_Search], settings: Settings) -> None:
    """Ask the best path of each search for its answer; those without a step are left alone."""
    asked: list[tuple[_Search, Prompt]] = []
    for one in searches:
        best = one.kept[0]
        if not best.steps or one.kind == "code":
            continue
        if sampler.chat:
            prompt: Prompt = [_message(one, best, _LAST)]
        else:
            prompt = f"{_step_prompt(sampler, one, best, settings)}".rpartition("\n")[0]
            prompt += f"\n{prompting.ANSWER_MARK}"
        if fits(sampler, prompt):
            asked.append((one, prompt))
        else:
            one.failure = "the context has no room to ask for the answer"
            one.decide("answer", one.failure)
    try:
        found = sampler.samples(
            [prompt for _, prompt in asked], max_tokens=min(settings.max_tokens, ANSWER_TOKENS),
            seed=settings.seed, stop=() if sampler.chat else prompting.PLAIN_STOP,
        )  # fmt: skip
    except BudgetEnded:
        for one, _ in asked:
            one.decide("stop", f"{BUDGET_ENDED} before a path stated an answer")
            one.failure = BUDGET_ENDED
        return
    for (one, prompt), (sample,) in zip(asked, found, strict=True):
        lead = prompting.ANSWER_MARK if isinstance(prompt, str) else ""
        answer = extract_answer(lead + sample.text, one.kind) if sample.text.strip() else None
        one.asked = Attempt(lead + sample.text, answer, sample, len(lead))
        one.tokens += len(sample.tokens)
        one.cost += len(sample.tokens) + prompt_tokens(sampler, prompt)
        said = f"it says {quoted(answer)}" if answer is not None else empty_words(one.asked)
        one.decide("answer", f"no path stated an answer, so the best was asked for it: {said}")


def _draft(one: _Search) -> Draft:
    """What a search came to."""
    if not one.finished:
        return _unfinished(one)
    counted = votes(path.answer for path in one.finished)
    own = {vote: [one.finished[place] for place in vote.members] for vote in counted}
    sums = {vote: sum(max(path.value, 0.0) for path in paths) for vote, paths in own.items()}
    best = {vote: max(paths, key=lambda path: path.rank) for vote, paths in own.items()}
    ranked = sorted(counted, key=lambda vote: (sums[vote], best[vote].rank), reverse=True)
    first, chosen = ranked[0], best[ranked[0]]
    signals = signals_of(chosen.last())
    if len(one.finished) > 1:
        second = max((vote.votes for vote in ranked[1:]), default=0)
        signals["vote_share"] = first.votes / len(one.finished)
        signals["margin"] = (first.votes - second) / len(one.finished)
    alternatives = tuple(
        Alternative(vote.representative, vote.votes, sums[vote], best[vote].text())
        for vote in ranked
    )
    return Draft(
        chosen.answer, chosen.thoughts, alternatives, signals, chosen.samples[-1].truncated,
        is_loop(chosen.text()), tuple(one.decisions), tokens=one.tokens,
    )  # fmt: skip


def _unfinished(one: _Search) -> Draft:
    """The draft of a search in which no path stated an answer."""
    best = one.kept[0]
    if one.asked is not None:
        found: Attempt | None = one.asked
    else:
        found = best.last() if best.samples else None
    answer = one.asked.answer if one.asked is not None else None
    error = ""
    if answer is None:
        why = empty_words(one.asked) if one.asked is not None else one.failure
        if not why and found is not None:
            why = empty_words(found)
        error = "no path of steps states an answer" + (f": {why}" if why else "")
    return Draft(
        answer, best.thoughts, signals=signals_of(found) if found is not None else {},
        truncated=found is not None and found.truncated, looped=is_loop(best.text()),
        decisions=tuple(one.decisions), tokens=one.tokens, error=error,
    )  # fmt: skip
