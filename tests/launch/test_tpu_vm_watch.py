"""launch/gcp/tpu_vm.sh runs and watches: ends, crashes, preemptions, and what is not restarted."""

from __future__ import annotations

import shlex

import pytest
from launch_machine import (
    FINISHED,
    HOSTS,
    QUEUED,
    RUN,
    RUNNING,
    SIGNALLED,
    TPU_VM,
    Machine,
    billed,
    deleted,
    golden,
    refused,
    states,
    statuses,
)


def test_a_run_to_its_end(created: Machine) -> None:
    statuses(created, ["none"] * HOSTS, RUNNING, RUNNING, FINISHED)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    golden(created, "run", ended)
    logs = created.folder / "home" / "runs" / "big" / "logs"
    assert (logs / "1.log").read_text() == "log of worker 1\n"


def test_preempted_twice_and_started_again(created: Machine) -> None:
    up = ["ACTIVE", "ACTIVE"]  # when waited for, and when looked at
    down = ["SUSPENDING", "SUSPENDED"]  # when looked at, and before it is deleted
    states(created, *up, *down, "WAITING_FOR_RESOURCES", *up, "ACTIVE", *down, *up)
    none = ["none"] * HOSTS
    statuses(created, none, RUNNING, none, RUNNING, SIGNALLED, none, FINISHED)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    golden(created, "preempt_and_restart", ended)
    commands = [call for call in created.calls() if "worker.sh start" in call]
    assert len(commands) == 3
    assert len(set(commands)) == 1  # the same command, which resumes
    assert len(billed(created)) == len(deleted(created)) == 2


def test_a_preempted_tpu_of_someone_else_s_is_not_deleted(created: Machine) -> None:
    states(created, "ACTIVE", "ACTIVE", "SUSPENDED")
    statuses(created, RUNNING, RUNNING)
    created.answer(f"{QUEUED} describe*lilith_launch*", "someone-else")
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 2
    assert "it was not deleted and the run was not restarted" in ended.stderr
    assert not deleted(created)
    assert not billed(created)


def test_a_crash_is_started_again_on_the_same_tpu(created: Machine) -> None:
    crashed = ["exit 1", *["running"] * (HOSTS - 1)]
    statuses(created, ["none"] * HOSTS, RUNNING, crashed, ["exit 1"] * HOSTS, RUNNING, FINISHED)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    calls = created.calls()
    assert len([call for call in calls if "worker.sh start" in call]) == 2
    assert len([call for call in calls if "worker.sh end" in call]) == 1
    assert not deleted(created)
    assert (created.folder / "home/runs/big/logs/crash_1/0.log").exists()


def test_crashes_without_end_stop(created: Machine) -> None:
    statuses(created, ["exit 1"] * HOSTS)
    ended = created.run(TPU_VM, "run", "big", "--retries", "1", *RUN[2:])
    assert ended.returncode == 2
    assert "ended badly 2 times" in ended.stderr
    assert "still costs $107.52 an hour" in ended.stderr


def test_a_wrong_command_is_not_tried_again(created: Machine) -> None:
    statuses(created, ["none"] * HOSTS, ["exit 2"] * HOSTS)
    created.answer("*worker.sh log*", "error: unknown field model.layer\nthe same")
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 2
    assert "error: unknown field model.layer" in ended.stderr
    assert len([call for call in created.calls() if "worker.sh start" in call]) == 1


def test_a_run_that_is_going_on_is_watched_and_not_started_twice(created: Machine) -> None:
    statuses(created, RUNNING, RUNNING, FINISHED)
    assert created.run(TPU_VM, *RUN).returncode == 0
    assert not [call for call in created.calls() if "worker.sh start" in call]


def test_a_run_stopped_by_stop_is_not_started_again(created: Machine) -> None:
    statuses(created, RUNNING, RUNNING, ["requested 0"] * HOSTS)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    assert "was stopped by 'tpu_vm.sh stop'" in ended.stdout


@pytest.mark.parametrize("before", [[], ["ACTIVE", "ACTIVE"]], ids=["before", "during the run"])
def test_a_tpu_that_someone_deleted_is_not_made_again(created: Machine, before: list[str]) -> None:
    states(created, *before, "GONE")
    statuses(created, RUNNING)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 2
    assert "was not deleted by this run: it was not created again" in ended.stderr
    assert not billed(created)


