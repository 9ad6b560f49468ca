"""Pairs of answers: both sides of every shape, what is learnt, what is left out, rows, order."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
from chat_parts import PLAIN, chat, template

from lilith.data import DataError
from lilith.data.chat_readers import ConversationRecord, read_conversations
from lilith.data.decontamination import Decontamination
from lilith.data.pairs import PairReport, PairRows
from lilith.data.preferences import prepare_pairs
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate
from lilith.train.preferences import PairBatch

BYTES = ByteTokenizer()
TEMPLATE = ChatTemplate(CHATML)
END = BYTES.special_tokens["<|im_end|>"]


def pair(prompt="q", chosen="good", rejected="bad", where="", **metadata) -> ConversationRecord:
    return ConversationRecord(chat(prompt, chosen), None, {"rejected": rejected} | metadata, where)


def many(count: int, **metadata) -> list[ConversationRecord]:
    return [pair(f"question {i}", "y" * (i % 5 + 1), "n", f"x:{i}", **metadata)
            for i in range(count)]  # fmt: skip


def prepared(records, **options):
    return prepare_pairs(records, BYTES, TEMPLATE, **({"length": 128} | options))


def read(tmp_path, *records, **options):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return prepared(read_conversations(path, on_error=options.get("on_error", "stop")), **options)


def side(row, number) -> tuple[str, str]:
    """A side's text, and what of it is learnt."""
    ids = row["tokens_PST"][number, : row["length_PS"][number]]
    learnt = row["learnt_PST"][number, : row["length_PS"][number]] > 0
    assert not row["tokens_PST"][number, row["length_PS"][number] :].any()
    assert not row["learnt_PST"][number, row["length_PS"][number] :].any()
    return BYTES.decode(ids.tolist()), BYTES.decode(ids[learnt].tolist())


QA = chat("q", "a")
HH = "\n\nHuman: q\n\nAssistant: first\n\nHuman: more\n\nAssistant: {}"


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, ["q"]),
        ({"prompt": "q", "chosen": "good", "rejected": "bad", "system": "S"}, ["S", "q"]),
        ({"prompt": QA[:1], "chosen": [{"role": "assistant", "content": "good"}],
          "rejected": [{"role": "assistant", "content": "bad"}]}, ["q"]),
        ({"chosen": chat("q", "a", "r", "good"), "rejected": chat("q", "a", "r", "bad")},
         ["q", "a", "r"]),
        ({"chosen": HH.format("good"), "rejected": HH.format("bad")}, ["q", "first", "more"]),
        ({"prompt": HH.format(""), "chosen": "good", "rejected": "bad"}, ["q", "first", "more"]),
        ({"prompt": "q", "chosen": chat("q", "good"), "rejected": chat("q", "bad")}, ["q"]),
        ({"system": "S", "chosen": chat("q", "good"), "rejected": chat("q", "bad")}, ["S", "q"]),
    ],
)  # fmt: skip
def test_both_sides_of_every_shape(tmp_path, record, texts) -> None:
    row = read(tmp_path, record).train[0]
    for number, answer in enumerate(("good", "bad")):
        text, learnt = side(row, number)
        assert learnt == f"{answer}<|im_end|>"
        assert text.endswith(f"<|im_start|>assistant\n{answer}<|im_end|>")
        said = [part.split("<|im_end|>")[0].split("\n", 1)[1]
                for part in text.split("<|im_start|>")[1:]]  # fmt: skip
        assert said == [*texts, answer]
    assert (row["label_P"], row["margin_P"], row["weight_P"]) == (1, 0, 1)


def test_learnt_is_what_follows_the_shared_messages() -> None:
    chosen, rejected = chat("q", "same", "r", "good"), chat("q", "same", "r", "bad")
    row = prepared([ConversationRecord(chosen, None, {"rejected": rejected})]).train[0]
    assert side(row, 0)[1] == "good<|im_end|>"
    parted = chat("q", "other", "r", "good")
    row = prepared([ConversationRecord(chosen, None, {"rejected": parted})]).train[0]
    assert side(row, 0)[1] == "same<|im_end|>good<|im_end|>"
    assert side(row, 1)[1] == "other<|im_end|>good<|im_end|>"


