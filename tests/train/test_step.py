"""The training step: golden numbers, accumulation, bad steps, meshes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lilith.config import MeshConfig, OptimizerConfig
from lilith.model.params import flatten, init_params
from lilith.model.presets import PRESETS
from lilith.sharding import make_mesh
from lilith.train.optimizer import make_optimizer
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import abstract_state, init_state, put_batch, state_from_params
from lilith.train.step import _accumulated, train_step

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
OPTIMIZER = make_optimizer(
    OptimizerConfig(learning_rate=1e-2, schedule="cosine", warmup_steps=2), 20
)
LOSS = partial(pretrain_loss, config=CONFIG, z_loss=1e-4, chunk=100)
ROWS, LENGTH = 8, 64

# Loss before the step, gradient RMS of that step and parameter RMS after it, by
# `python tests/train/test_step.py`; they change only when the mathematics does.
GOLDEN = {
    1: {"loss": 6.7366576, "gradient_rms": 0.00201482929, "param_rms": 0.469205541},
    10: {"loss": 4.3387823, "gradient_rms": 0.00193330137, "param_rms": 0.466367340},
}


def rows(seed=0, count=ROWS):
    """Packed rows of a Markov chain, which ten steps can learn something of."""
    random = np.random.default_rng(seed)
    tokens = np.zeros((count, LENGTH + 1), np.int32)
    tokens[:, 0] = random.integers(0, CONFIG.vocab, count)
    for i in range(LENGTH):
        tokens[:, i + 1] = (3 * tokens[:, i] + random.integers(0, 3, count)) % CONFIG.vocab
    cut = random.integers(1, LENGTH, count)[:, None]
    after = np.arange(LENGTH) >= cut
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segment_ids": (1 + after).astype(np.int32),
        "positions": np.where(after, np.arange(LENGTH) - cut, np.arange(LENGTH)).astype(np.int32),
        "loss_mask": (random.random((count, LENGTH)) < 0.9).astype(np.float32),
    }


def train(steps, mesh=None, accumulation=1, optimizer=OPTIMIZER, clip_norm=1.0, config=CONFIG):
    """States and figures of the first ``steps`` steps."""
    mesh = make_mesh(mesh or MeshConfig(), None if mesh else jax.devices()[:1])
    state = init_state(0, config, optimizer, mesh)
    step = jax.jit(
        partial(
            train_step, loss=LOSS, optimizer=optimizer, accumulation=accumulation,
            clip_norm=clip_norm,
        )
    )  # fmt: skip
    states, figures = [state], []
    with jax.set_mesh(mesh):
        for i in range(steps):
            state, metrics = step(state, put_batch(rows(i), mesh))
            states.append(state)
            figures.append({name: float(value) for name, value in metrics.items()})
    return states, figures


@pytest.fixture(scope="module")
def alone():
    """Ten steps on one device."""
    return train(10)


def rms(tree):
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return float(np.sqrt(sum((x**2).sum() for x in leaves) / sum(x.size for x in leaves)))


def golden(alone):
    states, figures = alone
    count = sum(leaf.size for leaf in jax.tree.leaves(states[0].params))
    return {
        step: {
            "loss": figures[step - 1]["loss"],
            "gradient_rms": figures[step - 1]["gradient_norm"] / np.sqrt(count),
            "param_rms": rms(states[step].params),
        }
        for step in GOLDEN
    }


@pytest.mark.parametrize("step", GOLDEN)
def test_golden_steps(alone, step):
    found = golden(alone)[step]
    for name, value in GOLDEN[step].items():
        # Other processors round otherwise, and ten steps of AdamW spread that.
        assert found[name] == pytest.approx(value, rel=1e-5 if step == 1 else 1e-4), name


def test_training_learns(alone):
    losses = [figure["loss"] for figure in alone[1]]
    assert losses[-1] < losses[0] - 0.5
    assert [int(state.step) for state in alone[0]] == list(range(11))


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulated_micro_batches_equal_the_full_batch(alone, accumulation):
    """Though their masks give them different weights."""
    states, figures = train(3, accumulation=accumulation)
    for mine, whole in zip(figures, alone[1]):
        assert mine["loss"] == pytest.approx(whole["loss"], rel=1e-6)
        assert mine["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=2e-6)
        assert mine["tokens"] == whole["tokens"]
    for (path, a), b in zip(flatten(states[1].params).items(), jax.tree.leaves(alone[0][1].params)):
        # AdamW's first step is a sign where the gradient is tiny, so a few may turn.
        different = np.abs(np.asarray(a) - np.asarray(b)) > 1e-6
        assert different.mean() < 1e-3, path


def test_gradients_of_micro_batches_add_up_exactly():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    batch = put_batch(rows(), mesh)
    with jax.set_mesh(mesh):
        params = jax.device_put(init_params(0, CONFIG), jax.sharding.NamedSharding(mesh, jax.P()))
        sums = jax.jit(_accumulated, static_argnums=(2, 3))
        whole, parts = (sums(params, batch, LOSS, count) for count in (1, 4))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
        np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("mesh", [(8, 1, 1, 1), (1, 8, 1, 1), (2, 2, 1, 2), (2, 1, 2, 2)], ids=str)
def test_meshes_train_as_one_device_does(alone, mesh):
    """(data, fsdp, context, tensor)."""
    states, figures = train(3, MeshConfig(*mesh))
    for mine, whole in zip(figures, alone[1]):
        assert mine["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert mine["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-4)
    target = abstract_state(CONFIG, OPTIMIZER, make_mesh(MeshConfig(*mesh)))
    for leaf, wanted in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(target)):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_fully_sharded_state_is_split_over_the_devices():
    target = abstract_state(CONFIG, OPTIMIZER, make_mesh(MeshConfig(fsdp=8)))
    for tree in (target.params, target.opt_state):
        held = sum(np.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))
        whole = sum(np.prod(x.shape) for x in jax.tree.leaves(tree))
        assert held < whole / 7


@pytest.mark.parametrize("name", ["muon", "adafactor", "lion"])
def test_other_optimizers_train_the_same_on_a_mesh(name):
    optimizer = make_optimizer(OptimizerConfig(name=name, warmup_steps=0, learning_rate=1e-3), 20)
    one = train(3, optimizer=optimizer)[1]
    many = train(3, MeshConfig(2, 2, 1, 2), optimizer=optimizer)[1]
    for a, b in zip(one, many):
        assert a["loss"] == pytest.approx(b["loss"], rel=3e-5)
    assert one[-1]["loss"] < one[0]["loss"]


def test_a_bad_step_changes_nothing_and_is_counted():
    params = init_params(0, CONFIG)
    state = state_from_params(params, OPTIMIZER)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    good = put_batch(rows(), mesh)
    bad = good.replace(loss_mask=good.loss_mask.at[0, 0].set(jnp.nan))
    step = jax.jit(partial(train_step, loss=LOSS, optimizer=OPTIMIZER, clip_norm=1.0))
    first, _ = step(state, good)
    counts = []
    after = first
    for batch in (bad, bad):
        after, figures = step(after, batch)
        counts.append((int(figures["bad_in_a_row"]), int(figures["bad_total"])))
    assert counts == [(1, 1), (2, 2)]
    assert int(after.step) == 3
    for a, b in zip(*(jax.tree.leaves((s.params, s.opt_state)) for s in (first, after))):
        np.testing.assert_array_equal(a, b)
    after, figures = step(after, good)
    assert (int(figures["bad_in_a_row"]), int(figures["bad_total"])) == (0, 2)
    assert not np.array_equal(after.params["embedding"], first.params["embedding"])


def test_clipping_scales_the_gradient_to_its_bound():
    sgd = make_optimizer(
        OptimizerConfig(name="lion", b1=0.0, b2=0.0, learning_rate=1e-3, warmup_steps=0), 10
    )
    free, bound = (train(1, optimizer=sgd, clip_norm=norm)[0][1] for norm in (0.0, 1e-3))
    # Lion's momentum with b2 = 0 is the gradient it was given.
    momentum = [float(optax.tree.norm(state.opt_state[0].mu)) for state in (free, bound)]
    assert momentum[0] > 0.1
    assert momentum[1] == pytest.approx(1e-3, rel=1e-4)


def test_bfloat16_compute_keeps_float32_weights():
    config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    mesh = make_mesh(MeshConfig(fsdp=8))
    loss = partial(pretrain_loss, config=config)
    with jax.set_mesh(mesh):
        state = init_state(0, config, OPTIMIZER, mesh)
        step = jax.jit(partial(train_step, loss=loss, optimizer=OPTIMIZER))
        state, figures = step(state, put_batch(rows(), mesh))
        gathered = step.lower(state, put_batch(rows(), mesh)).as_text()
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert float(figures["loss"]) == pytest.approx(train(1)[1][0]["loss"], rel=2e-3)
    assert "bf16" in gathered


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print(golden(train(10)))


@pytest.mark.parametrize("accumulation", [1, 3])
def test_figures_of_a_loss_are_added_up_and_reported_as_means(accumulation):
    """A batch may be any tree of rows; the figures are those of the whole, whatever the pieces."""

    def loss(params, batch):
        sums = jnp.sum(batch["weight"] * batch["x"])
        figures = {"x": sums, "square": jnp.sum(batch["weight"] * batch["x"] ** 2)}
        return params["w"] * sums, sums, jnp.sum(batch["weight"]), figures

    optimizer = optax.sgd(0.1)
    state = state_from_params({"w": jnp.array(2.0)}, optimizer)
    batch = {"x": jnp.array([1.0, 2, 3, 4, 5, 6]), "weight": jnp.array([1.0, 1, 1, 1, 1, 0])}
    state, metrics = train_step(
        state, batch, loss=loss, optimizer=optimizer, accumulation=accumulation
    )
    assert {name: float(metrics[name]) for name in ("loss", "tokens", "x", "square")} == {
        "loss": 3, "tokens": 5, "x": 3, "square": 11,
    }  # fmt: skip
    assert float(state.params["w"]) == pytest.approx(2 - 0.1 * 3)
