"""The tokenizer that stands in a GGUF file's metadata.

Two kinds of the format are read. ``gpt2`` is byte-level BPE: tokens, merges, and the name of the
rule that cuts text into words. ``llama`` is SentencePiece's BPE: tokens with scores, where the pair
whose piece has the highest score is joined first; that is a BPE whose merges are ranked by the
score of what they make. Both become a tokenizer.json for the ``tokenizers`` library.

A tokenizer that LILITH wrote stands in the file a second time, whole, and is read from there: so a
round trip gives the same tokenizer, not one that is equal in what it does.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sentencepiece
from gguf.constants import TokenType

from lilith.config import nearest
from lilith.interop.gguf_metadata import Metadata
from lilith.interop.gguf_pretokenizers import (
    BYTE_LEVEL,
    DEFAULT,
    PRE_TOKENIZERS,
    pre_tokenizer_node,
)
from lilith.interop.huggingface_tokenizer import begin_with, ranked_merges
from lilith.interop.weights import ImportFailed
from lilith.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TokenizerError,
)
from lilith.tokenizer.hugging_face import byte_level_alphabet

PREFIX = "tokenizer.ggml."
JSON_KEY = "tokenizer.huggingface.json"  # of the specification
SENTENCEPIECE_KEY = "lilith.tokenizer.sentencepiece"  # the serialised model, as bytes
# llama.cpp refuses a file without merges; no text holds these characters once it is in bytes.
NO_MERGES = ["\u4e00 \u4e01"]
SPACE = "\u2581"
PREPEND: dict[str, Any] = {"type": "Prepend", "prepend": SPACE}
ESCAPE: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# What a whole tokenizer that is damaged may end in, in this package or in the two libraries.
_UNREADABLE = (TokenizerError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)
_LONGEST_PIECE = 256  # characters; SentencePiece itself makes none of over 32 unless told to
_NO_TOKEN = 0xFFFFFFFF  # -1 where a number has no sign: the model has no such token
_FRAME = ("bos", "eos", "padding")
_ENDS = ("eos", "eot", "eom")  # ids after which an answer is over
# Tokens that end an answer in chat formats whose files name but one of several.
_ENDING_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
    "<end_of_turn>", "</s>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file by id, with their types and the ids that have a role."""

    tokens: list[str]
    types: list[int]
    roles: dict[str, int]  # bos, eos, eot, eom, unknown, padding

    def special(self, index: int) -> bool:
        """Whether text may not become this token."""
        kind = self.types[index]
        return kind in (TokenType.CONTROL, TokenType.UNKNOWN) or index in self.roles.values()


def read_tokenizer(metadata: Metadata) -> tuple[Tokenizer, tuple[int, ...], bool]:
    """The tokenizer of a file, the ids that end an answer, and whether texts begin with bos.

    Raises:
      ImportFailed: an unknown kind of tokenizer or rule for words, or lists that are missing or do
        not fit together.
    """
    kind = metadata.text(PREFIX + "model")
    if kind not in ("gpt2", "llama"):
        raise ImportFailed(
            f"{metadata.where}: the tokenizer ({PREFIX}model) is of the kind {kind!r}"
            f"{nearest(kind, ('gpt2', 'llama'))}; LILITH reads gpt2 (BPE) and llama (SentencePiece)"
        )
    vocabulary = _vocabulary(metadata)
    add_bos = metadata.flag(PREFIX + "add_bos_token", _adds_bos(metadata, kind))
    try:
        tokenizer = _written_by_lilith(metadata, vocabulary, kind)
        if tokenizer is None:
            build = _bpe if kind == "gpt2" else _sentencepiece
            content = build(metadata, vocabulary)
            if add_bos and "bos" in vocabulary.roles:
                content["post_processor"] = begin_with(
                    vocabulary.tokens[vocabulary.roles["bos"]], vocabulary.roles["bos"]
                )
            tokenizer = _from_json(json.dumps(content, ensure_ascii=False), vocabulary)
    except _UNREADABLE as error:
        raise ImportFailed(f"{metadata.where}: the tokenizer can not be read: {error}") from None
    return tokenizer, _stop_ids(tokenizer, vocabulary), add_bos


