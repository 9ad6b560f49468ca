"""What a checkpoint holds: described without reading its arrays, and compared with a state."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from etils import epath
from flax import traverse_util

from lilith.storage import in_words
from lilith.train import checkpoint_files as files
from lilith.train.checkpoint_files import ArrayInfo, CheckpointError, DamagedCheckpointError

T = TypeVar("T")
_SHOWN = 3  # differing arrays named in an error


@dataclass(frozen=True)
class CheckpointInfo:
    """A whole checkpoint, described without reading its arrays."""

    directory: epath.Path
    step: int
    config_json: str
    data_state: dict[str, Any]
    tokenizer_directory: epath.Path | None
    validation_loss: float | None
    arrays: dict[str, ArrayInfo]  # by path, as "params/layers/attention/q"
    packages: dict[str, str]  # versions that wrote it

    @property
    def parameters(self) -> int:
        """Number of values under ``params``."""
        return sum(
            math.prod(array.shape)
            for name, array in self.arrays.items()
            if name.startswith("params/")
        )


def describe(directory: epath.Path) -> CheckpointInfo:
    """Describe the checkpoint in ``directory`` without reading its arrays.

    Raises:
      DamagedCheckpointError: a file is missing or has another size, or a small one has changed.
      CheckpointError: it was written in a later format.
    """
    files.verify(directory, checksum_up_to=files.CHECKSUM_FILE)
    body = files.read_manifest(directory)
    tokenizer = directory / files.TOKENIZER
    return CheckpointInfo(
        directory=directory,
        step=body["step"],
        config_json=(directory / files.CONFIG).read_text(),
        data_state=json.loads((directory / files.DATA_STATE).read_bytes()),
        tokenizer_directory=tokenizer if tokenizer.is_dir() else None,
        validation_loss=body["validation_loss"],
        arrays={
            name: ArrayInfo(tuple(array["shape"]), array["dtype"])
            for name, array in body["arrays"].items()
        },
        packages=body["packages"],
    )


def list_checkpoints(path: epath.PathLike) -> list[CheckpointInfo]:
    """Describe the whole checkpoints of a run, oldest first; damaged ones are left out.

    Args:
      path: a run's folder or its ``checkpoints`` folder. Nothing in it is changed.
    """
    found = []
    for directory in files.whole(_checkpoints_folder(path)).values():
        with contextlib.suppress(DamagedCheckpointError):
            found.append(describe(directory))
    return found


def read_info(path: epath.PathLike, step: int | None = None) -> CheckpointInfo:
    """Describe one checkpoint without reading its arrays. Nothing on disk is changed.

    Args:
      path: ``runs/x``, ``runs/x/checkpoints`` or ``runs/x/checkpoints/100``.
      step: which one of a run; None: the newest whole one.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    path = files.normalize(path)
    with in_words(path, "read"):
        is_one = (path / files.MANIFEST).exists() or (path / files.ARRAYS).is_dir()
        root = path if is_one else _checkpoints_folder(path)
    if is_one:
        directory = path
    else:
        choices = files.whole(root) if step is None else files.committed(root)
        if not choices or (step is not None and step not in choices):
            wanted = "whole checkpoint" if step is None else f"checkpoint of step {step}"
            raise CheckpointError(f"there is no {wanted} in {root}; {files.known(root)}")
        directory = choices[max(choices) if step is None else step]
    try:
        found = describe(directory)
    except DamagedCheckpointError as error:
        raise files.unreadable(directory, error) from None
    if step is not None and step != found.step:
        raise CheckpointError(f"{directory} is the checkpoint of step {found.step}, not {step}")
    return found


def _checkpoints_folder(path: epath.PathLike) -> epath.Path:
    path = files.normalize(path)
    return path / "checkpoints" if (path / "checkpoints").is_dir() else path


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by path ("params/layers/q"), in the order of ``jax.tree.leaves``."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise CheckpointError("two arrays of the state have the same path; no key may hold a '/'")
    return named


def nested(named: Mapping[str, T]) -> dict[str, Any]:
    """Named leaves as nested dicts: what is stored, free of the classes of a state."""
    return traverse_util.unflatten_dict(dict(named), sep="/")


def describe_arrays(arrays: Mapping[str, Any]) -> dict[str, ArrayInfo]:
    """Shapes and types of arrays to be saved; refuses what can not be.

    Raises:
      CheckpointError: a leaf is no ``jax.Array``, a typed random key, or has no values.
    """
    for name, array in arrays.items():
        if not isinstance(array, jax.Array):
            kind = type(array).__name__
            raise CheckpointError(f"{name} of the state is a {kind}; only a jax.Array can be saved")
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            raise CheckpointError(
                f"{name} of the state is a typed random key; keep jax.random.key_data of it"
            )
        if array.size == 0:
            raise CheckpointError(f"{name} of the state has shape {array.shape}: nothing to save")
    return {name: _describe(array) for name, array in arrays.items()}


def abstract_params_of(info: CheckpointInfo) -> dict[str, Any]:
    """The parameters of a checkpoint as nested dicts of ``jax.ShapeDtypeStruct``, unplaced."""
    structs = {
        name.removeprefix("params/"): jax.ShapeDtypeStruct(array.shape, jnp.dtype(array.dtype))
        for name, array in info.arrays.items()
        if name.startswith("params/")
    }
    return nested(structs)


def check_arrays(info: CheckpointInfo, wanted: Mapping[str, Any], *, exact: bool) -> None:
    """Refuse a checkpoint whose arrays are not those ``wanted``.

    Args:
      exact: it must hold nothing else, and every dtype must be equal; otherwise one floating type
        may be asked for in place of another.

    Raises:
      CheckpointError: names the first differing arrays, as saved and as expected.
    """
    expected = {name: _describe(leaf) for name, leaf in wanted.items()}
    prefixes = {name.split("/")[0] for name in expected}
    saved = {
        name: array
        for name, array in info.arrays.items()
        if exact or name.split("/")[0] in prefixes
    }
    differences = []
    for name in sorted(saved.keys() | expected.keys()):
        have, want = saved.get(name), expected.get(name)
        if have == want or (not exact and have and want and _castable(have, want)):
            continue
        differences.append(f"{name} is {have or 'absent'} there, {want or 'absent'} expected")
    if differences:
        more = len(differences) - _SHOWN
        listed = "; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(
            f"the checkpoint {info.directory} is of another model or optimizer than the config: "
            f"{listed}. Use the config.json inside it, or another --workdir"
        )


def _describe(leaf: Any) -> ArrayInfo:
    return ArrayInfo(tuple(leaf.shape), str(leaf.dtype))


def _castable(have: ArrayInfo, want: ArrayInfo) -> bool:
    floating = all(jnp.issubdtype(jnp.dtype(x.dtype), jnp.floating) for x in (have, want))
    return have.shape == want.shape and floating
