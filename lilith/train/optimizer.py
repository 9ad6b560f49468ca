"""Optimizers and schedules by config, built from optax."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from optax import contrib

from lilith.config import OptimizerConfig
from lilith.model.params import flatten
from lilith.train.layerwise import Layerwise
from lilith.train.moments import keep_state_in
from lilith.train.offload import keep_on_host
from lilith.train.rounding import round_stochastically

ELEMENTWISE = ("adamw", "lion")  # each weight's update needs nothing of another weight


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate of each step: a linear warm-up, then the shape that the config names.

    ``wsd`` (warm-up, stable, decay; Hu et al. 2024) holds the peak until the last
    ``decay_fraction`` of the run and then falls linearly.
    """
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    warmup = min(config.warmup_steps, steps)
    rest = max(steps - warmup, 1)
    if config.schedule == "constant":
        after: optax.Schedule = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, final, rest)
    else:
        decay = min(max(1, round(config.decay_fraction * steps)), rest)
        after = optax.linear_schedule(peak, final, decay, transition_begin=rest - decay)
    if warmup == 0:
        return after

    # The first step already learns: it is step 1 of the warm-up, not step 0.
    def schedule(count: jax.Array) -> jax.Array:
        rising = peak * (count + 1) / warmup
        return jnp.where(count < warmup, rising, after(count - warmup))

    return schedule


def decay_mask(params: Any, patterns: tuple[str, ...]) -> Any:
    """True for weights that decay: those whose path no pattern is found in."""
    flat = flatten(params)
    return traverse_util.unflatten_dict(
        {path: not any(re.search(p, path) for p in patterns) for path in flat}, sep="/"
    )


def make_optimizer(
    config: OptimizerConfig, steps: int, seed: int = 0
) -> optax.GradientTransformation:
    """The optimizer that turns clipped gradients into updates of the weights.

    Clipping by global norm is the training step's business, which has the norm at hand.

    Args:
      steps: of the schedule.
      seed: of the random numbers of stochastic rounding.

    Raises:
      ConfigError: from its ``init``, for stochastic rounding without bfloat16 weights.
    """
    schedule = make_schedule(config, steps)

    def mask(params: Any) -> Any:
        return decay_mask(params, config.no_decay)

    if config.name == "adamw":
        optimizer = optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=mask,
        )
    elif config.name == "lion":
        optimizer = optax.lion(
            schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=mask
        )
    else:
        # optax decays in its own way in each of these (not at all by the learning rate, or norms
        # too), so their directions are taken and the decay is one for all.
        optimizer = optax.chain(
            _direction(config),
            optax.scale(-1.0),
            optax.add_decayed_weights(config.weight_decay, mask),
            optax.scale_by_learning_rate(schedule),
        )
    optimizer = keep_state_in(optimizer, config.state_dtype)
    if config.rounding == "stochastic":
        optimizer = round_stochastically(optimizer, seed)
    optimizer = _under_automatic_sharding(optax.with_extra_args_support(optimizer))
    if config.offload:
        optimizer = keep_on_host(optimizer)
    # Without narrow or distant state the compiler makes nothing large on the way.
    costly = config.state_dtype == "int8" or config.offload
    return Layerwise(*optimizer) if costly and config.name in ELEMENTWISE else optimizer


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    """Updates of Adafactor or Muon at a learning rate of 1, without decay, already descending."""
    if config.name == "adafactor":
        return optax.adafactor(1.0, min_dim_size_to_factor=128, multiply_by_parameter_scale=False)
    return contrib.muon(
        1.0,
        beta=config.b2,
        adam_b1=config.b1,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=_muon_matrices,
        # The RMS of an AdamW update, so that one learning rate serves both kinds of weight
        # (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
        consistent_rms=0.2,
    )


def _muon_matrices(params: Any) -> Any:
    """Which axes of each weight are a matrix: every projection of a layer, one matrix a layer."""
    matrix = contrib.MuonDimensionNumbers
    shapes = {
        "q": matrix(reduction_axis=1, output_axis=(2, 3)),
        "k": matrix(reduction_axis=1, output_axis=(2, 3)),
        "v": matrix(reduction_axis=1, output_axis=(2, 3)),
        "o": matrix(reduction_axis=(1, 2), output_axis=3),
        "gate": matrix(reduction_axis=1, output_axis=2),
        "up": matrix(reduction_axis=1, output_axis=2),
        "down": matrix(reduction_axis=1, output_axis=2),
    }
    flat = flatten(params)
    return traverse_util.unflatten_dict(
        {path: shapes.get(path.rsplit("/", 1)[-1]) for path in flat}, sep="/"
    )


def _under_automatic_sharding(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Let the compiler lay out what happens inside the update; its results keep their layout.

    Muon's products contract sharded axes with each other, which explicit axes leave ambiguous.
    """

    def own(updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        return optimizer.update(updates, state, params, **extra)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if jax.sharding.get_abstract_mesh().empty:
            return own(updates, state, params, extra)
        layout = jax.tree.map(lambda leaf: jax.typeof(leaf).sharding, (updates, state))
        return jax.sharding.auto_axes(own, out_sharding=layout)(updates, state, params, extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