def test_an_answer_alone_takes_the_place_of_as_many_messages() -> None:
    call = {"role": "assistant", "content": "<tool_call>{}</tool_call>"}
    chosen = [*chat("q"), call, {"role": "tool", "content": "4"}, *chat("x", "good")[1:]]
    short = prepared([ConversationRecord(chosen, None, {"rejected": "bad"})]).train[0]
    assert side(short, 1)[1] == "bad<|im_end|>"
    assert "tool_call" in side(short, 1)[0]
    other = [dict(call, content="<tool_call>[]</tool_call>"), *chosen[2:]]
    long = prepared([ConversationRecord(chosen, None, {"rejected": other})]).train[0]
    assert side(long, 1)[1].startswith("<tool_call>[]")
    plain = [*other, *chat("and", "bad")]
    away = prepared([ConversationRecord(chosen, None, {"rejected": plain})]).train[0]
    assert side(away, 1)[1].startswith("<tool_call>[]")
    assert side(away, 1)[1].endswith("bad<|im_end|>")
    # Of other roles than as many of the chosen messages: all since the last user gives way.
    longer = [*chat("p", "earlier"), *chosen]
    twice = [*other[:2], *other[:2], *chat("x", "bad")[1:]]
    row = prepared([ConversationRecord(longer, None, {"rejected": twice})], length=300).train[0]
    assert side(row, 1)[0].count("earlier") == 1
    assert side(row, 1)[1].count("<tool_call>[]") == 2


def test_a_side_ends_with_its_answers_turn() -> None:
    """Templates write a new line after a turn, which no sampled answer ends with."""
    row = prepare_pairs([pair()], BYTES, template(PLAIN), length=128).train[0]
    assert row["tokens_PST"][0, row["length_PS"][0] - 1] == END
    assert row["learnt_PST"][0, row["length_PS"][0] - 1] == 1


def test_labels_margins_and_references() -> None:
    corpus = prepared([pair(label=0.25, margin=2), pair("r", label=None)])
    rows = corpus.train
    assert [float(rows[i]["label_P"]) for i in range(2)] == [0.25, 1.0]
    assert [float(rows[i]["margin_P"]) for i in range(2)] == [2.0, 0.0]
    other = rows.with_references(np.array([[-1.5, -2.0], [-3.0, -4.0]]))
    assert other[1]["reference_PS"].tolist() == [-3.0, -4.0]
    assert rows[1]["reference_PS"].tolist() == [0.0, 0.0]
    assert other.fingerprint == rows.fingerprint
    with pytest.raises(DataError, match=r"the shape \(1, 2\), and there are 2 pairs"):
        rows.with_references(np.zeros((1, 2)))
    with pytest.raises(DataError, match="pair 1 is"):
        rows.with_references(np.array([[0, 0], [0, np.nan]]))


BAD = [
    ({"rejected": None}, "no rejected side", "has no field 'rejected'"),
    ({"rejected": "good"}, "equal sides", "say the same"),
    ({"rejected": ""}, "no answer", "the rejected side ends with an empty answer"),
    ({"rejected": "  \n"}, "no answer", "ends with an empty answer"),
    ({"rejected": chat("q", "bad", "so?")}, "no answer", "ends with a message of user"),
    ({"rejected": []}, "no answer", "the rejected side ends"),
    ({"rejected": chat("another", "bad")}, "different prompts", "messages[0]"),
    ({"rejected": chat("q", "good", "r", "bad")}, "different prompts", "messages[2]"),
    ({"rejected": 3}, "wrong type", "rejected is a int"),
    ({"label": 1.5}, "label out of range", "label is 1.5; expected a probability"),
    ({"label": "1"}, "label out of range", "label is '1'"),
    ({"label": True}, "label out of range", "label is True"),
    ({"margin": -1}, "margin out of range", "margin is -1"),
    ({"margin": float("nan")}, "margin out of range", "margin is nan"),
    ({"margin": [1]}, "margin out of range", "margin is [1]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason", "words"), BAD)
