"""How well an agent calls tools and answers: every call of a turn, and what the answer says."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lilith.agent.agent import AgentModel, LILITHAgent
from lilith.agent.dialect import RESULT_OPEN
from lilith.agent.registry import ToolRegistry
from lilith.agent.tool_calls import CLOSE, OPEN, read_calls
from lilith.agent.tool_results import References
from lilith.agent.turn import AgentTurn, CallRecord
from lilith.config import UserError
from lilith.data.json_lines import JsonLines
from lilith.evals.agent_prompts import AgentPrompt
from lilith.evals.reasoning import wilson
from lilith.quant.tool_values import ToolError

Progress = Callable[[int, int, str], None]


class BegunCalls:
    """A model whose first message of each turn begins with a call, whatever it would have said.

    It shows what the calls of a model are worth that would make few by itself.
    """

    def __init__(self, model: AgentModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def stream(self, prompt: Any, **settings: Any) -> Iterator[str]:
        """The model's text, after the mark of a call where the prompt ends in a user's message.

        Raises:
          UserError: the model has no chat template, so messages can not be told apart.
        """
        if not all(isinstance(one, Mapping) for one in prompt):
            raise UserError("calls can only be begun for a model with a chat template")
        last = prompt[-1]
        if last["role"] == "user" and not last["content"].startswith(RESULT_OPEN):
            begun = f"{OPEN}\n"
            prompt = [
                *self.model.encode(prompt),
                *self.model.tokenizer.encode(begun, allow_special=True),
            ]
            yield begun
        yield from self.model.stream(prompt, **settings)


@dataclass(frozen=True)
class Verdict:
    """What a turn was worth.

    Attributes:
      calls: that the model wrote; parsed: of them those that are JSON of a name and arguments,
        closed; valid: those whose arguments, too, are as the tool declares them; ran: those that
        the tool answered.
      right_tool: one of them is of the right tool; right_call: with every argument right, too.
      right_answer: the turn ended in an answer, and it says what it must.
      unverified: numbers of the answer that come from nowhere.
    """

    calls: int = 0
    parsed: int = 0
    valid: int = 0
    ran: int = 0
    right_tool: bool = False
    right_call: bool = False
    right_answer: bool = False
    unverified: int = 0


@dataclass(frozen=True)
class Answered:
    """A question, the agent's turn and what it was worth.

    Attributes:
      turn: as :meth:`lilith.agent.turn.AgentTurn.to_json` writes it; None where the agent could not
        be asked, and error then says why.
      seconds: of the turn.
    """

    prompt: AgentPrompt
    verdict: Verdict
    turn: Mapping[str, Any] | None
    seconds: float
    ended: str
    error: str = ""


def judge(
    prompt: AgentPrompt,
    turn: AgentTurn,
    registry: ToolRegistry,
    references: References | None = None,
) -> Verdict:
    """What a turn is worth.

    Args:
      registry: the tools that the agent had; references: what its conversation kept.
    """
    kept = references or References()
    parsed = [call for call in turn.calls if _parses(call)]
    named = [call for call in parsed if call.name == prompt.expected["name"]]
    return Verdict(
        calls=len(turn.calls),
        parsed=len(parsed),
        valid=sum(_validates(call, registry, kept) for call in parsed),
        ran=sum(call.ok for call in turn.calls),
        right_tool=bool(named),
        right_call=any(prompt.same({"name": c.name, "arguments": c.arguments}) for c in named),
        right_answer=turn.ended == "answer"
        and all(key.said_in(turn.answer) for key in prompt.keys),
        unverified=len(turn.unverified),
    )


def _parses(call: CallRecord) -> bool:
    if not call.name or call.answer.get("error", {}).get("code") == "not_closed":
        return False
    (read,) = read_calls(f"{OPEN}{call.text}{CLOSE}").calls[:1]
    return read.error is None


def _validates(call: CallRecord, registry: ToolRegistry, references: References) -> bool:
    try:
        registry[call.name].validate(**references.filled_in(call.arguments))
    except (UserError, ToolError):
        return False
    return True


def answer_all(
    agent: LILITHAgent,
    prompts: Sequence[AgentPrompt],
    path: pathlib.Path,
    *,
    roles: bool = True,
    progress: Progress = lambda done, total, what: None,
) -> list[Answered]:
    """Ask each question in a conversation of its own, those that ``path`` holds excepted.

    Each answer is appended to ``path`` as soon as it is there. The agent's conversation is
    forgotten; a question that it can not be asked, such as one that does not fit its context,
    counts as wrong in everything.

    Args:
      roles: the agent takes the role of each question; else its system prompt stays.

    Raises:
      UserError: a line of ``path`` is no answer of this measurement.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = JsonLines(path)
    file.cut(len(file.records))  # what a kill cut off goes
    known = {_key(record): record for record in file.records}
    found: list[Answered] = []
    right = 0
    for prompt in prompts:
        record = known.get((prompt.kind, prompt.question))
        if record is None:
            made = _ask(agent, prompt, roles)
            file.append([_record(made)])
        else:
            made = _read(prompt, record, path)
        found.append(made)
        right += made.verdict.right_answer
        progress(len(found), len(prompts), f"{prompt.kind}, {right} right")
    return found


