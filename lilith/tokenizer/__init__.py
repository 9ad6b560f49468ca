"""Text to tokens and back: one protocol, three kinds.

SentencePiece models trained here, Hugging Face tokenizers, and raw bytes. For each of them
``decode(encode(text)) == text``, and text never becomes a special token unless the caller says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lilith.tokenizer import hugging_face, sentence_piece
from lilith.tokenizer.base import META_FILE, TableTokenizer, Tokenizer, TokenizerError
from lilith.tokenizer.byte import ByteTokenizer
from lilith.tokenizer.hugging_face import HuggingFaceTokenizer
from lilith.tokenizer.sentence_piece import SentencePieceTokenizer, train_sentencepiece

__all__ = [
    "Tokenizer",
    "TokenizerError",
    "ByteTokenizer",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "load_tokenizer",
    "train_sentencepiece",
]


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a tokenizer from a folder that ``save`` wrote, or from a Hugging Face one.

    Args:
      path: a saved folder, a ``tokenizer.json``, a folder with one, or a SentencePiece ``.model``
        trained by LILITH. ``~`` is the home folder.

    Raises:
      TokenizerError: nothing is there, or it can not be read as a tokenizer.
    """
    path = Path(path).expanduser()
    if (path / META_FILE).is_file():
        return _load_saved(path)
    if path.suffix == ".json" or (path / hugging_face.MODEL_FILE).is_file():
        return HuggingFaceTokenizer.from_path(path)
    if path.suffix == ".model" or (path / sentence_piece.MODEL_FILE).is_file():
        file = path / sentence_piece.MODEL_FILE if path.is_dir() else path
        return SentencePieceTokenizer(_read_bytes(file))
    raise TokenizerError(
        f"no tokenizer found at {path}: expected a folder with {META_FILE}, "
        f"{hugging_face.MODEL_FILE} or {sentence_piece.MODEL_FILE}, or one of the latter two files"
    )


def _load_saved(folder: Path) -> Tokenizer:
    try:
        meta: dict[str, Any] = json.loads(_read_bytes(folder / META_FILE))
        kind, size = meta["kind"], meta["vocab_size"]
    except (ValueError, KeyError) as error:
        raise TokenizerError(f"{folder / META_FILE} is damaged: {error}") from None
    tokenizer: TableTokenizer
    if kind == SentencePieceTokenizer.kind:
        tokenizer = SentencePieceTokenizer(_read_bytes(folder / sentence_piece.MODEL_FILE))
    elif kind == HuggingFaceTokenizer.kind:
        text = _read_bytes(folder / hugging_face.MODEL_FILE).decode("utf-8", errors="replace")
        frame = {role: meta.get(role) for role in ("bos", "eos", "pad")}
        tokenizer = HuggingFaceTokenizer(text, **frame)
    elif kind == ByteTokenizer.kind:
        tokenizer = ByteTokenizer()
    else:
        raise TokenizerError(f"{folder / META_FILE} names an unknown kind of tokenizer: {kind!r}")
    if tokenizer.vocab_size != size:
        raise TokenizerError(
            f"{folder} was saved with {size} tokens but its model has {tokenizer.vocab_size}; "
            "its files do not belong together"
        )
    return tokenizer


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TokenizerError(f"the tokenizer file {file} can not be read: {error}") from None
