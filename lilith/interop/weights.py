"""Names and layouts of weights in the files of others, and arrays streamed in and out of them.

A file keeps the matrix of a linear layer as [out, in]; LILITH keeps [in, out] with the heads apart.
:data:`WEIGHTS` is the one table of names and layouts. Both sides rotate the pairs (i, i + H/2) of a
head, so rows need no permutation (GGUF files of ``llama`` are un-permuted where they are read).
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding

from lilith.config import ModelConfig, UserError
from lilith.model.params import Params, ParamSpec, flatten, model_specs
from lilith.sharding import DEFAULT_RULES, ShardingRules, check_divisible, named_sharding

Naming = Literal["huggingface", "gguf"]
LAYERS = "layers/"  # the paths of weights that every layer has
_SHOWN = 3  # tensors named in one error


class ImportFailed(UserError):
    """A model can not be found, read or written in a format of another project."""


@dataclass(frozen=True)
class Extras:
    """What a file or folder says of its model beside the weights, the config and the tokenizer.

    ``stop_ids`` end an answer (end of text, of turn, of message). ``add_bos``: a text begins with
    the tokenizer's bos. ``quantisation`` is the type of most of the weights, such as Q4_1 or BF16.
    ``licence`` is as it is written there.
    """

    architecture: str  # llama, mistral, qwen2, qwen3
    quantisation: str
    chat_template: str | None  # Jinja, untrusted
    stop_ids: tuple[int, ...]
    add_bos: bool
    name: str | None = None
    licence: str | None = None
    files: tuple[pathlib.Path, ...] = ()  # that were read


@dataclass(frozen=True)
class Weight:
    """One weight: its path here, its names in files, and how a file lays it out.

    ``inputs`` is how many leading axes of LILITH's array (of one layer) are the inputs of a linear
    map, which a file keeps as the matrix [all outputs, all inputs]. None: the file keeps the array
    as it is, one-dimensional but for the two tables [vocab, d_model].
    """

    path: str
    huggingface: str
    gguf: str
    inputs: int | None = None

    def name(self, naming: Naming, layer: int | None = None) -> str:
        """What a file calls it; ``layer`` counts from 0."""
        pattern: str = getattr(self, naming)
        return pattern.format(layer=layer)

    def file_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape in a file of an array (of one layer) that has ``shape`` here."""
        if self.inputs is None:
            return tuple(shape) if self.path in _TABLES else (math.prod(shape),)
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])

    def from_file(self, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """A file's array, of ``file_shape(shape)``, as LILITH's array of ``shape``; a view."""
        return (array if self.inputs is None else array.T).reshape(shape)

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """LILITH's array as a file keeps it, contiguous."""
        if self.inputs is None:
            return np.ascontiguousarray(array.reshape(self.file_shape(array.shape)))
        outputs, inputs = self.file_shape(array.shape)
        return np.ascontiguousarray(array.reshape(inputs, outputs).T)


def _layer_weight(path: str, huggingface: str, gguf: str, inputs: int | None = None) -> Weight:
    return Weight(LAYERS + path, f"model.layers.{{layer}}.{huggingface}", f"blk.{{layer}}.{gguf}",
                  inputs)  # fmt: skip


_TABLES = ("embedding", "unembedding")
WEIGHTS: dict[str, Weight] = {
    weight.path: weight
    for weight in (
        Weight("embedding", "model.embed_tokens.weight", "token_embd.weight"),
        _layer_weight("attention_norm", "input_layernorm.weight", "attn_norm.weight"),
        _layer_weight("attention/q", "self_attn.q_proj.weight", "attn_q.weight", 1),
        _layer_weight("attention/k", "self_attn.k_proj.weight", "attn_k.weight", 1),
        _layer_weight("attention/v", "self_attn.v_proj.weight", "attn_v.weight", 1),
        _layer_weight("attention/o", "self_attn.o_proj.weight", "attn_output.weight", 2),
        _layer_weight("attention/q_bias", "self_attn.q_proj.bias", "attn_q.bias"),
        _layer_weight("attention/k_bias", "self_attn.k_proj.bias", "attn_k.bias"),
        _layer_weight("attention/v_bias", "self_attn.v_proj.bias", "attn_v.bias"),
        _layer_weight("attention/q_norm", "self_attn.q_norm.weight", "attn_q_norm.weight"),
        _layer_weight("attention/k_norm", "self_attn.k_norm.weight", "attn_k_norm.weight"),
        _layer_weight("mlp_norm", "post_attention_layernorm.weight", "ffn_norm.weight"),
        _layer_weight("mlp/gate", "mlp.gate_proj.weight", "ffn_gate.weight", 1),
        _layer_weight("mlp/up", "mlp.up_proj.weight", "ffn_up.weight", 1),
        _layer_weight("mlp/down", "mlp.down_proj.weight", "ffn_down.weight", 1),
        Weight("final_norm", "model.norm.weight", "output_norm.weight"),
        Weight("unembedding", "lm_head.weight", "output.weight"),
    )
}

# Buffers that some files carry and that follow from the config: rotary frequencies. The factors of
# Llama 3 (rope_freqs) are for the reader of the GGUF file to compare with the config.
IGNORED: dict[Naming, re.Pattern[str]] = {
    "huggingface": re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)"),
    "gguf": re.compile(r"rope_freqs\.weight|rope_factors_(long|short)\.weight"),
}


