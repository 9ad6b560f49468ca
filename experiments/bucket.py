"""A run in a bucket: its checkpoints are written there, its other files here and copied there.

The machine of a run may go, with its disk. So whatever is in the run's folder besides checkpoints
and profiles is copied to the bucket before each checkpoint counts, and at the end; a start on an
empty disk fetches it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

from etils import epath

from experiments.hosts import RESTART
from lilith.config import UserError
from lilith.storage import failures, in_words, is_local, reason, remote, sizes
from lilith.train.checkpoint_files import UnsavedError
from lilith.train.metrics import read_metrics

CHECKPOINTS = "checkpoints"
LEFT = (CHECKPOINTS, "profile")
METRICS = "metrics.jsonl"
STAGES = ("pretrain", "sft", "reward", "dpo", "rl")  # those that keep checkpoints


def place(config: Any, workdir: str) -> tuple[Any, pathlib.Path]:
    """What a run is that was told ``--workdir``: its config, and its folder on this machine.

    ``--workdir gs://BUCKET/RUN`` stands for the folder ``runs/BUCKET/RUN`` with
    ``checkpoint.bucket=gs://BUCKET/RUN``.

    Raises:
      UserError: the bucket's path is no such path, gcsfs is not installed, or the stage keeps its
        files on this machine.
    """
    folder = pathlib.Path(workdir)
    if not is_local(workdir):
        bucket = os.fspath(remote(workdir))
        folder = pathlib.Path("runs", *bucket.removeprefix("gs://").split("/"))
        if config.stage in STAGES:
            given = config.checkpoint.bucket
            if given and given.rstrip("/") != bucket:
                raise UserError(
                    f"--workdir is {workdir} and checkpoint.bucket {given}: leave out one of them"
                )
            checkpoint = dataclasses.replace(config.checkpoint, bucket=bucket)
            return dataclasses.replace(config, checkpoint=checkpoint), folder
    elif config.stage in STAGES or not _bucket_of(config):
        if bucket := _bucket_of(config):
            remote(bucket)
        return config, folder
    raise UserError(
        f"the stage {config.stage!r} keeps its files on this machine: give --workdir a folder, and "
        "no checkpoint.bucket"
    )


def _bucket_of(config: Any) -> str:
    return getattr(getattr(config, "checkpoint", None), "bucket", "")


def claim_bucket(config: Any, workdir: pathlib.Path) -> None:
    """Before anything is computed or written: can the run be kept in its bucket, if it has one?

    Raises:
      UserError: this process can not write there, or ``workdir`` is a run's without a bucket.
    """
    if bucket := _bucket_of(config):
        files_of(bucket, workdir).claim()


def code_of(error: UserError, config: Any) -> int:
    """The exit code that goes with an error: a bucket that fails a save may be back soon."""
    return RESTART if _bucket_of(config) and isinstance(error, UnsavedError) else 2


def send_files(config: Any, workdir: pathlib.Path) -> None:
    """At the end of a run: copy what it wrote after its last checkpoint to its bucket, if any."""
    import jax

    if (bucket := _bucket_of(config)) and jax.process_index() == 0:
        files_of(bucket, workdir).send()


@functools.cache
def files_of(bucket: str, workdir: pathlib.Path) -> RunFiles:
    """The one :class:`RunFiles` of a run in this process."""
    return RunFiles(remote(bucket), workdir)


class RunFiles:
    """The files of a run besides its checkpoints, in its folder and in its bucket."""

    def __init__(self, bucket: epath.Path, workdir: pathlib.Path) -> None:
        self.bucket, self._workdir = bucket, workdir
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of what is in the bucket

    def claim(self) -> None:
        """Prove that this process can write in the bucket, and fetch what is newer there.

        Raises:
          UserError: it can not, or the folder holds checkpoints of a run without a bucket.
        """
        if any((self._workdir / CHECKPOINTS).glob("*/manifest.json")):
            raise UserError(
                f"{self._workdir / CHECKPOINTS} holds checkpoints of a run without a bucket, which "
                f"would begin anew: copy them to {self.bucket / CHECKPOINTS} and remove them here, "
                "or choose another folder"
            )
        probe = self.bucket / f".write_probe_{socket.gethostname()}_{os.getpid()}"
        with in_words(self.bucket, "written"):
            probe.write_bytes(b"x")
            probe.unlink()
        with in_words(self.bucket, "read"):
            self._fetch()

    def _fetch(self) -> None:
        """Copy the bucket's files here, unless those that are here have later figures."""
        names = [name for name in sizes(self.bucket) if _is_copied(pathlib.PurePath(name))]
        if METRICS not in names:
            return
        there = self._download(METRICS)
        newer = _last_time(there) > _last_time(self._workdir / METRICS)
        there.unlink()
        if newer:
            for name in names:
                self._download(name).replace(self._workdir / name)

    def _download(self, name: str) -> pathlib.Path:
        """An object under a name that is this process's own, beside its place."""
        target = self._workdir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target = target.with_name(f".{target.name}.{os.getpid()}.partial")
        target.write_bytes((self.bucket / name).read_bytes())
        return target

    def send(self) -> None:
        """Copy to the bucket what has changed here; the first process does it.

        A failure is said and no more: the next checkpoint, or start, copies again.
        """
        try:
            for name, path in self._files():
                stat = path.stat()
                state = stat.st_size, stat.st_mtime_ns
                if self._sent.get(name) != state:
                    (self.bucket / name).write_bytes(path.read_bytes())
                    self._sent[name] = state
        except failures() as error:
            print(f"warning: {self._workdir} is not copied to {self.bucket}: {reason(error)}",
                  flush=True)  # fmt: skip

    def _files(self) -> Iterator[tuple[str, pathlib.Path]]:
        for path in sorted(self._workdir.rglob("*")):
            name = path.relative_to(self._workdir)
            if _is_copied(name) and path.is_file():
                yield name.as_posix(), path


def _is_copied(name: pathlib.PurePath) -> bool:
    """Whether a file of a run's folder belongs in its bucket too; hidden ones are half written."""
    return name.parts[0] not in LEFT and not name.name.startswith(".")


def _last_time(path: pathlib.Path) -> float:
    """When the newest record of a metrics.jsonl was written, seconds since 1970; 0.0: none."""
    return max((record.get("time", 0.0) for record in read_metrics(path)), default=0.0)
