"""All three kinds: exact round trips, special tokens out of reach of text, saving, clear errors."""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

import lilith
from lilith.config import TokenizerConfig
from lilith.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TokenizerError,
    load_tokenizer,
    train_sentencepiece,
)

STDLIB = Path(sysconfig.get_path("stdlib"))
CODE = [
    (STDLIB / name).read_text() for name in ("argparse.py", "ast.py", "enum.py", "dataclasses.py")
]
VOCAB = 700
AWKWARD = [
    "",
    " ",
    "\0",
    "\r\n \r \n\t\t",
    "▁",
    "a▁ ▁▁b",
    "<0x0A>\n<unk><s></s>",
    "<|im_start|>user\nhi<|im_end|>",
    "<tool_call>{}</tool_call>",
    "    def f():\n        return 1\n",
    "\ufeffx\ufffd\u2585",
    "e\u0301 \u00e9 ﬁ ½",
    "日本語🙂‍🌈",
    "12345.678",
]


def byte_level_alphabet_of(byte: int) -> str:
    """How byte-level files write a control character."""
    return chr(0x100 + byte)


def byte_level_json(texts, **changes) -> str:
    """A small GPT-2-like tokenizer with marked and unmarked added tokens."""
    built = tokenizers.Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator(texts, trainer)
    built.add_tokens(["<tool_call>", "</tool_call>", "          "])
    return json.dumps({**json.loads(built.to_str()), **changes})


@pytest.fixture(scope="module")
def kinds() -> dict[str, Tokenizer]:
    config = TokenizerConfig(vocab=VOCAB)
    return {
        "bpe": train_sentencepiece(CODE, config),
        "unigram": train_sentencepiece(CODE, TokenizerConfig(vocab=VOCAB, algorithm="unigram")),
        "huggingface": HuggingFaceTokenizer(byte_level_json(CODE)),
        "bytes": ByteTokenizer(),
    }


KINDS = pytest.mark.parametrize("kind", ["bpe", "unigram", "huggingface", "bytes"])


def check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert not set(ids) & set(tokenizer.special_tokens.values())
    assert all(0 <= index < tokenizer.vocab_size for index in ids)
    (batch,) = tokenizer.encode_batch([text])
    assert batch.dtype == np.int32
    assert batch.tolist() == ids
    assert tokenizer.byte_lengths()[ids].sum() == len(text.encode())


@KINDS
@pytest.mark.parametrize("text", [*AWKWARD, *CODE[:2]])
def test_awkward_text_round_trips(kinds, kind, text):
    check_round_trip(kinds[kind], text)


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_unicode_round_trips(kinds, text):
    for tokenizer in kinds.values():
        check_round_trip(tokenizer, text)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Co"])))
def test_control_characters_round_trip(kinds, text):
    for tokenizer in kinds.values():
        check_round_trip(tokenizer, text)


FRAGMENTS = [
    "def ", "self.", "\n", "\r\n", "    ", "\t", "(", "):", '"""', "0x1F", "12", "▁", "<", "|", ">",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|bos|>", "<|pad|>", "<unk>", "<tool_call>",
    "<0x0A>", "é", "→", "#",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS)).map("".join))
def test_code_and_written_specials_round_trip(kinds, text):
    for tokenizer in kinds.values():
        check_round_trip(tokenizer, text)


@KINDS
def test_special_tokens_only_when_allowed(kinds, kind):
    tokenizer = kinds[kind]
    start, end = (tokenizer.special_tokens[text] for text in ("<|im_start|>", "<|im_end|>"))
    text = "<|im_start|>user\nhi<|im_end|>\n"
    ids = tokenizer.encode(text, allow_special=True)
    assert ids[0] == start
    assert ids.count(start) == ids.count(end) == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special=True) == "user\nhi\n"
    call = tokenizer.encode("<tool_call>", allow_special=True)
    assert call == [tokenizer.special_tokens["<tool_call>"]]


@KINDS
def test_frame_tokens_stand_for_no_text(kinds, kind):
    tokenizer = kinds[kind]
    frame = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.byte_lengths()[frame].sum() == 0
    assert tokenizer.decode(frame, skip_special=True) == ""


@KINDS
def test_half_a_surrogate_pair_is_an_error_in_words(kinds, kind):
    for encode in (kinds[kind].encode, lambda text: kinds[kind].encode_batch(["ok", text])):
        with pytest.raises(TokenizerError, match=r"character 2 .*U\+D83D.*surrogate"):
            encode("ab\ud83d")


