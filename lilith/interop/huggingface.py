"""Hugging Face folders: config.json, safetensors and a tokenizer, in and out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import safetensors
from jax.sharding import Mesh

from lilith.config import ModelConfig
from lilith.interop.huggingface_config import export_config, model_config, read_json
from lilith.interop.huggingface_tokenizer import (
    adds_bos,
    read_chat_template,
    read_tokenizer,
    write_tokenizer,
)
from lilith.interop.safetensors_folder import (
    DTYPES,
    SafetensorsFolder,
    write_json,
    write_safetensors,
)
from lilith.interop.weights import Extras, ImportFailed, build_params, partial_path
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.hugging_face import MODEL_FILE

CONFIG_FILE = "config.json"


def load_huggingface(
    folder: str | os.PathLike[str],
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    layered: bool = False,
) -> tuple[Params, ModelConfig, Tokenizer, Extras]:
    """Read a folder with config.json, safetensors and tokenizer.json, each weight to its place.

    Args:
      mesh, rules, layered: as in :func:`lilith.interop.weights.build_params`.
      dtype: of the weights and of the computation; None: as stored (float32 if types are mixed).

    Raises:
      ImportFailed: a file is missing, damaged, a pickle, or of a model that LILITH does not run.
      TokenizerError: the tokenizer is of a kind that LILITH does not read.
    """
    path = pathlib.Path(folder).expanduser()
    if not (path / CONFIG_FILE).is_file():
        raise ImportFailed(_no_config(path))
    data = read_json(path / CONFIG_FILE)
    config = model_config(data, str(path / CONFIG_FILE))
    source = SafetensorsFolder(path)
    stored = source.dtype()
    config = dataclasses.replace(config, param_dtype=dtype or stored, compute_dtype=dtype or stored)
    tokenizer = read_tokenizer(path)
    if tokenizer.vocab_size > config.vocab:
        raise ImportFailed(f"{path}: {_too_many_tokens(tokenizer, config)}")
    extras = Extras(
        architecture=data["model_type"],
        name=path.resolve().name,
        licence=_licence(path),
        quantisation=next(name for name, own in DTYPES.items() if own == stored),
        chat_template=read_chat_template(path),
        stop_ids=_stop_ids(path, data, config.vocab, tokenizer.eos_id),
        add_bos=adds_bos(tokenizer, path),
        files=(path / CONFIG_FILE, *source.files, path / MODEL_FILE),
    )
    params = build_params(
        config, source, "huggingface", mesh=mesh, rules=rules, dtype=dtype, layered=layered
    )
    return params, config, tokenizer, extras


def write_huggingface(
    folder: str | os.PathLike[str],
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    chat_template: str | None = None,
    stop_ids: tuple[int, ...] = (),
    dtype: str | None = None,
    shard_bytes: float = 5e9,
) -> tuple[str, ...]:
    """Write a folder that transformers' AutoModelForCausalLM and AutoTokenizer open.

    It is written beside ``folder`` under another name and renamed when it is whole. The host holds
    one file's tensors at a time.

    Args:
      folder: where to; it may not exist, or is empty.
      stop_ids: what ends an answer beside the tokenizer's eos.
      dtype: of the stored weights; None: the parameters' own.
      shard_bytes: the most bytes of weights in one file.

    Returns:
      Notes for the person: what differs in the folder, if anything.

    Raises:
      ImportFailed: no supported family computes this config, the folder is there already or can
        not be written, or a weight does not fit the type.
    """
    target = pathlib.Path(folder).expanduser().absolute()
    stored = _stored_dtype(params, dtype)
    data = export_config(config, stored)
    if tokenizer.vocab_size > config.vocab:
        raise ImportFailed(_too_many_tokens(tokenizer, config))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ImportFailed(f"{target} exists already; name a folder that does not, or remove it")
    stops = sorted({tokenizer.eos_id, *stop_ids})
    data |= {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": tokenizer.pad_id,
    }
    special = {name: value for name, value in data.items() if name.endswith("_token_id")}
    with _whole_folder(target) as part:
        write_json(part / CONFIG_FILE, data)
        write_json(part / "generation_config.json", special)
        notes = write_tokenizer(
            part,
            tokenizer,
            family=data["model_type"],
            context=config.context,
            chat_template=chat_template,
        )
        write_safetensors(part, params, config, jnp.dtype(stored), shard_bytes)
    return notes


def _stored_dtype(params: Params, dtype: str | None) -> str:
    """The type to write: the asked one, or the one that all parameters have."""
    own = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
    chosen = dtype or (own[0] if len(own) == 1 else "float32")
    if chosen not in DTYPES.values():
        raise ImportFailed(
            f"weights can not be written as {chosen}; choose one of {', '.join(DTYPES.values())}"
        )
    return chosen


@contextlib.contextmanager
def _whole_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside ``target`` that takes its name at the end, or vanishes if anything fails."""
    part = partial_path(target)
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(target)
    except (OSError, safetensors.SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ImportFailed(f"{target} can not be written: {reason}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _too_many_tokens(tokenizer: Tokenizer, config: ModelConfig) -> str:
    return (
        f"the tokenizer has {tokenizer.vocab_size} tokens and the model {config.vocab}; they do "
        "not belong together"
    )


def _no_config(folder: pathlib.Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return (
            f"{folder} holds an adapter (LoRA) without its model; merge it into the model with "
            "peft's merge_and_unload and save that"
        )
    return f"{folder} has no {CONFIG_FILE}, so it is not a Hugging Face model folder"


def _stop_ids(
    folder: pathlib.Path, data: Mapping[str, Any], vocab: int, eos: int
) -> tuple[int, ...]:
    """What ends an answer: the generation config's eos tokens, else the config's; and ``eos``."""
    path = folder / "generation_config.json"
    stops = read_json(path).get("eos_token_id") if path.is_file() else None
    stops = data.get("eos_token_id") if stops is None else stops
    listed = stops if isinstance(stops, list) else [] if stops is None else [stops]
    for stop in listed:
        if type(stop) is not int or not 0 <= stop < vocab:
            raise ImportFailed(
                f"{folder}: 'eos_token_id' is {stops!r}; expected ids of the vocabulary of {vocab}"
            )
    return tuple(dict.fromkeys([*listed, eos]))


def _licence(folder: pathlib.Path) -> str | None:
    """What the model card says: its front matter has a line ``license: NAME``."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        card = (folder / "README.md").read_text(encoding="utf-8")
        front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
        named = front and re.search(
            r"^license:\s*[\"']?([^\s\"']+)[\"']?\s*$", front.group(1), re.MULTILINE
        )
        return named.group(1) if named else None
    return None
