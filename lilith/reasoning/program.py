"""PROGRAM: the model writes Python, SHAMSHEL runs it, and what goes wrong goes back for repair."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from lilith.reasoning import prompting
from lilith.reasoning.drafts import Attempt, Draft, Settings, attempt, empty_words, signals_of
from lilith.reasoning.rounds import BUDGET_ENDED, fits, prompt_tokens, quoted, shortened
from lilith.reasoning.sampler import BudgetEnded, Prompt, Sampler
from lilith.reasoning.steps import code_blocks, extract_answer
from lilith.reasoning.trace import Decision, Thought
from lilith.shamshel import Limits, Run, Sandbox

LIMITS = Limits(wall_s=10.0, cpu_s=10.0)
LONGEST_ANSWER = 1000  # characters of a last line that can be an answer
MOST_ERROR = 1200  # characters of an error that go back to the model
MOST_OUTPUT = 4000  # characters of stdout and of stderr that are kept in a thought
_LEAD = "```python\n"
_FENCE_END = "\n```"  # a plain prompt opens the block itself, so that this closes it
_PYTHON = ("", "python", "python3", "py")
_NO_VALUE = re.compile(r"(?:None|nan|inf|-inf)", re.IGNORECASE)
# "Total: 42", "x = 5", "The price is $3.50": what such a line is about is no part of the answer.
_LABELLED = re.compile(r"[^\d]*(?:\b(?:is|are)|[=:])\s*([-+]?[$€£]?\s?[-+]?\d[\d,./eE+-]*\s?%?)\.?")


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of one text.

    Attributes:
      answer: None where the program gave none.
      failure: why not, in words that go back to the model; "" where it did.
      verified: of the thought: whether the program ran and did its work, None where it can not be
        said.
      final: nothing that the model could write would help.
    """

    answer: str | None
    failure: str = ""
    verified: bool | None = True
    final: bool = False


@dataclasses.dataclass
class _Case:
    """One problem on its way."""

    problem: str
    kind: str
    first: Prompt
    prompt: Prompt
    warm: bool = False  # draw the next text: the likeliest one has failed before
    found: Attempt | None = None  # its answer is the program
    language: str = ""
    outcome: _Outcome | None = None
    best: tuple[Attempt, _Outcome] | None = None  # the last text with an answer
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    thoughts: list[Thought] = dataclasses.field(default_factory=list)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    texts: int = 0
    tokens: int = 0
    open: bool = True


def program(sampler: Sampler, problems: Sequence[str], settings: Settings) -> list[Draft]:
    """Programs whose output is the answer (Gao et al., 2023, PAL, arXiv:2211.10435).

    The last line of standard output that is not empty is the answer; of a number or a choice, what
    ``extract_answer`` reads in it. Without a program, on an exception, a limit of the sandbox, no
    output or a line that is no answer of the kind asked for, the model is shown what went wrong
    and writes again, at most ``settings.repairs`` times; where it repeats a program that failed
    (or wrote nothing), the next text is drawn with ``settings.temperature``. The problems of a
    batch are asked together in each round.

    A thought stands for each run, with the program and its output as a call of
    ``execute_python``. Its ``verified`` says that the program ran and printed what can be an
    answer (True) or did not (False), not that the answer is right.

    A question of the kind "code" asks for code, not for what it prints. There the model is given
    the task as it is, the answer is the code itself, and SHAMSHEL only tells whether it runs:
    it may print nothing. Code that still fails after the repairs is the answer all the same, for
    a reader can use it, with ``verified`` False and a decision which says how it failed. Code in
    another language, or code that reads what a user types, is not judged (None).

    Where the sandbox refuses to run on this machine, ``error`` says why, and nothing is repaired.

    Raises:
      BudgetEnded: before there was a first text.
      UserError: a problem does not fit into the context.
    """
    cases = [_case(sampler, problem, settings) for problem in problems]
    for number in range(settings.repairs + 1):
        for warm in (False, True):
            asked = [case for case in cases if case.open and case.warm is warm]
            try:
                _write(sampler, asked, settings, settings.temperature if warm else 0.0)
            except BudgetEnded:
                if all(case.texts == 0 for case in cases):
                    raise
                for case in asked:
                    case.decisions.append(Decision("stop", BUDGET_ENDED))
                    case.open = False
        written = [case for case in cases if case.open]
        _run(written)
        for case in written:
            _judge(sampler, case, repairs_left=settings.repairs - number)
    return [_draft(case) for case in cases]


