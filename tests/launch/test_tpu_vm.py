"""launch/gcp/tpu_vm.sh creates and deletes, with a gcloud that plays back answers and refusals."""

from __future__ import annotations

import shlex

import pytest
from launch_machine import (
    CREATE,
    GOLDEN,
    NOT_FOUND,
    QUEUED,
    RUN,
    STATE,
    TPU_VM,
    Machine,
    billed,
    deleted,
    golden,
    refused,
    states,
)

# --- transcripts


def test_create(cloud: Machine) -> None:
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 0
    golden(cloud, "create", ended)
    assert (cloud.states / "big.state").read_text() == STATE


def test_delete(created: Machine) -> None:
    ended = created.run(TPU_VM, "delete", "big", "--yes")
    assert ended.returncode == 0
    golden(created, "delete", ended)
    assert not (created.states / "big.state").exists()


@pytest.mark.parametrize("command", ["create", "setup", "run", "logs", "ssh", "stop", "delete"])
def test_a_dry_run_prints_the_commands_and_runs_none(machine: Machine, command: str) -> None:
    words = f"{command} big --type v5p-128 --zone us-east5-a --project my-project".split()
    words += ["--workdir", "gs://my-bucket/seven", "--spot", "--dry-run"]
    words += RUN[2:] if command == "run" else []
    before = sorted(machine.folder.rglob("*"))
    ended = machine.run(TPU_VM, *words)  # there is no gcloud on this machine
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(machine.folder.rglob("*")) == before
    golden(machine, f"dry_run_{command}", ended)


@pytest.mark.parametrize("name", ["create", "run", "delete"])
def test_a_dry_run_prints_what_is_then_called(name: str) -> None:
    real = (GOLDEN / f"{name}.txt").read_text().partition("exit code")[0].splitlines()
    dry = (GOLDEN / f"dry_run_{name}.txt").read_text()
    asked = "config get-value"  # not with --project
    assert not [
        call for call in real if asked not in call
        and call.replace("SCRATCH", "/tmp/lilith-launch") not in dry
    ]  # fmt: skip


# --- bad input: one sentence, before anything is billed

