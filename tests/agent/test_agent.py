"""The agent's turns: every branch, driven by a scripted model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from small_tools import double, numbers, total
from streaming_model import StreamingModel, call, shown

import lilith
from lilith.agent.agent import MOST_CHARACTERS, LILITHAgent, create_quant_agent
from lilith.agent.function_tool import tool
from lilith.agent.registry import ToolRegistry
from lilith.agent.roles import (
    SYSTEM_PROMPTS,
    TEMPERATURES,
    kind_of_work,
    system_prompt,
    temperature_for,
)
from lilith.agent.turn import AgentTurn, Done, Token, ToolCallStarted, ToolFinished
from lilith.agent.turn_run import TurnLimits, is_hard
from lilith.config import UserError
from lilith.data.instructions.tool_text import HEADINGS, RULE
from lilith.quant.tool_values import ToolError
from lilith.tokenizer import ByteTokenizer


@tool
def picky(x: float, side: str) -> float:
    """Refuses."""
    raise ToolError("bad_side", "side", f"side is {side!r}", "give left or right")


@tool
def fails() -> int:
    """Raise."""
    raise RuntimeError("it is broken")


@tool
def hangs() -> int:
    """Sleep."""
    time.sleep(20)
    return 0


@tool
def odd() -> dict:
    """Give a set."""
    return {"x": {1}}


MEETING = threading.Barrier(2)


@tool
def meets(who: int) -> int:
    """Wait until two are here."""
    MEETING.wait(timeout=20)
    return who


TOOLS = (double, numbers, total, picky, fails, hangs, odd, meets)


def agent_of(lines: Any, *, context: int = 4096, piece: int = 5, **settings: Any) -> LILITHAgent:
    settings.setdefault("tools", TOOLS)
    settings.setdefault("tool_limits", {"hangs": 0.2} if settings["tools"] == TOOLS else {})
    return LILITHAgent(StreamingModel(lines, context=context, piece=piece), **settings)


def roles_of(prompt: Any) -> list[str]:
    return [message["role"] for message in prompt]


def test_an_answer_without_tools():
    agent = agent_of(["Hello there."])
    assert agent.chat("Good morning") == "Hello there."
    (turn,) = agent.turns
    assert (turn.ended, turn.steps, turn.tokens) == ("answer", (), 2)
    assert roles_of(agent.model.prompts[0]) == ["system", "user"]


def test_a_call_its_result_and_the_answer():
    agent = agent_of(["I will see. " + call("double", x=21), "It is 42."])
    events = list(agent.stream("Double 21, please."))
    assert "".join(event.text for event in events if isinstance(event, Token)) == (
        "I will see. It is 42."
    )
    started = next(event for event in events if isinstance(event, ToolCallStarted))
    finished = next(event for event in events if isinstance(event, ToolFinished))
    assert (started.name, started.arguments, started.step, started.index) == (
        "double", {"x": 21}, 0, 0,
    )  # fmt: skip
    assert finished.call.answer["result"] == {"doubled": 42.0}
    assert isinstance(events[-1], Done)
    turn = events[-1].turn
    assert turn is agent.turns[-1]
    assert (turn.answer, turn.ended) == ("It is 42.", "answer")
    assert turn.steps[0].text == "I will see."
    assert [(one.text, one.verdict) for one in turn.checks] == [("42", "result")]
    assert roles_of(agent.model.prompts[1]) == ["system", "user", "assistant", "tool"]
    assert '"doubled":42' in agent.model.prompts[1][-1]["content"]
    assert AgentTurn.from_json(turn.to_json()) == turn


def test_calls_of_one_message_run_side_by_side_and_finish_as_they_do():
    agent = agent_of([call("meets", who=1) + call("meets", who=2), "Both met."])
    turn = agent.run("Meet.")
    assert [own.answer["result"]["value"] for own in turn.calls] == [1, 2]
    assert len(turn.steps) == 1


def test_the_system_message_shows_tools_as_the_tuned_model_knows_them():
    agent = agent_of(["Yes."], system_prompt="Be brief.")
    lines = agent.system_message.splitlines()
    assert lines[0] == "Be brief."
    assert any(heading.endswith(lines[1]) for heading in HEADINGS)
    assert lines[2] == "- double(x)"
    assert agent.system_message.endswith(RULE)
    agent.chat("Are you?")
    assert agent.model.prompts[0][0] == {"role": "system", "content": agent.system_message}
    assert agent_of([], tools=(), system_prompt="Be brief.").system_message == "Be brief."


@pytest.mark.parametrize(
    ("written", "code", "words"),
    [
        (call("picky", x=1, side="up"), "bad_side", "give left or right"),
        (call("fails"), "tool_failed", "it is broken"),
        (call("hangs"), "timed_out", "given up"),
        (call("odd"), "not_json", "can not be written as JSON"),
        (call("double"), "missing_argument", "double needs x"),
        (call("double", y=1), "unknown_argument", "it takes x"),
        (call("double", x="ten"), "not_a_number", "x must be a number"),
        (call("launch", x=1), "unknown_tool", "there is no tool 'launch'"),
        ('<tool_call>{"name": "double", "arguments": {"x": 1, "x": 2}}</tool_call>', "not_json",
         "given twice"),
        ("<tool_call>price it", "not_json", "does not end"),
        (call("total", values={"ref": "r9"}), "unknown_reference", "nothing is kept"),
    ],
)  # fmt: skip
def test_errors_go_back_to_the_model_as_data(written, code, words):
    agent = agent_of([written, "It can not be done."])
    turn = agent.run("Do it.")
    assert turn.answer == "It can not be done."
    assert turn.calls[0].answer["error"]["code"] == code
    given = agent.model.prompts[1][-1]
    assert given["role"] == "tool"
    assert words in given["content"]
    assert "hint" in given["content"]


def test_a_call_is_repaired():
    agent = agent_of([call("double", y=3), call("double", x=3), "It is 6."])
    turn = agent.run("Double 3.")
    assert [own.ok for own in turn.calls] == [False, True]
    assert not turn.unverified


def test_a_large_result_is_passed_on_by_reference():
    agent = agent_of([call("numbers", count=50), call("total", values={"ref": "r1"}), "306.25"])
    turn = agent.run("Sum them.")
    assert '"ref":"r1"' in turn.calls[0].shown
    assert turn.calls[1].answer["result"] == {"total": 306.25}


def test_words_after_calls_are_not_waited_for():
    agent = agent_of([call("double", x=1) + "\nThe result is 3 and so on, on and on.", "It is 2."])
    turn = agent.run("Double 1.")
    assert (turn.answer, agent.model.closed) == ("It is 2.", 1)
    assert len(turn.steps[0].text) == 0
    assert turn.steps[0].tokens < 15


def test_the_same_call_again_and_again_ends_the_turn():
    agent = agent_of(lambda prompt: call("double", x=1))
    turn = agent.run("Double 1.")
    assert turn.ended == "repetition"
    assert len(turn.steps) == 2
    assert turn.calls[1].cached
    assert "had been answered" in turn.answer
    assert '"doubled":2' in turn.answer


def test_steps_are_limited():
    count = iter(range(100))
    agent = agent_of(lambda prompt: call("double", x=next(count)), limits=TurnLimits(steps=4))
    turn = agent.run("Go on.")
    assert (turn.ended, len(turn.steps)) == ("steps", 3)
    assert len(agent.model.prompts) == 4
    assert "more tools" in turn.answer


def test_tokens_are_limited():
    limits = TurnLimits(tokens=30, message_tokens=20)
    agent = agent_of(["word " * 100], limits=limits)
    turn = agent.run("Talk.")
    assert (turn.ended, turn.tokens) == ("tokens", 20)
    count = iter(range(100))
    agent = agent_of(lambda prompt: call("double", x=next(count)), limits=limits)
    turn = agent.run("Go on.")
    assert turn.ended == "tokens"
    assert turn.tokens <= 30


def test_time_is_limited():
    def slow(prompt: Any) -> str:
        time.sleep(0.3)
        return "word " * 1000

    agent = agent_of(slow, limits=TurnLimits(seconds=0.2))
    turn = agent.run("Talk.")
    assert turn.ended == "seconds"
    assert len(turn.answer) < 100
    assert agent.model.closed == 1


def test_an_empty_answer_is_said():
    turn = agent_of([""]).run("Talk.")
    assert (turn.ended, turn.answer) == ("empty", "I have no answer: the model wrote nothing.")


@pytest.mark.parametrize("limit", [{"steps": 0}, {"tokens": True}, {"seconds": 0.0}])
def test_limits_are_checked(limit):
    with pytest.raises(UserError, match=next(iter(limit))):
        TurnLimits(**limit)


@pytest.mark.parametrize(
    ("message", "words"),
    [("", "is empty"), (" \n", "is empty"), (7, "is a int"), ("x" * 1_000_000, "1,000,000")],
)
def test_a_message_that_can_not_be_used_changes_nothing(message, words):
    agent = agent_of(["Yes.", "No."])
    agent.chat("Well?")
    before = agent.turns
    with pytest.raises(UserError, match=words):
        agent.stream(message)
    assert agent.turns == before
    assert agent.chat("And now?") == "No."
    assert len("x" * MOST_CHARACTERS) < 1_000_000


def test_a_message_longer_than_the_context_changes_nothing():
    agent = agent_of(["Yes.", "No."], context=400)
    agent.chat("Well?")
    with pytest.raises(UserError, match=r"takes .* tokens.*shorten"):
        agent.chat("word " * 1000)
    assert len(agent.turns) == 1
    agent.chat("And now?")
    assert "Well?" in shown(agent.model.prompts[-1])


def test_a_model_that_raises_leaves_no_trace():
    agent = agent_of([call("double", x=1), UserError("the model is gone"), "Here."])
    with pytest.raises(UserError, match="is gone"):
        agent.chat("Double 1.")
    assert agent.turns == ()
    assert agent.chat("Again?") == "Here."
    assert roles_of(agent.model.prompts[-1]) == ["system", "user"]


def test_a_closed_stream_leaves_what_was_shown():
    agent = agent_of([call("double", x=1), "It is two, I think, or so.", "Next."])
    events = agent.stream("Double 1.")
    texts = []
    for event in events:
        if isinstance(event, Token):
            texts.append(event.text)
        if len(texts) == 3:
            break
    events.close()
    (turn,) = agent.turns
    assert (turn.ended, turn.answer) == ("stopped", "".join(texts).strip())
    assert len(turn.steps) == 1
    assert agent.model.closed == 1
    agent.chat("And?")
    assert roles_of(agent.model.prompts[-1]) == [
        "system", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


def test_a_stream_closed_before_anything_leaves_nothing():
    agent = agent_of(["Hello.", "Again."])
    events = agent.stream("Hi")
    events.close()
    assert agent.turns == ()
    events = agent.stream("Hi")
    next(events)
    del events
    assert [turn.ended for turn in agent.turns] == ["stopped"]


def test_a_stream_closed_within_a_call_keeps_no_half_call():
    agent = agent_of([call("double", x=1) + call("hangs"), "Next."])
    events = agent.stream("Go.")
    for event in events:
        if isinstance(event, ToolFinished):
            break
    events.close()
    assert agent.turns == ()
    agent.chat("And?")
    assert roles_of(agent.model.prompts[-1]) == ["system", "user"]


def test_an_interrupt_leaves_a_consistent_conversation():
    agent = agent_of(
        [call("double", x=1), KeyboardInterrupt(), "Next."], system_prompt="", piece=100
    )
    with pytest.raises(KeyboardInterrupt):
        agent.chat("Double 1.")
    (turn,) = agent.turns
    assert (turn.ended, turn.answer, len(turn.steps)) == ("stopped", "It is", 1)
    assert agent.chat("And?") == "Next."


def test_one_turn_at_a_time():
    agent = agent_of(["Hello there.", "Again."])
    events = agent.stream("Hi")
    next(events)
    for other in (lambda: agent.chat("Hi"), agent.reset, lambda: agent.save("x.json")):
        with pytest.raises(UserError, match="answering"):
            other()
    events.close()
    assert agent.chat("Hi") == "Again."


def test_two_agents_in_two_threads_do_not_mix():
    def says(prompt: Any) -> str:
        own = prompt[1]["content"].split()[-1]
        if prompt[-1]["role"] == "tool":
            assert {one["content"].split()[-1] for one in prompt if one["role"] == "user"} == {own}
            return f"{own}: {prompt[-1]['content']}"
        return call("double", x=float(own))

    model = StreamingModel(says, context=100_000, piece=3)
    agents = [LILITHAgent(model, tools=(double,)) for _ in range(2)]
    failures: list[BaseException] = []

    def talk(place: int) -> None:
        try:
            for _ in range(15):
                answer = agents[place].chat(f"Double {place + 5}")
                assert f'"doubled":{2 * (place + 5)}' in answer
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=talk, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [len(agent.turns) for agent in agents] == [15, 15]
    assert all("6" not in turn.message for turn in agents[0].turns)


def test_roles_have_prompts_that_leave_room():
    assert list(SYSTEM_PROMPTS) == [
        "quant_dev", "project_manager", "10x_engineer", "hybrid_quant_pm",
    ]  # fmt: skip
    for role, text in SYSTEM_PROMPTS.items():
        assert system_prompt(role) == text
        assert 300 < len(text) < 560
    with pytest.raises(UserError, match="quant_dev"):
        create_quant_agent(StreamingModel(), role="quant-dev")
    with pytest.raises(UserError, match="no role"):
        agent_of([]).set_role("chef")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Price a European call: spot 100, strike 105, volatility 20%.", "quant"),
        ("Analyse ten daily returns: mean, Sharpe and drawdown.", "quant"),
        ("Plan the migration of our infrastructure with 3 engineers in 6 months.", "planning"),
        ("Write a Python function that reverses a list, with unit tests.", "code"),
        ("Review this code for bugs", "code"),
        ("Plan an options trading system.", "planning"),
        ("Could you please review this pricer at zero volatility?", "code"),
        ("Design a market-making strategy for options.", "quant"),
        ("What is the critical path of these tasks?", "planning"),
        ("def price(s, k): return s - k\nrefactor this code", "code"),
    ],
)
def test_the_kind_of_work_is_told_by_words(message, kind):
    assert kind_of_work(message) == kind


def test_without_a_word_the_role_decides():
    assert kind_of_work("Good morning") == "quant"
    assert kind_of_work("Good morning", "project_manager") == "planning"
    assert kind_of_work("Good morning", "10x_engineer") == "code"


def test_temperatures_are_within_their_range():
    ranges = {"quant": (0.1, 0.3), "code": (0.3, 0.5), "planning": (0.5, 0.7)}
    assert dict(TEMPERATURES) == ranges
    for kind, (low, high) in ranges.items():
        assert low <= temperature_for(kind) <= high
    agent = agent_of(["a", "b", "c"])
    for message in ("Price a call option.", "Write python code.", "Plan the project."):
        agent.chat(message)
    assert [own["temperature"] for own in agent.model.settings] == [0.2, 0.4, 0.6]
    agent = agent_of(["a"], temperature=0.0)
    agent.chat("Plan it.")
    assert agent.model.settings[0]["temperature"] == 0.0
    with pytest.raises(UserError, match="temperature"):
        agent_of([], temperature=-1)


def test_what_is_no_model_is_named():
    with pytest.raises(UserError, match="is a tuple"):
        LILITHAgent(({}, None))


def test_each_message_has_a_seed_of_its_own():
    agent = agent_of([call("double", x=1), "2.", "Yes."], seed=7)
    agent.chat("Double 1.")
    agent.chat("Sure?")
    assert len({own["seed"] for own in agent.model.settings}) == 3


def test_reset_forgets_and_restarts_what_tools_hold():
    ended = []
    registry = ToolRegistry([numbers])
    registry.add(double, in_order=True, close=lambda: ended.append(1))
    agent = agent_of([call("numbers", count=20), "Done.", "Yes."], tools=registry)
    agent.chat("Numbers.")
    assert agent.runner.references.names() == ("r1",)
    agent.reset()
    assert (agent.turns, agent.runner.references.names(), ended) == ((), (), [1])
    agent.chat("Well?")
    assert roles_of(agent.model.prompts[-1]) == ["system", "user"]
    registry.close()
    assert ended == [1, 1]


def test_an_agent_closes_only_the_tools_it_made():
    with create_quant_agent(StreamingModel(["Hi."])) as agent:
        assert "black_scholes" in agent.registry
        assert agent.role == "quant_dev"
        assert agent.chat("Hello") == "Hi."
    ended = []
    registry = ToolRegistry()
    registry.add(double, close=lambda: ended.append(1))
    create_quant_agent(StreamingModel(), tools=registry).close()
    assert ended == []


def test_calls_are_held_to_the_grammar_where_the_tokenizer_allows_it():
    model = StreamingModel(
        [call("numbers", count=20), call("total", values={"ref": "r1"}), "Done."],
        tokenizer=ByteTokenizer(), context=100_000,
    )  # fmt: skip
    agent = LILITHAgent(model, tools=(numbers, total))
    agent.chat("Sum them.")
    made = [own["grammar"] for own in model.settings]
    assert made[0] is not made[1]  # the second one knows the reference
    assert made[1] is made[2]
    model = StreamingModel(["Done."], tokenizer=ByteTokenizer(), context=100_000)
    LILITHAgent(model, tools=(numbers,), grammar=False).chat("Hi")
    assert "grammar" not in model.settings[0]


def test_hard_questions_are_told_by_rule():
    assert is_hard("What is 15% of 240?")
    assert is_hard("How many tasks does one engineer finish?")
    assert is_hard("Which is right?\nA) one\nB) two")
    assert is_hard("Explain step by step why it holds.")
    assert not is_hard("Good morning")
    assert not is_hard("Review the design of my pricer.")


def test_public_names_load_on_first_use():
    for name in ("LILITHAgent", "create_quant_agent", "create_quant_tools", "SYSTEM_PROMPTS"):
        assert name in lilith.__all__
        assert getattr(lilith, name) is not None
    code = (
        "import sys, lilith, lilith.agent; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"
