"""launch/slurm: what is submitted, and what the job does when its time is up."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time

import pytest
from launch_machine import LAUNCH, Machine, golden

SUBMIT = "slurm/submit.sh"
RUN = ["--", "--config", "pretrain_code", "--set", "model=7b", "--workdir"]


def test_the_dry_run_is_what_is_submitted(machine: Machine) -> None:
    workdir = str(machine.folder / "runs" / "it's seven")
    words = shlex.split("--nodes 4 --per node --time 2-00:00:00 --partition gpu --name seven")
    dry = machine.run(SUBMIT, *words, "--dry-run", *RUN, workdir)
    assert (dry.returncode, dry.stderr, machine.calls()) == (0, "", [])
    machine.tool("sbatch")
    machine.answer("sbatch*", "Submitted batch job 7")
    ended = machine.run(SUBMIT, *words, *RUN, workdir)
    assert ended.returncode == 0
    golden(machine, "slurm_submit", ended)
    (call,) = machine.calls()
    assert machine.plain(dry.stdout).strip() == call.replace("""'"'"'""", r"'\''")


def test_one_process_a_gpu_is_the_default(machine: Machine) -> None:
    said = machine.run(SUBMIT, "--gpus", "4", "--dry-run", *RUN, str(machine.folder)).stdout
    assert "--nodes=1 --ntasks-per-node=4 --gpus-per-node=4 --time=24:00:00" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--nodes", "0", *RUN, "x"], "--nodes is '0'"),
        (["--gpus", "all", *RUN, "x"], "--gpus is 'all'"),
        (["--per", "core", *RUN, "x"], "--per is 'core'"),
        (["--time", "1 day", *RUN, "x"], "--time is '1 day'"),
        (["--tme", "1:00:00", *RUN, "x"], "no option --tme"),
        (["--retries", "-1", *RUN, "x"], "--retries is '-1'"),
        (["--nodes"], "--nodes needs a value"),
        (["now"], "one word too many"),
        ([], "the arguments of experiments.run are missing"),
        (["--", "--config", "pretrain_code"], "--workdir is missing"),
        ([*RUN, "/etc/passwd/runs"], "/etc/passwd/runs can not be made or written"),
        ([*RUN, "x", "--processes", "8"], "leave --processes out"),
        ([*RUN, "x"], "no sbatch on the PATH"),
        ([*RUN, "gs://bucket/x"], "no sbatch on the PATH"),
    ],
)
def test_bad_input_is_one_sentence(machine: Machine, words: list[str], sentence: str) -> None:
    ended = machine.run(SUBMIT, *words)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert sentence in ended.stderr
    assert not machine.calls()


