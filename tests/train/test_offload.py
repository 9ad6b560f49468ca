"""State and activations in host memory: where they are, and that no bit changes."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lean_cases import CONFIG, MESH, assert_same_bits, jitted, make, mesh_of, rows, train

from lilith.config import ConfigError
from lilith.model.estimates import activation_bytes, tree_bytes
from lilith.model.params import init_params
from lilith.sharding import HOST_MEMORY
from lilith.train.checkpoint import Checkpointer
from lilith.train.offload import require_host_memory
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import Batch, abstract_state, init_state, put_batch

LEAN = {"state_dtype": "int8", "rounding": "stochastic", "offload": True}
WEIGHTS = {"param_dtype": "bfloat16", "remat": "offload"}
CONFIG_LEAN = dataclasses.replace(CONFIG, **WEIGHTS)


def kinds(tree):
    """Memory kinds of the large and of the small arrays."""
    leaves = jax.tree.leaves(tree)
    return [
        {leaf.sharding.memory_kind for leaf in leaves if (leaf.size >= 4096) is large}
        for large in (True, False)
    ]


@pytest.fixture(scope="module")
def lean():
    """An optimizer with every saving at once."""
    return make(seed=5, **LEAN)


def test_offloaded_state_gives_the_same_bits():
    (near, losses), (far, others) = (train(make(offload=offload), 3) for offload in (False, True))
    np.testing.assert_array_equal(others, losses)
    assert_same_bits(near.params, far.params)
    assert kinds(near.opt_state)[0] == {"device"}
    assert kinds(far.opt_state)[0] == {HOST_MEMORY}
    assert kinds(far.params)[0] == kinds(far.opt_state)[1] == {"device"}


def test_abstract_state_says_where_arrays_are_and_counts_device_memory(lean):
    mesh = mesh_of(MESH)
    target = abstract_state(CONFIG_LEAN, lean, mesh)
    state = init_state(0, CONFIG_LEAN, lean, mesh)
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(target)):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
        assert leaf.sharding.memory_kind == (wanted.sharding.memory_kind or "device")
    near = abstract_state(CONFIG_LEAN, make(state_dtype="int8"), mesh)
    assert tree_bytes(target.opt_state) < 0.2 * tree_bytes(near.opt_state)


def test_a_resumed_run_has_the_same_bits(lean, tmp_path):
    """int8 blocks, stochastic rounding and host memory at once, through a checkpoint's files."""
    whole, _ = train(lean, 4, MESH, **WEIGHTS)
    half, _ = train(lean, 2, MESH, **WEIGHTS)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(2, half, data_state={}, config_json="{}", tokenizer_directory=None)
        checkpointer.wait()
        restored = checkpointer.restore(abstract_state(CONFIG_LEAN, lean, mesh_of(MESH))).state
        alone = checkpointer.restore(abstract_state(CONFIG_LEAN, lean, mesh_of())).state
    assert_same_bits(restored, half)
    assert_same_bits(alone, half)
    assert kinds(restored.opt_state)[0] == {HOST_MEMORY}
    resumed, _ = train(lean, 2, MESH, state=restored, **WEIGHTS)
    assert_same_bits(resumed, whole)


def test_a_bad_step_changes_no_offloaded_state(lean):
    mesh = mesh_of(MESH)
    state = init_state(0, CONFIG_LEAN, lean, mesh)
    before = jax.tree.map(np.asarray, (state.params, state.opt_state))
    spoiled = rows(0)
    spoiled["loss_mask"][0, 0] = np.nan
    bad = put_batch(spoiled, mesh)
    with jax.set_mesh(mesh):
        after, figures = jitted(CONFIG_LEAN, lean)(state, bad)
    assert int(figures["bad_total"]) == 1
    assert_same_bits(jax.tree.map(np.asarray, (after.params, after.opt_state)), before)


def test_offloaded_activations_change_no_gradient_and_leave_the_device():
    params = init_params(0, CONFIG)
    batch = Batch(**{name: jnp.asarray(value) for name, value in rows(0).items()})

    def gradient(params, config):
        return jax.grad(lambda p: pretrain_loss(p, batch, config=config).objective)(params)

    compiled = jax.jit(gradient, static_argnums=1)
    found, expected = (
        compiled(params, dataclasses.replace(CONFIG, remat=remat)) for remat in ("offload", "none")
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max())

    def kept(remat):
        """Bytes that all layers keep, by memory: outputs of a scan that are stacked over layers."""
        config = dataclasses.replace(CONFIG, remat=remat, layers=7)
        traced = jax.jit(gradient, static_argnums=1).trace(init_params(0, config), config)
        forward = next(eqn for eqn in traced.jaxpr.eqns if eqn.primitive.name == "scan")
        sizes = {"Device": 0, "Host": 0}
        for var in forward.outvars:
            if var.aval.shape[:1] == (7,):
                sizes[var.aval.memory_space.name] += var.aval.size * var.aval.dtype.itemsize
        return sizes

    width = CONFIG.d_model + CONFIG.heads * CONFIG.key_dim
    assert kept("offload")["Host"] == 7 * batch.tokens.size * width * 4
    assert kept("offload")["Device"] < 0.05 * kept("attention")["Device"]
    assert kept("attention")["Host"] == 0


def test_offloaded_activations_are_not_counted_on_the_device():
    sizes = [
        activation_bytes(dataclasses.replace(CONFIG, remat=remat), 4, 128, {})
        for remat in ("full", "offload")
    ]
    assert sizes[1] == sizes[0] - 4 * 128 * CONFIG.layers * CONFIG.d_model * 4


def test_devices_without_host_memory_are_refused_in_one_sentence():
    require_host_memory(mesh_of(), remat="offload", offload=True)
    memories = [types.SimpleNamespace(kind="device")]
    device = types.SimpleNamespace(platform="abacus", addressable_memories=lambda: memories)
    mesh = types.SimpleNamespace(local_devices=[device])
    require_host_memory(mesh, remat="full", offload=False)
    for field, asked in (
        ("optimizer.offload is true", {"remat": "none", "offload": True}),
        ("remat is 'offload'", {"remat": "offload", "offload": False}),
    ):
        with pytest.raises(ConfigError, match=field) as caught:
            require_host_memory(mesh, **asked)
        assert "platform 'abacus' has only device; use" in str(caught.value)
