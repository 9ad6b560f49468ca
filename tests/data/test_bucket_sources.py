"""Data in a bucket: found as in a folder, read as from a disk, and never half of a file."""

from __future__ import annotations

import gzip
import json
import pathlib
import tempfile

import pytest
import tokenizers
from fake_bucket import URL, FakeBucket

from lilith.config import DataConfig, SourceConfig, TokenizerConfig
from lilith.data import prepare
from lilith.data.files import find_files, open_lines, size_and_time
from lilith.data.report import DataError
from lilith.storage import StorageError, remote
from lilith.tokenizer import ByteTokenizer, Tokenizer, TokenizerError, load_tokenizer

NAMES = (
    "a/one.txt", "a/two.md", "a/.hidden/three.txt", "a/node_modules/four.txt", "a/b/five.txt",
    "a/env/pyvenv.cfg", "a/env/six.txt", "a/b/c/.seven.txt", "eight.txt", "a.txt",
)  # fmt: skip
EVERY = ("", "/a", "/a/", "/a/one.txt", "/*", "/*.txt", "/a/*", "/a/*.txt", "/**/*.txt", "/a/**",
         "/a/b", "/?", "/a/none", "/none*", "/a/.hidden", "/a/.hidden/*", "/a/.*/*")  # fmt: skip


@pytest.mark.parametrize("where", EVERY)
def test_the_same_files_are_found_as_in_a_folder(
    bucket: FakeBucket, tmp_path: pathlib.Path, where: str
) -> None:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        bucket.put(name, b"x")
    wanted = lambda name: name.endswith(".txt")  # noqa: E731
    here = [str(path.relative_to(tmp_path)) for path in find_files(f"{tmp_path}{where}", wanted)]
    there = [str(path).removeprefix(f"{URL}/") for path in find_files(f"{URL}{where}", wanted)]
    assert there == here


def test_a_corpus_of_a_bucket_is_that_of_the_same_files(
    bucket: FakeBucket, tmp_path: pathlib.Path
) -> None:
    lines = [json.dumps({"text": f"the document number {i} of many"}) for i in range(60)]
    contents = {
        "corpus/a.jsonl": "\n".join(lines[:30]).encode(),
        "corpus/b.jsonl.gz": gzip.compress("\n".join(lines[30:]).encode()),
    }
    for name, data in contents.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        bucket.put(name, data)

    def corpus_at(path: str):
        data = DataConfig(
            sources=(SourceConfig(name="own", kind="jsonl", path=path),), length=32,
            validation_fraction=0.2,
        )  # fmt: skip
        return prepare(data, TokenizerConfig(kind="bytes"), cache=tmp_path / "cache")

    there, here = corpus_at(f"{URL}/corpus"), corpus_at(str(tmp_path / "corpus"))
    assert there.fingerprint == here.fingerprint
    assert there.report.sources[0].documents == here.report.sources[0].documents > 40
    bucket.put("corpus/a.jsonl", b'{"text": "changed"}\n')
    assert corpus_at(f"{URL}/corpus").fingerprint != there.fingerprint


