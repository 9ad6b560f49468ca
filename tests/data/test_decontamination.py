"""Overlap with evaluation texts: n-grams of words, short texts whole, counts for each file."""

from __future__ import annotations

import csv
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.data import DataError
from lilith.data.decontamination import Decontamination, words

LONG = "Natalia sold clips to 48 of her friends in April and then half as many in May"
THIRTEEN = "clips to 48 of her friends in April and then half as many"


def evaluation(tmp_path, *texts: str, name: str = "eval.jsonl", **options) -> Decontamination:
    path = tmp_path / name
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    return Decontamination([path], **options)


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words('Don\'t "sell" 48, Größe—日本 x_1!') == [
        "don", "t", "sell", "48", "größe", "日本", "x_1"
    ]  # fmt: skip
    assert words(" ... ") == []


def test_thirteen_words_in_a_row(tmp_path) -> None:
    found = evaluation(tmp_path, LONG)
    file = str(tmp_path / "eval.jsonl")
    assert len(THIRTEEN.split()) == 13
    assert found.overlaps([THIRTEEN]) == [file]
    assert found.overlaps(["So: " + THIRTEEN.upper().replace(" ", ",\n") + " more"]) == [file]
    assert found.overlaps(["nothing", THIRTEEN]) == [file]
    twelve = THIRTEEN.rsplit(" ", 1)[0]
    assert found.overlaps([twelve + " and a few other words that are not of the same text"]) == []
    assert found.overlaps([twelve]) == []
    assert found.overlaps([THIRTEEN.replace("April", "June")]) == []
    assert found.overlaps([THIRTEEN[:30], THIRTEEN[30:]]) == []  # never across messages
    assert evaluation(tmp_path, LONG, n=12).overlaps([twelve + " more"]) == [file]


def test_short_texts_are_compared_whole(tmp_path) -> None:
    found = evaluation(tmp_path, "What is 2 + 2?", "yes", "")
    assert found.overlaps(["what is 2+2"])
    assert found.files == {str(tmp_path / "eval.jsonl"): 1}  # a single word says nothing
    assert found.overlaps(["What is 2 + 2 + 2?"]) == []
    assert found.overlaps(["So, what is 2 + 2?"]) == []
    assert found.overlaps(["yes", "", "!"]) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=2, max_size=12),
    st.lists(st.sampled_from("abc"), max_size=12),
    st.integers(2, 5),
)
def test_agrees_with_the_definition(tmp_path_factory, theirs, mine, n) -> None:
    folder = tmp_path_factory.mktemp("eval")
    found = evaluation(folder, " ".join(theirs), n=n).overlaps([", ".join(mine)])

    def grams(said: list[str]) -> set[tuple[str, ...]]:
        return {tuple(said[i : i + n]) for i in range(len(said) - n + 1)}

    if len(theirs) < n or len(mine) < n:
        assert bool(found) == (theirs == mine)
    else:
        assert bool(found) == bool(grams(theirs) & grams(mine))


def test_every_kind_of_file(tmp_path) -> None:
    texts = [f"{name} {LONG}" for name in ("lines", "deep", "cells", "plain", "zipped", "tabs")]
    folder = tmp_path / "evals"
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "lines " + LONG}]})
    )
    (folder / "b.json").write_text(json.dumps({"examples": [{"input": ["deep " + LONG]}]}))
    with open(folder / "c.csv", "w", newline="") as file:
        csv.writer(file).writerow(["1", "cells, " + LONG])
    (folder / "d.txt").write_text("x y\nplain " + LONG + "\n")
    (folder / "e.jsonl.gz").write_bytes(gzip.compress(json.dumps("zipped " + LONG).encode()))
    (folder / "f.tsv").write_text('"\ttabs ' + LONG + "\tz\n")
    (folder / "g.bin").write_bytes(b"\0")
    found = Decontamination([folder, folder / "a.jsonl"])
    assert [path.rsplit(".", 1)[0][-1] for path in found.files] == ["a", "b", "c", "d", "l", "f"]
    for text, file in zip(texts, found.files):
        assert found.overlaps([text]) == list(found.files)  # they share all but a word
        alone = Decontamination([file], n=14)
        assert alone.overlaps([text[: -len(" in May")]]) == [file]


def test_fields(tmp_path) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps({"question": LONG, "answer": {"steps": ["Two words"]}}))
    assert Decontamination([path]).overlaps(["two words"])
    assert not Decontamination([path], fields=["question"]).overlaps(["two words"])
    assert Decontamination([path], fields=["answer"]).overlaps(["two words"])
    with pytest.raises(DataError, match="holds no text below nothing"):
        Decontamination([path], fields=["nothing"])


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("bad.jsonl", b'{"a": "x y"}\n{"a": \n', r"bad\.jsonl:2: .*not valid JSON"),
        ("bad.json", b"{", r"bad\.json is not valid JSON"),
        ("bad.txt", b"\xff\xfe", "not UTF-8"),
        ("bad.jsonl.gz", b"no gzip", "unreadable"),
        ("empty.txt", b"\n", "holds no text"),
    ],
)
def test_bad_evaluation_files(tmp_path, name, content, error) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=error):
        Decontamination([tmp_path / name])


def test_wrong_arguments(tmp_path) -> None:
    with pytest.raises(DataError, match="no evaluation file at"):
        Decontamination([tmp_path / "nowhere.jsonl"])
    with pytest.raises(DataError, match="0 words"):
        Decontamination([], n=0)
    assert Decontamination([]).overlaps(["anything at all"]) == []


def test_half_a_surrogate_pair_is_text_like_any(tmp_path) -> None:
    found = evaluation(tmp_path, "x \ud800y z", "größe a b")
    assert found.overlaps(["größe a b"])


def test_real_evaluation_sets(lilith_data) -> None:
    """GSM8K's test questions are not among its training questions; its own are."""
    from lilith.data.chat_readers import read_conversations

    test = Decontamination([lilith_data / "gsm8k" / "test.jsonl.gz"])
    train = read_conversations(lilith_data / "gsm8k" / "train.jsonl.gz")
    hits = [
        record.where
        for record in train
        if test.overlaps(message["content"] for message in record.messages)
    ]
    assert len(hits) < 75  # a hundredth shares 13 words
    again = read_conversations(lilith_data / "gsm8k" / "test.jsonl.gz")
    assert all(test.overlaps([record.messages[0]["content"]]) for record in again)
