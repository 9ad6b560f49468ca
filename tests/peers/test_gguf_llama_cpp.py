"""GGUF files side by side with llama.cpp: the same tokens, the same logits."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from gguf_files import CODE, bpe_content, rewrite
from golden_cases import lilith_logits, random_params, random_tokens
from interop_models import MODELS, texts

from lilith.config import RopeScaling, TokenizerConfig
from lilith.interop.gguf import load_gguf, write_gguf
from lilith.interop.gguf_pretokenizers import PRE_TOKENIZERS, pre_tokenizer_node
from lilith.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    TokenizerError,
    train_sentencepiece,
)

llama_cpp = pytest.importorskip(
    "llama_cpp", reason="the extra [peers] is not installed: run `make test-peers`"
)

TEXTS = [
    CODE,
    *texts(60),
    "Hello world",
    "  leading spaces   and   more",
    "def f(x):\n\treturn x**2  # comment\n\n\n",
    "1234567890 12 3.14 1,000,000 v2.0",
    "na\u00efve caf\u00e9 \u03a9mega stra\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u4e2d\u56fd\u3002\ud55c\uad6d\uc5b4",
    "emoji \U0001f600\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "don't I'm you've they'll HE'S DON'T it\u2019s",
    "\u2460\u2461\u2167\u00bd \u00b2\u00b3 \u0663\u0664\u0665 \U0001d4b3\U00010400",
    "!!!??? ... --- === <<>> $$$ ^^^ ~~~ ||| ```",
    "<|im_start|>user\nhi<|im_end|>",
    "https://example.com/a?b=c&d=e#f snake_case camelCase",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0939\u093f\u0928\u094d\u0926\u0940",
]
TIGHT = 1e-5  # of tiny models in float32
TEXT = (
    "The capital of France is Paris, which lies on the river Seine. It is known for its museums "
    "and its food. In 1889 the Eiffel Tower was built there for the World's Fair; today about "
    "seven million people visit it in a year. The city has twenty districts, and 2.1 million "
    "people live in them. def area(radius): return 3.14159 * radius ** 2"
)


@contextlib.contextmanager
def llama(path, **options):
    """llama.cpp with its cache in float32, so that only rounding separates it from LILITH."""
    exact = {"type_k": 0, "type_v": 0, "flash_attn": False}
    model = llama_cpp.Llama(str(path), verbose=False, n_threads=2, **(exact | options))
    try:
        yield model
    finally:
        model.close()


def peer_logits(path, tokens, **options):
    """[length, vocab] float32."""
    with llama(path, n_ctx=max(512, len(tokens)), logits_all=True, **options) as model:
        model.eval(list(map(int, tokens)))
        return np.array(model.scores[: len(tokens)])


def peer_tokens(path, cases, *, special=False):
    with llama(path, vocab_only=True) as model:
        return [model.tokenize(it.encode(), add_bos=False, special=special) for it in cases]


def own_yarn_factor():
    scaling = dataclasses.replace(MODELS["yarn"].rope_scaling, attention_factor=1.3)
    return dataclasses.replace(MODELS["yarn"], rope_scaling=scaling)


@pytest.mark.parametrize("name", [*MODELS, "yarn_factor"])
def test_logits_of_every_family(tmp_path, name):
    config = own_yarn_factor() if name == "yarn_factor" else MODELS[name]
    params, tokens = random_params(config), random_tokens(config, 1, 100)
    notes = write_gguf(tmp_path / "m.gguf", params, config, ByteTokenizer())
    ours = lilith_logits(params, tokens, config)[0]
    difference = np.abs(ours - peer_logits(tmp_path / "m.gguf", tokens[0])).max()
    if notes:  # which say that llama.cpp computes something else
        assert difference > 0.1
    else:
        assert difference < TIGHT


@pytest.mark.parametrize("head_dim", [16, 64])
def test_llama3_scaling_without_a_word_of_its_context(tmp_path, head_dim):
    """As llama.cpp's own converter writes it: nothing but the divisors."""
    scaling = RopeScaling("llama3", factor=8.0, original_context=32)
    config = dataclasses.replace(MODELS["llama"], head_dim=head_dim, rope_scaling=scaling)
    write_gguf(tmp_path / "a.gguf", random_params(config), config, ByteTokenizer())
    key = "llama.rope.scaling.original_context_length"
    rewrite(tmp_path / "a.gguf", tmp_path / "m.gguf", keys={key: None})
    params, found, _, _ = load_gguf(tmp_path / "m.gguf", layered=False)
    tokens = random_tokens(config, 1, 100)
    expected = peer_logits(tmp_path / "m.gguf", tokens[0])
    np.testing.assert_allclose(
        lilith_logits(params, tokens, found)[0], expected, rtol=0, atol=TIGHT
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.1)])
def test_logits_of_smaller_types(tmp_path, dtype, tolerance):
    config = MODELS["llama_mha_tied"]
    write_gguf(tmp_path / "m.gguf", random_params(config), config, ByteTokenizer(), dtype=dtype)
    params, found, _, _ = load_gguf(tmp_path / "m.gguf", layered=False, dtype="float32")
    tokens = random_tokens(config, 1, 64)
    ours = lilith_logits(params, tokens, found)[0]  # llama.cpp rounds the activations too
    assert np.abs(ours - peer_logits(tmp_path / "m.gguf", tokens[0])).max() < tolerance


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_tokens_of_every_rule_for_words(tmp_path, name):
    rule, content = PRE_TOKENIZERS[name], bpe_content()
    content["model"]["ignore_merges"] = rule.ignore_merges
    content["pre_tokenizer"] = pre_tokenizer_node(rule)
    tokenizer = HuggingFaceTokenizer(json.dumps(content))
    config = dataclasses.replace(MODELS["llama"], vocab=720)
    write_gguf(tmp_path / "m.gguf", random_params(config), config, tokenizer)
    _, _, found, _ = load_gguf(tmp_path / "m.gguf")
    for text, ids in zip(TEXTS, peer_tokens(tmp_path / "m.gguf", TEXTS)):
        assert found.encode(text) == ids, text
    for text, ids in zip(TEXTS, peer_tokens(tmp_path / "m.gguf", TEXTS, special=True)):
        assert found.encode(text, allow_special=True) == ids, text


