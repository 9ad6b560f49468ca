"""launch/gcp/gke.yaml says what a JobSet on TPUs must say, and gke.sh deletes only its own."""

from __future__ import annotations

import math
import re

import pytest
import yaml
from launch_machine import LAUNCH, Machine, golden

from experiments.run import load_config

SCRIPT = "gcp/gke.sh"
FILE = LAUNCH / "gcp" / "gke.yaml"
NOT_THERE = (1, 'Error from server (NotFound): jobsets.jobset.x-k8s.io "lilith-7b" not found')
NOT_OURS = "was not created by this script from this machine"


@pytest.fixture(scope="module")
def jobset() -> dict:
    (document,) = yaml.safe_load_all(FILE.read_text())
    return document


@pytest.fixture(scope="module")
def job(jobset: dict) -> dict:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return {"replicas": replicated["replicas"], **replicated["template"]["spec"]}


def test_the_kind_and_the_placement(jobset: dict) -> None:
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0


def test_one_pod_for_each_host_of_the_slice(job: dict) -> None:
    pod = job["template"]["spec"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(size) for size in topology.split("x"))
    (container,) = pod["containers"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == "tpu-v5p-slice"
    limits, requests = (container["resources"][key] for key in ("limits", "requests"))
    assert limits == requests == {"google.com/tpu": 4}
    hosts = chips // limits["google.com/tpu"]
    assert (job["completions"], job["parallelism"]) == (hosts, hosts)
    assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)


