"""Landlock: the rules on files, sockets and signals that a process lays on itself."""

from __future__ import annotations

import ctypes
import os
import struct

from . import linux

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_FIFO = 1 << 10
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14

READ = READ_FILE | READ_DIR
WRITE = (
    READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
)
_ON_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE

# How many file rights each version of the interface knows.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS = 16
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1


def version() -> int:
    """Return the version of the kernel's Landlock interface; 0 when it has none."""
    try:
        return linux.syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), _CREATE_VERSION)
    except OSError:
        return 0


def _handled(abi: int) -> tuple[int, int, int]:
    files = (1 << _FILE_RIGHTS.get(abi, _NEWEST_FILE_RIGHTS)) - 1
    network = 3 if abi >= 4 else 0  # bind and connect over TCP
    scopes = 3 if abi >= 6 else 0  # abstract sockets and signals outside the domain
    return files, network, scopes


def restrict(rules: list[tuple[str, int]], abi: int) -> None:
    """Allow this process and its children only `rules`: pairs of a path and its rights.

    Needs no_new_privs. Raises `OSError` when the kernel refuses.
    """
    files, network, scopes = _handled(abi)
    attr = struct.pack("=QQQ", files, network, scopes)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = linux.syscall("landlock_create_ruleset", attr, ctypes.c_size_t(size), 0)
    try:
        for path, rights in rules:
            folder = os.path.isdir(path)
            wanted = rights & files & (-1 if folder else _ON_A_FILE)
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", wanted, beneath)
                linux.syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
            finally:
                os.close(beneath)
        linux.syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