def partial_path(target: pathlib.Path) -> pathlib.Path:
    """Where this process lets what will be ``target`` grow until it is whole: beside it."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


class TensorSource(Protocol):
    """A file, or several, of named tensors."""

    @property
    def where(self) -> str:
        """What errors call it: a path."""

    def names(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor by its name in the file, [out, in] for matrices."""

    def read(self, name: str) -> np.ndarray:
        """One tensor in that shape: float32, float16 or bfloat16 (of ml_dtypes)."""


class FileTensor(NamedTuple):
    """A tensor that a file of some model holds."""

    weight: Weight
    layer: int | None  # None: the weight does not belong to the layers
    shape: tuple[int, ...]  # of LILITH's array, of one layer

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Its shape in the file."""
        return self.weight.file_shape(self.shape)


def file_tensors(config: ModelConfig, naming: Naming) -> dict[str, FileTensor]:
    """Every tensor that a file of such a model holds, by its name there."""
    found = {}
    specs = flatten(model_specs(config))
    for path, weight in WEIGHTS.items():
        if path not in specs:
            continue
        shape = specs[path].shape
        if path.startswith(LAYERS):
            for i in range(config.layers):
                found[weight.name(naming, i)] = FileTensor(weight, i, shape[1:])
        else:
            found[weight.name(naming)] = FileTensor(weight, None, shape)
    return found


def build_params(
    config: ModelConfig,
    source: TensorSource,
    naming: Naming,
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    layered: bool = False,
) -> Params:
    """Read every weight of a model, each straight to its place.

    The host holds the placed model and, beside it, one tensor of the source (with ``layered``) or
    one stacked weight (without).

    Args:
      mesh: where the weights are laid out by ``rules``; None: the default device.
      dtype: of the weights; None: ``config.param_dtype``.
      layered: ``params["layers"]`` as a tuple of one dict a layer, in place of stacked arrays.

    Raises:
      ImportFailed: a tensor is missing, superfluous or of another shape than the config's.
      ShardingError: a weight does not divide over the mesh.
    """
    check_tensors(config, source, naming)
    target = np.dtype(jax.numpy.dtype(dtype or config.param_dtype))
    top: dict[str, Any] = {}
    layers: list[dict[str, Any]] = [{} for _ in range(config.layers)]
    for path, spec in flatten(model_specs(config)).items():
        weight = WEIGHTS[path]
        place = _Place(path, spec, target, mesh, rules)
        if not path.startswith(LAYERS):
            # Without a name of its own, the array read is gone before the next one comes.
            top[path] = place.whole(weight.from_file(source.read(weight.name(naming)), spec.shape))
            continue

        def read(i: int, weight: Weight = weight, spec: ParamSpec = spec) -> np.ndarray:
            return weight.from_file(source.read(weight.name(naming, i)), spec.shape[1:])

        if layered:
            for i, layer in enumerate(layers):
                layer[path.removeprefix(LAYERS)] = place.layer(read(i))
        else:
            top[path] = place.stack(read)
    params: Params = traverse_util.unflatten_dict(top, sep="/")
    if layered:
        params["layers"] = tuple(traverse_util.unflatten_dict(layer, sep="/") for layer in layers)
    return params


class _Place:
    """Where one weight goes: values in, committed and finished array out."""

    def __init__(
        self,
        path: str,
        spec: ParamSpec,
        dtype: np.dtype,
        mesh: Mesh | None,
        rules: ShardingRules,
    ) -> None:
        self._spec, self._dtype, self._mesh, self._rules = spec, dtype, mesh, rules
        if mesh is not None:
            check_divisible(path, spec.shape, spec.axes, mesh, rules)

    def whole(self, values: np.ndarray) -> jax.Array:
        """A weight of its own."""
        return self._put(values, self._spec.axes)

    def layer(self, values: np.ndarray) -> jax.Array:
        """One layer of a weight of the layers."""
        return self._put(values, self._spec.axes[1:])

    def stack(self, read: Callable[[int], np.ndarray]) -> jax.Array:
        """All layers of a weight, each read once, into the pieces that this host's devices hold."""
        shape = self._spec.shape
        sharding = self._sharding(self._spec.axes)
        pieces: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
        for index in _indices(sharding, shape):
            bounds = _bounds(index, shape)
            pieces[bounds] = np.empty([stop - start for start, stop in bounds], self._dtype)
        for i in range(shape[0]):
            values = read(i)
            for ((start, stop), *rest), piece in pieces.items():
                if start <= i < stop:
                    piece[i - start] = values[tuple(slice(*bounds) for bounds in rest)]
        if sharding is None:
            (piece,) = pieces.values()
            return jax.block_until_ready(jax.device_put(piece, may_alias=False))
        placed = jax.make_array_from_callback(
            shape, sharding, lambda index: pieces[_bounds(index or (), shape)]
        )
        return jax.block_until_ready(placed)

    def _put(self, values: np.ndarray, axes: tuple[str | None, ...]) -> jax.Array:
        """Finished before it returns, so that no queue of transfers keeps sources alive."""
        sharding = self._sharding(axes)
        if sharding is None:
            return jax.block_until_ready(jax.device_put(self._copied(values)))
        placed = jax.make_array_from_callback(
            values.shape, sharding, lambda index: self._copied(values[index])
        )
        return jax.block_until_ready(placed)

    def _copied(self, values: np.ndarray) -> np.ndarray:
        """Apart from the source: an array may keep the memory it is given, not a mapped file's."""
        return np.array(values, self._dtype, order="C")

    def _sharding(self, axes: tuple[str | None, ...]) -> NamedSharding | None:
        return None if self._mesh is None else named_sharding(self._mesh, self._rules.spec(*axes))


