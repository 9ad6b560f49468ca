"""What a checkpoint directory holds, and whether it is whole. Knows files, not arrays.

A checkpoint ``<run>/checkpoints/<step>/`` is self-contained: ``config.json``, ``data_state.json``,
``tokenizer/`` (when the run has one), ``state/`` (the arrays) and ``manifest.json``, which is
written last and lists every other file with its size and, where cheap, its CRC-32. On a local file
system all of it is written as ``<step>.incomplete`` and renamed once complete; in an object store,
which has no rename, the manifest alone marks a checkpoint as committed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import importlib.metadata
import json
import os
import platform
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from lilith.config import UserError
from lilith.storage import (
    StorageError,
    failures,
    in_words,
    is_local,
    read_object,
    remote,
    sizes,
)

FORMAT = 1  # raised when a reader of this version could not read what is written
ARRAYS = "state"
CONFIG = "config.json"
DATA_STATE = "data_state.json"
TOKENIZER = "tokenizer"
MANIFEST = "manifest.json"
INCOMPLETE = ".incomplete"
DELETING = ".deleting"

# A checksum costs reading the file back, by one process: every file of a local checkpoint up to
# CHECKSUM_TOTAL bytes has one, beyond that (and in an object store) only files up to CHECKSUM_FILE.
CHECKSUM_TOTAL = 8 * 2**30
CHECKSUM_FILE = 2**20
_READ = 2**22  # bytes read at a time

_PACKAGES = ("lilith", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class CheckpointError(UserError):
    """A checkpoint can not be written, found or read, or is of another model."""


class UnsavedError(CheckpointError):
    """A save failed; what was saved before stays."""


class DamagedCheckpointError(CheckpointError):
    """A committed checkpoint has lost or changed some of its bytes."""


@dataclass(frozen=True)
class ArrayInfo:
    """Shape and type of one saved array."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def normalize(path: epath.PathLike) -> epath.Path:
    """``path`` as an absolute ``epath.Path``, one in a bucket ready for use.

    Raises:
      StorageError: it is in a store that can not be used.
    """
    return epath.Path(path).expanduser().absolute() if is_local(path) else remote(path)


