"""DEBATE: several agents answer, read each other, answer again; a judge decides what is left."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lilith.reasoning import prompting
from lilith.reasoning.answers import Vote, same_answer, votes
from lilith.reasoning.drafts import (
    Attempt,
    Draft,
    Settings,
    attempt,
    attempts,
    empty_words,
    signals_of,
)
from lilith.reasoning.rounds import BUDGET_ENDED, fits, prompt_tokens, shortened
from lilith.reasoning.sampler import BudgetEnded, Prompt, Sample, Sampler
from lilith.reasoning.trace import Alternative, Decision
from lilith.reasoning.voting import likelihood

# Characters of each text that others read, from the longest to the shortest that is tried.
LENGTHS = (4000, 2000, 1000, 500, 250, 120)
_AGAIN = (
    "Read them as advice, compare them with your own steps, and look for mistakes in both. Then "
    "solve the problem again step by step."
)
_JUDGE = (
    "These solutions do not agree. Decide which of their answers is right: look for the mistakes "
    "in the others. Give the reason in one or two sentences, then a line that begins with "
    '"Answer:" and repeats the right answer alone.'
)


@dataclasses.dataclass
class _Debate:
    """One problem's debate on its way.

    Attributes:
      prompt: the problem as each agent was given it first.
      own: the last text of each agent that states an answer, or its last one.
      turns: the transcript.
      answer: the one that the judge chose; None where the majority decides.
      cost: tokens read and written since the last decision.
      open: whether it still goes on.
    """

    problem: str
    kind: str
    prompt: Prompt
    own: list[Attempt] = dataclasses.field(default_factory=list)
    turns: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    answer: str | None = None
    tokens: int = 0
    cost: int = 0
    open: bool = True

    def decide(self, action: str, reason: str) -> None:
        """Take down a decision with what the work for it cost."""
        self.decisions.append(Decision(action, reason, self.cost))
        self.cost = 0

    def heard(self, agent: int, number: int, found: Attempt) -> None:
        """Take down what an agent said in a round."""
        self._turn(f"agent {agent + 1}", number, found.text, found.answer, found.sample)
        if agent == len(self.own):
            self.own.append(found)
        elif found.answer is not None or self.own[agent].answer is None:
            self.own[agent] = found

    def judged(self, number: int, text: str, answer: str | None, sample: Sample) -> None:
        """Take down what the judge said."""
        self._turn("judge", number, text, answer, sample)

    def _turn(
        self, speaker: str, number: int, text: str, answer: str | None, sample: Sample
    ) -> None:
        self.turns.append({"speaker": speaker, "round": number, "text": text, "answer": answer})
        self.tokens += len(sample.tokens)
        self.cost += len(sample.tokens)

    def ranked(self) -> list[Vote]:
        """The answers: most agents first, of equally many the one whose text is likeliest."""
        counted = votes(found.answer for found in self.own)
        return sorted(
            counted, key=lambda vote: (vote.votes, likelihood(self.likeliest(vote))), reverse=True
        )

    def likeliest(self, vote: Vote) -> Attempt:
        """The text that is likeliest of those with an answer."""
        return max((self.own[place] for place in vote.members), key=likelihood)

    def draft(self) -> Draft:
        """What the debate came to."""
        ranked = self.ranked()
        shared: dict[str, Any] = {
            "decisions": tuple(self.decisions), "transcript": tuple(self.turns),
            "tokens": self.tokens,
        }  # fmt: skip
        if not ranked:
            longest = max(self.own, key=lambda found: len(found.text))
            agents = f"none of {len(self.own)} agents states an answer: "
            words = (agents if len(self.own) > 1 else "") + empty_words(longest)
            return Draft(
                None, longest.thoughts(), signals=signals_of(longest), truncated=longest.truncated,
                looped=longest.looped, error=words, **shared,
            )  # fmt: skip
        first = next((vote for vote in ranked if vote.representative == self.answer), ranked[0])
        others = [vote for vote in ranked if vote is not first]
        chosen = self.likeliest(first)
        signals = signals_of(chosen)
        if len(self.own) > 1:
            second = max((vote.votes for vote in others), default=0)
            signals["vote_share"] = first.votes / len(self.own)
            signals["margin"] = (first.votes - second) / len(self.own)
        alternatives = tuple(
            Alternative(vote.representative, vote.votes, text=self.likeliest(vote).text)
            for vote in (first, *others)
        )
        return Draft(
            chosen.answer, chosen.thoughts(), alternatives, signals, chosen.truncated,
            chosen.looped, **shared,
        )  # fmt: skip


def debate(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Agents that answer, read the others' answers and reasons, and answer again (Du et al., 2023,
    arXiv:2305.14325); then a judge.

    ``settings.agents`` texts are drawn together. In each of ``settings.rounds`` rounds an agent is
    given the others' last texts behind its own, shortened where the context does not hold them; an
    agent whose text states no answer stays at the one before. A debate ends early where all agents
    agree, or where none wrote anything. Where answers differ after the last round, the model itself
    is the judge: it sees each answer with a text that argues for it, and writes the likeliest
    verdict. A verdict that names none of the answers loses to the majority, and so
    does one in words that names several (a number or a choice is the one stated last); of equally
    many agents the answer counts whose text is likeliest.

    The transcript holds every turn whole: ``speaker`` ("agent 1", "judge"), ``round`` (0 for the
    first answers), ``text`` and ``answer``. ``vote_share`` and ``margin`` count the agents' last
    answers; ``margin`` is negative where the judge went against the majority.

    Raises:
      BudgetEnded: before the first answers.
      UserError: a problem does not fit into the context.
    """
    kinds = [settings.kind(problem) for problem in problems]
    prompts = [
        prompting.steps_prompt(problem, kind, chat=sampler.chat, shots=settings.shots)
        for problem, kind in zip(problems, kinds, strict=True)
    ]
    debates = [_Debate(*each) for each in zip(problems, kinds, prompts, strict=True)]
    alone = settings.agents == 1
    found = attempts(
        sampler, prompts, kinds, settings, n=settings.agents,
        temperature=0.0 if alone else settings.temperature,
    )  # fmt: skip
    for one, own in zip(debates, found, strict=True):
        for agent, said in enumerate(own):
            one.heard(agent, 0, said)
        one.open = not alone
        one.cost += prompt_tokens(sampler, one.prompt)
        _conclude(one, 0)
    for number in range(1, settings.rounds + 1):
        _round(sampler, [one for one in debates if one.open], number, settings)
    split = [one for one in debates if one.open and len(one.ranked()) > 1]
    _judge(sampler, split, settings)
    return [one.draft() for one in debates]