def test_a_node_preempted_under_an_active_request(created: Machine) -> None:
    states(created, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
    statuses(created, RUNNING, [], RUNNING, FINISHED)
    created.answer("*tpu-vm describe*value(state)*", "PREEMPTED")
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    assert "was lost (preempted)" in ended.stdout
    assert len(billed(created)) == len(deleted(created)) == 1


def test_a_silent_worker_of_a_living_tpu_costs_nothing(created: Machine) -> None:
    statuses(created, RUNNING, RUNNING[:3], RUNNING, FINISHED)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    assert "not every worker of big answers" in ended.stdout
    assert not deleted(created)


def test_a_signalled_run_on_a_tpu_that_stays_is_started_again(created: Machine) -> None:
    statuses(created, RUNNING, *[SIGNALLED] * 6, RUNNING, FINISHED)
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    assert len([call for call in created.calls() if "worker.sh start" in call]) == 1
    assert not deleted(created)


def test_no_capacity_after_a_preemption_is_tried_again(created: Machine) -> None:
    states(created, "ACTIVE", "ACTIVE", "SUSPENDED", "SUSPENDED", "GONE", "ACTIVE")
    statuses(created, RUNNING, RUNNING, FINISHED)
    created.answer(f"{QUEUED} create*", (1, "ERROR: no capacity"), "")
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 0
    assert "(not created: ERROR: no capacity; trying again)" in ended.stdout
    assert (len(billed(created)), len(deleted(created))) == (2, 1)
    assert (created.states / "big.state").exists()


def test_restarts_have_an_end(created: Machine) -> None:
    states(created, "SUSPENDED")
    ended = created.run(TPU_VM, "run", "big", "--restarts", "2", *RUN[2:])
    assert ended.returncode == 2
    assert "--restarts=2 is used up" in ended.stderr
    assert len(billed(created)) == 2


def test_a_vm_that_can_not_write_to_the_bucket_ends_the_run(created: Machine) -> None:
    statuses(created, ["none"] * HOSTS)
    created.answer("*worker.sh setup*", (2, "error: this TPU VM can not write to gs://x"))
    ended = created.run(TPU_VM, *RUN)
    assert ended.returncode == 2
    assert "this TPU VM can not write" in ended.stderr
    assert "could not be set up" in ended.stderr
    assert not deleted(created)


def test_run_keeps_the_words_of_its_command(created: Machine) -> None:
    statuses(created, ["none"] * HOSTS, FINISHED)
    created.run(TPU_VM, "run", "big", "--", "--config", "x", "--set", "prompt=it's two words")
    (start,) = [call for call in created.calls() if "worker.sh start" in call]
    assert "two words" in start
    (command,) = shlex.split(start.partition("--command=")[2])
    assert shlex.split(command) == [
        "bash", "lilith/launch/gcp/worker.sh", "start", "--config", "x",
        "--set", "prompt=it's two words",
        "--workdir", "gs://my-bucket/seven", "--processes", "16",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["--workdir=x", "--processes", "--coordinator"])
def test_run_refuses_what_it_sets_itself(created: Machine, word: str) -> None:
    refused(created, [*RUN, word], f"leave {word} out")


def test_commands_before_create_say_so(cloud: Machine) -> None:
    for command in ("setup", "logs", "ssh", "stop", "run"):
        refused(cloud, [command, "big"], "run 'tpu_vm.sh create big ...' first")


def test_ssh_and_stop(created: Machine) -> None:
    created.answer("*tpu-vm ssh*", "")
    assert created.run(TPU_VM, "ssh", "big", "--worker", "3", "--", "-v").returncode == 0
    assert created.run(TPU_VM, "stop", "big").returncode == 0
    refused(created, ["ssh", "big", "--worker", "16"], "workers 0 to 15")
    place = "--zone=us-east5-a --project=my-project"
    assert created.calls() == [
        f"gcloud compute tpus tpu-vm ssh big {place} --worker=3 -- -v",
        f"gcloud compute tpus tpu-vm ssh big {place} --worker=all --quiet "
        "--command='bash lilith/launch/gcp/worker.sh stop'",
    ]