@pytest.mark.parametrize("kind", ["sentencepiece", "bytes"])
def test_tokens_of_liliths_own_tokenizers(tmp_path, kind):
    bytes_kind = kind == "bytes"
    tokenizer = (
        ByteTokenizer() if bytes_kind else train_sentencepiece([CODE], TokenizerConfig(vocab=600))
    )
    config = dataclasses.replace(MODELS["llama"], vocab=600)
    write_gguf(tmp_path / "m.gguf", random_params(config), config, tokenizer)
    for special in (False, True):
        for text, ids in zip(TEXTS, peer_tokens(tmp_path / "m.gguf", TEXTS, special=special)):
            if bytes_kind or "\u2581" not in text:  # llama.cpp takes that character for a space
                assert tokenizer.encode(text, allow_special=special) == ids, text
    with llama(tmp_path / "m.gguf", vocab_only=True) as model:
        vocabulary = model._model.vocab
        assert model.token_bos() == tokenizer.bos_id
        assert model.token_eos() == tokenizer.eos_id
        assert llama_cpp.llama_vocab_is_eog(vocabulary, tokenizer.special_tokens["<|im_end|>"])
        assert llama_cpp.llama_vocab_get_add_bos(vocabulary)


@pytest.fixture(scope="module")
def smollm(smollm2):
    return smollm2, *load_gguf(smollm2, layered=False)


def test_smollm2_tokens(smollm):
    path, _, _, tokenizer, extras = smollm
    # Its vocabulary lacks the bytes that begin characters of planes nobody uses: llama.cpp leaves
    # them out without a word, and LILITH refuses.
    lacking = [text for text in TEXTS if {0xF1, 0xF2} & set(text.encode())]
    assert lacking
    for text in lacking:
        with pytest.raises(TokenizerError, match="has no token for its byte 0xF"):
            tokenizer.encode(text)
    written = [text for text in TEXTS if text not in lacking]
    for text, ids in zip(written, peer_tokens(path, written)):
        assert tokenizer.encode(text) == ids, text
    with llama(path, vocab_only=True) as model:
        assert model.metadata["tokenizer.chat_template"] == extras.chat_template
        ends = {i for i in range(tokenizer.vocab_size)
                if llama_cpp.llama_vocab_is_eog(model._model.vocab, i)}  # fmt: skip
        assert set(extras.stop_ids) == ends - {tokenizer.special_tokens["<reponame>"]}


@pytest.mark.slow
def test_smollm2_logits(smollm, tmp_path):
    """The weights are read alike: from a float32 copy llama.cpp computes what LILITH does.

    From the quantised file it differs, because there it rounds activations to 8 bits; about as much
    as it differs from itself on the float32 copy.
    """
    path, params, config, tokenizer, extras = smollm
    tokens = tokenizer.encode(TEXT)[:64]
    ours = lilith_logits(params, np.array([tokens]), config)[0]
    write_gguf(tmp_path / "f32.gguf", params, config, tokenizer, chat_template=extras.chat_template)
    same_weights = peer_logits(tmp_path / "f32.gguf", tokens)
    np.testing.assert_allclose(ours, same_weights, rtol=0, atol=1e-3)
    assert (ours.argmax(-1) == same_weights.argmax(-1)).mean() >= 0.98
    quantised = peer_logits(path, tokens)
    agreement = (ours.argmax(-1) == quantised.argmax(-1)).mean()
    assert agreement >= 0.9
    assert agreement >= (same_weights.argmax(-1) == quantised.argmax(-1)).mean() - 0.02


@pytest.mark.slow
def test_smollm2_logits_of_transformers(smollm):
    pytest.importorskip("transformers", reason="the extra [peers] is not installed")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    from weights import to_model

    path, params, config, tokenizer, _ = smollm
    tokens = np.array([tokenizer.encode(TEXT)[:64]])
    import torch

    with torch.no_grad():
        model = to_model(config, params)
        expected = model(torch.tensor(tokens)).logits[0].numpy()
        ours = lilith_logits(params, tokens, config)[0]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3)
        assert np.array_equal(ours.argmax(-1), expected.argmax(-1))
        theirs = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
        for name, tensor in model.state_dict().items():
            if name != "lm_head.weight":  # tied
                assert torch.equal(tensor, theirs["tensors"][name].float()), name
