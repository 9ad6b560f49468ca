"""Hugging Face folders: exact round trips, every field of config.json, and damaged folders."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from golden_cases import random_params
from interop_models import LLAMA, MODELS, edit_json, edit_tensors, same, texts, write_folder
from safetensors.numpy import load_file, save_file

from lilith.config import RopeScaling, TokenizerConfig
from lilith.interop import huggingface, safetensors_folder
from lilith.interop.huggingface import load_huggingface, write_huggingface
from lilith.interop.huggingface_config import export_config, model_config
from lilith.interop.weights import ImportFailed, export_tensors
from lilith.tokenizer import ByteTokenizer, load_tokenizer, train_sentencepiece

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    write_folder(folder, chat_template="{{ messages[0].content }}", stop_ids=(7,))
    return folder


@pytest.fixture
def folder(llama_folder, tmp_path):
    """A copy to damage."""
    return shutil.copytree(llama_folder, tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
def test_out_and_in_again_is_the_same_model(name, tmp_path):
    config = MODELS[name]
    params = write_folder(tmp_path / name, config)
    found, found_config, tokenizer, extras = load_huggingface(tmp_path / name)
    assert same(params, found)
    kind = config.rope_scaling.kind
    if kind in ("yarn", "llama3") and not config.rope_scaling.original_context:
        scaling = dataclasses.replace(config.rope_scaling, original_context=config.context)
        config = dataclasses.replace(config, rope_scaling=scaling)
    window = found_config.window if "window" not in config.attention_pattern else config.window
    head_dim = None if config.key_dim * config.heads == config.d_model else config.head_dim
    assert found_config == dataclasses.replace(config, window=window, head_dim=head_dim)
    assert extras.architecture == ("mistral" if name == "mistral" else name.split("_")[0]
                                   if name.startswith("q") else "llama")  # fmt: skip
    assert tokenizer.bos_id == ByteTokenizer().bos_id
    assert extras.add_bos


def foreign_folder(folder, dtype, shards=1):
    """What another project would hand over: version 4 fields, several files, extra tokens."""
    config = MODELS["qwen2"]
    params = random_params(config)
    tensors = {
        name: array.astype(dtype) for name, array in export_tensors(params, config, "huggingface")
    }
    write_folder(folder, config)
    os.remove(folder / WEIGHTS)
    names = list(tensors)
    homes = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
             for i, name in enumerate(names)}  # fmt: skip
    for file in set(homes.values()):
        content = {name: tensors[name] for name in names if homes[name] == file}
        save_file(content, folder / file, metadata={"format": "pt"})
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": homes}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (folder / names_of_file(1)).rename(folder / WEIGHTS)
    return tensors


def names_of_file(count):
    return f"model-00001-of-{count:05}.safetensors"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_in_and_out_again_is_the_same_file(dtype, shards, tmp_path):
    tensors = foreign_folder(tmp_path / "theirs", dtype, shards)
    params, config, tokenizer, extras = load_huggingface(tmp_path / "theirs", layered=True)
    assert config.param_dtype == config.compute_dtype == np.dtype(dtype).name
    write_huggingface(tmp_path / "ours", params, config, tokenizer)
    assert same(load_file(tmp_path / "ours" / WEIGHTS), tensors)
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["torch_dtype"] == np.dtype(dtype).name
    assert extras.quantisation == {4: "F32", 2: "BF16"}[np.dtype(dtype).itemsize].replace(
        "BF16", "F16" if dtype is np.float16 else "BF16"
    )


def test_mixed_types_are_read_as_float32_and_a_type_may_be_asked(folder):
    norm = np.linspace(0, 1, LLAMA.d_model).astype(ml_dtypes.bfloat16)
    edit_tensors(folder / WEIGHTS, **{"model.norm.weight": norm})
    params, config, _, _ = load_huggingface(folder)
    assert config.param_dtype == "float32"
    assert same(np.asarray(params["final_norm"]), norm.astype(np.float32))
    params, config, _, _ = load_huggingface(folder, dtype="bfloat16", layered=True)
    assert config.param_dtype == config.compute_dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(ml_dtypes.bfloat16)}


def test_large_models_are_written_in_several_files(tmp_path):
    params = write_folder(tmp_path / "model", LLAMA, shard_bytes=20_000)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    total = 0
    for file in files:
        tensors = load_file(tmp_path / "model" / file)
        assert {name for name, home in index["weight_map"].items() if home == file} == {*tensors}
        size = sum(array.nbytes for array in tensors.values())
        assert size <= 20_000 or len(tensors) == 1
        total += size
    assert index["metadata"]["total_size"] == total
    assert same(load_huggingface(tmp_path / "model")[0], params)


def test_other_types_are_rounded_and_too_large_values_refused(tmp_path):
    params = write_folder(tmp_path / "model", LLAMA, dtype="bfloat16")
    rounded = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), params)
    assert same(load_huggingface(tmp_path / "model")[0], rounded)
    params["final_norm"][3] = 1e5
    with pytest.raises(ImportFailed, match=r"'model.norm.weight' holds 1e\+05, more than float16"):
        write_huggingface(tmp_path / "half", params, LLAMA, ByteTokenizer(), dtype="float16")
    with pytest.raises(ImportFailed, match="can not be written as float64"):
        write_huggingface(tmp_path / "half", params, LLAMA, ByteTokenizer(), dtype="float64")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


# Reading config.json

V4_LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "hidden_act": "silu",
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1,
}  # fmt: skip
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
         "num_attention_heads": 4}  # fmt: skip


def read(**data):
    return model_config({name: value for name, value in data.items() if value is not ...}, "c.json")


def test_a_published_config():
    config = read(**V4_LLAMA3)
    assert (config.layers, config.heads, config.kv_heads, config.key_dim) == (16, 32, 8, 64)
    assert (config.context, config.rope_base, config.norm_eps) == (131072, 500000.0, 1e-5)
    assert config.tied_embeddings
    scaling = RopeScaling(kind="llama3", factor=32.0, original_context=8192,
                          low_frequency_factor=1.0, high_frequency_factor=4.0)  # fmt: skip
    assert config.rope_scaling == scaling
    own = V4_LLAMA3["rope_scaling"] | {"rope_theta": 500000.0}
    assert read(**V4_LLAMA3 | {"rope_scaling": ..., "rope_theta": ..., "rope_parameters": own}) == (
        config
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", (4, 2048, ("global",), 8, False, False)),
        ("mistral", (8, 131_072, ("window",), 8, False, False)),
        ("qwen2", (32, 32_768, ("global",), 8, True, False)),
        ("qwen3", (32, 32_768, ("global",), 128, False, True)),
    ],
)
def test_absent_fields_are_those_of_transformers(family, expected):
    heads = {"num_attention_heads": max(4, expected[0]), "hidden_size": 8 * max(4, expected[0])}
    config = read(model_type=family, **SIZES | heads)
    found = (config.kv_heads, config.context, config.attention_pattern, config.key_dim)
    assert (*found, config.qkv_bias, config.qk_norm) == expected
    assert (config.rope_base, config.norm_eps, config.tied_embeddings) == (10_000.0, 1e-6, False)


@pytest.mark.parametrize(
    ("family", "fields", "pattern", "window"),
    [
        ("mistral", {"sliding_window": None}, ("global",), 1024),
        ("mistral", {"sliding_window": 9}, ("window",), 9),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 9}, ("global",), 1024),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 4},
         ("global",), 1024),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0},
         ("window",), 9),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
         ("global", "global", "window", "window"), 9),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 9,
                   "layer_types": ["sliding_attention", "full_attention"] * 2},
         ("window", "global"), 9),
        ("llama", {"sliding_window": 9}, ("global",), 1024),
    ],
)  # fmt: skip
def test_sliding_windows(family, fields, pattern, window):
    config = read(model_type=family, num_key_value_heads=2, **SIZES, **fields)
    assert (config.attention_pattern, config.window) == (pattern, window)


@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2}}, RopeScaling("linear", 2.0)),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
         RopeScaling("linear", 2.0)),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, RopeScaling("yarn", 4.0, 2048)),
        ({"rope_scaling": {"rope_type": "yarn", "factor": None,
                           "original_max_position_embeddings": 512}},
         RopeScaling("yarn", 4.0, 512)),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5,
                           "beta_fast": 16, "beta_slow": 2}},
         RopeScaling("yarn", 4.0, 2048, beta_fast=16.0, beta_slow=2.0, attention_factor=1.5)),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                           "high_freq_factor": 4.0}, "original_max_position_embeddings": 256},
         RopeScaling("llama3", 8.0, 256)),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "default"}}, RopeScaling()),
        ({"rope_scaling": {}}, RopeScaling()),
    ],
)  # fmt: skip
def test_rope_scalings_in_both_shapes(rope, scaling):
    assert read(model_type="llama", **SIZES, **rope).rope_scaling == scaling


def yarn(**fields):
    return {"rope_scaling": {"rope_type": "yarn", "factor": 4.0} | fields}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "gemma2"}, "'model_type' is 'gemma2'; LILITH reads llama, mistral, qwen2"),
        ({"model_type": "lama"}, r"did you mean 'llama'\?"),
        ({"model_type": ...}, "'model_type' is None"),
        ({"model_type": 3}, "'model_type' is 3"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'; LILITH's feed-forward layers use silu"),
        ({"mlp_bias": True}, "'mlp_bias' is True; it adds biases"),
        ({"attention_bias": True}, "'attention_bias' is True; it adds a bias to the output"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is 0.5"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "'partial_rotary_factor' is 0.5"),
        ({"quantization_config": {"quant_method": "gptq"}}, "'quantization_config' is .*gptq"),
        ({"hidden_size": ...}, "c.json has no 'hidden_size'"),
        ({"hidden_size": "32"}, "'hidden_size' is '32'; expected int"),
        ({"num_hidden_layers": True}, "'num_hidden_layers' is True; expected int"),
        ({"num_hidden_layers": 0}, "no layers|layers is 0"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3}, "model.d_model is 32"),
        ({"num_key_value_heads": 3}, "model.heads is 4, which model.kv_heads"),
        ({"vocab_size": -1}, "model.vocab is -1"),
        ({"rope_theta": "big"}, "'rope_theta' is 'big'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "not 'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "linear, llama3 and yarn scaling, not"),
        ({"rope_scaling": {"type": "linear"}}, "'factor' is None"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling.factor is 0.5"),
        ({"rope_scaling": "linear"}, "'rope_scaling' is 'linear'; expected dict"),
        (yarn(truncate=False), "'truncate' is False"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "for all layers"),
        ({"rope_scaling": V4_LLAMA3["rope_scaling"] | {"low_freq_factor": 4.0}}, "above"),
        ({"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 9,
          "layer_types": ["full_attention"] * 4}, "in all of its layers or in none"),
        ({"model_type": "qwen3", "num_key_value_heads": 2, "layer_types": ["chunked"] * 4},
         "'layer_types' is .*expected 4 of"),
        ({"model_type": "qwen2", "num_key_value_heads": 2,
          "layer_types": ["sliding_attention"] * 4}, "names sliding windows, but none is in use"),
    ],
)  # fmt: skip
def test_configs_that_are_refused(fields, words):
    with pytest.raises(ImportFailed, match=words):
        read(**{"model_type": "llama", **SIZES, **fields})


def test_yarn_temperatures_of_two_scales():
    config = read(model_type="llama", **SIZES, **yarn(mscale=2.0, mscale_all_dim=1.0))
    growth = 0.1 * np.log(4.0)
    expected = (2 * growth + 1) / (growth + 1)
    assert config.rope_scaling.attention_factor == pytest.approx(expected)
    assert read(model_type="llama", **SIZES, **yarn(mscale=2.0)).rope_scaling.attention_factor is (
        None
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logit_softcap": 30.0}, "model.logit_softcap is 30.0, which none of"),
        ({"attention_pattern": ("window", "global")}, "model.attention_pattern is .* without"),
        ({"qkv_bias": True, "qk_norm": True}, "model.qkv_bias is True together with model.qk_norm"),
    ],
)
def test_configs_that_no_family_computes(changes, words, tmp_path):
    config = dataclasses.replace(LLAMA, **changes)
    with pytest.raises(ImportFailed, match=words):
        write_folder(tmp_path / "model", config)
    assert not any(tmp_path.iterdir())


def test_heads_that_do_not_divide_the_width_are_a_mistral():
    config = dataclasses.replace(LLAMA, d_model=36, head_dim=8, heads=8)
    written = export_config(config, "float32")
    assert (written["model_type"], written["sliding_window"]) == ("mistral", None)
    assert read(**written).attention_pattern == ("global",)


# Folders that are not whole


def test_an_index_that_names_a_missing_file(tmp_path):
    foreign_folder(tmp_path, np.float32, shards=3)
    os.remove(tmp_path / "model-00002-of-00003.safetensors")
    with pytest.raises(
        ImportFailed, match=r"names 'model-00002-of-00003.safetensors', which is no"
    ):
        load_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("home", "words"),
    [
        ("../model-00001-of-00003.safetensors", "is in '../model-00001.*', which names no file"),
        ("model-00002-of-00003.safetensors", "says that model-00002.* holds the tensor 'lm_head.w"),
        (3, "is in 3, which names no file"),
    ],
)
def test_an_index_that_does_not_fit_its_files(home, words, tmp_path):
    foreign_folder(tmp_path, np.float32, shards=3)
    index = tmp_path / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    assert data["weight_map"]["lm_head.weight"] != home
    data["weight_map"]["lm_head.weight"] = home
    index.write_text(json.dumps(data))
    with pytest.raises(ImportFailed, match=words):
        load_huggingface(tmp_path)


def test_damaged_safetensors(folder):
    whole = (folder / WEIGHTS).read_bytes()
    for damaged in (b"", b"{}", whole[: len(whole) // 2], whole[:-1], whole[:9], b"\xff" * 64,
                    whole[:8] + b"[" + whole[9:]):  # fmt: skip
        (folder / WEIGHTS).write_bytes(damaged)
        with pytest.raises(ImportFailed, match="can not be read as safetensors"):
            load_huggingface(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_and_safetensors_suggested(folder, name):
    (folder / WEIGHTS).rename(folder / name)
    with pytest.raises(
        ImportFailed, match=r"is a pickle, which can run any.*safetensors.*python -c"
    ):
        load_huggingface(folder)


def test_folders_that_lack_a_file(folder):
    (folder / "tokenizer.json").rename(folder / "kept")
    with pytest.raises(ImportFailed, match=r"has no tokenizer.json; fetch it, or make it"):
        load_huggingface(folder)
    (folder / "kept").rename(folder / "tokenizer.json")
    os.remove(folder / WEIGHTS)
    with pytest.raises(ImportFailed, match=r"has no model.safetensors and no .*fetch the weights"):
        load_huggingface(folder)
    os.remove(folder / "config.json")
    with pytest.raises(ImportFailed, match="is not a Hugging Face model folder"):
        load_huggingface(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ImportFailed, match="holds an adapter"):
        load_huggingface(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udc80", "[" * 100_000])
def test_a_config_that_is_no_json(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ImportFailed, match=r"config.json (is not valid JSON|holds a JSON list)"):
        load_huggingface(folder)


def test_weights_that_do_not_fit_their_config(folder):
    edit_json(folder / "config.json", intermediate_size=64)
    with pytest.raises(ImportFailed, match=r"gate_proj.weight' has shape \[48, 32\].*\[64, 32\]"):
        load_huggingface(folder)
    edit_json(folder / "config.json", intermediate_size=48, num_hidden_layers=3)
    with pytest.raises(ImportFailed, match=r"lacks 9 tensors \('model.layers.2.input_layernorm"):
        load_huggingface(folder)
    edit_json(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(
        ImportFailed, match=r"holds 9 tensors .* that a model of its config does no"
    ):
        load_huggingface(folder)


def test_types_that_are_not_read(folder):
    edit_tensors(folder / WEIGHTS, **{"model.norm.weight": np.ones(32, np.int8)})
    with pytest.raises(
        ImportFailed, match=r"'model.norm.weight' has the type I8; LILITH reads F16"
    ):
        load_huggingface(folder)


def test_a_tokenizer_larger_than_the_vocabulary(tmp_path):
    config = dataclasses.replace(LLAMA, vocab=264)
    with pytest.raises(ImportFailed, match="the tokenizer has 265 tokens and the model 264"):
        write_folder(tmp_path / "model", config)
    write_folder(tmp_path / "model", dataclasses.replace(LLAMA, vocab=265))
    edit_json(tmp_path / "model" / "config.json", vocab_size=264)
    with pytest.raises(ImportFailed, match="the tokenizer has 265 tokens and the model 264"):
        load_huggingface(tmp_path / "model")


# Writing


def test_a_broken_export_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_folder, "save_file", full)
    with pytest.raises(ImportFailed, match="model can not be written: No space left on device"):
        write_folder(tmp_path / "model")
    assert not any(tmp_path.iterdir())

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface, "write_safetensors", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_exists_is_not_written_over(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ImportFailed, match="exists already"):
        write_folder(folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty")
    assert (tmp_path / "empty" / WEIGHTS).stat().st_mode & 0o444 == 0o444
    (tmp_path / "file").write_text("")
    with pytest.raises(ImportFailed, match="exists already"):
        write_folder(tmp_path / "file")


def test_weights_on_a_mesh_are_exported(tmp_path):
    from lilith.config import MeshConfig
    from lilith.model.params import param_shardings
    from lilith.sharding import make_mesh

    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    params = random_params(LLAMA)
    placed = jax.tree.map(jax.device_put, params, param_shardings(LLAMA, mesh))
    write_huggingface(tmp_path / "model", placed, LLAMA, ByteTokenizer())
    again = load_huggingface(tmp_path / "model", mesh=mesh)[0]
    assert same(again, params)
    assert again["layers"]["mlp"]["up"].sharding == placed["layers"]["mlp"]["up"].sharding


CHILD = """
import re, resource, sys, jax
from lilith.interop.huggingface import load_huggingface
small, large = sys.argv[1:]
load_huggingface(small, layered=True)
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
params = load_huggingface(large, layered=True)[0]
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
print((peak - before) / sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_a_folder_never_holds_two_copies(llama_folder, tmp_path):
    """200 MB in three files: the mapped pages of a file are given back tensor by tensor."""
    config = dataclasses.replace(LLAMA, layers=6, d_model=1024, d_ff=2048, heads=8, kv_heads=4)
    params = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.5, jnp.float32),
        jax.eval_shape(lambda: random_params_like(config)),
    )
    write_huggingface(tmp_path / "large", params, config, ByteTokenizer(), shard_bytes=8e7)
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(llama_folder), str(tmp_path / "large")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert 0.9 < float(ended.stdout) < 1.3


