"""The tokenizer files of a Hugging Face folder: LILITH's own tokenizers as a ``tokenizer.json``.

A SentencePiece BPE becomes a BPE of the ``tokenizers`` library whose pieces are written with plain
spaces, so that no character of a text is taken for another. It gives the same ids: SentencePiece
joins the pair whose piece has the highest score, leftmost first, and here every pair that forms a
piece is ranked by that score.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import sentencepiece
import tokenizers

from lilith.interop.huggingface_config import read_json
from lilith.interop.weights import ImportFailed
from lilith.tokenizer import Tokenizer, load_tokenizer
from lilith.tokenizer.base import META_FILE
from lilith.tokenizer.hugging_face import MODEL_FILE, byte_level_alphabet
from lilith.tokenizer.sentence_piece import MODEL_FILE as SENTENCEPIECE_FILE

TEMPLATE_FILE = "chat_template.jinja"
_CONFIG_FILE = "tokenizer_config.json"
_SPACE = "\u2581"
_NEVER = -1000.0  # a score so low that a text that spells a reserved piece does not become it
_UNIGRAM_NOTE = (
    "the unigram tokenizer is written with its own scores, but SentencePiece adds them up in "
    "float32 and Hugging Face tokenizers in float64: of two equally likely ways to cut a word the "
    "other one is taken now and then (about once in 100,000 tokens of source code); the ids still "
    "stand for the same text"
)
_QWEN2_NOTE = (
    "transformers 5 opens every 'qwen2' folder with the tokenizer of Qwen 2, whatever its files "
    "say: take PreTrainedTokenizerFast.from_pretrained(folder) in place of AutoTokenizer"
)


def write_tokenizer(
    folder: pathlib.Path,
    tokenizer: Tokenizer,
    *,
    family: str,
    context: int,
    chat_template: str | None,
) -> tuple[str, ...]:
    """Write the files from which ``transformers.AutoTokenizer`` makes the same tokenizer.

    Args:
      family: the model's ``model_type``.
      context: the model's longest text, in tokens.

    Returns:
      Notes for the person: where the written tokenizer may differ.

    Raises:
      ImportFailed: the tokenizer can not be written as a tokenizer.json.
    """
    tokenizer.save(folder)
    notes: tuple[str, ...] = ()
    if tokenizer.kind == "huggingface":
        (folder / META_FILE).unlink()  # its tokenizer.json says it all
    else:  # LILITH's own files stay, from which it reads the very same tokenizer
        content, notes = _tokenizer_json(tokenizer, folder)
        (folder / MODEL_FILE).write_text(content, encoding="utf-8")
        notes = (*notes, _QWEN2_NOTE) if family == "qwen2" else notes
    written = {index: text for text, index in tokenizer.special_tokens.items()}
    frame = {
        "bos_token": written[tokenizer.bos_id],
        "eos_token": written[tokenizer.eos_id],
        "pad_token": written[tokenizer.pad_id],
    }
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **frame,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    if chat_template is not None:
        (folder / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")
        settings["chat_template"] = chat_template  # for transformers before 4.43
    for name, data in ((_CONFIG_FILE, settings), ("special_tokens_map.json", frame)):
        text = json.dumps(data, indent=2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return notes


def read_chat_template(folder: pathlib.Path) -> str | None:
    """The folder's (default) chat template, from its own file or from tokenizer_config.json.

    Raises:
      ImportFailed: it is there and can not be read.
    """
    own = folder / TEMPLATE_FILE
    if own.is_file():
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ImportFailed(f"the chat template {own} can not be read: {error}") from None
    if not (folder / _CONFIG_FILE).is_file():
        return None
    template = read_json(folder / _CONFIG_FILE).get("chat_template")
    if isinstance(template, list):  # several, each {"name", "template"}
        named = {entry["name"]: entry["template"] for entry in template if "name" in entry}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ImportFailed(f"{folder / _CONFIG_FILE}: 'chat_template' is not a text")
    return template


def adds_bos(tokenizer: Tokenizer, folder: pathlib.Path) -> bool:
    """Whether the folder's tokenizer.json begins a text with the bos token."""
    full = tokenizers.Tokenizer.from_file(str(folder / MODEL_FILE))
    plain = full.encode("a", add_special_tokens=False).ids
    framed = full.encode("a").ids
    return framed[:1] == [tokenizer.bos_id] and plain[:1] != [tokenizer.bos_id]


