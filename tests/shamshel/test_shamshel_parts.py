"""The parts that can be tested by themselves: plain data, control groups, the filter, the text."""

from __future__ import annotations

import errno
import math
import os
import re
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.shamshel import cgroup, plain, seccomp
from lilith.shamshel.collect import collect
from lilith.shamshel.result import printable
from lilith.shamshel.syscalls import TABLES

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False)
)  # fmt: skip
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.sets(KEYS)
    ),
    max_leaves=30,
)


def exact(left: Any, right: Any) -> bool:
    """Equal, with the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(exact, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(exact(left[k], right[k]) for k in left)
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_plain_data_survives(value: Any) -> None:
    assert exact(plain.decode(plain.encode(value)), value)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.text("LTDSZX0123456789:nti", max_size=40).map(str.encode))
def test_decoding_anything_raises_nothing_else(raw: bytes) -> None:
    try:
        value = plain.decode(raw)
    except plain.NotPlainData:
        return
    plain.decode(plain.encode(value))


class Int(int):
    pass


class List(list):
    pass


@pytest.mark.parametrize(
    "value", [Int(1), List(), [Int(1)], {Int(1): 2}, object(), len, List, type]
)
def test_subclasses_and_objects_are_not_plain(value: Any) -> None:
    with pytest.raises(plain.NotPlainData, match="not plain data"):
        plain.encode(value)


def test_depth_and_size_are_bounded_both_ways() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(plain.NotPlainData, match="deeper"):
        plain.encode(deep)
    with pytest.raises(plain.NotPlainData, match="larger"):
        plain.encode("x" * (plain.MAX_BYTES + 1))
    with pytest.raises(plain.NotPlainData, match="deeper"):
        plain.decode(b"L1:" * 100 + b"n")
    with pytest.raises(plain.NotPlainData, match="items"):
        plain.decode(b"L999999:" + b"n" * 999_999)
    with pytest.raises(plain.NotPlainData, match="malformed length"):
        plain.decode(b"L9999999999999:")


def test_keys_of_one_hash_are_refused_quickly() -> None:
    keys = [f"{n * (2**61 - 1):x}".encode() for n in range(50_000)]
    raw = b"S50000:" + b"".join(b"i%d:%s" % (len(key), key) for key in keys)
    begin = time.process_time()
    with pytest.raises(plain.NotPlainData, match="one hash"):
        plain.decode(raw)
    assert time.process_time() - begin < 5  # minutes without the check
    assert len(plain.decode(plain.encode(set(range(5000))))) == 5000


def test_text_that_drives_a_terminal_is_spelt_out() -> None:
    assert printable(b"a\tb\r\nc") == "a\tb\nc"
    assert printable(b"\x1b[2J\x07\x00\x9b") == "\\x1b[2J\\x07\\x00\ufffd"
    assert printable("\u202e\u2028\u0085é🙂".encode()) == "\\u202e\\u2028\\x85é🙂"


V1 = """\
36 32 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 32 0:31 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
38 32 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
INNER = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw"


def test_control_groups_are_looked_for_where_this_process_is() -> None:
    assert cgroup.candidates(V1, "4:memory:/a/b\n8:pids:/\n0::/")[0] == (
        1,
        ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/pids"],
    )
    user = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"
    assert cgroup.candidates(V2, f"0::{user}") == [
        (2, [f"/sys/fs/cgroup{user}"]),
        (2, [f"/sys/fs/cgroup{os.path.dirname(user)}"]),
    ]
    assert cgroup.candidates(INNER, "0::/docker/abc/x")[0] == (2, ["/sys/fs/cgroup/x"])
    assert cgroup.candidates("", "0::/") == []


