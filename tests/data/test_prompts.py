"""Prompts of conversations: where they end, which are left out, and their endless order."""

from __future__ import annotations

import pytest

from lilith.data.chat import prompt_ids
from lilith.data.chat_readers import ConversationRecord
from lilith.data.chat_report import RecordError
from lilith.data.prompts import prepare_prompts
from lilith.data.report import DataError
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate

TOKENIZER = ByteTokenizer()
TEMPLATE = ChatTemplate.of(CHATML, TOKENIZER)


def record(*texts: str, **metadata) -> ConversationRecord:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return ConversationRecord(messages, metadata=metadata, where=f"file:{texts[0]}")


def prepare(records, **settings):
    return prepare_prompts(records, TOKENIZER, TEMPLATE, **{"longest": 400} | settings)


def test_a_prompt_is_what_comes_before_an_answer() -> None:
    chat = record("q1", "a1", "q2", "a2", check={"tool_calls": [1]}, domain="quant")
    (first,) = prepare([chat]).train
    assert [m["content"] for m in first.messages] == ["q1"]
    assert list(first.ids) == prompt_ids(first.messages, TOKENIZER, TEMPLATE)
    assert (first.check, first.domain, first.where) == ({"tool_calls": [1]}, "quant", "file:q1")
    (last,) = prepare([chat], answered="last").train
    assert [m["content"] for m in last.messages] == ["q1", "a1", "q2"]
    (bare,) = prepare([record("only a question")]).train
    assert [m["content"] for m in bare.messages] == ["only a question"]
    assert bare.check == {}


def test_longer_prompts_are_counted_and_the_others_kept() -> None:
    found = prepare([record("short"), record("x" * 500), record("also short")], longest=100)
    assert [own.where for own in found.train] == ["file:short", "file:also short"]
    assert found.report.skipped == {"prompt longer than the context less an answer": 1}
    assert any("room for 100" in line for line in found.report.lines())


def test_records_without_a_prompt_stop_or_are_counted() -> None:
    silent = ConversationRecord([{"role": "assistant", "content": "hi"}], where="file:7")
    with pytest.raises(RecordError, match="file:7: nothing that a user or a tool says"):
        prepare([silent, record("q")])
    found = prepare([silent, record("q")], on_error="skip")
    assert found.report.skipped == {"no prompt": 1}
    with pytest.raises(DataError, match="none of 1 conversations gives a prompt"):
        prepare([silent], on_error="skip")
    with pytest.raises(DataError, match="the context has no room for them"):
        prepare([record("q")], longest=0)
    with pytest.raises(DataError, match="answered is 'lats'"):
        prepare([record("q")], answered="lats")


def test_held_out_prompts_are_chosen_by_content() -> None:
    records = [record(f"question {i}") for i in range(200)]
    whole = prepare(records, validation_fraction=0.2)
    assert 20 < len(whole.held_out) < 60
    backwards = prepare(records[::-1], validation_fraction=0.2)
    assert {own.where for own in whole.held_out} == {own.where for own in backwards.held_out}


def test_every_prompt_comes_once_a_pass_from_any_position() -> None:
    found = prepare([record(f"q{i}") for i in range(7)])
    whole = found.order(3, 0, 21)
    for turn in range(3):
        assert sorted(whole[7 * turn : 7 * turn + 7]) == list(range(7))
    assert whole[:7] != whole[7:14]
    for start in range(15):
        assert found.order(3, start, 6) == whole[start : start + 6]
    assert found.order(4, 0, 21) != whole
