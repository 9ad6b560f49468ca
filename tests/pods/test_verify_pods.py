"""Every row that pods are judged by: compiled by ``make verify-pods``, its checks tested here."""

import copy
import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks.pod_rows import ROWS, TARGETS, shortcomings
from lilith.pods.topologies import get_topology

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAIN, DECODE = TARGETS[2], TARGETS[-1]  # 7b on v5p, and its decoding
GOOD = {
    "memory": {"used": 40 * 2**30, "capacity": 95 * 2**30},
    "overlapped_share": 0.95,
    "roofline": {"mfu_bound": 0.9, "scheduled_mfu_bound": 0.8},
    "hbm_traffic": 10.4e9,
    "least_hbm_traffic": 10e9,
}


def changed(**fields):
    """A good report with some of its figures changed; ``a__b`` is b in a."""
    report = copy.deepcopy(GOOD)
    for name, value in fields.items():
        *outer, last = name.split("__")
        place = report
        for key in outer:
            place = place[key]
        place[last] = value
    return report


@pytest.mark.parametrize(
    ("row", "fields", "words"),
    [
        (TRAIN, {"memory__used": 96 * 2**30}, "needs 96.00 of 95.00 GiB a device"),
        (TRAIN, {"overlapped_share": 0.89}, "89.0% of the bytes sent run beside compute, and 90%"),
        (TRAIN, {"roofline__scheduled_mfu_bound": 0.59}, "the MFU bound is 0.590 as scheduled"),
        (DECODE, {"hbm_traffic": 11.5e9}, "moves 1.15 times the bytes of weights and cache"),
        (DECODE, {"hbm_traffic": 8.5e9}, "moves 0.85 times the bytes of weights and cache"),
    ],
)
def test_what_falls_short_is_said(row, fields, words):
    assert shortcomings(row, GOOD) == []
    (found,) = shortcomings(row, changed(**fields))
    assert found.startswith(words)


def test_the_rows_are_those_that_are_asked_for():
    """Models, chips and the least batch of each, and every one a config that the stage takes."""
    least = {
        ("7b", "v5e:16x16"): (4, 2048), ("7b", "v5p:4x4x4"): (4, 4096),
        ("7b", "v6e:16x16"): (12, 4096), ("7b", "v4:4x4x4"): (1, 2048),
        ("13b", "v5e:16x16"): (6, 2048), ("13b", "v5p:4x4x4"): (2, 4096),
        ("13b", "v6e:16x16"): (1, 2048), ("13b", "v4:4x4x4"): (1, 2048),
    }  # fmt: skip
    rows = {(row.model, row.topology): row for row in TARGETS if row is not DECODE}
    for key, (batch, length) in least.items():
        assert rows[key].batch >= batch
        assert rows[key].length >= length
        assert rows[key].least_overlap == 0.9
    assert {model for model, _ in rows} == {"7b", "13b", "70b", "100b"}
    assert len({row.name for row in TARGETS}) == len(TARGETS)
    assert all(row.maxtext_remat for row in ROWS)
    assert (TRAIN.least_mfu, DECODE.traffic_within) == (0.6, 0.1)
    for row in TARGETS:
        config = row.config()
        assert config.model.remat == row.remat
        assert (config.batch * get_topology(row.topology).devices).is_integer()
        assert config.check


@pytest.mark.pods
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
def test_the_row_compiles_fits_and_reaches_what_is_asked(row):
    """By the command line, in a process of its own; the report stays in runs/verify_pods."""
    folder = ROOT / "runs" / "verify_pods" / row.name
    command = [sys.executable, "-m", "experiments.run", "--config", "compile_pod"]
    ended = subprocess.run(
        [*command, "--workdir", str(folder), "--set", *row.words],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert shortcomings(row, json.loads((folder / "report.json").read_text())) == []
