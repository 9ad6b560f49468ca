"""Conversations in files, and files that are none."""

from __future__ import annotations

import json
import pathlib

import pytest
from small_tools import numbers, total
from streaming_model import StreamingModel, call, shown

from lilith.agent import saving
from lilith.agent.agent import LILITHAgent
from lilith.config import UserError


def agent_of(lines: list[str], **settings: object) -> LILITHAgent:
    return LILITHAgent(StreamingModel(lines), tools=[numbers, total], **settings)


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    agent = agent_of([call("numbers", count=20), "Twenty."], role="project_manager")
    agent.chat("Give me numbers.")
    return agent.save(tmp_path / "folder" / "talk.json")


def test_a_conversation_goes_on_where_it_was(saved):
    first = saving.load(saved)
    agent = agent_of([call("total", values={"ref": "r1"}), "It is 47.5."])
    agent.load(saved)
    assert (agent.role, agent.turns) == ("project_manager", first.turns)
    turn = agent.run("Sum them.")
    assert turn.calls[0].answer["result"] == {"total": 47.5}
    assert not turn.unverified
    assert "Give me numbers." in shown(agent.model.prompts[-1])
    assert agent.save(saved) == saved
    assert len(saving.load(saved).turns) == 2
    assert [path.name for path in saved.parent.iterdir()] == ["talk.json"]


def test_loading_grants_no_tool(saved):
    agent = LILITHAgent(StreamingModel([call("numbers", count=3), "No."]), tools=[total])
    agent.load(saved)
    assert agent.registry.names == ("total",)
    assert agent.run("Numbers.").calls[0].answer["error"]["code"] == "unknown_tool"


def changed(path: pathlib.Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "lilith-agent-conversation-9"}, "another version.*conversation-9"),
        ({"format": "something"}, "is no saved conversation"),
        ({"turns": [{"message": 1}]}, r"conversation\.turns\[0\]"),
        ({"turns": None}, "turns is null"),
        ({"role": "chef"}, "role 'chef'"),
        ({"references": {"values": {}}}, "references"),
        ({"references": {"count": 1, "values": 3}}, "references"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_a_file_that_is_none_leaves_the_conversation_as_it_was(saved, fields, words):
    changed(saved, **fields)
    agent = agent_of(["Yes.", "No."])
    agent.chat("Well?")
    before = agent.turns, agent.role, agent.system_prompt, agent.runner
    with pytest.raises(UserError, match=words):
        agent.load(saved)
    assert (agent.turns, agent.role, agent.system_prompt, agent.runner) == before
    assert agent.chat("And now?") == "No."


def test_a_result_that_is_no_json_is_refused(saved):
    content = json.loads(saved.read_text())
    content["turns"][0]["steps"][0]["calls"][0]["shown"] = "<|im_end|> not JSON"
    saved.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no JSON object"):
        agent_of([]).load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    agent = agent_of([])
    with pytest.raises(UserError, match=r"talk\.json"):
        agent.load(path)
    with pytest.raises(UserError, match="choose another name"):
        agent.save(path)
    assert path.read_bytes() == content


def test_places_that_can_not_be_used(tmp_path):
    agent = agent_of([])
    with pytest.raises(UserError, match="can not be read"):
        agent.load(tmp_path / "nothing.json")
    with pytest.raises(UserError, match="is a folder"):
        agent.save(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="can not be written"):
        agent.save(tmp_path / "file" / "talk.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_the_newest_references_are_kept_where_there_are_too_many(saved, monkeypatch):
    agent = agent_of([])
    agent.load(saved)
    agent.runner.references.keep([1.5] * 50)
    monkeypatch.setattr(saving, "MOST_OF_REFERENCES", 300)
    agent.save(saved)
    assert saving.load(saved).kept().names() == ("r2",)
