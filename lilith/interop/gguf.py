"""GGUF files in and out: weights, config and tokenizer of llama, qwen2 and qwen3.

Reading maps the file into memory and turns one tensor at a time into floats; the ``gguf`` package
undoes the quantisation. Writing streams tensor by tensor into a temporary file that takes the final
name when it is whole.

llama.cpp rotates neighbouring pairs of a head where LILITH (and Hugging Face) rotate the pairs
(i, i + H/2), so files of ``llama`` keep the rows of q and k in another order; here they are put
back when they are read and put so when they are written. Qwen's are as ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
from gguf import GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType
from jax.sharding import Mesh

from lilith.config import ModelConfig
from lilith.interop.gguf_config import (
    PERMUTED,
    ROPE_FREQUENCIES,
    architecture_of,
    family,
    read_config,
    write_config,
)
from lilith.interop.gguf_header import TensorRecord, open_file, read_header
from lilith.interop.gguf_metadata import Metadata
from lilith.interop.gguf_rope import divisors_of
from lilith.interop.gguf_tokenizer import read_tokenizer
from lilith.interop.gguf_vocabulary import write_tokenizer
from lilith.interop.weights import (
    WEIGHTS,
    Extras,
    ImportFailed,
    build_params,
    export_tensors,
    file_tensors,
    partial_path,
)
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.tokenizer import Tokenizer

_TEMPLATE = "tokenizer.chat_template"
FileType = Literal["f32", "f16", "bf16", "q8_0"]
READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K")
_PLAIN = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
_STORED = {"F16": "float16", "BF16": "bfloat16"}
_BLOCKS_AT_ONCE = 1 << 15  # dequantised in one call: temporaries of a few MB
# Tensors whose rows are rotated, by the end of their names, and the config's count of their heads.
_ROTATED = {
    WEIGHTS[f"layers/attention/{path}"].gguf.removeprefix("blk.{layer}"): heads
    for path, heads in (("q", "heads"), ("q_bias", "heads"), ("k", "kv_heads"),
                        ("k_bias", "kv_heads"))
}  # fmt: skip
_WRITTEN = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


class GGUFFile:
    """An open GGUF file: its metadata, and its tensors as a source of weights."""

    def __init__(
        self, data: memoryview, metadata: Metadata, tensors: Mapping[str, TensorRecord]
    ) -> None:
        self._data, self.metadata, self.tensors = data, metadata, tensors
        self.architecture = architecture_of(metadata)
        for name, record in tensors.items():  # now, not when half of the model is loaded
            if record.kind.name not in READABLE:
                raise ImportFailed(
                    f"{self.where}: the tensor {name!r} has the type {record.kind.name}; LILITH "
                    f"reads {', '.join(READABLE)}: quantise the model again with one of them"
                )
        self.config = ModelConfig()  # until it is read, for which one tensor may be needed
        divisors = self.read(ROPE_FREQUENCIES) if ROPE_FREQUENCIES in tensors else None
        self.config = read_config(metadata, tensors, divisors)

    @property
    def where(self) -> str:
        """The file's path."""
        return self.metadata.where

    @property
    def quantisation(self) -> str:
        """The type of most of the weights."""
        sizes: dict[str, int] = {}
        for record in self.tensors.values():
            sizes[record.kind.name] = sizes.get(record.kind.name, 0) + math.prod(record.shape)
        return max(sizes, key=lambda kind: sizes[kind])

    def names(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, [out, in] for matrices."""
        return {name: record.shape for name, record in self.tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, its q/k rows in LILITH's order: float32, or as stored (float16, bfloat16).

        Raises:
          ImportFailed: no such tensor, or heads that can not share its rows.
        """
        if name not in self.tensors:
            raise ImportFailed(f"{self.where} holds no tensor {name!r}")
        record = self.tensors[name]
        kind = record.kind.name
        stored = self._data[record.start : record.start + record.bytes]
        if kind in _PLAIN:
            values = np.frombuffer(stored, _PLAIN[kind]).reshape(record.shape)
        else:
            values = _dequantise(np.frombuffer(stored, np.uint8), record)
        heads = _rotated_heads(name, self.config) if self.architecture in PERMUTED else 0
        if heads and record.shape[0] % (2 * heads):
            raise ImportFailed(
                f"{self.where}: the tensor {name!r} has {record.shape[0]} rows, which {heads} "
                "heads of an even width can not share"
            )
        return _from_pairs(values, heads) if heads else values


def read_gguf(path: str | Path) -> GGUFFile:
    """Open a GGUF file and read its header.

    Raises:
      ImportFailed: it can not be read, is no GGUF file, is damaged or cut short, or holds a model
        that LILITH does not run.
    """
    path = Path(path).expanduser()
    data = open_file(path)
    header = read_header(data, str(path))
    return GGUFFile(memoryview(data), header.metadata, header.tensors)


def load_gguf(
    path: str | Path,
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    layered: bool = True,
) -> tuple[Params, ModelConfig, Tokenizer, Extras]:
    """Everything in a GGUF file, the weights streamed one by one to their places.

    Args:
      mesh, rules: where the weights go; None: the default device.
      dtype: of the weights and of the computation; None: as most of them are stored (float32 if
        they are quantised).
      layered: one dict of weights a layer, in place of stacked arrays.

    Returns:
      The parameters, the config, the tokenizer, and what else the file says.

    Raises:
      ImportFailed: the file, a tensor or the tokenizer is not what LILITH can use.
    """
    file = read_gguf(path)
    tokenizer, stop_ids, add_bos = read_tokenizer(file.metadata)
    config = file.config
    if tokenizer.vocab_size > config.vocab:
        raise ImportFailed(
            f"{file.where}: the tokenizer has {tokenizer.vocab_size} tokens and the embedding "
            f"{config.vocab} rows; they do not belong together"
        )
    dtype = dtype or _STORED.get(file.quantisation, "float32")
    config = dataclasses.replace(config, param_dtype=dtype, compute_dtype=dtype)
    params = build_params(config, file, "gguf", mesh=mesh, rules=rules, layered=layered)
    metadata = file.metadata
    extras = Extras(
        architecture=file.architecture,
        chat_template=metadata.text(_TEMPLATE) if _TEMPLATE in metadata else None,
        stop_ids=stop_ids,
        add_bos=add_bos,
        name=metadata.text("general.name", "") or None,
        licence=metadata.text("general.license", "") or None,
        quantisation=file.quantisation,
        files=(Path(file.where),),
    )
    return params, config, tokenizer, extras


def write_gguf(
    path: str | Path,
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    dtype: FileType = "f32",
    chat_template: str | None = None,
    stop_ids: tuple[int, ...] = (),
    name: str = "LILITH model",
) -> tuple[str, ...]:
    """Write a model as a GGUF file that llama.cpp runs and :func:`load_gguf` reads.

    Norms and biases are always float32. With ``"q8_0"`` a matrix whose rows are not a multiple of
    32 long is float16, as in llama.cpp's own files. ``"f32"`` is exact for every type of weights
    here, ``"bf16"`` for bfloat16 ones. The file is written under another name beside ``path`` and
    renamed when it is whole; an older file at ``path`` is replaced.

    Args:
      params: stacked or one dict a layer.
      stop_ids: what ends an answer beside the tokenizer's eos; GGUF keeps two of them. Without any,
        the tokenizer's token for the end of a turn.
      name: ``general.name``.

    Returns:
      Notes for the person: what llama.cpp will not compute as LILITH does, if anything.

    Raises:
      ImportFailed: GGUF can not say what the config or the tokenizer does, a weight does not fit
        into ``dtype``, or the file can not be written; nothing is left at ``path`` then.
    """
    if dtype not in _WRITTEN:
        raise ImportFailed(f"dtype is {dtype!r}; LILITH writes {', '.join(_WRITTEN)} into GGUF")
    path = Path(path).expanduser()
    part = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = GGUFWriter(part, family(config))
        try:
            file.add_type("model")
            file.add_name(name)
            notes = write_config(config, file)
            notes += write_tokenizer(tokenizer, config.vocab, chat_template, stop_ids, file)
            _write_tensors(file, params, config, dtype)
        finally:
            file.close()
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise ImportFailed(f"{path} can not be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            part.unlink()
    return notes


def _write_tensors(file: GGUFWriter, params: Params, config: ModelConfig, dtype: FileType) -> None:
    """Write the header, then the tensors one by one."""
    divisors = divisors_of(config) if config.rope_scaling.kind == "llama3" else None
    shapes = {} if divisors is None else {ROPE_FREQUENCIES: divisors.shape}
    shapes |= {name: it.file_shape for name, it in file_tensors(config, "gguf").items()}
    kinds = {name: _kind_for(shape, dtype) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        block, block_bytes = GGML_QUANT_SIZES[kinds[name]]
        size = math.prod(shape) // block * block_bytes
        file.add_tensor_info(name, shape, _PLAIN["F32"], size, raw_dtype=kinds[name])
    file.add_file_type(_WRITTEN[dtype][1])
    file.add_quantization_version(GGML_QUANT_VERSION)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_ti_data_to_file()
    if divisors is not None:
        file.write_tensor_data(divisors)
    for name, values in export_tensors(params, config, "gguf"):
        heads = _rotated_heads(name, config) if file.arch in PERMUTED else 0
        values = _to_pairs(values, heads) if heads else values
        file.write_tensor_data(_encode(name, values, kinds[name]))


def _kind_for(shape: tuple[int, ...], dtype: FileType) -> GGMLQuantizationType:
    """The type in which a tensor of this shape is written."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    kind = _WRITTEN[dtype][0]
    divides = shape[-1] % GGML_QUANT_SIZES[kind][0] == 0
    return kind if divides else GGMLQuantizationType.F16


def _encode(name: str, values: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """The stored form of a tensor: numbers, or the bytes of its blocks."""
    if kind.name in _PLAIN:
        with np.errstate(over="ignore"):
            stored = values.astype(_PLAIN[kind.name])
        if kind.name == "F16" and np.isinf(stored).any():
            raise ImportFailed(
                f"the weight {name!r} holds values beyond float16's largest, 65504; write bf16 or "
                "f32"
            )
        # A type of numpy's own, which writes itself to files.
        return stored.view(np.uint16) if kind.name == "BF16" else stored
    return quants.quantize(values.astype(np.float32), kind)


def _dequantise(stored: np.ndarray, record: TensorRecord) -> np.ndarray:
    """The float32 values of a tensor's blocks, some thousands of blocks at a time."""
    block, block_bytes = GGML_QUANT_SIZES[record.kind]
    values = np.empty(math.prod(record.shape), np.float32)
    step = _BLOCKS_AT_ONCE
    for i in range(0, len(stored) // block_bytes, step):
        blocks = stored[i * block_bytes : (i + step) * block_bytes]
        with np.errstate(all="ignore"):  # a damaged scale may be infinite
            values[i * block : (i + step) * block] = quants.dequantize(blocks[None], record.kind)[0]
    return values.reshape(record.shape)


def _rotated_heads(name: str, config: ModelConfig) -> int:
    """How many heads share the rows of a tensor of q or k; 0 for other tensors."""
    parts = name.split(".", 2)
    field = _ROTATED.get("." + parts[-1]) if len(parts) == 3 else None
    return 0 if field is None else getattr(config, field)


def _from_pairs(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows (0, 1), (2, 3)... of each head as rows (0, H/2), (1, H/2 + 1)..."""
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _to_pairs(values: np.ndarray, heads: int) -> np.ndarray:
    """The other way round."""
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
