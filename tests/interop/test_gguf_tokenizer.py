"""Tokenizers in GGUF files: the same ids from the metadata alone, and exact round trips."""

import json
import random

import gguf
import numpy as np
import pytest
import sentencepiece
import tokenizers
from gguf.constants import GGUFValueType, TokenType
from gguf_files import CODE, SPECIAL, bpe_content, metadata_of
from interop_models import texts
from sentencepiece import sentencepiece_model_pb2

from lilith.config import TokenizerConfig
from lilith.interop.gguf_header import open_file, read_header
from lilith.interop.gguf_metadata import Metadata
from lilith.interop.gguf_pretokenizers import PRE_TOKENIZERS, pre_tokenizer_node
from lilith.interop.gguf_tokenizer import JSON_KEY, SENTENCEPIECE_KEY, read_tokenizer
from lilith.interop.gguf_vocabulary import write_tokenizer
from lilith.interop.weights import ImportFailed
from lilith.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    TokenizerError,
    train_sentencepiece,
)

TEXTS = texts(60)


def written(path, tokenizer, vocab=None, **options) -> Metadata:
    """A file of nothing but a tokenizer's keys, read again."""
    writer = gguf.GGUFWriter(path, "llama")
    vocab = tokenizer.vocab_size if vocab is None else vocab
    template, stops = options.get("chat_template"), options.get("stop_ids", ())
    write_tokenizer(tokenizer, vocab, template, stops, writer)
    return finished(writer, path)


def finished(writer, path) -> Metadata:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(open_file(path), str(path)).metadata


@pytest.fixture(scope="module")
def bpe() -> dict:
    return bpe_content()


@pytest.fixture(scope="module")
def sentence_piece():
    return train_sentencepiece([CODE], TokenizerConfig(vocab=600))


def with_rule(bpe, name) -> HuggingFaceTokenizer:
    rule = PRE_TOKENIZERS[name]
    model = bpe["model"] | {"ignore_merges": rule.ignore_merges}
    content = bpe | {"model": model, "pre_tokenizer": pre_tokenizer_node(rule)}
    return HuggingFaceTokenizer(json.dumps(content), eos="<|im_end|>")


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_bpe_comes_back_whole_and_from_the_metadata_alone(tmp_path, bpe, name):
    tokenizer = with_rule(bpe, name)
    metadata = written(tmp_path / "t.gguf", tokenizer)
    named = PRE_TOKENIZERS[metadata.text("tokenizer.ggml.pre")]
    assert named.steps == PRE_TOKENIZERS[name].steps
    found, stops, add_bos = read_tokenizer(metadata)
    assert found.fingerprint == tokenizer.fingerprint
    assert (set(stops), add_bos) == ({0, 2}, False)
    found, stops, _ = read_tokenizer(metadata_of(tmp_path / "t.gguf", JSON_KEY))
    assert found.special_tokens == tokenizer.special_tokens
    assert [found.bos_id, found.eos_id, found.pad_id] == [
        tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id]  # fmt: skip
    assert set(stops) == {0, 2}
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert found.encode(text) == ids
        assert found.decode(ids) == text


def words(name: str, text: str) -> list[str]:
    """How a rule cuts ASCII text into words."""
    content = {"version": "1.0", "pre_tokenizer": pre_tokenizer_node(PRE_TOKENIZERS[name]),
               "model": {"type": "BPE", "vocab": {}, "merges": []}}  # fmt: skip
    cut = tokenizers.Tokenizer.from_str(json.dumps(content)).pre_tokenizer
    return [word.replace("\u0120", " ").replace("\u010a", "\n") for word, _ in
            cut.pre_tokenize_str(text)]  # fmt: skip


WORDS = {  # of "It's 1234.5 (x)\n\n   OK'LL"
    "gpt-2": "It|'s| 1234|.|5| (|x|)|\n\n  | OK|'|LL",
    "smollm": "It|'s| |1|2|3|4|.|5| (|x|)|\n\n  | OK|'|LL",
    "llama-bpe": "It|'s| |123|4|.|5| (|x|)\n\n|  | OK|'LL",
    "qwen2": "It|'s| |1|2|3|4|.|5| (|x|)\n\n|  | OK|'LL",
    "tekken": "It|'s| |1|2|3|4|.|5| (|x|)\n\n|  | OK|'LL",
    "deepseek-llm": "It|'|s| |1234|.|5| (|x|)|\n|\n|  | OK|'|LL",
    "deepseek-coder": "It|'|s| |1|2|3|4|.|5| (|x|)|\n|\n|  | OK|'|LL",
    "deepseek-v3": "It|'s| |123|4|.|5| (|x|)\n\n|  | OK|'LL",
    "default": "It|'|s| |123|4|.|5| |(|x|)|\n\n  | OK|'|LL",
}


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_a_rule(name):
    found = words(name, "It's 1234.5 (x)\n\n   OK'LL")
    assert "|".join(found) == WORDS[name]


