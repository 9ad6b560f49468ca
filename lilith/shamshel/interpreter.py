"""What of the host's file system the jail's Python needs: itself, its libraries, and packages."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

# Run by the interpreter that the jail will use. It loads every extension module of the library
# and of the allowed packages, then asks the loader which shared objects that brought in.
_DESCRIBE = r"""
import ctypes, glob, json, os, sys, sysconfig
import site
folders = [p for p in sys.path if p.endswith("lib-dynload")] + sys.argv[1:]
for folder in folders:
    found = [folder] if folder.endswith(".so") else []
    for path in found or sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.so"),
                                          recursive=True)):
        if "_tkinter" in path or "/nis." in path:  # no display and no network: no use
            continue
        try:
            ctypes.CDLL(path, mode=os.RTLD_LAZY | os.RTLD_LOCAL)
        except OSError:
            pass
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
names = []
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def note(info, size, data):
    names.append(os.fsdecode(info.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(note, None)
with open("/proc/self/maps") as maps:
    mapped = {line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line}
loader = [p for p in mapped if os.path.basename(p).startswith("ld-")]
print(json.dumps({
    "version": sys.hexversion,
    "stdlib": sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}),
    "site": site.getsitepackages(),
    "shared": [n for n in names if n.startswith("/")] + loader,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python for the jail.

    executable: its path, the same inside and outside. binds: pairs of a source on the host and
    the path in the jail. hidden: folders to cover with an empty one. package_binds: binds to make
    after that, for the allowed packages.
    """

    executable: str
    binds: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    package_binds: tuple[tuple[str, str], ...]


def _requirement_name(text: str) -> str | None:
    if re.search(r";.*\bextra\b", text):
        return None
    match = re.match(r"[A-Za-z0-9._-]+", text)
    return match.group() if match else None


def _package_entries(names: tuple[str, ...]) -> dict[str, str]:
    """Return what to bind for packages and all that they require: name in site-packages -> path.

    Raises `ValueError` for a package that is not installed.
    """
    entries: dict[str, str] = {}
    waiting = list(names)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise ValueError(
                    f"package {name!r} is not installed for {sys.executable}: install it, or "
                    "leave it out of packages"
                ) from None
            continue  # required only elsewhere, such as on another version of Python
        for requirement in distribution.requires or ():
            needed = _requirement_name(requirement)
            if needed:
                waiting.append(needed)
        for top in {file.parts[0] for file in distribution.files or ()}:
            path = os.path.realpath(str(distribution.locate_file(top)))
            if top not in ("..", "/", "__pycache__", "bin") and os.path.exists(path):
                entries[top] = path
    return entries


def _is_program(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _base_executable() -> str:
    # A virtual environment is only a folder of links: the jail runs what it was made from. What
    # Python says of itself may be a launcher's script; then the kernel knows better.
    for path in (getattr(sys, "_base_executable", ""), "/proc/self/exe"):
        if path and _is_program(path):
            return os.path.realpath(path)
    raise OSError("no interpreter: sys.executable is not a program; run under an ordinary one")


@functools.lru_cache(maxsize=16)
def describe(packages: tuple[str, ...] = ()) -> Interpreter:
    """Find what the jail's Python needs. Takes some 0.1 s, more with packages; remembered.

    Raises `ValueError` for a package that is not installed, `OSError` when the interpreter can
    not describe itself.
    """
    executable = _base_executable()
    entries = _package_entries(packages)
    keep = {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [executable, "-I", "-S", "-B", "-c", _DESCRIBE, *sorted(entries.values())],
        env=keep,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"{executable} could not describe itself: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout)
    if found["version"] != sys.hexversion:
        raise OSError(f"{executable} is not the version of Python that runs this")
    binds = {executable: executable}
    inside = tuple(entries.values())
    for path in found["shared"]:
        if not any(path == p or path.startswith(p + "/") for p in (*inside, *found["stdlib"])):
            binds[path] = os.path.realpath(path)
    for path in found["stdlib"]:
        binds[path] = os.path.realpath(path)
    for path in _loader_paths(found["shared"]):
        binds[path] = os.path.realpath(path)
    site = found["site"][0]
    return Interpreter(
        executable=executable,
        binds=tuple((source, target) for target, source in sorted(binds.items())),
        hidden=tuple(sorted(set(found["site"]))),
        package_binds=tuple((path, f"{site}/{top}") for top, path in sorted(entries.items())),
    )


def _loader_paths(shared: list[str]) -> list[str]:
    """The dynamic loader by the names under which programs ask for it, and its cache."""
    loaders = {os.path.basename(p) for p in shared if os.path.basename(p).startswith("ld-")}
    candidates = [f"{folder}/{name}" for folder in ("/lib64", "/lib") for name in loaders]
    return [path for path in (*candidates, "/etc/ld.so.cache") if os.path.exists(path)]
