"""What of a conversation a model is shown: within its budget, oldest results first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streaming_model import StreamingModel, call, shown

from lilith.agent.agent import LILITHAgent
from lilith.agent.function_tool import tool
from lilith.agent.history import (
    LEFT_OUT,
    MOST_TURNS,
    ContextError,
    History,
    messages_of,
    shrunk_result,
)
from lilith.agent.turn import AgentStep, AgentTurn, CallRecord


def count(messages: Any) -> int:
    return sum(len(one["content"].split()) for one in messages)


def record(words: int = 50, **told: Any) -> CallRecord:
    shown = json.dumps({"ok": True, "result": {"text": "word " * words, **told}})
    return CallRecord("look", {"at": 1}, call("look", at=1), json.loads(shown), shown)


def turn(number: int, words: int = 50, steps: int = 1) -> AgentTurn:
    made = tuple(AgentStep("", (record(words),)) for _ in range(steps))
    return AgentTurn(f"question {number}", f"answer {number}", made)


def history(turns: int, words: int = 50) -> History:
    made = History(count)
    for number in range(turns):
        made.add(turn(number, words))
    return made


NOW = [{"role": "user", "content": "now"}]


def contents(fitted: Any) -> str:
    return shown(fitted.messages)


def test_what_fits_is_shown_whole():
    fitted = history(3).fit("system", NOW, 10_000)
    assert fitted.left_out == 0
    assert fitted.tokens == count(fitted.messages)
    assert [one["role"] for one in fitted.messages] == [
        "system", *["user", "assistant", "tool", "assistant"] * 3, "user",
    ]  # fmt: skip
    assert LEFT_OUT not in contents(fitted)


def test_old_results_shrink_first_and_the_newest_last():
    fitted = history(4).fit("system", NOW, 180)
    results = [one["content"] for one in fitted.messages if one["role"] == "tool"]
    assert [LEFT_OUT in text for text in results] == [True, True, True, False]
    assert fitted.left_out == 0
    assert fitted.tokens <= 0.75 * 180


def test_then_old_turns_go_as_whole_turns():
    made = history(10, words=1)
    made_of = [one for number in range(10) for one in messages_of(turn(number, 1))]
    assert count(made_of) > 60
    fitted = made.fit("system", NOW, 60)
    assert fitted.left_out > 0
    users = [one["content"] for one in fitted.messages if one["role"] == "user"]
    assert users == [*(f"question {n}" for n in range(fitted.left_out, 10)), "now"]
    assert fitted.messages[0] == {"role": "system", "content": "system"}
    assert fitted.messages[1]["role"] == "user"
    assert len(made.turns) == 10


def test_the_system_prompt_and_the_message_never_go():
    made = history(5)
    fitted = made.fit("the system prompt", NOW, 6)
    assert [one["content"] for one in fitted.messages] == ["the system prompt", "now"]
    with pytest.raises(ContextError, match=r"takes 4 tokens.*shown 3"):
        made.fit("the system prompt", NOW, 3)


def test_a_message_that_does_not_fit_changes_nothing():
    made = history(3)
    with pytest.raises(ContextError):
        made.fit("system", [{"role": "user", "content": "word " * 500}], 400)
    assert made.fit("system", NOW, 10_000).left_out == 0
    assert LEFT_OUT not in contents(made.fit("system", NOW, 10_000))


def test_at_last_results_of_the_running_turn_shrink_but_the_newest():
    made = History(count)
    running = messages_of(turn(0, words=50, steps=3))[:-1]
    fitted = made.fit("system", running, 100)
    results = [one["content"] for one in fitted.messages if one["role"] == "tool"]
    assert [LEFT_OUT in text for text in results] == [True, True, False]


def test_what_was_left_out_stays_so_that_a_model_reads_on():
    made = history(10, words=1)
    first = made.fit("system", NOW, 60)
    made.add(turn(10, 1))
    second = made.fit("system", NOW, 60)
    assert second.left_out == first.left_out
    assert second.messages[: len(first.messages) - 1] == first.messages[:-1]


def test_a_shrunk_result_keeps_its_references_and_whether_it_was_an_error():
    message = {"role": "tool", "name": "a", "content": record(x={"ref": "r7", "n": [1]}).shown}
    assert json.loads(shrunk_result(message)["content"]) == {
        "ok": True, "result": LEFT_OUT, "refs": ["r7"],
    }  # fmt: skip
    error = {"ok": False, "error": {"code": "bad", "message": "word " * 9, "hint": "look"}}
    message = {"role": "tool", "name": "a", "content": json.dumps(error)}
    assert json.loads(shrunk_result(message)["content"]) == {"ok": False, "error": {"code": "bad"}}
    short = {"role": "tool", "name": "a", "content": '{"ok":true,"result":1}'}
    assert shrunk_result(short) is short


def test_a_stopped_turn_ends_with_words():
    stopped = AgentTurn("question", "", (AgentStep("", (record(),)),), "stopped")
    assert messages_of(stopped)[-1] == {"role": "assistant", "content": "(it was stopped)"}


def test_the_oldest_turns_are_forgotten():
    made = history(MOST_TURNS + 20, words=1)
    assert len(made.turns) == MOST_TURNS
    assert made.turns[0].message == "question 20"
    assert made.fit("system", NOW, 50).tokens <= 50


@tool
def look(at: int) -> dict:
    """Look."""
    return {"text": "word " * 60, "at": at}


def test_a_hundred_turns_stay_within_the_context():
    def says(prompt: Any) -> str:
        if prompt[-1]["role"] == "user":
            return call("look", at=len(prompt[-1]["content"]))
        return "I have looked, and this is what I saw there."

    model = StreamingModel(says, context=700, piece=1000)
    agent = LILITHAgent(model, tools=[look], system_prompt="Be brief.")
    for number in range(100):
        assert agent.run(f"Look {number}").ended == "answer"
        assert len(model.encode(model.prompts[-1])) <= 700 * 3 // 4
        assert shown(model.prompts[-1]).startswith("system: Be brief.")
        assert f"user: Look {number}\n" in shown(model.prompts[-1])
    assert len(agent.turns) == 100
    assert agent.turns[-1].left_out > 50


def test_a_turn_whose_results_do_not_fit_ends_in_words():
    @tool
    def tell(times: int) -> dict:
        """Tell."""
        return {"text": "word " * times}

    agent = LILITHAgent(
        StreamingModel([call("tell", times=390), "Yes."], context=300), tools=[tell],
        system_prompt="",
    )  # fmt: skip
    made = agent.run("Tell.")
    assert made.ended == "context"
    assert "no longer fits" in made.answer
    assert agent.chat("Well?") == "Yes."