def _conclude(one: _Debate, number: int) -> None:
    """Say what a round came to, and end the debate where another one is of no use."""
    ranked = one.ranked()
    said = ", ".join(_told(vote) for vote in ranked)
    one.decide(f"round {number}", said or "no agent states an answer")
    if not one.open:
        return
    if ranked and ranked[0].votes == len(one.own):
        one.decide("end", "all agents agree")
        one.open = False
    elif not any(found.sample.text.strip() for found in one.own):
        one.decide("end", "no agent wrote anything")
        one.open = False


def _told(vote: Vote) -> str:
    agents = "1 agent" if vote.votes == 1 else f"{vote.votes} agents"
    return f"{shortened(vote.representative, 60)} ({agents})"


def _round(sampler: Sampler, debates: Sequence[_Debate], number: int, settings: Settings) -> None:
    """Each agent of each debate answers again, all at once."""
    asked: list[tuple[_Debate, int, Prompt]] = []
    for one in debates:
        for agent in range(len(one.own)):
            prompt = _fitted(sampler, settings, functools.partial(_again, one, agent))
            if prompt is None:
                one.decide("skip", f"agent {agent + 1}: the context has no room for another answer")
            else:
                asked.append((one, agent, prompt))
    try:
        found = attempts(
            sampler, [prompt for _, _, prompt in asked], [one.kind for one, _, _ in asked],
            settings, temperature=settings.temperature,
        )  # fmt: skip
    except BudgetEnded:
        for one in debates:
            one.decide("stop", f"{BUDGET_ENDED}; the majority of the last answers counts")
            one.open = False
        return
    for (one, agent, prompt), own in zip(asked, found, strict=True):
        one.heard(agent, number, own[0])
        one.cost += prompt_tokens(sampler, prompt)
    for one in debates:
        _conclude(one, number)


