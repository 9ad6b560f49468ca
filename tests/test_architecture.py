"""The house keeps its order: imports run downward, nothing heavy comes early, files are short.

The rules are those of the design: a room may import what stands below it and nothing above.
"""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_LINES = 400  # of a file
MOST_FUNCTION_LINES = 60

# Shared ground: plain data that every room may stand on.
GROUND = {"errors", "config", "config_parsing", "paths", "roles", "storage"}
# What each room may import besides itself and the ground. A room is a package or a module.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "config_parsing": {"config"},
    "paths": set(),
    "roles": set(),
    "storage": {"errors"},
    "tokenizer": {"config", "config_parsing"},
    "quant": {"config", "config_parsing"},
    "planning": {"config"},
    "shamshel": {"config", "config_parsing"},
    "sharding": GROUND,
    "model": {"sharding"},
    "data": {"tokenizer", "quant", "shamshel", "planning"},
    "train": {"model", "data", "inference", "sharding", "tokenizer"},
    "inference": {"model", "sharding", "tokenizer"},
    "pods": {"model", "sharding"},
    "interop": {"model", "sharding", "tokenizer", "inference", "train"},
    "rl": {
        "interop", "train", "inference", "model", "data", "sharding", "tokenizer", "quant",
        "reasoning", "shamshel",
    },
    "reasoning": {"inference", "tokenizer", "shamshel"},
    "agent": {"reasoning", "inference", "tokenizer", "data", "quant", "shamshel", "planning"},
    "evals": {
        "agent", "reasoning", "inference", "train", "data", "model", "sharding", "tokenizer",
        "quant", "shamshel", "interop",
    },
    "__init__": set(),  # its names load on first use
}  # fmt: skip
ALONE = ("config", "paths", "storage", "tokenizer", "quant", "planning", "shamshel")


def modules(folder: str) -> list[pathlib.Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: pathlib.Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere in it, those for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of a dotted name in lilith; None for ``lilith`` itself and for what is not ours."""
    parts = name.split(".")
    if parts[0] != "lilith" or len(parts) < 2:
        return None
    here = ROOT / "lilith" / parts[1]
    return parts[1] if here.is_dir() or here.with_suffix(".py").exists() else None


@pytest.mark.parametrize("path", modules("lilith"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: pathlib.Path) -> None:
    room = path.relative_to(ROOT / "lilith").parts[0].removesuffix(".py")
    assert room in ALLOWED, f"lilith/{room} is a room without a rule: say what it may import"
    ground = set() if room in ALONE else GROUND
    allowed = {room} | ALLOWED[room] | ground
    names = set(imported(path))
    assert not {name for name in names if name.split(".")[0] in ("experiments", "configs")}
    forbidden = {name for name in names if (room_of(name) or room) not in allowed}
    assert not forbidden, f"lilith/{room} may import {sorted(allowed)}"


def test_no_rooms_import_each_other() -> None:
    def below(room: str) -> set[str]:
        found: set[str] = set()
        queue = list(ALLOWED[room])
        while queue:
            other = queue.pop()
            if other not in found:
                found.add(other)
                queue += ALLOWED[other]
        return found

    assert [room for room in ALLOWED if room in below(room)] == []


@pytest.mark.parametrize(
    "path", modules("lilith") + modules("experiments"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_are_short(path: pathlib.Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    long = {
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("module", ["lilith", "lilith.config", "experiments.run"])
def test_early_imports_bring_in_nothing_heavy(module: str) -> None:
    heavy = ("jax", "flax", "optax", "orbax", "grain", "numpy", "sentencepiece", "tensorflow")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


def test_tensorflow_is_imported_nowhere() -> None:
    for path in modules("lilith") + modules("experiments"):
        assert not {name for name in imported(path) if name.split(".")[0] == "tensorflow"}, path


def test_only_one_file_touches_orbax() -> None:
    users = [path for path in modules("lilith") if any("orbax" in name for name in imported(path))]
    assert users == [ROOT / "lilith" / "train" / "checkpoint.py"]
