"""An agent with the advanced reasoner: hard questions, and the constitution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from small_tools import double
from streaming_model import StreamingModel, call

from lilith.agent.agent import LILITHAgent
from lilith.agent.turn import Done, Token
from lilith.config import UserError
from lilith.reasoning.reasoner import create_advanced_reasoner
from lilith.reasoning.trace import ReasoningTrace, Thought

sys.path.insert(0, str(Path(__file__).parent.parent / "reasoning"))
from scripted_model import ScriptedModel

RIGHT = "Step 1: 15% of 240 is 36.\nAnswer: 36"
NUMBER = "What is 15% of 240?"


def agent_of(lines: Any, reasoner: Any) -> LILITHAgent:
    return LILITHAgent(StreamingModel(lines), tools=[double], reasoner=reasoner)


def real_reasoner(says: str = RIGHT) -> Any:
    return create_advanced_reasoner(ScriptedModel(lambda prompt, place: (says, -0.01)))


class Asked:
    """A reasoner that gives one trace, and notes what it was asked."""

    constitution = None

    def __init__(self, trace: Any) -> None:
        self.trace, self.problems = trace, []

    def __call__(self, problem: str) -> ReasoningTrace:
        self.problems.append(problem)
        if isinstance(self.trace, Exception):
            raise self.trace
        return self.trace


TRACE = ReasoningTrace(NUMBER, (Thought(1, "15% of 240 is 36."),), "36", tokens=7)


def test_a_hard_question_is_answered_by_the_reasoner():
    agent = agent_of(["It is 35, I guess."], real_reasoner())
    events = list(agent.stream(NUMBER))
    assert "".join(event.text for event in events if isinstance(event, Token)).endswith(
        "Answer: 36"
    )
    turn = events[-1].turn
    assert isinstance(events[-1], Done)
    assert turn.reasoning is not None
    assert turn.reasoning.final_answer == "36"
    assert "35" not in turn.answer
    assert not turn.unverified


def test_the_reasoner_is_asked_by_the_rule_alone():
    asked = Asked(TRACE)
    agent = agent_of(["35.", call("double", x=120), "It is 240.", "Good morning."], asked)
    agent.chat(NUMBER)
    assert agent.turns[-1].answer == str(TRACE)
    assert agent.turns[-1].tokens == 8
    agent.chat("What is the sum of 120 and 120?")  # a tool was called
    agent.chat("Hello")  # not hard
    assert asked.problems == [NUMBER]
    assert [turn.answer for turn in agent.turns[1:]] == ["It is 240.", "Good morning."]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ReasoningTrace(NUMBER, error="it failed"), "found no answer"),
        (UserError("too long"), "could not be asked: too long"),
    ],
)
def test_without_its_answer_the_model_s_own_stands(given, words):
    turn = agent_of(["It is 36."], Asked(given)).run(NUMBER)
    assert (turn.answer, turn.reasoning) == ("It is 36.", None)
    assert words in turn.notes[-1]


def test_answers_go_through_the_constitution_before_they_are_shown():
    agent = agent_of(["Write to ann.smith@example.org, she knows."], real_reasoner("No"))
    events = list(agent.stream("Who knows about it?"))
    shown = "".join(event.text for event in events if isinstance(event, Token))
    assert "ann.smith" not in shown
    assert "ann.smith" not in agent.turns[0].answer
    assert agent.turns[0].violations
    assert "removed" in shown


def test_an_answer_cut_off_goes_through_the_constitution_too():
    agent = agent_of(
        ["Write to ann.smith@example.org " + " ".join(f"and item {n}," for n in range(2000))],
        real_reasoner("No"),
    )
    turn = agent.run("Tell me about it.")
    assert turn.ended == "tokens"
    assert "ann.smith" not in turn.answer


def test_a_harmful_request_is_declined_before_anything_is_written():
    agent = agent_of([], real_reasoner())
    turn = agent.run("Tell me how to build a pipe bomb at home.")
    assert turn.ended == "declined"
    assert turn.violations
    assert agent.model.prompts == []


def test_what_was_not_shown_is_not_kept_when_the_turn_is_stopped():
    agent = agent_of([call("double", x=1), KeyboardInterrupt()], real_reasoner())
    with pytest.raises(KeyboardInterrupt):
        agent.chat("Double 1.")
    assert (agent.turns[0].ended, agent.turns[0].answer) == ("stopped", "")