def random_params_like(config):
    from lilith.model.params import init_params

    return init_params(0, config)


# Tokenizers and what else a folder says


@pytest.fixture(scope="module")
def corpus():
    folder = os.path.dirname(json.__file__)
    return [open(os.path.join(folder, name)).read() for name in ("decoder.py", "encoder.py")]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "bytes"])
def test_own_tokenizers_encode_alike_from_the_folder(kind, corpus, tmp_path):
    own = ByteTokenizer()
    if kind != "bytes":
        own = train_sentencepiece(corpus, TokenizerConfig(vocab=600, algorithm=kind))
    config = dataclasses.replace(LLAMA, vocab=640)
    notes = write_huggingface(tmp_path / "m", random_params(config), config, own)
    assert bool(notes) == (kind == "unigram")
    assert load_huggingface(tmp_path / "m")[2].fingerprint == own.fingerprint
    again = load_tokenizer(tmp_path / "m" / "tokenizer.json")
    assert again.special_tokens == own.special_tokens
    assert (again.bos_id, again.eos_id, again.pad_id) == (own.bos_id, own.eos_id, own.pad_id)
    checked = texts(700 if kind != "unigram" else 40) + [text[:500] for text in corpus]
    checked += corpus if kind != "unigram" else []
    for text in checked:
        ids = own.encode(text)
        assert again.encode(text) == ids or (kind == "unigram" and again.decode(ids) == text)
        assert again.decode(again.encode(text)) == text
    marked = "<|im_start|>user\nhi<|im_end|>"
    assert again.encode(marked, allow_special=True) == own.encode(marked, allow_special=True)