def _fitted(sampler: Sampler, settings: Settings, made: Callable[[int], Prompt]) -> Prompt | None:
    """The prompt with the longest texts that leave room for an answer; None where none do."""
    room = min(settings.max_tokens, int(sampler.model.config.context) // 4)
    prompts = map(made, LENGTHS)
    return next((prompt for prompt in prompts if fits(sampler, prompt, room)), None)


def _again(one: _Debate, agent: int, most: int) -> Prompt:
    """The problem, an agent's own text, and those of the others, of ``most`` characters each."""
    others = "\n\n".join(
        f"Another agent's solution:\n{_with_answer(found, most)}"
        for place, found in enumerate(one.own)
        if place != agent and found.sample.text.strip()
    )
    request = f"{others}\n\n{_AGAIN}" if others else _AGAIN
    own = shortened(one.own[agent].sample.text, most)
    if isinstance(one.prompt, str):
        lead = prompting.written_before(one.prompt)
        request += f"\n\nProblem: {one.problem}\nSolution:"
        text = f"{prompting.follow_up(one.prompt, f' {own}', request)}"
        return f"{text.rstrip()} {lead}"
    if own:
        return prompting.follow_up(one.prompt, own, request)
    last = one.prompt[-1]
    return [*one.prompt[:-1], {**last, "content": f"{last['content']}\n\n{request}"}]


def _with_answer(found: Attempt, most: int) -> str:
    """A text with its answer, which may stand in the part that was left out."""
    text = shortened(found.text, most)
    if found.answer is None or found.answer in text:
        return text
    return f"{text}\n{prompting.ANSWER_MARK} {shortened(found.answer, most)}"


def _judge(sampler: Sampler, debates: Sequence[_Debate], settings: Settings) -> None:
    """One verdict for each debate whose answers differ."""
    asked: list[tuple[_Debate, Prompt]] = []
    for one in debates:
        prompt = _fitted(sampler, settings, functools.partial(_question, sampler, one))
        if prompt is None:
            one.decide("judge", "the context has no room for a verdict; the majority counts")
        else:
            asked.append((one, prompt))
    stop = () if sampler.chat else prompting.PLAIN_STOP
    try:
        found = sampler.samples(
            [prompt for _, prompt in asked], max_tokens=settings.max_tokens, temperature=0.0,
            seed=settings.seed, stop=stop,
        )  # fmt: skip
    except BudgetEnded:
        for one, _ in asked:
            one.decide("stop", f"{BUDGET_ENDED} before the verdict; the majority counts")
        return
    for (one, prompt), own in zip(asked, found, strict=True):
        said = attempt(prompt, own[0], one.kind)
        ranked = one.ranked()
        vote = _named(said, one.kind, ranked)
        one.judged(1 + int(one.turns[-1]["round"]), said.text, said.answer, own[0])
        one.cost += prompt_tokens(sampler, prompt)
        if vote is None:
            words = "wrote nothing" if not own[0].text.strip() else "named none of the answers"
            one.decide("judge", f"the judge {words}; the majority counts: {_told(ranked[0])}")
            continue
        one.answer = vote.representative
        against = ", ".join(_told(other) for other in ranked if other is not vote)
        one.decide("judge", f"the judge chose {_told(vote)} against {against}")


def _question(sampler: Sampler, one: _Debate, most: int) -> Prompt:
    """What the judge is asked."""
    said = [
        f"A solution that {vote.votes} of {len(one.own)} agents agree with:\n"
        f"{_with_answer(one.likeliest(vote), most)}"
        for vote in one.ranked()
    ]
    question = "\n\n".join([f"Problem: {one.problem}", *said, _JUDGE])
    if not sampler.chat:
        question += f"\n\nProblem: {one.problem}\nSolution: {prompting.ANSWER_MARK}"
    return prompting.ask(question, chat=sampler.chat)


def _named(said: Attempt, kind: str, ranked: Sequence[Vote]) -> Vote | None:
    """The answer that a verdict names; None where it names none, or several."""
    for vote in ranked:
        if same_answer(said.answer, vote.representative):
            return vote
    if kind not in ("auto", "text"):
        return None
    verdict = (said.answer or said.text).casefold()
    named = [
        vote for vote in ranked
        if re.search(rf"(?<!\w){re.escape(vote.representative.casefold())}(?!\w)", verdict)
    ]  # fmt: skip
    return named[0] if len(named) == 1 else None
