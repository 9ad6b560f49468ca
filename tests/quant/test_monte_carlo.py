"""Monte Carlo against closed forms, with honest standard errors; lookbacks in closed form."""

import jax
import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from numeric_cases import close

from lilith.quant.options import (
    american,
    asian,
    barrier,
    black_scholes,
    longstaff_schwartz,
    lookback,
    monte_carlo,
)

POINT = (100.0, 105.0, 0.5, 0.05, 0.2)
Z = 4.0  # standard errors that an estimate may be off


def lookback_by_mpmath(strike, carry, is_call):
    """A fixed lookback on spot 100, 20%, half a year: the chance of crossing, integrated.

    P(max > m) = N((b T - h) / s) + e^(2 b h / v^2) N((-b T - h) / s), h = ln(m / S), b the drift
    of ln S; the minimum's is the mirror image.
    """
    with mp.workdps(30):
        spot, volatility, time = mp.mpf(100), mp.mpf(1) / 5, mp.mpf(1) / 2
        strike, carry = mp.mpf(strike), mp.mpf(carry) / 100
        spread = volatility * mp.sqrt(time)
        sign = 1 if is_call else -1
        drift = sign * (carry - volatility**2 / 2)

        def crossed(level):
            h = sign * mp.log(level / spot)
            if h <= 0:
                return mp.mpf(1)
            mirrored = mp.exp(2 * drift * h / volatility**2)
            mirrored *= mp.ncdf((-drift * time - h) / spread)
            return mp.ncdf((drift * time - h) / spread) + mirrored

        far = spot * mp.exp(sign * 16 * spread)
        edges = [strike, *([spot] if (spot - strike) * sign > 0 else [])]
        edges += [edges[-1] + (far - edges[-1]) * mp.mpf(i) / 24 for i in range(1, 25)]
        return float(mp.exp(-mp.mpf(5) / 100 * time) * abs(mp.quad(crossed, edges)))


# strike, carry (rate 5% less dividend) in percent, is_call, price by the function above.
LOOKBACKS = [
    (110, 5, True, 5.5242321317871435),
    (100, 0, True, 11.502017520914231),
    (95, 5, True, 17.816147738291786),
    (90, -2, False, 3.6286825126840387),
    (100, 3, False, 9.889888561959513),
    (105, 0, False, 15.403257169027562),
]


def test_closed_form_lookbacks() -> None:
    for strike, carry, is_call, expected in LOOKBACKS:
        price = lookback.price(
            100.0, strike, 0.5, 0.05, 0.2, dividend=0.05 - carry / 100, is_call=is_call,
            kind="fixed",
        )  # fmt: skip
        assert close(price, expected, 1e-12), (strike, carry, is_call)
    assert lookback_by_mpmath(*LOOKBACKS[0][:3]) == LOOKBACKS[0][3]


def test_floating_lookbacks_follow_from_fixed_ones() -> None:
    """S_T - min = (S_T - S) + (S - min), and max - S_T likewise."""
    for dividend in (0.0, 0.05, 0.05 - 1e-9, 0.07):
        share = 100 * np.exp(-dividend * 0.5) - 100 * np.exp(-0.05 * 0.5)
        for is_call, sign in ((True, 1), (False, -1)):
            floating = lookback.price(100.0, 1.0, *POINT[2:], dividend=dividend, is_call=is_call)
            fixed = lookback.price(
                100.0, 100.0, *POINT[2:], dividend=dividend, is_call=not is_call, kind="fixed"
            )
            assert floating == pytest.approx(fixed + sign * share, rel=1e-12)


def test_lookback_limits() -> None:
    assert lookback.price(100.0, 90.0, 0.0, 0.05, 0.2, kind="fixed") == 10.0
    grown = 100 * (1 - np.exp(-0.05 * 0.5))
    assert lookback.price(100.0, 0.0, 0.5, 0.05, 0.0) == pytest.approx(grown)
    assert np.isnan(lookback.price(-1.0, 90.0, 0.5, 0.05, 0.2))
    with jax.enable_x64(True):
        slopes_of = jax.jit(jax.grad(lookback.price, argnums=(0, 2, 3, 4)))
        for point in (
            (100.0, 1.0, 0.0, 0.05, 0.2),
            (100.0, 1.0, 1.0, 0.0, 0.2),
            (100.0, 1.0, 1.0, 0.05, 0.0),
        ):
            assert np.all(np.isfinite(np.array(slopes_of(*point)))), point
    with pytest.raises(ValueError, match="'russian'"):
        lookback.price(100.0, 90.0, 1.0, 0.05, 0.2, kind="russian")


