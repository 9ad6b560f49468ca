"""BPE tokenizers in Hugging Face's ``tokenizer.json``, read by the ``tokenizers`` library."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from lilith.tokenizer.base import TableTokenizer, TokenizerError

MODEL_FILE = "tokenizer.json"
_SPACE = "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)
# Where a file does not say which tokens frame a document, these names are looked for, in order.
_USUAL_NAMES = {
    "bos": ("<|begin_of_text|>", "<s>", "<bos>", "<|bos|>", "[BOS]", "<|startoftext|>"),
    "eos": ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[EOS]"),
    "pad": ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>"),
}


class HuggingFaceTokenizer(TableTokenizer):
    """A byte-level or byte-fallback BPE tokenizer from a ``tokenizer.json``.

    Tokenisation is the file's own. It is lossless where the file is: byte-level BPE without a
    normaliser always; a file that normalises Unicode gives back the normalised text, and one that
    writes spaces as U+2581 reads that character as a space.

    An added token is special, and so never made from text, if the file marks it special or it is
    written in angle or square brackets (some files leave ``<tool_call>`` unmarked). Other added
    tokens, such as runs of spaces, are ordinary text.

    Args:
      tokenizer_json: the content of the file.
      bos, eos, pad: written form of the tokens that frame documents. Where bos is not known it is
        eos, and the other way round; where pad is not known it is eos.

    Raises:
      TokenizerError: the file is no tokenizer, is of a kind LILITH does not read, or names no
        token that could end a document.
    """

    kind = "huggingface"

    def __init__(
        self,
        tokenizer_json: str,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
    ) -> None:
        try:
            content = json.loads(tokenizer_json)
            full = tokenizers.Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"this is not a Hugging Face tokenizer.json: {error}") from None
        added = content.get("added_tokens") or []
        special = {token["content"]: token["id"] for token in added if _is_special(token)}
        frame = _frame({"bos": bos, "eos": eos, "pad": pad}, special)
        ordinary = {token["content"] for token in added if not _is_special(token)}
        for token in added:
            token["special"] = _is_special(token)
        content.update(post_processor=None, truncation=None, padding=None)
        self._json = tokenizer_json
        self._plain = tokenizers.Tokenizer.from_str(json.dumps(content))
        self._plain.encode_special_tokens = True  # the library's way to say: as ordinary text
        self._inner = _for_inner_text(content, self._plain)
        vocabulary = full.get_vocab(with_added_tokens=True)
        super().__init__(_pieces(content, vocabulary, ordinary), special, **frame)
        self._unwritable = _unwritable_bytes(content, self._table)
        self._special_array = np.array(sorted(self._special_ids), np.int32)
        # SentencePiece-style files put a space before the text and take it off again.
        start = self._plain.encode("a", add_special_tokens=False).ids
        self._strips_space = bool(start) and self._table[start[0]].startswith(b" ")

    @classmethod
    def from_path(cls, path: str | Path) -> HuggingFaceTokenizer:
        """Read a ``tokenizer.json``, or a folder with one and perhaps a tokenizer_config.json."""
        path = Path(path)
        file = path / MODEL_FILE if path.is_dir() else path
        named: dict[str, str | None] = {}
        for sibling in ("special_tokens_map.json", "tokenizer_config.json"):
            named.update(_named_tokens(file.parent / sibling))
        return cls(_read(file), bos=named.get("bos"), eos=named.get("eos"), pad=named.get("pad"))

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The bytes ``ids`` stand for; a space the file puts before every text is taken off."""
        ids = list(ids)
        data = super().decode_bytes(ids, skip_special=skip_special)
        first = next((i for i in ids if not (skip_special and i in self._special_ids)), None)
        if self._strips_space and first is not None and self._table[first].startswith(b" "):
            return data[1:]
        return data

    def _encode_text(self, text: str) -> list[int]:
        return self._encode_with(self._plain, text)

    def _encode_inner(self, text: str) -> list[int]:
        return self._encode_with(self._inner, text)

    def _encode_with(self, plain: tokenizers.Tokenizer, text: str) -> list[int]:
        self._check_writable(text)
        ids = plain.encode(text, add_special_tokens=False).ids
        return ids if self._special_ids.isdisjoint(ids) else self._encode_in_parts(text)

    def _encode_texts(self, texts: list[str]) -> list[np.ndarray]:
        for text in texts:
            self._check_writable(text)
        encoded = self._plain.encode_batch_fast(texts, add_special_tokens=False)
        arrays = [np.array(encoding.ids, np.int32) for encoding in encoded]
        return [
            np.array(self._encode_in_parts(text), np.int32)
            if np.isin(array, self._special_array).any()
            else array
            for text, array in zip(texts, arrays)
        ]

    def _check_writable(self, text: str) -> None:
        """Refuse what the library would panic on (half a surrogate pair) or silently leave out."""
        data = text.encode()
        if self._unwritable and (lost := self._unwritable.intersection(data)):
            character = next(c for c in text if lost.intersection(c.encode()))
            raise TokenizerError(
                f"the text holds {character!r} (U+{ord(character):04X}), and this tokenizer has no "
                f"token for its byte 0x{min(lost.intersection(character.encode())):02X}; remove it"
            )

    def _encode_in_parts(self, text: str) -> list[int]:
        """Encode text whose special tokens the model itself would find, by cutting them in two."""
        cuts = [match.start() + 1 for match in self._special_pattern.finditer(text)]
        parts = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)])]
        ids = [
            index
            for part in parts
            for index in self._plain.encode(part, add_special_tokens=False).ids
        ]
        if not self._special_ids.isdisjoint(ids) or self.decode(ids) != text:
            raise TokenizerError(
                "the text holds characters that this tokenizer can only write as a special token; "
                "remove them, or pass allow_special=True where the text is trusted"
            )
        return ids

    def _model_bytes(self) -> bytes:
        return self._json.encode()

    def _save_model(self, directory: Path) -> None:
        (directory / MODEL_FILE).write_text(self._json, encoding="utf-8")

    def _meta(self) -> dict[str, Any]:
        written = {index: text for text, index in self._special.items()}
        ids = {"bos": self.bos_id, "eos": self.eos_id, "pad": self.pad_id}
        return {name: written[index] for name, index in ids.items()}


