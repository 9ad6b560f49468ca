"""The quadratic programs: optimal, certified, infeasible by name, differentiable, batched."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from portfolio_cases import market, quick_jit
from scipy.optimize import minimize

from lilith.quant.portfolio import STATUS, Limits, condition_number, quadratic_program
from lilith.quant.portfolio.active_set import newton, pieces_of
from lilith.quant.portfolio.interior_point import interior_point
from lilith.quant.portfolio.quadratic import assemble
from lilith.quant.portfolio.solver import optimum
from lilith.quant.portfolio.spectrum import extreme_eigenvalues

N = 6
HELD = np.array([0.3, 0.0, 0.1, 0.2, 0.4, 0.0])
GROUPS = np.array([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
CASES = {
    "long only": Limits(),
    "boxes": Limits(lower=0.05, upper=np.array([0.2, 0.3, 0.4, 0.2, 0.3, 0.5])),
    "shorts": Limits(lower=-0.3, upper=0.8),
    "free": Limits(lower=None),
    "one bound infinite": Limits(lower=np.array([0.0, -np.inf, 0, 0, -np.inf, 0])),
    "one weight fixed": Limits(np.array([0.25, 0, 0, 0, 0, 0]), np.array([0.25, 1, 1, 1, 1, 1])),
    "groups": Limits(groups=GROUPS, group_lower=0.2, group_upper=np.array([0.3, np.inf])),
    "group fixed": Limits(groups=GROUPS, group_lower=0.4, group_upper=0.4),
    "turnover": Limits(previous=HELD, turnover=0.3),
    "turnover, boxes, groups": Limits(
        lower=0.02, upper=0.5, groups=GROUPS, group_lower=0.1, group_upper=0.6,
        previous=HELD, turnover=0.5,
    ),
    "no trade": Limits(previous=HELD, turnover=0.0),
}  # fmt: skip


def slow(p: np.ndarray, q: np.ndarray, limits: Limits) -> float:
    """The least objective by SLSQP, with x = HELD + buys - sells under a turnover limit."""
    n = len(q)
    split = limits.turnover is not None
    held = HELD if split else np.zeros(n)

    def weights(z: np.ndarray) -> np.ndarray:
        return held + z[:n] - z[n:] if split else z

    def objective(z: np.ndarray) -> float:
        x = weights(z)
        return 0.5 * x @ p @ x + q @ x

    def each(bound, otherwise):
        return np.broadcast_to(otherwise if bound is None else bound, n)

    low, high = each(limits.lower, -np.inf), each(limits.upper, np.inf)
    kinds = [{"type": "eq", "fun": lambda z: weights(z).sum() - 1.0}]
    for i in range(n):
        if np.isfinite(low[i]):
            kinds.append({"type": "ineq", "fun": lambda z, i=i: weights(z)[i] - low[i]})
        if np.isfinite(high[i]):
            kinds.append({"type": "ineq", "fun": lambda z, i=i: high[i] - weights(z)[i]})
    if limits.groups is not None:
        least = np.broadcast_to(limits.group_lower, 2)
        most = np.broadcast_to(limits.group_upper, 2)
        for row, a, b in zip(limits.groups, least, most):
            kinds.append({"type": "ineq", "fun": lambda z, r=row, a=a: r @ weights(z) - a})
            if np.isfinite(b):
                kinds.append({"type": "ineq", "fun": lambda z, r=row, b=b: b - r @ weights(z)})
    bounds = None
    start = np.full(n, 1.0 / n)
    if split:
        kinds.append({"type": "ineq", "fun": lambda z: limits.turnover - z.sum()})
        bounds, start = [(0, None)] * (2 * n), np.full(2 * n, 0.01)
    found = minimize(
        objective, start, method="SLSQP", bounds=bounds, constraints=kinds,
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert found.success, found.message
    return float(found.fun)


@pytest.mark.parametrize("name", CASES)
def test_optimal_to_rounding_and_no_worse_than_slsqp(name: str) -> None:
    limits = CASES[name]
    for seed in range(3):
        mean, p = market(N, seed)
        answer = quadratic_program(p, -mean, limits)
        x = answer.x
        assert STATUS[int(answer.status)] == "converged"
        assert answer.residual < 1e-13
        assert abs(x.sum() - 1) < 1e-14
        for bound, sign in ((limits.lower, 1), (limits.upper, -1)):
            if bound is not None:
                assert (sign * (x - bound) >= 0).all()
        if limits.groups is not None:
            sums = limits.groups @ x
            assert (sums >= np.asarray(limits.group_lower) - 1e-14).all()
            assert (sums <= np.asarray(limits.group_upper) + 1e-14).all()
        if limits.turnover is not None:
            assert np.abs(x - HELD).sum() <= limits.turnover + 1e-14
        value = 0.5 * x @ p @ x - mean @ x
        if name != "no trade":  # SLSQP has no interior there
            assert value <= slow(p, -mean, limits) + 1e-9
        else:
            np.testing.assert_array_equal(x, HELD)


def test_multipliers_are_the_prices_of_the_equalities() -> None:
    _, p = market(N, 1)
    rows = np.stack([np.ones(N), np.arange(N) / N])
    answer = quadratic_program(p, np.zeros(N), Limits(lower=None), rows, np.array([1.0, 0.6]))
    kkt = np.block([[p, -rows.T], [rows, np.zeros((2, 2))]])
    truth = np.linalg.solve(kkt, np.concatenate([np.zeros(N), [1.0, 0.6]]))
    np.testing.assert_allclose(answer.x, truth[:N], rtol=1e-12)
    np.testing.assert_allclose(answer.multipliers, truth[N:], rtol=1e-12)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(lower=0.2),
        Limits(lower=0.0, upper=0.1),
        Limits(groups=GROUPS, group_lower=np.array([0.7, 0.6])),
        Limits(lower=0.0, upper=0.3, previous=np.eye(N)[0], turnover=0.2),
    ],
    ids=["lower bounds", "upper bounds", "groups", "turnover"],
)
def test_infeasible_limits_have_a_certificate(limits: Limits) -> None:
    mean, p = market(N, 2)
    answer = quadratic_program(p, -mean, limits)
    assert STATUS[int(answer.status)] == "infeasible"
    assert np.isnan(answer.x).all()


def test_an_objective_without_end_is_unbounded() -> None:
    answer = quadratic_program(np.zeros((N, N)), np.arange(N) * 1.0, Limits(lower=None))
    assert STATUS[int(answer.status)] == "unbounded"


def test_a_singular_quadratic_term_is_solved() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3, N))
    answer = quadratic_program(x.T @ x, np.zeros(N), Limits())
    assert STATUS[int(answer.status)] == "converged"
    assert answer.residual < 1e-13


def _program(limits: Limits, seed: int = 0):
    mean, p = market(N, seed)
    numbers = jax.tree.map(jnp.asarray, limits)
    return assemble(jnp.asarray(p), -jnp.asarray(mean), numbers, jnp.ones((1, N)), jnp.ones(1))[0]


def test_the_interior_point_and_the_active_set_agree() -> None:
    with jax.enable_x64(True):
        program = _program(CASES["turnover, boxes, groups"])

        @quick_jit
        def inside(program):
            point, sure, _, impossible = interior_point(program, jnp.asarray(True), 1e-9)
            pieces, residual, _, _ = pieces_of(program, point)
            polished, _, best, _ = newton(program, point, pieces, 2e-15)
            return point.x, sure, impossible, residual, polished.x, best

        x, sure, impossible, residual, polished, best = inside(program)
        truth = quick_jit(lambda own: optimum(own, True))(program).x
    assert sure
    assert not impossible
    assert float(residual) < 1e-5
    np.testing.assert_allclose(x, truth, atol=1e-5)
    assert float(best) < 1e-14
    np.testing.assert_allclose(polished, truth, atol=1e-13)


def test_gradients_are_those_of_finite_differences() -> None:
    """Forward and reverse, with bounds, groups and turnover that bind."""
    limits = CASES["turnover, boxes, groups"]
    mean, p = market(N, 0)
    draw = np.random.default_rng(1)
    aim = draw.normal(size=N)
    shift = draw.normal(size=(N, N)) * 0.01
    point = (p, -mean, limits)
    along = (shift + shift.T, draw.normal(size=N), jax.tree.map(lambda x: _nudge(draw, x), limits))
    with jax.enable_x64(True):
        point = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), point)
        along = jax.tree.map(jnp.asarray, along)

        def value(point):
            return quadratic_program(*point).x @ aim

        gradient = quick_jit(jax.grad(value))(point)
        exact = sum(jnp.vdot(g, a) for g, a in zip(*map(jax.tree.leaves, (gradient, along))))
        _, forward = quick_jit(lambda p, a: jax.jvp(value, (p,), (a,)))(point, along)
        run, step = quick_jit(value), 1e-6
        ends = [
            float(run(jax.tree.map(lambda x, a, h=h: x + h * a, point, along)))
            for h in (step, -step)
        ]
    binding = quadratic_program(p, -mean, limits).x
    assert (np.isclose(binding, limits.lower) | np.isclose(binding, limits.upper)).any()
    np.testing.assert_allclose(exact, (ends[0] - ends[1]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(forward, exact, rtol=1e-10)


def _nudge(draw: np.random.Generator, x) -> np.ndarray:
    """A direction for the limits; group membership stays."""
    x = np.asarray(x, float)
    return np.zeros_like(x) if x.ndim == 2 else draw.normal(size=x.shape) * 0.1


def test_second_derivatives_through_the_optimum() -> None:
    mean, p = market(N, 0)
    with jax.enable_x64(True):
        p, aim = jnp.asarray(p), jnp.arange(N) * 1.0

        def value(q):
            x = quadratic_program(p, q, Limits(0.05, 0.4), safeguard=False).x
            return x @ jnp.sin(aim * (1 + q))

        hessian = quick_jit(jax.hessian(value))(-jnp.asarray(mean))
        slope = quick_jit(jax.grad(value))
        step = 1e-6
        rows = [(slope(-mean + step * e) - slope(-mean - step * e)) / (2 * step) for e in np.eye(N)]
    assert np.abs(hessian).max() > 0.1
    np.testing.assert_allclose(hessian, np.array(rows), atol=1e-6 * np.abs(hessian).max())


def test_a_batch_under_vmap_is_each_alone_even_where_some_have_no_answer() -> None:
    markets = [market(N, seed) for seed in range(8)]
    p, q = np.stack([m[1] for m in markets]), -np.stack([m[0] for m in markets])
    upper = np.array([0.3, 0.25, 0.2, 0.1, 1.0, 0.5, 0.17, 0.4])  # 0.1 × 6 is too little
    with jax.enable_x64(True):
        batched = quick_jit(jax.vmap(lambda p, q, u: quadratic_program(p, q, Limits(0.0, u))))(
            p, q, upper
        )
    for i in range(8):
        alone = quadratic_program(p[i], q[i], Limits(0.0, upper[i]))
        assert int(batched.status[i]) == int(alone.status) == (2 if i == 3 else 0)
        np.testing.assert_allclose(batched.x[i], alone.x, atol=1e-14)


def test_gradients_of_a_batch_stay_finite_beside_an_infeasible_one() -> None:
    mean, p = market(N, 0)
    with jax.enable_x64(True):

        def total(upper):
            x = jax.vmap(lambda u: quadratic_program(p, -mean, Limits(0.0, u)).x)(upper)
            return jnp.sum(jnp.where(jnp.isnan(x), 0.0, x) * jnp.arange(N))

        slope = quick_jit(jax.grad(total))(jnp.array([0.3, 0.1, 0.4]))
    assert np.isfinite(np.asarray(slope)[[0, 2]]).all()


def test_float32_runs_in_float32() -> None:
    mean, p = market(N, 0)
    single = quadratic_program(p.astype(np.float32), -mean.astype(np.float32), Limits(0.0, 0.4))
    assert single.x.dtype == np.float32
    double = quadratic_program(p, -mean, Limits(0.0, 0.4))
    assert int(single.status) == 0
    np.testing.assert_allclose(single.x, double.x, atol=1e-5)


def test_condition_numbers_of_both_sizes() -> None:
    for n in (5, 140):
        _, p = market(n, 3)
        np.testing.assert_allclose(condition_number(p), np.linalg.cond(p), rtol=1e-10)
    with jax.enable_x64(True):
        low, high = quick_jit(extreme_eigenvalues)(jnp.asarray(market(9, 0)[1]) - 0.02 * jnp.eye(9))
    values = np.linalg.eigvalsh(market(9, 0)[1] - 0.02 * np.eye(9))
    np.testing.assert_allclose([low, high], values[[0, -1]], atol=1e-15)
    assert np.isinf(condition_number(np.ones((4, 4))))
    assert (jax.grad(lambda s: condition_number(s * jnp.eye(3)))(1.0)) == 0