def _ask(agent: LILITHAgent, prompt: AgentPrompt, roles: bool) -> Answered:
    agent.reset()
    if roles:
        agent.set_role(prompt.role)
    try:
        turn = agent.run(prompt.question)
    except UserError as error:
        return Answered(prompt, Verdict(), None, 0.0, "not_asked", str(error))
    verdict = judge(prompt, turn, agent.registry, agent.runner.references)
    return Answered(prompt, verdict, json.loads(turn.to_json()), turn.seconds, turn.ended)


def _key(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record.get("kind"), record.get("question")


def _record(own: Answered) -> dict[str, Any]:
    prompt = own.prompt
    return {
        "kind": prompt.kind, "source": prompt.source, "index": prompt.index,
        "question": prompt.question, "expected": dict(prompt.expected),
        "keys": [key.to_dict() for key in prompt.keys], "verdict": asdict(own.verdict),
        "answer": None if own.turn is None else own.turn["answer"], "ended": own.ended,
        "seconds": own.seconds, "error": own.error, "turn": own.turn,
    }  # fmt: skip


def _read(prompt: AgentPrompt, record: Mapping[str, Any], path: pathlib.Path) -> Answered:
    try:
        verdict = Verdict(**record["verdict"])
        return Answered(
            prompt, verdict, record["turn"], float(record["seconds"]), record["ended"],
            record["error"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"an answer in {path} is not of this measurement ({error!r}); remove the file to "
            "measure anew"
        ) from None


@dataclass(frozen=True)
class Figures:
    """What the answers to one kind of question came to.

    Attributes:
      prompts: how many were asked; calls, parsed, valid, ran: of all their turns together.
      right_tool, right_call, right_answer: how many turns; low, high: the interval of 95% of the
        share of right answers (Wilson).
      unverified: numbers of all answers that come from nowhere.
      unfinished: turns that ended by a limit or could not be asked.
      seconds: of a turn, the mean.
    """

    kind: str
    prompts: int
    calls: int
    parsed: int
    valid: int
    ran: int
    right_tool: int
    right_call: int
    right_answer: int
    low: float
    high: float
    unverified: int
    unfinished: int
    seconds: float


def figures(kind: str, answers: Sequence[Answered]) -> Figures:
    """The figures of these answers.

    Raises:
      UserError: there are none.
    """
    verdicts = [own.verdict for own in answers]
    right = sum(own.right_answer for own in verdicts)
    low, high = wilson(right, len(answers))
    return Figures(
        kind=kind,
        prompts=len(answers),
        calls=sum(own.calls for own in verdicts),
        parsed=sum(own.parsed for own in verdicts),
        valid=sum(own.valid for own in verdicts),
        ran=sum(own.ran for own in verdicts),
        right_tool=sum(own.right_tool for own in verdicts),
        right_call=sum(own.right_call for own in verdicts),
        right_answer=right,
        low=low,
        high=high,
        unverified=sum(own.unverified for own in verdicts),
        unfinished=sum(own.ended != "answer" for own in answers),
        seconds=sum(own.seconds for own in answers) / len(answers),
    )


def figures_by_kind(answers: Sequence[Answered]) -> list[Figures]:
    """The figures of each kind of question, in the order in which they come, and of all."""
    kinds = list(dict.fromkeys(own.prompt.kind for own in answers))
    found = [figures(kind, [own for own in answers if own.prompt.kind == kind]) for kind in kinds]
    return [*found, *([figures("all", answers)] if len(kinds) > 1 else [])]


TABLE_HEAD = (
    "| questions | calls | parse and validate | right tool | every argument right | "
    "right answer (95% interval) | seconds a question |\n|---|---|---|---|---|---|---|"
)


def markdown_row(own: Figures) -> str:
    """A line of the table in ``docs/agent.md``."""
    valid = f"{own.valid / own.calls:.1%}" if own.calls else "none"
    shares = [f"{count / own.prompts:.0%}" for count in (own.right_tool, own.right_call)]
    return (
        f"| {own.kind} ({own.prompts}) | {own.calls} | {valid} | {shares[0]} | {shares[1]} | "
        f"{own.right_answer / own.prompts:.0%} ({own.low:.0%} to {own.high:.0%}) | "
        f"{own.seconds:.1f} |"
    )