def test_a_qwen2_with_a_tokenizer_of_its_own_says_how_to_open_it(tmp_path):
    config = MODELS["qwen2"]
    notes = write_huggingface(tmp_path / "m", random_params(config), config, ByteTokenizer())
    assert any("PreTrainedTokenizerFast.from_pretrained" in note for note in notes)


def test_a_folder_says_its_template_ends_licence_and_bos(folder):
    _, _, tokenizer, extras = load_huggingface(folder)
    assert extras.chat_template == "{{ messages[0].content }}"
    assert extras.stop_ids == (7, tokenizer.eos_id)
    assert extras.add_bos
    assert extras.licence is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n")
    edit_json(folder / "tokenizer.json", post_processor=None)
    edit_json(folder / "generation_config.json", eos_token_id=9)
    _, _, tokenizer, extras = load_huggingface(folder)
    assert (extras.licence, extras.add_bos) == ("apache-2.0", False)
    assert extras.stop_ids == (9, tokenizer.eos_id)


def test_where_chat_templates_are_kept(folder):
    settings = folder / "tokenizer_config.json"
    edit_json(settings, chat_template="old")
    assert load_huggingface(folder)[3].chat_template == "{{ messages[0].content }}"
    os.remove(folder / "chat_template.jinja")
    assert load_huggingface(folder)[3].chat_template == "old"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    edit_json(settings, chat_template=several)
    assert load_huggingface(folder)[3].chat_template == "d"
    edit_json(settings, chat_template=...)
    assert load_huggingface(folder)[3].chat_template is None
    edit_json(settings, chat_template=3)
    with pytest.raises(ImportFailed, match="'chat_template' is not a text"):
        load_huggingface(folder)


@pytest.mark.parametrize("stops", [-1, 272, "2", [2, None], True])
def test_ends_that_are_no_ids(folder, stops):
    edit_json(folder / "generation_config.json", eos_token_id=stops)
    with pytest.raises(ImportFailed, match=r"'eos_token_id' is .*; expected ids of the vocabulary"):
        load_huggingface(folder)