def test_the_job_s_own_options() -> None:
    text = (LAUNCH / "slurm" / "train.sbatch").read_text()
    for option in ("--signal=B:USR1@300", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {option}\n" in text


# The step: records its call, and ends as the fake scancel or the test tells it to.
STEP = """#!/usr/bin/env bash
printf '%s|' srun "devices=${JAX_LOCAL_DEVICE_IDS-}" "$@" >>"$FAKE/step"
while [[ ! -e $FAKE/end ]]; do sleep 0.05; done
exit "$(<"$FAKE/end")"
"""


def job(
    machine: Machine, tasks_per_node: int = 8, workdir: str = "", **more: str
) -> subprocess.Popen[str]:
    """Start the job script, with a step that runs until told otherwise."""
    step = machine.folder / "bin" / "srun"
    step.write_text(STEP)
    step.chmod(0o755)
    for name in ("scancel", "scontrol"):
        if not (machine.folder / "bin" / name).exists():
            machine.tool(name)
            machine.answer(f"{name} *", "")
    for name in ("step", "end"):  # of an earlier start
        (machine.fake / name).unlink(missing_ok=True)
    slurm = {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": str(2 * tasks_per_node), "LILITH_PYTHON": "python",
        "SLURM_NTASKS_PER_NODE": str(tasks_per_node), "SLURM_GPUS_ON_NODE": "8",
    }  # fmt: skip
    run = ["--config", "x", *(["--workdir", workdir] if workdir else [])]
    started = subprocess.Popen(
        ["bash", str(LAUNCH / "slurm" / "train.sbatch"), *run],
        cwd=machine.folder,
        env=machine.environment(**slurm, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(machine, "fake/step")
    return started


def until(machine: Machine, path: str) -> None:
    for _ in range(600):
        if (machine.folder / path).exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"never saw {path}")


def end(machine: Machine, started: subprocess.Popen[str], code: int) -> tuple[int, str]:
    (machine.fake / "code").write_text(str(code))
    os.rename(machine.fake / "code", machine.fake / "end")
    said, _ = started.communicate(timeout=60)
    return started.returncode, said


def transcript(machine: Machine, name: str, code: int, said: str) -> None:
    """Compare the step, the calls and what the job said with the golden ones."""
    step = (machine.fake / "step").read_text().replace("|", " ").strip()
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", f"{step}\n{said}")
    golden(machine, name, subprocess.CompletedProcess([], code, text, ""))


def test_the_time_limit_saves_and_requeues(machine: Machine) -> None:
    started = job(machine)
    started.send_signal(signal.SIGUSR1)
    until(machine, "fake/calls")
    assert machine.calls() == ["scancel --signal=TERM 7.0"]
    code, said = end(machine, started, 0)
    assert code == 0
    transcript(machine, "slurm_time_limit", code, said)


def test_a_preemption_saves_and_is_requeued_by_slurm_itself(machine: Machine) -> None:
    started = job(machine)
    started.send_signal(signal.SIGTERM)
    until(machine, "fake/calls")
    code, said = end(machine, started, 0)
    assert code == 0
    transcript(machine, "slurm_preemption", code, said)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_run_that_ends_by_itself_is_not_requeued(machine: Machine, code: int) -> None:
    started = job(machine)
    assert end(machine, started, code)[0] == code
    assert machine.calls() == []
    step = (machine.fake / "step").read_text()
    assert step == (
        "srun|devices=|--kill-on-bad-exit=1|python|-m|experiments.run|--config|x|--processes|16|"
    )


def test_one_process_a_node_is_told_that_it_has_every_gpu(machine: Machine) -> None:
    started = job(machine, tasks_per_node=1)
    end(machine, started, 0)
    step = (machine.fake / "step").read_text()
    assert step.startswith("srun|devices=0,1,2,3,4,5,6,7|")
    assert step.endswith("--processes|2|")


def test_a_save_that_fails_at_the_limit_is_not_requeued(machine: Machine) -> None:
    started = job(machine)
    started.send_signal(signal.SIGUSR1)
    until(machine, "fake/calls")
    assert end(machine, started, 1)[0] == 1
    assert machine.calls() == ["scancel --signal=TERM 7.0"]


@pytest.mark.parametrize("code", [75, 134, 137, 143])
def test_a_lost_host_or_a_hang_is_requeued(machine: Machine, code: int) -> None:
    """75 is the run's own; of processes that a signal killed srun says 128 and its number."""
    ended, said = end(machine, job(machine), code)
    assert ended == code
    assert f"ended with {code} (newest checkpoint: none), retry 1 of at most 3" in said
    assert machine.calls() == ["scontrol requeue 7"]
    if code == 75:
        transcript(machine, "slurm_restart", code, said)


def test_a_run_that_makes_no_progress_is_not_requeued_for_ever(machine: Machine) -> None:
    workdir = machine.folder / "it's seven"
    words = []

    def saved(step: str) -> None:
        (workdir / "checkpoints" / step).mkdir(parents=True)
        (workdir / "checkpoints" / step / "manifest.json").touch()

    for step in ("9", "", "10", "", "", "junk", ""):
        if step:
            saved(step)
        started = job(machine, workdir=str(workdir), SLURM_RESTART_COUNT=str(len(words)))
        code, said = end(machine, started, 75)
        assert code == 75
        words.append(said.partition(" ")[2].strip())
    assert words[0] == (
        "ended with 75 (newest checkpoint: 9), retry 1 of at most 3; "
        "back into the queue (restart 1)"
    )
    tries = [line.partition("retry ")[2][:1] for line in words]
    assert tries == ["1", "2", "1", "2", "3", "", "1"]
    assert words[5] == (
        "ended with 75, 4 times without a new checkpoint (newest: 10): mend it and submit it again"
    )
    assert machine.calls() == ["scontrol requeue 7"] * 6


def test_retries_reach_the_job(machine: Machine) -> None:
    words = ["--retries", "0", "--dry-run", *RUN, str(machine.folder)]
    assert "--export=ALL,LILITH_RETRIES=0 " in machine.run(SUBMIT, *words).stdout
    code, said = end(machine, job(machine, LILITH_RETRIES="0"), 75)
    assert (code, machine.calls()) == (75, [])
    assert "mend it and submit it again" in said


def test_a_preempted_job_is_not_requeued_twice_and_ctrl_c_not_at_all(machine: Machine) -> None:
    started = job(machine)
    started.send_signal(signal.SIGTERM)
    until(machine, "fake/calls")
    assert end(machine, started, 75)[0] == 75
    assert end(machine, job(machine), 130)[0] == 130
    assert machine.calls() == ["scancel --signal=TERM 7.0"]
