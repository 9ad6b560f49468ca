"""How long a checkpoint of SmolLM2-135M's training state holds up training.

The state is the float32 parameters and AdamW's two moments, of random values. Beside it, the limit:
the same arrays written one after another by ``numpy.save`` with an fsync each, and read by
``numpy.load``. ``work while writing`` is the speed of matrix products during the background write,
as a share of their speed alone.

    python -m benchmarks.checkpoint [--repeats 5] [--preset smollm2-135m] [--directory DIR]
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import tempfile
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from lilith.config import OptimizerConfig
from lilith.model.presets import get_model_config
from lilith.train.checkpoint import Checkpointer
from lilith.train.optimizer import make_optimizer
from lilith.train.state import new_state


def random_state(preset: str) -> Any:
    """A training state of the preset's shape without a single regular value."""
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    shapes = jax.eval_shape(lambda: new_state(0, get_model_config(preset), optimizer))
    noise = np.random.default_rng(0).standard_normal(2**22, dtype=np.float32)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.array(np.resize(noise, leaf.shape), leaf.dtype)

    return jax.tree.map(fill, shapes)


def products_per_second(until: Any) -> float:
    """Speed of a matrix product that keeps every core busy, until ``until()`` is true."""
    product = jax.jit(lambda x: x @ x / 1024)
    x = jax.block_until_ready(product(jnp.ones((1024, 1024))))
    count, begin = 0, time.perf_counter()
    while not until():
        x = jax.block_until_ready(product(x))
        count += 1
    return count / (time.perf_counter() - begin)


def plain_save(folder: pathlib.Path, leaves: list[jax.Array]) -> None:
    for i, leaf in enumerate(leaves):
        with open(folder / f"{i}.npy", "wb") as file:
            np.save(file, np.asarray(leaf))
            file.flush()
            os.fsync(file.fileno())


def measure(state: Any, folder: pathlib.Path, repeats: int) -> dict[str, list[float]]:
    """Seconds (and shares) of each thing measured, the sides in turn."""
    leaves = jax.tree.leaves(state)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    found: dict[str, list[float]] = {}
    steps = itertools.count()

    def timed(name: str, call: Any) -> None:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        found.setdefault(name, []).append(time.perf_counter() - begin)

    with Checkpointer(folder / "checkpoints", keep=1) as checkpointer:

        def save() -> None:
            checkpointer.save(
                next(steps),
                state,
                data_state={},
                config_json="{}",
                tokenizer_directory=None,
            )

        for _ in range(repeats):
            timed("save() blocks", save)
            timed("then until committed", checkpointer.wait)
            timed("restore", lambda: checkpointer.restore(like).state)
            timed("numpy.save and fsync", lambda: plain_save(folder, leaves))
            timed("numpy.load", lambda: [np.load(folder / f"{i}.npy") for i in range(len(leaves))])
        deadline = time.perf_counter() + 3
        alone = products_per_second(lambda: time.perf_counter() > deadline)
        for _ in range(repeats):
            begin = time.perf_counter()
            save()
            busy = products_per_second(lambda: not checkpointer.saving())
            found.setdefault("write while working", []).append(time.perf_counter() - begin)
            checkpointer.wait()
            found.setdefault("work while writing", []).append(busy / alone)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--preset", default="smollm2-135m")
    parser.add_argument(
        "--directory", default=None, help="where to write; default: a temporary one"
    )
    options = parser.parse_args()
    state = random_state(options.preset)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        found = measure(state, pathlib.Path(folder), options.repeats)
    rows = []
    for name, values in found.items():
        middle = harness.median(values)
        speed = "" if name.startswith("work") else size / middle / 1e9
        rows.append([name, middle, min(values), max(values), speed])
    facts = {"bytes": size, **harness.machine("jax", "orbax-checkpoint", "numpy")}
    columns = ["what", "median (s, or share)", "least", "most", "GB/s"]
    harness.report("checkpoint", columns, rows, facts)


if __name__ == "__main__":
    main()
