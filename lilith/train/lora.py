"""Adapters as things of their own: made, put on, merged, taken off again, saved and loaded.

An adapter is a nested dict like the parameters, with ``{"a", "b"}`` (and ``"magnitude"`` for DoRA)
in the place of each adapted weight. It is what a stage trains; the base below it stays as it is.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lilith.config import ConfigError, ModelConfig, UserError
from lilith.config_parsing import from_dict
from lilith.model.adapters import Adapted, column_norms, merged
from lilith.model.params import (
    Params,
    ParamSpec,
    abstract_from_specs,
    flatten,
    init_from_specs,
    model_specs,
)
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.train.lora_config import INPUTS, LoraConfig
from lilith.train.metrics import write_atomically

_WEIGHTS, _DESCRIPTION = "adapter.safetensors", "adapter.json"


class AdapterError(UserError):
    """An adapter that can not be read, or does not fit the model it is put on."""


def lora_specs(config: ModelConfig, lora: LoraConfig) -> Params:
    """The specs of an adapter's arrays: A normal with deviation 1/sqrt(inputs), B zero."""
    own: dict[str, ParamSpec] = {}
    for path, spec in flatten(model_specs(config)).items():
        if path not in INPUTS or not any(re.search(p, path) for p in lora.targets):
            continue
        first_output = 1 + INPUTS[path]
        layers, axis = spec.shape[0], spec.axes[first_output]
        inputs = math.prod(spec.shape[1:first_output])
        outputs = math.prod(spec.shape[first_output:])
        own[f"{path}/a"] = ParamSpec(
            (layers, inputs, lora.rank), ("layers", spec.axes[1], None), scale=inputs**-0.5
        )
        own[f"{path}/b"] = ParamSpec(
            (layers, lora.rank, outputs), ("layers", None, axis), init="zeros"
        )
        if lora.dora:
            own[f"{path}/magnitude"] = ParamSpec((layers, outputs), ("layers", axis), init="ones")
    return traverse_util.unflatten_dict(own, sep="/")


def init_adapter(seed: int, params: Params, config: ModelConfig, lora: LoraConfig) -> Params:
    """An adapter that changes nothing yet, float32; ``params`` (stacked) give DoRA its lengths."""
    adapter = init_from_specs(seed, lora_specs(config, lora), jnp.float32)
    if not lora.dora:
        return adapter

    def start(weight: Any, own: Any) -> Any:
        matrix = merged(weight).reshape(*own["a"].shape[:-1], own["b"].shape[-1])
        return {**own, "magnitude": column_norms(matrix)}

    return _at_targets(adapter, params, start)