def exact_prices(is_call):
    """Each simulation at POINT, with the exact price of what it simulates."""
    terms = {"dividend": 0.02, "is_call": is_call}
    spot, strike, *others = POINT
    found = {
        "european": (monte_carlo.european, POINT, {}, black_scholes.price(*POINT, **terms)),
        "arithmetic": (
            monte_carlo.asian_option, POINT, {"fixings": 6},
            asian.arithmetic_discrete(*POINT, **terms, fixings=6),
        ),
        "geometric": (
            monte_carlo.asian_option, POINT, {"fixings": 6, "average": "geometric"},
            asian.geometric_discrete(*POINT, **terms, fixings=6),
        ),
    }  # fmt: skip
    for kind, level in (("down-out", 92.0), ("down-in", 92.0), ("up-out", 115.0), ("up-in", 115.0)):
        exact = barrier.price(spot, strike, level, *others, **terms, kind=kind)
        found[kind] = (
            monte_carlo.barrier, (spot, strike, level, *others), {"kind": kind, "steps": 4}, exact
        )  # fmt: skip
    for kind in lookback.KINDS:
        exact = lookback.price(*POINT, **terms, kind=kind)
        found[kind] = (monte_carlo.lookback, POINT, {"kind": kind, "steps": 4}, exact)
    return found, terms


@pytest.mark.parametrize("sampling", monte_carlo.SAMPLINGS)
@pytest.mark.parametrize("is_call", [True, False])
def test_every_payoff_against_its_closed_form(sampling: str, is_call: bool) -> None:
    """Barriers and lookbacks in four steps only: their bridges leave no bias of monitoring."""
    found, terms = exact_prices(is_call)
    for name, (simulate, arguments, own, exact) in found.items():
        estimate = simulate(*arguments, **terms, **own, paths=40_000, seed=7, sampling=sampling)
        assert estimate.standard_error > 0
        off = (estimate.price - exact) / estimate.standard_error
        assert abs(off) < Z, (name, off)
        assert estimate.standard_error < 0.02 * max(exact, 1.0), name


def test_standard_errors_are_honest() -> None:
    """Over 50 seeds, what estimates are off by, in their errors, looks standard normal."""
    with_control = {"asian": True, "barrier": False}
    asian_exact = asian.arithmetic_discrete(*POINT, fixings=6)
    spot, strike, *others = POINT
    barrier_exact = barrier.price(spot, strike, 92.0, *others)
    for sampling in monte_carlo.SAMPLINGS:
        scores = {"asian": [], "barrier": []}
        for seed in range(50):
            shared = {"paths": 4_000, "seed": seed, "sampling": sampling}
            estimate = monte_carlo.asian_option(
                *POINT, fixings=6, control_variate=with_control["asian"], **shared
            )
            scores["asian"].append((estimate.price - asian_exact) / estimate.standard_error)
            estimate = monte_carlo.barrier(
                spot, strike, 92.0, *others, steps=4, control_variate=with_control["barrier"],
                **shared,
            )  # fmt: skip
            scores["barrier"].append((estimate.price - barrier_exact) / estimate.standard_error)
        for name, values in scores.items():
            assert abs(np.mean(values)) < 4 / np.sqrt(50), (sampling, name, np.mean(values))
            assert 0.72 < np.std(values) < 1.35, (sampling, name, np.std(values))
            spread = scipy.stats.t(15) if sampling == "sobol" else scipy.stats.norm
            assert scipy.stats.kstest(values, spread.cdf).pvalue > 1e-3, (sampling, name)


def test_variance_is_reduced() -> None:
    def error(**own):
        return float(monte_carlo.asian_option(*POINT, paths=20_000, **own).standard_error)

    plain = error(sampling="pseudo", control_variate=False)
    assert error(sampling="antithetic", control_variate=False) < 0.95 * plain
    assert error(sampling="pseudo") < plain / 20
    assert error(sampling="sobol", control_variate=False) < plain / 4
    quarter = monte_carlo.asian_option(
        *POINT, paths=5_000, sampling="pseudo", control_variate=False
    )
    assert float(quarter.standard_error) == pytest.approx(2 * plain, rel=0.1)


def test_in_and_out_add_up() -> None:
    spot, strike, *others = POINT
    for continuous in (True, False):
        both = [
            monte_carlo.barrier(
                spot, strike, 95.0, *others, kind=kind, continuous=continuous, paths=20_000,
                control_variate=False,
            ).price
            for kind in ("down-out", "down-in")
        ]  # fmt: skip
        vanilla = black_scholes.price(*POINT)
        assert sum(both) == pytest.approx(vanilla, abs=0.2)
    watched_less = monte_carlo.barrier(
        spot, strike, 95.0, *others, continuous=False, steps=10, paths=20_000
    )
    assert watched_less.price > barrier.price(spot, strike, 95.0, *others) + 0.1


