"""From sources to a corpus: duplicates, the split, the cache, the reports, the errors."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lilith.config import DataConfig, SourceConfig, TokenizerConfig
from lilith.data import CODE_MIXTURE, DataError, code_mixture, prepare
from lilith.data.gather import content_digest, is_held_out
from lilith.data.store import stage
from lilith.tokenizer import ByteTokenizer, TokenizerError

BYTES = ByteTokenizer()


def text_source(root, texts, name="t", **fields):
    root.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (root / file).write_text(text)
    return SourceConfig(name=name, kind="text", path=str(root), **fields)


def config_of(*sources, **fields):
    return DataConfig(**{"sources": sources, "length": 32, "validation_fraction": 0.3, **fields})


def numbered(count, tag=""):
    return {f"{tag}{i:02}.txt": f"document {tag} number {i}\n" for i in range(count)}


def sides(corpus):
    return set(corpus.train_texts()), set(corpus.validation_texts())


def test_every_document_is_on_one_side(tmp_path):
    texts = numbered(40)
    corpus = prepare(config_of(text_source(tmp_path / "d", texts)), BYTES, cache=tmp_path / "c")
    train, held_out = sides(corpus)
    assert train | held_out == set(texts.values())
    assert not train & held_out
    assert 4 < len(held_out) < 22
    (report,) = corpus.report.sources
    assert (report.documents, report.validation_documents) == (len(train), len(held_out))
    assert report.bytes == sum(map(len, train))
    assert report.rows == corpus.rows
    assert report.tokens == corpus.tokens == report.bytes + len(train)


def test_a_documents_side_does_not_depend_on_the_others(tmp_path):
    few, more = numbered(20), {**numbered(20), **numbered(50, "x")}
    small = prepare(config_of(text_source(tmp_path / "s", few)), BYTES, cache=tmp_path / "c")
    large = prepare(config_of(text_source(tmp_path / "l", more)), BYTES, cache=tmp_path / "c")
    for left, right in zip(sides(small), sides(large)):
        assert left <= right


def test_validation_text_is_capped_and_never_trained_on(tmp_path):
    texts = {f"{i:03}.txt": f"{i:04} " + "word " * 60 for i in range(100)}
    data = config_of(text_source(tmp_path / "d", texts), validation_kilobytes=2)
    corpus = prepare(data, BYTES, cache=tmp_path / "c")
    train, held_out = sides(corpus)
    assert 1500 < sum(map(len, held_out)) <= 2048
    assert corpus.report.unused == 100 - len(train) - len(held_out) > 10
    assert not any(is_held_out(content_digest(text), 0.3) for text in train)
    ordered = sorted(content_digest(text) for text in texts.values())
    assert {content_digest(text) for text in held_out} == set(ordered[: len(held_out)])


def test_duplicates_across_sources_and_white_space_are_removed(tmp_path):
    texts = numbered(20)
    spaced = {name: "\n\n" + text.replace(" ", "  \t") for name, text in texts.items()}
    first = text_source(tmp_path / "a", {**texts, "copy.txt": texts["03.txt"]}, "a")
    second = text_source(tmp_path / "b", {**spaced, "own.txt": "only here"}, "b")
    corpus = prepare(config_of(first, second), BYTES, cache=tmp_path / "c")
    train, held_out = sides(corpus)
    assert train | held_out == {*texts.values(), "only here"}
    assert [source.skipped for source in corpus.report.sources] == [
        {"duplicate": 1},
        {"duplicate": 20},
    ]
    assert corpus.report.sources[0].names["duplicate"][0].endswith("copy.txt")


def test_skipped_documents_are_counted_and_named(tmp_path):
    source = text_source(tmp_path / "d", {**numbered(20), "empty.txt": " \n"})
    (tmp_path / "d" / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "d" / "bad.txt.gz").write_bytes(b"nonsense")
    lines = tmp_path / "d" / "half.jsonl"
    lines.write_text(json.dumps({"text": "half \ud800"}) + "\n")
    half = SourceConfig(name="j", kind="jsonl", path=str(lines))
    corpus = prepare(config_of(source, half), BYTES, cache=tmp_path / "c")
    texts, json_lines = corpus.report.sources
    assert texts.skipped == {"empty": 1, "not UTF-8": 1, "unreadable": 1}
    assert json_lines.skipped == {"not UTF-8": 1}
    text = "\n".join(corpus.report.lines())
    assert "skipped 1 empty, 1 not UTF-8, 1 unreadable" in text
    assert "t: unreadable: " in text
    assert "bad.txt.gz" in text


def test_at_most_so_many_megabytes(tmp_path):
    texts = {f"{i:02}.txt": f"{i:02} " + "x" * 997 for i in range(50)}
    source = text_source(tmp_path / "d", texts, max_megabytes=0.02)
    train, held_out = sides(prepare(config_of(source), BYTES, cache=tmp_path / "c"))
    assert train | held_out == set(list(texts.values())[:20])


def test_an_absent_optional_source_is_left_out_and_reported(tmp_path):
    here = text_source(tmp_path / "d", numbered(20), "here", weight=0.2)
    gone = SourceConfig(name="gone", kind="text", path=str(tmp_path / "x"), optional=True)
    corpus = prepare(config_of(gone, here), BYTES, cache=tmp_path / "c")
    assert corpus.mixture == {"here": 1.0}
    assert "gone: left out, no corpus found" in corpus.report.lines()[0]
    required = dataclasses.replace(gone, optional=False)
    with pytest.raises(DataError, match=r"no corpus found for data source 'gone': .*optional=True"):
        prepare(config_of(required, here), BYTES, cache=tmp_path / "c")
    with pytest.raises(DataError, match="no corpus found: every data source is absent"):
        prepare(config_of(gone), BYTES, cache=tmp_path / "c")


def test_corpora_of_nothing_or_one_side_only(tmp_path):
    blank = text_source(tmp_path / "a", {"a.txt": " "})
    with pytest.raises(DataError, match=r"no corpus found: .* no document .*skipped 1 empty"):
        prepare(config_of(blank), BYTES, cache=tmp_path / "c")
    texts = numbered(3)
    source = text_source(tmp_path / "b", texts)
    with pytest.raises(DataError, match=r"none of the 3 documents .*raise data.valid"):
        prepare(config_of(source, validation_fraction=1e-9), BYTES, cache=tmp_path / "c")
    with pytest.raises(DataError, match=r"all 3 documents .* lower data.validation_fraction"):
        prepare(config_of(source, validation_fraction=1 - 1e-9), BYTES, cache=tmp_path / "c")


class TestCache:
    def prepare_counting(self, data, cache, tokenizer=BYTES, **fields):
        said = []
        corpus = prepare(
            data, tokenizer, cache=cache, progress=lambda *step: said.append(step[2]), **fields
        )
        return corpus, said

    def test_a_second_start_reads_nothing(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        first, said = self.prepare_counting(data, tmp_path / "c")
        assert any("reading" in message for message in said)
        second, said = self.prepare_counting(data, tmp_path / "c")
        assert said == []
        assert second.fingerprint == first.fingerprint
        assert sides(second) == sides(first)
        assert second.report == first.report

    def test_another_length_only_packs_anew(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        first, _ = self.prepare_counting(data, tmp_path / "c")
        longer, said = self.prepare_counting(dataclasses.replace(data, length=64), tmp_path / "c")
        assert said == []
        assert longer.length == 64
        assert longer.fingerprint != first.fingerprint

    def test_a_changed_file_is_noticed(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        first, _ = self.prepare_counting(data, tmp_path / "c")
        (tmp_path / "d" / "00.txt").write_text("something else altogether")
        second, said = self.prepare_counting(data, tmp_path / "c")
        assert said
        assert second.fingerprint != first.fingerprint

    def test_the_fingerprint_is_of_content_not_of_time(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        first, _ = self.prepare_counting(data, tmp_path / "c")
        os.utime(tmp_path / "d" / "00.txt", (1, 1))
        second, said = self.prepare_counting(data, tmp_path / "other")
        assert said
        assert second.fingerprint == first.fingerprint

    def test_resuming_opens_the_corpus_as_it_was(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        first, _ = self.prepare_counting(data, tmp_path / "c", TokenizerConfig(kind="bytes"))
        shutil.rmtree(tmp_path / "d")
        state = first.train_iterator(2, seed=0).state()
        again, said = self.prepare_counting(data, tmp_path / "c", resume=state["corpus"])
        assert said == []
        again.train_iterator(2, seed=0).restore(state)
        assert again.tokenizer.fingerprint == first.tokenizer.fingerprint
        with pytest.raises(DataError, match=r"in rows of 32 tokens, which the config no longer"):
            prepare(
                dataclasses.replace(data, length=16),
                BYTES,
                cache=tmp_path / "c",
                resume=state["corpus"],
            )

    def test_a_killed_build_leaves_nothing_that_looks_whole(self, tmp_path):
        data = config_of(text_source(tmp_path / "d", numbered(30)))

        def interrupt(done, total, message):
            if "tokenising" in message:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(data, BYTES, cache=tmp_path / "c", progress=interrupt)
        names = {path.name.split("-")[0] for path in (tmp_path / "c").iterdir()}
        assert names == {"texts", ".lock", ".building"}
        corpus = prepare(data, BYTES, cache=tmp_path / "c")
        assert not [path for path in (tmp_path / "c").iterdir() if ".building" in path.name]
        assert corpus.rows

    def test_cache_that_can_not_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        data = config_of(text_source(tmp_path / "d", numbered(30)))
        with pytest.raises(DataError, match=r"cache .* can not be written"):
            prepare(data, BYTES, cache=tmp_path / "file" / "c")

    def test_full_disk(self, tmp_path, monkeypatch):
        data = config_of(text_source(tmp_path / "d", numbered(30)))

        def no_space(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("lilith.data.store.StreamWriter.add", no_space)
        with pytest.raises(DataError, match="No space left on device; free some space"):
            prepare(data, BYTES, cache=tmp_path / "c")


def test_of_several_askers_at_once_one_builds(tmp_path):
    started, built = threading.Barrier(3), []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / "content").write_text("whole")

    def ask(_):
        started.wait(timeout=30)
        return (stage(tmp_path / "c", "x", "1", build) / "content").read_text()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == ["whole"] * 3
    assert len(built) == 1


PROCESS = """
import sys
from lilith.config import DataConfig, SourceConfig, TokenizerConfig
from lilith.data import prepare

