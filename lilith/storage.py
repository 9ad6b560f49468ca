"""Paths in Google Cloud Storage, ``gs://BUCKET/NAME``, and in words what goes wrong there.

Reading and writing is done by ``etils.epath`` over gcsfs, and for arrays by TensorStore.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from etils import epath

from lilith.errors import UserError

_PATH = re.compile(r"gs://[a-z0-9][a-z0-9._-]+(/[^/]+)*/?")
_READ = 2**20  # bytes read at a time


class StorageError(UserError):
    """A bucket or an object in it can not be reached, read or written."""


def is_local(path: epath.PathLike) -> bool:
    """Whether ``path`` is on a file system, where a folder is renamed in one indivisible step."""
    return "://" not in os.fspath(path)


def remote(path: epath.PathLike) -> epath.Path:
    """A path in a bucket, ready to be read and written.

    Raises:
      StorageError: it is not of the form ``gs://BUCKET/NAME``, or gcsfs is not installed.
    """
    text = os.fspath(path)
    if not _PATH.fullmatch(text):
        raise StorageError(
            f"{text} is no path that can be used; give gs://BUCKET/NAME, or one of this machine"
        )
    try:
        _file_system()
    except ImportError as error:
        raise StorageError(
            f"{text} is in Google Cloud Storage, which needs a package that is not installed "
            f"({error.name}): pip install 'lilith[gcs]'"
        ) from None
    return epath.Path(text.rstrip("/"))


def sizes(path: epath.Path) -> dict[str, int]:
    """Bytes of every object below ``path`` by its relative name; one request a thousand objects.

    Raises:
      OSError and others of :func:`failures`: the bucket can not be listed.
    """
    inside = os.fspath(path).removeprefix("gs://") + "/"
    found = _file_system().find(os.fspath(path), detail=True)
    return {
        name.removeprefix(inside): entry["size"]
        for name, entry in sorted(found.items())
        if name.startswith(inside) and not name.endswith("/")
    }


def at_the_top(name: str) -> bool:
    """Whether a file lies in its folder itself and in none inside it."""
    return "/" not in name


def read_object(path: epath.Path) -> bytes:
    """A small object whole, in one request; an open file takes three.

    Raises:
      OSError and others of :func:`failures`: it can not be read.
    """
    content: bytes = _file_system().cat_file(os.fspath(path))
    return content


def open_remote(path: epath.Path) -> IO[bytes]:
    """An object for reading bytes; failures are a :class:`StorageError`, never an early end."""
    with in_words(path, "read"):
        return io.BufferedReader(_Checked(path), _READ)


@contextlib.contextmanager
def local_copy(
    path: epath.PathLike, wanted: Callable[[str], bool] = bool
) -> Iterator[pathlib.Path]:
    """A file or folder on this machine: itself, or a copy for as long as the block lasts.

    A :class:`UserError` of the block that names the copy is raised with ``path`` in its place.

    Args:
      wanted: of a folder, whether to copy the file of this relative name.

    Raises:
      StorageError: it is in a bucket and can not be read.
    """
    if is_local(path):
        yield pathlib.Path(path)
        return
    there = remote(path)
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch, there.name)
        with in_words(path, "read"):
            _fetch(there, copy, wanted)
        try:
            yield copy
        except UserError as error:
            named = os.fspath(there)
            error.args = tuple(
                x.replace(str(copy), named) if isinstance(x, str) else x for x in error.args
            )
            raise


def _fetch(there: epath.Path, copy: pathlib.Path, wanted: Callable[[str], bool]) -> None:
    """Copy an object, or the ``wanted`` ones below a folder, to this machine."""
    names = list(sizes(there))
    if not names:
        _file_system().get_file(os.fspath(there), str(copy))
        return
    copy.mkdir()
    if chosen := [name for name in names if wanted(name)]:
        _file_system().get(
            [os.fspath(there / name) for name in chosen], [str(copy / name) for name in chosen]
        )


@contextlib.contextmanager
def in_words(path: epath.PathLike, done: str) -> Iterator[None]:
    """Raise what fails in a bucket as a :class:`StorageError`: ``path`` can not be ``done``."""
    try:
        yield
    except failures() as error:
        if is_local(path):
            raise
        raise StorageError(
            f"{os.fspath(path)} can not be {done}: {reason(error)}; check its name and this "
            "machine's credentials ('gcloud auth application-default login'; a TPU VM has those of "
            "its service account, which needs the role roles/storage.objectUser)"
        ) from error


def failures() -> tuple[type[Exception], ...]:
    """What reading and writing files may raise, in a bucket or not."""
    if "gcsfs" not in sys.modules:
        return (OSError,)
    import aiohttp
    import gcsfs.retry
    import google.auth.exceptions

    of_google = (gcsfs.retry.HttpError, google.auth.exceptions.GoogleAuthError)
    # ValueError: a name that no bucket can have.
    return (OSError, *of_google, aiohttp.ClientError, ValueError)


class _Checked(io.RawIOBase):
    """An object's bytes, read in order."""

    def __init__(self, path: epath.Path) -> None:
        self._path, self._file = path, path.open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with in_words(self._path, "read"):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def reason(error: Exception) -> str:
    """One line of what a store's client said."""
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket or object"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@functools.cache
def _file_system() -> Any:
    """gcsfs's file system, the same that epath uses."""
    # Both are read when gcsfs and epath first look: no requests by gRPC, which plain buckets do not
    # need, and no TensorFlow, though it may be installed.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    os.environ.setdefault("EPATH_USE_TF", "false")
    import fsspec.config
    import gcsfs  # noqa: F401  (what fsspec loads for gs://)
    import google.cloud.storage  # noqa: F401  (what Orbax uses besides)

    # What TensorStore and other hosts write is in no listing that was kept.
    fsspec.config.conf["gcs"] = {"use_listings_cache": False}
    for name in ("gcsfs", "fsspec"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what they raise
    return fsspec.filesystem("gcs", finalize_on_close=True)