def abstract_adapter(
    config: ModelConfig,
    lora: LoraConfig,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> Params:
    """Shapes, dtypes (and shardings, given a mesh) of an adapter's arrays."""
    return abstract_from_specs(lora_specs(config, lora), jnp.float32, mesh, rules)


def apply_adapter(
    params: Params, adapter: Params, lora: LoraConfig, *, key: jax.Array | None = None
) -> Params:
    """``params`` with :class:`Adapted` weights; they may hold adapted ones already.

    Args:
      params: stacked, or ``layers`` as a tuple of one dict a layer.
      key: draws the dropout of this call; None for none.
    """
    scale = lora.alpha / lora.rank

    def put_on(weight: Any, own: Any, keys: Any) -> Adapted:
        return Adapted(
            weight, own["a"], own["b"], own.get("magnitude"), keys, scale=scale,
            dropout=lora.dropout,
        )  # fmt: skip

    return _on_weights(params, adapter, put_on, key if lora.dropout else None)


def trained_weights(
    trained: Params,
    lora: LoraConfig,
    *,
    frozen: Params | None = None,
    key: jax.Array | None = None,
) -> Params:
    """All weights of a model in training: ``trained`` itself, or that adapter put on ``frozen``.

    Args:
      key: draws the adapter's dropout; None for none.

    Raises:
      ValueError: an adapter (``lora.rank`` is not 0) without ``frozen``.
    """
    if not lora.rank:
        return trained
    if frozen is None:
        raise ValueError("an adapter is trained over frozen weights; give frozen=")
    return apply_adapter(frozen, trained, lora, key=key)


def merge(params: Params, adapter: Params, lora: LoraConfig) -> Params:
    """``params`` with the adapter worked into the weights: the same function, no adapter.

    ``params`` may be stacked or one by one, and stay as they are.
    """
    return jax.tree.map(
        merged, apply_adapter(params, adapter, lora), is_leaf=lambda x: isinstance(x, Adapted)
    )


def unmerge(
    params: Params, adapter: Params, lora: LoraConfig, *, norms: Params | None = None
) -> Params:
    """What was merged, to rounding.

    Args:
      norms: for DoRA, whose merged weights do not tell how long the columns were: what
        :func:`merged_norms` gave before the merge.

    Raises:
      AdapterError: DoRA without ``norms``.
    """
    if lora.dora and norms is None:
        raise AdapterError("a merged DoRA adapter comes off only with the norms of merged_norms()")

    def take_off(weight: Any, own: Any, norm: Any) -> jax.Array:
        matrix = weight.reshape(*own["a"].shape[:-1], own["b"].shape[-1])
        if lora.dora:
            matrix = matrix * (norm / own["magnitude"])[..., None, :]
        nothing = Adapted(matrix, own["a"], own["b"], scale=-lora.alpha / lora.rank)
        return nothing.matrix(matrix).reshape(weight.shape).astype(weight.dtype)

    return _on_weights(params, adapter, take_off, norms)


def merged_norms(params: Params, adapter: Params, lora: LoraConfig) -> Params:
    """Lengths of the columns of W + scale A B, as DoRA divides by; stacked ``params``."""

    def norm(weight: Any, own: Any) -> jax.Array:
        plain = Adapted(weight, own["a"], own["b"], scale=lora.alpha / lora.rank)
        matrix = merged(weight).reshape(*own["a"].shape[:-1], own["b"].shape[-1])
        return column_norms(plain.matrix(matrix))

    return _at_targets(adapter, params, norm)


def _on_weights(
    params: Params, adapter: Params, function: Callable[[Any, Any, Any], Any], extra: Any
) -> Params:
    """Replace each adapted weight by ``function(weight, its part of the adapter, extra)``.

    ``extra`` is a key, of which each weight and layer gets its own, a tree with one array a weight,
    or None.
    """
    parts = _parts(adapter)

    def own_extra(path: str) -> Any:
        if extra is None or isinstance(extra, dict):
            return None if extra is None else flatten(extra)[path]
        own_key = jax.random.fold_in(extra, zlib.crc32(path.encode()))
        return jax.random.split(own_key, len(parts[path]["a"]))

    def replaced(layers: Params, pick: Callable[[Any], Any]) -> Params:
        flat = flatten(layers)
        for path, own in parts.items():
            name = path.removeprefix("layers/")
            flat[name] = function(flat[name], pick(own), pick(own_extra(path)))
        return traverse_util.unflatten_dict(flat, sep="/")

    layers = params["layers"]
    if isinstance(layers, dict):
        return {**params, "layers": replaced(layers, lambda tree: tree)}
    each = tuple(
        replaced(layer, partial(jax.tree.map, itemgetter(i))) for i, layer in enumerate(layers)
    )
    return {**params, "layers": each}


def _at_targets(adapter: Params, params: Params, function: Callable[[Any, Any], Any]) -> Params:
    """A tree with ``function(weight, its part of the adapter)`` at each adapted weight."""
    flat = flatten(params)
    found = {path: function(flat[path], own) for path, own in _parts(adapter).items()}
    return traverse_util.unflatten_dict(found, sep="/")


def _parts(adapter: Params) -> dict[str, Params]:
    """The arrays of an adapter by the path of the weight that they change."""
    parts: dict[str, Params] = {}
    for path, leaf in flatten(adapter).items():
        weight, _, name = path.rpartition("/")
        parts.setdefault(weight, {})[name] = leaf
    return parts


# What a base must agree in for an adapter to fit.
_SHAPE = ("layers", "d_model", "heads", "kv_heads", "d_ff")


@dataclass(frozen=True)
class AdapterDescription:
    """What an adapter's folder says of it.

    Attributes:
      base: the model below it, as ``load_checkpoint`` takes it.
      adapters: folders of adapters between the two, merged in this order.
      model: the sizes that a model must have.
    """

    base: str
    adapters: tuple[str, ...]
    lora: LoraConfig
    model: dict[str, int]


def save_adapter(
    folder: pathlib.Path,
    adapter: Params,
    lora: LoraConfig,
    *,
    base: str,
    base_config: ModelConfig,
    adapters: Sequence[str] = (),
) -> None:
    """Write ``adapter.safetensors`` (float32) and ``adapter.json`` into ``folder``.

    ``base`` and ``adapters`` are those of :class:`AdapterDescription`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_WEIGHTS}.partial"
    save_file({p: np.asarray(x) for p, x in flatten(adapter).items()}, unfinished)
    unfinished.replace(folder / _WEIGHTS)
    sizes = {name: getattr(base_config, name) for name in _SHAPE}
    about = AdapterDescription(base, tuple(adapters), lora, sizes)
    write_atomically(folder / _DESCRIPTION, json.dumps(dataclasses.asdict(about), indent=2) + "\n")


def is_adapter(folder: pathlib.Path) -> bool:
    """Whether :func:`save_adapter` wrote there."""
    return (folder / _DESCRIPTION).is_file()


def read_description(folder: pathlib.Path) -> AdapterDescription:
    """What :func:`save_adapter` wrote beside the weights.

    Raises:
      AdapterError: the folder holds no adapter, or not a whole one.
    """
    path = folder / _DESCRIPTION
    try:
        about = json.loads(path.read_text())
        lora = from_dict(LoraConfig, about["lora"], "lora")
        sizes = {name: int(about["model"][name]) for name in _SHAPE}
        return AdapterDescription(str(about["base"]), tuple(about["adapters"]), lora, sizes)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise AdapterError(
            f"{path} can not be read as the description of an adapter ({type(error).__name__}: "
            f"{error}); copy the folder whole, or train again"
        ) from None


def load_adapter(folder: pathlib.Path, config: ModelConfig) -> tuple[Params, LoraConfig]:
    """An adapter for a model of ``config``, as :func:`save_adapter` wrote it.

    Raises:
      AdapterError: the folder holds no whole adapter, or one made for another model.
    """
    about = read_description(folder)
    lora = about.lora
    for name, value in about.model.items():
        if getattr(config, name) != value:
            raise AdapterError(
                f"the adapter {folder} was made for {about.base!r} with {name} = {value}, and this "
                f"model has {name} = {getattr(config, name)}; load it over the model it was made "
                "for"
            )
    path = folder / _WEIGHTS
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} can not be read ({error}); copy the folder whole") from None
    wanted = flatten(lora_specs(config, lora))
    odd = sorted(
        name
        for name in wanted.keys() | arrays.keys()
        if name not in arrays or name not in wanted or arrays[name].shape != wanted[name].shape
    )
    if odd:
        raise AdapterError(
            f"{path} does not hold what {_DESCRIPTION} says: {odd[0]} is missing, unknown or of "
            "another shape; copy the folder whole, or train again"
        )
    adapter = {name: jnp.asarray(arrays[name], jnp.float32) for name in wanted}
    return traverse_util.unflatten_dict(adapter, sep="/"), lora