def write_file(path: epath.Path, data: bytes) -> None:
    """Write or replace one small file so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_local(path):  # an object appears whole or not at all
        path.write_bytes(data)
        return
    temporary = path.with_name(path.name + ".writing")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def contents(
    config_json: str, data_state: Mapping[str, Any], tokenizer_directory: epath.PathLike | None
) -> dict[str, bytes]:
    """What stands beside the arrays and the manifest, by name inside the checkpoint.

    Raises:
      CheckpointError: the tokenizer's folder can not be read.
    """
    found = {
        CONFIG: config_json.encode(),
        DATA_STATE: json.dumps(data_state, indent=1).encode(),
    }
    if tokenizer_directory is not None:
        folder = normalize(tokenizer_directory)
        try:
            names = _sizes(folder)
            found |= {f"{TOKENIZER}/{name}": (folder / name).read_bytes() for name in names}
        except OSError as error:
            raise CheckpointError(
                f"the tokenizer's folder {folder} can not be read: {error.strerror or error}"
            ) from None
    return found


def write_manifest(
    directory: epath.Path,
    *,
    step: int,
    validation_loss: float | None,
    arrays: Mapping[str, ArrayInfo],
) -> None:
    """List every file of ``directory`` in its manifest: after this it counts as committed."""
    listed = {name: size for name, size in _sizes(directory).items() if name != MANIFEST}
    all_files = is_local(directory) and sum(listed.values()) <= CHECKSUM_TOTAL
    files = {
        name: {
            "bytes": size,
            "crc32": _crc32(directory / name) if all_files or size <= CHECKSUM_FILE else None,
        }
        for name, size in sorted(listed.items())
    }
    body = {
        "format": FORMAT,
        "step": step,
        "validation_loss": validation_loss,
        "saved_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": _package_versions(),
        "arrays": {name: dataclasses.asdict(array) for name, array in arrays.items()},
        "files": files,
    }
    _write_manifest_body(directory, body)


def set_validation_loss(directory: epath.Path, validation_loss: float) -> None:
    """Record a loss that was measured after the checkpoint was written.

    Raises:
      CheckpointError: the manifest can not be read or written; the old one stays.
    """
    expected: tuple[type[Exception], ...] = (*failures(), DamagedCheckpointError)
    try:
        body = {**read_manifest(directory), "validation_loss": validation_loss}
        _write_manifest_body(directory, body)
    except expected as error:
        reason = failure_reason(error)
        raise CheckpointError(
            f"the validation loss could not be added to the checkpoint {directory}: {reason}"
        ) from error


def best_first(root: epath.Path, steps: Sequence[int]) -> list[int]:
    """Those of ``steps`` with a validation loss, the lowest first, of equals the later first."""
    losses = {}
    for step in steps:
        with contextlib.suppress(DamagedCheckpointError):  # deleted since it was listed
            losses[step] = read_manifest(root / str(step))["validation_loss"]
    known = {step: loss for step, loss in losses.items() if loss is not None}
    return sorted(known, key=lambda step: (known[step], -step))


def verify(directory: epath.Path, *, checksum_up_to: float) -> None:
    """Compare every file with the manifest: all sizes, and the contents of files up to a size.

    Args:
      checksum_up_to: bytes; 0: sizes only, ``math.inf``: everything that has a checksum.

    Raises:
      DamagedCheckpointError: a file is missing, unreadable, or not what it was.
    """
    entries = read_manifest(directory)["files"]
    try:
        found = None if is_local(directory) else sizes(directory)
    except failures() as error:
        raise DamagedCheckpointError(f"its files can not be listed: {words_of(error)}") from None
    for name, entry in entries.items():
        path = directory / name
        try:
            size = path.stat().length if found is None else found.get(name)
            if size != entry["bytes"]:
                has = "is missing" if size is None else f"has {size} bytes"
                raise DamagedCheckpointError(f"{name} {has} instead of {entry['bytes']}")
            known = entry["crc32"] is not None and entry["bytes"] <= checksum_up_to
            if known and _crc32(path) != entry["crc32"]:
                raise DamagedCheckpointError(f"the contents of {name} are not what was saved")
        except failures() as error:
            raise DamagedCheckpointError(f"{name} can not be read: {words_of(error)}") from None


def committed(root: epath.Path) -> dict[int, epath.Path]:
    """Every committed checkpoint under ``root`` by step, oldest first; it may be damaged since.

    Raises:
      StorageError: it is in a bucket that can not be read.
    """
    steps = (int(name) for name, counts in _inside(root).items() if counts and _is_step(name))
    return {step: root / str(step) for step in sorted(steps)}


def _inside(root: epath.Path) -> dict[str, bool]:
    """What is in ``root`` by name, and in a bucket whether it has a manifest."""
    if is_local(root):
        return {path.name: True for path in root.iterdir()} if root.is_dir() else {}
    # One listing, which fails if it can not be made: "is it there?" would then say no.
    with in_words(root, "read"):
        names = sizes(root)
    return {name.split("/")[0]: f"{name.split('/')[0]}/{MANIFEST}" in names for name in names}


def whole(root: epath.Path) -> dict[int, epath.Path]:
    """The committed checkpoints whose files have the sizes of their manifests, oldest first."""
    found = {}
    for step, directory in committed(root).items():
        try:
            verify(directory, checksum_up_to=0)
        except DamagedCheckpointError:
            continue
        found[step] = directory
    return found


def unreadable(directory: epath.Path, error: Exception) -> CheckpointError:
    """The error to show for a checkpoint that fails to load: why, and what else there is."""
    kind = type(error) if isinstance(error, CheckpointError) else CheckpointError
    reason, others = failure_reason(error), known(directory.parent, besides=directory)
    return kind(f"the checkpoint {directory} is not readable ({reason}); {others}")


def known(root: epath.Path, besides: epath.Path | None = None) -> str:
    """Words for what else can be restored from ``root``."""
    steps = ", ".join(str(step) for step, path in whole(root).items() if path != besides)
    return f"whole ones there: step {steps}" if steps else "no other one there is whole"


def what_is_safe(root: epath.Path, unreadable: Collection[int]) -> str:
    """Words for what a failed save leaves to go on from."""
    try:
        steps = [step for step in whole(root) if step not in unreadable]
    except StorageError as error:
        return f"what was saved before is not known: {error}"
    return (
        f"the last whole checkpoint is step {steps[-1]}" if steps else "there is no checkpoint yet"
    )


def remove(directory: epath.Path) -> None:
    """Take a checkpoint away so that no moment shows half of one; see ``remove_tree``."""
    with contextlib.suppress(*failures()):
        if is_local(directory):
            directory = directory.rename(directory.with_name(directory.name + DELETING))
        else:
            (directory / MANIFEST).unlink(missing_ok=True)
        remove_tree(directory)


def remove_tree(directory: epath.Path) -> None:
    """Delete a folder that is not wanted; what resists waits for the next start."""
    with contextlib.suppress(*failures()):
        if directory.exists():
            directory.rmtree()


def remove_working(directory: epath.Path) -> None:
    """Delete what a failed write left, while other threads of it may still be ending."""
    for _ in range(10):
        remove_tree(directory)
        if not directory.exists():
            return
        time.sleep(0.1)


def clean(root: epath.Path) -> None:
    """Delete what killed saves and killed deletions left under ``root``."""
    for name, counts in _inside(root).items():
        step = name.removesuffix(DELETING).removesuffix(INCOMPLETE)
        if _is_step(step) and (step != name or not counts):
            remove_tree(root / name)


def failure_reason(error: BaseException) -> str:
    """One line on what went wrong; a full disk, however it was reported, in words."""
    cause: BaseException | None = error
    while cause is not None:
        for code in (errno.ENOSPC, errno.EDQUOT):
            # TensorStore gives no error number, only the system's text.
            if getattr(cause, "errno", None) == code or os.strerror(code) in str(cause):
                return f"{os.strerror(code)}: free some, or lower checkpoint.keep"
        cause = cause.__cause__ or cause.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def words_of(error: Exception) -> str:
    """What a file system or a bucket's client said."""
    return getattr(error, "strerror", None) or failure_reason(error)


