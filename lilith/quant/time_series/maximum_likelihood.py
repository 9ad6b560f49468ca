"""Maximum likelihood for a handful of parameters: Newton's method and standard errors.

A model gives the log-density of each observation, ``log_densities(parameters [k], data) -> [T]``,
and a map from free coordinates in R^k to its parameters, so that every step stays where the model
is stationary. All of it goes through jit and vmap, and the estimate has a gradient in the data by
the implicit function theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

CONVERGED, NOT_CONVERGED, BOUNDARY, BAD_INPUT = 0, 1, 2, 3
STATUS = {
    CONVERGED: "converged",
    NOT_CONVERGED: "not converged: more iterations or a longer series are needed",
    BOUNDARY: "the likelihood is largest at the boundary of the stationary region, where standard "
    "errors do not exist",
    BAD_INPUT: "the data are constant, too few or not finite",
}
_TRIAL_STEPS = tuple(0.5**i for i in range(12))  # of Newton's step, tried side by side
_MOST_BLIND_STEPS = 5
_LONGEST_STEP = 4.0  # in free coordinates, which are logarithms and logits


class Estimate(NamedTuple):
    """A maximum of a likelihood, in the model's own parameters.

    Attributes:
      parameters: [k].
      log_likelihood: [].
      covariance: inverse of the observed information (minus the Hessian), [k, k].
      covariance_robust: sandwich of the inverse Hessian around the sum of the outer products of
        the scores (White, 1982; Bollerslev and Wooldridge, 1992), [k, k].
      decrement: g' |H|^-1 g at the end, twice what one more step would gain in log-likelihood, [].
      iterations: [].
      status: a key of STATUS, []. Where it is not 0 the covariances are NaN.
    """

    parameters: jax.Array
    log_likelihood: jax.Array
    covariance: jax.Array
    covariance_robust: jax.Array
    decrement: jax.Array
    iterations: jax.Array
    status: jax.Array


def maximize(
    log_densities: Callable[[jax.Array, Any], jax.Array],
    to_parameters: Callable[[jax.Array], jax.Array],
    starts: jax.Array,
    data: Any,
    *,
    is_interior: Callable[[jax.Array], jax.Array],
    most_iterations: int,
) -> Estimate:
    """The maximum reached from the best of ``starts`` [S, k], which are free coordinates.

    ``is_interior(parameters)`` says whether they are away from the boundary. ``data`` may be any
    pytree; a NaN in it gives NaN and the status 3.
    """

    def loss(free: jax.Array, data: Any) -> jax.Array:
        return -jnp.sum(log_densities(to_parameters(free), data))

    fixed = jax.lax.stop_gradient(data)
    starts = jax.lax.stop_gradient(starts)
    losses = jax.vmap(lambda start: loss(start, fixed))(starts)
    best = jnp.nanargmin(losses)
    found = _newton(lambda x: loss(x, fixed), starts[best], losses[best], most_iterations)

    # The scores give the estimate its derivative in the data, by the implicit function theorem:
    # one more Newton step, which moves it by rounding only, is -H^-1 d(gradient) / d(data).
    inverse = jax.lax.stop_gradient(_inverse(found.hessian))

    def densities_twice(free: jax.Array) -> tuple[jax.Array, jax.Array]:
        densities = log_densities(to_parameters(free), data)
        return densities, densities

    scores, densities = jax.jacfwd(densities_twice, has_aux=True)(found.free)  # [T, k], [T]
    free = found.free + inverse @ jnp.sum(scores, axis=0)
    parameters = to_parameters(free)

    known = jnp.isfinite(jnp.min(losses)) & jnp.isfinite(found.decrement)
    converged = found.decrement <= _tolerance(free.dtype)
    status = jnp.where(converged, CONVERGED, NOT_CONVERGED)
    status = jnp.where(is_interior(parameters), status, BOUNDARY)
    status = jnp.where(known, status, BAD_INPUT)
    plain, robust = _covariances(found.hessian, scores, jax.jacfwd(to_parameters)(free))
    valid = (status == CONVERGED) & (jnp.diagonal(plain) > 0).all()
    nothing = jnp.where(status == BAD_INPUT, jnp.nan, 0)
    return Estimate(
        parameters + nothing,
        jnp.sum(densities) + nothing,
        jnp.where(valid, plain, jnp.nan),
        jnp.where(valid, robust, jnp.nan),
        found.decrement,
        found.iterations,
        status,
    )


def _tolerance(dtype: Any) -> float:
    """Of the decrement: far below a standard error, above the rounding of the gradient."""
    return float(jnp.finfo(dtype).eps) ** 0.9


def _derivatives(
    loss: Callable[[jax.Array], jax.Array], free: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradient [k] and Hessian [k, k], forward over forward: k is small and T is long."""

    def gradient_twice(free: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient = jax.jacfwd(loss)(free)
        return gradient, gradient

    hessian, gradient = jax.jacfwd(gradient_twice, has_aux=True)(free)
    return gradient, hessian


def _inverse(hessian: jax.Array) -> jax.Array:
    """Inverse of the Hessian with its eigenvalues' signs taken off and the smallest raised.

    So a step always goes downhill, and a flat direction does not send it far away.
    """
    finite = jnp.isfinite(hessian).all()
    values, vectors = jnp.linalg.eigh(jnp.where(finite, hessian, 0))
    size = jnp.abs(values)
    size = jnp.maximum(size, jnp.finfo(size.dtype).eps ** 0.75 * jnp.max(size))
    size = jnp.where(finite & (size > 0), size, jnp.nan)
    return (vectors / size) @ vectors.T


class _Search(NamedTuple):
    free: jax.Array  # [k]
    loss: jax.Array
    hessian: jax.Array  # at free
    decrement: jax.Array  # at free
    iterations: jax.Array
    moved: jax.Array  # whether the last iteration found a lower point
    blind_steps: jax.Array  # steps too small for the loss to show


def _newton(
    loss: Callable[[jax.Array], jax.Array], start: jax.Array, value: jax.Array, most: int
) -> _Search:
    """The minimum from ``start`` [k], where the loss is ``value``, by at most ``most`` steps."""
    tolerance = _tolerance(start.dtype)
    # Below this gain the loss is rounding: a whole step is taken on the gradient's word. Inside,
    # one or two such steps end the search; at a boundary they would go on for ever.
    blind = 0.1 * float(jnp.finfo(start.dtype).eps) ** 0.5

    def step(state: _Search) -> _Search:
        gradient, hessian = _derivatives(loss, state.free)
        newton = -_inverse(hessian) @ gradient
        decrement = -gradient @ newton
        newton *= jnp.minimum(1, _LONGEST_STEP / jnp.maximum(jnp.linalg.norm(newton), 1e-30))
        trials = state.free + jnp.asarray(_TRIAL_STEPS, start.dtype)[:, None] * newton
        losses = jax.vmap(loss)(trials)
        losses = jnp.where(jnp.isnan(losses), jnp.inf, losses)
        best = jnp.where(decrement < blind, 0, jnp.argmin(losses))
        lower = (decrement < blind) | (losses[best] < state.loss)
        moved = lower & (decrement > tolerance)
        return _Search(
            jnp.where(moved, trials[best], state.free),
            jnp.where(moved, losses[best], state.loss),
            hessian,
            decrement,
            state.iterations + 1,
            moved,
            state.blind_steps + (decrement < blind),
        )

    def go_on(state: _Search) -> jax.Array:
        return state.moved & (state.iterations < most) & (state.blind_steps < _MOST_BLIND_STEPS)

    size = len(start)
    first = _Search(
        start,
        value,
        jnp.zeros((size, size), start.dtype),
        jnp.asarray(jnp.inf, start.dtype),
        jnp.asarray(0),
        jnp.asarray(True),
        jnp.asarray(0),
    )
    return jax.lax.while_loop(go_on, step, first)


def _covariances(
    hessian: jax.Array, scores: jax.Array, jacobian: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The two covariances of :class:`Estimate`, from those of the free coordinates.

    The gradient is zero there, so the parameters' are J C J' with their derivatives J.
    """
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0))
    spread = jnp.where(values > 0, values, jnp.nan)  # not a maximum: no covariance
    plain = (vectors / spread) @ vectors.T
    robust = plain @ (scores.T @ scores) @ plain
    return jacobian @ plain @ jacobian.T, jacobian @ robust @ jacobian.T