def read_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """The tokenizer of a folder; of one that LILITH wrote, the very tokenizer that was written.

    Raises:
      ImportFailed: there is no tokenizer.json.
      TokenizerError: the tokenizer is damaged, or of a kind that LILITH does not read.
    """
    if not (folder / MODEL_FILE).is_file():
        raise ImportFailed(
            f"{folder} has no {MODEL_FILE}; fetch it, or make it with transformers: python -c "
            f"\"from transformers import AutoTokenizer as T; T.from_pretrained('{folder}')"
            f".save_pretrained('{folder}')\""
        )
    return load_tokenizer(folder if (folder / META_FILE).is_file() else folder / MODEL_FILE)


def _tokenizer_json(tokenizer: Tokenizer, saved: pathlib.Path) -> tuple[str, tuple[str, ...]]:
    """The tokenizer.json of a tokenizer that is saved in a folder, and notes."""
    if tokenizer.kind == "sentencepiece":
        return _from_sentencepiece((saved / SENTENCEPIECE_FILE).read_bytes(), tokenizer)
    if tokenizer.kind == "bytes":
        return _from_bytes(tokenizer), ()
    raise ImportFailed(
        f"a tokenizer of kind {tokenizer.kind!r} can not be written as a {MODEL_FILE}; LILITH "
        "writes sentencepiece, huggingface and bytes"
    )


def _from_bytes(tokenizer: Tokenizer) -> str:
    """Bytes as tokens: GPT-2's printable stand-in for each byte, nothing merged."""
    vocabulary = dict(sorted(byte_level_alphabet().items(), key=lambda item: item[1]))
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False}  # fmt: skip
    return _assemble(tokenizer, model, pre_tokenizer=level, decoder=level)


def _from_sentencepiece(model: bytes, tokenizer: Tokenizer) -> tuple[str, tuple[str, ...]]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.vocab_size()
    reserved = set(tokenizer.special_tokens.values())
    reserved |= {i for i in range(size) if processor.is_byte(i)}
    names = [
        text if i in reserved else text.replace(_SPACE, " ")
        for i, text in enumerate(map(processor.id_to_piece, range(size)))
    ]
    scores = {name: processor.get_score(i) for i, name in enumerate(names) if i not in reserved}
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    notes: tuple[str, ...] = ()
    if all(score.is_integer() for score in scores.values()):  # ranks; unigram has log-probabilities
        content: dict[str, Any] = {
            "type": "BPE",
            "byte_fallback": True,
            "fuse_unk": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": ranked_merges(scores),
        }
    else:
        notes = (_UNIGRAM_NOTE,)
        content = {
            "type": "Unigram",
            "unk_id": processor.unk_id(),
            "byte_fallback": True,
            "vocab": [[name, scores.get(name, _NEVER)] for name in names],
        }
    return _assemble(tokenizer, content, pre_tokenizer=None, decoder=decoder), notes


def ranked_merges(scores: Mapping[str, float]) -> list[list[str]]:
    """Every pair of pieces that forms a piece, the likeliest piece first."""
    ranked = []
    for piece, score in scores.items():
        if any(letter not in scores for letter in piece):
            raise ImportFailed(
                f"the tokenizer has the piece {piece!r} but not each of its characters, so its "
                "merges can not be written down; take the tokenizer.json of its makers"
            )
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                ranked.append((-score, -cut, piece))
    return [[piece[:-cut], piece[-cut:]] for _, cut, piece in sorted(ranked)]


def _assemble(
    tokenizer: Tokenizer, model: Mapping[str, Any], *, pre_tokenizer: Any, decoder: Any
) -> str:
    """A tokenizer.json that starts every text with bos, as LILITH's documents do."""
    bos = next(text for text, i in tokenizer.special_tokens.items() if i == tokenizer.bos_id)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for text, index in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": begin_with(bos, tokenizer.bos_id),
        "decoder": decoder,
        "model": model,
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def begin_with(token: str, index: int) -> dict[str, Any]:
    """The post_processor of a tokenizer.json that puts one token before every text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    return {
        "type": "TemplateProcessing",
        "single": [first, texts[0]],
        "pair": [first, *texts],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }
