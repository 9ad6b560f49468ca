"""The state that the checkpoint tests save, and the programs that they start and kill.

``loop DIRECTORY``: resume and save every step until killed.
``fill DIRECTORY``: save until the disk is full.
``save|restore|fail DIRECTORY DEVICES PROCESS PORT``: one of the two processes of a distributed run.
"""

from __future__ import annotations

import errno
import itertools
import os
import pathlib
import sys
import time
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from lilith.train import checkpoint_files
from lilith.train.checkpoint import Checkpointer, CheckpointError


class Moments(NamedTuple):
    count: Any
    mu: Any
    nu: Any


class Empty(NamedTuple):
    pass


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    opt_state: Any
    key: Any


def host_state(step: int, rows: int = 64) -> State:
    """Values that depend on the step alone; the bfloat16 ones are any bits, NaN payloads too."""
    rng = np.random.default_rng(step)
    w = rng.standard_normal((rows, 128), dtype=np.float32)
    w[0, :4] = [np.nan, -np.inf, -0.0, np.float32(1e-42)]
    bits = rng.integers(0, 2**16, (rows, 128), dtype=np.uint16)
    params = {"layers": {"w": w, "half": bits.view(ml_dtypes.bfloat16)}, "norm": w[1]}
    moments = Moments(
        count=np.int32(step), mu=jax.tree.map(np.copy, params), nu={"w": np.square(w[1:2])}
    )
    key = rng.integers(0, 2**32, 2, dtype=np.uint32)
    return State(step=np.int32(step), params=params, opt_state=(moments, Empty()), key=key)


def device_state(step: int, rows: int = 64) -> State:
    return jax.tree.map(jnp.asarray, host_state(step, rows))


def shardings(mesh: jax.sharding.Mesh, state: State) -> State:
    """Matrices split over the mesh's axes, everything else everywhere."""

    def of(leaf: Any) -> jax.sharding.NamedSharding:
        split = np.ndim(leaf) == 2 and len(leaf) % mesh.shape["rows"] == 0
        spec = jax.P("rows", "columns") if split else jax.P()
        return jax.sharding.NamedSharding(mesh, spec)

    return jax.tree.map(of, state)


def abstract(state: State, placed: State | None = None) -> State:
    if placed is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, placed
    )


def mesh_of(rows: int, columns: int) -> jax.sharding.Mesh:
    devices = np.array(jax.devices()[: rows * columns]).reshape(rows, columns)
    return jax.sharding.Mesh(devices, ("rows", "columns"))


def on_mesh(state: State, mesh: jax.sharding.Mesh) -> State:
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(np.shape(x), s, lambda index: x[index]),
        state,
        shardings(mesh, state),
    )


def assert_same_bits(actual: State, expected: State) -> None:
    """Every addressable shard holds the bits of its part of ``expected``."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert have.shape == want.shape
        assert have.dtype == want.dtype
        for shard in have.addressable_shards:
            assert np.asarray(shard.data).tobytes() == want[shard.index].tobytes()


def save(checkpointer: Checkpointer, step: int, state: Any, **options: Any) -> None:
    """Save with what a test that looks elsewhere need not say."""
    options = {"data_state": {"index": step}, "tokenizer_directory": None, **options}
    checkpointer.save(step, state, config_json='{"name": "test"}\n', **options)


def run_of(directory: pathlib.Path, *steps: int, keep: int = 10) -> None:
    """A run that saved these steps."""
    with Checkpointer(directory, keep=keep) as checkpointer:
        for step in steps:
            save(checkpointer, step, device_state(step))


def loop(directory: str) -> None:
    rows = 4096  # 6 MB in all
    print("ready", flush=True)
    sys.stdin.readline()
    checkpointer = Checkpointer(directory)
    first = 1
    if checkpointer.latest_step() is not None:
        restored = checkpointer.restore(abstract(host_state(0, rows)))
        assert not restored.warnings
        first = restored.step + 1
    for step in itertools.count(first):
        save(checkpointer, step, device_state(step, rows))
        checkpointer.wait()
        print("saved", step, flush=True)


def fill(directory: str) -> None:
    """Save 6 MB a step until the disk is full; say what we are told."""
    with Checkpointer(directory, keep=100) as checkpointer:
        try:
            for step in range(1, 100):
                save(checkpointer, step, device_state(step, 4096))
        except CheckpointError as error:
            print(error)
            time.sleep(1)  # for what comes late from other threads


def distributed(mode: str, directory: str, devices: str, process: str, port: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(devices))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(process), initialization_timeout=60)
    mesh = mesh_of(2, int(devices))
    with Checkpointer(directory, keep=1) as checkpointer:
        print(
            {"save": save_two, "restore": restore_one, "fail": fail_one}[mode](checkpointer, mesh)
        )


def save_two(checkpointer: Checkpointer, mesh: jax.sharding.Mesh) -> str:
    for step in (1, 2):
        save(checkpointer, step, on_mesh(host_state(step), mesh))
    checkpointer.wait()
    assert checkpointer.steps() == [2]
    return "done 2"


def restore_one(checkpointer: Checkpointer, mesh: jax.sharding.Mesh) -> str:
    like = abstract(host_state(0), shardings(mesh, host_state(0)))
    restored = checkpointer.restore(like)
    assert_same_bits(restored.state, host_state(restored.step))
    assert len(restored.warnings) == (1 if jax.process_index() == 0 else 0)
    save(checkpointer, 9, restored.state)
    return f"done {restored.step}"


def fail_one(checkpointer: Checkpointer, mesh: jax.sharding.Mesh) -> str:
    def no_room(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint_files.write_file = no_room  # only the first process writes files of ours
    save(checkpointer, 1, on_mesh(host_state(1), mesh))
    try:
        checkpointer.wait()
    except CheckpointError as error:
        return str(error)
    return "not noticed"


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    programs = {"loop": loop, "fill": fill}
    programs[mode](*arguments) if mode in programs else distributed(mode, *arguments)
