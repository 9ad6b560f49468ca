"""The tokenizer protocol, and what its three kinds share: special tokens and exact decoding.

Every kind is lossless on text because each token id stands for fixed bytes: decoding joins the
bytes of the ids, and only the finished bytes are read as UTF-8.
"""

from __future__ import annotations

import abc
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lilith.config import UserError

BOS = "<|bos|>"
EOS = "<|endoftext|>"
PAD = "<|pad|>"
CHAT_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
META_FILE = "lilith_tokenizer.json"


class TokenizerError(UserError):
    """A tokenizer can not be trained or loaded, or is given what it can not encode or decode."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back. Ids run from 0 to ``vocab_size - 1``."""

    @property
    def kind(self) -> str:
        """sentencepiece, huggingface or bytes."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are; a model's vocabulary must be at least as large."""

    @property
    def bos_id(self) -> int:
        """Starts every document."""

    @property
    def eos_id(self) -> int:
        """Ends every document."""

    @property
    def pad_id(self) -> int:
        """Fills the end of a row; carries no loss."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that text never becomes unless the caller says so, by their written form."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal for equal tokenizers, on every machine."""

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Token ids of ``text``; with ``allow_special`` written special tokens become theirs."""

    def encode_after_special(self, text: str) -> list[int]:
        """Token ids of ``text`` that follows a special token: no first word of a text in it."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array of ids a text, in order, on all cores; no special tokens."""

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The bytes ``ids`` stand for, exactly."""

    def byte_lengths(self) -> np.ndarray:
        """Int32 [vocab_size]: how many bytes of text each id stands for; 0 for special tokens."""

    def save(self, directory: str | Path) -> None:
        """Write all that :func:`lilith.load_tokenizer` needs into ``directory``."""


class TableTokenizer(abc.ABC):
    """A tokenizer whose ids each stand for fixed bytes.

    Args:
      pieces: the bytes of each id; ignored at the ids of special tokens.
      special_tokens: written form to id. May not be empty.
      bos, eos, pad: ids of the three tokens that frame documents.
    """

    kind: str

    def __init__(
        self,
        pieces: Sequence[bytes],
        special_tokens: Mapping[str, int],
        *,
        bos: int,
        eos: int,
        pad: int,
    ) -> None:
        table = list(pieces)
        for text, index in special_tokens.items():
            table[index] = text.encode()
        self._table = table
        self._special = dict(special_tokens)
        self._special_ids = frozenset(special_tokens.values())
        # Longest first, so that one special token may be the beginning of another.
        written = sorted(special_tokens, key=lambda text: (-len(text), text))
        self._special_pattern = re.compile("|".join(map(re.escape, written)))
        self.bos_id, self.eos_id, self.pad_id = bos, eos, pad

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self._table)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that text never becomes unless the caller says so."""
        return MappingProxyType(self._special)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal for equal tokenizers, on every machine."""
        identity = {
            "kind": self.kind,
            "special_tokens": sorted(self._special.items()),
            "frame": [self.bos_id, self.eos_id, self.pad_id],
        }
        digest = hashlib.sha256(json.dumps(identity).encode())
        digest.update(self._model_bytes())
        return digest.hexdigest()[:16]

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Token ids of ``text``.

        With ``allow_special`` a special token written in ``text`` becomes its id; without, it is
        encoded as the characters it is written with.

        Raises:
          TokenizerError: ``text`` holds half of a surrogate pair, which no UTF-8 text can.
        """
        try:
            if not allow_special:
                return self._encode_text(text)
            ids: list[int] = []
            end = 0
            for match in self._special_pattern.finditer(text):
                ids += self._encode_piece(text, end, match.start())
                ids.append(self._special[match.group()])
                end = match.end()
            return ids + self._encode_piece(text, end, len(text))
        except UnicodeEncodeError as error:
            raise _surrogate_error(error) from None

    def encode_after_special(self, text: str) -> list[int]:
        """Token ids of ``text`` that follows a special token.

        They are those of :meth:`encode`, but for the tokenizers that put a space before the first
        word of a text and of nothing else.

        Raises:
          TokenizerError: ``text`` holds half of a surrogate pair.
        """
        try:
            return self._encode_inner(text)
        except UnicodeEncodeError as error:
            raise _surrogate_error(error) from None

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One int32 array of ids a text, in order, on all cores; no special tokens.

        Raises:
          TokenizerError: a text holds half of a surrogate pair.
        """
        try:
            return self._encode_texts(list(texts))
        except UnicodeEncodeError as error:
            raise _surrogate_error(error) from None

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Raises:
          TokenizerError: an id is outside the vocabulary.
        """
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The bytes ``ids`` stand for, exactly.

        Raises:
          TokenizerError: an id is outside the vocabulary.
        """
        table, size, special = self._table, len(self._table), self._special_ids
        parts = []
        for index in ids:
            if not 0 <= index < size:
                raise TokenizerError(
                    f"token id {index} is outside this tokenizer's vocabulary of {size}; the "
                    "model and the tokenizer do not belong together"
                )
            if not (skip_special and index in special):
                parts.append(table[index])
        return b"".join(parts)

    def byte_lengths(self) -> np.ndarray:
        """Int32 [vocab_size]: how many bytes of text each id stands for; 0 for special tokens."""
        lengths = np.array([len(piece) for piece in self._table], np.int32)
        lengths[list(self._special_ids)] = 0
        return lengths

    def save(self, directory: str | Path) -> None:
        """Write all that :func:`lilith.load_tokenizer` needs into ``directory``."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        meta = {"format": 1, "kind": self.kind, "vocab_size": self.vocab_size, **self._meta()}
        self._save_model(directory)
        (directory / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")

    def _encode_piece(self, text: str, start: int, end: int) -> list[int]:
        """Ids of the plain ``text[start:end]``; a special token stands before it if start > 0."""
        if start == end:
            return []
        return (self._encode_inner if start else self._encode_text)(text[start:end])

    def _encode_inner(self, text: str) -> list[int]:
        """Ids of plain text that does not begin the whole; as :meth:`_encode_text` for most."""
        return self._encode_text(text)

    @abc.abstractmethod
    def _encode_text(self, text: str) -> list[int]:
        """Ids of plain text; a lone surrogate raises UnicodeEncodeError."""

    @abc.abstractmethod
    def _encode_texts(self, texts: list[str]) -> list[np.ndarray]:
        """Int32 ids of many plain texts."""

    @abc.abstractmethod
    def _model_bytes(self) -> bytes:
        """What the tokenizer learnt, for the fingerprint."""

    @abc.abstractmethod
    def _save_model(self, directory: Path) -> None:
        """Write what the tokenizer learnt into an existing folder."""

    def _meta(self) -> dict[str, Any]:
        """What the folder's meta file says beside kind and size."""
        return {}


def _surrogate_error(error: UnicodeEncodeError) -> TokenizerError:
    character = ord(error.object[error.start])
    return TokenizerError(
        f"character {error.start} of the text is U+{character:04X}, half of a surrogate pair, "
        "which is not valid Unicode text; read the file with errors='replace' or leave it out"
    )
