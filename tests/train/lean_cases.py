"""Short trainings of the tiny model, for the tests of memory-lean training."""

import dataclasses
import functools
from functools import partial

import jax
import numpy as np

from lilith.config import MeshConfig, OptimizerConfig
from lilith.model.presets import PRESETS
from lilith.sharding import make_mesh
from lilith.train.optimizer import make_optimizer
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import init_state, put_batch
from lilith.train.step import train_step

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
ROWS, LENGTH = 8, 32
MESH = (2, 2, 1, 2)  # data, fsdp, context, tensor


def rows(seed):
    """Rows of a Markov chain that a few steps can learn something of."""
    random = np.random.default_rng(seed)
    tokens = np.zeros((ROWS, LENGTH + 1), np.int32)
    tokens[:, 0] = random.integers(0, CONFIG.vocab, ROWS)
    for i in range(LENGTH):
        tokens[:, i + 1] = (3 * tokens[:, i] + random.integers(0, 3, ROWS)) % CONFIG.vocab
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segment_ids": np.ones((ROWS, LENGTH), np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
        "loss_mask": np.ones((ROWS, LENGTH), np.float32),
    }


@functools.cache
def make(seed=0, **fields):
    """The optimizer of a config with these fields; the same one each time, as is its step."""
    fields = {"learning_rate": 1e-2, "warmup_steps": 2} | fields
    return make_optimizer(OptimizerConfig(**fields), 20, seed)


def mesh_of(shape=None):
    """One device, or the mesh of a shape."""
    return make_mesh(MeshConfig(*(shape or ())), None if shape else jax.devices()[:1])


@functools.cache
def jitted(config, optimizer):
    """The step, which takes its state over as the trainer's does."""
    loss = partial(pretrain_loss, config=config, chunk=100)
    return jax.jit(partial(train_step, loss=loss, optimizer=optimizer, clip_norm=1.0),
                   donate_argnums=0)  # fmt: skip


def train(optimizer, steps, shape=None, state=None, **model):
    """The state after ``steps`` more steps of ``state`` (default: the first), and their losses."""
    config = dataclasses.replace(CONFIG, **model)
    mesh = mesh_of(shape)
    state = init_state(0, config, optimizer, mesh) if state is None else state
    losses = []
    with jax.set_mesh(mesh):
        start = int(state.step)
        for i in range(start, start + steps):
            state, figures = jitted(config, optimizer)(state, put_batch(rows(i), mesh))
            losses.append(float(figures["loss"]))
    return state, np.array(losses)


def assert_same_bits(a, b):
    """Every array of two trees is of one type and holds the same bytes."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
