"""Runs whose folder and data are in a bucket, on machines that lose their disks."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from fake_bucket import URL, FakeBucket
from host_runs import SECONDS, ended
from machine_parts import free_port
from tiny_run import EVERY, ROOT, Output, Tiny, assert_one_sentence, curves

import experiments.run
from experiments.bucket import RunFiles, place
from experiments.host_facts import ABSENT, _seen
from experiments.hosts import RESTART
from experiments.run import load_config
from lilith.config import UserError
from lilith.storage import remote

RunHere = Callable[..., tuple[int, Output]]
STEPS = 15
RUN = "runs/tests/run"  # the folder of gs://tests/run on each machine


@pytest.fixture
def corpus(bucket: FakeBucket, tiny: Tiny) -> str:
    """The tiny corpus, in the bucket."""
    for path in tiny.corpus.iterdir():
        bucket.put(f"corpus/{path.name}", path.read_bytes())
    return f"data.sources.0.path={URL}/corpus"


def start(tiny: Tiny, disks: list[pathlib.Path], *settings: str) -> list[subprocess.Popen[str]]:
    """A run of one process on each of ``disks``, which have nothing in common but the bucket."""
    together = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(len(disks))]
    processes = []
    for number, disk in enumerate(disks):
        disk.mkdir(exist_ok=True)
        own = {"PYTHONPATH": str(ROOT), "LILITH_CACHE": str(disk / "cache")}
        command = [
            sys.executable, "-m", "experiments.run", "--config", str(tiny.config), *together,
            "--process", str(number), "--workdir", f"{URL}/run", "--start-timeout", str(SECONDS),
            "--set", f"train.steps={STEPS}", "train.sample_every=0", *settings,
        ]  # fmt: skip
        processes.append(
            subprocess.Popen(
                command,
                cwd=disk,
                env=os.environ | tiny.environment() | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def committed(bucket: FakeBucket) -> set[int]:
    """Steps with a manifest in the bucket."""
    names = [name.split("/") for name in bucket.names("run/checkpoints/")]
    return {int(parts[2]) for parts in names if parts[3:] == ["manifest.json"]}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # eight processes are started
def test_two_machines_that_lose_their_disks_go_on_from_the_bucket(
    bucket: FakeBucket, corpus: str, tiny: Tiny, tmp_path: pathlib.Path
) -> None:
    disks = [tmp_path / "a", tmp_path / "b"]
    two = start(tiny, disks, corpus)
    while max(committed(bucket), default=0) < 2 * EVERY and two[0].poll() is None:
        time.sleep(0.02)
    two[1].send_signal(signal.SIGKILL)
    outputs = [process.communicate(timeout=SECONDS) for process in two]
    assert two[0].returncode == RESTART, outputs[0]
    reached = max(committed(bucket))
    assert 2 * EVERY <= reached < STEPS
    for disk in disks:
        shutil.rmtree(disk)

    out, _ = (output.out for output in ended(start(tiny, disks, corpus), 0))
    assert f"resumed from the checkpoint of step {reached}" in out
    assert f"checkpoints: {URL}/run/checkpoints" in out
    assert not (disks[0] / RUN / "checkpoints").exists()
    for name in ("metrics.jsonl", "summary.json", "report.html", "config.json"):
        assert bucket.objects[f"run/{name}"].data == (disks[0] / RUN / name).read_bytes()

    undisturbed = tmp_path / "undisturbed"
    settings = ("--workdir", undisturbed, "--set", f"train.steps={STEPS}", "train.sample_every=0")
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process")
    ended([tiny.start(*together, number, *settings) for number in (0, 1)], 0)
    assert curves(disks[0] / RUN) == curves(undisturbed)
    shutil.rmtree(disks[0])
    shutil.copytree(disks[1], disks[0])  # any of the machines may be the first
    outs = [output.out for output in ended(start(tiny, disks, corpus), 0)]
    assert "is finished" in outs[0]


def test_a_run_goes_on_with_an_empty_disk(
    bucket: FakeBucket,
    corpus: str,
    run_here: RunHere,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--workdir", f"{URL}/run", "--set", corpus, "train.sample_every=0")
    assert run_here(*words, "train.steps=10")[0] == 0
    assert committed(bucket) == {5, 10}
    assert "run/report.html" in bucket.objects
    shutil.rmtree("runs")
    code, output = run_here(*words, "train.steps=15")
    assert code == 0, output.err
    assert "resumed from the checkpoint of step 10" in output.out
    logged = [json.loads(line) for line in (tmp_path / RUN / "metrics.jsonl").open()]
    assert [record["step"] for record in logged if "loss" in record] == list(range(1, 16))
    assert (
        bucket.objects["run/metrics.jsonl"].data == pathlib.Path(RUN, "metrics.jsonl").read_bytes()
    )
    shutil.rmtree("runs")
    assert "is finished: 15 of 15 steps" in run_here(*words, "train.steps=15")[1].out
    assert not [name for name in bucket.objects if "write_probe" in name]
    code, output = run_here(*words, "train.steps=15", "model.layers=1")
    assert_one_sentence(output, "holds a run with model.layers = 2", "this config has 1")


def test_a_bucket_that_can_not_be_written_stops_before_anything(
    bucket: FakeBucket,
    run_here: RunHere,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket.refused.add("write")
    code, output = run_here("--workdir", f"{URL}/run")
    assert (code, output.out) == (2, "")
    assert_one_sentence(
        output, f"{URL}/run can not be written: Anonymous caller does not have", "credentials",
        "roles/storage.objectUser",
    )  # fmt: skip
    assert (list(tmp_path.iterdir()), bucket.names()) == ([], [])


def test_a_bucket_that_fails_in_the_midst_of_a_run_is_worth_another_start(
    bucket: FakeBucket,
    run_here: RunHere,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments.run, "claim_bucket", lambda config, workdir: None)
    bucket.refused.add("write")
    words = ("--workdir", f"{URL}/run", "--set", "train.sample_every=0", "train.steps=5")
    code, output = run_here(*words)
    assert code == RESTART
    (line,) = (line for line in output.err.splitlines() if line.startswith("error: "))
    assert f"step 5 was not saved in {URL}/run/checkpoints" in line


@pytest.mark.parametrize(
    ("config", "workdir", "settings", "sentence"),
    [
        (
            "pretrain_nano",
            "s3://bucket/x",
            (),
            "s3://bucket/x is no path that can be used; give gs",
        ),
        ("pretrain_nano", "x", ("checkpoint.bucket=bucket/x",), "bucket/x is no path that can be"),
        ("pretrain_nano", f"{URL}/a", (f"checkpoint.bucket={URL}/b",), "leave out one of them"),
        ("eval_tool_calls", f"{URL}/x", (), "'evaluate' keeps its files on this machine"),
        (
            "constitutional",
            "x",
            (f"checkpoint.bucket={URL}/x",),
            "'constitutional' keeps its files",
        ),
    ],
)
def test_a_bucket_that_can_not_be_meant_is_one_sentence(
    config: str, workdir: str, settings: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        place(load_config(config, settings), workdir)


def test_a_run_on_this_machine_is_not_begun_anew_in_a_bucket(
    bucket: FakeBucket, tmp_path: pathlib.Path
) -> None:
    saved = tmp_path / "checkpoints" / "5"
    saved.mkdir(parents=True)
    (saved / "manifest.json").touch()
    with pytest.raises(UserError, match=f"copy them to {URL}/run/checkpoints and remove them"):
        RunFiles(remote(f"{URL}/run"), tmp_path).claim()
    assert bucket.names() == []


def test_files_that_are_older_here_are_fetched_and_newer_ones_stay(
    bucket: FakeBucket, tmp_path: pathlib.Path
) -> None:
    def record(time: float, step: int) -> bytes:
        return json.dumps({"step": step, "time": time}).encode() + b"\n"

    files = RunFiles(remote(f"{URL}/run"), tmp_path)
    bucket.put("run/metrics.jsonl", record(100.0, 7))
    bucket.put("run/tokenizer/merges.txt", b"a b")
    bucket.put("run/checkpoints/5/manifest.json", b"{}")
    (tmp_path / "metrics.jsonl").write_bytes(record(200.0, 9))
    files.claim()
    assert (tmp_path / "metrics.jsonl").read_bytes() == record(200.0, 9)
    (tmp_path / "metrics.jsonl").write_bytes(record(50.0, 3))
    files.claim()
    assert (tmp_path / "metrics.jsonl").read_bytes() == record(100.0, 7)
    assert (tmp_path / "tokenizer" / "merges.txt").read_text() == "a b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tokenizer"]


def test_a_copy_that_fails_is_said_and_made_later(
    bucket: FakeBucket, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = RunFiles(remote(f"{URL}/run"), tmp_path)
    (tmp_path / "profile").mkdir()
    for name in ("a.json", "profile/big", ".half"):
        (tmp_path / name).write_text("{}")
    bucket.refused.add("write")
    files.send()
    assert "warning: " in (said := capsys.readouterr().out)
    assert f"is not copied to {URL}/run: Anonymous caller" in said
    bucket.refused.clear()
    files.send()
    assert bucket.names() == ["run/a.json"]
    bucket.calls.clear()
    files.send()
    assert bucket.calls == []  # it has not changed


def test_what_a_host_sees_of_a_bucket(bucket: FakeBucket) -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        bucket.put(f"corpus/{name}", b"x")
    assert _seen(f"{URL}/corpus") == "3 files"
    assert _seen(f"{URL}/corpus/*.txt") == "2 files"
    assert _seen(f"{URL}/corpora") == ABSENT
    bucket.refused.add("list")
    assert "can not be read: Anonymous caller" in _seen(f"{URL}/corpus")