def test_seeds_paths_and_blocks() -> None:
    first, again, other = (
        monte_carlo.european(*POINT, paths=1_000, seed=seed, sampling="pseudo")
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first.price != other.price
    key = monte_carlo.european(*POINT, paths=1_000, seed=jax.random.key(3), sampling="pseudo")
    assert key.price == first.price
    assert monte_carlo.european(*POINT, paths=999).paths == 1_000
    assert monte_carlo.european(*POINT, paths=999, sampling="sobol").paths == 16 * 64
    many = monte_carlo.european(*POINT, paths=2 * monte_carlo.BLOCK + 10, sampling="pseudo")
    assert many.paths >= 2 * monte_carlo.BLOCK + 10
    assert abs(many.price - black_scholes.price(*POINT)) < Z * many.standard_error


def test_options_of_one_call_share_their_paths() -> None:
    strikes = np.array([95.0, 105.0])
    both = monte_carlo.european(100.0, strikes, *POINT[2:], paths=1_000)
    alone = monte_carlo.european(*POINT, paths=1_000)
    assert both.price.shape == (2,)
    assert both.price[1] == pytest.approx(alone.price, rel=1e-13)
    bad = monte_carlo.european([-1.0, 100.0], *POINT[1:], paths=1_000)
    assert np.isnan(bad.price).tolist() == [True, False]


def test_pathwise_gradients_match_the_closed_forms() -> None:
    with jax.enable_x64(True):
        slopes = jax.grad(
            lambda *own: monte_carlo.asian_option(*own, paths=40_000).price, argnums=(0, 4)
        )(*POINT)
        exact = jax.grad(asian.arithmetic_discrete, argnums=(0, 4))(*POINT)
        np.testing.assert_allclose(np.array(slopes), np.array(exact), rtol=3e-3)
        spot, strike, *others = POINT

        def simulated(own):
            return monte_carlo.barrier(own, strike, 90.0, *others, paths=40_000, steps=4).price

        slope = jax.grad(simulated)(spot)
        exact_slope = jax.grad(lambda own: barrier.price(own, strike, 90.0, *others))(spot)
        assert float(slope) == pytest.approx(float(exact_slope), rel=2e-2)
        certain = jax.grad(
            lambda *own: monte_carlo.asian_option(*own, paths=1_000).price, argnums=(0, 2, 4)
        )
        for time, volatility in ((0.0, 0.2), (0.5, 0.0)):
            assert np.all(np.isfinite(np.array(certain(100.0, 90.0, time, 0.05, volatility))))


def test_mistakes_are_named() -> None:
    for own, words in (
        ({"paths": 3}, "paths is 3"), ({"sampling": "halton"}, "'halton'"), ({"seed": -1}, "-1"),
        ({"seed": 1.5}, "1.5"), ({"sampling": "sobol", "replicates": 1}, "replicates is 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            monte_carlo.european(*POINT, **own)
    with pytest.raises(ValueError, match="'harmonic'"):
        monte_carlo.asian_option(*POINT, average="harmonic")
    with pytest.raises(ValueError, match="steps is 0"):
        monte_carlo.lookback(*POINT, steps=0)


def test_longstaff_schwartz_is_a_close_lower_bound() -> None:
    """The paper's first table: S = 36..44, K = 40, 6%, 20% or 40%, one year, 50 dates."""
    spot, volatility = np.array([36.0, 44.0]), np.array([0.2, 0.4])
    estimate = longstaff_schwartz.price(spot, 40.0, 1.0, 0.06, volatility, paths=200_000, seed=1)
    exact = american.price(spot, 40.0, 1.0, 0.06, volatility, is_call=False)
    assert np.all(estimate.price < exact + Z * estimate.standard_error)
    assert np.all(estimate.price > exact * 0.997 - 3 * estimate.standard_error)
    european = black_scholes.price(spot, 40.0, 1.0, 0.06, volatility, is_call=False)
    assert estimate.price[0] > european[0] + 0.3
    assert np.all((estimate.exercised_early > 0.1) & (estimate.exercised_early < 0.9))


def test_longstaff_schwartz_limits() -> None:
    deep = longstaff_schwartz.price(20.0, 40.0, 1.0, 0.06, 0.2, paths=2_000, exercise_dates=10)
    assert deep.price == 20.0
    assert deep.standard_error == 0.0
    one = longstaff_schwartz.price(36.0, 36.0, 1.0, 0.06, 0.2, paths=20_000, exercise_dates=1)
    exact = black_scholes.price(36.0, 36.0, 1.0, 0.06, 0.2, is_call=False)
    assert abs(one.price - exact) < Z * one.standard_error
    assert (
        longstaff_schwartz.price(30.0, 40.0, 0.0, 0.06, 0.2, paths=2_000, exercise_dates=10).price
        == 10
    )
    assert np.isnan(
        longstaff_schwartz.price(-1.0, 40.0, 1.0, 0.06, 0.2, paths=2_000, exercise_dates=10).price
    )
    with pytest.raises(ValueError, match="paths is 5"):
        longstaff_schwartz.price(36.0, 40.0, 1.0, 0.06, 0.2, paths=5)


def test_longstaff_schwartz_standard_errors_are_honest() -> None:
    """Spread of the price over seeds, against the errors that were stated."""
    found = [
        longstaff_schwartz.price(36.0, 40.0, 1.0, 0.06, 0.2, paths=2_000, exercise_dates=10, seed=s)
        for s in range(50)
    ]
    stated = np.mean([each.standard_error for each in found])
    assert 0.72 < np.std([each.price for each in found]) / stated < 1.35
    # Fitted and paid on the same paths there is foresight; on fresh ones there is none.
    assert np.mean([each.in_sample_price - each.price for each in found]) > 0.01
