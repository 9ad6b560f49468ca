"""The system call filter: an allow-list compiled to BPF.

What is not in `syscalls.TABLES` answers EPERM: sockets, ptrace, process_vm_*, mount, bpf, perf,
io_uring, userfaultfd, keyctl, unshare, setns, memfd_create and every call not yet invented.
"""

from __future__ import annotations

import errno
import platform
import struct

from .syscalls import CONDITIONAL, TABLES

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000

_NEW_NAMESPACES = 0x7E020000
_SHARED_ANONYMOUS = 0x21
_HUGE_PAGES = 0x40000
_SET_PIPE_SIZE = 1031
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is a terminal, sizes, non-blocking
# names of threads and of memory, death signal, and questions that change nothing
_PRCTLS = (1, 2, 3, 15, 16, 21, 23, 39, 0x53564D41)

Instruction = tuple[int, int, int, int]


def _error(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | number)


_PASS: Instruction = (_RETURN, 0, 0, _ALLOW)
_REFUSE = _error(errno.EPERM)


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)  # the low half, on little-endian machines


def _one_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    code = [_argument(index)]
    for value in values:
        code += [(_JUMP_EQUAL, 0, 1, value), _PASS]
    return [*code, _REFUSE]


def _unless_set(index: int, mask: int) -> list[Instruction]:
    return [_argument(index), (_AND, 0, 0, mask), (_JUMP_EQUAL, 0, 1, 0), _PASS, _REFUSE]


def _memory_map(shared_memory: bool) -> list[Instruction]:
    code = [_argument(3), (_AND, 0, 0, _HUGE_PAGES), (_JUMP_EQUAL, 1, 0, 0), _REFUSE]
    if not shared_memory:  # pages that no process need show as its own
        code += [_argument(3), (_AND, 0, 0, _SHARED_ANONYMOUS)]
        code += [(_JUMP_EQUAL, 0, 1, _SHARED_ANONYMOUS), _REFUSE]
    return [*code, _PASS]


def _judged(name: str, shared_memory: bool) -> list[Instruction]:
    return {
        "clone": _unless_set(0, _NEW_NAMESPACES),
        "clone3": [_error(errno.ENOSYS)],  # its flags are out of a filter's sight; clone is used
        "fcntl": [_argument(1), (_JUMP_EQUAL, 0, 1, _SET_PIPE_SIZE), _REFUSE, _PASS],
        "ioctl": _one_of(1, _IOCTLS),
        "mmap": _memory_map(shared_memory),
        "prctl": _one_of(0, _PRCTLS),
        "prlimit64": _one_of(0, (0,)),
        "socketpair": _one_of(0, (1,)),
    }[name]


def compile_filter(shared_memory: bool, machine: str = "") -> bytes:
    """Return the filter as packed instructions for this machine (or the one named).

    `shared_memory` allows anonymous shared mappings; refuse them where memory is watched by
    resident size, since such pages can live without showing in any process. Raises
    `NotImplementedError` for an architecture without a table.
    """
    machine = machine or platform.machine()
    if machine not in TABLES:
        known = ", ".join(sorted(TABLES))
        raise NotImplementedError(f"no system call table for {machine}; there is one for {known}")
    architecture, numbers = TABLES[machine]
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        _error(errno.ENOSYS),
    ]
    for name, number in numbers.items():
        body = _judged(name, shared_memory) if name in CONDITIONAL else [_PASS]
        code += [(_JUMP_EQUAL, 0, len(body), number), *body]
    code.append(_REFUSE)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