def test_the_rules_that_keep_whole_words(tmp_path, bpe):
    """Of a word that is a token and no merge makes: one token, or its letters."""
    vocabulary = {letter: i for i, letter in enumerate([*SPECIAL, "a", "b", "c", "abc"])}
    for name in ("llama-bpe", "qwen2"):
        model = {"type": "BPE", "vocab": vocabulary, "merges": [],
                 "ignore_merges": PRE_TOKENIZERS[name].ignore_merges}  # fmt: skip
        content = bpe | {"model": model, "added_tokens": bpe["added_tokens"][:3],
                         "pre_tokenizer": pre_tokenizer_node(PRE_TOKENIZERS[name])}  # fmt: skip
        written(tmp_path / "t.gguf", HuggingFaceTokenizer(json.dumps(content)))
        found, _, _ = read_tokenizer(metadata_of(tmp_path / "t.gguf", JSON_KEY))
        assert found.encode("abc") == ([6] if name == "llama-bpe" else [3, 4, 5])


def test_bytes_come_back(tmp_path):
    metadata = written(tmp_path / "t.gguf", ByteTokenizer(), vocab=300, chat_template="{{ x }}")
    found, stops, add_bos = read_tokenizer(metadata)
    assert isinstance(found, ByteTokenizer)
    assert set(stops) == {found.eos_id, found.special_tokens["<|im_end|>"]}
    assert add_bos
    assert metadata.text("tokenizer.chat_template") == "{{ x }}"
    assert metadata.strings("tokenizer.ggml.tokens")[-1] == "[PAD299]"


def test_sentencepiece_comes_back_whole_and_from_the_scores_alone(tmp_path, sentence_piece):
    metadata = written(tmp_path / "t.gguf", sentence_piece, vocab=640)
    found, stops, add_bos = read_tokenizer(metadata)
    assert found.kind == "sentencepiece"
    assert found.fingerprint == sentence_piece.fingerprint
    assert set(stops) == {found.eos_id, found.special_tokens["<|im_end|>"]}
    assert add_bos
    other, _, _ = read_tokenizer(metadata_of(tmp_path / "t.gguf", SENTENCEPIECE_KEY))
    assert (other.kind, other.vocab_size) == ("huggingface", found.vocab_size)
    for text in TEXTS:
        if "\u2581" not in text:  # there, as in llama.cpp, it is a space
            ids = sentence_piece.encode(text)
            assert other.encode(text) == ids
            assert other.decode(ids) == text


