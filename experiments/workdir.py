"""A run's folder: whose it is, and whether this config may go on with it."""

from __future__ import annotations

import json
import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from experiments.bucket import CHECKPOINTS, files_of
from experiments.tuning_config import FromModelConfig
from lilith.config import ConfigError, ExperimentConfig, UserError
from lilith.config_parsing import to_dict, to_json
from lilith.train.checkpoint import Checkpointer, list_checkpoints
from lilith.train.metrics import write_atomically

# What the arrays and the data position of a checkpoint mean; the rest may change between starts.
FIXED = ("stage", "seed", "base", "adapters", "model", "tokenizer", "data", "lora")
# How the same model is run and the same data read is not what they are.
FREE = (
    "model.attention", "model.remat", "model.scan_layers", "model.context",
    "data.workers", "data.cache", "data.epochs",
)  # fmt: skip


def checkpoints_of(config: ExperimentConfig | FromModelConfig, workdir: pathlib.Path) -> epath.Path:
    """The folder of a run's checkpoints, in its bucket if it has one."""
    if config.checkpoint.bucket:
        return files_of(config.checkpoint.bucket, workdir).bucket / CHECKPOINTS
    return epath.Path(workdir) / CHECKPOINTS


def open_checkpoints(
    config: ExperimentConfig | FromModelConfig, workdir: pathlib.Path
) -> Checkpointer:
    """The checkpoints of a run; with a bucket, each takes the run's other files there.

    Raises:
      CheckpointError: they can not be kept.
    """
    checkpointer = Checkpointer(
        checkpoints_of(config, workdir),
        keep=config.checkpoint.keep,
        keep_best=config.checkpoint.keep_best,
    )
    if config.checkpoint.bucket:
        checkpointer.before_commit = files_of(config.checkpoint.bucket, workdir).send
    return checkpointer


def claim_workdir(config: ExperimentConfig | FromModelConfig, workdir: pathlib.Path) -> list[str]:
    """Make the folder, check that a run already in it is of the same model, write config.json.

    Returns:
      Lines that say which other fields have changed since the run's newest checkpoint.

    Raises:
      ConfigError: the folder holds a run of another stage, model, tokenizer or corpus.
      UserError: the folder can not be made or written.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file; name a folder for the run")
    path = workdir / "config.json"
    _require_readable(path)
    changed = _changed_fields(config, workdir)
    fixed = [key for key in changed if key.split(".")[0] in FIXED and key not in FREE]
    if fixed:
        old, new = changed[fixed[0]]
        more = f" and {len(fixed) - 1} more fields differ" if len(fixed) > 1 else ""
        raise ConfigError(
            f"{workdir} holds a run with {fixed[0]} = {reprlib.repr(old)}, and this config has "
            f"{reprlib.repr(new)}{more}; choose another --workdir, or the config that began it"
        )
    if jax.process_count() > 1:  # every process has looked before one writes
        multihost_utils.sync_global_devices("claim_workdir")
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            write_atomically(path, to_json(config))
        except OSError as error:
            raise UserError(
                f"the run's folder {workdir} can not be written ({os.strerror(error.errno or 0)}); "
                "choose another --workdir"
            ) from None
    return [
        f"changed since the last checkpoint: {key} {reprlib.repr(old)} -> {reprlib.repr(new)}"
        for key, (old, new) in changed.items()
    ]


def _require_readable(path: pathlib.Path) -> None:
    """A config.json that is none may be the only trace of something else: do not write over it."""
    if not path.exists():
        return
    try:
        json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} can not be read as the config of a run ({error}); remove it if {path.parent} "
            "is this config's run, or choose another --workdir"
        ) from None


def _changed_fields(
    config: ExperimentConfig | FromModelConfig, workdir: pathlib.Path
) -> dict[str, tuple[Any, Any]]:
    """Old and new value of every field that differs from the newest checkpoint's config."""
    checkpoints = list_checkpoints(checkpoints_of(config, workdir))
    if not checkpoints:
        return {}
    before, now = _flat(json.loads(checkpoints[-1].config_json)), _flat(to_dict(config))
    return {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{path}.{key}" if path else key)
    return found
