"""A machine for the launch scripts: a PATH of a few tools and a gcloud that plays back answers."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
FAKE = pathlib.Path(__file__).resolve().parent / "fake_gcloud"
# Nothing else is found: a test can not reach a real gcloud.
TOOLS = shlex.split(
    "awk bash cat chmod cp date dirname env grep gzip head hostname kill ls mkdir mktemp ps rm sed "
    "seq setsid sh sleep sort tail tar touch uname wc"
)
Answer = str | tuple[int, str]


@dataclass
class Machine:
    """Runs a script where gcloud is a fake, and says what the script called."""

    folder: pathlib.Path
    rules: int = 9000

    @property
    def fake(self) -> pathlib.Path:
        return self.folder / "fake"

    @property
    def states(self) -> pathlib.Path:
        return self.folder / "state"

    def tool(self, name: str) -> None:
        """Put the fake on the PATH under this name."""
        (self.folder / "bin" / name).symlink_to(FAKE)

    def answer(self, pattern: str, *answers: Answer) -> None:
        """Play back for calls that fit: a text, or an exit code and what goes to stderr.

        The last answer is repeated. A later rule comes before an earlier one.
        """
        self.rules -= 1
        rule = self.fake / "rules" / str(self.rules)
        (rule / "answers").mkdir(parents=True)
        (rule / "pattern").write_text(pattern)
        for number, answer in enumerate(answers):
            code, text = (0, answer) if isinstance(answer, str) else answer
            (rule / "answers" / f"{number:03}").write_text(f"{code}\n{text}\n")

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "FAKE": str(self.fake),
            "LILITH_LAUNCH_STATE": str(self.states),
            "LILITH_LAUNCH_POLL": "0",
            "LILITH_LAUNCH_ID": "id-1",
            **more,
        }

    def run(self, script: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A script of launch/ with these arguments, in the machine's own folder."""
        ended = subprocess.run(
            ["bash", str(LAUNCH / script), *arguments],
            cwd=self.folder / "home",
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        unmatched = self.fake / "unmatched"
        assert not unmatched.exists(), unmatched.read_text()
        return ended

    def asked(self, answer: str, script: str, *arguments: str) -> tuple[int, str]:
        """As :meth:`run` at a terminal where a person types ``answer``: exit code and output."""
        person, terminal = pty.openpty()
        try:
            os.write(person, f"{answer}\n".encode())
            ended = subprocess.run(
                ["bash", str(LAUNCH / script), *arguments],
                cwd=self.folder / "home",
                env=self.environment(),
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
        finally:
            os.close(terminal)
            os.close(person)
        return ended.returncode, ended.stdout

    def calls(self) -> list[str]:
        """The calls so far, as one would type them, with changing paths named."""
        record = self.fake / "calls"
        lines = record.read_text().splitlines() if record.exists() else []
        return [self._typed(json.loads(line)) for line in lines]

    def _typed(self, call: dict) -> str:
        words = []
        for word in (call["tool"], *call["args"]):
            head, equals, tail = word.partition("=")
            quoted = f"{head}={shlex.quote(tail)}" if equals and head[:2] == "--" else ""
            words.append(quoted or shlex.quote(word))
        return self.plain(" ".join(words))

    def plain(self, text: str) -> str:
        """Text without what differs from run to run."""
        for found in (self.folder / "tmp").glob("*"):
            text = text.replace(str(found), "SCRATCH")
        parts = text.split(str(self.folder / "tmp") + "/tmp.")
        # A scratch folder that is gone again: ten letters.
        text = parts[0] + "".join(f"SCRATCH{part[10:]}" for part in parts[1:])
        return text.replace(str(self.folder), "MACHINE").replace(str(ROOT), "SOURCE")

    def forget_calls(self) -> None:
        (self.fake / "calls").unlink(missing_ok=True)


NOT_FOUND = (1, "ERROR: (gcloud.compute.tpus) NOT_FOUND: Resource 'x' was not found")
QUEUED = "gcloud compute tpus queued-resources"


def states(machine: Machine, *names: str) -> None:
    """What the queued resource's state is, look after look."""
    machine.answer(
        f"{QUEUED} describe *state.state*",
        *(NOT_FOUND if name == "GONE" else name for name in names),
    )


def statuses(machine: Machine, *looks: Sequence[str]) -> None:
    """What each worker says of the run, look after look."""
    machine.answer(
        "*worker.sh status*",
        *("\n".join(f"lilith: {status}" for status in look) for look in looks),
    )


# --- of tpu_vm.sh

TPU_VM = "gcp/tpu_vm.sh"
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
CREATE = shlex.split(
    "create big --type v5p-128 --zone us-east5-a --workdir gs://my-bucket/seven --spot --yes"
)
RUN = shlex.split("run big -- --config pretrain_code --set model=7b")
HOSTS = 16
RUNNING, FINISHED, SIGNALLED = ([word] * HOSTS for word in ("running", "exit 0", "stopped 0"))
STATE = """PROJECT=my-project
ZONE=us-east5-a
TYPE=v5p-128
RUNTIME=v2-alpha-tpuv5
SPOT=1
WORKDIR=gs://my-bucket/seven
SERVICE_ACCOUNT=
NETWORK=
SUBNETWORK=
OWNER=id-1
"""


def billed(machine: Machine) -> list[str]:
    return [call for call in machine.calls() if call.startswith(f"{QUEUED} create")]


def deleted(machine: Machine) -> list[str]:
    return [call for call in machine.calls() if " delete " in call]


def refused(machine: Machine, words: list[str], sentence: str) -> str:
    """The one sentence with which the command ends, having billed and deleted nothing."""
    ended = machine.run(TPU_VM, *words)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert not billed(machine)
    assert not deleted(machine)
    return lines[0]


def golden(machine: Machine, name: str, ended: subprocess.CompletedProcess[str]) -> None:
    """Compare what was called and what was said with the transcript; LILITH_GOLDEN=write writes."""
    text = "".join(f"{call}\n" for call in machine.calls())
    said = "".join(
        f"  {line}\n" for line in machine.plain(ended.stdout + ended.stderr).splitlines()
    )
    # Times of day differ.
    lines = [f"  HH:MM:SS {x[11:]}" if x[4:5] == x[7:8] == ":" else x for x in said.splitlines()]
    text += f"exit code {ended.returncode}, having said:\n" + "".join(f"{x}\n" for x in lines)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LILITH_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()