def test_a_tokenizer_of_a_bucket_is_that_of_the_same_files(
    bucket: FakeBucket, tmp_path: pathlib.Path
) -> None:
    """A folder that was saved, and a tokenizer.json with what stands beside it."""
    bucket.put("corpus.txt", b"\n\n".join(b"paragraph %d of the text" % i for i in range(4000)))
    source = SourceConfig(name="own", kind="text", path=f"{URL}/corpus.txt")
    data = DataConfig(
        sources=(source,), length=32, validation_fraction=0.2, max_document_kilobytes=4
    )
    written = tokenizers.Tokenizer(tokenizers.models.BPE())
    written.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    written.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=["<s>", "</s>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    written.train_from_iterator(["some text to learn pairs from"], trainer)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    written.save(str(theirs / "tokenizer.json"))
    (theirs / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    ByteTokenizer().save(tmp_path / "own")
    for name in ("own", "theirs"):
        for path in (tmp_path / name).iterdir():
            bucket.put(f"{name}/{path.name}", path.read_bytes())
    bucket.put("theirs/model.safetensors", b"big")

    def tokenizer_at(path: str, kind: str) -> Tokenizer:
        wanted = TokenizerConfig(kind=kind, path=path)
        return prepare(data, wanted, cache=tmp_path / "cache").tokenizer

    for name, kind in (
        ("own", "bytes"), ("theirs", "huggingface"), ("theirs/tokenizer.json", "huggingface"),
    ):  # fmt: skip
        there = tokenizer_at(f"{URL}/{name}", kind)
        assert there.fingerprint == load_tokenizer(tmp_path / name).fingerprint, name
        if kind == "huggingface":
            assert there.eos_id == there.special_tokens["</s>"]  # as the file beside it says
    assert "read theirs/model.safetensors" not in bucket.calls


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("gs://no-such-bucket/t", StorageError, "can not be read: there is no such bucket or ob"),
        (f"{URL}/none", StorageError, "can not be read: there is no such bucket or object; check"),
        (f"{URL}/t/none.json", TokenizerError, "can not be read"),
        (
            f"{URL}/corpus",
            TokenizerError,
            "no tokenizer found at .*: expected a folder with",
        ),
        (f"{URL}/damaged", TokenizerError, r"damaged/lilith_tokenizer.json is damaged: "),
        (f"{URL}/t", DataError, "kind is 'huggingface', but .* holds one of kind 'bytes'"),
        ("s3://tests/t", StorageError, "is no path that can be used; give gs://BUCKET/NAME"),
    ],
)
def test_a_tokenizer_that_can_not_be_had_ends_before_the_texts_are_read(
    bucket: FakeBucket, tmp_path: pathlib.Path, path: str, error: type[Exception], words: str
) -> None:
    bucket.put("corpus/a.txt", b"text")
    bucket.put("damaged/lilith_tokenizer.json", b"{")
    ByteTokenizer().save(tmp_path / "t")
    bucket.put("t/lilith_tokenizer.json", (tmp_path / "t/lilith_tokenizer.json").read_bytes())
    source = SourceConfig(name="own", kind="text", path=f"{URL}/corpus")
    wanted = TokenizerConfig(kind="huggingface", path=path)
    with pytest.raises(error, match=words) as caught:
        prepare(DataConfig(sources=(source,)), wanted, cache=tmp_path / "cache")
    assert path in str(caught.value)
    assert tempfile.gettempdir() not in str(caught.value)
    assert "read corpus/a.txt" not in bucket.calls
    assert not (tmp_path / "cache").exists()


def test_conversations_of_a_bucket(bucket: FakeBucket) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    bucket.put("chat.jsonl.gz", gzip.compress(json.dumps(record).encode()))
    with open_lines(find_files(f"{URL}/chat.jsonl.gz", bool)[0]) as stream:
        assert json.loads(stream.read()) == record


def test_records_of_a_shard_in_a_bucket(bucket: FakeBucket, tmp_path: pathlib.Path) -> None:
    from array_record.python import array_record_module

    shard = tmp_path / "x.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
    for i in range(40):
        writer.write(f"text number {i} of the shard".encode())
    writer.close()
    bucket.put(shard.name, shard.read_bytes())
    source = SourceConfig(name="own", kind="array_record", path=f"{URL}/*.array_record*")
    data = DataConfig(sources=(source,), length=32, validation_fraction=0.2)
    corpus = prepare(data, TokenizerConfig(kind="bytes"), cache=tmp_path / "cache")
    report = corpus.report.sources[0]
    assert report.documents + report.validation_documents + corpus.report.unused == 40


def test_a_read_that_fails_ends_in_words_and_gives_no_half_of_a_file(bucket: FakeBucket) -> None:
    bucket.put("a.txt", b"line\n" * 2_000_000)
    (file,) = find_files(f"{URL}/a.txt", bool)
    with open_lines(file) as stream:
        assert stream.readline() == b"line\n"
        bucket.refused.add("read")
        with pytest.raises(StorageError, match=r"a.txt can not be read: .* access; check its name"):
            for _ in stream:
                pass
    bucket.refused.add("list")
    with pytest.raises(StorageError, match=r"a\.txt can not be read"):
        size_and_time(file)
    with pytest.raises(StorageError, match=f"{URL}/corpus can not be read: Anonymous caller"):
        find_files(f"{URL}/corpus", bool)


@pytest.mark.parametrize("path", ["s3://bucket/x", "gs://", "gs:///x", "gs://UPPER/x", "gs://b//x"])
def test_a_path_that_is_none_is_one_sentence(path: str) -> None:
    with pytest.raises(StorageError, match="is no path that can be used; give gs://BUCKET/NAME"):
        find_files(path, bool)


def test_without_gcsfs_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import lilith.storage

    lilith.storage._file_system.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(StorageError, match=r"not installed \(gcsfs\): pip install 'lilith\[gcs\]'"):
        remote(f"{URL}/x")


def test_a_dataset_that_must_be_mapped_is_refused(tmp_path: pathlib.Path) -> None:
    source = SourceConfig(name="web", kind="tfds", path=f"{URL}/c4")
    with pytest.raises(DataError, match=r"'web' of kind 'tfds' is gs://tests/c4.*copy it"):
        prepare(DataConfig(sources=(source,)), TokenizerConfig(kind="bytes"), cache=tmp_path)
