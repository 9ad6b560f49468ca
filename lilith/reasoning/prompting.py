"""Problems put to a model by its chat template or as plain text, with worked examples or none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lilith.reasoning.sampler import Prompt, ReasoningError

ANSWER_MARK = "Answer:"
# A base model goes on with another problem after its answer; this ends it.
PLAIN_STOP = ("\nProblem:",)
_CHOICES = re.compile(r"^\s*\(?[A-E][).:]\s", re.MULTILINE)
_CODE = re.compile(
    r"\b(?:write|implement|code|complete|fix)\b[^.?!]{0,60}\b(?:function|class|program|script|code)\b"
    r"|```|^\s*def \w+\(",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|often|big|large|fast)\b|\bwhat (?:is|are|was) (?:the )?"
    r"(?:\w+ ){0,3}(?:price|cost|total|sum|number|value|return|rate|amount|ratio|profit|loss"
    r"|average|mean|area|distance|probability|percentage|difference|interest|yield|balance)\b"
    r"|\b(?:calculate|compute|evaluate)\b|\bwhat is [-\d$(]|\bwhat percent",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Shot:
    """A worked example: a problem, the steps to its answer (one a line), and the answer."""

    problem: str
    steps: str
    answer: str


# Written here; each step states its arithmetic, so that it can be recomputed.
SHOTS = (
    Shot(
        "A shop sells pens at $3 each. Mia buys 4 pens and pays with a $20 note. How much change "
        "does she get?",
        "Step 1: The pens cost 4 * 3 = 12 dollars.\nStep 2: The change is 20 - 12 = 8 dollars.",
        "8",
    ),
    Shot(
        "A fund of $5,000 grows by 10% in the first year and loses 20% in the second. What is it "
        "worth then?",
        "Step 1: After the first year it is 5000 * 1.1 = 5500.\n"
        "Step 2: After the second year it is 5500 * 0.8 = 4400.",
        "4400",
    ),
    Shot(
        "A team of 3 engineers finishes 24 tasks in 2 weeks. How many tasks does one engineer "
        "finish in a week?",
        "Step 1: The team finishes 24 / 2 = 12 tasks in a week.\n"
        "Step 2: One engineer finishes 12 / 3 = 4 tasks in a week.",
        "4",
    ),
)
_DIRECT = 'Give the answer alone, without explanation, on one line that begins with "Answer:".'
_STEPS = (
    'Solve this step by step. Begin each step with "Step" and its number, and write out the '
    'arithmetic. End with a line "Answer:" and the answer alone.'
)
_PROGRAM = (
    "Write a short Python program that computes the answer to this problem and prints it with "
    "print(). Write only the program, in one code block."
)
_CODE_TASK = "Write the code in one code block."


def question_kind(problem: str) -> str:
    """What kind of answer a problem asks for: "number", "choice", "code", or "auto" for any."""
    if len(_CHOICES.findall(problem)) >= 2:
        return "choice"
    if _CODE.search(problem):
        return "code"
    return "number" if _NUMBER.search(problem) else "auto"


def checked_problem(problem: Any) -> str:
    """The problem, stripped.

    Raises:
      ReasoningError: it is no text, or holds nothing but space.
    """
    if not isinstance(problem, str):
        raise ReasoningError(f"the problem is a {type(problem).__name__}; give a text")
    if not problem.strip():
        raise ReasoningError("the problem is empty; give a text to reason about")
    return problem.strip()


def direct_prompt(problem: str, kind: str, *, chat: bool, shots: Sequence[Shot] = ()) -> Prompt:
    """The problem, to be answered without steps."""
    request = _CODE_TASK if kind == "code" else _DIRECT
    replies = [f"{ANSWER_MARK} {shot.answer}" for shot in shots]
    return _prompt(problem, request, replies, shots, chat, ANSWER_MARK)


def steps_prompt(problem: str, kind: str, *, chat: bool, shots: Sequence[Shot] = ()) -> Prompt:
    """The problem, to be answered step by step."""
    request = _CODE_TASK if kind == "code" else _STEPS
    replies = [f"{shot.steps}\n{ANSWER_MARK} {shot.answer}" for shot in shots]
    return _prompt(problem, request, replies, shots, chat, "Step 1:")


def program_prompt(problem: str, *, chat: bool, shots: Sequence[Shot] = ()) -> Prompt:
    """The problem, to be answered by a Python program that prints the answer."""
    replies = [f"```python\n{_program_of(shot)}\n```" for shot in shots]
    return _prompt(problem, _PROGRAM, replies, shots, chat, "```python\n")


def follow_up(prompt: Prompt, reply: str, request: str) -> Prompt:
    """The prompt with what the model wrote to it and another request."""
    if isinstance(prompt, str):
        return f"{prompt}{reply.rstrip()}\n\n{request}\n"
    return [
        *prompt,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": request},
    ]


def ask(request: str, *, chat: bool) -> Prompt:
    """A request as it is: one user's message, or plain text."""
    return [{"role": "user", "content": request}] if chat else request


def written_before(prompt: Prompt) -> str:
    """What a plain prompt already wrote of the answer, such as "Step 1:"; "" for messages."""
    return prompt.rpartition("Solution: ")[2] if isinstance(prompt, str) else ""


def _prompt(
    problem: str,
    request: str,
    replies: Sequence[str],
    shots: Sequence[Shot],
    chat: bool,
    lead: str,
) -> Prompt:
    if not chat:
        worked = [
            f"Problem: {shot.problem}\nSolution: {reply}\n\n"
            for shot, reply in zip(shots, replies, strict=True)
        ]
        return "".join(worked) + f"{request}\n\nProblem: {problem}\nSolution: {lead}"
    messages: list[dict[str, str]] = []
    for shot, reply in zip(shots, replies, strict=True):
        messages += [
            {"role": "user", "content": f"{shot.problem}\n\n{request}"},
            {"role": "assistant", "content": reply},
        ]
    return [*messages, {"role": "user", "content": f"{problem}\n\n{request}"}]


def _program_of(shot: Shot) -> str:
    """A worked example's steps as a program: each step a comment, the answer printed."""
    lines = [f"# {line}" for line in shot.steps.split("\n")]
    sums = re.findall(r"[\d.]+(?: [-+*/] [\d.]+)+", shot.steps)
    return "\n".join([*lines, f"print({sums[-1] if sums else shot.answer})"])
