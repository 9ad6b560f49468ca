"""A loaded model written for others: :func:`export_huggingface` and :func:`export_gguf`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lilith.interop.gguf import FileType, write_gguf
from lilith.interop.huggingface import write_huggingface
from lilith.model.layered import split_layers

if TYPE_CHECKING:
    from lilith.inference.language_model import LanguageModel


def export_huggingface(
    model: LanguageModel,
    folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    shard_bytes: float = 5e9,
) -> tuple[str, ...]:
    """Write a model as a folder that transformers' AutoModelForCausalLM and AutoTokenizer open.

    Args, notes and errors: those of :func:`lilith.interop.huggingface.write_huggingface`.
    """
    return write_huggingface(folder, **_parts(model), dtype=dtype, shard_bytes=shard_bytes)


def export_gguf(
    model: LanguageModel,
    path: str | os.PathLike[str],
    *,
    dtype: FileType = "f32",
    name: str = "LILITH model",
) -> tuple[str, ...]:
    """Write a model as a GGUF file that llama.cpp runs.

    Args, notes and errors: those of :func:`lilith.interop.gguf.write_gguf`.
    """
    return write_gguf(os.fspath(path), **_parts(model), dtype=dtype, name=name)


def _parts(model: LanguageModel) -> dict[str, Any]:
    template = model.chat_template
    return {
        "params": split_layers(model.params, model.config.kv_heads),
        "config": model.config,
        "tokenizer": model.tokenizer,
        "chat_template": None if template is None else template.source,
        "stop_ids": model.stop_ids,
    }
