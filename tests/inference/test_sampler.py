"""The sampler: the trainer's own distribution, rows that do not touch each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import MeshConfig, UserError
from lilith.inference.sampler import pad_prompts, sample
from lilith.inference.sampling import make_controls
from lilith.model.params import init_params, param_shardings
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward, unembed
from lilith.sharding import make_mesh

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 3, 2], [7]]


@pytest.fixture(scope="module")
def params():
    # Sharper than at the start, so that greedy choices are not near ties.
    return jax.tree.map(lambda x: 1.5 * x, init_params(0, CONFIG))


def draw(params, prompts=PROMPTS, seed=0, temperature=0.0, stop=(), rows=None, new_tokens=8):
    tokens, lengths = pad_prompts(prompts, bucket=16, rows=rows)
    return sample(
        params,
        tokens,
        lengths,
        make_controls(
            len(tokens),
            seeds=seed + np.arange(len(tokens)),
            temperature=temperature,
            stop_ids=stop,
        ),
        config=CONFIG,
        new_tokens=new_tokens,
    )


@jax.jit
def next_log_probs(params, row, length):
    hidden, _ = forward(params, row[None], CONFIG)
    return jax.nn.log_softmax(unembed(params, hidden, CONFIG)[0, length - 1])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_and_log_probs_are_the_trainers(params, temperature):
    samples = draw(params, temperature=temperature)
    for i, prompt in enumerate(PROMPTS):
        row = np.zeros(32, np.int32)
        row[: len(prompt)] = prompt
        for j in range(8):
            log_probs = next_log_probs(params, row, len(prompt) + j)
            token = int(samples.tokens_BN[i, j])
            if temperature == 0:
                assert token == int(jnp.argmax(log_probs))
            assert samples.log_probs_BN[i, j] == pytest.approx(float(log_probs[token]), abs=1e-4)
            row[len(prompt) + j] = token


def test_rows_do_not_touch_each_other_or_the_padding(params):
    together = draw(params)
    for i, prompt in enumerate(PROMPTS):
        alone = draw(params, [prompt], rows=3)
        np.testing.assert_array_equal(alone.tokens_BN[0], together.tokens_BN[i])


def test_a_row_ends_at_its_stop_token(params):
    free = draw(params)
    stop = int(free.tokens_BN[0, 3])
    stopped = draw(params, stop=(stop,))
    assert int(stopped.length_B[0]) == list(np.asarray(free.tokens_BN[0])).index(stop) + 1
    for row, before, length in zip(stopped.tokens_BN, free.tokens_BN, stopped.length_B):
        np.testing.assert_array_equal(row[:length], before[:length])
        assert not np.asarray(row[length:]).any()


def test_draws_follow_the_distribution(params):
    """The first token of many rows of one prompt, against its probabilities."""
    prompts = [[5, 6]] * 2000
    found = np.asarray(draw(params, prompts, temperature=1.0, new_tokens=1).tokens_BN[:, 0])
    row = np.zeros(32, np.int32)
    row[:2] = [5, 6]
    expected = np.exp(np.asarray(next_log_probs(params, row, 2), np.float64))
    counts = np.bincount(found, minlength=CONFIG.vocab)
    likely = expected > 0.01
    deviation = np.sqrt(2000 * expected * (1 - expected))
    assert (np.abs(counts - 2000 * expected)[likely] < 5 * deviation[likely]).all()
    other = draw(params, prompts, seed=5000, temperature=1.0, new_tokens=1).tokens_BN[:, 0]
    assert not np.array_equal(found, other)


def test_a_mesh_writes_the_same(params):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, param_shardings(CONFIG, mesh))
        found = draw(placed, rows=4)
    np.testing.assert_array_equal(np.asarray(found.tokens_BN)[:3], draw(params).tokens_BN)


def test_a_prompt_needs_a_token():
    for prompts in ([], [[1], []]):
        with pytest.raises(UserError, match="no tokens"):
            pad_prompts(prompts)
