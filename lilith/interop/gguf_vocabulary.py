"""LILITH's tokenizers as the metadata of a GGUF file, for llama.cpp and for reading them back.

Bytes become GGUF's ``gpt2`` without merges; a SentencePiece BPE becomes ``llama``; a Hugging Face
BPE becomes ``gpt2`` where a name of GGUF says how it cuts words, or ``llama`` where it is one that
came from SentencePiece. The tokenizer is written a second time whole, from which LILITH reads it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencepiece
from gguf import GGUFWriter
from gguf.constants import GGUFValueType, TokenType

from lilith.interop.gguf_pretokenizers import name_of
from lilith.interop.gguf_tokenizer import (
    ESCAPE,
    JSON_KEY,
    NO_MERGES,
    PREPEND,
    SENTENCEPIECE_KEY,
    SPACE,
    byte_tokens,
    json_tokens,
    pad_name,
)
from lilith.interop.huggingface_tokenizer import adds_bos, ranked_merges
from lilith.interop.weights import ImportFailed
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.hugging_face import MODEL_FILE

_END_OF_TURN = ("<|im_end|>", "<|eot_id|>")


@dataclass
class _Keys:
    """What the metadata says of a tokenizer."""

    model: str
    tokens: list[str]
    types: list[int]
    pre: str | None = None
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    add_space_prefix: bool = False
    add_bos: bool = True  # as every document of LILITH begins
    whole: tuple[str, str | bytes] | None = None  # its key and value
    notes: tuple[str, ...] = ()


def write_tokenizer(
    tokenizer: Tokenizer,
    vocab: int,
    chat_template: str | None,
    stop_ids: Sequence[int],
    add: GGUFWriter,
) -> tuple[str, ...]:
    """Write the keys of a tokenizer.

    Args:
      vocab: rows of the model's embedding, at least the tokenizer's; the rest become unused tokens.
      stop_ids: what ends an answer; of those besides eos the first two are kept. Without any, the
        tokenizer's token for the end of a turn.

    Returns:
      Notes for the person: where llama.cpp's tokens differ.

    Raises:
      ImportFailed: GGUF has no way to say what the tokenizer does, or it has more tokens than the
        model.
    """
    if tokenizer.vocab_size > vocab:
        raise ImportFailed(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model {vocab}; they do not "
            "belong together"
        )
    keys = _keys(tokenizer)
    spare = range(len(keys.tokens), vocab)
    add.add_tokenizer_model(keys.model)
    if keys.pre is not None:
        add.add_tokenizer_pre(keys.pre)
    add.add_token_list(keys.tokens + [pad_name(i) for i in spare])
    add.add_token_types(keys.types + [int(TokenType.UNUSED)] * len(spare))
    if keys.scores:
        add.add_token_scores(keys.scores + [0.0] * len(spare))
    if keys.merges:
        add.add_token_merges(keys.merges)
    add.add_bos_token_id(tokenizer.bos_id)
    add.add_eos_token_id(tokenizer.eos_id)
    add.add_pad_token_id(tokenizer.pad_id)
    add.add_add_bos_token(keys.add_bos)
    add.add_add_space_prefix(keys.add_space_prefix)
    special = tokenizer.special_tokens
    stops = stop_ids or [special[text] for text in _END_OF_TURN if text in special]
    ends = (add.add_eot_token_id, add.add_eom_token_id)
    for write, index in zip(ends, [index for index in stops if index != tokenizer.eos_id]):
        write(index)
    if chat_template is not None:
        add.add_chat_template(chat_template)
    if keys.whole is not None:
        key, value = keys.whole
        if isinstance(value, str):
            add.add_string(key, value)
        else:
            add.add_key_value(key, value, GGUFValueType.ARRAY, GGUFValueType.UINT8)
    return keys.notes


def _keys(tokenizer: Tokenizer) -> _Keys:
    if tokenizer.kind == "bytes":
        tokens = byte_tokens()
        types = _types(tokens, tokenizer)
        return _Keys("gpt2", tokens, types, pre="gpt-2", merges=NO_MERGES)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        if tokenizer.kind == "sentencepiece":
            return _from_sentencepiece(next(Path(folder).glob("*.model")).read_bytes(), tokenizer)
        if tokenizer.kind == "huggingface":
            keys = _from_json((Path(folder) / MODEL_FILE).read_text(encoding="utf-8"), tokenizer)
            keys.add_bos = adds_bos(tokenizer, Path(folder))
            return keys
    raise ImportFailed(
        f"a tokenizer of kind {tokenizer.kind!r} can not be written into a GGUF file; LILITH "
        "writes sentencepiece, huggingface and bytes"
    )


def _types(tokens: list[str], tokenizer: Tokenizer) -> list[int]:
    special = set(tokenizer.special_tokens.values())
    return [
        int(TokenType.CONTROL if i in special else TokenType.NORMAL) for i in range(len(tokens))
    ]


def _from_sentencepiece(model: bytes, tokenizer: Tokenizer) -> _Keys:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.vocab_size()
    tokens = [processor.id_to_piece(i) for i in range(size)]
    types = _types(tokens, tokenizer)
    for i in range(size):
        if processor.is_byte(i):
            types[i] = int(TokenType.BYTE)
        elif processor.is_unknown(i):
            types[i] = int(TokenType.UNKNOWN)
    scores = [processor.get_score(i) for i in range(size)]
    if not all(score.is_integer() for score in scores):  # BPE has ranks, unigram log-probabilities
        raise ImportFailed(
            "the tokenizer is a SentencePiece unigram, which GGUF can not say together with byte "
            "fallback; export to Hugging Face, or train the tokenizer with "
            "tokenizer.algorithm='bpe'"
        )
    return _Keys("llama", tokens, types, scores=scores, whole=(SENTENCEPIECE_KEY, model))


def _from_json(text: str, tokenizer: Tokenizer) -> _Keys:
    content = json.loads(text)
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ImportFailed(
            f"the tokenizer is a {model['type']} of Hugging Face, and LILITH writes BPE into GGUF "
            "files; export to Hugging Face"
        )
    named = json_tokens(content)
    tokens = [named.get(i, pad_name(i)) for i in range(max(named) + 1)]
    types = _types(tokens, tokenizer)
    for token in content.get("added_tokens") or []:
        if types[token["id"]] == TokenType.NORMAL:
            types[token["id"]] = int(TokenType.USER_DEFINED)
    merges = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge)
              for merge in model["merges"]]  # fmt: skip
    whole = (JSON_KEY, text)
    if model.get("byte_fallback"):
        keys = _from_sentencepiece_json(content, tokens, types, merges)
        keys.whole = whole
        return keys
    pre = name_of(content.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    if pre is None:
        raise ImportFailed(
            "the tokenizer cuts text into words by a rule that has no name in GGUF (see the "
            "pre_tokenizer of its tokenizer.json); export to Hugging Face"
        )
    if any(" " in part for merge in merges for part in merge):
        raise ImportFailed("the tokenizer has merges of tokens with spaces, which GGUF can not say")
    joined = [" ".join(merge) for merge in merges] or NO_MERGES
    notes = _normalizer_notes(content.get("normalizer"))
    return _Keys("gpt2", tokens, types, pre=pre, merges=joined, whole=whole, notes=notes)


def _normalizer_notes(normalizer: dict[str, Any] | None) -> tuple[str, ...]:
    if normalizer is None:
        return ()
    if normalizer.get("type") != "NFC":  # Qwen's, whose files all go without
        raise ImportFailed(
            f"the tokenizer changes text by {normalizer.get('type')} before its merges, which GGUF "
            "can not say; export to Hugging Face"
        )
    return (
        "the tokenizer composes Unicode (NFC) before its merges and llama.cpp does not: text with "
        "characters that are not composed has other tokens there",
    )


def _from_sentencepiece_json(
    content: dict[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, ...]]
) -> _Keys:
    """Scores that rank the pieces as the merges do: a piece's is minus the rank of its first."""
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    plain = steps == [{}] and not any(SPACE in token for token in tokens)
    if content.get("pre_tokenizer") or not (plain or steps in ([PREPEND, ESCAPE], [ESCAPE])):
        raise ImportFailed(
            "the tokenizer changes text before its merges in a way that GGUF can not say (see the "
            "normalizer of its tokenizer.json); export to Hugging Face"
        )
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    scores = [-float(ranks.get(token, len(ranks) + i)) for i, token in enumerate(tokens)]
    normal = {token: scores[i] for i, token in enumerate(tokens) if types[i] == TokenType.NORMAL
              and not _is_byte(token)}  # fmt: skip
    if sorted(map(tuple, ranked_merges(normal))) != sorted(merges):
        raise ImportFailed(
            "the tokenizer joins some pairs and not others that make the same piece, which GGUF "
            "can not say; export to Hugging Face"
        )
    types = [int(TokenType.BYTE) if _is_byte(token) else kind for token, kind in zip(tokens, types)]
    unknown = content["model"].get("unk_token")
    if unknown in tokens:
        types[tokens.index(unknown)] = int(TokenType.UNKNOWN)
    return _Keys(
        "llama",
        [token.replace(" ", SPACE) for token in tokens] if plain else tokens,
        types,
        scores=scores,
        add_space_prefix=PREPEND in steps,
    )


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
