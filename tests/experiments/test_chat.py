"""A chat's history, what of it fits the context, saving it, and its commands."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from chat_fakes import FakeModel

from experiments.chat_config import ChatConfig
from experiments.chat_console import Commands
from experiments.chat_session import Chat, load_history
from lilith.config import UserError


def new_chat(model: FakeModel | None = None, **settings: Any) -> Chat:
    return Chat(model or FakeModel(), ChatConfig(**settings))


def say(chat: Chat, question: str) -> str:
    return "".join(chat.ask(question))


# History


def test_history_grows_and_is_sent() -> None:
    model = FakeModel()
    chat = new_chat(model, system="Be brief.")
    assert say(chat, "hello you") == "1: hello you"
    assert say(chat, "more") == "2: more"
    sent, _ = model.calls[-1]
    assert sent == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello you"},
        {"role": "assistant", "content": "1: hello you"},
        {"role": "user", "content": "more"},
    ]
    assert chat.messages == [*sent[1:], {"role": "assistant", "content": "2: more"}]
    chat.reset()
    assert say(chat, "again") == "1: again"
    assert model.calls[-1][0][0] == {"role": "system", "content": "Be brief."}


def test_settings_reach_the_model() -> None:
    model = FakeModel()
    settings = {
        "temperature": 0.5, "top_k": 3, "top_p": 0.7, "min_p": 0.1, "repetition_penalty": 1.2,
        "max_tokens": 99, "speculative": 4,
    }  # fmt: skip
    chat = new_chat(model, seed=7, **settings)
    say(chat, "a")
    say(chat, "b")
    assert [call[1] for call in model.calls] == [settings | {"seed": 7}, settings | {"seed": 8}]
    say(new_chat(model, template="chatml"), "c")
    assert model.calls[-1][1]["stop"] == ("<|im_end|>",)


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came() -> None:
    model = FakeModel()
    chat = new_chat(model)
    answer = chat.ask("one two three")
    assert [next(answer), next(answer)] == ["1:", " one"]
    answer.close()
    assert model.closed == 1
    assert chat.messages[-1] == {"role": "assistant", "content": "1: one"}
    assert chat.answer is not None
    assert chat.answer.tokens == len("1: one")
    assert not chat.answer.cut


def test_a_question_without_an_answer_leaves_no_trace() -> None:
    model = FakeModel(context=64)
    chat = new_chat(model)
    for question in ("x" * 64, " \n"):
        with pytest.raises(UserError):
            say(chat, question)
    assert (chat.messages, model.calls) == ([], [])
    stopped = chat.ask("slow")
    stopped.close()
    assert chat.messages == []


def test_a_model_that_fails_is_remembered_as_far_as_it_came() -> None:
    chat = new_chat()
    chat.model.stream = lambda *_, **__: iter_error()
    with pytest.raises(UserError, match="at once"):
        say(chat, "hi")
    assert chat.messages == []
    chat = new_chat()
    with pytest.raises(UserError, match="broke"):
        say(chat, "half broken")
    assert chat.messages[-1]["content"] == "1: half"


def iter_error() -> Iterator[str]:
    raise UserError("at once")
    yield


def test_an_answer_that_may_not_be_longer_is_said_to_be_cut() -> None:
    chat = new_chat(max_tokens=5)
    assert say(chat, "a long question") == "1: a "
    assert chat.answer is not None
    assert chat.answer.cut == "max_tokens"
    full = new_chat(FakeModel(context=64))
    say(full, "a" * 30)
    assert full.answer is not None
    assert full.answer.cut == "context"


# The context. The fake's tokens are bytes, and CHATML takes 34 of them around one question.


def test_a_full_context_is_said_with_its_remedies() -> None:
    chat = new_chat(FakeModel(context=100), max_tokens=20)
    say(chat, "a" * 30)
    with pytest.raises(UserError) as caught:
        say(chat, "b" * 30)
    for words in ("conversation takes 1", "context is 100", "/reset", "truncate=true"):
        assert words in str(caught.value)
    assert len(chat.messages) == 2
    chat.reset()
    assert say(chat, "b" * 10) == f"1: {'b' * 10}"


def test_the_answer_gets_what_the_context_leaves() -> None:
    model = FakeModel(context=100)
    chat = new_chat(model, max_tokens=512)
    say(chat, "a" * 40)
    prompt = len(chat.template.encode(model.calls[0][0], model.tokenizer))
    assert model.calls[0][1]["max_tokens"] == 100 - prompt


def test_truncation_leaves_out_the_oldest_turns_and_never_the_system_prompt() -> None:
    model = FakeModel(context=300)
    chat = new_chat(model, max_tokens=40, truncate=True, system="Stay.")
    for i in range(12):
        say(chat, f"question {i}")
        sent, sampling = model.calls[-1]
        assert sent[0] == {"role": "system", "content": "Stay."}
        assert sent[1]["role"] == "user"
        assert sent[-1]["content"] == f"question {i}"
        length = len(chat.template.encode(sent, model.tokenizer))
        assert length + sampling["max_tokens"] <= 300
        assert sampling["max_tokens"] == 40
        assert chat.answer is not None
        assert chat.answer.left_out == (i + 1) - sum(m["role"] == "user" for m in sent)
    assert chat.answer.left_out > 5
    assert len(chat.messages) == 24  # nothing is lost for /save


@pytest.mark.parametrize("truncate", [True, False])
def test_a_question_that_is_too_long_alone(truncate: bool) -> None:
    chat = new_chat(FakeModel(context=100), truncate=truncate)
    with pytest.raises(UserError, match=r"question alone takes 1\d\d tokens.*context is 100"):
        say(chat, "a" * 100)
    if truncate:
        say(chat, "short")
        with pytest.raises(UserError, match="question alone takes"):
            say(chat, "a" * 100)


# Saving


def test_save_and_load(tmp_path: pathlib.Path) -> None:
    chat = new_chat(system="Be brief.", temperature=0.3, checkpoint="somewhere/model")
    say(chat, "héllo")
    path = chat.save(tmp_path / "new" / "talk.json")
    saved = json.loads(path.read_text())
    assert saved["model"] == "somewhere/model"
    assert saved["settings"]["temperature"] == 0.3
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    again = new_chat(history=str(path))
    assert (again.system, again.messages) == ("Be brief.", chat.messages)
    assert new_chat(history=str(path), system="Other.").system == "Other."
    say(again, "more")
    again.save(path)  # a saved chat may be replaced
    assert len(load_history(path)[1]) == 4


def test_a_history_that_begins_with_an_answer_is_sent_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "talk.json"
    said = [{"role": "assistant", "content": "Welcome."}]
    path.write_text(json.dumps({"format": 1, "messages": said}))
    model = FakeModel()
    say(new_chat(model, history=str(path)), "hi")
    assert model.calls[0][0] == [*said, {"role": "user", "content": "hi"}]


def test_save_replaces_nothing_else(tmp_path: pathlib.Path) -> None:
    chat = new_chat()
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(UserError, match="exists and is no saved chat"):
        chat.save(notes)
    assert notes.read_text() == "mine"
    with pytest.raises(UserError, match="is a folder"):
        chat.save(tmp_path)
    with pytest.raises(UserError, match="can not be written"):
        chat.save(notes / "below.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_a_save_that_fails_leaves_the_old_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = new_chat()
    say(chat, "one")
    path = chat.save(tmp_path / "talk.json")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    say(chat, "two")
    with pytest.raises(UserError, match="No space left"):
        chat.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can not be read"),
        ("{", "is not valid JSON"),
        ("[]", "expected a file that /save wrote"),
        ('{"format": 9, "messages": []}', "format 9; this version reads 1"),
        ('{"format": 1, "messages": null}', "messages is None"),
        ('{"format": 1, "messages": [{"role": "usr", "content": "x"}]}', "did you mean 'user'"),
        ('{"format": 1, "messages": [{"role": "user", "content": 3}]}', r"messages\[0\].content"),
    ],
)
def test_a_history_that_can_not_be_read(
    tmp_path: pathlib.Path, text: str | None, words: str
) -> None:
    path = tmp_path / "talk.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words):
        new_chat(history=str(path))


# Commands


@pytest.fixture
def commands(tmp_path: pathlib.Path) -> Commands:
    return Commands(new_chat(system="Be brief."), tmp_path, clock=lambda: 0.0)


def test_help_names_every_command(commands: Commands) -> None:
    text = commands.run("/help")
    for word in ("/help", "/reset", "/system", "/save", "/quit", "Ctrl-C twice", "Ctrl-D"):
        assert word in text


def test_system_is_shown_set_and_removed(commands: Commands) -> None:
    assert commands.run("/system") == "Be brief."
    commands.run("/system  Speak like  Yoda. ")
    assert commands.chat.system == "Speak like  Yoda."
    commands.run("/system -")
    assert commands.chat.system is None
    assert "no system prompt" in commands.run("/system")


def test_reset_keeps_the_system_prompt(commands: Commands) -> None:
    say(commands.chat, "hi")
    commands.run("/reset")
    assert (commands.chat.messages, commands.chat.system) == ([], "Be brief.")


def test_save_has_a_name_of_its_own(commands: Commands, tmp_path: pathlib.Path) -> None:
    say(commands.chat, "hi")
    said = commands.run("/save")
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("chat-19")
    assert said == f"saved 2 messages in {path}"
    commands.run(f"/save {tmp_path}/my talk.json")
    assert (tmp_path / "my talk.json").is_file()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/rest", "unknown command '/rest' (did you mean '/reset'?); /help lists them"),
        ("/Help", "did you mean '/help'?"),
        ("/", "unknown command '/'"),
        ("/usr/bin is what?", "unknown command '/usr/bin'"),
        ("/reset now", "/reset takes nothing after it"),
        ("/quit please", "/quit takes nothing after it"),
        ("/_help", "unknown command '/_help'"),
    ],
)
def test_a_wrong_command(commands: Commands, line: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        commands.run(line)
    assert words in str(caught.value)
