"""SentencePiece models trained by LILITH: byte fallback, single digits, exact whitespace."""

from __future__ import annotations

import io
import os
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece

from lilith.config import TokenizerConfig
from lilith.tokenizer.base import BOS, CHAT_TOKENS, EOS, PAD, TableTokenizer, TokenizerError

MODEL_FILE = "tokenizer.model"
_UNKNOWN = "<unk>"  # SentencePiece asks for one; with byte fallback no text becomes it
_SPACE = "\u2581"  # how SentencePiece writes a space inside a piece
# The trainer keeps these for itself (its marks for a space and for the unknown, and the C string
# end); they are encoded as bytes, so it need not see them.
_RESERVED = str.maketrans(dict.fromkeys(f"{_SPACE}\u2585\0", " "))
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_TRAIN_CHUNK = 16_384  # characters the trainer sees as one sentence
_TRAIN_THREADS = 4  # fixed: unigram sums its counts by thread, and must not depend on the machine
_PROBE = "  a\n\n\tb  \r\n0\u00bd \ufb01"  # what SentencePiece's usual normalisation would change


class SentencePieceTokenizer(TableTokenizer):
    """A SentencePiece model that keeps text exactly.

    Args:
      model: a serialised SentencePiece model, as :func:`train_sentencepiece` makes it.

    Raises:
      TokenizerError: the model is damaged, or it normalises text (models of other projects do).
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TokenizerError(f"this is not a SentencePiece model: {error}") from None
        self._model, self._processor = model, processor
        size = processor.vocab_size()
        written = [processor.id_to_piece(i) for i in range(size)]
        special = {
            written[i]: i for i in range(size) if processor.is_control(i) or processor.is_unknown(i)
        }
        if not {BOS, EOS, PAD} <= special.keys():
            raise TokenizerError(
                f"the SentencePiece model has no {BOS}, {EOS} and {PAD}, so LILITH did not train "
                "it; convert it to a Hugging Face tokenizer.json and use kind 'huggingface'"
            )
        pieces = [
            _byte_of(text) if processor.is_byte(i) else text.replace(_SPACE, " ").encode()
            for i, text in enumerate(written)
        ]
        super().__init__(pieces, special, bos=special[BOS], eos=special[EOS], pad=special[PAD])
        self._space_ids = [processor.piece_to_id(f"<0x{b:02X}>") for b in _SPACE.encode()]
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise TokenizerError(
                "the SentencePiece model normalises text or has no byte fallback, so decoding "
                "would not give the text back; train one with LILITH"
            )

    def _encode_text(self, text: str) -> list[int]:
        if _SPACE not in text:
            return self._processor.encode(text.encode())
        ids: list[int] = []
        for i, part in enumerate(text.split(_SPACE)):
            ids += (self._space_ids if i else []) + self._processor.encode(part.encode())
        return ids

    def _encode_texts(self, texts: list[str]) -> list[np.ndarray]:
        # A text with a literal space mark takes the slow path; there is about one in a thousand.
        plain = [text.encode() for text in texts if _SPACE not in text]
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        encoded = iter(self._processor.encode(plain, return_type="numpy", num_threads=threads))
        return [
            next(encoded) if _SPACE not in text else np.array(self._encode_text(text), np.int32)
            for text in texts
        ]

    def _model_bytes(self) -> bytes:
        return self._model

    def _save_model(self, directory: Path) -> None:
        (directory / MODEL_FILE).write_bytes(self._model)


def train_sentencepiece(
    texts: Iterable[str], config: TokenizerConfig, directory: str | Path | None = None
) -> SentencePieceTokenizer:
    """Train a SentencePiece model on ``texts`` and, given a ``directory``, save it there.

    The same texts in the same order give the same model on any machine. Digits stay single tokens,
    spaces and newlines are kept exactly, runs of spaces get tokens of their own, and characters
    too rare for a token are spelt in bytes.

    Raises:
      TokenizerError: the vocabulary is too small for the bytes and special tokens, or too large
        for the text there is.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chunks(texts),
            model_writer=model,
            vocab_size=config.vocab,
            model_type=config.algorithm,
            byte_fallback=True,
            split_digits=True,
            split_by_unicode_script=False,  # so that `):` or `__init__` can be one token
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            character_coverage=0.9995,
            required_chars="".join(sorted(set(string.printable) - set(" \r\x0b\x0c"))),
            max_sentencepiece_length=32,
            max_sentence_length=8 * _TRAIN_CHUNK,  # bytes; longer ones would be left out
            num_threads=_TRAIN_THREADS,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            unk_piece=_UNKNOWN,
            bos_piece=BOS,
            eos_piece=EOS,
            pad_piece=PAD,
            control_symbols=list(CHAT_TOKENS),
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _training_error(str(error), config) from None
    tokenizer = SentencePieceTokenizer(model.getvalue())
    if directory is not None:
        tokenizer.save(directory)
    return tokenizer


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        text = text.translate(_RESERVED)
        for start in range(0, len(text), _TRAIN_CHUNK):
            yield text[start : start + _TRAIN_CHUNK]


def _training_error(message: str, config: TokenizerConfig) -> TokenizerError:
    """SentencePiece's own words, turned into what happened and what to do."""
    at_most = re.search(r"set it to a value <= (\d+)", message)
    if at_most:
        return TokenizerError(
            f"tokenizer.vocab is {config.vocab}, but the text is too small for more than "
            f"{at_most.group(1)} tokens; lower tokenizer.vocab to that, or give more text"
        )
    at_least = re.search(r"(\d+) vs (\d+)", message)
    if at_least:
        return TokenizerError(
            f"tokenizer.vocab is {config.vocab}, but bytes, special tokens and single characters "
            f"alone take {at_least.group(2)}; raise tokenizer.vocab above that"
        )
    if "sentences_.empty()" in message:
        return TokenizerError("there is no text to train a tokenizer on; add a data source")
    return TokenizerError(f"SentencePiece could not train a tokenizer: {message}")


def _byte_of(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    if match is None:
        raise TokenizerError(f"the SentencePiece model has a byte token written {piece!r}")
    return bytes([int(match.group(1), 16)])