def _vocabulary(metadata: Metadata) -> Vocabulary:
    tokens = metadata.strings(PREFIX + "tokens")
    for token, count in Counter(tokens).most_common(2):  # "" may be there more than once
        if token and count > 1:
            raise ImportFailed(
                f"{metadata.where} is damaged: the token {token!r} has {count} ids; download it "
                "again"
            )
    types = [int(TokenType.NORMAL)] * len(tokens)
    if PREFIX + "token_type" in metadata:
        types = metadata.numbers(PREFIX + "token_type", len(tokens)).tolist()
    roles = {}
    for role in (*_ENDS, "bos", "padding", "unknown"):
        key = f"{PREFIX}{role}_token_id"
        if key in metadata:
            if metadata.values[key] == _NO_TOKEN:
                continue
            roles[role] = metadata.integer(key)
            if roles[role] >= len(tokens):
                raise metadata.wrong(key, f"an id below {len(tokens)}, the number of its tokens")
    size = len(tokens)
    while size and types[size - 1] == TokenType.UNUSED and tokens[size - 1] == pad_name(size - 1):
        size -= 1  # rows that only round the embedding up
    return Vocabulary(tokens[:size], types[:size], {r: i for r, i in roles.items() if i < size})


def pad_name(index: int) -> str:
    """What a row of the embedding is called that no token uses."""
    return f"[PAD{index}]"


