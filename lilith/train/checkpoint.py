"""Checkpoints: asynchronous, atomic, self-contained, restored on any mesh and host count.

The only file that touches Orbax, which writes and reads the arrays; what lies around them, and what
makes a checkpoint count as whole, is :mod:`lilith.train.checkpoint_files`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from flax import traverse_util
from jax.experimental import multihost_utils

from lilith.train import checkpoint_files as files
from lilith.train.checkpoint_console import quiet_orbax
from lilith.train.checkpoint_files import ArrayInfo, CheckpointError, DamagedCheckpointError
from lilith.train.checkpoint_info import (
    CheckpointInfo,
    abstract_params_of,
    check_arrays,
    describe,
    describe_arrays,
    list_checkpoints,
    named_leaves,
    nested,
    read_info,
)

quiet_orbax()

from orbax.checkpoint import v1 as ocp  # noqa: E402  (importing it logs already)

__all__ = [
    "Checkpointer",
    "Restored",
    "load_params",
    "read_info",
    "list_checkpoints",
    "CheckpointInfo",
    "CheckpointError",
    "DamagedCheckpointError",
]

T = TypeVar("T")
_NO_STEP = -1


@dataclass(frozen=True)
class Restored:
    """What a run continues from."""

    step: int
    state: Any
    info: CheckpointInfo  # with data_state, config_json, tokenizer_directory, validation_loss
    warnings: tuple[str, ...]  # damaged checkpoints that were passed over (first process only)


class Checkpointer:
    """The checkpoints of one run: saved in the background, restored, thinned out.

    Every process of a run makes one over the same shared directory and calls the same methods in
    the same order from its main thread. Making one deletes what a killed save left behind, so a
    directory belongs to one run at a time; readers use :func:`read_info` and :func:`load_params`.
    """

    def __init__(self, directory: epath.PathLike, *, keep: int = 2, keep_best: int = 1) -> None:
        """Open (and make, if need be) ``directory``.

        Args:
          keep: how many of the newest checkpoints stay; at least 1.
          keep_best: how many of those with the lowest validation loss stay besides.

        Raises:
          CheckpointError: the directory can not be made or written.
        """
        if keep < 1 or keep_best < 0:
            raise CheckpointError(
                f"keep is {keep} and keep_best {keep_best}; they must be at least 1 and 0"
            )
        self.directory = files.normalize(directory)
        self._keep = keep
        self._keep_best = keep_best
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        self._last: int | None = None  # the step on disk that equals this run's state at that step
        self._unreadable: set[int] = set()
        # Called in the background when this process's part of a save fails: the others may be
        # waiting for it within Orbax, for minutes. And in the first, before a checkpoint counts.
        self.on_failure: Callable[[str], None] | None = None
        self.before_commit: Callable[[], None] | None = None
        if _is_first_process():
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                files.clean(self.directory)
            except files.failures() as error:
                words = f"checkpoints can not be kept in {self.directory}"
                raise CheckpointError(f"{words}: {files.words_of(error)}") from None

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first: by file sizes, contents not read."""
        return [step for step in files.whole(self.directory) if step not in self._unreadable]

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Step of the whole checkpoint with the lowest validation loss."""
        return next(iter(files.best_first(self.directory, self.steps())), None)

    def save(
        self,
        step: int,
        state: Any,
        *,
        data_state: Mapping[str, Any],
        config_json: str,
        tokenizer_directory: epath.PathLike | None,
        validation_loss: float | None = None,
    ) -> None:
        """Copy ``state`` to host memory and write it in the background.

        On return ``state`` may be donated or deleted. A previous save is waited for first. Saving
        the step that was saved or restored last writes nothing again but a validation loss.

        Args:
          state: a pytree of ``jax.Array``; with several processes, of global arrays.
          data_state: the data iterator's position, as JSON values.
          tokenizer_directory: its files are copied into the checkpoint.
          validation_loss: nats per token; one that is not finite counts as none.

        Raises:
          CheckpointError: this save can not begin, the previous one failed, or the directory holds
            a newer checkpoint than ``step``.
        """
        self.wait()
        if validation_loss is not None and not math.isfinite(validation_loss):
            validation_loss = None
        if step == self._last:
            if validation_loss is not None and _is_first_process():
                files.set_validation_loss(self._path(step), validation_loss)
            return
        self._refuse_older(step)
        arrays = named_leaves(state)
        described = describe_arrays(arrays)
        first = _is_first_process()
        contents = files.contents(config_json, data_state, tokenizer_directory) if first else {}
        working = self._working_path(step)
        try:
            jax.block_until_ready(state)  # a failed computation ends here, before Orbax begins
            if first:
                files.remove_tree(working)
                working.mkdir(parents=True)
            with _orbax(partial=False):
                writing = ocp.save_async(working / files.ARRAYS, nested(arrays))
        except Exception as error:
            raise self._failed(step, error) from error

        def commit() -> None:
            try:
                writing.result()
                if _is_first_process():
                    self._commit(step, contents, described, validation_loss)
            except Exception as error:
                failure = self._failed(step, error)
                if self.on_failure is not None:
                    self.on_failure(str(failure))
                raise failure from error

        self._pending = step, self._writer.submit(commit)

    def saving(self) -> bool:
        """Whether a save is still being written in the background."""
        return self._pending is not None and not self._pending[1].done()

    def wait(self) -> None:
        """Block until the save in progress is committed.

        Raises:
          CheckpointError: it failed, in this process or another; the message says why and which
            step is the last whole one.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()
        failed = np.flatnonzero(_from_all_processes(error is not None))
        if error is not None:
            raise error
        if failed.size:
            why = f"process {failed[0]} failed to write"
            raise files.UnsavedError(f"step {step} was not saved: {why}")
        self._last = step
        self._unreadable.discard(step)

    def close(self) -> None:
        """Wait for the save in progress and stop the background thread; errors as in ``wait``."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def restore(self, abstract_state: T, step: int | None = None) -> Restored:
        """Load a checkpoint onto the shardings of ``abstract_state``, bit for bit.

        Args:
          abstract_state: the pytree to restore, with ``jax.ShapeDtypeStruct`` leaves; a leaf
            without a sharding goes to the default device. Meshes and the number of processes may
            differ from those that saved.
          step: which one; None: the newest, or if that is damaged, the newest that is whole, with
            a warning in the result.

        Raises:
          CheckpointError: no checkpoint, or none readable, or it holds another model's arrays.
        """
        self.wait()
        passed_over: list[str] = []
        while True:
            chosen = self._choose(step, passed_over)
            info = describe(self._path(chosen))
            check_arrays(info, named_leaves(abstract_state), exact=True)
            try:
                state = _load(info.directory, abstract_state, prefix="")
                break
            except Exception as error:
                # Processes that fail apart could fall back to different steps.
                if step is not None or jax.process_count() > 1:
                    raise files.unreadable(info.directory, error) from error
                passed_over.append(f"step {chosen} ({files.failure_reason(error)})")
                self._unreadable.add(chosen)
        self._last = chosen
        warnings = tuple(
            f"the checkpoint of {text} in {self.directory} is not readable and was passed over; "
            f"step {chosen} is restored instead"
            for text in passed_over
        )
        return Restored(info.step, state, info, warnings)

    def _choose(self, step: int | None, passed_over: list[str]) -> int:
        """The step to restore, chosen by the first process, the same in all of them."""
        chosen = _NO_STEP
        failure: CheckpointError | None = None
        if _is_first_process():
            try:
                chosen = self._first_sound(step, passed_over)
            except CheckpointError as error:
                failure = error
        chosen = _from_first_process(chosen)
        if chosen == _NO_STEP:
            raise failure or CheckpointError(f"no checkpoint in {self.directory} can be restored")
        if step is None:
            newer = (other for other in files.committed(self.directory) if other > chosen)
            self._unreadable.update(newer)
        return chosen

    def _first_sound(self, step: int | None, passed_over: list[str]) -> int:
        committed = files.committed(self.directory)
        if step is not None:
            committed = {step: committed[step]} if step in committed else {}
        for candidate in sorted(committed.keys() - self._unreadable, reverse=True):
            try:
                files.verify(committed[candidate], checksum_up_to=math.inf)
                return candidate
            except DamagedCheckpointError as error:
                passed_over.append(f"step {candidate} ({error})")
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        listed = f" is readable: {'; '.join(passed_over)}" if passed_over else ""
        raise CheckpointError(f"{wanted} in {self.directory}{listed}")

    def _commit(
        self,
        step: int,
        contents: Mapping[str, bytes],
        arrays: Mapping[str, ArrayInfo],
        validation_loss: float | None,
    ) -> None:
        """Complete the written checkpoint, make it count, then delete those no longer kept."""
        working, final = self._working_path(step), self._path(step)
        if self.before_commit is not None:
            self.before_commit()
        for name, data in contents.items():
            files.write_file(working / name, data)
        files.write_manifest(working, step=step, validation_loss=validation_loss, arrays=arrays)
        if working != final:
            if final.exists():  # a damaged one of the same step
                files.remove(final)
            working.rename(final)
        whole = sorted({*self.steps(), step})
        best = files.best_first(self.directory, whole)[: self._keep_best]
        kept = {step, *whole[-self._keep :], *best}
        for other, directory in files.committed(self.directory).items():
            if other not in kept:
                files.remove(directory)

    def _refuse_older(self, step: int) -> None:
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise CheckpointError(
                f"step {step} can not be saved in {self.directory}, which holds step {latest}: the "
                "next start would resume from that one; restore it, or use another folder"
            )

    def _failed(self, step: int, error: Exception) -> files.UnsavedError:
        """Remove what the failed save left and say what happened and what is safe."""
        if _is_first_process():
            files.remove_working(self._working_path(step))
        reason = files.failure_reason(error)
        safe = files.what_is_safe(self.directory, self._unreadable)
        where = f"step {step} was not saved in {self.directory}"
        return files.UnsavedError(f"{where}: {reason}; {safe}")

    def _path(self, step: int) -> epath.Path:
        return self.directory / str(step)

    def _working_path(self, step: int) -> epath.Path:
        """Where a checkpoint grows until it is committed."""
        local = files.is_local(self.directory)
        return self.directory / f"{step}{files.INCOMPLETE}" if local else self._path(step)


def load_params(
    path: epath.PathLike, abstract_params: Any | None = None, *, step: int | None = None
) -> Any:
    """Load the parameters alone, for inference or for another stage.

    Args:
      path: ``runs/x``, ``runs/x/checkpoints`` or ``runs/x/checkpoints/100``.
      abstract_params: nested dicts of ``jax.ShapeDtypeStruct``: the shardings to load onto, and the
        dtypes to load as (a floating type may differ from the saved one; the values are rounded
        while reading). None: as saved, on the default device.
      step: which one of a run; None: the newest whole one.

    Raises:
      CheckpointError: there is none, it is damaged, or it holds another model's parameters.
    """
    info = read_info(path, step)
    wanted = abstract_params_of(info) if abstract_params is None else abstract_params
    check_arrays(info, named_leaves({"params": wanted}), exact=False)
    try:
        files.verify(info.directory, checksum_up_to=math.inf)
        return _load(info.directory, wanted, prefix="params/")
    except Exception as error:
        raise files.unreadable(info.directory, error) from error


@contextlib.contextmanager
def _orbax(*, partial: bool) -> Iterator[None]:
    context = ocp.Context()
    context.pytree.loading.partial_load = partial
    # Trained float32 values shrink by a tenth; compressing them takes the training's cores.
    context.array.saving.use_compression = False
    # A folder that can not be made must fail here: Orbax's threads would wait for it at exit.
    context.asynchronous.create_directories_asynchronously = False
    with context:
        yield


def _load(directory: epath.Path, abstract: T, prefix: str) -> T:
    """Read the arrays at ``prefix`` + the paths of ``abstract`` onto its shardings."""
    placed = {prefix + name: _placed(leaf) for name, leaf in named_leaves(abstract).items()}
    with _orbax(partial=True):
        loaded = ocp.load(directory / files.ARRAYS, nested(placed))
    flat = traverse_util.flatten_dict(loaded, sep="/")
    return jax.tree.unflatten(jax.tree.structure(abstract), [flat[name] for name in placed])


def _placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _is_first_process() -> bool:
    return jax.process_index() == 0


def _from_first_process(value: int) -> int:
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _from_all_processes(value: bool) -> np.ndarray:
    """The values of every process, in order [process]."""
    if jax.process_count() == 1:
        return np.array([value])
    return multihost_utils.process_allgather(np.array(value))