def test_what_is_no_pair(change, reason, words) -> None:
    bad = pair(where="f:7", **change)
    with pytest.raises(DataError) as caught:
        prepared([pair(), bad])
    assert str(caught.value).startswith("f:7: ")
    assert words in str(caught.value)
    corpus = prepared([pair(), bad], on_error="skip")
    assert corpus.report.skipped == {reason: 1}
    assert (corpus.report.read, corpus.report.train, len(corpus.train)) == (2, 1, 1)
    assert "2 pairs read: 1 to train on, 0 held out, 1 left out" in corpus.lines()[0]


def test_the_chosen_side_needs_an_answer_too() -> None:
    for chosen in (chat("q"), chat("q", "a", "r"), chat("q", " ")):
        record = ConversationRecord(chosen, None, {"rejected": chat("q", "bad")}, "f:1")
        with pytest.raises(DataError, match="f:1: the chosen side ends with"):
            prepared([record])


def test_sides_that_become_equal_tokens() -> None:
    trims = template("{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content | trim }}"
                     "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant "
                     "{% endif %}")  # fmt: skip
    records = [pair(), pair("r", "a", "a ")]
    corpus = prepare_pairs(records, BYTES, trims, length=128, on_error="skip")
    assert corpus.report.skipped == {"equal sides": 1}


def test_a_longer_side_is_counted_and_never_an_error() -> None:
    size = int(prepared([pair()]).train[0]["length_PS"].max())
    assert len(prepared([pair()], length=size - 1).train) == 1
    for side_ in ({"chosen": "good!"}, {"rejected": "bad!!"}):
        corpus = prepared([pair(), pair("q", **side_)], length=size - 1)
        assert corpus.report.skipped == {"longer than a row": 1}
    with pytest.raises(DataError, match="none of 1 pairs is left to train on"):
        prepared([pair()], length=size - 2)


