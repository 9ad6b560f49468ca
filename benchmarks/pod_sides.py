"""The two sides that compile for TPU pods, each in a process of its own: LILITH and MaxText.

Nothing runs on a TPU. What a side comes to is a :class:`Compiled`; :class:`Measurements` keeps it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pod_rows import Row
from lilith.config import UserError
from lilith.data.json_lines import JsonLines
from lilith.pods.topologies import ENVIRONMENT, Topology, get_topology

ROOT = pathlib.Path(__file__).resolve().parent.parent
GIB = 2**30
MAXTEXT_MODELS = {"7b": "llama2-7b", "13b": "llama2-13b", "70b": "llama2-70b"}
# Memory of the host that was published beside a row's own; no figure of a chip.
PUBLISHED_HOST = {("13b", "qkv_proj_offloaded"): 14.06}
# Ours would now compile other settings in search of one that fits; the answer is there before.
LOOKS_ON = "; looking for the nearest setting that fits"
# A kernel without room in vmem is another thing, and no answer.
_TOO_LARGE = re.compile(
    r"^(?!.*vmem).*(?:exceeds available HBM|of [\d.]+[KMGT] hbm|would exceed memory \(size=).*$",
    re.MULTILINE,
)
_ANALYSIS = re.compile(r"Memory analysis: CompiledMemoryStats\((.*?)\)", re.DOTALL)


@dataclass(frozen=True)
class Compiled:
    """What one side's process came to.

    Attributes:
      arguments: bytes of a device: weights, optimizer and batch.
      temporaries: bytes of a device besides them.
      host: bytes of the host that hold what a device does not.
      seconds: of the whole process.
      cpu_seconds: that all its threads took.
      why: the compiler's sentence where it does not fit, else empty.
      published: these are no figures of this machine.
    """

    arguments: float = 0.0
    temporaries: float = 0.0
    host: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    why: str = ""
    published: bool = False

    @property
    def used(self) -> float:
        """Bytes of a device."""
        return self.arguments + self.temporaries

    def memory(self) -> str:
        """As the table shows it."""
        if self.why:
            return "does not fit"
        host = f" (+ {self.host / GIB:.2f} on the host)" if self.host else ""
        mark = " *" if self.published else ""
        return f"{self.arguments / GIB:.2f} + {self.temporaries / GIB:.2f}{host}{mark}"


@dataclass(frozen=True)
class Ended:
    """A child process: all it wrote, its exit code (None: it was stopped) and its times."""

    text: str
    code: int | None
    seconds: float
    cpu_seconds: float


def child(command: Sequence[str], folder: pathlib.Path, until: str = "") -> Ended:
    """Run ``command`` in ``folder`` to its end, or until it writes a line with ``until`` in it."""
    # Neither side waits for the metadata server of a TPU machine; ours sets this by itself.
    environment = {**ENVIRONMENT, **os.environ, "JAX_PLATFORMS": "cpu",
                   "JAX_ENABLE_COMPILATION_CACHE": "0"}  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    lines: list[str] = []
    code: int | None = None
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if until and until in line:
                    break
            else:
                code = process.wait()
        finally:
            process.kill()  # does nothing to one that has ended
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended("".join(lines), code, seconds, cpu)


def compile_ours(words: Sequence[str], python: str) -> tuple[Compiled, dict[str, Any]]:
    """Compile by ``--config compile_pod --set words``; also its report, empty if nothing fits.

    Raises:
      UserError: it ended in another way than by not fitting.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "experiments.run", "--config", "compile_pod",
                   "--workdir", folder, "--set", *words]  # fmt: skip
        ended = child(command, ROOT, until=LOOKS_ON)
        if ended.code is None:
            why = next(line for line in ended.text.splitlines() if LOOKS_ON in line)
            return _with_times(Compiled(why=why.partition(LOOKS_ON)[0]), ended), {}
        if ended.code:
            raise UserError(f"compile_pod ended with {ended.code}: {_last_line(ended.text)}")
        report = json.loads((pathlib.Path(folder) / "report.json").read_text())
    return _with_times(our_memory(report), ended), report


def our_memory(report: Mapping[str, Any]) -> Compiled:
    """The sizes of a ``report.json``."""
    memory = report["memory"]
    return Compiled(
        arguments=sum(memory.get(kind, 0) for kind in ("weights", "optimizer", "inputs")),
        temporaries=sum(memory.get(kind, 0) for kind in ("activations", "temporaries")),
        host=memory["host"],
    )


def maxtext_words(row: Row, layers: int = 0) -> list[str]:
    """The overrides of MaxText's train_compile for a row; ``layers`` of the model, 0: all.

    Raises:
      UserError: MaxText has no such model.
    """
    if row.model not in MAXTEXT_MODELS:
        known = ", ".join(MAXTEXT_MODELS)
        raise UserError(f"MaxText has no preset for {row.model}; those compared are {known}")
    topology = get_topology(row.topology)
    words = [
        f"model_name={MAXTEXT_MODELS[row.model]}",
        f"compile_topology={_maxtext_topology(topology)}", "compile_topology_num_slices=1",
        f"per_device_batch_size={row.batch:g}", f"max_target_length={row.length}",
        f"remat_policy={row.maxtext_remat}", "enable_checkpointing=false", "run_name=pods",
    ]  # fmt: skip
    if layers:
        words += ["override_model_config=true", f"base_num_decoder_layers={layers}"]
    return words


