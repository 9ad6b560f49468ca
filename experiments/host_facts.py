"""What each host of a run has when it starts, and how hosts differ, in words.

Hosts that train one model must run the same code on the same packages with the same config, and
see the same files: otherwise they hang or train something that nobody asked for.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pathlib
import reprlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lilith.config import UserError
from lilith.config_parsing import to_dict
from lilith.storage import is_local

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = ("lilith", "experiments")
CODE_FILES = (".py", ".toml", ".jinja", ".jsonl")  # what an installed LILITH consists of
# Fields that may hold a path; one that is only a name is absent everywhere, which is no difference.
PATHS = ("path", "base", "adapters", "checkpoint", "reference", "model")
PATH_ENDING = "files"
ABSENT = "absent"
MOST_NAMED = 8  # processes in one sentence

# What is compared, in this order: the words for a difference, and what to do about it.
COMPARED = {
    "code": (
        "the hosts of this run do not have the same code",
        "install the same source tree on every host",
    ),
    "packages": (
        "the hosts of this run do not have the same packages",
        "install the same ones on every host (constraints.txt)",
    ),
    "config": (
        "the hosts of this run were not given the same config",
        "start the same command on every host",
    ),
    "seen": (
        "the hosts of this run do not see the same files",
        "put it at the same path on every host, or on storage that all of them mount",
    ),
}


def facts_of(config: Any, command: Mapping[str, Any], packages: Mapping[str, str]) -> dict:
    """What this host has, as JSON values: its name, and the parts that ``difference`` compares.

    Args:
      config: the resolved config, a dataclass.
      command: what of the command line counts besides, by option.
      packages: versions by name.
    """
    fields = dict(_leaves(to_dict(config)))
    paths = {key: value for key, value in fields.items() if _may_be_path(key) and value}
    return {
        "host": socket.gethostname(),
        "code": code_hashes(ROOT),
        "packages": dict(packages),
        "config": fields | {key: str(value) for key, value in command.items()},
        "seen": {f"{key} ({path})": _seen(str(path)) for key, path in paths.items()},
    }


def code_hashes(root: pathlib.Path) -> dict[str, str]:
    """A short hash of every file of LILITH's code under ``root``, by its relative path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for folder in CODE
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in CODE_FILES
    }


def difference(facts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """One sentence on the first thing in which hosts differ, and what to do; None if they agree.

    Args:
      facts: of ``facts_of``, by process.
      names: the words for each process.
    """
    for part, (words, remedy) in COMPARED.items():
        keys = sorted({key for one in facts for key in one[part]})
        for key in keys:
            values = [one[part].get(key, ABSENT) for one in facts]
            if any(value != values[0] for value in values):
                return f"{words}: {key} is {_by_value(values, names)}; {remedy}"
    return None


def some_of(names: Sequence[str]) -> str:
    """``a, b and c``, or the first few and how many more."""
    if len(names) > MOST_NAMED:
        names = [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _by_value(values: Sequence[Any], names: Sequence[str]) -> str:
    """``8 on process 0 (a) and 16 on process 1 (b)``."""
    groups: dict[str, list[str]] = {}
    for value, name in zip(values, names):
        shown = value if value == ABSENT else reprlib.repr(value)
        groups.setdefault(shown, []).append(name)
    return " but ".join(f"{shown} on {some_of(group)}" for shown, group in groups.items())


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a config by its dotted name, items of lists by their number."""
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list):
        items = [(str(number), value) for number, value in enumerate(tree)]
    else:
        yield path, tree
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else key)


def _may_be_path(key: str) -> bool:
    name = next((part for part in reversed(key.split(".")) if not part.isdecimal()), "")
    return name in PATHS or name.endswith(PATH_ENDING)


def _seen(path: str) -> str:
    """What is at ``path`` on this host: a file with its size, a folder, matches of a pattern."""
    if not is_local(path):
        return _seen_in_bucket(path)
    path = os.path.expanduser(os.path.expandvars(path))
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return "something that this account may not read"
    if os.path.isfile(path):
        return f"a file of {os.path.getsize(path):,} bytes"
    if os.path.isdir(path):  # an empty one may be where nothing is mounted
        return "a folder" if os.listdir(path) else "an empty folder"
    matches = len(glob.glob(path, recursive=True)) if glob.has_magic(path) else 0
    return f"{matches:,} files" if matches else ABSENT


def _seen_in_bucket(path: str) -> str:
    """What a host's credentials let it see."""
    from lilith.data.files import find_files

    try:
        count = len(find_files(path, lambda name: True))
    except UserError as error:
        return str(error)
    return f"{count:,} files" if count else ABSENT
