"""The stage that compiles a step for a TPU pod ahead of time and says what it would cost there."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

from experiments.compile_pod_config import CompilePodConfig
from experiments.config_kinds import require_kind
from experiments.pod_search import Search, summary
from experiments.pod_steps import Program, program_of
from experiments.stage import say, versions
from lilith.config import ConfigError, MeshConfig, UserError
from lilith.model.params import count_params
from lilith.pods.collectives import collectives
from lilith.pods.hlo import parse
from lilith.pods.placement import require_heads, require_split
from lilith.pods.report import GIB, PodReport, memory_by_kind, shape_words
from lilith.pods.roofline import roofline
from lilith.pods.topologies import Topology, compile_only_devices, get_topology, larger
from lilith.pods.traffic import hbm_traffic
from lilith.sharding import DEFAULT_RULES, ShardingError, ShardingRules, make_mesh
from lilith.train.metrics import write_atomically

MOST_TRIES = 8  # settings compiled in search of one that fits
# "... temporaries (213.54G) exceeds available HBM (15.75G)"; "Used 20.1G of 15.75G hbm".
_NEEDS = re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)")
_USED = re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DoesNotFit(UserError):
    """A step needs more memory than a device has; ``needed`` and ``available`` are bytes."""

    def __init__(self, needed: float, available: float) -> None:
        super().__init__(f"{needed / GIB:.2f} GiB are needed and {available / GIB:.2f} there are")
        self.needed, self.available = needed, available


def run(config: CompilePodConfig, workdir: pathlib.Path) -> int:
    """Compile, print the report, write it to ``report.json`` and return the exit code."""
    config = require_kind(config, CompilePodConfig, "compile_pod")
    compile_on_this_machine()
    if config.search:
        config, report = _searched(config, workdir)
    else:
        try:
            report = compile_step(config)
        except DoesNotFit as problem:
            raise UserError(_does_not_fit(config, problem)) from None
    print("\n".join(report.lines()), flush=True)
    workdir.mkdir(parents=True, exist_ok=True)
    whole = {"model": dataclasses.asdict(config.model), **report.to_dict(), "versions": versions()}
    write_atomically(workdir / "report.json", json.dumps(whole, indent=2) + "\n")
    print(f"report: {workdir / 'report.json'}")
    return 0


def _searched(
    config: CompilePodConfig, workdir: pathlib.Path
) -> tuple[CompilePodConfig, PodReport]:
    """The fastest setting that fits, and its report; ``search.json`` has all that was tried."""
    show = partial(say, shows=True)
    search = Search(config, compile_step, (DoesNotFit,), workdir / "search.jsonl", show)
    best = search.run()
    if not best.speed:
        why = next((own.why for own in search.known.values() if own.why), "nothing was tried")
        raise UserError(
            f"none of {len(search.known)} settings fits on "
            f"{get_topology(config.topology, config.slices)}; the first: {why}; use a smaller "
            "model, a larger topology or a shorter length"
        )
    chosen = search.best_config
    report = search.report or compile_step(chosen)  # known from an earlier run
    found = summary(search, report)
    write_atomically(workdir / "search.json", json.dumps(found, indent=2) + "\n")
    reached = len(search.known) >= config.search_limit
    more = f"; search_limit={config.search_limit} ended the search" if reached else ""
    print(f"\nbest of {len(search.known)}: --set {best.words}{more}\n", flush=True)
    return chosen, report


def dry_run(config: CompilePodConfig) -> int:
    """Print what each device would hold, without the compiler."""
    config = require_kind(config, CompilePodConfig, "compile_pod")
    compile_on_this_machine()
    topology, mesh, program = _prepare(config, DEFAULT_RULES)
    print(f"{config.step} on {topology}: {count_params(config.model):,} parameters")
    for kind, size in (*program.argument_bytes().items(), ("activations", program.activations)):
        print(f"{kind:<16}{size / GIB:8.2f} GiB a device")
    capacity = topology.chip.hbm_bytes / topology.chip.devices
    print(f"of {capacity / GIB:.2f} GiB on the mesh {shape_words(mesh.shape)}")
    return 0


def compile_on_this_machine() -> None:
    """Keep jax off accelerators, which nothing here runs on, and off its compilation cache."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