@KINDS
def test_decoding_a_foreign_id_is_an_error_in_words(kinds, kind):
    tokenizer = kinds[kind]
    for index in (-1, tokenizer.vocab_size):
        with pytest.raises(TokenizerError, match=f"id {index} is outside .*{tokenizer.vocab_size}"):
            tokenizer.decode([index])


@KINDS
def test_save_and_load(kinds, kind, tmp_path):
    tokenizer = kinds[kind]
    tokenizer.save(tmp_path / "saved")
    loaded = lilith.load_tokenizer(tmp_path / "saved")
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.special_tokens == tokenizer.special_tokens
    for name in ("vocab_size", "bos_id", "eos_id", "pad_id", "kind"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.encode(CODE[0]) == tokenizer.encode(CODE[0])
    assert isinstance(loaded, Tokenizer)


def test_fingerprints_differ(kinds):
    assert len({tokenizer.fingerprint for tokenizer in kinds.values()}) == len(kinds)


def test_bytes_that_are_not_utf8_decode_to_replacement(kinds):
    euro = kinds["bytes"].encode("€")
    assert kinds["bytes"].decode(euro[:2]) == "\ufffd"
    assert kinds["bytes"].decode_bytes(euro[:2]) == "€".encode()[:2]


class TestSentencePiece:
    def test_training_is_deterministic(self, kinds):
        again = train_sentencepiece(iter(CODE), TokenizerConfig(vocab=VOCAB))
        assert again.fingerprint == kinds["bpe"].fingerprint

    def test_vocabulary_has_the_size_asked_for(self, kinds):
        assert kinds["bpe"].vocab_size == kinds["unigram"].vocab_size == VOCAB

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_one_token_a_digit(self, kinds, kind):
        digits = [kinds[kind].decode([i]) for i in kinds[kind].encode("x = 1234567890")]
        assert digits[-10:] == list("1234567890")
        assert not any(
            len(piece) > 1 and any(c.isdigit() for c in piece)
            for piece in (kinds[kind].decode([i]) for i in range(10, kinds[kind].vocab_size))
        )

    def test_indentation_is_one_token(self, kinds):
        for spaces in (4, 8, 12):
            assert len(kinds["bpe"].encode(" " * spaces)) == 1

    def test_tabs_are_learnt(self):
        go = "func main() {\n\tfor i := range x {\n\t\tif y {\n\t\t\treturn\n\t\t}\n\t}\n}\n"
        tokenizer = train_sentencepiece([go * 50] * 50, TokenizerConfig(vocab=380))
        assert len(tokenizer.encode("\n\t\t")) == 1

    def test_long_lines_are_not_left_out(self):
        text = "wordone wordtwo " * 20_000  # far beyond SentencePiece's usual sentence
        tokenizer = train_sentencepiece([text], TokenizerConfig(vocab=385))
        assert len(tokenizer.encode("wordone")) <= 2

    def test_vocabulary_too_large_for_the_text(self):
        with pytest.raises(TokenizerError, match=r"vocab is 4096, .* more than \d+ .*lower"):
            train_sentencepiece(["a few words only"] * 3, TokenizerConfig(vocab=4096))

    def test_vocabulary_too_small_for_bytes(self):
        with pytest.raises(TokenizerError, match=r"vocab is 100, .*alone take \d+; raise"):
            train_sentencepiece(CODE, TokenizerConfig(vocab=100))

    def test_no_text(self):
        with pytest.raises(TokenizerError, match="no text to train"):
            train_sentencepiece([], TokenizerConfig())

    def test_foreign_model_is_refused(self, lilith_data):
        foreign = (lilith_data / "tokenizers" / "test_model.model").read_bytes()
        with pytest.raises(TokenizerError, match="LILITH did not train"):
            SentencePieceTokenizer(foreign)

    def test_damaged_model(self):
        with pytest.raises(TokenizerError, match="not a SentencePiece model"):
            SentencePieceTokenizer(b"nonsense")


class TestHuggingFace:
    def test_agrees_with_the_library(self, kinds):
        library = tokenizers.Tokenizer.from_str(byte_level_json(CODE))
        expected = library.encode(CODE[0], add_special_tokens=False).ids
        assert kinds["huggingface"].encode(CODE[0]) == expected

    def test_written_special_tokens_are_encoded_as_any_other_text(self):
        # With "<|" a token of the vocabulary, cutting the written token in two would show.
        content = json.loads(byte_level_json([*CODE, "x <|a y <|b " * 500]))
        tokenizer = HuggingFaceTokenizer(json.dumps(content))
        library = tokenizers.Tokenizer.from_str(json.dumps({**content, "added_tokens": []}))
        text = "x <|im_start|>user <tool_call>"
        assert tokenizer.encode(text) == library.encode(text).ids
        (batch,) = tokenizer.encode_batch([text])
        assert batch.tolist() == library.encode(text).ids

    def test_runs_of_spaces_stay_ordinary(self, kinds):
        tokenizer = kinds["huggingface"]
        assert "          " not in tokenizer.special_tokens
        assert len(tokenizer.encode("          ")) == 1

    def test_a_model_that_finds_its_own_special_tokens(self):
        # A Unigram model holds every token, special ones too, as pieces that text may match.
        vocabulary = [["</s>", -1.0], *([character, -3.0] for character in "</s>ab▁")]
        text_json = {
            "version": "1.0",
            "added_tokens": [
                {"id": 0, "content": "</s>", "special": True, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}
            ],
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False},
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never",
                        "split": False},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never",
                              "split": False},
            "normalizer": None, "post_processor": None, "truncation": None, "padding": None,
        }  # fmt: skip
        tokenizer = HuggingFaceTokenizer(json.dumps(text_json))
        assert tokenizer.encode("a</s>", allow_special=True)[-1] == 0
        for text in ("a</s>b", "</s>", "</s></s>"):
            check_round_trip(tokenizer, text)
        with pytest.raises(TokenizerError, match="only write as a special token"):
            tokenizer.encode("z")  # unknown, which here is </s>

    def test_sentence_piece_style_prefix_is_taken_off(self):
        built = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        built.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        built.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        bytes_of = [f"<0x{value:02X}>" for value in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=900, special_tokens=["<unk>", "<s>", "</s>", *bytes_of], show_progress=False
        )
        built.train_from_iterator([CODE[0]], trainer)
        content = json.loads(built.to_str())
        content["added_tokens"] = content["added_tokens"][:3]  # as Llama's: bytes are not added
        tokenizer = HuggingFaceTokenizer(json.dumps(content))
        for text in ("hello", " x", "  indented\n", "日本", "", CODE[0]):
            assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_a_byte_without_a_token_is_named(self):
        """Some vocabularies left rare bytes out; the library would drop the text silently."""
        content = json.loads(byte_level_json(CODE))
        vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
        bell = byte_level_alphabet_of(0x07)
        assert not [pair for pair in merges if bell in "".join(pair)]
        vocabulary[bell + bell + bell] = vocabulary.pop(bell)  # its id stands for something else
        tokenizer = HuggingFaceTokenizer(json.dumps(content))
        assert tokenizer.decode(tokenizer.encode("fine")) == "fine"
        with pytest.raises(TokenizerError, match=r"U\+0007.* its byte 0x07; remove it"):
            tokenizer.encode("ring\x07")
        with pytest.raises(TokenizerError, match="0x07"):
            tokenizer.encode_batch(["ok", "ring\x07"])

    def test_frame_tokens_from_the_folder(self, tmp_path):
        (tmp_path / "tokenizer.json").write_text(byte_level_json(CODE))
        named = {"bos_token": None, "eos_token": {"content": "<|im_end|>"}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
        tokenizer = load_tokenizer(tmp_path)
        end = tokenizer.special_tokens["<|im_end|>"]
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (end, end, end)

    def test_no_end_of_document(self):
        content = json.loads(byte_level_json(CODE))
        content["added_tokens"] = content["added_tokens"][1:2]
        with pytest.raises(TokenizerError, match="no token that ends a document"):
            HuggingFaceTokenizer(json.dumps(content))

    def test_unreadable_kinds(self):
        word_piece = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0},
                      "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}  # fmt: skip
        with pytest.raises(TokenizerError, match="WordPiece"):
            HuggingFaceTokenizer(byte_level_json(CODE, model=word_piece))
        with pytest.raises(TokenizerError, match="decoder"):
            HuggingFaceTokenizer(byte_level_json(CODE, decoder=None, pre_tokenizer=None))
        with pytest.raises(TokenizerError, match="not a Hugging Face"):
            HuggingFaceTokenizer("{}")


def test_nothing_to_load(tmp_path):
    with pytest.raises(TokenizerError, match="no tokenizer found at"):
        load_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="can not be read"):
        load_tokenizer(tmp_path / "absent.json")
    (tmp_path / "lilith_tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="is damaged"):
        load_tokenizer(tmp_path)


def test_files_that_do_not_belong_together(tmp_path, kinds):
    kinds["bpe"].save(tmp_path)
    meta = json.loads((tmp_path / "lilith_tokenizer.json").read_text())
    (tmp_path / "lilith_tokenizer.json").write_text(json.dumps({**meta, "vocab_size": 9}))
    with pytest.raises(TokenizerError, match="saved with 9 tokens"):
        load_tokenizer(tmp_path)
