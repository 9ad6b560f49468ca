"""Parameter counts of the presets, and the cost formulas, against numbers written by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from lilith.config import ConfigError, ModelConfig
from lilith.model.estimates import activation_bytes, flops_per_token, tree_bytes
from lilith.model.params import abstract_params, count_params, flatten, init_params, model_specs
from lilith.model.presets import PRESETS, get_7b_model_config, get_model_config

EXACT = {"7b": 6_738_415_616, "13b": 13_015_864_320, "smollm2-135m": 134_515_008}
NAMED = {
    "50m": (50e6, 0.05),
    "150m": (150e6, 0.05),
    "500m": (500e6, 0.05),
    "1b": (1.02e9, 0.01),
    "30b": (30e9, 0.05),
    "70b": (70e9, 0.05),
    "100b": (100e9, 0.05),
}


@pytest.mark.parametrize("name", EXACT)
def test_published_shapes_have_their_published_size(name):
    assert count_params(PRESETS[name]) == EXACT[name]


@pytest.mark.parametrize("name", NAMED)
def test_presets_are_as_large_as_they_are_called(name):
    size, tolerance = NAMED[name]
    assert abs(count_params(PRESETS[name]) / size - 1) <= tolerance


def test_small_presets_keep_to_their_bounds():
    assert count_params(PRESETS["tiny"]) < 200_000
    assert 3e6 <= count_params(PRESETS["nano"]) <= 8e6
    assert PRESETS["70b"].kv_heads < PRESETS["70b"].heads
    assert get_7b_model_config() is PRESETS["7b"]


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean '13b'"):
        get_model_config("13bb")


def test_the_arrays_are_what_the_specs_say():
    config = dataclasses.replace(PRESETS["tiny"], qkv_bias=True, qk_norm=True, tied_embeddings=True)
    params = init_params(0, config)
    specs = flatten(model_specs(config))
    arrays = flatten(params)
    assert {path: spec.shape for path, spec in specs.items()} == {
        path: array.shape for path, array in arrays.items()
    }
    assert sum(array.size for array in arrays.values()) == count_params(config)
    for path, spec in specs.items():
        array = np.asarray(arrays[path])
        if spec.init == "normal":
            assert array.std() == pytest.approx(spec.scale, rel=0.1), path
            assert abs(array.mean()) < 4 * spec.scale / np.sqrt(spec.size), path
        else:
            assert (array == (1.0 if spec.init == "ones" else 0.0)).all(), path


def test_a_weight_starts_the_same_whatever_else_exists():
    one = init_params(3, PRESETS["tiny"])
    other = init_params(3, dataclasses.replace(PRESETS["tiny"], qk_norm=True, qkv_bias=True))
    for path, array in flatten(one).items():
        np.testing.assert_array_equal(array, flatten(other)[path])
    changed = init_params(4, PRESETS["tiny"])
    assert not np.array_equal(one["embedding"], changed["embedding"])


def test_flops_of_a_shape_counted_by_hand():
    config = ModelConfig(
        layers=2, d_model=8, heads=2, kv_heads=1, d_ff=16, vocab=32, context=4
    )  # fmt: skip
    products = 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16) + 32 * 8
    full_attention = 2 * (2 * 2 * 4 * 8)  # layers * two products * 2 FLOPs * keys * width
    causal_attention = full_attention * (1 + 2 + 3 + 4) / 16
    flops = flops_per_token(config, 4)
    assert flops.full == 3 * (2 * products + full_attention)
    assert flops.causal == 3 * (2 * products + causal_attention)
    windowed = dataclasses.replace(config, attention_pattern=("window", "global"), window=2)
    seen = (1 + 2 + 2 + 2) / 4
    expected = 3 * (2 * products + 2 * 2 * 8 * (seen + 2.5))
    assert flops_per_token(windowed, 4).causal == pytest.approx(expected)


def test_tied_and_untied_heads_cost_the_same_products():
    tied = dataclasses.replace(PRESETS["tiny"], tied_embeddings=True)
    assert flops_per_token(tied, 64) == flops_per_token(PRESETS["tiny"], 64)


def test_remat_policies_keep_less_and_less():
    sizes = [
        activation_bytes(dataclasses.replace(PRESETS["1b"], remat=remat), 4, 2048, {})
        for remat in ("none", "dots", "attention", "full")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 5
    halved = activation_bytes(PRESETS["1b"], 4, 2048, {"context": 2})
    assert halved == pytest.approx(activation_bytes(PRESETS["1b"], 4, 2048, {}) / 2)


def test_memory_of_weights_is_counted_without_making_them():
    params = abstract_params(PRESETS["100b"])
    assert tree_bytes(params) == 4 * count_params(PRESETS["100b"])
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