@pytest.mark.parametrize("version", [1, 2])
def test_limits_are_written_where_each_version_has_them(tmp_path: Path, version: int) -> None:
    names = {
        1: ["memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes"],
        2: ["memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "memory.peak"],
    }[version]
    folder = os.open(tmp_path, os.O_RDONLY)
    parent = cgroup.Parent(version, [folder])
    group = parent.create("run")
    for name in [*names, "pids.max", "cgroup.procs"]:  # a folder that behaves like the kernel's
        (tmp_path / "run" / name).touch()
    group.limit(1000, 7)
    group.join()
    read = {p.name: p.read_text() for p in (tmp_path / "run").iterdir()}
    assert read[names[0]] == "1000"
    assert read["pids.max"] == "7"
    assert read["cgroup.procs"] == "0"
    assert not group.killed_for_memory()
    (tmp_path / "run" / names[-2]).write_text("under_oom 0\noom_kill 2\n")
    (tmp_path / "run" / names[-1]).write_text("4096")
    assert group.killed_for_memory()
    assert group.peak_bytes() == 4096
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    group.remove()
    assert not (tmp_path / "run").exists()
    os.close(folder)


def evaluate(program: bytes, arch: int, number: int, arguments: list[int]) -> int:
    """Run a filter as the kernel does."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x15:
            at += true if accumulator == value else false
        elif operation == 0x35:
            at += true if accumulator >= value else false
        elif operation == 0x54:
            accumulator &= value
        else:
            assert operation == 0x06
            return value


ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_the_filter_allows_only_what_it_should(machine: str) -> None:
    arch, numbers = TABLES[machine]
    program = seccomp.compile_filter(True, machine)
    strict = seccomp.compile_filter(False, machine)

    def ask(name: str, *arguments: int, program: bytes = program) -> int:
        return evaluate(program, arch, numbers[name], [*arguments, *[0] * (6 - len(arguments))])

    assert ask("read") == ask("execve") == ask("clone", 0x3D0F00) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", 17 | flag) == EPERM
    assert ask("clone3") == ENOSYS
    assert (ask("prlimit64", 0), ask("prlimit64", 1)) == (ALLOW, EPERM)
    assert (ask("socketpair", 1), ask("socketpair", 2)) == (ALLOW, EPERM)
    assert (ask("ioctl", 0, 0x5401), ask("ioctl", 0, 0x5412)) == (ALLOW, EPERM)
    assert (ask("fcntl", 0, 3), ask("fcntl", 0, 1031)) == (ALLOW, EPERM)
    assert (ask("prctl", 15), ask("prctl", 8), ask("prctl", 22)) == (ALLOW, EPERM, EPERM)
    assert ask("mmap", 0, 0, 0, 0x22) == ask("mmap", 0, 0, 0, 0x21) == ALLOW
    assert ask("mmap", 0, 0, 0, 0x21, program=strict) == EPERM
    assert ask("mmap", 0, 0, 0, 0x40022) == EPERM
    assert evaluate(program, arch ^ 1, numbers["read"], [0] * 6) == KILL
    assert evaluate(program, arch, numbers["read"] | 0x40000000, [0] * 6) == ENOSYS
    assert evaluate(program, arch, -1, [0] * 6) == ENOSYS
    allowed = set(numbers.values())
    others = [n for n in range(1000) if n not in allowed]
    assert {evaluate(program, arch, n, [0] * 6) for n in others} == {EPERM}
    forbidden = (
        "socket connect ptrace mount bpf unshare setns io_uring_setup userfaultfd keyctl setxattr "
        "perf_event_open process_vm_readv memfd_create setuid chroot pivot_root sendmsg"
    )
    assert set(forbidden.split()).isdisjoint(numbers)


def test_an_unknown_machine_is_refused_in_words() -> None:
    with pytest.raises(NotImplementedError, match="no system call table for riscv64"):
        seccomp.compile_filter(True, "riscv64")


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)"),
    "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
}


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_numbers_agree_with_the_kernel_s_headers(machine: str) -> None:
    path, pattern = HEADERS[machine]
    if not os.path.exists(path):
        pytest.skip(f"the kernel's headers are not installed: {path}")
    known = {name: int(number) for name, number in re.findall(pattern, Path(path).read_text())}
    numbers = TABLES[machine][1]
    assert {n: numbers[n] for n in numbers if n in known} == {
        n: known[n] for n in numbers if n in known
    }
    assert len([n for n in numbers if n in known]) > 100


def test_collecting_follows_no_link_and_opens_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    work = tmp_path / "work"
    (work / "a").mkdir(parents=True)
    (work / "a" / "x").write_text("12345")
    (work / "same").write_text("same")
    os.symlink(tmp_path / "secret", work / "link")
    os.symlink(tmp_path, work / "folder")
    os.mkfifo(work / "pipe")
    descriptor = os.open(work, os.O_RDONLY)
    files, cut = collect(descriptor, {"same": b"same"}, 100, 10)
    assert (files, cut) == ({b"a/x": b"12345"}, False)
    short, cut = collect(descriptor, {"same": b"same"}, 3, 10)
    assert (short, cut) == ({b"a/x": b"123"}, True)
    assert collect(descriptor, {}, 100, 1)[1] is True
    os.close(descriptor)
