"""HumanEval and MBPP as arguments of `verify`, for the tests and for the benchmark."""

from __future__ import annotations

import ast
import gzip
import json
import os
from pathlib import Path
from typing import Any, NamedTuple


class Task(NamedTuple):
    """A task with its reference solution."""

    name: str
    source: str
    entry_point: str
    tests: str


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def folder() -> Path | None:
    """Where the data is; None when LILITH_DATA is unset or holds neither."""
    found = Path(os.environ.get("LILITH_DATA") or "/nonexistent")
    return found if (found / "humaneval").is_dir() and (found / "mbpp").is_dir() else None


def humaneval(data: Path) -> list[Task]:
    """The 164 tasks. The prompt's helpers go to the tests too: a candidate's are not trusted."""
    return [
        Task(
            row["task_id"],
            row["prompt"] + row["canonical_solution"],
            row["entry_point"],
            row["prompt"] + "\n    pass\n" + row["test"],
        )
        for row in _rows(data / "humaneval" / "HumanEval.jsonl.gz")
    ]


def _called(tests: list[str], source: str) -> str:
    defined = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
    for node in ast.walk(ast.parse(tests[0])):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in defined:
            return node.func.id
    raise ValueError(f"no call of the candidate in {tests[0]!r}")


def mbpp(data: Path) -> list[Task]:
    """The 974 tasks; the entry point is what the first assert calls."""
    return [
        Task(
            f"MBPP/{row['task_id']}",
            row["code"],
            _called(row["test_list"], row["code"]),
            "\n".join([row["test_setup_code"], *row["test_list"]]),
        )
        for row in _rows(data / "mbpp" / "mbpp.jsonl.gz")
    ]
