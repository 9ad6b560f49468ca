"""One declaration per weight, and everything that follows from it.

``model_specs(config)`` is a nested dict of :class:`ParamSpec`. Initial values, abstract shapes,
shardings, the parameter count and the memory estimate are all derived from it.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.sharding import AbstractMesh, Mesh

from lilith.config import ModelConfig
from lilith.sharding import DEFAULT_RULES, ShardingRules, check_divisible, named_sharding

Params = dict[str, Any]


@dataclass(frozen=True)
class ParamSpec:
    """A weight: its shape, a logical axis for each dimension, and the deviation of its start.

    ``init`` is ``"normal"`` (mean 0, deviation ``scale``), ``"ones"`` or ``"zeros"``.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    init: str = "normal"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"{len(self.shape)} dimensions but {len(self.axes)} axes: {self}")
        if self.init not in ("normal", "ones", "zeros"):
            raise ValueError(f"unknown initialiser {self.init!r}")

    @property
    def size(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


def model_specs(config: ModelConfig) -> Params:
    """The specs of every weight of a model, nested as its parameters are.

    Projections start normal with deviation 1/sqrt(fan in); those that write into the residual
    stream are smaller by 1/sqrt(2 layers), so that its variance at the start does not grow with
    depth (Radford et al. 2019, GPT-2, section 2.3).
    """
    d, f, h = config.d_model, config.d_ff, config.key_dim
    n, k = config.heads, config.kv_heads
    residual = 1.0 / math.sqrt(2 * config.layers)
    fan_in = 1.0 / math.sqrt(d)
    attention = {
        "q": ParamSpec((d, n, h), ("embed", "heads", "head_dim"), scale=fan_in),
        "k": ParamSpec((d, k, h), ("embed", "kv_heads", "head_dim"), scale=fan_in),
        "v": ParamSpec((d, k, h), ("embed", "kv_heads", "head_dim"), scale=fan_in),
        "o": ParamSpec(
            (n, h, d), ("heads", "head_dim", "embed"), scale=residual / math.sqrt(n * h)
        ),
    }
    if config.qkv_bias:
        attention |= {
            "q_bias": ParamSpec((n, h), ("heads", "head_dim"), init="zeros"),
            "k_bias": ParamSpec((k, h), ("kv_heads", "head_dim"), init="zeros"),
            "v_bias": ParamSpec((k, h), ("kv_heads", "head_dim"), init="zeros"),
        }
    if config.qk_norm:
        attention |= {
            "q_norm": ParamSpec((h,), ("head_dim",), init="ones"),
            "k_norm": ParamSpec((h,), ("head_dim",), init="ones"),
        }
    layer = {
        "attention_norm": ParamSpec((d,), (None,), init="ones"),
        "attention": attention,
        "mlp_norm": ParamSpec((d,), (None,), init="ones"),
        "mlp": {
            "gate": ParamSpec((d, f), ("embed", "ff"), scale=fan_in),
            "up": ParamSpec((d, f), ("embed", "ff"), scale=fan_in),
            "down": ParamSpec((f, d), ("ff", "embed"), scale=residual / math.sqrt(f)),
        },
    }
    specs: Params = {
        # Tied tables are also the output projection, whose logits should start near zero.
        "embedding": ParamSpec(
            (config.vocab, d), ("vocab", "embed"), scale=fan_in if config.tied_embeddings else 1.0
        ),
        "layers": map_specs(lambda spec: _stack(spec, config.layers), layer),
        "final_norm": ParamSpec((d,), (None,), init="ones"),
    }
    if not config.tied_embeddings:
        specs["unembedding"] = ParamSpec((config.vocab, d), ("vocab", "embed"), scale=fan_in)
    return specs


def _stack(spec: ParamSpec, layers: int) -> ParamSpec:
    return dataclasses.replace(spec, shape=(layers, *spec.shape), axes=("layers", *spec.axes))


def map_specs(function: Callable[[ParamSpec], Any], specs: Params) -> Any:
    """Apply ``function`` to every spec of a nested dict."""
    return jax.tree.map(function, specs, is_leaf=lambda leaf: isinstance(leaf, ParamSpec))


def flatten(tree: Params) -> dict[str, Any]:
    """A nested dict as one of ``"layers/attention/q": leaf``."""
    return traverse_util.flatten_dict(tree, sep="/")


def init_params(seed: int, config: ModelConfig) -> Params:
    """Initial values, a function of ``seed`` and of each weight's path alone.

    A weight's values do not depend on which other weights exist or on how they are sharded: jit
    this with ``out_shardings=param_shardings(...)`` and each device makes only its own part.
    """
    return init_from_specs(seed, model_specs(config), jnp.dtype(config.param_dtype))


def init_from_specs(seed: int, specs: Params, dtype: Any) -> Params:
    """Initial values of any nested dict of specs; see :func:`init_params`."""
    key = jax.random.key(seed)

    def start(path: str, spec: ParamSpec) -> jax.Array:
        if spec.init != "normal":
            return jnp.full(spec.shape, 1.0 if spec.init == "ones" else 0.0, dtype)
        own_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        return (spec.scale * jax.random.normal(own_key, spec.shape)).astype(dtype)

    return traverse_util.unflatten_dict(
        {path: start(path, spec) for path, spec in flatten(specs).items()}, sep="/"
    )


def param_shardings(
    config: ModelConfig, mesh: Mesh | AbstractMesh, rules: ShardingRules = DEFAULT_RULES
) -> Params:
    """Where each weight lives on ``mesh``.

    Raises:
      ShardingError: a dimension that its mesh axes do not divide, with the weight's path.
    """
    return spec_shardings(model_specs(config), mesh, rules)


def spec_shardings(
    specs: Params, mesh: Mesh | AbstractMesh, rules: ShardingRules = DEFAULT_RULES
) -> Params:
    """Where each array of a nested dict of specs lives; see :func:`param_shardings`."""
    for path, spec in flatten(specs).items():
        check_divisible(path, spec.shape, spec.axes, mesh, rules)
    return map_specs(lambda spec: named_sharding(mesh, rules.spec(*spec.axes)), specs)


def abstract_params(
    config: ModelConfig,
    mesh: Mesh | AbstractMesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> Params:
    """Shapes and dtypes (and shardings, given a mesh) of every weight, without values."""
    return abstract_from_specs(model_specs(config), jnp.dtype(config.param_dtype), mesh, rules)


def abstract_from_specs(
    specs: Params,
    dtype: Any,
    mesh: Mesh | AbstractMesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> Params:
    """Any nested dict of specs without values; see :func:`abstract_params`."""
    if mesh is None:
        return map_specs(lambda spec: jax.ShapeDtypeStruct(spec.shape, dtype), specs)
    shardings = spec_shardings(specs, mesh, rules)
    return jax.tree.map(
        lambda spec, sharding: jax.ShapeDtypeStruct(spec.shape, dtype, sharding=sharding),
        specs,
        shardings,
        is_leaf=lambda leaf: isinstance(leaf, ParamSpec),
    )


def count_params(config: ModelConfig) -> int:
    """How many scalars the model learns."""
    return sum(spec.size for spec in flatten(model_specs(config)).values())
