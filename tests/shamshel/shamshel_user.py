"""Running a Python program as the user `nobody`, started by root: `python shamshel_user.py ARGS`.

In a mount namespace of its own, the folders that `nobody` may not pass (such as /root) are made
passable, with nothing in them but the interpreter and this repository.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
NOBODY = 65534


def _first_closed(path: str) -> str | None:
    for folder in [*reversed(Path(path).parents), Path(path)]:
        if not os.stat(folder).st_mode & 0o001:
            return str(folder)
    return None


def open_up(needed: list[str]) -> None:
    """Make `needed` reachable for everyone, in a mount namespace of this process alone."""
    from lilith.shamshel import linux

    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    closed: dict[str, list[tuple[str, int]]] = {}
    for path in needed:
        folder = _first_closed(path)
        if folder is not None:
            closed.setdefault(folder, []).append((path, os.open(path, os.O_PATH)))
    for folder, paths in closed.items():
        linux.mount("none", folder, "tmpfs", 0, "mode=755")
        for path, descriptor in paths:
            os.makedirs(path, exist_ok=True)
            linux.mount(f"/proc/self/fd/{descriptor}", path, "", linux.MS_BIND)


def main() -> None:
    """Become `nobody` and run Python with the arguments given."""
    from lilith.shamshel import linux

    needed = {os.path.realpath(p) for p in (sys.base_prefix, sys.prefix, str(REPOSITORY))}
    open_up(sorted(needed))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    os.chdir("/tmp")
    os.execv(sys.executable, [sys.executable, "-B", *sys.argv[1:]])


if __name__ == "__main__":
    main()
