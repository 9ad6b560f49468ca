"""Every shape of file to the same messages; bad input named by file and line, or counted."""

from __future__ import annotations

import gzip
import json
import pathlib

import pytest

from lilith.data import DataError
from lilith.data.chat_readers import ConversationRecord, read_conversations
from lilith.data.chat_report import ChatReport

QA = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def write(path: pathlib.Path, *records, text: str | None = None) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(record) + "\n" for record in records) if text is None else text
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")
    return path


def read(path, **options) -> list[ConversationRecord]:
    return list(read_conversations(path, **options))


def one(tmp_path, record, **options) -> ConversationRecord:
    (found,) = read(write(tmp_path / "one.jsonl", record), **options)
    return found


# Shapes


HH = "\n\nHuman: q\n\nAssistant: a"
TREE = {
    "message_tree_id": "t",
    "tree_state": "ready",
    "prompt": {
        "message_id": "1", "role": "prompter", "text": "q", "lang": "en", "replies": [
            {"message_id": "2", "role": "assistant", "text": "worse", "rank": 1, "replies": []},
            {"message_id": "3", "role": "assistant", "text": "a", "rank": 0, "replies": [
                {"message_id": "4", "role": "prompter", "text": "unanswered", "replies": []}]},
            {"message_id": "5", "role": "assistant", "text": "gone", "rank": -1, "deleted": True},
            {"message_id": "6", "role": "assistant", "text": "unranked", "rank": None},
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "record", "metadata"),
    [
        ("messages", {"messages": QA}, {}),
        ("messages", {"messages": QA, "metadata": {"domain": "quant"}, "id": 7},
         {"domain": "quant", "id": 7}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"},
                                        {"from": "gpt", "value": "a"}], "source": "x"},
         {"source": "x"}),
        ("alpaca", {"instruction": "q", "input": "", "output": "a"}, {}),
        ("alpaca", {"instruction": "q", "output": "a", "status": "ok"}, {"status": "ok"}),
        ("dolly", {"instruction": "q", "context": "", "response": "a", "category": "open_qa"},
         {"category": "open_qa"}),
        ("lilith", {"instruction": "q", "context": "", "output": "a", "metadata":
                    {"difficulty": "easy", "domain": "quant", "requires_tools": False}},
         {"difficulty": "easy", "domain": "quant", "requires_tools": False}),
        ("prompt_response", {"prompt": "q", "response": "a"}, {}),
        ("prompt_response", {"prompt": "q", "completion": "a"}, {}),
        ("prompt_response", {"question": "q", "answer": "a"}, {}),
        ("prompt_response", {"prompt": QA[:1], "completion": QA[1:]}, {}),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}, {"rejected": "b"}),
        ("preference", {"chosen": QA, "rejected": [QA[0], {"role": "assistant", "content": "b"}]},
         {"rejected": [QA[0], {"role": "assistant", "content": "b"}]}),
        ("preference", {"prompt": "q", "chosen": QA, "rejected": QA}, {"rejected": QA}),
        ("preference", {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": "b"},
         {"rejected": "b"}),
        ("hh", {"chosen": HH, "rejected": HH + "!"}, {"rejected": HH + "!"}),
        ("oasst", TREE,
         {"message_tree_id": "t", "tree_state": "ready", "message_id": "1", "lang": "en"}),
        ("oasst", TREE["prompt"], {"message_id": "1", "lang": "en"}),
    ],
)  # fmt: skip
def test_every_shape_is_read(tmp_path, shape, record, metadata) -> None:
    for chosen in ("auto", shape):
        found = one(tmp_path, record, shape=chosen)
        said = [message | {"content": message["content"].strip()} for message in found.messages]
        assert said == QA
        assert found.metadata == metadata
        assert found.tools is None
        assert found.where == f"{tmp_path / 'one.jsonl'}:1"


def test_more_than_an_instruction(tmp_path) -> None:
    for record in (
        {"instruction": "Sum up.", "input": "x\ny", "output": "a", "system": "S"},
        {"instruction": "Sum up.", "context": "x\ny", "response": "a", "system_prompt": "S"},
        {"instruction": "Sum up.", "context": "x\ny", "output": "a", "system": "S"},
    ):
        assert one(tmp_path, record).messages == [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Sum up.\n\nx\ny"},
            {"role": "assistant", "content": "a"},
        ]


