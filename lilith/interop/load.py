"""One function loads every model: a checkpoint of LILITH, a GGUF file, a folder, or a name."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from lilith.config import ModelConfig
from lilith.config_parsing import from_dict
from lilith.interop.gguf import load_gguf
from lilith.interop.hub import SOURCES
from lilith.interop.huggingface import load_huggingface
from lilith.interop.huggingface_tokenizer import read_chat_template
from lilith.interop.locate import Where, locate, refusal_of_reward
from lilith.interop.weights import Extras, ImportFailed
from lilith.model.layered import unstack_layers
from lilith.model.params import Params, abstract_params, count_params
from lilith.paths import use_compilation_cache
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.storage import at_the_top, is_local, local_copy
from lilith.tokenizer import Tokenizer, load_tokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.checkpoint import CheckpointInfo as TrainingCheckpoint
from lilith.train.checkpoint import load_params, read_info
from lilith.train.checkpoint_info import abstract_params_of
from lilith.train.lora import (
    abstract_adapter,
    load_adapter,
    merge,
    read_description,
)
from lilith.train.lora_config import LoraConfig

if TYPE_CHECKING:
    from lilith.inference.language_model import LanguageModel

_TURN_END = "<|im_end|>"


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a model came from and what it is."""

    where: str  # the path that was read
    kind: str  # lilith, gguf, huggingface
    name: str
    architecture: str  # llama, mistral, qwen2, qwen3; lilith for a checkpoint of its own
    parameters: int
    step: int | None  # of training, for a checkpoint of LILITH
    licence: str | None  # as the source states it
    quantisation: str | None  # how most weights are stored: Q4_1, BF16
    dtype: str  # how they are kept in memory
    chat_template: str | None  # Jinja, untrusted
    stop_ids: tuple[int, ...]  # any of these ends an answer
    add_bos: bool  # whether a text begins with the tokenizer's bos
    files: tuple[pathlib.Path, ...]  # that were read on this machine; none of a bucket's

    def __str__(self) -> str:
        """One line for a person."""
        facts = [
            self.architecture,
            f"{self.parameters:,} parameters",
            f"stored as {self.quantisation}" if self.quantisation else "",
            f"in {self.dtype}",
            f"step {self.step}" if self.step is not None else "",
            f"licence {self.licence}" if self.licence else "licence not stated",
            "" if self.chat_template else "no chat template",
        ]
        return f"{self.name}: {', '.join(fact for fact in facts if fact)} ({self.where})"


def load_checkpoint(
    where: Where,
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    step: int | None = None,
    adapters: Iterable[str] = (),
) -> tuple[LanguageModel, Tokenizer, CheckpointInfo]:
    """Load a model ready to generate, its tokenizer, and what is known of it.

    Weights stream to their places one by one: the host never holds the model twice. Programs that
    generation compiles are kept under :func:`lilith.paths.cache_folder` between processes.

    Args:
      where: a run's folder, its ``checkpoints`` or one step inside; a ``.gguf`` file; a Hugging
        Face folder; a name (``smollm2-135m-instruct``, or ``org/name`` of the Hugging Face hub),
        which is downloaded on first use. What exists as a path is taken for the path. All but a
        name may be in a bucket, ``gs://BUCKET/RUN``: a run's arrays are read from there, anything
        else is copied to a temporary folder first.
      mesh: devices to spread the weights over by ``rules``; None: the default device.
      dtype: the type weights are kept and computed in. None: float32 on a CPU, which has no fast
        products of smaller types; elsewhere as stored.
      step: which checkpoint of a run; None: the newest whole one.
      adapters: folders of adapters to merge into the model, one after the other.

    Raises:
      UserError: nothing that LILITH can load is there; one sentence says what is wrong.
    """
    from lilith.inference.language_model import LanguageModel

    use_compilation_cache()
    if dtype is None and _platform(mesh) == "cpu":
        dtype = "float32"
    params, config, tokenizer, info = load_model(
        where, mesh=mesh, rules=rules, dtype=dtype, step=step
    )
    params = merge_adapters(params, config, adapters)
    model = LanguageModel(
        params,
        config,
        tokenizer,
        chat_template=info.chat_template,
        stop_ids=info.stop_ids,
        add_bos=info.add_bos,
        rules=rules,
        mesh=mesh,
    )
    return model, tokenizer, info


def load_model(
    where: Where,
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    step: int | None = None,
    layered: bool = True,
) -> tuple[Params, ModelConfig, Tokenizer, CheckpointInfo]:
    """The parts of a model: parameters, config, tokenizer.

    As :func:`load_checkpoint`, but that None for ``dtype`` is the stored type everywhere (float32
    for quantised weights).

    Args:
      layered: give ``layers`` as a tuple of one dict a layer; else stacked, as training wants them.
    """
    kind, path, name = locate(where)
    if step is not None and kind != "lilith":
        raise ImportFailed(f"step is {step}, but {path} is no run of LILITH and has no steps")
    if kind == "bucket":
        with local_copy(path, at_the_top) as copy:
            loaded = load_model(copy, mesh=mesh, rules=rules, dtype=dtype, layered=layered)
        return (*loaded[:3], replace(loaded[3], where=path, files=()))
    if kind == "lilith":
        return _load_own(path, mesh, rules, dtype, step, layered)
    if kind == "adapter":
        return _load_adapted(path, mesh, rules, dtype, layered)
    load: Any = load_gguf if kind == "gguf" else load_huggingface
    params, config, tokenizer, extras = load(
        path, mesh=mesh, rules=rules, dtype=dtype, layered=layered
    )
    return params, config, tokenizer, _describe(kind, path, name, config, extras)