def _for_inner_text(
    content: Mapping[str, Any], plain: tokenizers.Tokenizer
) -> tokenizers.Tokenizer:
    """What encodes text after a special token: the same, without a space for the whole's start."""
    text = json.dumps(content)
    inner = text.replace('"prepend_scheme": "first"', '"prepend_scheme": "never"')
    if inner == text:
        return plain
    made = tokenizers.Tokenizer.from_str(inner)
    made.encode_special_tokens = True
    return made


def _is_special(token: Mapping[str, Any]) -> bool:
    return token["special"] or bool(_MARKUP.fullmatch(token["content"]))


def _pieces(
    content: Mapping[str, Any], vocabulary: Mapping[str, int], ordinary: set[str]
) -> list[bytes]:
    """The bytes of each id; ids that the file leaves out stand for none."""
    types = set(_types(content.get("decoder"))) | set(_types(content.get("pre_tokenizer")))
    if content["model"].get("type", "BPE") not in ("BPE", "Unigram"):
        raise TokenizerError(
            f"the tokenizer.json holds a {content['model']['type']} model; LILITH reads BPE and "
            "Unigram, whose text can be given back exactly"
        )
    if "ByteLevel" in types:
        to_bytes = _from_byte_level
    elif types & {"ByteFallback", "Metaspace"}:
        to_bytes = _from_sentence_piece
    else:
        raise TokenizerError(
            "the tokenizer.json has neither a ByteLevel nor a ByteFallback or Metaspace decoder, "
            "so LILITH can not give text back exactly; use another tokenizer"
        )
    table = [b""] * (max(vocabulary.values()) + 1)
    for piece, index in vocabulary.items():
        table[index] = piece.encode() if piece in ordinary else to_bytes(piece)
    return table


def _types(node: Any) -> Iterable[str]:
    """Every "type" in a nested part of a tokenizer.json."""
    if isinstance(node, dict):
        if "type" in node:
            yield node["type"]
        for child in node.values():
            yield from _types(child)
    elif isinstance(node, list):
        for child in node:
            yield from _types(child)


def _unwritable_bytes(content: Mapping[str, Any], table: list[bytes]) -> frozenset[int]:
    """Bytes that a byte-level vocabulary left out: BPE starts from single bytes."""
    if "ByteLevel" not in set(_types(content.get("pre_tokenizer"))):
        return frozenset()
    return frozenset(range(256)) - {piece[0] for piece in table if len(piece) == 1}


@functools.cache
def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte: itself if printable Latin-1, else U+0100 upward."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [value for value in range(256) if value not in printable]
    alphabet = {chr(value): value for value in printable}
    alphabet.update({chr(0x100 + i): value for i, value in enumerate(rest)})
    return alphabet


def _from_byte_level(piece: str) -> bytes:
    alphabet = byte_level_alphabet()
    # A special token of the model's own vocabulary may be written outside the alphabet.
    if not all(character in alphabet for character in piece):
        return piece.encode()
    return bytes(alphabet[character] for character in piece)


def _from_sentence_piece(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match.group(1), 16)]) if match else piece.replace(_SPACE, " ").encode()


def _frame(named: Mapping[str, str | None], special: Mapping[str, int]) -> dict[str, int]:
    """Ids of bos, eos and pad, from what the caller names and what such tokens are often called."""
    found: dict[str, int | None] = {}
    for role, text in named.items():
        if text is not None and text not in special:
            raise TokenizerError(f"the {role} token {text!r} is not among the special tokens")
        names = (text,) if text is not None else _USUAL_NAMES[role]
        found[role] = next((special[name] for name in names if name in special), None)
    eos = found["eos"] if found["eos"] is not None else found["bos"]
    if eos is None:
        raise TokenizerError(
            "the tokenizer.json names no token that ends a document; put a tokenizer_config.json "
            'with "eos_token" beside it'
        )
    bos, pad = found["bos"], found["pad"]
    return {"bos": eos if bos is None else bos, "eos": eos, "pad": eos if pad is None else pad}


def _named_tokens(file: Path) -> dict[str, str]:
    """Which tokens a tokenizer_config.json or special_tokens_map.json calls bos, eos and pad."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(_read(file))
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{file} is not valid JSON: {error}") from None
    named = {}
    for role in _USUAL_NAMES:
        token = content.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            named[role] = text
    return named


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"the tokenizer file {file} can not be read: {error}") from None