def test_a_system_prompt_and_a_history(tmp_path) -> None:
    for name in ("messages", "conversations"):
        found = one(tmp_path, {name: QA, "system": "S"})
        assert found.messages == [{"role": "system", "content": "S"}, *QA]
        assert found.metadata == {}
        own = [{"role": "system", "content": "own"}, *QA]
        found = one(tmp_path, {name: own, "system": "S"})
        assert (found.messages, found.metadata) == (own, {"system": "S"})
    found = one(tmp_path, {"instruction": "r", "output": "b", "history": [["q", "a"]]})
    assert [m["content"] for m in found.messages] == ["q", "a", "r", "b"]
    with pytest.raises(DataError, match="history is a list; expected a list of pairs"):
        one(tmp_path, {"instruction": "r", "output": "b", "history": [["q"]]})
    found = one(tmp_path, {"instruction": "q", "input": "x", "output": "a", "metadata": {"n": 1}})
    assert found.messages[0]["content"] == "q\n\nx"


def test_transcripts_of_many_turns(tmp_path) -> None:
    text = "\n\nHuman: a\n\nb: c\n\nAssistant: d\n\nHuman: e Human: f\n\nAssistant: g\n"
    found = one(tmp_path, {"chosen": text, "rejected": text})
    assert [(m["role"], m["content"]) for m in found.messages] == [
        ("user", "a\n\nb: c"), ("assistant", "d"), ("user", "e Human: f"), ("assistant", "g")
    ]  # fmt: skip


def test_tools_of_both_common_forms(tmp_path) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    openai = {"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "S"}]},
        {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "4"},
        {"role": "assistant", "content": "a", "refusal": None},
    ], "tools": [tool]}  # fmt: skip
    found = one(tmp_path, openai)
    assert found.tools == [tool]
    assert [m["role"] for m in found.messages] == ["system", "user", "assistant", "tool",
                                                   "assistant"]  # fmt: skip
    assert found.messages[0]["content"] == "S"
    assert found.messages[1]["content"] == "q!"
    assert found.messages[2]["tool_calls"] == [call]
    assert found.messages[3] == {"role": "tool", "content": "4", "tool_call_id": "1"}
    sharegpt = {"system": "S", "tools": json.dumps([tool]), "conversations": [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "a"},
    ]}  # fmt: skip
    found = one(tmp_path, sharegpt)
    assert found.tools == [tool]
    assert found.messages[0] == {"role": "system", "content": "S"}
    assert found.messages[2]["tool_calls"] == [{"name": "f", "arguments": {"x": 1}}]
    assert found.messages[3] == {"role": "tool", "content": "4"}


def test_rows_of_trees(tmp_path) -> None:
    rows = [
        {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "worse", "rank": 2},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "q"},
        {"message_id": "c", "parent_id": "a", "role": "assistant", "text": "a", "rank": 0},
        {"message_id": "x", "parent_id": None, "role": "prompter", "text": "q2"},
        {"message_id": "y", "parent_id": "x", "role": "assistant", "text": "a2", "rank": None},
    ]
    lost = [
        {"message_id": "l", "parent_id": "nobody", "role": "assistant", "text": "lost"},
        {"message_id": "m", "parent_id": "n", "role": "assistant", "text": "in a ring"},
        {"message_id": "n", "parent_id": "m", "role": "assistant", "text": "in a ring"},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "again"},
    ]
    path = write(tmp_path / "rows.jsonl", *rows)
    found = read(path)
    assert [[m["content"] for m in record.messages] for record in found] == [
        ["q", "a"], ["q2", "a2"]
    ]  # fmt: skip
    assert [record.where for record in found] == [f"{path}:2", f"{path}:4"]
    write(path, *rows, *lost)
    with pytest.raises(DataError, match=r"rows\.jsonl:9: message_id 'a' is there twice"):
        read(path)
    report = ChatReport()
    assert len(read(path, on_error="skip", report=report)) == 2
    assert report.skipped == {"outside every tree": 3, "duplicate message": 1}
    assert report.read == 2 + 4


def test_columns_of_question_answer_and_reasoning(tmp_path) -> None:
    path = write(tmp_path / "cot.tsv.gz", text='q\\n"x\t(C)\tbecause\\nso\nonly\ttwo\n')
    reader = read_conversations(path, on_error="skip")
    (found,) = reader
    assert [m["content"] for m in found.messages] == ['q\n"x', "(C)"]
    assert found.metadata == {"reasoning": "because\nso"}
    assert reader.report.skipped == {"malformed line": 1}
    assert "cot.tsv.gz:2: 2 columns" in reader.report.names["malformed line"][0]

    lines = write(tmp_path / "lines.jsonl", text="q\ta\tbecause\n")
    assert read(lines, shape="cot")[0].metadata == {"reasoning": "because"}
    with pytest.raises(DataError, match="not valid JSON"):
        read(path, shape="alpaca")


# Files