def compile_step(config: CompilePodConfig, rules: ShardingRules = DEFAULT_RULES) -> PodReport:
    """Compile the step of ``config`` for its topology and read what came out.

    Raises:
      DoesNotFit: the compiler finds too little memory.
      ShardingError, ConfigError: a topology, mesh, model or batch that do not go together, or a
        large tensor that is not split.
    """
    topology, mesh, program = _prepare(config, rules)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        lowered = program.lower()
        compiled = _compiled(lowered, config)
    seconds = time.perf_counter() - began
    if config.check:
        outputs = program.outputs(compiled.output_shardings)
        for kind, shardings in outputs.items():
            require_split(program.arguments[kind], kind, shardings)
    module = parse(compiled.as_text())
    found = collectives(module, mesh.shape, program.turns)
    traffic = hbm_traffic(module, program.turns)
    chip = topology.chip
    memory = memory_by_kind(
        compiled.memory_analysis(),
        program.argument_bytes(),
        program.activations,
        chip.hbm_bytes / chip.devices,
    )
    if config.check and not memory.fits:
        raise DoesNotFit(memory.used, memory.capacity)
    rows = round(config.batch * topology.devices)
    return PodReport(
        step=config.step,
        topology=topology,
        mesh=dict(mesh.shape),
        rows=rows,
        length=config.row_length,
        remat=config.model.remat,
        parameters=count_params(config.model),
        memory=memory,
        found=found,
        flops=program.flops,
        traffic=traffic,
        roofline=roofline(topology, program.flops, traffic, found),
        compile_seconds=seconds,
        tokens=program.tokens,
        least_traffic=program.least_traffic,
    )


def _prepare(
    config: CompilePodConfig, rules: ShardingRules
) -> tuple[Topology, jax.sharding.Mesh, Program]:
    """The topology, its mesh and the step, all checked before anything is compiled."""
    topology = get_topology(config.topology, config.slices)
    sizes = config.mesh
    if config.slices > 1 and sizes.data == 1:
        sizes = dataclasses.replace(sizes, data=config.slices)
    require_heads(config.model, max(sizes.tensor, 1))
    mesh = make_mesh(sizes, compile_only_devices(topology))
    program = program_of(config, mesh, rules)
    if config.check:
        for kind in ("weights", "base", "optimizer"):
            if kind in program.arguments:
                require_split(program.arguments[kind], kind)
    return topology, mesh, program


def _compiled(lowered: Any, config: CompilePodConfig) -> Any:
    options = dict(option.split("=", 1) for option in config.xla)
    try:
        return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        found = _NEEDS.search(text) or _USED.search(text)
        if found is None:
            given = [*config.xla]
            if config.overlap and config.step == "train":
                given.append("those of lilith/pods/overlap_flags.py (overlap=false: without them)")
            if given and ("option" in text or "flag" in text):
                raise ConfigError(
                    f"the TPU compiler refuses the options {', '.join(given)}: "
                    f"{text.splitlines()[0]}"
                ) from None
            raise
        needed, unit, available, own_unit = found.groups()
        raise DoesNotFit(
            float(needed) * _UNITS[unit], float(available) * _UNITS[own_unit]
        ) from None


def _does_not_fit(config: CompilePodConfig, problem: DoesNotFit) -> str:
    """The sentence that says by how much, and the nearest setting that was compiled and fits."""
    excess = problem.needed - problem.available
    said = (
        f"the {config.step} step does not fit on {get_topology(config.topology, config.slices)}: "
        f"a device needs {problem.needed / GIB:.2f} GiB at least and has "
        f"{problem.available / GIB:.2f}, {excess / GIB:.2f} GiB too little"
    )
    print(f"{said}; looking for the nearest setting that fits", flush=True)
    for tried, (words, candidate) in enumerate(nearer_settings(config)):
        if tried == MOST_TRIES:
            break
        print(f"  trying {words}", flush=True)
        try:
            report = compile_step(candidate)
        except (DoesNotFit, ShardingError, ConfigError):
            continue
        used = report.memory.used / GIB
        return f"{said}; it fits with {words} ({used:.2f} GiB)"
    return f"{said}; none of the {MOST_TRIES} nearest settings fits: use a smaller model"


def nearer_settings(config: CompilePodConfig) -> Iterator[tuple[str, CompilePodConfig]]:
    """Settings that need less memory, in words and as configs, the smallest changes first.

    One change first (more recomputation, fewer rows), then both, then more chips.
    """
    full = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="full"))
    recomputes = config.step == "train" and config.model.remat != "full"
    if recomputes:
        yield "model.remat=full", full
    halves = [config.batch / 2, config.batch / 4]
    for batch in halves:
        yield f"batch={batch:g}", dataclasses.replace(config, batch=batch)
    if recomputes:
        for batch in halves:
            words = f"model.remat=full batch={batch:g}"
            yield words, dataclasses.replace(full, batch=batch)
    topology = larger(get_topology(config.topology, config.slices))
    while topology is not None:
        free = dataclasses.replace(full, topology=topology.name, mesh=_stretched(config.mesh))
        words = f"topology={topology.name}" + (" model.remat=full" if recomputes else "")
        yield words, free
        topology = larger(topology)


def _stretched(mesh: MeshConfig) -> MeshConfig:
    """The same mesh with as much of ``fsdp`` as a larger topology gives."""
    sizes = dataclasses.asdict(mesh)
    return dataclasses.replace(mesh, fsdp=-1) if -1 not in sizes.values() else mesh
