"""Fetching what a run wrote, once its processes are gone, or between a session's cells."""

from __future__ import annotations

import os
import stat

MAX_DEPTH = 32
MAX_ENTRIES = 20_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Walk:
    def __init__(self, given: dict[str, bytes], max_bytes: int, max_files: int) -> None:
        self.given = given
        self.left = max_bytes
        self.max_files = max_files
        self.entries = 0
        self.files: dict[bytes, bytes] = {}
        self.cut = False

    def folder(self, descriptor: int, prefix: bytes, depth: int) -> None:
        for name in sorted(map(os.fsencode, os.listdir(descriptor))):
            self.entries += 1
            if self.entries > MAX_ENTRIES:
                self.cut = True
                return
            try:
                kind = os.lstat(name, dir_fd=descriptor)
            except OSError:
                continue
            if stat.S_ISREG(kind.st_mode):
                self.file(descriptor, name, prefix + name)
            elif stat.S_ISDIR(kind.st_mode):
                if depth >= MAX_DEPTH:
                    self.cut = True
                    continue
                try:
                    inner = os.open(name, _FOLDER, dir_fd=descriptor)
                except OSError:  # made unreadable by its owner
                    self.cut = True
                    continue
                try:
                    self.folder(inner, prefix + name + b"/", depth + 1)
                finally:
                    os.close(inner)

    def file(self, folder: int, name: bytes, path: bytes) -> None:
        if len(self.files) >= self.max_files:
            self.cut = True
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except OSError:
            self.cut = True
            return
        original = self.given.get(path.decode("utf-8", "surrogateescape"))
        try:
            with open(descriptor, "rb") as file:
                raw = file.read(max(self.left, len(original or b"")) + 1)
        except OSError:  # made into something else meanwhile, by what runs on in a session
            self.cut = True
            return
        if raw == original:
            return
        if len(raw) > self.left:
            raw = raw[: self.left]
            self.cut = True
        self.left -= len(raw)
        self.files[path] = raw


def collect(
    folder: int, given: dict[str, bytes], max_bytes: int, max_files: int
) -> tuple[dict[bytes, bytes], bool]:
    """Return the regular files beneath an open folder that are new or changed since `given`.

    No link is followed and nothing but a regular file is opened. The second value says whether
    anything was left out or shortened: over `max_bytes` in all, `max_files`, or too deep.
    """
    walk = _Walk(given, max_bytes, max_files)
    walk.folder(folder, b"", 0)
    return walk.files, walk.cut