BAD_SPELLING = {
    "no type": (["create", "a", "--zone", "us-east5-a"], "needs --type"),
    "no zone": (["create", "a", "--type", "v5p-8"], "needs --zone"),
    "a region": ([*CREATE, "--zone", "us-east5"], "us-east5 is not a zone"),
    "a family that is none": ([*CREATE, "--type", "v9-8"], "no accelerator type v9-8"),
    "a size that is none": ([*CREATE, "--type", "v5p-100"], "no accelerator type v5p-100"),
    "a size that is no number": ([*CREATE, "--type", "v6e-x"], "no accelerator type v6e-x"),
    "another type's runtime": (
        [*CREATE, "--runtime-version", "v2-alpha-tpuv6e"], "v2-alpha-tpuv6e is for v6e",
    ),
    "a topology of other size": ([*CREATE, "--topology", "4x4x8"], "128 chips and v5p-128 has 64"),
    "a topology of other axes": ([*CREATE, "--topology", "8x8"], "has 2 axes and v5p has 3"),
    "a topology in words": ([*CREATE, "--topology", "cube"], "write it as 4x4x4"),
    "a local workdir": ([*CREATE, "--workdir", "runs/x"], "gs://BUCKET/RUN"),
    "a bucket alone": ([*CREATE, "--workdir", "gs://my-bucket/"], "gs://BUCKET/RUN"),
    "a folder without a name": ([*CREATE, "--workdir", "gs://my-bucket//x"], "gs://BUCKET/RUN"),
    "a region without a price": ([*CREATE, "--zone", "mars-north1-a"], "no price for v5p in mars"),
    "an option that is none": ([*CREATE, "--spott", "x"], "no option --spott"),
    "an option without a value": ([*CREATE, "--type"], "--type needs a value"),
    "a bad name": (["create", "Big_One", *CREATE[2:]], "the name Big_One does not fit"),
    "a command that is none": (["start", "big"], "no command 'start'"),
    "no name": (["create"], "needs the TPU's name"),
    "a stray word": ([*CREATE, "now"], "'now' is one word too many"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SPELLING)
def test_bad_spelling_is_refused_before_any_call(cloud: Machine, case: str) -> None:
    refused(cloud, *BAD_SPELLING[case])
    assert not cloud.calls()


def test_no_gcloud(machine: Machine) -> None:
    refused(machine, CREATE, "no gcloud on the PATH: install")


LOGIN = (1, "ERROR: (gcloud) There was a problem refreshing your current auth tokens: expired")
API_OFF = (
    1,
    "ERROR: PERMISSION_DENIED: Cloud TPU API has not been used in project 7 before or it is "
    "disabled.\n  reason: SERVICE_DISABLED",
)
FORBIDDEN = (1, "ERROR: PERMISSION_DENIED: Permission 'tpu.nodes.get' denied on 'projects/x'")
BUCKET = (1, "ERROR: HTTPError 403: me@example.com does not have storage.objects.create access")
BAD_WORLD = {
    "no credentials": ("gcloud auth list*", "", "gcloud auth login"),
    "old credentials": ("*accelerator-types*", LOGIN, "gcloud auth login"),
    "no project": ("gcloud config get-value*", "", "no project is chosen: add --project"),
    "the API is off": ("*accelerator-types*", API_OFF, "services enable tpu.googleapis.com"),
    "no permission": ("*accelerator-types*", FORBIDDEN, "roles/tpu.admin"),
    "the zone has no such type": ("*accelerator-types*", NOT_FOUND, "does not offer v5p-128"),
    "the zone has no such runtime": ("*versions*", NOT_FOUND, "does not know the runtime"),
    "no quota": ("*quotas info*", "us-east5-a|0|us-east5-a", "spot (preemptible) quota"),
    "too little quota": ("*quotas info*", "us-east5-a|64|us-east5-a", "the limit is 64"),
    "no quota here of all zones": ("*quotas info*", "|0|us-east5-a,us-east5-b", "the limit is 0"),
    "a name in use": (f"{QUEUED} describe*", "ACTIVE", "the name big is in use"),
    "a node's name in use": ("*tpu-vm describe*", "READY", "the name big is in use"),
    "a name that can not be looked up": (f"{QUEUED} describe*", (1, "ERROR: reset"), "reset"),
    "an unwritable bucket": ("gcloud storage cp*", BUCKET, "can not be written"),
    "a bucket that keeps all": ("gcloud storage rm*", BUCKET, "but not deleted from"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_WORLD)
def test_a_bad_world_is_found_before_anything_is_billed(cloud: Machine, case: str) -> None:
    pattern, answer, sentence = BAD_WORLD[case]
    cloud.answer(pattern, answer)
    refused(cloud, CREATE, sentence)
    assert not (cloud.states / "big.state").exists()


def test_a_topology_that_the_zone_builds_differently(cloud: Machine) -> None:
    cloud.answer("*accelerator-types*", "2x4x8")
    refused(cloud, [*CREATE, "--topology", "4x4x4"], "has the topology 2x4x8, not 4x4x4")


def test_quota_that_can_not_be_read_is_said_and_left_to_the_service(cloud: Machine) -> None:
    cloud.answer("*quotas info*", (1, "ERROR: Cloud Quotas API is off"))
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 0
    assert "the quota could not be read" in ended.stdout


def test_nobody_to_ask(cloud: Machine) -> None:
    refused(cloud, [word for word in CREATE if word != "--yes"], "add --yes")


@pytest.mark.parametrize("answer", ["no", "y", ""])
def test_a_person_who_does_not_say_yes_is_billed_nothing(cloud: Machine, answer: str) -> None:
    code, seen = cloud.asked(answer, TPU_VM, *(word for word in CREATE if word != "--yes"))
    assert (code, billed(cloud)) == (2, [])
    price, question = seen.index("about $107.52 an hour"), seen.index("create big? [yes/no]")
    assert price < question < seen.index("not confirmed: nothing was done")
    assert not (cloud.states / "big.state").exists()


def test_a_person_who_says_yes_gets_it(cloud: Machine) -> None:
    code, seen = cloud.asked("yes", TPU_VM, *(word for word in CREATE if word != "--yes"))
    assert (code, len(billed(cloud))) == (0, 1), seen


# --- creation that fails, whole or half

NO_QUOTA = (1, "ERROR: RESOURCE_EXHAUSTED: Quota limit 'TPUV5P' has been exceeded. Limit: 0")
IN_USE = (1, "ERROR: ALREADY_EXISTS: Resource 'big' already exists")


@pytest.mark.parametrize(
    ("answer", "sentence"), [(NO_QUOTA, "too little spot"), (IN_USE, "name big is in use")]
)
def test_a_refused_creation_leaves_nothing(
    cloud: Machine, answer: tuple[int, str], sentence: str
) -> None:
    cloud.answer(f"{QUEUED} create*", answer)
    states(cloud, "GONE")
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not deleted(cloud)
    assert not (cloud.states / "big.state").exists()


def test_a_name_taken_in_the_same_second_is_left_alone(cloud: Machine) -> None:
    cloud.answer(f"{QUEUED} create*", IN_USE)
    cloud.answer(f"{QUEUED} describe*lilith_launch*", "someone-else")
    states(cloud, "GONE", "ACTIVE")
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 2
    assert "name big is in use" in ended.stderr
    assert not deleted(cloud)


def test_partial_creation_is_undone(cloud: Machine) -> None:
    cloud.answer(f"{QUEUED} create*", (1, "ERROR: deadline exceeded"))
    states(cloud, "GONE", "PROVISIONING")
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 2
    golden(cloud, "partial_creation", ended)
    assert not (cloud.states / "big.state").exists()


def test_partial_creation_that_can_not_be_read_stays_known(cloud: Machine) -> None:
    cloud.answer(f"{QUEUED} create*", (1, "ERROR: connection reset"))
    cloud.answer(
        f"{QUEUED} describe *state.state*", NOT_FOUND, (1, "ERROR: connection reset")
    )  # fmt: skip
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 2
    assert "tpu_vm.sh delete big" in ended.stderr
    assert (cloud.states / "big.state").exists()  # so that delete is possible


def test_a_request_that_fails_in_the_queue_is_deleted_with_its_reason(cloud: Machine) -> None:
    states(cloud, "GONE", "WAITING_FOR_RESOURCES", "FAILED")
    cloud.answer(f"{QUEUED} describe*failedData*", "no room at the inn")
    ended = cloud.run(TPU_VM, *CREATE)
    assert ended.returncode == 2
    assert "not granted (no room at the inn)" in ended.stderr
    assert len(deleted(cloud)) == 1


# --- nothing is deleted that was not created here


def test_what_was_created_elsewhere_is_not_deleted(cloud: Machine) -> None:
    states(cloud, "ACTIVE")
    refused(cloud, ["delete", "other", "--yes"], "was not created by this script")
    assert not cloud.calls()


@pytest.mark.parametrize("label", ["someone-else", ""])
def test_another_label_is_not_deleted(created: Machine, label: str) -> None:
    created.answer(f"{QUEUED} describe*lilith_launch*", label)
    refused(created, ["delete", "big", "--yes"], "someone else's and was not deleted")
    assert (created.states / "big.state").exists()


def test_the_node_s_label_counts_where_the_request_shows_none(created: Machine) -> None:
    created.answer(f"{QUEUED} describe*lilith_launch*", "")
    created.answer("*tpu-vm describe*lilith_launch*", "id-1")
    assert created.run(TPU_VM, "delete", "big", "--yes").returncode == 0
    assert len(deleted(created)) == 1


def test_a_label_that_can_not_be_read_is_not_deleted(created: Machine) -> None:
    created.answer(f"{QUEUED} describe*lilith_launch*", (1, "ERROR: connection reset"))
    refused(created, ["delete", "big", "--yes"], "connection reset")


def test_a_delete_that_fails_keeps_the_state_file(created: Machine) -> None:
    created.answer(f"{QUEUED} delete*", (1, "ERROR: try later"))
    ended = created.run(TPU_VM, "delete", "big", "--yes")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "may still cost $107.52 an hour" in ended.stderr
    assert (created.states / "big.state").exists()


def test_deleting_needs_a_yes(created: Machine) -> None:
    refused(created, ["delete", "big"], "add --yes")


def test_the_same_name_in_another_zone_is_refused(created: Machine) -> None:
    refused(created, ["delete", "big", "--zone", "us-east5-b", "--yes"], "created with zone")
    refused(created, CREATE, "the name big is in use: it was created from here")


# --- the tables


@pytest.mark.parametrize(
    ("kind", "chips", "hosts"),
    [
        ("v4-8", 4, 1), ("v4-32", 16, 4), ("v5p-8", 4, 1), ("v5p-16", 8, 2), ("v5p-128", 64, 16),
        ("v5p-384", 192, 48), ("v5litepod-8", 8, 1), ("v5litepod-16", 16, 4), ("v6e-1", 1, 1),
        ("v6e-256", 256, 64),
    ],
)  # fmt: skip
def test_chips_and_hosts(machine: Machine, kind: str, chips: int, hosts: int) -> None:
    zone = "us-central2-b" if kind.startswith("v4") else "us-central1-a"
    words = f"create a --type {kind} --zone {zone} --workdir gs://bucket/run --dry-run".split()
    assert f"{kind}: {chips} chips, hosts: {hosts}, on demand" in machine.run(TPU_VM, *words).stdout


def test_the_price_is_the_table_s_times_the_chips(machine: Machine) -> None:
    words = shlex.split(
        "create a --type v6e-16 --zone us-east5-b --workdir gs://bucket/run --dry-run"
    )
    assert "about $43.20 an hour" in machine.run(TPU_VM, *words).stdout
    spot = machine.run(TPU_VM, *words, "--spot").stdout
    assert "about $19.44 an hour" in spot
    assert "they change and must be checked" in spot
