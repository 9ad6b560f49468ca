"""Programs that run, fail, are repaired, or can not be run: each in the sandbox for real."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_model import NEVER_ENDS, ScriptedModel

from lilith.config import UserError
from lilith.reasoning import program as program_module
from lilith.reasoning.drafts import Draft, Settings
from lilith.reasoning.program import program
from lilith.reasoning.sampler import Budget, BudgetEnded, Sampler
from lilith.shamshel import Limits, Run, Sandbox

PENS = "A pen costs $3. How many dollars do 4 pens cost?"
WRITE = "Write a function add(a, b) that adds two numbers."


def block(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


def solved(model: ScriptedModel, problem: str = PENS, **settings: Any) -> Draft:
    return program(Sampler(model), [problem], Settings(**settings))[0]


def test_what_a_program_prints_is_the_answer() -> None:
    text = "Here it is:\n" + block("pens = 4\nprint('working')\nprint('The total is', pens * 3)\n")
    model = ScriptedModel([(text, -0.25)])
    draft = solved(model)
    assert draft.answer == "12"
    assert draft.error == ""
    (thought,) = draft.thoughts
    assert thought.verified is True
    (call,) = thought.tool_calls
    assert call["name"] == "execute_python"
    assert call["arguments"]["code"].startswith("pens = 4")
    assert call["result"] == {"status": "ok", "stdout": "working\nThe total is 12\n"}
    json.dumps(call)
    assert thought.thought == 'Program 1: it printed "working The total is 12"'
    assert draft.signals == {"truncated": 0.0, "answer_log_prob": pytest.approx(-0.25)}
    assert draft.tokens == len(model.tokenizer.encode(text))
    assert draft.decisions[0].tokens > draft.tokens
    assert model.settings[0]["temperature"] == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print(1 / 0)", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("import numpy", "Only Python's standard library is there."),
        ("x = input()", "It has no input; write the numbers into it."),
        ("x = 12", "the program printed nothing; print the answer"),
        ("print(None)", 'the program printed "None", no answer'),
        ("print('many')", 'the last line printed is "many"; it must be a number'),
        ("print('1' * 2000)", "no answer"),
        ("print('x' * 100_000)", "printed more than 64 KiB"),
        ("x = 'x' * 10**10", "needed more than 512 MiB"),
        ("import os, signal\nos.kill(os.getpid(), 9)", "ended with signal 9"),
        ("import sys\nprint(5)\nsys.exit(3)", "ended with exit code 3"),
    ],
)
def test_what_goes_wrong_goes_back_and_is_repaired(code: str, words: str) -> None:
    model = ScriptedModel([block(code), block("print(12)")])
    draft = solved(model)
    assert draft.answer == "12"
    assert [one.verified for one in draft.thoughts] == [False, True]
    assert words in model.prompts[1]
    assert block(code) in model.prompts[1]
    assert "assistant:" in model.prompts[1]
    assert words.split("; ")[0][:40] in draft.decisions[0].reason
    assert model.settings[1]["temperature"] == 0  # another prompt, so another likeliest text


def test_a_program_that_runs_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(wall_s=0.5, cpu_s=0.5)
    monkeypatch.setattr(program_module, "LIMITS", limits)
    monkeypatch.setattr(program_module, "_sandbox", lambda: Sandbox(limits))
    draft = solved(ScriptedModel([block("while True:\n    pass")]), repairs=0)
    assert draft.answer is None
    assert "ran longer than 0.5 seconds" in draft.error
    assert draft.thoughts[0].tool_calls[0]["result"]["status"] == "timeout"


def test_the_repairs_end_in_words() -> None:
    model = ScriptedModel([block(f"print({number} / 0)") for number in range(3)])
    draft = solved(model, repairs=2)
    assert draft.answer is None
    assert draft.error.startswith("no answer after 3 texts: the program failed:")
    assert "ZeroDivisionError" in draft.error
    assert [one.verified for one in draft.thoughts] == [False] * 3
    assert len(model.prompts) == 3
    assert model.prompts[2].count("assistant:") == 1  # only the last text goes back
    assert solved(ScriptedModel([block("x = 1")]), repairs=0).answer is None


def test_a_program_that_is_repeated_is_not_run_again_and_the_next_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    sandbox = Sandbox()

    def run_many(sources: list[str]) -> list[Run]:
        ran.extend(sources)
        return [sandbox.run(source) for source in sources]

    monkeypatch.setattr(program_module._sandbox(), "run_many", run_many)
    model = ScriptedModel([block("print(x)"), block("print(x)"), block("print(12)")])
    draft = solved(model, temperature=0.6)
    assert draft.answer == "12"
    assert len(draft.thoughts) == 2
    assert ran == ["print(x)", "print(12)"]
    assert [one["temperature"] for one in model.settings] == [0.0, 0.0, 0.6]
    assert draft.decisions[1].reason.endswith("(the same program as before)")


def test_a_text_without_a_program_is_sent_back() -> None:
    model = ScriptedModel(["It is twelve, I think.", block("print(12)")])
    draft = solved(model)
    assert draft.answer == "12"
    assert len(draft.thoughts) == 1
    assert "there is no Python program in it" in model.prompts[1]
    assert "assistant: It is twelve, I think." in model.prompts[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the model wrote nothing"),
        ("\n\n", "the model wrote nothing but space"),
        ("and so on " + NEVER_ENDS, "ended at its limit of 512 tokens"),
    ],
)
def test_a_broken_model_gives_words(line: str, words: str) -> None:
    model = ScriptedModel(lambda prompt, place: line)
    draft = solved(model, repairs=1)
    assert draft.answer is None
    assert draft.error.startswith("no answer after 2 texts: ")
    assert words in draft.error
    assert draft.thoughts == ()
    assert draft.looped == line.startswith("and")
    if not line.strip():
        assert model.prompts[1] == model.prompts[0]
        assert model.settings[1]["temperature"] == 0.7


def test_plain_models_go_on_in_an_open_block() -> None:
    model = ScriptedModel(["print(1 / 0)\n```\nand more", "print(12)\n```"], chat=False)
    draft = solved(model)
    assert draft.answer == "12"
    assert model.settings[0]["stop"] == ("\n```", "\nProblem:")
    assert model.prompts[0].endswith("Solution: ```python\n")
    assert model.prompts[1].startswith(model.prompts[0] + "print(1 / 0)\n```\n\nThat does not work")
    assert model.prompts[1].endswith("Solution: ```python\n")
    assert "ZeroDivisionError" in model.prompts[1]
    assert draft.thoughts[0].tool_calls[0]["arguments"]["code"] == "print(1 / 0)"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (block("print(12)") + "\nIt prints:\n```\n13\n```", "12"),
        (block("print(11)") + "\nBetter:\n" + block("print(12)"), "12"),
        (block("print(12)", ""), "12"),
        ("print(12)", "12"),
        (f"<think>{block('print(9)')}</think>\n{block('print(12)')}", "12"),
    ],
)
def test_the_program_is_the_last_block_of_python(text: str, answer: str) -> None:
    assert solved(ScriptedModel([text]), repairs=0).answer == answer


@pytest.mark.parametrize(
    ("problem", "printed", "answer"),
    [
        (PENS, "It costs $1,200.50 in all", "1200.50"),
        ("Which is right?\nA) 1\nB) 2", "(B)", "B"),
        ("Which is right?\nA) 1\nB) 2", "2", None),
        ("Who wins?", "Bob has 3 apples", "Bob has 3 apples"),
        ("Find it.", "Total: 42", "42"),
        ("Find it.", "x = -3.5", "-3.5"),
    ],
)
def test_the_answer_fits_the_kind(problem: str, printed: str, answer: str | None) -> None:
    draft = solved(ScriptedModel([block(f"print({printed!r})")]), problem, repairs=0)
    assert draft.answer == answer
    if answer is None:
        assert "the letter of a choice" in draft.error


def test_another_language_is_sent_back() -> None:
    model = ScriptedModel([block("console.log(12)", "javascript"), block("print(12)")])
    draft = solved(model)
    assert draft.answer == "12"
    assert "the program is javascript, not Python" in model.prompts[1]
    assert len(draft.thoughts) == 1


def test_a_question_for_code_is_answered_by_the_code() -> None:
    code = "def add(a, b):\n    return a + b"
    model = ScriptedModel([block(code)])
    draft = solved(model, WRITE)
    assert draft.answer == code
    assert draft.thoughts[0].verified is True
    assert draft.thoughts[0].thought == "Program 1: it ran"
    assert "Write the code in one code block." in model.prompts[0]
    plain = ScriptedModel([code + "\n```\n"], chat=False)
    assert solved(plain, WRITE).answer == code
    assert plain.prompts[0].endswith(f"Problem: {WRITE}\nSolution: ```python\n")


def test_code_that_fails_is_repaired_and_else_the_answer_all_the_same() -> None:
    good, bad = "def add(a, b):\n    return a + b", "def add(a, b)\n    return a + b"
    draft = solved(ScriptedModel([block(bad), block(good)]), WRITE)
    assert draft.answer == good
    draft = solved(ScriptedModel([block(bad), "I can not."]), WRITE, repairs=1)
    assert draft.answer == bad
    assert draft.thoughts[0].verified is False
    assert "SyntaxError" in draft.decisions[0].reason
    assert draft.error == ""


@pytest.mark.parametrize(
    ("text", "runs"),
    [(block("add = (a, b) => a + b", "js"), 0), (block("print(input())"), 1)],
)
def test_code_that_can_not_be_tried_is_not_judged(text: str, runs: int) -> None:
    draft = solved(ScriptedModel([text]), WRITE)
    assert draft.answer == text.split("\n")[1]
    assert [one.verified for one in draft.thoughts] == [None] * runs
    assert len(draft.decisions) == 1


class _Refusing:
    def run_many(self, sources: list[str]) -> list[Run]:
        return [Run("refused", reason="namespaces: not allowed here.")] * len(sources)


def test_a_machine_that_can_not_isolate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_module, "_sandbox", _Refusing)
    draft = solved(ScriptedModel([block("print(12)")]))  # not asked for a repair
    assert draft.answer is None
    assert "SHAMSHEL did not run the program: namespaces: not allowed here." in draft.error
    assert draft.thoughts[0].verified is None
    draft = solved(ScriptedModel([block("x = 1")]), WRITE)
    assert draft.answer == "x = 1"
    assert "SHAMSHEL did not run" in draft.decisions[0].reason


def test_a_batch_is_asked_together_and_only_what_failed_again() -> None:
    def say(prompt: str, place: int) -> str:
        if "What is 1 + 1?" in prompt:
            return block("print(2)")
        if "blank" in prompt:
            return ""
        return block("print(12)" if "NameError" in prompt else "print(x)")

    model = ScriptedModel(say)
    problems = ["What is 1 + 1?", PENS, "What is blank?"]
    drafts = program(Sampler(model), problems, Settings(repairs=1))
    assert [draft.answer for draft in drafts] == ["2", "12", None]
    assert len(model.prompts) == 5
    assert len(model.settings) == 3  # the first round; the likeliest and the drawn repairs


def test_the_budgets_end_leaves_what_was_found() -> None:
    model = ScriptedModel([block("print(2)"), block("print(1/0)")])
    sampler = Sampler(model, budget=Budget(tokens=6))
    drafts = program(sampler, ["What is 1 + 1?", PENS], Settings())
    assert drafts[0].answer == "2"
    assert drafts[1].answer is None
    sampler = Sampler(ScriptedModel([block("print(1/0)")]), budget=Budget(tokens=3))
    (draft,) = program(sampler, [PENS], Settings())
    assert "ZeroDivisionError" in draft.error
    assert draft.error.endswith("the budget of tokens or seconds ended")
    assert draft.decisions[-1].action == "stop"
    assert len(draft.thoughts) == 1
    broke = Sampler(ScriptedModel(), budget=Budget(tokens=1))
    with pytest.raises(BudgetEnded):
        program(broke, [PENS, PENS], Settings())


def test_a_repair_that_does_not_fit_is_not_asked_for() -> None:
    probe = ScriptedModel([block("print(12)")])
    solved(probe)
    context = len(probe.tokenizer.encode(probe.prompts[0])) + 30
    draft = solved(ScriptedModel([block("print(x)")], context=context))
    assert draft.answer is None
    assert draft.error.endswith("the repair does not fit into the context")
    with pytest.raises(UserError):
        solved(ScriptedModel(context=10))
