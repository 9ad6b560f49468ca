"""The table of weights, and arrays streamed by it to their places and back."""

import dataclasses
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from golden_cases import random_params
from interop_models import LLAMA, MODELS, Tensors, same

from lilith.config import MeshConfig
from lilith.interop.weights import ImportFailed, build_params, export_tensors, file_tensors
from lilith.sharding import ShardingError, make_mesh

NAMINGS = ("huggingface", "gguf")


def exported(config, params, naming="huggingface"):
    return dict(export_tensors(params, config, naming))


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("name", MODELS)
def test_weights_go_out_and_in_again_bit_for_bit(name, naming):
    config = MODELS[name]
    params = random_params(config)
    tensors = exported(config, params, naming)
    stacked = build_params(config, Tensors(tensors), naming)
    assert same(params, stacked)
    layered = build_params(config, Tensors(tensors), naming, layered=True)
    assert isinstance(layered["layers"], tuple)
    for i, layer in enumerate(layered["layers"]):
        assert same(jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"]), layer)
    again = exported(config, layered, naming)
    assert list(again) == list(tensors)
    assert same(again, tensors)


@pytest.mark.parametrize("layered", [False, True])
def test_weights_are_laid_out_on_a_mesh(layered):
    config = MODELS["qwen2"]
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    params = random_params(config)
    tensors = exported(config, params)
    placed = build_params(
        config, Tensors(tensors), "huggingface", mesh=mesh, layered=layered, dtype="bfloat16"
    )
    gate = placed["layers"][1]["mlp"]["gate"] if layered else placed["layers"]["mlp"]["gate"]
    d, f = config.d_model, config.d_ff
    assert gate.sharding.shard_shape(gate.shape)[-2:] == (d // 4, f // 2)
    assert gate.dtype == ml_dtypes.bfloat16
    want = params["layers"]["mlp"]["gate"].astype(ml_dtypes.bfloat16)
    assert same(np.asarray(gate), want[1] if layered else want)
    wanted = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()}
    assert same(exported(config, placed), wanted)


def test_a_weight_that_does_not_divide_over_the_mesh():
    tensors = exported(LLAMA, random_params(LLAMA))
    mesh = make_mesh(MeshConfig(fsdp=1, tensor=8))
    with pytest.raises(ShardingError, match="layers/attention/k has kv_heads = 2"):
        build_params(LLAMA, Tensors(tensors), "huggingface", mesh=mesh, layered=True)


def test_matrices_compute_what_ours_do():
    """x @ W.T of a file's [out, in] matrix is our product, heads and all."""
    config = MODELS["qwen3"]
    params = random_params(config)
    tensors = exported(config, params)
    layer = jax.tree.map(lambda leaf: leaf[1], params["layers"])
    x = np.random.default_rng(0).standard_normal((3, config.d_model)).astype(np.float32)
    for path, name, product in (
        ("q", "self_attn.q_proj", np.einsum("BD,DNH->BNH", x, layer["attention"]["q"])),
        ("k", "self_attn.k_proj", np.einsum("BD,DNH->BNH", x, layer["attention"]["k"])),
        ("gate", "mlp.gate_proj", x @ layer["mlp"]["gate"]),
    ):
        found = x @ tensors[f"model.layers.1.{name}.weight"].T
        np.testing.assert_allclose(found, product.reshape(3, -1), rtol=1e-5, err_msg=path)
    heads = np.random.default_rng(1).standard_normal((3, config.heads, config.key_dim))
    np.testing.assert_allclose(
        heads.reshape(3, -1) @ tensors["model.layers.1.self_attn.o_proj.weight"].T,
        np.einsum("BNH,NHD->BD", heads, layer["attention"]["o"]),
        rtol=1e-4,
    )


def test_names_and_shapes_in_files():
    config = dataclasses.replace(MODELS["qwen2"], layers=1, qk_norm=True)
    shapes = {
        "model.embed_tokens.weight": (272, 32), "model.norm.weight": (32,),
        "lm_head.weight": (272, 32), "model.layers.0.input_layernorm.weight": (32,),
        "model.layers.0.self_attn.q_proj.weight": (32, 32),
        "model.layers.0.self_attn.k_proj.weight": (16, 32),
        "model.layers.0.self_attn.v_proj.weight": (16, 32),
        "model.layers.0.self_attn.o_proj.weight": (32, 32),
        "model.layers.0.self_attn.q_proj.bias": (32,),
        "model.layers.0.self_attn.k_proj.bias": (16,),
        "model.layers.0.self_attn.v_proj.bias": (16,),
        "model.layers.0.self_attn.q_norm.weight": (8,),
        "model.layers.0.self_attn.k_norm.weight": (8,),
        "model.layers.0.post_attention_layernorm.weight": (32,),
        "model.layers.0.mlp.gate_proj.weight": (48, 32),
        "model.layers.0.mlp.up_proj.weight": (48, 32),
        "model.layers.0.mlp.down_proj.weight": (32, 48),
    }  # fmt: skip
    found = file_tensors(config, "huggingface")
    assert {name: tensor.file_shape for name, tensor in found.items()} == shapes
    assert {*file_tensors(config, "gguf")} == {
        "token_embd.weight", "output_norm.weight", "output.weight",
        *(f"blk.0.{name}.weight" for name in (
            "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm",
            "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")),
        *(f"blk.0.attn_{name}.bias" for name in "qkv"),
    }  # fmt: skip


def test_placed_weights_do_not_share_the_memory_of_their_source():
    tensors = {n: np.array(a) for n, a in exported(LLAMA, random_params(LLAMA)).items()}
    placed = build_params(LLAMA, Tensors(tensors), "huggingface", layered=True)
    before = jax.tree.map(lambda leaf: np.array(leaf), placed)
    for array in tensors.values():
        array.fill(7)
    assert same(before, placed)


def test_types_of_a_source_are_converted():
    tensors = exported(LLAMA, random_params(LLAMA))
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    placed = build_params(LLAMA, Tensors(halves), "huggingface")
    assert same(exported(LLAMA, placed), {n: a.astype(np.float32) for n, a in halves.items()})


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({Q: None}, r"memory lacks the tensor 'model.layers.1.self_attn.q_proj.weight'"),
        (
            {f"model.layers.{i}.mlp.{n}_proj.weight": None for i in (0, 1) for n in ("up", "gate")},
            r"lacks 4 tensors \('model.layers.0.mlp.gate_proj.weight', .* and 1 more\)",
        ),
        ({"model.layers.0.self_attn.o_proj.bias": np.zeros(32)}, "holds the tensor '.*o_proj.bias"),
        ({"model.layers.2.input_layernorm.weight": np.ones(32)}, "holds the tensor"),
        ({Q: np.zeros((32, 31))}, r"1.self_attn.q_proj.*shape \[32, 31\], .* \[32, 32\]"),
        ({Q: np.zeros(1024)}, r"has shape \[1024\], and the config says \[32, 32\]"),
        ({"lm_head.weight": np.zeros((271, 32))}, r"\[271, 32\], and the config says \[272, 32\]"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_the_config(changes, words):
    tensors = exported(LLAMA, random_params(LLAMA)) | changes
    tensors = {name: array for name, array in tensors.items() if array is not None}
    with pytest.raises(ImportFailed, match=words):
        build_params(LLAMA, Tensors(tensors), "huggingface")


def test_rotary_buffers_of_old_files_are_passed_over():
    tensors = exported(LLAMA, random_params(LLAMA))
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    build_params(LLAMA, Tensors(tensors), "huggingface")


def test_a_tied_model_may_hold_its_table_twice_but_not_two_tables():
    config = MODELS["llama_mha_tied"]
    tensors = exported(config, random_params(config))
    assert "lm_head.weight" not in tensors
    table = tensors["model.embed_tokens.weight"]
    build_params(config, Tensors(tensors | {"lm_head.weight": table}), "huggingface")
    for other in (table + 1, table[:-1]):
        with pytest.raises(ImportFailed, match=r"tied embeddings\), but the file holds another"):
            build_params(config, Tensors(tensors | {"lm_head.weight": other}), "huggingface")


def test_parameters_of_another_config_are_not_exported():
    params = random_params(LLAMA)
    with pytest.raises(ImportFailed, match="'layers/attention/k_bias' is in one of them alone"):
        exported(MODELS["qwen2"], params)
    with pytest.raises(ImportFailed, match=r"shape \[32, 48\], and its config says \[32, 64\]"):
        exported(dataclasses.replace(LLAMA, d_ff=64), params)


CHILD = """
import re, resource, sys
import numpy as np
import jax
from lilith.config import MeshConfig, ModelConfig
from lilith.interop.weights import build_params, file_tensors
from lilith.model.params import count_params
from lilith.sharding import make_mesh

layered, devices = sys.argv[1] == "layered", int(sys.argv[2])
jax.config.update("jax_num_cpu_devices", devices)
mesh = make_mesh(MeshConfig()) if devices > 1 else None

class Source:
    where = "made up"
    def __init__(self, config):
        self.shapes = {n: t.file_shape for n, t in file_tensors(config, "huggingface").items()}
    def names(self):
        return self.shapes
    def read(self, name):
        return np.full(self.shapes[name], 0.5, np.float32)

def build(**sizes):
    config = ModelConfig(heads=8, kv_heads=8, vocab=512, **sizes)
    return config, build_params(config, Source(config), "huggingface", mesh=mesh, layered=layered)

build(layers=2, d_model=64, d_ff=64)
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
config, params = build(layers=8, d_model=1024, d_ff=2048)
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
print((peak - before) / (4 * count_params(config)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("layout", "devices", "most"),
    [("layered", 1, 1.3), ("layered", 4, 1.3), ("stacked", 4, 1.5)],
)
def test_the_host_never_holds_two_copies(layout, devices, most):
    """334 MB of weights: at the peak there are they and one matrix, or one stack of eight (67)."""
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, layout, str(devices)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert 0.9 < float(ended.stdout) < most
