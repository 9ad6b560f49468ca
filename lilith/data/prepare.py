"""From a config to a corpus: documents read once, tokenised once, packed once, kept in a cache.

Each stage is a folder of the cache named by a hash of all it depends on: texts, tokenizer, tokens,
rows. A second start with the same inputs finds them; another row length only packs anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lilith.config import DataConfig, SourceConfig, TokenizerConfig
from lilith.config_parsing import to_dict
from lilith.data.corpus import Corpus
from lilith.data.files import expand
from lilith.data.gather import VALIDATION, Progress, gather, source_folder
from lilith.data.mixture import shares
from lilith.data.packing import PackedRows, pack
from lilith.data.report import AbsentSource, DataError, PrepareReport, SourceReport
from lilith.data.sources import Source, open_source
from lilith.data.store import (
    StreamWriter,
    Texts,
    in_batches,
    key_of,
    read_json,
    stage,
    write_json,
)
from lilith.storage import at_the_top, is_local, local_copy
from lilith.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer, train_sentencepiece

_FORMAT = 1  # raise when the layout of the cache or the meaning of its content changes
_TOKENISED_AT_ONCE = 4_000_000  # bytes of text
_TOKENIZER_FILES = (".json", ".model")
_SAMPLE_ORDER = 7  # seed of the order in which documents are drawn for the tokenizer's training


def prepare(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    *,
    cache: str | Path,
    resume: str | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Read, deduplicate, split, tokenise and pack a corpus, or find it prepared in ``cache``.

    Args:
      data: sources, row length, split and limits. ``data.cache`` is not looked at.
      tokenizer: which tokenizer to load or train (on a sample of the training texts), or one that
        exists already.
      cache: folder that keeps the results; may be shared by processes that prepare at once.
      resume: fingerprint of the corpus that a checkpoint was trained on (its data state's
        "corpus"). While the cache holds that corpus it is opened as it was, whatever has become of
        the sources since; otherwise everything is prepared as if this were not given.
      progress: called with (done, total, what) as work goes on.

    Raises:
      DataError: a required source is absent, no document is left on one of the two sides, or the
        cache can not be written.
      TokenizerError: the tokenizer can not be loaded, or not be trained on so little text.
      StorageError: a path is in a bucket that can not be read.
    """
    progress = progress or _no_progress
    cache = Path(cache).expanduser().resolve()
    if resume is not None and (finished := cache / f"corpus-{resume}").is_dir():
        return _open_corpus(data, cache, finished)
    if isinstance(tokenizer, TokenizerConfig) and tokenizer.path:
        tokenizer = _load(tokenizer)  # first: a wrong path need not wait for the texts
    sources = [_open(config, data) for config in data.sources]
    present = [source for source in sources if isinstance(source, Source)]
    if not present:
        absent = "; ".join(s.absent for s in sources if isinstance(s, SourceReport))
        raise DataError(f"no corpus found: every data source is absent ({absent})")

    texts_key = key_of(_FORMAT, _texts_identity(data), [source.signature() for source in present])
    texts = stage(cache, "texts", texts_key, lambda folder: gather(sources, data, folder, progress))
    report = PrepareReport.from_dict(read_json(texts / "report.json"))
    _require_both_sides(report, data)

    chosen = _tokenizer(tokenizer, data, report, texts, cache, progress)
    tokens_key = key_of(texts_key, chosen.fingerprint)
    tokens = stage(
        cache, "tokens", tokens_key, lambda folder: _tokenise(texts, chosen, folder, progress)
    )
    rows_key = key_of(tokens_key, data.length)
    rows = stage(cache, "rows", rows_key, lambda folder: _pack(tokens, data.length, folder))

    names, content = [source.name for source in data.sources], read_json(texts / "content.json")
    fingerprint = key_of(names, content, chosen.fingerprint, data.length)

    def conclude(folder: Path) -> None:
        chosen.save(folder / "tokenizer")
        stages = {"texts": texts.name, "tokens": tokens.name, "rows": rows.name}
        write_json(folder / "corpus.json", {"fingerprint": fingerprint, "stages": stages})

    return _open_corpus(data, cache, stage(cache, "corpus", fingerprint, conclude))


def _no_progress(done: int, total: int, message: str) -> None:
    """Say nothing."""


def _open(config: SourceConfig, data: DataConfig) -> Source | SourceReport:
    try:
        return open_source(config, data)
    except AbsentSource as error:
        if not config.optional:
            raise DataError(
                f"{error}; or set optional=True for the source to be left out"
            ) from None
        return SourceReport(config.name, config.kind, absent=str(error))


def _texts_identity(data: DataConfig) -> dict[str, Any]:
    """The part of the config that decides which texts are kept and where."""
    plain = to_dict(data)
    for field in ("length", "workers", "cache"):
        del plain[field]
    for source in plain["sources"]:
        del source["weight"]
    return plain


def _require_both_sides(report: PrepareReport, data: DataConfig) -> None:
    """Raise a DataError unless there is text to train on and text to validate on."""
    train = sum(source.documents for source in report.sources)
    held_out = sum(source.validation_documents for source in report.sources)
    if not train + held_out + report.unused:
        raise DataError(
            "no corpus found: the data sources hold no document that can be used; "
            + "; ".join(source.sentence() for source in report.sources)
        )
    if not train:
        raise DataError(
            f"all {held_out + report.unused} documents of the corpus fell to the validation side; "
            f"lower data.validation_fraction ({data.validation_fraction}) or add documents"
        )
    if not held_out:
        raise DataError(
            f"none of the {train + report.unused} documents of the corpus is left to validate on; "
            f"raise data.validation_fraction ({data.validation_fraction}) or "
            f"data.validation_kilobytes ({data.validation_kilobytes}), add documents, or lower "
            f"data.max_document_kilobytes ({data.max_document_kilobytes}) to cut long texts into "
            "more of them"
        )