def _maxtext_topology(topology: Topology) -> str:
    """Chips of one core count as they are, the others by their cores."""
    cores = 1 if topology.chip.name in ("v5e", "v6e") else 2
    return f"{topology.chip.name}-{topology.chips * cores}"


def compile_maxtext(words: Sequence[str], python: str) -> Compiled:
    """Compile by MaxText's train_compile under the interpreter ``python``.

    Raises:
      UserError: it ended in another way than by not fitting.
    """
    module = "maxtext.trainers.pre_train.train_compile"
    # The environment's own compiler is compared, not one that a variable names for ours.
    bare = ["env", "-u", "TPU_LIBRARY_PATH", "-u", "PYTHONPATH"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*bare, python, "-m", module, *words, f"base_output_directory={folder}"]
        ended = child(command, pathlib.Path(folder))
    if ended.code == 0:
        return _with_times(maxtext_memory(ended.text), ended)
    refused = _TOO_LARGE.search(ended.text)
    if refused is None:
        raise UserError(f"MaxText ended with {ended.code}: {_last_line(ended.text)}")
    return _with_times(Compiled(why=refused.group().strip()[:300]), ended)


def maxtext_memory(text: str) -> Compiled:
    """The sizes that train_compile writes at its end.

    Raises:
      UserError: they are not in ``text``.
    """
    found = _ANALYSIS.search(text)
    if found is None:
        raise UserError(f"MaxText wrote no memory analysis; its last line: {_last_line(text)}")
    sizes = {name: int(size) for name, size in re.findall(r"(\w+)=(\d+)", found.group(1))}
    return Compiled(
        arguments=sizes["argument_size_in_bytes"],
        temporaries=sizes["temp_size_in_bytes"],
        host=sum(sizes.get(f"host_{kind}_size_in_bytes", 0) for kind in ("argument", "temp")),
    )


def published(row: Row) -> Compiled:
    """The figures of MaxText that came with the row."""
    arguments, temporaries = (size * GIB for size in row.maxtext_gib)
    host = PUBLISHED_HOST.get((row.model, row.maxtext_remat), 0.0) * GIB
    return Compiled(arguments, temporaries, host, row.maxtext_seconds, published=True)


def _with_times(found: Compiled, ended: Ended) -> Compiled:
    return dataclasses.replace(found, seconds=ended.seconds, cpu_seconds=ended.cpu_seconds)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"


class Measurements:
    """Answers by key, each in a file as soon as it is there; a known one is not made again."""

    def __init__(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = JsonLines(path)
        self.file.cut(len(self.file.records))  # and a line that a kill cut off is gone
        self.known = {own["key"]: own for own in self.file.records}

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Take the records out of the file whose keys are ``gone``, to make them again."""
        stay = [own for own in self.file.records if not gone(own["key"])]
        self.file.cut(0)
        self.file.append(stay)
        self.known = {own["key"]: own for own in stay}

    def get(self, key: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The record of ``key``, made if there is none."""
        if key not in self.known:
            print(f"{key} ...", flush=True)
            record = {"key": key, **make()}
            self.file.append([record])
            self.known[key] = record
        return self.known[key]


def versions(python: str, packages: Sequence[str]) -> str:
    """What the interpreter ``python`` compiles with, in words.

    Raises:
      UserError: there is no such interpreter.
    """
    code = (
        "import importlib.metadata as m, platform, sys\n"
        "found = {d.name: d.version for d in m.distributions()}\n"
        "words = [f'{n} {found.get(n, \"not installed\")}' for n in sys.argv[1:]]\n"
        "print(', '.join([f'Python {platform.python_version()}', *words]))"
    )
    command = [python, "-c", code, *packages]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"{python} is no Python interpreter that runs ({error})") from None


def compiler_versions(python: str) -> str:
    """The same of jax and libtpu; the file that TPU_LIBRARY_PATH names goes before a package."""
    named = pathlib.Path(os.environ.get("TPU_LIBRARY_PATH", "/"))
    folders = list(named.parent.parent.glob("libtpu-*.dist-info")) if named.is_file() else []
    if not folders:
        return versions(python, ["jax", "libtpu"])
    own = folders[0].name.removeprefix("libtpu-").removesuffix(".dist-info")
    return f"{versions(python, ['jax'])}, libtpu {own}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as documents have it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def write_section(document: pathlib.Path, name: str, content: str) -> None:
    """Put ``content`` between the two comments of a document that carry ``name``.

    Raises:
      UserError: they are not there.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    head, found, rest = document.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise UserError(f"{document} has no place for {name}: {begin.strip()} and {end.strip()}")
    document.write_text(head + begin + "\n" + content + "\n" + end + tail)