@functools.cache
def _sandbox() -> Sandbox:
    return Sandbox(LIMITS)


def _case(sampler: Sampler, problem: str, settings: Settings) -> _Case:
    kind = settings.kind(problem)
    if kind == "code":
        prompt = prompting.steps_prompt(problem, kind, chat=sampler.chat)
        if isinstance(prompt, str):
            prompt = prompt.removesuffix(prompting.written_before(prompt)) + _LEAD
    else:
        prompt = prompting.program_prompt(problem, chat=sampler.chat, shots=settings.shots)
    return _Case(problem, kind, prompt, prompt)


def _write(
    sampler: Sampler, cases: Sequence[_Case], settings: Settings, temperature: float
) -> None:
    """One text for each case."""
    stop = () if sampler.chat else (_FENCE_END, *prompting.PLAIN_STOP)
    found = sampler.samples(
        [case.prompt for case in cases], max_tokens=settings.max_tokens, temperature=temperature,
        top_p=settings.top_p, seed=settings.seed + max((case.texts for case in cases), default=0),
        stop=stop,
    )  # fmt: skip
    for case, own in zip(cases, found, strict=True):
        case.language, case.found = _program_in(attempt(case.prompt, own[0], "code"))
        case.texts += 1
        case.tokens += len(own[0].tokens)


def _run(cases: Sequence[_Case]) -> None:
    """Run the programs that were not run before, at once."""
    wanted = [
        (case, code)
        for case in cases
        if (code := _code(case)) and code not in case.runs and case.language in _PYTHON
    ]
    runs = _sandbox().run_many([code for _, code in wanted])
    for (case, code), run in zip(wanted, runs, strict=True):
        case.runs[code] = run


def _program_in(found: Attempt) -> tuple[str, Attempt]:
    """The language and the text with its program: its last block of Python, else its last block."""
    if found.answer is None:
        return "", found
    blocks = code_blocks(found.text.rpartition("</think>")[2])
    named = [(language.split(" ")[0], code) for language, code in blocks]
    python = [block for block in named if block[0] in _PYTHON[1:]]
    language, code = (python or named or [("", found.answer)])[-1]
    return language, dataclasses.replace(found, answer=code)


def _code(case: _Case) -> str:
    return case.found.answer or "" if case.found is not None else ""


def _judge(sampler: Sampler, case: _Case, *, repairs_left: int) -> None:
    """Look at what came of a case's text, and make the next prompt where it is to be repaired."""
    assert case.found is not None
    code = _code(case)
    run = case.runs.get(code)
    repeated = any(call["arguments"]["code"] == code for one in case.thoughts
                   for call in one.tool_calls)  # fmt: skip
    case.outcome = _outcome(case, run)
    if case.outcome.answer is not None:
        case.best = case.found, case.outcome
    read = prompt_tokens(sampler, case.prompt)
    cost = read + len(case.found.sample.tokens)
    if run is not None and not repeated:
        case.thoughts.append(_thought(len(case.thoughts) + 1, case, code, run))
    failure = case.outcome.failure
    if not failure:
        words = f"the program gave {quoted(case.outcome.answer or '')}"
        case.decisions.append(Decision("run", words if run else "the code was not run", cost))
        case.open = False
        return
    words = f"{failure} (the same program as before)" if repeated else failure
    case.decisions.append(Decision("run", shortened(words, 400), cost))
    if case.outcome.final or repairs_left == 0:
        case.open = False
        return
    blank = not case.found.sample.text.strip()
    case.warm = repeated or blank
    case.prompt = case.first if blank else _repair(case, failure)
    if not fits(sampler, case.prompt):
        case.decisions.append(Decision("stop", "the repair does not fit into the context"))
        case.open = False


def _outcome(case: _Case, run: Run | None) -> _Outcome:
    assert case.found is not None
    code = _code(case)
    if not code:
        words = empty_words(case.found)
        missing = "there is no Python program in it" if "states no" in words else words
        return _Outcome(None, missing, verified=False)
    if run is None:  # not Python
        if case.kind == "code":
            return _Outcome(code, verified=None)
        return _Outcome(None, f"the program is {case.language}, not Python", verified=False)
    if run.status == "refused":
        words = f"SHAMSHEL did not run the program: {run.reason}"
        return _Outcome(code if case.kind == "code" else None, words, verified=None, final=True)
    if run.status != "ok":
        last = (run.stderr.strip().splitlines() or [""])[-1]
        if case.kind == "code" and last.startswith("EOFError"):
            return _Outcome(code, verified=None)  # it waits for what its user types
        return _Outcome(code if case.kind == "code" else None, _error(run), verified=False)
    if case.kind == "code":
        return _Outcome(code)
    return _printed(run.stdout, case.kind)