def test_both_sides_are_kept_apart_from_evaluation_texts(tmp_path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("one two three four\n")
    against = Decontamination([path], n=4)
    records = [pair(), pair("r", "ok", "it says one two three four"), pair("one two three four")]
    corpus = prepared(records, decontaminate=against)
    assert corpus.report.skipped == {"overlaps with an evaluation file": 2}
    assert corpus.report.contaminated == {str(path): 2}


def test_the_split_is_by_prompt_and_by_domain() -> None:
    records = [pair(f"p {i % 50}", f"good {i}", "bad", subset="odd" if i % 2 else "even")
               for i in range(200)]  # fmt: skip
    corpus = prepared(records, validation_fraction=0.3)
    assert sorted(corpus.validation) == ["even", "odd"]
    prompts = [
        {side(rows[i], 0)[0].split("assistant")[0] for i in range(len(rows))}
        for rows in (corpus.train, *corpus.validation.values())
    ]
    assert not prompts[0] & (prompts[1] | prompts[2])
    counts = [len(corpus.train), *(len(rows) for rows in corpus.validation.values())]
    assert sum(counts) == 200
    assert 20 < sum(counts[1:]) < 120
    again = prepared(records[::-1], validation_fraction=0.3)
    assert {name: len(rows) for name, rows in again.validation.items()} == {
        name: len(rows) for name, rows in corpus.validation.items()
    }
    assert list(prepared(many(3)).validation) == []
    assert list(prepared(many(30), validation_fraction=0.9).validation) == ["all"]


def test_batches_of_every_pair_once() -> None:
    rows = prepared(many(10)).train
    batches = rows.batches(4)
    assert len(batches) == 3
    found = list(batches)
    names = {field.name for field in dataclasses.fields(PairBatch)}
    assert {name: (array.shape, array.dtype.name) for name, array in found[0].items()} == {
        "tokens_PST": ((4, 2, 129), "int32"), "learnt_PST": ((4, 2, 129), "float32"),
        "length_PS": ((4, 2), "int32"), "label_P": ((4,), "float32"),
        "margin_P": ((4,), "float32"), "weight_P": ((4,), "float32"),
        "reference_PS": ((4, 2), "float32"),
    }  # fmt: skip
    assert set(found[0]) == names
    assert [batch["weight_P"].sum() for batch in found] == [4, 4, 2]
    assert (found[2]["length_PS"][2:] == 1).all()
    tokens = np.concatenate([batch["tokens_PST"] for batch in found])[:10]
    for place, index in enumerate(batches.order):
        assert (tokens[place] == rows[index]["tokens_PST"]).all()
    assert sorted(batches.order) == list(range(10))
    assert rows.batches(4, limit_rows=3).order == batches.order[:3]
    halves = [list(rows.batches(4, host=host, hosts=2)) for host in range(2)]
    both = np.concatenate([half[0]["tokens_PST"] for half in halves])
    assert (both == found[0]["tokens_PST"]).all()


def test_training_order_and_its_position() -> None:
    corpus = prepared(many(30), seed=3)
    batches = corpus.train_iterator(4)
    for _ in range(3):
        next(batches)
    state = json.loads(json.dumps(batches.state()))
    wanted = [next(batches)["tokens_PST"] for _ in range(9)]  # into the second pass
    again = prepared(many(30), seed=3).train_iterator(4)
    again.restore(state)
    assert all((next(again)["tokens_PST"] == each).all() for each in wanted)
    with pytest.raises(DataError, match="corpus"):
        prepared(many(29), seed=3).train_iterator(4).restore(state)
    with pytest.raises(DataError, match="30 pairs to train on, fewer than one batch of 31"):
        corpus.train_iterator(31)


def test_the_fingerprint_tells_what_matters() -> None:
    rows = prepared(many(5)).train
    others = [prepared(many(5), length=127), prepared(many(5, label=0.5)),
              prepared(many(5, margin=1)), prepared(many(4))]  # fmt: skip
    prints = {rows.fingerprint, *(other.train.fingerprint for other in others)}
    assert len(prints) == 5
    assert prepared(many(5), seed=9).train.fingerprint == rows.fingerprint
    assert pickle.loads(pickle.dumps(rows)).fingerprint == rows.fingerprint


def test_figures_of_the_report() -> None:
    corpus = prepared(many(4))
    report, rows = corpus.report, corpus.train
    assert isinstance(report, PairReport)
    lengths = np.array([rows[i]["length_PS"] for i in range(4)])
    assert (report.rows, report.tokens) == (8, int(lengths.sum()) - 8)
    assert report.trained_tokens == int(sum(rows[i]["learnt_PST"].sum() for i in range(4)))
    assert rows.answer_lengths.tolist() == [
        rows[i]["learnt_PST"].sum(axis=1).astype(int).tolist() for i in range(4)
    ]
    assert 0 < report.padding < 1
    assert len(PairRows([], 8)) == 0


def test_hh_rlhf(lilith_data) -> None:
    path = lilith_data / "hh_rlhf"
    report = PairReport()
    records = read_conversations(path, on_error="skip", report=report)
    corpus = prepared(records, length=1024, on_error="skip", report=report,
                      validation_fraction=0.1)  # fmt: skip
    assert report.read == 2312
    assert report.train + sum(report.validation.values()) + sum(report.skipped.values()) == 2312
    assert len(corpus.train) > 1200
    assert "Human:" not in side(corpus.train[0], 0)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"length": 0}, "length is 0"), ({"on_error": "ignore"}, "on_error is 'ignore'"),
     ({"validation_fraction": 1.0}, "validation_fraction is 1.0")],
)  # fmt: skip
def test_arguments_that_no_preparation_has(options, words) -> None:
    with pytest.raises(DataError, match=words):
        prepared([pair()], **options)
