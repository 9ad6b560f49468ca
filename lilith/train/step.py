"""The pure training step: loss, gradients over micro-batches, clipping, update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lilith.train.layerwise import apply_gradients
from lilith.train.state import TrainState

# A loss gives (objective, nll, weight) sums over a batch, as losses.CrossEntropy, and may give a
# dict of more sums, its figures, as preferences.LossSums. It is called as loss(params, batch), with
# frozen= and key= where the step has them.
LossFunction = Callable[..., Any]
Metrics = dict[str, jax.Array]
_Sums = tuple[jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]


def train_step(
    state: TrainState,
    batch: Any,
    frozen: Any = None,
    *,
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    accumulation: int = 1,
    clip_norm: float = 0.0,
    seed: int | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of gradient descent on the mean loss over all of ``batch``.

    A step whose loss or gradient is not finite changes neither weights nor optimizer state; it is
    counted in ``bad_in_a_row`` and ``bad_total``.

    Args:
      batch: a tree of arrays whose first axis is the rows, or whatever else the loss reads.
      frozen: weights that the loss reads and nothing trains, such as the base below an adapter.
      accumulation: micro-batches; sums and gradients are added up over them, so the result is the
        full batch's, whatever each micro-batch weighs.
      clip_norm: the gradient's largest global norm; 0 for no clipping.
      seed: of the loss's random numbers, which depend on it, the step and the micro-batch alone;
        None for a loss that draws none.

    Returns:
      The next state, and float32 metrics ``loss`` (nats a token, or what the loss's weight
      counts), ``gradient_norm`` (before clipping), ``tokens`` (that weight: targets learned from),
      ``bad_in_a_row`` and ``bad_total``, and the mean of each of the loss's figures.
    """
    if frozen is not None:
        loss = partial(loss, frozen=frozen)
    key = None if seed is None else jax.random.fold_in(jax.random.key(seed), state.step)
    sums, gradients = _accumulated(state.params, batch, loss, accumulation, key)
    objective, nll, weight, figures = sums
    norm = optax.tree.norm(gradients) / weight
    finite = jnp.isfinite(objective) & jnp.isfinite(norm)
    clipped = jnp.minimum(1.0, clip_norm / norm) if clip_norm else 1.0
    params, opt_state = _updated(state, gradients, finite, clipped / weight, optimizer)
    bad = 1 - finite.astype(jnp.int32)
    state = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        bad_in_a_row=(state.bad_in_a_row + 1) * bad,
        bad_total=state.bad_total + bad,
    )
    return state, {name: total / weight for name, total in figures.items()} | {
        "loss": nll / weight,
        "gradient_norm": norm,
        "tokens": weight,
        "bad_in_a_row": state.bad_in_a_row,
        "bad_total": state.bad_total,
    }


def _updated(
    state: TrainState,
    gradients: Any,
    finite: jax.Array,
    factor: jax.Array,
    optimizer: optax.GradientTransformation,
) -> tuple[Any, Any]:
    """Weights and optimizer state after the gradients times ``factor``; the same if not finite."""

    def update(params: Any, opt_state: Any, gradients: Any) -> tuple[Any, Any]:
        return apply_gradients(optimizer, gradients, factor, opt_state, params)

    def skip(params: Any, opt_state: Any, gradients: Any) -> tuple[Any, Any]:
        return params, opt_state

    with jax.named_scope("optimizer"):
        return jax.lax.cond(finite, update, skip, state.params, state.opt_state, gradients)


def _accumulated(
    params: Any,
    batch: Any,
    loss: LossFunction,
    accumulation: int,
    key: jax.Array | None = None,
) -> tuple[_Sums, Any]:
    """Sums of the loss over the batch, and the gradient of the summed objective."""

    def value(params: Any, rows: Any, index: Any) -> tuple[jax.Array, _Sums]:
        drawn = {} if key is None else {"key": jax.random.fold_in(key, index)}
        objective, nll, weight, *figures = loss(params, rows, **drawn)
        return objective, (objective, nll, weight, figures[0] if figures else {})

    gradient = jax.grad(value, has_aux=True)
    if accumulation == 1:
        gradients, sums = gradient(params, batch, 0)
        return sums, gradients

    def split(x: jax.Array) -> jax.Array:
        # Rows are dealt out in turn, so that each device keeps its own.
        return x.reshape(x.shape[0] // accumulation, accumulation, *x.shape[1:]).swapaxes(0, 1)

    def add(carry: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        gradients, sums = gradient(params, *part)
        return jax.tree.map(jnp.add, carry, (sums, gradients)), None

    parts = (jax.tree.map(split, batch), jnp.arange(accumulation))
    _, sums = jax.eval_shape(lambda: gradient(params, *jax.tree.map(lambda x: x[0], parts)))
    zeros = jax.tree.map(lambda x: jnp.zeros((), x.dtype), sums)
    (sums, gradients), _ = jax.lax.scan(add, (zeros, jax.tree.map(jnp.zeros_like, params)), parts)
    return sums, gradients