def test_files_of_every_kind(tmp_path) -> None:
    record = {"messages": QA}
    write(tmp_path / "a" / "x.jsonl", record, record)
    write(tmp_path / "a" / "y.jsonl.gz", record)
    write(tmp_path / "a" / "z.json", text=json.dumps([record, record], indent=2))
    write(tmp_path / "b.json.gz", text="\ufeff" + json.dumps([record]))
    write(tmp_path / "c.ndjson", text="\ufeff" + json.dumps(record) + "\r\n\n")
    write(tmp_path / "d.json", record, record)  # lines under another name
    write(tmp_path / "e.json", text=json.dumps(record, indent=2))
    write(tmp_path / "notes.txt", text="not read")
    reader = read_conversations(tmp_path)
    wheres = [pathlib.Path(record.where).name for record in reader]
    assert wheres == [
        "x.jsonl:1", "x.jsonl:2", "y.jsonl.gz:1", "z.json[0]", "z.json[1]", "b.json.gz[0]",
        "c.ndjson:1", "d.json:1", "d.json:2", "e.json[0]",
    ]  # fmt: skip
    assert (reader.report.read, reader.report.files) == (10, 7)
    assert len(read(f"{tmp_path}/*/*.jsonl*")) == 3
    with pytest.raises(DataError, match="holds no file of conversations"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="LILITH_UNSET"):
        read("$LILITH_UNSET/x.jsonl")


def test_shapes_differ_between_files_only(tmp_path) -> None:
    write(tmp_path / "a.jsonl", {"messages": QA})
    write(tmp_path / "b.jsonl", {"prompt": "q", "response": "a"})
    assert len(read(tmp_path)) == 2
    write(tmp_path / "c.jsonl", {"messages": QA}, {"prompt": "q", "response": "a"})
    with pytest.raises(DataError, match=r"c\.jsonl:2: the record has the shape prompt_response"):
        read(tmp_path)


# Bad input


def line(text: str | bytes) -> bytes:
    good = json.dumps({"messages": QA}).encode() + b"\n"
    return good + (text if isinstance(text, bytes) else text.encode()) + b"\n" + good


def messages(*pairs) -> str:
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in pairs]})


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        ('{"messages": [', "malformed JSON", "not valid JSON"),
        ("not json", "malformed JSON", "not valid JSON: Expecting value (column 1)"),
        ('{"messages": NotANumber}', "malformed JSON", "column 14"),
        ("[" * 100_000, "malformed JSON", "nested too deeply"),
        (b'{"messages": "\xff\xfe"}', "not UTF-8", "byte 15 of the line is not UTF-8"),
        ("[1, 2]", "wrong type", "the record is a list"),
        ('"text"', "wrong type", "the record is a str"),
        ('{"foo": 1, "bar": 2}', "unknown shape", "'foo', 'bar'"),
        ('{"prompt": "q", "response": "a"}', "mixed shapes", "prompt_response"),
        ('{"messages": "hi"}', "wrong type", "messages is a str; expected a list"),
        ('{"messages": []}', "wrong type", "messages is empty"),
        ('{"messages": ["hi"]}', "wrong type", "messages[0] is a str"),
        ('{"messages": [{"content": "x"}]}', "missing field", "'role' or 'from'"),
        ('{"messages": [{"role": 3, "content": "x"}]}', "wrong type", "role of messages[0]"),
        ('{"messages": [{"role": "usr", "content": "x"}]}', "unknown role", "did you mean 'user'"),
        ('{"messages": [{"role": "user"}]}', "missing field", "messages[0] has no content"),
        ('{"messages": [{"role": "user", "content": 3}]}', "wrong type", "messages[0].content"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "not text",
         "type 'image_url'"),
        ('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", '
         '"tool_calls": "f"}]}', "wrong type", "messages[1].tool_calls"),
        (json.dumps({"messages": QA, "metadata": "x"}), "wrong type", "metadata is a str"),
        (json.dumps({"messages": QA, "tools": ["f"]}), "wrong type", "tools is a list"),
        (json.dumps({"messages": QA, "tools": "f("}), "wrong type", "tools is text, but not"),
        (messages(("user", "q"), ("user", "r"), ("assistant", "a")), "roles out of order",
         "messages[1] follows another message of role 'user'"),
        (messages(("assistant", "a")), "roles out of order", "no user has spoken"),
        (messages(("user", "q"), ("tool", "4"), ("assistant", "a")), "roles out of order",
         "no call is open"),
        (messages(("user", "q"), ("system", "S"), ("assistant", "a")), "roles out of order",
         "only the first may be"),
        (messages(("user", "q"), ("assistant", " ")), "empty assistant turn", "messages[1]"),
        (messages(("user", "")), "empty user turn", "messages[0]"),
        (messages(("user", "q")), "no assistant turn", "none of the 1 messages"),
    ],
)  # fmt: skip
def test_a_bad_record_is_named_or_counted(tmp_path, bad, reason, words) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(line(bad))
    read_before = []
    with pytest.raises(DataError) as caught:
        read_before.extend(read_conversations(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    reader = read_conversations(path, on_error="skip")
    assert [record.where for record in reader] == [f"{path}:1", f"{path}:3"]
    assert reader.report.skipped == {reason: 1}
    assert reader.report.names[reason] == [str(caught.value)]
    assert reader.report.read == 3
    assert any(f"left out 1: {reason} (first: {path}:2: " in x for x in reader.report.lines())


@pytest.mark.parametrize(
    ("shape", "record", "words"),
    [
        ("alpaca", {"instruction": "q"}, "no field 'output'"),
        ("alpaca", {"messages": QA}, "no field 'instruction'"),
        ("alpaca", {"instruction": "q", "input": 3, "output": "a"}, "input is a int"),
        ("dolly", {"instruction": "q", "response": None}, "response is a NoneType"),
        ("prompt_response", {"prompt": "q"}, "'response' or 'completion' or 'answer'"),
        ("prompt_response", {"prompt": 1, "response": "a"}, "prompt is a int"),
        ("preference", {"prompt": "q", "chosen": "a"}, "no field 'rejected'"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": 1}, "rejected is a int"),
        ("hh", {"chosen": "q", "rejected": "r"}, "does not begin with 'Human:'"),
        ("hh", {"chosen": "x\n\nHuman: q\n\nAssistant: a", "rejected": ""}, "'Human:'"),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"},
                                        {"from": "function_call", "value": "f("}]},
         "conversations[1] is a call, but not valid JSON"),
        ("oasst", {"prompt": {"role": "prompter", "text": "q", "replies": "x"}},
         "replies is a str"),
        ("oasst", {"prompt": {"role": "prompter", "replies": []}}, "no field 'text'"),
        ("oasst", {"prompt": "q", "response": "a"}, "prompt is a str"),
    ],
)  # fmt: skip
def test_a_record_that_is_not_of_the_given_shape(tmp_path, shape, record, words) -> None:
    with pytest.raises(DataError) as caught:
        one(tmp_path, record, shape=shape)
    assert words in str(caught.value)
    assert "one.jsonl:1: " in str(caught.value)