def _is_step(name: str) -> bool:
    return name.isdecimal() and name == str(int(name))


def _sizes(directory: epath.Path) -> dict[str, int]:
    """Bytes of every file below ``directory`` by its relative name."""
    if not is_local(directory):
        return sizes(directory)
    found = {}
    for path in directory.iterdir():
        if path.is_dir():
            inner = _sizes(path)
            found.update({f"{path.name}/{name}": size for name, size in inner.items()})
        else:
            found[path.name] = path.stat().length
    return found


def _crc32(path: epath.Path) -> int:
    if not is_local(path):  # no object above CHECKSUM_FILE has one
        return zlib.crc32(read_object(path))
    value = 0
    with path.open("rb") as file:
        while block := file.read(_READ):
            value = zlib.crc32(block, value)
    return value


def _write_manifest_body(directory: epath.Path, body: Mapping[str, Any]) -> None:
    text = json.dumps({"manifest": body, "crc32": _body_crc32(body)}, indent=1)
    write_file(directory / MANIFEST, text.encode())


def read_manifest(directory: epath.Path) -> dict[str, Any]:
    """The manifest of a committed checkpoint.

    Raises:
      DamagedCheckpointError: it is missing or changed.
      CheckpointError: it is of a later format.
    """
    try:
        path = directory / MANIFEST
        text = path.read_bytes() if is_local(path) else read_object(path)
    except failures() as error:
        raise DamagedCheckpointError(f"{MANIFEST} can not be read: {words_of(error)}") from None
    try:
        document = json.loads(text)
        body = document["manifest"]
        sound = document["crc32"] == _body_crc32(body)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise DamagedCheckpointError(f"the contents of {MANIFEST} are not what was saved")
    if body["format"] > FORMAT:
        raise CheckpointError(
            f"the checkpoint {directory} has format {body['format']}, this LILITH reads up to "
            f"{FORMAT}: update LILITH to read it"
        )
    return body


def _body_crc32(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