def _source_shares(data: DataConfig, amounts: dict[str, int]) -> dict[str, float]:
    return shares({source.name: source.weight for source in data.sources}, amounts)


def _tokenizer(
    wanted: TokenizerConfig | Tokenizer,
    data: DataConfig,
    report: PrepareReport,
    texts: Path,
    cache: Path,
    progress: Progress,
) -> Tokenizer:
    """The tokenizer itself, or trained on a sample of the training texts."""
    if not isinstance(wanted, TokenizerConfig):
        return wanted
    if wanted.kind == ByteTokenizer.kind:
        return ByteTokenizer()
    by_share = _source_shares(data, {source.name: source.bytes for source in report.sources})

    def build(folder: Path) -> None:
        progress(0, 1, f"training a tokenizer of {wanted.vocab:,} pieces")
        sample = _sample(data, texts, by_share, int(wanted.train_megabytes * 1e6))
        train_sentencepiece(sample, wanted, folder)
        progress(1, 1, "tokenizer trained")

    key = key_of(texts.name, to_dict(wanted), by_share)
    return load_tokenizer(stage(cache, "tokenizer", key, build))


def _load(wanted: TokenizerConfig) -> Tokenizer:
    """The tokenizer at ``wanted.path``, on this machine or in a bucket."""
    path, name = expand(wanted.path), ""
    if not is_local(path) and path.endswith(_TOKENIZER_FILES):
        path, _, name = path.rpartition("/")  # files beside it may say which tokens end a document
    with local_copy(path, lambda f: at_the_top(f) and f.endswith(_TOKENIZER_FILES)) as here:
        loaded = load_tokenizer(here / name)
    if loaded.kind != wanted.kind:
        raise DataError(
            f"tokenizer.kind is {wanted.kind!r}, but {wanted.path} holds one of kind "
            f"{loaded.kind!r}; change one of them"
        )
    return loaded


def _sample(data: DataConfig, texts: Path, by_share: dict[str, float], size: int) -> Iterator[str]:
    """Training documents of about ``size`` bytes: of each source its share, in a fixed order."""
    for index, source in enumerate(data.sources):
        documents = Texts(texts / source_folder(index))
        room = size * by_share.get(source.name, 0.0)
        for raw in documents.get(np.random.default_rng(_SAMPLE_ORDER).permutation(len(documents))):
            if room <= 0:
                break
            room -= len(raw)
            yield raw.decode()


def _tokenise(texts: Path, tokenizer: Tokenizer, folder: Path, progress: Progress) -> None:
    """Write each document of each folder of texts as ``[bos] tokens [eos]``."""
    folders = sorted(path.name for path in texts.iterdir() if path.is_dir())
    total = sum(int(Texts(texts / name).offsets[-1]) for name in folders)
    dtype = _dtype(tokenizer)
    done = 0
    for name in folders:
        writer = StreamWriter(folder / name)
        for documents in in_batches(Texts(texts / name), _TOKENISED_AT_ONCE):
            progress(done, total, f"tokenising {total / 1e6:.1f} MB")
            for ids in tokenizer.encode_batch([raw.decode() for raw in documents]):
                framed = np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]])
                writer.add(framed.astype(dtype))
            done += sum(len(raw) for raw in documents)
        writer.close()
    progress(total, total, "text tokenised")


def _dtype(tokenizer: Tokenizer) -> str:
    return "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"


def _pack(tokens: Path, length: int, folder: Path) -> None:
    for stream in tokens.iterdir():
        (folder / stream.name).mkdir()
        pack(np.load(stream / "offsets.npy"), length).save(folder / stream.name)
    write_json(folder / "rows.json", {"length": length})


def _open_corpus(data: DataConfig, cache: Path, folder: Path) -> Corpus:
    """Open a corpus whose stages are all finished."""
    finished = read_json(folder / "corpus.json")
    texts, tokens, rows = (cache / finished["stages"][name] for name in ("texts", "tokens", "rows"))
    if not all(stage_folder.is_dir() for stage_folder in (texts, tokens, rows)):
        raise DataError(
            f"the data cache {cache} has lost a part; delete the folder and start again"
        )
    tokenizer = load_tokenizer(folder / "tokenizer")
    report = PrepareReport.from_dict(read_json(texts / "report.json"))
    length = read_json(rows / "rows.json")["length"]
    names = [source.name for source in report.sources]
    if (names, length) != ([source.name for source in data.sources], data.length):
        raise DataError(
            f"the run was started on data sources {', '.join(names)} in rows of {length} tokens, "
            "which the config no longer says; set them back or start in a new --workdir"
        )

    def open_rows(name: str) -> PackedRows:
        file = tokens / name / "items.bin"
        return PackedRows(file, _dtype(tokenizer), rows / name, length, tokenizer.pad_id)

    opened = {name: open_rows(source_folder(index)) for index, name in enumerate(names)}
    mixture = _source_shares(data, {name: len(found) for name, found in opened.items()})
    for source in report.sources:
        source.rows = len(opened[source.name])
        source.tokens = int(opened[source.name].packing.lengths.sum(dtype=np.int64))
        source.share = mixture.get(source.name, 0.0)
    return Corpus(
        tokenizer=tokenizer,
        report=report,
        fingerprint=finished["fingerprint"],
        mixture=mixture,
        length=length,
        train_rows=[(name, opened[name]) for name in mixture],
        validation_rows=open_rows(VALIDATION),
        train_documents=[Texts(texts / source_folder(i)) for i in range(len(names))],
        validation_documents=Texts(texts / VALIDATION),
    )