source = SourceConfig(name="t", kind="code", path=sys.argv[1])
data = DataConfig(sources=(source,), length=32, validation_fraction=0.2)
said = []
corpus = prepare(
    data, TokenizerConfig(vocab=400), cache=sys.argv[2], progress=lambda *s: said.append(s)
)
print(corpus.fingerprint, corpus.tokenizer.fingerprint, bool(said))
"""


def test_two_processes_at_once_build_once_and_agree(tree, tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tree / "a"), str(tmp_path / "c")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=90) for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    first, second = (out.split() for out, _ in results)
    assert first[:2] == second[:2]
    assert len(list((tmp_path / "c").glob("texts-*"))) == 1
    assert not list((tmp_path / "c").glob(".building*"))


class TestTokenizer:
    def test_trained_on_the_training_side_and_kept(self, config, tmp_path):
        wanted = TokenizerConfig(vocab=400)
        corpus = prepare(config, wanted, cache=tmp_path / "c")
        assert corpus.tokenizer.vocab_size == 400
        again = prepare(config, wanted, cache=tmp_path / "other")
        assert again.tokenizer.fingerprint == corpus.tokenizer.fingerprint
        assert again.fingerprint == corpus.fingerprint
        texts = list(corpus.validation_texts())
        held_out = corpus.validation(4)
        assert held_out.bytes == sum(len(text.encode()) for text in texts)
        by_token = corpus.validation(4, limit_rows=len(corpus.validation_rows) - 1)
        assert 0 < by_token.bytes < held_out.bytes

    def test_bits_per_byte_of_all_rows_equals_the_texts(self, config, tmp_path):
        # The sum of the bytes of all target tokens is the size of the text.
        corpus = prepare(config, TokenizerConfig(vocab=400), cache=tmp_path / "c")
        lengths = corpus.tokenizer.byte_lengths()
        total = sum(
            lengths[batch["targets"][batch["loss_mask"] > 0]].sum()
            for batch in corpus.validation(4)
        )
        assert total == corpus.validation(4).bytes

    def test_loaded_from_a_path(self, config, tmp_path):
        BYTES.save(tmp_path / "saved")
        wanted = TokenizerConfig(kind="bytes", path=str(tmp_path / "saved"))
        corpus = prepare(config, wanted, cache=tmp_path / "c")
        assert corpus.tokenizer.fingerprint == BYTES.fingerprint
        wrong = TokenizerConfig(kind="sentencepiece", path=str(tmp_path / "saved"))
        with pytest.raises(DataError, match="holds one of kind 'bytes'"):
            prepare(config, wrong, cache=tmp_path / "c")

    def test_too_little_text(self, config, tmp_path):
        with pytest.raises(TokenizerError, match=r"vocab is 32000, .*too small"):
            prepare(config, TokenizerConfig(vocab=32_000), cache=tmp_path / "c")


class TestCodeMixture:
    def test_the_default_shares(self):
        sources = code_mixture(
            code="/c", books="/b", encyclopaedia="/e.jsonl", papers="/p.jsonl", web="/w.jsonl"
        )
        assert {source.name: source.weight for source in sources} == CODE_MIXTURE
        assert sum(CODE_MIXTURE.values()) == pytest.approx(1.0)
        assert [source.kind for source in sources] == ["code", "text", "jsonl", "jsonl", "jsonl"]
        assert all(source.optional for source in sources)

    def test_absent_parts_are_renormalised_and_reported(self, tree, tmp_path):
        text_source(tmp_path / "books", numbered(20))
        sources = code_mixture(
            code=SourceConfig(kind="code", path=str(tree / "a")),
            books=str(tmp_path / "books"),
            web=str(tmp_path / "absent"),
        )
        corpus = prepare(config_of(*sources), BYTES, cache=tmp_path / "c")
        assert corpus.mixture == pytest.approx({"code": 0.75, "books": 0.25})
        assert "web: left out" in corpus.report.lines()[-1]

    def test_unknown_or_no_part(self):
        with pytest.raises(DataError, match=r"'boks' \(did you mean 'books'\?\)"):
            code_mixture(boks="/b")
        with pytest.raises(DataError, match="mixture is empty"):
            code_mixture()


def test_the_default_corpus(tmp_path):
    """The whole path on real text, at the length of the default run."""
    corpus = prepare(
        DataConfig(length=512), TokenizerConfig(train_megabytes=2.0), cache=tmp_path / "c"
    )
    assert corpus.mixture == pytest.approx({"stdlib": 0.9, "package_docs": 0.1})
    assert corpus.waste < 0.03
    assert corpus.report.sources[0].bytes > 20e6
    total = sum(source.bytes for source in corpus.report.sources)
    assert total / corpus.tokens > 3.2
    texts = list(corpus.validation_texts())
    assert texts
    ids = corpus.tokenizer.encode_batch(texts)
    assert [corpus.tokenizer.decode(one) for one in ids] == texts
    again = prepare(
        DataConfig(length=512), TokenizerConfig(train_megabytes=2.0), cache=tmp_path / "c"
    )
    assert again.fingerprint == corpus.fingerprint


def test_other_real_text(lilith_data, tmp_path):
    sources = (
        SourceConfig(name="books", kind="text", path=str(lilith_data / "books_gutenberg")),
        SourceConfig(
            name="papers", kind="jsonl", path=str(lilith_data / "latex_math" / "*.jsonl.gz")
        ),
    )
    data = config_of(*sources, validation_fraction=0.02, length=256, max_document_kilobytes=256)
    corpus = prepare(data, BYTES, cache=tmp_path / "c")
    assert all(source.documents for source in corpus.report.sources)
    assert corpus.waste < 0.03