def _printed(stdout: str, kind: str) -> _Outcome:
    """The answer in what a program printed."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    if not lines:
        return _Outcome(None, "the program printed nothing; print the answer", verified=False)
    line = lines[-1]
    if _NO_VALUE.fullmatch(line) or len(line) > LONGEST_ANSWER:
        return _Outcome(None, f"the program printed {quoted(line)}, no answer", verified=False)
    if kind in ("number", "choice"):
        answer = extract_answer(line, kind)
        if answer is None:
            wanted = "a number" if kind == "number" else "the letter of a choice"
            words = f"the last line printed is {quoted(line)}; it must be {wanted}"
            return _Outcome(None, words, verified=False)
        return _Outcome(answer)
    labelled = _LABELLED.fullmatch(line)
    if kind == "auto" and labelled:
        return _Outcome(labelled[1].strip())
    return _Outcome(line)


def _error(run: Run) -> str:
    """What went wrong in a run, in words for the model."""
    if run.status == "timeout":
        return f"the program ran longer than {LIMITS.wall_s:g} seconds and was stopped"
    if run.status == "output":
        return f"the program printed more than {LIMITS.output_kb} KiB and was stopped"
    if run.status == "memory":
        return f"the program needed more than {LIMITS.memory_mb} MiB and was stopped"
    said = run.stderr.strip()[-MOST_ERROR:]
    if run.status == "killed" or not said:
        ended = f"signal {run.signal}" if run.signal is not None else f"exit code {run.exit_code}"
        return f"the program ended with {ended}" + (f":\n{said}" if said else "")
    hint = "\nOnly Python's standard library is there." if "ModuleNotFoundError" in said else ""
    hint = "\nIt has no input; write the numbers into it." if "EOFError" in said else hint
    return f"the program failed:\n{said}{hint}"


def _thought(number: int, case: _Case, code: str, run: Run) -> Thought:
    assert case.found is not None
    assert case.outcome is not None
    result = {"status": run.status, "stdout": _kept(run.stdout)}
    if run.stderr:
        result["stderr"] = _kept(run.stderr)
    if run.reason:
        result["reason"] = run.reason
    call = {"name": "execute_python", "arguments": {"code": code}, "result": result}
    output = " ".join(run.stdout.split())
    says = case.outcome.failure or (f"it printed {quoted(output)}" if output else "it ran")
    return Thought(
        number, f"Program {number}: {says}", (call,), log_prob=case.found.answer_log_prob,
        verified=case.outcome.verified,
    )  # fmt: skip


def _kept(output: str) -> str:
    return output if len(output) <= MOST_OUTPUT else shortened(output, MOST_OUTPUT)


def _repair(case: _Case, failure: str) -> Prompt:
    """The first prompt, the last text, and what is wrong with it."""
    assert case.found is not None
    code = _code(case)
    request = f"That does not work: {failure}"
    if isinstance(case.first, str):
        request += "\n\nThe corrected program:\nSolution: " + _LEAD.rstrip()
        return prompting.follow_up(case.first, code + _FENCE_END, request)
    block = f"```python\n{code}\n```" if code else shortened(case.found.text, MOST_ERROR)
    whole = "Write the whole corrected code in one code block."
    if case.kind != "code":
        whole = (
            "Write the whole corrected Python program, which prints the answer with print(), in "
            "one code block."
        )
    return prompting.follow_up(case.first, block, f"{request}\n\n{whole}")


def _draft(case: _Case) -> Draft:
    assert case.found is not None  # a first text was written
    assert case.outcome is not None
    found, outcome = case.best or (case.found, case.outcome)
    error = ""
    if outcome.answer is None:
        texts = "1 text" if case.texts == 1 else f"{case.texts} texts"
        error = f"no answer after {texts}: {shortened(outcome.failure, 300)}"
        if case.decisions[-1].action == "stop":
            error += f"; {case.decisions[-1].reason}"
    return Draft(
        outcome.answer, tuple(case.thoughts), signals=signals_of(found), truncated=found.truncated,
        looped=found.looped, decisions=tuple(case.decisions), tokens=case.tokens, error=error,
    )  # fmt: skip
