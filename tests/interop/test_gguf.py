"""GGUF files in and out: exact round trips, every tensor type, one clear error for each damage."""

import dataclasses
import math

import gguf
import jax
import ml_dtypes
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf_blocks import READERS
from gguf_files import metadata_of, rewrite, write_model
from golden_cases import lilith_logits, random_params, random_tokens
from interop_models import LLAMA, MODELS, same

from lilith.config import MeshConfig, RopeScaling
from lilith.interop.gguf import READABLE, load_gguf, read_gguf, write_gguf
from lilith.interop.gguf_config import read_config
from lilith.interop.gguf_rope import divisors_of, scaling_of
from lilith.interop.weights import ImportFailed
from lilith.model.layers import rope_frequencies
from lilith.model.params import param_shardings
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer

F32 = GGMLQuantizationType.F32
Q = "blk.0.attn_q.weight"


@pytest.mark.parametrize("name", MODELS)
def test_a_round_trip_in_f32_is_exact(tmp_path, name):
    config = MODELS[name]
    params = write_model(tmp_path / "m.gguf", name, chat_template="{{ x }}", name="A model")
    found, again, tokenizer, extras = load_gguf(tmp_path / "m.gguf", layered=False)
    assert same(found, jax.tree.map(np.asarray, params))
    original = again.rope_scaling.original_context
    if original:  # 0 in a config says: the context
        assert original == (config.rope_scaling.original_context or config.context)
    scaling = dataclasses.replace(config.rope_scaling, original_context=original)
    assert again == dataclasses.replace(config, rope_scaling=scaling)
    assert tokenizer.fingerprint == ByteTokenizer().fingerprint
    assert (extras.chat_template, extras.name, extras.quantisation) == ("{{ x }}", "A model", "F32")
    assert set(extras.stop_ids) == {tokenizer.eos_id, tokenizer.special_tokens["<|im_end|>"]}
    assert extras.add_bos
    assert extras.architecture == (name.split("_")[0] if "qwen" in name else "llama")


def test_layers_come_apart_and_back(tmp_path):
    params = write_model(tmp_path / "stacked.gguf")
    layered, config, tokenizer, _ = load_gguf(tmp_path / "stacked.gguf")
    assert isinstance(layered["layers"], tuple)
    assert len(layered["layers"]) == config.layers
    for i, layer in enumerate(layered["layers"]):
        assert same(layer, jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"]))
    write_gguf(tmp_path / "layered.gguf", layered, config, tokenizer)
    assert (tmp_path / "layered.gguf").read_bytes() == (tmp_path / "stacked.gguf").read_bytes()


def test_bfloat16_weights_are_exact_in_bf16(tmp_path):
    params = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), random_params(LLAMA))
    write_gguf(tmp_path / "m.gguf", params, LLAMA, ByteTokenizer(), dtype="bf16")
    found, config, _, extras = load_gguf(tmp_path / "m.gguf", layered=False)
    assert same(found, params)
    assert (config.param_dtype, config.compute_dtype) == ("bfloat16", "bfloat16")
    assert extras.quantisation == "BF16"
    wide, config, _, _ = load_gguf(tmp_path / "m.gguf", layered=False, dtype="float32")
    assert same(wide, jax.tree.map(lambda leaf: leaf.astype(np.float32), params))
    assert config.param_dtype == "float32"


