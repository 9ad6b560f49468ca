"""A machine for the launch scripts: a PATH of a few tools and a gcloud that plays back answers."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest
from launch_machine import NOT_FOUND, QUEUED, STATE, TOOLS, Machine, states


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    for name in ("bin", "home", "tmp", "fake/rules"):
        (tmp_path / name).mkdir(parents=True)
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"the launch scripts need {name}"
        (tmp_path / "bin" / name).symlink_to(os.path.realpath(found))
    return Machine(tmp_path)


@pytest.fixture
def cloud(machine: Machine) -> Machine:
    """A project where everything works: quota, a free name, a bucket, a TPU at the third look."""
    machine.tool("gcloud")
    machine.answer("gcloud auth list*", "me@example.com")
    machine.answer("gcloud config get-value project*", "my-project")
    machine.answer("*accelerator-types describe*", "4x4x4")
    machine.answer("*versions describe*", "v2-alpha-tpuv5")
    machine.answer("*quotas info describe*", "us-east5-a|4096|us-east5-a\n|0|us-east5-b,us-east5-c")
    machine.answer("gcloud compute tpus tpu-vm describe*", NOT_FOUND)
    machine.answer("gcloud storage *", "")
    machine.answer(f"{QUEUED} create *", "")
    machine.answer(f"{QUEUED} delete *", "")
    machine.answer(f"{QUEUED} describe *lilith_launch*", "id-1")
    states(machine, "GONE", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    machine.answer("gcloud compute tpus tpu-vm scp *", "")
    machine.answer("*worker.sh setup*", "lilith: set up")
    machine.answer("*worker.sh start*", "lilith: running")
    machine.answer("*worker.sh log*", "log of worker 0\nlog of worker 1")
    machine.answer("*worker.sh end*", "")
    return machine


@pytest.fixture
def created(cloud: Machine) -> Machine:
    """A machine from which the TPU ``big`` was created."""
    cloud.states.mkdir()
    (cloud.states / "big.state").write_text(STATE)
    states(cloud, "ACTIVE")
    cloud.answer("gcloud compute tpus tpu-vm describe*value(state)*", "READY")
    return cloud