def test_the_processes_find_each_other(job: dict) -> None:
    (container,) = job["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["LILITH_PROCESSES"] == str(job["completions"] * job["replicas"])
    assert environment["JAX_PLATFORMS"].split(",")[0] == "tpu"
    arguments = container["args"]
    assert arguments[arguments.index("--processes") + 1] == "$(LILITH_PROCESSES)"
    assert 8482 in [port["containerPort"] for port in container["ports"]]


def test_a_pod_is_told_and_given_time_to_save(job: dict) -> None:
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["restartPolicy"] == "Never"  # the JobSet restarts all pods, not one alone
    # SIGTERM goes to the first process: it must be Python itself.
    assert pod["containers"][0]["command"][0] == "python"


def test_a_run_that_refuses_its_command_is_not_started_again(jobset: dict, job: dict) -> None:
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    exits = {"containerName": container["name"], "operator": "In", "values": [2]}
    assert rule == {"action": "FailJob", "onExitCodes": exits}
    assert jobset["spec"]["failurePolicy"]["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]


def test_a_spot_node_s_taint_is_tolerated(job: dict) -> None:
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert {"cloud.google.com/gke-spot"} == {entry["key"] for entry in pod["tolerations"]}


def test_the_command_is_a_config_that_loads(job: dict) -> None:
    (container,) = job["template"]["spec"]["containers"]
    arguments = container["args"]
    assert container["command"] == ["python", "-m", "experiments.run"]
    settings = arguments[arguments.index("--set") + 1 : arguments.index("--workdir")]
    config = load_config(arguments[arguments.index("--config") + 1], settings)
    assert config.model.d_model == 4096
    chips = 4 * job["completions"] * job["replicas"]
    assert config.train.batch % chips == 0


@pytest.fixture
def cluster(machine: Machine) -> Machine:
    """A cluster where everything works."""
    machine.tool("kubectl")
    machine.answer("kubectl*label *", "kind: JobSet")
    machine.answer("kubectl*create *", "created")
    machine.answer("kubectl*get jobset *", "id-1")
    machine.answer("kubectl*get pods *", "pod/a\npod/b")
    machine.answer("kubectl*logs *", "a line")
    machine.answer("kubectl*delete *", "deleted")
    filled = re.sub("PROJECT|BUCKET", "mine", FILE.read_text())
    (machine.folder / "home" / "mine.yaml").write_text(filled)
    return machine


def test_create_logs_and_delete(cluster: Machine) -> None:
    for command, words in (
        ("create", ["--file", "mine.yaml", "--yes"]), ("logs", ["--context", "gke_one"]),
        ("delete", ["--yes"]),
    ):  # fmt: skip
        cluster.forget_calls()
        ended = cluster.run(SCRIPT, command, *words)
        assert ended.returncode == 0
        golden(cluster, f"gke_{command}", ended)
    logs = cluster.folder / "home" / "runs" / "lilith-7b" / "logs"
    assert {path.name: path.read_text() for path in logs.iterdir()} == {
        "a.log": "a line\n", "b.log": "a line\n",
    }  # fmt: skip
    assert NOT_OURS in cluster.run(SCRIPT, "delete", "--yes").stderr  # forgotten


@pytest.mark.parametrize("command", ["create", "logs", "delete"])
def test_a_dry_run_prints_and_runs_nothing(machine: Machine, command: str) -> None:
    before = sorted(machine.folder.rglob("*"))
    ended = machine.run(SCRIPT, command, "--dry-run")  # no kubectl here
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(machine.folder.rglob("*")) == before
    last = {
        "create": "kubectl create --filename=/tmp/lilith-launch.yaml",
        "logs": "kubectl logs pod/POD > runs/lilith-7b/logs/POD.log",
        "delete": "kubectl delete jobset lilith-7b",
    }
    assert ended.stdout.splitlines()[-1] == last[command]


def refused(machine: Machine, words: list[str], sentence: str) -> None:
    ended = machine.run(SCRIPT, *words)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert sentence in ended.stderr
    assert not [call for call in machine.calls() if " delete " in call]


def test_what_was_not_created_here_is_not_deleted(cluster: Machine) -> None:
    refused(cluster, ["delete", "--yes"], NOT_OURS)
    cluster.run(SCRIPT, "create", "--file", "mine.yaml", "--yes")
    cluster.answer("kubectl*get jobset *", "someone-else")
    refused(cluster, ["delete", "--yes"], "someone else's and was not deleted")


def test_bad_input(cluster: Machine) -> None:
    create = ["create", "--file", "mine.yaml", "--yes"]
    refused(cluster, ["create", "--yes"], "still says PROJECT")
    refused(cluster, ["create", "--file", "mine.yaml"], "add --yes")
    refused(cluster, ["create", "--file", "none.yaml"], "no file none.yaml")
    refused(cluster, ["apply"], "no command 'apply'")
    refused(cluster, ["create", "--what"], "no option --what")
    assert not cluster.calls()
    cluster.answer("kubectl*create *", (1, 'jobsets "lilith-7b" already exists'))
    cluster.answer("kubectl*get jobset *", "someone-else")
    refused(cluster, create, "the name lilith-7b is in use on this cluster")
    assert not list(cluster.states.iterdir())


BAD_CLUSTERS = {
    "no credentials": (
        "error: You must be logged in to the server (Unauthorized)", "run 'gcloud auth login' and",
    ),
    "no cluster": (
        "The connection to the server localhost:8080 was refused - did you specify the right host?",
        "kubectl finds no cluster",
    ),
    "no controller": (
        'error: resource mapping not found: no matches for kind "JobSet" in version "jobset',
        "has no JobSet controller",
    ),
    "no permission": (
        "Error from server (Forbidden): jobsets.jobset.x-k8s.io is forbidden: User x cannot create",
        "ask for the role roles/container.developer",
    ),
    "anything else": ("error: the moon is full", "creating lilith-7b failed: error: the moon is"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CLUSTERS)
def test_a_cluster_that_can_not_be_used_is_one_sentence(cluster: Machine, case: str) -> None:
    said, sentence = BAD_CLUSTERS[case]
    cluster.answer("kubectl*create *", (1, said))
    cluster.answer("kubectl*get jobset *", NOT_THERE if case == "anything else" else (1, said))
    refused(cluster, ["create", "--file", "mine.yaml", "--yes"], sentence)
    assert not list(cluster.states.iterdir())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("id-1", "creating lilith-7b failed half way (error: timed out), and it exists"),
        ((1, "error: timed out"), "creating lilith-7b failed: error: timed out"),
    ],
)
def test_what_was_created_half_way_can_still_be_deleted(
    cluster: Machine, answer: str | tuple[int, str], sentence: str
) -> None:
    cluster.answer("kubectl*create *", (1, "error: timed out"))
    cluster.answer("kubectl*get jobset *", answer)
    refused(cluster, ["create", "--file", "mine.yaml", "--yes"], sentence)
    cluster.answer("kubectl*get jobset *", "id-1")
    assert cluster.run(SCRIPT, "delete", "--yes").returncode == 0


def test_on_another_cluster_nothing_is_deleted_and_nothing_forgotten(cluster: Machine) -> None:
    cluster.run(SCRIPT, "create", "--file", "mine.yaml", "--yes")
    cluster.answer("kubectl*get jobset *", NOT_THERE)
    refused(cluster, ["delete", "--yes"], "is not on this cluster and nothing was deleted")
    assert (cluster.states / "lilith-7b.gke").exists()


def test_no_kubectl(machine: Machine) -> None:
    refused(machine, ["logs"], "no kubectl on the PATH")