@pytest.mark.parametrize(("dtype", "error"), [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", None)])
def test_smaller_types_round(tmp_path, dtype, error):
    params = write_model(tmp_path / "m.gguf", dtype=dtype)
    found, _, _, extras = load_gguf(tmp_path / "m.gguf", layered=False, dtype="float32")
    assert extras.quantisation == dtype.upper()
    for path, value in jax.tree_util.tree_leaves_with_path(found):
        expected = np.asarray(dict(jax.tree_util.tree_leaves_with_path(params))[path])
        if "norm" in str(path):
            assert np.array_equal(value, expected)  # never rounded
        elif error is not None:
            assert np.abs(value - expected).max() <= error * np.abs(expected).max()
            assert not np.array_equal(value, expected)
        else:  # a 127th of the largest of a block, half up or down, and its scale in float16
            assert np.abs(value - expected).max() <= np.abs(expected).max() / 127 * 0.6


def test_rows_that_blocks_do_not_divide_are_f16_beside_q8_0(tmp_path):
    config = dataclasses.replace(LLAMA, d_ff=40)
    write_gguf(tmp_path / "m.gguf", random_params(config), config, ByteTokenizer(), dtype="q8_0")
    kinds = {name: it.kind.name for name, it in read_gguf(tmp_path / "m.gguf").tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"


def test_rows_of_q_and_k_are_put_as_llama_cpp_rotates_them(tmp_path):
    params = write_model(tmp_path / "llama.gguf", "llama")
    stored = {t.name: np.array(t.data) for t in gguf.GGUFReader(tmp_path / "llama.gguf").tensors}
    width = LLAMA.key_dim
    for name, heads in (("q", LLAMA.heads), ("k", LLAMA.kv_heads)):
        own = np.asarray(params["layers"]["attention"][name][0])  # [D, heads, H]
        for head in range(heads):
            for i in range(width // 2):  # the pair (i, i + H/2) stands at rows 2 i and 2 i + 1
                rows = stored[f"blk.0.attn_{name}.weight"][head * width + 2 * i :][:2]
                assert np.array_equal(rows[0], own[:, head, i])
                assert np.array_equal(rows[1], own[:, head, i + width // 2])
    params = write_model(tmp_path / "qwen2.gguf", "qwen2")
    stored = {t.name: np.array(t.data) for t in gguf.GGUFReader(tmp_path / "qwen2.gguf").tensors}
    own = np.asarray(params["layers"]["attention"]["q"][0])
    assert np.array_equal(stored[Q], own.reshape(own.shape[0], -1).T)


def test_biases_of_llama_are_permuted_too(tmp_path):
    """Some files of architecture llama have biases; the same weights give the same logits."""
    params, config = write_model(tmp_path / "qwen2.gguf", "qwen2"), MODELS["qwen2"]
    reader = gguf.GGUFReader(tmp_path / "qwen2.gguf")
    path = tmp_path / "llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            sub = field.types[-1] if len(field.types) > 1 else None
            name = name.replace("qwen2.", "llama.")
            writer.add_key_value(name, field.contents(), field.types[0], sub)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        heads = {"q": config.heads, "k": config.kv_heads}.get(tensor.name.split("attn_")[-1][0])
        if "attn_q." in tensor.name or "attn_k." in tensor.name:
            halves = data.reshape(heads, 2, -1, *data.shape[1:])
            data = np.ascontiguousarray(np.moveaxis(halves, 1, 2)).reshape(data.shape)
        writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found, again, _, _ = load_gguf(path, layered=False)
    assert again.qkv_bias
    assert same(found, params)


def test_weights_go_to_their_places_on_a_mesh(tmp_path):
    params = write_model(tmp_path / "m.gguf")
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    found, config, _, _ = load_gguf(tmp_path / "m.gguf", mesh=mesh, layered=False)
    assert same(found, params)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, found)
    assert shardings == param_shardings(config, mesh)
    assert len(found["layers"]["mlp"]["up"].sharding.device_set) == 4


def random_blocks(kind, rows, columns):
    """Blocks of any bits, but that their scales are small numbers."""
    rng = np.random.default_rng(kind)
    size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // size, block_bytes), np.uint8)
    scales = {"Q6_K": [208], "Q8_0": [0], "Q4_0": [0]}.get(kind.name, [0, 2])
    for at in scales:
        values = rng.uniform(-0.1, 0.1, len(blocks)).astype(np.float16)
        blocks[:, at : at + 2] = values[:, None].view(np.uint8)
    return blocks.reshape(rows, columns // size * block_bytes)


@pytest.mark.parametrize("name", READERS)
def test_blocks_are_read_as_they_are_documented(tmp_path, name):
    kind = GGMLQuantizationType[name]
    config = dataclasses.replace(LLAMA, d_model=256, head_dim=8, layers=1)
    write_gguf(tmp_path / "f32.gguf", random_params(config), config, ByteTokenizer())
    blocks = random_blocks(kind, config.d_ff, 256)
    up = "blk.0.ffn_up.weight"
    rewrite(tmp_path / "f32.gguf", tmp_path / "q.gguf", tensors={up: (blocks, kind)})
    found = read_gguf(tmp_path / "q.gguf").read(up)
    size = GGML_QUANT_SIZES[kind][1]
    expected = [READERS[name](row[i : i + size].tobytes()) for row in blocks
                for i in range(0, blocks.shape[1], size)]  # fmt: skip
    expected = np.array(expected, np.float32).reshape(config.d_ff, 256)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(found, gguf.quants.dequantize(blocks, kind))
    params, _, _, _ = load_gguf(tmp_path / "q.gguf", layered=False)
    assert np.array_equal(params["layers"]["mlp"]["up"][0], found.T)


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_what_the_package_quantises_is_read_close(tmp_path, name):
    kind = GGMLQuantizationType[name]
    params = write_model(tmp_path / "f32.gguf")
    matrix = np.asarray(params["layers"]["mlp"]["up"][1]).T
    stored = gguf.quants.quantize(np.ascontiguousarray(matrix), kind)
    up = "blk.1.ffn_up.weight"
    rewrite(tmp_path / "f32.gguf", tmp_path / "q.gguf", tensors={up: (stored, kind)})
    found = read_gguf(tmp_path / "q.gguf").read(up).astype(np.float32)
    step = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 127}.get(name, 1 / 7)
    assert 0 < np.abs(found - matrix).max() <= step * np.abs(matrix).max()
    assert name in READABLE


def test_other_types_are_refused_by_name(tmp_path):
    write_model(tmp_path / "f32.gguf")
    kind = GGMLQuantizationType.Q5_0
    blocks = gguf.quants.quantize(np.ones((48, 32), np.float32), kind)
    up = "blk.1.ffn_up.weight"
    rewrite(tmp_path / "f32.gguf", tmp_path / "q.gguf", tensors={up: (blocks, kind)})
    with pytest.raises(
        ImportFailed, match=rf"q\.gguf: the tensor '{up}' has the type Q5_0; LILITH"
    ):
        load_gguf(tmp_path / "q.gguf")


ONES = np.ones((2, 32), np.float32)


@pytest.mark.parametrize(
    ("keys", "tensors", "words"),
    [
        ({}, {Q: None}, rf"m\.gguf lacks the tensor '{Q}'"),
        ({}, {"blk.0.odd.weight": (ONES, F32)}, r"m\.gguf holds the tensor 'blk\.0\.odd\.weight'"),
        ({}, {Q: (ONES, F32)}, rf"'{Q}' has shape \[2, 32\], and the config says \[32, 32\]"),
        ({}, {"token_embd.weight": None}, "lacks the tensor 'token_embd.weight'"),
        ({}, {"rope_factors_long.weight": (ONES[0], F32)}, "LongRoPE"),
        ({}, {"rope_freqs.weight": (ONES[0], F32)}, r"has shape \[32\], and heads of width 8"),
        ({}, {"rope_freqs.weight": (np.array([1, 3, 1, 2], np.float32), F32)}, "neither Llama 3"),
        ({"llama.block_count": 3}, {}, "block_count is 3, and the 21 tensors"),
        ({"llama.block_count": None}, {}, "lacks the metadata key 'llama.block_count'"),
        ({"llama.block_count": 1 << 31}, {}, "'llama.block_count' is 2147483648"),
        ({"llama.embedding_length": 64}, {}, "has shape"),
        ({"llama.embedding_length": 0}, {}, "from 1 up"),
        ({"llama.embedding_length": 33, "llama.attention.key_length": None}, {}, "does not divide"),
        ({"llama.attention.head_count": 3}, {}, "model.heads is 3"),
        ({"llama.attention.key_length": 7, "llama.attention.value_length": 7,
          "llama.rope.dimension_count": 7}, {}, "positive even number"),
        ({"llama.attention.value_length": 16}, {}, "'llama.attention.value_length' is 16"),
        ({"llama.rope.dimension_count": 4}, {}, "'llama.rope.dimension_count' is 4"),
        ({"llama.rope.freq_base": 0.0}, {}, "from 2 to"),
        ({"llama.vocab_size": 300}, {}, "'llama.vocab_size' is 300, and LILITH needs 272"),
        ({"llama.expert_count": 8}, {}, "'llama.expert_count' is 8"),
        ({"llama.attn_logit_softcapping": 50.0}, {}, "attn_logit_softcapping"),
        ({"split.count": 3}, {}, "one of 3 parts"),
        ({"llama.rope.scaling.type": "longrope"}, {}, "none, linear or yarn"),
        ({"llama.rope.scaling.factor": 0.5}, {}, "factor is 0.5"),
        ({"llama.attention.sliding_window": 5, "llama.attention.sliding_window_pattern": 9}, {},
         "at most the number of layers"),
        ({"tokenizer.ggml.model": "bert"}, {}, "of the kind 'bert'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(tmp_path, keys, tensors, words):
    write_model(tmp_path / "whole.gguf")
    rewrite(tmp_path / "whole.gguf", tmp_path / "m.gguf", keys=keys, tensors=tensors)
    with pytest.raises(ImportFailed, match=words) as caught:
        load_gguf(tmp_path / "m.gguf")
    assert str(tmp_path / "m.gguf") in str(caught.value)


@pytest.mark.parametrize("architecture", ["gemma3", "llama4", "Qwen2", ""])
def test_an_unknown_architecture(tmp_path, architecture):
    write_model(tmp_path / "m.gguf")
    metadata = metadata_of(tmp_path / "m.gguf", general__architecture=architecture)
    with pytest.raises(ImportFailed, match=f"general.architecture is '{architecture}'.*qwen3"):
        read_config(metadata, {}, None)


def read_changed(path, name="llama", **changes):
    """The config of a small model's file with some keys changed."""
    write_model(path, name)
    return read_config(metadata_of(path, **changes), read_gguf(path).tensors, None)


def test_keys_of_other_writers(tmp_path):
    path = tmp_path / "m.gguf"
    config = read_changed(path, llama__rope__scale_linear=4.0)
    assert config.rope_scaling == RopeScaling(kind="linear", factor=4.0)
    config = read_changed(path, llama__rope__scaling__factor=2.0)  # linear where no type is named
    assert config.rope_scaling == RopeScaling(kind="linear", factor=2.0)
    config = read_changed(path, llama__attention__head_count_kv=np.array([2, 2], np.int32))
    assert config.kv_heads == 2
    window = {"llama__attention__sliding_window": 7}
    assert read_changed(path, **window).attention_pattern == ("window",)
    config = read_changed(path, **window, llama__attention__sliding_window_pattern=2)
    assert (config.attention_pattern, config.window) == (("window", "global"), 7)
    yarn = {"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 4.0}
    config = read_changed(path, **yarn, llama__rope__scaling__attn_factor=0.5)
    assert config.rope_scaling.attention_factor == 0.5 * (0.1 * math.log(4) + 1)
    config = read_changed(path, **yarn, llama__rope__scaling__yarn_log_multiplier=1.0)
    assert config.rope_scaling.attention_factor == 1.0


def test_old_files_of_mistral(tmp_path):
    write_model(tmp_path / "m.gguf")
    file = read_gguf(tmp_path / "m.gguf")
    values = {key.replace("llama.", "mistral."): it for key, it in file.metadata.values.items()}
    metadata = type(file.metadata)(values | {"general.architecture": "mistral"}, "m.gguf")
    assert read_config(metadata, file.tensors, None) == file.config


@pytest.mark.parametrize("head_dim", [8, 64, 128])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("low", "high", "original"), [(1.0, 4.0, 8192), (1.0, 3.0, 8192), (2.0, 5.0, 1000)]
)
def test_llama3_scaling_is_found_again_from_its_divisors(head_dim, known, low, high, original):
    scaling = RopeScaling("llama3", factor=8.0, original_context=original,
                          low_frequency_factor=low, high_frequency_factor=high)  # fmt: skip
    config = dataclasses.replace(LLAMA, head_dim=head_dim, rope_base=5e5, rope_scaling=scaling)
    divisors = divisors_of(config)
    assert (divisors.min(), divisors.max()) == (1.0, 8.0)
    found = scaling_of(divisors, head_dim, 5e5, original if known else 0, "m.gguf")
    ours, _ = rope_frequencies(head_dim, 5e5, found, 1)
    expected, _ = rope_frequencies(head_dim, 5e5, scaling, 1)
    np.testing.assert_allclose(ours, expected, rtol=5e-6)
    if head_dim == 128 and (known or low == 1.0):  # as in Llama 3.1's files, which name no context
        assert found == scaling
    if known:  # whatever the number of divisors between
        assert found.original_context == original
        assert low != 1.0 or found == scaling


def test_divisors_that_are_all_alike_are_linear_or_nothing():
    for factor, kind in ((1.0, "none"), (4.0, "linear")):
        found = scaling_of(np.full(4, factor, np.float32), 8, 10_000.0, 0, "m.gguf")
        assert (found.kind, found.factor) == (kind, factor)


@pytest.mark.parametrize("name", ["mistral", "qwen3_mixed", "yarn_own_factor"])
def test_a_note_says_what_llama_cpp_does_not_compute(tmp_path, name):
    config = MODELS[name]
    (note,) = write_gguf(tmp_path / "m.gguf", random_params(config), config, ByteTokenizer())
    assert ("beta_fast" if name == "yarn_own_factor" else "sliding window") in note
    assert write_gguf(tmp_path / "m.gguf", random_params(LLAMA), LLAMA, ByteTokenizer()) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qk_norm": True, "qkv_bias": True}, "no architecture of GGUF"),
        ({"qk_norm": True, "rope_scaling": RopeScaling("llama3", factor=2.0)}, "'qwen3' can not"),
        ({"vocab": 200}, "265 tokens and the model 200"),
    ],
)
def test_what_gguf_can_not_say_leaves_nothing_behind(tmp_path, changes, words):
    config = dataclasses.replace(LLAMA, **changes)
    with pytest.raises(ImportFailed, match=words):
        write_gguf(tmp_path / "m.gguf", random_params(config), config, ByteTokenizer())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_older_file(tmp_path):
    write_model(tmp_path / "m.gguf")
    before = (tmp_path / "m.gguf").read_bytes()
    params = random_params(LLAMA)
    params["layers"]["mlp"]["down"][1, 0, 0] = 1e6
    with pytest.raises(ImportFailed, match=r"'blk\.1\.ffn_down\.weight' holds values beyond"):
        write_gguf(tmp_path / "m.gguf", params, LLAMA, ByteTokenizer(), dtype="f16")
    assert (tmp_path / "m.gguf").read_bytes() == before
    assert [it.name for it in tmp_path.iterdir()] == ["m.gguf"]
    with pytest.raises(ImportFailed, match="dtype is 'q4_0'"):
        write_gguf(tmp_path / "m.gguf", params, LLAMA, ByteTokenizer(), dtype="q4_0")
    (tmp_path / "file").write_text("")
    with pytest.raises(ImportFailed, match="can not be written"):
        write_gguf(tmp_path / "file" / "m.gguf", random_params(LLAMA), LLAMA, ByteTokenizer())


def test_quantised_weights_compute(tmp_path):
    params = write_model(tmp_path / "m.gguf", "qwen3", dtype="q8_0")
    found, config, _, _ = load_gguf(tmp_path / "m.gguf", layered=False)
    tokens = random_tokens(config, 1, 20)
    ours = lilith_logits(found, tokens, config)
    np.testing.assert_allclose(ours, lilith_logits(params, tokens, config), rtol=0, atol=0.1)