def _describe(
    kind: str, path: str, name: str | None, config: ModelConfig, extras: Extras
) -> CheckpointInfo:
    listed = SOURCES.get(name or "")
    return CheckpointInfo(
        where=path,
        kind=kind,
        name=name or extras.name or pathlib.Path(path).stem,
        architecture=extras.architecture,
        parameters=count_params(config),
        step=None,
        licence=extras.licence or (listed.licence if listed else None),
        quantisation=extras.quantisation,
        dtype=config.param_dtype,
        chat_template=extras.chat_template,
        stop_ids=extras.stop_ids,
        add_bos=extras.add_bos,
        files=extras.files,
    )


def _load_own(
    where: str,
    mesh: Mesh | None,
    rules: ShardingRules,
    dtype: str | None,
    step: int | None,
    layered: bool,
) -> tuple[Params, ModelConfig, Tokenizer, CheckpointInfo]:
    """A checkpoint that LILITH wrote, its parameters straight to their places."""
    found = read_info(where, step)
    experiment = json.loads(found.config_json)
    if experiment["stage"] == "reward":
        raise ImportFailed(refusal_of_reward(found.directory))
    if experiment.get("lora", {}).get("rank"):
        return _load_trained_adapter(found, experiment, mesh, rules, dtype, layered)
    config = from_dict(ModelConfig, experiment["model"], "model")
    if dtype is not None:
        config = replace(config, param_dtype=dtype, compute_dtype=dtype)
    if found.tokenizer_directory is None:
        raise ImportFailed(f"the checkpoint {found.directory} holds no tokenizer")
    with local_copy(found.tokenizer_directory) as folder:
        tokenizer, template = load_tokenizer(folder), read_chat_template(folder)
    # A model that has seen no conversations has no template, unless one lies beside its tokenizer.
    default = None if experiment["stage"] == "pretrain" else CHATML
    stops = [tokenizer.eos_id, tokenizer.special_tokens.get(_TURN_END, tokenizer.eos_id)]
    stops += experiment.get("stop_ids", [])  # of the model that it was tuned from
    info = CheckpointInfo(
        where=str(found.directory),
        kind="lilith",
        name=experiment["name"],
        architecture="lilith",
        parameters=count_params(config),  # without a critic
        step=found.step,
        licence=None,
        quantisation=None,
        dtype=config.param_dtype,
        chat_template=template or default,
        stop_ids=tuple(dict.fromkeys(stops)),
        add_bos=experiment.get("add_bos", True),  # every document of pretraining begins so
        files=_local_files(found),
    )
    stacked = _load_policy(found, abstract_params(config, mesh, rules))
    params = unstack_layers(stacked, release=True) if layered else stacked
    return params, config, tokenizer, info


def _load_policy(found: TrainingCheckpoint, target: Params) -> Params:
    """The weights that write: of a run of PPO, which has trained a critic beside them, those."""
    saved = abstract_params_of(found)
    if saved.keys() != {"policy", "critic"}:
        return load_params(found.directory, target)
    return load_params(found.directory, saved | {"policy": target})["policy"]


def _local_files(found: TrainingCheckpoint) -> tuple[pathlib.Path, ...]:
    """The checkpoint's folder, unless it is in a bucket."""
    return (pathlib.Path(found.directory),) if is_local(found.directory) else ()


def _load_trained_adapter(
    found: TrainingCheckpoint,
    experiment: dict[str, Any],
    mesh: Mesh | None,
    rules: ShardingRules,
    dtype: str | None,
    layered: bool,
) -> tuple[Params, ModelConfig, Tokenizer, CheckpointInfo]:
    """A checkpoint of a run that trained an adapter: its base, with the adapter merged."""
    lora = from_dict(LoraConfig, experiment["lora"], "lora")
    params, config, tokenizer, info = load_model(
        experiment["base"], mesh=mesh, rules=rules, dtype=dtype, layered=layered
    )
    params = merge_adapters(params, config, experiment["adapters"])
    adapter = load_params(found.directory, abstract_adapter(config, lora, mesh, rules))
    template = None
    if found.tokenizer_directory is not None:
        with local_copy(found.tokenizer_directory) as folder:
            template = read_chat_template(folder)
    info = replace(
        info,
        where=str(found.directory),
        kind="lilith",
        name=experiment["name"],
        step=found.step,
        chat_template=template or info.chat_template,
        files=(*info.files, *_local_files(found)),
    )
    return merge(params, adapter, lora), config, tokenizer, info


def _load_adapted(
    where: str, mesh: Mesh | None, rules: ShardingRules, dtype: str | None, layered: bool
) -> tuple[Params, ModelConfig, Tokenizer, CheckpointInfo]:
    """The base that an adapter's folder names, with the adapter merged."""
    folder = pathlib.Path(where)
    about = read_description(folder)
    params, config, tokenizer, info = load_model(
        about.base, mesh=mesh, rules=rules, dtype=dtype, layered=layered
    )
    params = merge_adapters(params, config, (*about.adapters, where))
    name = f"{info.name} with {folder.name}"
    info = replace(
        info,
        where=where,
        kind="adapter",
        name=name,
        chat_template=read_chat_template(folder) or info.chat_template,
        files=(*info.files, folder),
    )
    return params, config, tokenizer, info


def merge_adapters(params: Params, config: ModelConfig, folders: Iterable[str]) -> Params:
    """``params`` with saved adapters merged, one after the other.

    Raises:
      AdapterError: one can not be read, or was made for another model.
      StorageError: one is in a bucket that can not be read.
    """
    for folder in folders:
        with local_copy(os.path.expanduser(folder), at_the_top) as here:
            params = merge(params, *load_adapter(here, config))
    return params


def _platform(mesh: Mesh | None) -> str:
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
