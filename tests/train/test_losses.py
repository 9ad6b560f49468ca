"""The chunked cross-entropy against its definition: values, gradients, packing, memory, meshes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import MeshConfig
from lilith.model.params import init_params
from lilith.model.presets import PRESETS
from lilith.sharding import DEFAULT_RULES, make_mesh
from lilith.train.losses import cross_entropy
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import Batch

BATCH, LENGTH, WIDTH, VOCAB = 4, 30, 16, 48


def plain(hidden, table, targets, weights, z_loss=0.0, softcap=0.0):
    logits = hidden @ table.T
    logits = softcap * jnp.tanh(logits / softcap) if softcap else logits
    log_z = jax.nn.logsumexp(logits, -1)
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jnp.sum(weights * (log_z - chosen + z_loss * log_z**2))


def inputs(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    return (
        jax.random.normal(keys[0], (BATCH, LENGTH, WIDTH)),
        jax.random.normal(keys[1], (VOCAB, WIDTH)),
        jax.random.randint(keys[2], (BATCH, LENGTH), 0, VOCAB),
        jax.random.bernoulli(keys[3], 0.7, (BATCH, LENGTH)).astype(jnp.float32) * 1.5,
    )


def ours(hidden, table, targets, weights, **options):
    options = {"chunk": 7, "rules": DEFAULT_RULES} | options
    return cross_entropy(hidden, table, targets, weights, **options)


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("chunk", [7, 40, 1000])
def test_values_and_gradients_are_the_definitions(z_loss, softcap, chunk):
    hidden, table, targets, weights = inputs()
    options = {"z_loss": z_loss, "softcap": softcap}

    def objective(hidden, table):
        return 2.0 * ours(hidden, table, targets, weights, chunk=chunk, **options).objective

    def expected(hidden, table):
        return 2.0 * plain(hidden, table, targets, weights, **options)

    value, gradients = jax.jit(jax.value_and_grad(objective, (0, 1)))(hidden, table)
    true_value, true_gradients = jax.jit(jax.value_and_grad(expected, (0, 1)))(hidden, table)
    np.testing.assert_allclose(value, true_value, rtol=1e-6)
    for a, b in zip(gradients, true_gradients):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())
    sums = ours(hidden, table, targets, weights, chunk=chunk, **options)
    np.testing.assert_allclose(sums.objective, value / 2, rtol=1e-6)  # without gradients, too
    nll = plain(hidden, table, targets, weights, softcap=softcap)
    np.testing.assert_allclose(sums.nll, nll, rtol=1e-5)
    assert sums.weight == weights.sum()


@pytest.mark.parametrize("mesh", [(8, 1, 1, 1), (2, 2, 1, 2), (1, 2, 2, 2), (2, 1, 4, 1)])
def test_meshes_share_out_tokens_and_vocabulary(mesh):
    hidden, table, targets, weights = inputs()
    hidden, targets, weights = (jnp.concatenate([x, x]) for x in (hidden, targets, weights))

    def objective(hidden, table):
        return ours(hidden, table, targets, weights, z_loss=0.01).objective

    expected = jax.value_and_grad(objective, (0, 1))(hidden, table)
    with jax.set_mesh(make_mesh(MeshConfig(*mesh))):
        found = jax.jit(jax.value_and_grad(objective, (0, 1)))(hidden, table)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, atol=3e-6 * np.abs(b).max())


def test_bfloat16_hidden_states_keep_a_float32_sum():
    hidden, table, targets, weights = inputs()
    exact = ours(hidden, table, targets, weights)
    rounded = ours(hidden.astype(jnp.bfloat16), table, targets, weights)
    assert rounded.nll.dtype == jnp.float32
    np.testing.assert_allclose(rounded.nll, exact.nll, rtol=0.02)


def test_packed_rows_cost_what_their_documents_cost_alone():
    config = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
    params = init_params(0, config)
    documents = [
        np.random.default_rng(i).integers(0, 512, size) for i, size in enumerate((20, 33, 7))
    ]

    def row(parts, length=64):
        fields = {name: np.zeros((1, length), np.int32) for name in Batch.__dataclass_fields__}
        fields["loss_mask"] = np.zeros((1, length), np.float32)
        at = 0
        for number, part in enumerate(parts, 1):
            place = slice(at, at + len(part) - 1)
            fields["tokens"][0, place], fields["targets"][0, place] = part[:-1], part[1:]
            fields["segment_ids"][0, place] = number
            fields["positions"][0, place] = np.arange(len(part) - 1)
            fields["loss_mask"][0, place] = 1
            at += len(part) - 1
        return Batch(**fields)

    loss = jax.jit(partial(pretrain_loss, config=config))
    gradient = jax.jit(jax.grad(lambda p, batch: pretrain_loss(p, batch, config=config).objective))
    packed, alone = loss(params, row(documents)), [loss(params, row([d])) for d in documents]
    np.testing.assert_allclose(packed.nll, sum(one.nll for one in alone), rtol=1e-6)
    assert packed.weight == sum(one.weight for one in alone) == 57
    whole = gradient(params, row(documents))
    parts = [gradient(params, row([d])) for d in documents]
    for a, *b in zip(jax.tree.leaves(whole), *(jax.tree.leaves(part) for part in parts)):
        np.testing.assert_allclose(a, sum(b), atol=3e-6 * np.abs(a).max())


def test_memory_does_not_grow_with_batch_times_vocabulary():
    """Eight times the tokens, at a vocabulary of 49,152: the compiler's own count."""

    def temporaries(tokens):
        def step(hidden, table, targets, weights):
            return jax.grad(lambda h, t: ours(h, t, targets, weights, chunk=256).objective, (0, 1))(
                hidden, table
            )

        shapes = [(1, tokens, 64), (49_152, 64), (1, tokens), (1, tokens)]
        dtypes = [jnp.float32, jnp.float32, jnp.int32, jnp.float32]
        abstract = [jax.ShapeDtypeStruct(*both) for both in zip(shapes, dtypes)]
        return jax.jit(step).lower(*abstract).compile().memory_analysis().temp_size_in_bytes

    small, large = temporaries(1024), temporaries(8192)
    whole_logits = 8192 * 49_152 * 4
    assert large < whole_logits / 4
    assert large - small < (8192 - 1024) * (64 + 8) * 4 * 3  # hidden states, not logits