def _indices(sharding: NamedSharding | None, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The pieces of an array that this host's devices hold, some of them the same."""
    if sharding is None:
        return [tuple(slice(None) for _ in shape)]
    indices = sharding.addressable_devices_indices_map(shape).values()
    return [index for index in indices if index is not None]


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Start and stop of every slice (before Python 3.12 slices are no keys)."""
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape))


def check_tensors(config: ModelConfig, source: TensorSource, naming: Naming) -> None:
    """Compare the names and shapes of a source with the config's.

    Raises:
      ImportFailed: a tensor is missing, superfluous or of another shape; or a model of tied
        embeddings comes with an output table that is not its embedding.
    """
    expected = file_tensors(config, naming)
    found = source.names()
    missing = [name for name in expected if name not in found]
    if missing:
        raise ImportFailed(
            f"{source.where} lacks {_listed(missing)} that a model of its config has; the file is "
            "incomplete, or its config is another model's"
        )
    for name, tensor in expected.items():
        if tuple(found[name]) != tensor.file_shape:
            raise ImportFailed(
                f"{source.where}: the tensor {name!r} has shape {list(found[name])}, and the "
                f"config says {list(tensor.file_shape)}; the weights and the config do not belong "
                "together"
            )
    output = WEIGHTS["unembedding"].name(naming)
    extra = [
        name
        for name in found
        if name not in expected and name != output and not IGNORED[naming].fullmatch(name)
    ]
    if extra:
        raise ImportFailed(
            f"{source.where} holds {_listed(extra)} that a model of its config does not have; "
            "leaving weights out would change the results"
        )
    if output in found and output not in expected:
        _check_tied(source, output, WEIGHTS["embedding"].name(naming))


def _check_tied(source: TensorSource, output: str, embedding: str) -> None:
    """Some files of tied models hold the one table twice."""
    shapes = source.names()
    if shapes[output] != shapes[embedding] or not np.array_equal(
        source.read(output), source.read(embedding)
    ):
        raise ImportFailed(
            f"{source.where}: the config says that {output!r} is the table {embedding!r} "
            "(tied embeddings), but the file holds another one; say in the config that they are "
            "not tied, or remove it"
        )


def _listed(names: Sequence[str]) -> str:
    """ "the tensor 'a'", or "5 tensors ('a', 'b', 'c' and 2 more)"."""
    if len(names) == 1:
        return f"the tensor {names[0]!r}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} tensors ({', '.join(map(repr, names[:_SHOWN]))}{more})"


def export_tensors(
    params: Params, config: ModelConfig, naming: Naming
) -> Iterator[tuple[str, np.ndarray]]:
    """Every weight as a file keeps it, by its name there, one at a time on the host.

    Args:
      params: stacked or layered, in any type and placement that this process can reach.

    Raises:
      ImportFailed: the parameters are not those of ``config``.
    """
    layers = params["layers"]
    by_layer = [flatten(layer) for layer in layers] if isinstance(layers, tuple) else None
    stacked = flatten(layers) if by_layer is None else {}
    own = {LAYERS + path for path in (by_layer[0] if by_layer else stacked)}
    strange = {*(params.keys() - {"layers"}), *own} ^ flatten(model_specs(config)).keys()
    if strange:
        raise ImportFailed(
            "the parameters and their config do not belong together: "
            f"{min(strange)!r} is in one of them alone"
        )
    for name, (weight, i, shape) in file_tensors(config, naming).items():
        path = weight.path.removeprefix(LAYERS)
        if i is None:
            leaf = params[path]
        elif by_layer is not None:
            leaf = by_layer[i][path]
        else:
            leaf = jax.lax.index_in_dim(stacked[path], i, keepdims=False)
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            raise ImportFailed(
                "the parameters are spread over several processes, and one process writes a file; "
                "save a checkpoint, and export that"
            )
        if tuple(leaf.shape) != shape:
            raise ImportFailed(
                f"the weight {weight.path!r} has shape {list(leaf.shape)}, and its config says "
                f"{list(shape)}"
            )
        yield name, weight.to_file(np.asarray(leaf))