def test_files_that_can_not_be_read(tmp_path) -> None:
    record = json.dumps({"messages": QA})
    for name in ("empty.jsonl", "empty.json", "empty.tsv"):
        path = write(tmp_path / name, text=" \n\n")
        with pytest.raises(DataError, match=f"{name} is empty"):
            read(path)
        assert read(path, on_error="skip") == []
    write(tmp_path / "empty_list.json", text="[]")
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / "empty_list.json")
    broken = write(tmp_path / "broken.json", text=f"[\n{record},\n{{]")
    with pytest.raises(DataError, match=r"broken\.json\[0\]: line 3: this is not valid JSON"):
        read(broken)
    damaged = tmp_path / "damaged.jsonl.gz"
    lines = "\n".join(f'{{"messages": {json.dumps(QA)}, "n": {i**20}}}' for i in range(3000))
    damaged.write_bytes(gzip.compress(lines.encode())[:-2000])
    report = ChatReport()
    found = read(damaged, on_error="skip", report=report)
    assert len(found) > 500
    assert report.skipped["unreadable"] == 1
    assert report.read == len(found) + sum(report.skipped.values())
    with pytest.raises(DataError, match=r"damaged\.jsonl\.gz: the file can not be read on"):
        read(damaged)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"shape": "alpacca"}, "did you mean 'alpaca'"),
        ({"on_error": "ignore"}, "known: stop, skip"),
    ],
)
def test_wrong_options_are_refused_at_once(tmp_path, option, words) -> None:
    write(tmp_path / "x.jsonl", {"messages": QA})
    with pytest.raises(DataError, match=words):
        read_conversations(tmp_path / "x.jsonl", **option)


# Real files


@pytest.mark.parametrize(
    ("path", "kept", "skipped"),
    [
        ("dolly/dolly_15k.jsonl.gz", 15_011, {}),
        ("alpaca_libre/*.jsonl.gz", 5_566, {"empty assistant turn": 294, "malformed JSON": 14}),
        ("hh_rlhf/*.jsonl.gz", 2_300, {"empty assistant turn": 4, "roles out of order": 8}),
        ("oasst_part/en_100_tree.jsonl.gz", 100, {}),
        ("oasst_part/oasstcommitpackftmanual.jsonl.gz", 1_178, {}),
        ("gsm8k/train.jsonl.gz", 7_473, {}),
        ("flan_cot/strategyqa_train.tsv.gz", 2_061, {}),
    ],
)
def test_real_files(lilith_data, path, kept, skipped) -> None:
    reader = read_conversations(lilith_data / path, on_error="skip")
    assert sum(1 for _ in reader) == kept
    assert reader.report.skipped == skipped
    assert reader.report.read == kept + sum(skipped.values())
