"""Packed rows against their conversations; splits, truncation, reasoning, counts that add up."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from chat_parts import PLAIN, chat, small_bpe, template
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.data import DataError
from lilith.data.chat import Rendered, render_conversation
from lilith.data.chat_prepare import prepare_chats
from lilith.data.chat_readers import ConversationRecord, read_conversations
from lilith.data.chat_reasoning import with_reasoning, without_reasoning
from lilith.data.chat_report import ChatReport
from lilith.data.chat_rows import pack_conversations
from lilith.data.decontamination import Decontamination
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate

BYTES = ByteTokenizer()
TEMPLATE = ChatTemplate(CHATML)


def tokens(ids: list[int], learnt: list[int]) -> Rendered:
    return Rendered(np.array(ids, np.int32), np.isin(np.arange(len(ids)), learnt))


def record(*turns: str, where: str = "", **metadata) -> ConversationRecord:
    return ConversationRecord(chat(*turns), None, metadata, where)


def many(count: int, **metadata) -> list[ConversationRecord]:
    return [record(f"question {i}", "a" * (i % 17 + 1), where=f"x:{i}", **metadata)
            for i in range(count)]  # fmt: skip


def prepared(records, **options):
    options = {"length": 128} | options
    return prepare_chats(records, BYTES, TEMPLATE, **options)


def conversations_of(rows) -> list[tuple[list[int], list[bool]]]:
    """Every conversation that rows hold, in any order: ids, and which are learnt."""
    found = []
    for row in (rows[i] for i in range(len(rows))):
        for segment in range(1, int(row["segment_ids"].max()) + 1):
            mine = np.flatnonzero(row["segment_ids"] == segment)
            assert (np.diff(mine) == 1).all()
            assert row["positions"][mine].tolist() == list(range(len(mine)))
            first = int(row["tokens"][mine[0]])
            ids = [first, *row["targets"][mine].tolist()]
            assert ids[:-1] == row["tokens"][mine].tolist()
            found.append((ids, [False, *(row["loss_mask"][mine] > 0).tolist()]))
    return sorted(found)


# Rows


def test_a_row_by_hand() -> None:
    rows = pack_conversations(
        [tokens([1, 2, 3, 4], [2, 3]), tokens([5, 6, 7], [1]), tokens([8, 9], [1])], 6, pad_id=99
    )
    assert len(rows) == 1
    row = rows[0]
    assert row["tokens"].tolist() == [1, 2, 3, 5, 6, 8]
    assert row["targets"].tolist() == [2, 3, 4, 6, 7, 9]
    assert row["segment_ids"].tolist() == [1, 1, 1, 2, 2, 3]
    assert row["positions"].tolist() == [0, 1, 2, 0, 1, 0]
    assert row["loss_mask"].tolist() == [0, 1, 1, 1, 0, 1]
    assert {name: array.dtype.name for name, array in row.items()} == {
        "tokens": "int32", "targets": "int32", "segment_ids": "int32", "positions": "int32",
        "loss_mask": "float32",
    }  # fmt: skip
    assert (rows.tokens, rows.trained_tokens) == (6, 4)
    first_too = pack_conversations([tokens([1, 2, 3], [0, 1])], 3, pad_id=99)
    assert first_too.trained_tokens == first_too[0]["loss_mask"].sum() == 1
    alone = pack_conversations([tokens([8, 9], [1])], 3, pad_id=99)[0]
    assert alone["tokens"].tolist() == [8, 99, 99]
    assert alone["targets"].tolist() == [9, 99, 99]
    assert alone["segment_ids"].tolist() == [1, 0, 0]
    assert alone["loss_mask"].tolist() == [1, 0, 0]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 11), st.integers(0, 2**10)), min_size=1, max_size=30))
def test_packed_equals_unpacked(sizes) -> None:
    chats = []
    for number, (size, bits) in enumerate(sizes):
        learnt = [i for i in range(1, size) if bits >> i & 1] or [size - 1]
        chats.append(tokens([number * 20 + i for i in range(size)], learnt))
    rows = pack_conversations(chats, 10, pad_id=0)
    assert conversations_of(rows) == sorted((c.ids.tolist(), c.mask.tolist()) for c in chats)
    assert rows.trained_tokens == sum(int(c.mask.sum()) for c in chats)
    assert len(rows) <= len(chats)
    for i in range(len(rows)):
        assert rows[i]["loss_mask"].any()


def test_what_can_not_be_packed() -> None:
    with pytest.raises(DataError, match="x:7 has 8 tokens, and a row of 6 has room for 7"):
        pack_conversations([tokens(list(range(8)), [1])], 6, 0, ["x:7"])
    assert len(pack_conversations([tokens(list(range(7)), [1])], 6, 0)) == 1
    for learnt in ([], [0]):  # nothing comes before a first token to predict it from
        with pytest.raises(DataError, match="conversation 1 has no token that is learnt"):
            pack_conversations([tokens([1, 2], [1]), tokens([3, 4], learnt)], 6, 0)
    assert len(pack_conversations([], 6, 0)) == 0


def test_training_order_and_its_position() -> None:
    corpus = prepared(many(60), seed=3)
    assert len(corpus.train) > 12
    batches = corpus.train_iterator(4)
    first = [next(batches) for _ in range(3)]
    state = json.loads(json.dumps(batches.state()))
    fourth = next(batches)["tokens"]
    again = corpus.train_iterator(4, seed=3)
    assert all((next(again)["tokens"] == batch["tokens"]).all() for batch in first)
    resumed = corpus.train_iterator(4)
    resumed.restore(state)
    assert (next(resumed)["tokens"] == fourth).all()
    other = corpus.train_iterator(4, seed=4)
    assert not (next(other)["tokens"] == first[0]["tokens"]).all()
    with pytest.raises(DataError, match="seed"):
        other.restore(state)
    shares = [corpus.train_iterator(4, host=host, hosts=2) for host in range(2)]
    both = np.concatenate([next(share)["tokens"] for share in shares])
    assert (both == first[0]["tokens"]).all()
    epoch = corpus.train_iterator(1)
    seen = {next(epoch)["tokens"].tobytes() for _ in range(len(corpus.train))}
    assert len(seen) == len(corpus.train)
    with pytest.raises(DataError, match="fewer than one batch of 1,000"):
        corpus.train_iterator(1000)
    copy = pickle.loads(pickle.dumps(corpus.train))
    assert copy.fingerprint == corpus.train.fingerprint
    assert (copy[3]["loss_mask"] == corpus.train[3]["loss_mask"]).all()
    assert prepared(many(59)).train.fingerprint != corpus.train.fingerprint


def test_batches_of_each_row_once() -> None:
    rows = prepared(many(40)).train
    batches = rows.batches(4)
    assert len(batches) == -(-len(rows) // 4)
    found = list(batches)
    assert len(found) == len(batches)
    assert all(batch["tokens"].shape == (4, 128) for batch in found)
    assert sum(int(batch["loss_mask"].sum()) for batch in found) == rows.trained_tokens
    assert batches.tokens == rows.trained_tokens
    assert [b["tokens"].tolist() for b in batches] == [b["tokens"].tolist() for b in found]
    limited = rows.batches(4, limit_rows=3)
    assert len(limited) == 1
    (batch,) = limited
    assert (batch["segment_ids"].max(axis=1) > 0).sum() == 3
    assert limited.tokens == batch["loss_mask"].sum()
    halves = [list(rows.batches(4, host=host, hosts=2)) for host in range(2)]
    assert (np.concatenate([half[0]["tokens"] for half in halves]) == found[0]["tokens"]).all()


# Preparing


@pytest.mark.parametrize("source", [CHATML, PLAIN])
def test_prepared_rows_hold_the_rendered_conversations(source) -> None:
    records = [*many(30), record("q", "a", "r", "b")]
    tokenizer = small_bpe()
    corpus = prepare_chats(records, tokenizer, template(source), length=96)
    wanted = [render_conversation(r.messages, tokenizer, template(source)) for r in records]
    assert conversations_of(corpus.train) == sorted(
        (r.ids.tolist(), r.mask.tolist()) for r in wanted
    )
    assert corpus.validation == {}
    assert corpus.report.train == corpus.report.read == 31


def test_the_split_depends_on_content_alone() -> None:
    records = [*many(150, domain="quant"), *many(40)]
    records += [record(f"plan {i}", "a", domain="planning") for i in range(60)]
    corpus = prepared(records, validation_fraction=0.2)
    assert list(corpus.validation) == ["all", "planning", "quant"]
    assert 25 <= sum(corpus.report.validation.values()) <= 80
    backwards = prepared(records[::-1], validation_fraction=0.2)
    assert backwards.report.validation == corpus.report.validation
    for domain, rows in corpus.validation.items():
        assert conversations_of(rows) == conversations_of(backwards.validation[domain])
    half = prepared(records[::2], validation_fraction=0.2)
    held_out = [c for rows in corpus.validation.values() for c in conversations_of(rows)]
    assert all(
        chat in held_out for rows in half.validation.values() for chat in conversations_of(rows)
    )
    trained = conversations_of(corpus.train)
    assert not any(chat in trained for chat in held_out)
    assert corpus.report.train == len(trained) == 250 - len(held_out)
    more = prepared(records, validation_fraction=0.4)
    assert sum(more.report.validation.values()) > len(held_out)
    # The side does not change with what else is chosen.
    thinking = [record(f"q{i}", f"<think>x</think>{i}") for i in range(50)]
    counts = {
        cot: prepared(thinking, validation_fraction=0.3, chain_of_thought=cot).report.validation
        for cot in (True, False)
    }
    assert counts[True] == counts[False]
    assert any("250 conversations read" in line and "quant" in line for line in corpus.lines())


def test_too_long_is_dropped_or_cut_at_a_turn() -> None:
    short = record("q", "a")
    long = record("q", "a", "r", "b" * 20, "s", "c" * 200, where="f:9")
    dropped = prepared([short, long])
    assert dropped.report.skipped == {"longer than a row": 1}
    assert "f:9: " in dropped.report.names["longer than a row"][0]
    cut = prepared([short, long], too_long="truncate")
    assert (cut.report.truncated, cut.report.skipped) == (1, {})
    wanted = [
        render_conversation(m, BYTES, TEMPLATE) for m in (short.messages, long.messages[:4])
    ]  # fmt: skip
    assert conversations_of(cut.train) == sorted((r.ids.tolist(), r.mask.tolist()) for r in wanted)
    hopeless = prepared([short, record("q" * 300, "a", where="g:1")], too_long="truncate")
    assert hopeless.report.skipped == {"longer than a row": 1}
    assert hopeless.report.truncated == 0
    exact = len(render_conversation(short.messages, BYTES, TEMPLATE).ids)
    assert prepared([short], length=exact - 1).report.train == 1
    with pytest.raises(DataError, match="none of 1 conversations is left"):
        prepared([short], length=exact - 2)
    lines = "\n".join(cut.lines())
    assert "1 conversation cut at a turn" in lines


def test_contaminated_conversations_are_dropped_and_counted(tmp_path) -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    files = [tmp_path / "one.jsonl", tmp_path / "two.txt"]
    files[0].write_text(json.dumps({"q": text}))
    files[1].write_text("zero " + text + "\nWhat is six?\n")
    call = {"role": "assistant", "content": None, "tool_calls": [
        {"name": "f", "arguments": {"code": ["x", text]}}]}  # fmt: skip
    records = [
        record("q", "a"),
        record("q", "So, " + text.upper(), where="f:1"),
        record("what is six", "6"),
        ConversationRecord([chat("q")[0], call]),
        record("q", "b", reasoning=text),
    ]
    corpus = prepared(records, decontaminate=Decontamination(files), length=400)
    assert corpus.report.train == 1
    assert corpus.report.skipped == {"overlaps with an evaluation file": 4}
    assert corpus.report.contaminated == {str(files[0]): 3, str(files[1]): 4}
    assert any(line == f"dropped 4 that overlap with the evaluation file {files[1]}"
               for line in corpus.lines())  # fmt: skip


def test_nothing_is_lost_from_files_to_rows(tmp_path) -> None:
    path = tmp_path / "x.jsonl"
    good = [{"messages": r.messages} for r in many(20)]
    bad = [{"messages": chat("q")}, {"messages": chat("q", "x" * 500)},
           {"messages": chat("q", "half \ud800")}]  # fmt: skip
    path.write_text("".join(json.dumps(r) + "\n" for r in good + bad) + "{\n")
    for report in (None, ChatReport()):
        reader = read_conversations(path, on_error="skip", report=report)
        corpus = prepared(reader, on_error="skip", report=report, validation_fraction=0.3)
        found = corpus.report
        assert found is reader.report
        assert found.read == 24
        assert found.skipped == {
            "no assistant turn": 1, "longer than a row": 1, "not encodable": 1, "malformed JSON": 1
        }  # fmt: skip
        assert found.train + sum(found.validation.values()) + 4 == 24
        assert json.loads(json.dumps(found.to_dict()))["train"] == found.train
        assert found.names["not encodable"][0].startswith(f"{path}:23: character ")
    with pytest.raises(DataError, match=r"x\.jsonl:23: .*surrogate"):
        prepared(list(read_conversations(path, on_error="skip")))


def test_a_template_that_fails_is_named_or_counted() -> None:
    source = "{% if messages|length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + PLAIN
    records = [record("q", "a"), record("q", "a", "r", "b", where="f:2"), record("", "a")]
    with pytest.raises(DataError, match="f:2: the chat template refuses this conversation"):
        prepare_chats(records, BYTES, template(source), length=200)
    corpus = prepare_chats(records, BYTES, template(source), length=200, on_error="skip")
    assert corpus.report.skipped == {"not renderable": 1, "empty user turn": 1}
    dropping = PLAIN.replace("in messages", "in messages if message['role'] != 'system'")
    with pytest.raises(DataError, match=r"^conversation 2: messages\[0\] is a user's turn without"):
        prepared([record("q", "a"), record("", "a")])
    told = ConversationRecord(chat("q", "a", system="Be brief."), where="f:3")
    with pytest.raises(DataError, match=r"f:3: .*content of messages\[0\], the system message"):
        prepare_chats([told], BYTES, template(dropping), length=200)
    with pytest.raises(DataError, match="none of 1 conversations is left to train on") as caught:
        prepare_chats([told], BYTES, template(dropping), length=200, on_error="skip")
    assert "template drops the system message" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"too_long": "cut"}, "known: drop, truncate"),
        ({"on_error": "skipp"}, "did you mean 'skip'"),
        ({"length": 0}, "length is 0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    ],
)
def test_wrong_arguments(options, words) -> None:
    with pytest.raises(DataError, match=words):
        prepared(many(3), **options)
    with pytest.raises(DataError, match="none of 0 conversations"):
        prepared([])


# Reasoning


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("plain", "plain"),
        ("  plain \n", "  plain \n"),
        ("<think>\nhm\n</think>\n\n4", "4"),
        ("<think>a</think>4<think>b</think> 5", "45"),
        ("hm</think>4", "4"),
        ("4<think>hm", "4"),
        ("<think>hm", ""),
        ("2 + 2 = <<2+2=4>>4\n#### 4", "4"),
        ("so\n#### $1,000.50 \n", "$1,000.50"),
        ("#### Heading\ntext", "#### Heading\ntext"),
        ("a ## 4", "a ## 4"),
    ],
)
def test_without_reasoning(content, answer) -> None:
    messages = [{"role": "user", "content": "<think>q</think>"},
                {"role": "assistant", "content": content, "reasoning_content": "r"}]  # fmt: skip
    made = without_reasoning(messages)
    assert made[0] == messages[0]
    assert made[1] == {"role": "assistant", "content": answer}
    assert messages[1]["content"] == content


def test_with_reasoning() -> None:
    messages = chat("q", "a", "r", "b")
    assert with_reasoning(messages, {}) == messages
    made = with_reasoning(messages, {"rationale": " because "})
    assert [m["content"] for m in made] == [
        "q", "a", "r", "<think>\nbecause\n</think>\n\nb"
    ]  # fmt: skip
    messages[1]["reasoning_content"] = "own"
    messages[3]["content"] = "<think>there</think>b"
    made = with_reasoning(messages, {"reasoning": "because"})
    assert made[1] == {"role": "assistant", "content": "<think>\nown\n</think>\n\na"}
    assert made[3]["content"] == "<think>there</think>b"


def test_chain_of_thought_on_and_off() -> None:
    records = [record("2+2?", "4", reasoning="two and two"), record("3+3?", "3+3\n#### 6")]

    def texts(on: bool) -> list[str]:
        rows = prepared(records, chain_of_thought=on).train
        return sorted(
            BYTES.decode(np.array(ids)[np.array(mask)].tolist())
            for ids, mask in conversations_of(rows)
        )

    assert texts(True) == ["3+3\n#### 6<|im_end|>", "<think>\ntwo and two\n</think>\n\n4<|im_end|>"]
    assert texts(False) == ["4<|im_end|>", "6<|im_end|>"]
    only = [*records, record("q", "<think>never said")]
    skipped = prepared(only, chain_of_thought=False, on_error="skip").report.skipped
    assert skipped == {"empty assistant turn": 1}
    assert prepared(only, on_error="skip").report.skipped == {}
