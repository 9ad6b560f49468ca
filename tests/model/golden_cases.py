"""Small models of every family that LILITH runs, with weights that numpy makes from a seed.

The golden logits beside this file came from these weights through Hugging Face transformers, so
the weights themselves need not be stored.
"""

from __future__ import annotations

import pathlib
import zlib

import jax
import numpy as np
from flax import traverse_util

from lilith.config import ModelConfig, RopeScaling
from lilith.model.params import Params, flatten, model_specs
from lilith.model.transformer import forward, unembed

GOLDEN = pathlib.Path(__file__).with_name("golden_logits.npz")
ROWS, LENGTH = 1, 24


def _config(**fields: object) -> ModelConfig:
    sizes = {
        "layers": 2,
        "d_model": 32,
        "heads": 4,
        "kv_heads": 2,
        "d_ff": 48,
        "vocab": 64,
        "context": 128,
        "compute_dtype": "float32",
    }
    return ModelConfig(**(sizes | fields))


def _scaled(kind: str, context: int = 128, **fields: float) -> ModelConfig:
    """Trained contexts of which some frequencies are kept, some stretched and some in between."""
    scaling = RopeScaling(kind=kind, factor=4.0, **fields)
    return _config(head_dim=16, rope_scaling=scaling, context=context)


CASES = {
    "llama": _config(),
    "llama_mha_tied": _config(kv_heads=4, tied_embeddings=True, rope_base=500_000.0),
    "llama_mqa": _config(kv_heads=1),
    "qwen2": _config(qkv_bias=True, norm_eps=1e-3),
    "qwen3": _config(qk_norm=True, head_dim=16, tied_embeddings=True),
    "qwen3_mixed": _config(qk_norm=True, attention_pattern=("window", "global"), window=6),
    "mistral": _config(attention_pattern=("window",), window=5),
    "linear": _scaled("linear"),
    "llama3": _scaled("llama3", original_context=32),
    "yarn": _scaled("yarn", context=4096, original_context=1024),
    "yarn_own_factor": _scaled("yarn", beta_fast=8.0, beta_slow=0.5, attention_factor=1.3),
}


def random_params(config: ModelConfig, seed: int = 0) -> Params:
    """Float32 weights, each from its path alone: no norm is all ones and no bias zero."""

    def values(path: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = np.random.default_rng([seed, zlib.crc32(path.encode())]).standard_normal(shape)
        name = path.rsplit("/", 1)[-1]
        if name.endswith("norm"):
            noise = 1.0 + 0.3 * noise
        elif name.endswith("bias"):
            noise = 0.5 * noise
        else:
            noise = noise / 8.0
        return noise.astype(np.float32)

    specs = flatten(model_specs(config))
    return traverse_util.unflatten_dict(
        {path: values(path, spec.shape) for path, spec in specs.items()}, sep="/"
    )


def random_tokens(config: ModelConfig, rows: int, length: int, seed: int = 0) -> np.ndarray:
    """int32 ids, [rows, length]."""
    return np.random.default_rng(seed).integers(0, config.vocab, (rows, length), np.int32)


def lilith_logits(params: Params, tokens: np.ndarray, config: ModelConfig) -> np.ndarray:
    """LILITH's own logits, [rows, length, vocab] float32."""

    @jax.jit
    def run(params: Params, tokens: jax.Array) -> jax.Array:
        return unembed(params, forward(params, tokens, config)[0], config)

    return np.asarray(run(params, tokens))
