"""A run's folder: whose it is, and whether this config may go on with it."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from lilith.config import ConfigError, ExperimentConfig, UserError
from lilith.config_parsing import to_dict, to_json
from lilith.train.metrics import write_atomically

# What the arrays of a checkpoint are made of; the rest may change between two starts.
FIXED = ("stage", "model", "tokenizer")
# How the same model is run is not what it is.
FREE = ("model.attention", "model.remat", "model.scan_layers", "model.context")


def claim_workdir(config: ExperimentConfig, workdir: pathlib.Path) -> list[str]:
    """Make the folder, check that a run already in it is of the same model, write config.json.

    Returns:
      Lines that say which other fields have changed since the run's last start.

    Raises:
      ConfigError: the folder holds a run of another stage, model or tokenizer.
      UserError: the folder can not be made or written.
    """
    path = workdir / "config.json"
    changed: dict[str, tuple[Any, Any]] = {}
    if path.exists():
        try:
            before = _flat(json.loads(path.read_text()))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path} can not be read ({error}); is this a run's folder?") from None
        now = _flat(to_dict(config))
        changed = {
            key: (before.get(key), now.get(key))
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        }
        fixed = [key for key in changed if key.split(".")[0] in FIXED and key not in FREE]
        if fixed and any((workdir / "checkpoints").glob("[0-9]*")):
            old, new = changed[fixed[0]]
            more = f" and {len(fixed) - 1} more fields differ" if len(fixed) > 1 else ""
            raise ConfigError(
                f"{workdir} holds a run with {fixed[0]} = {old!r}, and this config has {new!r}"
                f"{more}; choose another --workdir, or the config that began that run"
            )
    if jax.process_count() > 1:  # every process has looked before one writes
        multihost_utils.sync_global_devices("claim_workdir")
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            write_atomically(path, to_json(config))
        except OSError as error:
            raise UserError(
                f"the run's folder {workdir} can not be written: {os.strerror(error.errno or 0)}"
            ) from None
    return [f"changed since the last start: {key} {old!r} -> {new!r}" for key, (old, new) in
            changed.items()]  # fmt: skip


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{path}.{key}" if path else key)
    return found
