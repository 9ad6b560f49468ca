"""HumanEval and MBPP: every reference solution is verified, and no forgery."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import shamshel_data
import shamshel_host
from shamshel_data import Task

from lilith.shamshel import Limits, Verdict, verify

DATA = shamshel_data.folder()
pytestmark = [
    pytest.mark.skipif(
        DATA is None, reason="LILITH_DATA is unset, or holds no humaneval and mbpp: optional data"
    ),
    # MBPP's own sources hold invalid escapes
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning"),
]
LIMITS = Limits(wall_s=60, cpu_s=30)
FORGERIES = sorted((shamshel_host.ATTACKS / "verdict").glob("*.py"))


def verify_all(tasks: list[Task], source: str = "", limits: Limits = LIMITS) -> dict[str, Verdict]:
    """Verdicts by task, of the reference solutions or of one source with ENTRY in it."""

    def one(task: Task) -> Verdict:
        text = source.replace("ENTRY", task.entry_point) if source else task.source
        return verify(text, task.entry_point, tests=task.tests, limits=limits)

    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        return dict(zip([t.name for t in tasks], pool.map(one, tasks), strict=True))


def failed(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.text for name, verdict in verdicts.items() if not verdict.passed}


def test_humaneval_s_references_are_all_verified() -> None:
    assert DATA is not None
    tasks = shamshel_data.humaneval(DATA)
    assert len(tasks) == 164
    assert failed(verify_all(tasks)) == {}


@pytest.mark.slow
def test_mbpp_s_references_are_all_verified() -> None:
    assert DATA is not None
    tasks = shamshel_data.mbpp(DATA)
    assert len(tasks) == 974
    assert failed(verify_all(tasks)) == {}


@pytest.mark.parametrize("path", FORGERIES, ids=lambda p: Path(p).stem)
def test_no_forgery_passes(path: Path) -> None:
    # Four tasks each, others for each forgery; the benchmark tries all 164.
    assert DATA is not None
    first = FORGERIES.index(path)
    tasks = shamshel_data.humaneval(DATA)[first :: 164 // 4][:4]
    verdicts = verify_all(tasks, path.read_text(), Limits(wall_s=1.5, cpu_s=1))
    assert [name for name, verdict in verdicts.items() if verdict.passed] == []
    assert "refused:" not in "".join(v.text for v in verdicts.values())
