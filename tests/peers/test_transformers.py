"""Side by side with Hugging Face transformers and torch on the same random weights, in float32."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from golden_cases import CASES, GOLDEN, lilith_logits, random_params, random_tokens

from lilith.config import OptimizerConfig
from lilith.train.optimizer import make_optimizer
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import Batch, state_from_params
from lilith.train.step import train_step

pytest.importorskip("torch", reason="the extra [peers] is not installed: run `make test-peers`")
pytest.importorskip(
    "transformers", reason="the extra [peers] is not installed: run `make test-peers`"
)

import torch
from make_golden_logits import golden_logits
from weights import peer_logits, to_model, to_state_dict

ROWS, LENGTH = 2, 100  # longer than one block of blocked attention, and no multiple of it
LEARNING_RATE, STEPS = 1e-3, 5
# Of the size of the smallest gradients, whose sign is rounding noise: Adam would make it a step.
EPSILON = 1e-6


def live_config(name, **changes):
    """A golden case, larger and with a rest of layers after whole periods of its pattern."""
    sizes = {"layers": 3, "d_model": 64, "d_ff": 112, "vocab": 300}
    return dataclasses.replace(CASES[name], **(sizes | changes))


def make_batch(tokens):
    """Inputs and next tokens of [rows, length + 1] ids, each row one document."""
    inputs = tokens[:, :-1]
    return Batch(
        tokens=inputs,
        targets=tokens[:, 1:],
        segment_ids=np.ones_like(inputs),
        positions=np.broadcast_to(np.arange(inputs.shape[1], dtype=np.int32), inputs.shape),
        loss_mask=np.ones(inputs.shape, np.float32),
    )


def peer_loss(model, tokens):
    """Mean next-token loss of [rows, length + 1] ids, as transformers computes it."""
    ids = torch.tensor(tokens, dtype=torch.long)
    return model(ids, labels=ids).loss


@pytest.mark.parametrize("name", CASES)
def test_logits(name):
    config = live_config(name)
    params, tokens = random_params(config), random_tokens(config, ROWS, LENGTH)
    expected = peer_logits(config, params, tokens)
    for implementation in ("auto", "reference"):
        chosen = dataclasses.replace(config, attention=implementation)
        found = lilith_logits(params, tokens, chosen)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=implementation)


@pytest.mark.parametrize("length", [1, 40, 128])
@pytest.mark.parametrize("name", ["linear", "llama3", "yarn", "yarn_own_factor"])
def test_logits_of_scaled_positions_at_other_lengths(name, length):
    config = live_config(name, layers=1)
    params, tokens = random_params(config), random_tokens(config, ROWS, length)
    found = lilith_logits(params, tokens, config)
    np.testing.assert_allclose(found, peer_logits(config, params, tokens), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients(name):
    config = live_config(name)
    params, tokens = random_params(config), random_tokens(config, ROWS, LENGTH + 1)

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1)
    def mean_loss(config, params, batch):
        sums = pretrain_loss(params, batch, config=config)
        return sums.objective / sums.weight

    model = to_model(config, params)
    expected = peer_loss(model, tokens)
    expected.backward()
    loss, gradients = mean_loss(config, params, make_batch(tokens))
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
    found = to_state_dict(config, gradients)
    theirs = dict(model.named_parameters())
    assert found.keys() == theirs.keys()
    for path, own in found.items():
        largest = theirs[path].grad.abs().max().item()
        assert largest > 1e-6, f"{path} has no gradient to compare"
        np.testing.assert_allclose(
            own / largest, theirs[path].grad / largest, rtol=0, atol=1e-5, err_msg=path
        )


def test_adamw_steps():
    """Clipping, moments with their correction, and decay of matrices alone, on q/k/v biases too."""
    config = live_config("qwen2", layers=2)
    params = random_params(config)
    tokens = [random_tokens(config, ROWS, 41, seed=i) for i in range(STEPS)]
    own = OptimizerConfig(
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.1,
        b1=0.9,
        b2=0.95,
        eps=EPSILON,
    )
    optimizer = make_optimizer(own, STEPS)
    step = jax.jit(
        functools.partial(
            train_step,
            loss=functools.partial(pretrain_loss, config=config),
            optimizer=optimizer,
            clip_norm=1.0,
        )
    )
    model = to_model(config, params)
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    peer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.95),
        eps=EPSILON,
    )
    state = state_from_params(params, optimizer)
    for rows in tokens:
        state, metrics = step(state, make_batch(rows))
        peer.zero_grad()
        peer_loss(model, rows).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        peer.step()
        assert norm > 1.0  # so that clipping is part of what is compared
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    theirs = dict(model.named_parameters())
    for path, found in to_state_dict(config, state.params).items():
        np.testing.assert_allclose(found, theirs[path].detach(), rtol=0, atol=1e-5, err_msg=path)


def test_the_golden_logits_can_be_made_again():
    made = golden_logits()
    with np.load(GOLDEN) as stored:
        assert set(stored) == {*made, "versions"}
        for name, expected in made.items():
            np.testing.assert_allclose(stored[name], expected, rtol=0, atol=2e-6, err_msg=name)