def _written_by_lilith(metadata: Metadata, vocabulary: Vocabulary, kind: str) -> Tokenizer | None:
    if kind == "gpt2" and vocabulary.tokens == byte_tokens():
        return ByteTokenizer()
    tokenizer: Tokenizer
    if SENTENCEPIECE_KEY in metadata:
        model = metadata.numbers(SENTENCEPIECE_KEY).astype("u1").tobytes()
        tokenizer = SentencePieceTokenizer(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        named = {i: processor.id_to_piece(i) for i in range(processor.vocab_size())}
        _compare(named, metadata, vocabulary, SENTENCEPIECE_KEY, kind)
        return tokenizer
    if JSON_KEY not in metadata:
        return None
    text = metadata.text(JSON_KEY)
    try:
        named = json_tokens(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ImportFailed(
            f"{metadata.where} is damaged: {JSON_KEY!r} is no tokenizer.json; download it again"
        ) from None
    # Before the library sees it: it would take memory for as many tokens as the largest id says.
    _compare(named, metadata, vocabulary, JSON_KEY, kind)
    return _from_json(text, vocabulary)


def _compare(
    named: dict[int, str], metadata: Metadata, vocabulary: Vocabulary, key: str, kind: str
) -> None:
    """The tokens of the whole tokenizer are those of the file."""
    tokens = vocabulary.tokens
    own = [named.get(i, pad_name(i)) for i in range(len(tokens))]
    if kind == "llama":  # a space has two spellings
        own = [token.replace(" ", SPACE) for token in own]
        tokens = [token.replace(" ", SPACE) for token in tokens]
    if own != tokens or not named or max(named) >= len(tokens):
        raise ImportFailed(
            f"{metadata.where}: the tokenizer under {key!r} has other tokens than {PREFIX}tokens; "
            "the file was put together from two: write it again"
        )


def json_tokens(content: dict[str, Any]) -> dict[int, str]:
    """The tokens of a tokenizer.json by id."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {text: i for i, (text, _) in enumerate(vocabulary)}
    named = {int(index): str(text) for text, index in vocabulary.items()}
    added = content.get("added_tokens") or []
    return named | {int(token["id"]): str(token["content"]) for token in added}


def byte_tokens() -> list[str]:
    """The tokens of :class:`ByteTokenizer` as GGUF's gpt2 writes them."""
    letters = {value: letter for letter, value in byte_level_alphabet().items()}
    special = sorted(ByteTokenizer().special_tokens.items(), key=lambda item: item[1])
    return [letters[value] for value in range(256)] + [text for text, _ in special]


def _bpe(metadata: Metadata, vocabulary: Vocabulary) -> dict[str, Any]:
    """Byte-level BPE as a tokenizer.json."""
    name = metadata.text(PREFIX + "pre", DEFAULT)
    if name not in PRE_TOKENIZERS:
        raise ImportFailed(
            f"{metadata.where}: {PREFIX}pre is {name!r}{nearest(name, PRE_TOKENIZERS)}, a rule for "
            f"words that LILITH does not know; it knows {', '.join(PRE_TOKENIZERS)}"
        )
    rule = PRE_TOKENIZERS[name]
    merges = []
    listed = metadata.strings(PREFIX + "merges")
    for i, merge in enumerate([] if listed == NO_MERGES else listed):
        left, _, right = merge[1:].partition(" ")
        if not right:
            raise ImportFailed(
                f"{metadata.where} is damaged: merge {i} is {merge!r}, and not two tokens with a "
                "space between; download it again"
            )
        merges.append([merge[:1] + left, right])
    model = {"type": "BPE", "ignore_merges": rule.ignore_merges, "merges": merges}
    return _tokenizer_json(
        vocabulary, model, pre_tokenizer=pre_tokenizer_node(rule), decoder=BYTE_LEVEL
    )


def _sentencepiece(metadata: Metadata, vocabulary: Vocabulary) -> dict[str, Any]:
    """SentencePiece's BPE as a tokenizer.json."""
    scores = metadata.numbers(PREFIX + "scores").tolist()
    if len(scores) < len(vocabulary.tokens):
        raise metadata.wrong(PREFIX + "scores", f"one for each of {len(vocabulary.tokens)} tokens")
    longest = max(map(len, vocabulary.tokens), default=0)
    if longest > _LONGEST_PIECE:
        raise ImportFailed(f"{metadata.where} is damaged: a token has {longest} characters")
    pieces = {
        token: score
        for i, (token, score) in enumerate(zip(vocabulary.tokens, scores))
        if token and not vocabulary.special(i)
        and vocabulary.types[i] in (TokenType.NORMAL, TokenType.UNUSED)
    }  # fmt: skip
    try:
        merges = ranked_merges(pieces)
    except ImportFailed as error:
        raise ImportFailed(f"{metadata.where}: {error}") from None
    marked = (i for i, kind in enumerate(vocabulary.types) if kind == TokenType.UNKNOWN)
    unknown = vocabulary.roles.get("unknown", next(marked, None))
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": None if unknown is None else vocabulary.tokens[unknown],
        "merges": merges,
    }
    decoders = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}]  # fmt: skip
    normalizer = ESCAPE
    if metadata.flag(PREFIX + "add_space_prefix", True):
        normalizer = {"type": "Sequence", "normalizers": [PREPEND, ESCAPE]}
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _tokenizer_json(
        vocabulary,
        model,
        normalizer=normalizer,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def _tokenizer_json(vocabulary: Vocabulary, model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": vocabulary.special(i)}
        for i, token in enumerate(vocabulary.tokens)
        if token and (vocabulary.special(i) or vocabulary.types[i] == TokenType.USER_DEFINED)
    ]  # fmt: skip
    ids = {token: i for i, token in enumerate(vocabulary.tokens) if token}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        **parts,
        "model": model | {"vocab": ids},
    }


def _from_json(text: str, vocabulary: Vocabulary) -> HuggingFaceTokenizer:
    bos, eos, pad = (
        vocabulary.tokens[vocabulary.roles[role]] if role in vocabulary.roles else None
        for role in _FRAME
    )
    return HuggingFaceTokenizer(text, bos=bos, eos=eos, pad=pad)


def _adds_bos(metadata: Metadata, kind: str) -> bool:
    """What llama.cpp takes where the file does not say."""
    name = metadata.text(PREFIX + "pre", DEFAULT)
    return kind == "llama" or (name in PRE_TOKENIZERS and PRE_TOKENIZERS[name].add_bos)


def _stop_ids(tokenizer: Tokenizer, vocabulary: Vocabulary) -> tuple[int, ...]:
    ends = {vocabulary.roles[role] for role in _ENDS if role in vocabulary.roles}
    ends |= {index for text, index in tokenizer.special_tokens.items() if text in _ENDING_TOKENS}
    return tuple(sorted(ends | {tokenizer.eos_id}))