def scores_file(path, model: bytes, **keys) -> Metadata:
    """SentencePiece's model as llama.cpp's converter writes it."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.piece for piece in proto.pieces])
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types([piece.type for piece in proto.pieces])
    writer.add_unk_token_id(proto.trainer_spec.unk_id)
    writer.add_eos_token_id(proto.trainer_spec.eos_id)
    for name, value in keys.items():
        writer.add_bool(f"tokenizer.ggml.{name}", value)
    return finished(writer, path)


def test_scores_give_the_ids_of_sentencepiece(tmp_path, lilith_data):
    model = (lilith_data / "tokenizers" / "bpe_32k_c4.model").read_bytes()
    found, stops, add_bos = read_tokenizer(scores_file(tmp_path / "t.gguf", model))
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert (stops, add_bos) == ((original.eos_id(),), True)
    rng = random.Random(0)
    pieces = ["a", "aa", " ", "  ", "-", "=", "==", "\n", ".", "0", "00", "the ", "he", "th"]
    runs = ["".join(rng.choices(pieces, k=rng.randint(1, 50))) for _ in range(100)]
    lengths = [letter * n for letter in " =a\n" for n in range(1, 40)]
    for text in (CODE, *TEXTS, *runs, *lengths):
        if "\0" not in text and "<" not in text:  # where SentencePiece makes special tokens of text
            ids = found.encode(text)
            assert ids == original.encode(text)
            if "\u2581" not in text:
                assert found.decode(ids) == text


@pytest.mark.parametrize("prefix", [True, False])
def test_a_space_before_the_text_is_the_files_choice(tmp_path, sentence_piece, prefix):
    written(tmp_path / "t.gguf", sentence_piece)
    changes = {"tokenizer__ggml__add_space_prefix": prefix, "tokenizer__ggml__add_bos_token": False}
    metadata = metadata_of(tmp_path / "t.gguf", SENTENCEPIECE_KEY, **changes)
    found, _, add_bos = read_tokenizer(metadata)
    with_space = sentence_piece.encode(" word" if prefix else "word")
    assert (found.encode("word"), add_bos) == (with_space, False)
    assert found.decode(with_space) == "word"
    assert found.decode(found.encode(" word")) == " word"


def test_a_hugging_face_tokenizer_from_sentencepiece_goes_out_and_in(tmp_path, sentence_piece):
    written(tmp_path / "a.gguf", sentence_piece)
    json_kind, _, _ = read_tokenizer(metadata_of(tmp_path / "a.gguf", SENTENCEPIECE_KEY))
    metadata = written(tmp_path / "b.gguf", json_kind)
    assert metadata.text("tokenizer.ggml.model") == "llama"
    assert metadata.flag("tokenizer.ggml.add_bos_token", False)
    again, _, _ = read_tokenizer(metadata)
    assert again.fingerprint == json_kind.fingerprint
    scored, _, _ = read_tokenizer(metadata_of(tmp_path / "b.gguf", JSON_KEY))
    for text in TEXTS:
        assert scored.encode(text) == json_kind.encode(text)


def test_unused_rows_and_ids_of_no_token_are_left_out(tmp_path, bpe):
    tokenizer = with_rule(bpe, "qwen2")
    written(tmp_path / "t.gguf", tokenizer, vocab=1000)
    none = {"tokenizer__ggml__bos_token_id": 0xFFFFFFFF}
    for left_out in ((), (JSON_KEY,)):
        found, _, _ = read_tokenizer(metadata_of(tmp_path / "t.gguf", *left_out, **none))
        assert found.vocab_size == tokenizer.vocab_size
        assert found.encode("abc 12") == tokenizer.encode("abc 12")


def test_stop_ids_are_written(tmp_path, bpe):
    metadata = written(tmp_path / "t.gguf", with_rule(bpe, "qwen2"), stop_ids=(1, 2, 0))
    assert metadata.integer("tokenizer.ggml.eot_token_id") == 1
    assert metadata.integer("tokenizer.ggml.eom_token_id") == 0
    assert read_tokenizer(metadata)[1] == (0, 1, 2)


T = "tokenizer__ggml__"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({T + "model": "gpt3"}, "of the kind 'gpt3'.*did you mean 'gpt2'"),
        ({T + "pre": "smolm"}, "pre is 'smolm'.*did you mean 'smollm'.*a rule for words"),
        ({T + "merges": ["a"]}, "merge 0 is 'a'"),
        ({T + "merges": ["a zz"]}, "can not be read.*zz"),
        ({T + "tokens": ["a", "b", "a"]}, "token 'a' has 2 ids"),
        ({T + "tokens": "a"}, "an array of strings"),
        ({T + "token_type": np.array([1, 2])}, "an array of 2"),
        ({T + "eos_token_id": 99_999}, "eos_token_id' is 99999, and LILITH needs an id below"),
        ({T + "add_bos_token": 3}, "true or false"),
        ({T + "model": "llama"}, "lacks the metadata key 'tokenizer.ggml.scores'"),
        ({T + "model": "llama", T + "scores": np.zeros(3)}, "one for each"),
    ],
)
def test_a_tokenizer_that_can_not_be_read(tmp_path, bpe, changes, words):
    written(tmp_path / "t.gguf", with_rule(bpe, "smollm"))
    with pytest.raises(ImportFailed, match=words) as caught:
        read_tokenizer(metadata_of(tmp_path / "t.gguf", JSON_KEY, **changes))
    assert "t.gguf" in str(caught.value)


def test_the_whole_tokenizer_and_the_tokens_belong_together(tmp_path, bpe, sentence_piece):
    written(tmp_path / "t.gguf", with_rule(bpe, "smollm"))
    key = JSON_KEY.replace(".", "__")
    huge = json.dumps(bpe | {"added_tokens": [bpe["added_tokens"][0] | {"id": 4_000_000_000}]})
    other = json.dumps(bpe | {"added_tokens": [bpe["added_tokens"][0] | {"content": "<|odd|>"}]})
    for content, found in ((huge, "other tokens"), (other, "other tokens"), ("{", "is damaged"),
                           ("[]", "is damaged"), ("[" * 100_000, "is damaged")):  # fmt: skip
        with pytest.raises(ImportFailed, match=found):
            read_tokenizer(metadata_of(tmp_path / "t.gguf", **{key: content}))
    written(tmp_path / "s.gguf", sentence_piece)
    key = SENTENCEPIECE_KEY.replace(".", "__")
    for model, found in ((b"\0\1", "not a SentencePiece model"), (b"", "SentencePiece model")):
        with pytest.raises(ImportFailed, match=found):
            read_tokenizer(metadata_of(tmp_path / "s.gguf", **{key: np.frombuffer(model, "u1")}))


def test_a_piece_of_absurd_length_is_damage(tmp_path, sentence_piece):
    metadata = written(tmp_path / "t.gguf", sentence_piece)
    tokens = list(metadata.strings("tokenizer.ggml.tokens"))
    tokens[400] = "a" * 100_000
    changed = metadata_of(tmp_path / "t.gguf", SENTENCEPIECE_KEY, tokenizer__ggml__tokens=tokens)
    with pytest.raises(ImportFailed, match="a token has 100000 characters"):
        read_tokenizer(changed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "a rule that has no name in GGUF"),
        ({"pre_tokenizer": None}, "a rule that has no name in GGUF"),
        ({"normalizer": {"type": "Lowercase"}}, "changes text by Lowercase"),
        ({"model": {"byte_fallback": True}}, "changes text before its merges"),
        (
            {
                "model": {"byte_fallback": True},
                "pre_tokenizer": None,
                "normalizer": {"type": "NFC"},
            },
            "changes text before its merges",
        ),
    ],
)
def test_a_tokenizer_that_gguf_can_not_say(tmp_path, bpe, change, words):
    rule = {"pre_tokenizer": pre_tokenizer_node(PRE_TOKENIZERS["qwen2"])}
    model = bpe["model"] | change.get("model", {})
    content = bpe | rule | change | {"model": model}
    with pytest.raises(ImportFailed, match=words):
        written(tmp_path / "t.gguf", HuggingFaceTokenizer(json.dumps(content)))


def test_a_note_on_qwens_normalizer(tmp_path, bpe):
    rule = {"pre_tokenizer": pre_tokenizer_node(PRE_TOKENIZERS["qwen2"])}
    tokenizer = HuggingFaceTokenizer(json.dumps(bpe | rule | {"normalizer": {"type": "NFC"}}))
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "qwen2")
    (note,) = write_tokenizer(tokenizer, tokenizer.vocab_size, None, (), writer)
    assert "NFC" in note
    found, _, _ = read_tokenizer(finished(writer, tmp_path / "t.gguf"))
    assert found.fingerprint == tokenizer.fingerprint
    assert found.encode("e\u0301") == found.encode("\u00e9")
    bare, _, _ = read_tokenizer(metadata_of(tmp_path / "t.gguf", JSON_KEY))
    assert bare.decode(bare.encode("e\u0301")) == "e\u0301"


def test_the_unknown_token_of_a_file_without_bytes(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"])
    writer.add_token_scores([0.0, 0.0, 0.0, -2.0, -3.0, -1.0])
    writer.add_token_types([TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, 1, 1, 1])
    found, _, _ = read_tokenizer(finished(writer, tmp_path / "t.gguf"))
    assert found.encode("a a") == [5, 5]
    with pytest.raises(TokenizerError, match="can only write as a special token"):
        found.encode("ab")


def test_unigrams_are_refused(tmp_path):
    config = TokenizerConfig(vocab=500, algorithm="unigram")
    with pytest.raises(ImportFailed, match="unigram"):
        written(tmp_path / "t.gguf", train_sentencepiece([CODE], config))


def test_the_types_of_tokens(tmp_path, bpe, sentence_piece):
    written(tmp_path / "t.gguf", with_rule(bpe, "smollm"))
    reader = gguf.GGUFReader(tmp_path / "t.gguf")
    field = reader.fields["tokenizer.ggml.token_type"]
    assert field.types == [GGUFValueType.ARRAY, GGUFValueType.INT32]
    assert field.contents()[:5] == [*[TokenType.CONTROL] * 3, TokenType.USER_DEFINED, 1]
    written(tmp_path / "s.gguf", sentence_piece)
    types = gguf.GGUFReader(tmp_path / "s.gguf").fields["tokenizer.ggml.token_type"].contents()
    assert types[:4] == [TokenType.UNKNOWN, *[TokenType.CONTROL] * 3]
    assert types.count(TokenType.BYTE) == 256


def test_the_tokenizer_of_smollm2(smollm2):
    header = read_header(open_file(smollm2), str(smollm2))
    tokenizer, stops, add_bos = read_tokenizer(header.metadata)
    assert (tokenizer.vocab_size, stops, add_bos) == (49_152, (0, 2), False)
    assert tokenizer.encode("Hello world 2024") == [19556, 905, 216, 34, 32, 34, 36]
    ids = tokenizer.encode("<|im_start|>user", allow_special=True)
    assert ids[0] == 1
    assert tokenizer.encode("<|im_start|>")[0] != 1
    absent = {0xF1, 0xF2, 0x04, 0x06, 0x13, 0x14, 0x16, 0x1D}  # bytes that no token of it holds
    for text in TEXTS:
        if absent.isdisjoint(text.encode()):
            assert tokenizer.decode(tokenizer.encode(text)) == text
