"""Folders that LILITH writes opened by transformers, and folders of transformers read by LILITH."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from golden_cases import CASES, lilith_logits, random_params, random_tokens

pytest.importorskip(
    "transformers", reason="the extra [peers] is not installed: run `make test-peers`"
)

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
from interop_models import MODELS, same, texts

from lilith.config import TokenizerConfig
from lilith.interop.huggingface import load_huggingface, write_huggingface
from lilith.tokenizer import ByteTokenizer, train_sentencepiece

ROWS, LENGTH = 2, 100
SIZES = {
    "vocab_size": 272, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
}  # fmt: skip
WINDOWS = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}


def rope(kind, **fields):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 50_000.0, **fields}}


# Made by transformers alone, whose defaults count.
THEIRS = {
    "llama": ("llama", {}),
    "llama_tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama_head_dim": ("llama", {"head_dim": 32}),
    "mistral": ("mistral", {"sliding_window": 7}),
    "mistral_whole": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2_windows": ("qwen2", WINDOWS),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3_windows": ("qwen3", WINDOWS),
    "linear": ("llama", rope("linear", factor=4.0)),
    "llama3": ("llama", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=64)),
    "yarn": ("qwen2", rope("yarn", factor=4.0, original_max_position_embeddings=512)),
    "yarn_of_the_whole": ("llama", rope("yarn", factor=2.0)),
    "yarn_own": ("llama", rope("yarn", factor=4.0, attention_factor=1.2, beta_fast=8,
                               beta_slow=2, original_max_position_embeddings=256)),
    "yarn_two_scales": ("llama", rope("yarn", factor=4.0, mscale=1.5, mscale_all_dim=0.7,
                                      original_max_position_embeddings=256)),
}  # fmt: skip


def peer_logits(folder, tokens):
    """transformers' own, from a folder, in float32; every weight accounted for."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()


def agree(found, expected):
    """To 1e-4 of the largest logit."""
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_transformers_opens_what_lilith_writes(name, tmp_path):
    config = MODELS[name]
    params = random_params(config)
    write_huggingface(tmp_path / "model", params, config, ByteTokenizer(), shard_bytes=40_000)
    tokens = random_tokens(config, ROWS, LENGTH)
    agree(lilith_logits(params, tokens, config), peer_logits(tmp_path / "model", tokens))


@pytest.mark.parametrize("old", [False, True], ids=["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("name", THEIRS)
def test_lilith_reads_what_transformers_writes(name, old, tmp_path):
    family, fields = THEIRS[name]
    config = transformers.AutoConfig.for_model(family, **(SIZES | fields))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():  # no bias zero, no norm all ones
        weight.data += 0.05 * torch.randn_like(weight)
    model.save_pretrained(tmp_path)
    write_huggingface(tmp_path / "own", random_params(MODELS["llama"]), MODELS["llama"],
                      ByteTokenizer())  # fmt: skip
    for path in (tmp_path / "own").glob("*token*"):
        path.rename(tmp_path / path.name)
    if old:  # as transformers 4 wrote it
        path = tmp_path / "config.json"
        data = json.loads(path.read_text())
        scaling = data.pop("rope_parameters")
        data["rope_theta"] = scaling.pop("rope_theta")
        data["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
        data["torch_dtype"] = data.pop("dtype")
        path.write_text(json.dumps(data))
    params, found, _, _ = load_huggingface(tmp_path)
    tokens = random_tokens(found, ROWS, LENGTH)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    agree(lilith_logits(params, tokens, found), expected)
    agree(peer_logits(tmp_path, tokens), expected)
    # And out again: the very tensors, under the same names.
    write_huggingface(tmp_path / "again", params, found, ByteTokenizer())
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    theirs, ours = model.state_dict(), again.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_bfloat16_folders_are_the_same_bits(tmp_path):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("qwen3", head_dim=16, **SIZES)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "theirs")
    ByteTokenizer().save(tmp_path / "theirs")
    write_huggingface(tmp_path / "own", random_params(MODELS["llama"]), MODELS["llama"],
                      ByteTokenizer())  # fmt: skip
    (tmp_path / "own" / "tokenizer.json").rename(tmp_path / "theirs" / "tokenizer.json")
    params, found, tokenizer, _ = load_huggingface(tmp_path / "theirs")
    assert found.param_dtype == "bfloat16"
    write_huggingface(tmp_path / "ours", params, found, tokenizer)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_transformers_tokenises_alike(family, kind, tmp_path):
    own = ByteTokenizer()
    if kind == "bpe":
        corpus = [pathlib.Path(json.__file__).with_name(f"{n}.py").read_text()
                  for n in ("decoder", "encoder", "tool", "scanner")]  # fmt: skip
        own = train_sentencepiece(corpus, TokenizerConfig(vocab=600))
    config = dataclasses.replace(MODELS[family], vocab=640, context=1 << 20)
    template = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    write_huggingface(
        tmp_path / "m", random_params(config), config, own, chat_template=template, stop_ids=(9,)
    )
    kinds = (
        transformers.PreTrainedTokenizerFast if family == "qwen2" else transformers.AutoTokenizer
    )
    theirs = kinds.from_pretrained(tmp_path / "m")
    for text in texts(300):
        ids = own.encode(text, allow_special=True)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs(text)["input_ids"] == [own.bos_id, *ids]
        assert theirs.decode(ids) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (
        own.bos_id, own.eos_id, own.pad_id
    )  # fmt: skip
    chat = theirs.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=True)
    ids = getattr(chat, "input_ids", chat)
    assert ids == [own.bos_id, own.special_tokens["<|im_start|>"], *own.encode("hi")]


def test_transformers_generates_from_the_folder(tmp_path):
    config = MODELS["llama"]
    params = random_params(config)
    write_huggingface(tmp_path / "m", params, config, ByteTokenizer(), stop_ids=(9,))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert sorted(model.generation_config.eos_token_id) == [9, 257]
    assert model.generation_config.pad_token_id == 258
    prompt = torch.tensor([[256, 100, 101]])
    made = model.generate(prompt, max_new_tokens=4, do_sample=False, eos_token_id=None)[0].tolist()
    for i in range(3, 7):
        logits = lilith_logits(params, np.array([made[:i]], np.int32), config)
        assert made[i] == logits[0, -1].argmax()


def test_weights_are_read_alike_from_one_file_and_from_several(tmp_path):
    config = MODELS["qwen3"]
    params = random_params(config)
    for name, size in (("one", 5e9), ("several", 30_000)):
        write_huggingface(tmp_path / name, params, config, ByteTokenizer(), shard_bytes=size)
    assert same(*(jax.tree.map(np.asarray, load_huggingface(tmp_path / name)[0])
                  for name in ("one", "several")))  # fmt: skip
