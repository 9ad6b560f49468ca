"""The command line in a process with one fault: ``python fault_child.py FAULT ARGUMENTS...``.

FAULT is ``hang:STEP`` (this process stops reading batches there), ``flip:STEP`` (a bit of its
weights changes), ``figures:STEP`` (it reads another loss than it has), ``crash:STEP`` (an exception
that nobody expects), ``code`` (a changed source file), ``batch`` (another config), ``blind`` (no
dataset is there) or ``text`` (one letter of the dataset is another).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import jax
import numpy as np

import experiments.host_facts
import experiments.loop
import experiments.run
import lilith.data.code
from lilith.train.state import TrainState


def flipped(state: TrainState) -> TrainState:
    """The state with one element of one weight changed, in this process's copies alone."""
    leaves, tree = jax.tree.flatten(state.params)
    wrong = []
    for shard in leaves[0].addressable_shards:
        piece = np.array(shard.data)
        piece.flat[0] += 1.0
        wrong.append(jax.device_put(piece, shard.device))
    leaves[0] = jax.make_array_from_single_device_arrays(leaves[0].shape, leaves[0].sharding, wrong)
    return state.replace(params=tree.unflatten(leaves))


def break_at(kind: str, step: int) -> None:
    """Make the loop of this process fail at ``step``."""
    loop: Any = experiments.loop._Loop
    note, look, compare = loop.note, loop.look, loop._compare

    def noted(self: Any, at: int, figures: Any) -> None:
        note(self, at, figures)
        if at == step and kind == "hang":
            time.sleep(3600)
        if at == step and kind == "crash":
            raise ZeroDivisionError("made by a test")

    def looked(self: Any, at: int, state: TrainState) -> None:
        look(self, at, flipped(state) if at >= step and kind == "flip" else state)

    def compared(self: Any, what: str, figures: dict[str, float], names: Any) -> None:
        wrong = {"loss": figures["loss"] + 1e-6} if what == f"step {step}" else {}
        compare(self, what, figures | (wrong if kind == "figures" else {}), names)

    loop.note, loop.look, loop._compare = noted, looked, compared


def main() -> int:
    fault, _, step = sys.argv[1].partition(":")
    if fault == "code":
        hashes = experiments.host_facts.code_hashes
        changed = {"lilith/train/step.py": "0123456789ab"}
        experiments.host_facts.code_hashes = lambda root: hashes(root) | changed
    elif fault == "blind":
        experiments.host_facts._seen = lambda path: experiments.host_facts.ABSENT
    elif fault == "text":
        os.environ["LILITH_CACHE"] += "_of_another_host"
        read = lilith.data.code.read_text
        lilith.data.code.read_text = lambda *file: str(read(*file)).replace("self", "salf")
    elif fault == "batch":
        sys.argv += ["--set", "train.batch=16"]
    else:
        break_at(fault, int(step))
    return experiments.run.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
