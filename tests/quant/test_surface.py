"""The volatility surface: quotes read and checked, SVI fitted, arbitrage found, a picture drawn."""

import json

import jax
import numpy as np
import pytest

from lilith.quant.options import black_scholes, svi
from lilith.quant.options.surface import VolatilitySurface
from lilith.quant.options.tools_volatility import volatility_surface
from lilith.quant.tool import ToolError

SPOT, RATE, DIVIDEND = 100.0, 0.03, 0.01
MATURITIES = (0.25, 0.5, 1.0)
STRIKES = np.linspace(75.0, 130.0, 9)
# Axel Vogt's slice (Gatheral and Jacquier, 2014): its variance is positive, its density is not.
VOGT = svi.Svi(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)


def truth(maturity: float) -> svi.Svi:
    """Slices that do not cross and have a density."""
    return svi.Svi(0.01 * maturity, 0.1 * maturity, -0.4, 0.02, 0.25)


def volatility_of(strike, maturity):
    forward = SPOT * np.exp((RATE - DIVIDEND) * maturity)
    return np.sqrt(svi.total_variance(truth(maturity), np.log(strike / forward)) / maturity)


def table(**changes) -> dict:
    """Prices of puts below the spot and calls above it, as columns; ``changes``: row -> column."""
    strike = np.tile(STRIKES, len(MATURITIES))
    maturity = np.repeat(MATURITIES, len(STRIKES))
    volatility = np.concatenate([volatility_of(STRIKES, each) for each in MATURITIES])
    calls = strike > SPOT
    price = black_scholes.price(
        SPOT, strike, maturity, RATE, volatility, dividend=DIVIDEND, is_call=calls
    )
    columns = {
        "strike": strike.tolist(), "maturity": maturity.tolist(), "price": price.tolist(),
        "option_type": ["call" if call else "put" for call in calls],
    }  # fmt: skip
    for name, (row, value) in changes.items():
        columns[name][row] = value
    return columns


DEAR = 1.3 * table()["price"][12]  # a put that its neighbours make too dear


@pytest.fixture(scope="module")
def surface() -> VolatilitySurface:
    return VolatilitySurface.from_quotes(table(), spot=SPOT, rate=RATE, dividend=DIVIDEND)


def test_the_fit_is_the_truth(surface) -> None:
    assert surface.arbitrage_free
    assert surface.warnings == ()
    for own in surface.slices:
        assert own.converged
        assert own.error < 1e-8
        np.testing.assert_allclose(own.parameters, truth(own.maturity), atol=1e-5)
    got = surface.volatility(STRIKES, 0.5)
    np.testing.assert_allclose(got, volatility_of(STRIKES, 0.5), atol=1e-8)


def test_interpolation(surface) -> None:
    """Linear in total variance between maturities at fixed moneyness; flat volatility outside."""
    k = np.array([-0.2, 0.0, 0.1])
    for maturity, expected in (
        (0.75, (svi.total_variance(truth(0.5), k) + svi.total_variance(truth(1.0), k)) / 2),
        (0.1, svi.total_variance(truth(0.25), k) * 0.1 / 0.25),
        (3.0, svi.total_variance(truth(1.0), k) * 3.0),
        (0.25, svi.total_variance(truth(0.25), k)),
        (1.0, svi.total_variance(truth(1.0), k)),
    ):
        np.testing.assert_allclose(surface.total_variance(k, maturity), expected, atol=1e-8)
    assert np.isnan(surface.total_variance(0.0, 0.0))
    times = np.array([0.0, 0.1, 0.7, 2.0])
    np.testing.assert_allclose(surface.forward(times), SPOT * np.exp(0.02 * times), rtol=1e-12)
    many = surface.volatility(STRIKES[None, :], np.array([0.3, 0.8])[:, None])
    assert many.shape == (2, len(STRIKES))


def test_rows_forwards_and_volatilities_are_the_same_surface(surface) -> None:
    columns = table()
    del columns["price"], columns["option_type"]
    maturity = np.array(columns["maturity"])
    columns["volatility"] = surface.quotes.volatility.tolist()
    columns["forward"] = (SPOT * np.exp((RATE - DIVIDEND) * maturity)).tolist()
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    other = VolatilitySurface.from_quotes(rows)
    np.testing.assert_allclose(
        other.volatility(STRIKES, 0.5), surface.volatility(STRIKES, 0.5), atol=1e-9
    )
    assert other.forward(2.0) == pytest.approx(SPOT * np.exp(0.04), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"price": (3, 500.0)}, "outside_arbitrage_bounds", "row 3: .*above the upper"),
        ({"price": (3, "5")}, "not_a_number", "row 3: price is '5'"),
        ({"price": (3, float("nan"))}, "out_of_range", "row 3: price is nan"),
        ({"strike": (2, -1.0)}, "out_of_range", "row 2: strike is -1.0"),
        ({"maturity": (0, 0.0)}, "out_of_range", "row 0: maturity is 0.0"),
        ({"option_type": (4, "Call")}, "unknown_choice", "row 4: option_type is 'Call'"),
        ({"price": (12, DEAR)}, "crossed_quotes", "rows .*12.* at maturity 0.5"),
        ({"maturity": (0, 0.2)}, "too_few_quotes", "maturity 0.2 has 1 different"),
    ],
)
def test_bad_quotes_are_named_by_row(changes, code, words) -> None:
    with pytest.raises(ToolError, match=words) as caught:
        VolatilitySurface.from_quotes(table(**changes), spot=SPOT, rate=RATE, dividend=DIVIDEND)
    assert caught.value.code == code
    assert caught.value.hint


def test_bad_tables_are_refused() -> None:
    for drop, words in (("strike", "no column 'strike'"),
                        ("option_type", "no column 'option_type'"),
                        ("price", "neither of the columns")):  # fmt: skip
        columns = table()
        del columns[drop]
        with pytest.raises(ToolError, match=words):
            VolatilitySurface.from_quotes(columns, spot=SPOT)
    with pytest.raises(ToolError, match="'expiry'") as caught:
        VolatilitySurface.from_quotes({**table(), "expiry": [1.0]}, spot=SPOT)
    assert caught.value.code == "unknown_column"
    with pytest.raises(ToolError, match="neither a spot nor a forward"):
        VolatilitySurface.from_quotes(table())
    with pytest.raises(ToolError, match="lengths"):
        VolatilitySurface.from_quotes({**table(), "strike": [1.0]}, spot=SPOT)
    forwards = {**table(), "forward": [100.0] * 26 + [101.0]}
    with pytest.raises(ToolError, match="rows 18 and 26 share maturity 1 and differ in forward"):
        VolatilitySurface.from_quotes(forwards)
    with pytest.raises(ToolError, match="columns by name or rows"):
        VolatilitySurface.from_quotes([1.0, 2.0])  # not a table


def test_crossed_quotes_can_be_fitted_through() -> None:
    bad = table(price=(12, DEAR))
    loose = VolatilitySurface.from_quotes(
        bad, spot=SPOT, rate=RATE, dividend=DIVIDEND, strict=False
    )
    assert any("not convex" in text for text in loose.warnings)


def test_vogts_slice_fails_the_butterfly_check() -> None:
    k = np.linspace(-1.0, 1.5, 12)
    assert svi.butterfly(VOGT, np.linspace(-1.5, 1.5, 301)).min() < -0.02
    volatility = np.sqrt(svi.total_variance(VOGT, k))
    quotes = {
        "strike": (100 * np.exp(k)).tolist(), "maturity": [1.0] * 12, "forward": [100.0] * 12,
        "volatility": volatility.tolist(),
    }  # fmt: skip
    found = VolatilitySurface.from_quotes(quotes, strict=False)
    assert not found.arbitrage_free
    assert any("butterfly" in text for text in found.warnings)
    np.testing.assert_allclose(found.slices[0].parameters, VOGT, atol=1e-4)


def test_butterfly_is_the_density() -> None:
    """The second derivative of Black's call in the strike has g's sign and size."""
    strikes, maturity = np.linspace(80.0, 125.0, 7), 1.0
    step = 0.01
    calls = [
        black_scholes.price(
            100.0, strikes + move, maturity, 0.0,
            np.sqrt(svi.total_variance(truth(maturity), np.log((strikes + move) / 100.0))),
        )
        for move in (-step, 0.0, step)
    ]  # fmt: skip
    density = (calls[0] - 2 * calls[1] + calls[2]) / step**2
    k = np.log(strikes / 100.0)
    w = svi.total_variance(truth(maturity), k)
    d_minus = -k / np.sqrt(w) - np.sqrt(w) / 2
    from_g = svi.butterfly(truth(maturity), k) * np.exp(-(d_minus**2) / 2)
    np.testing.assert_allclose(from_g / np.sqrt(2 * np.pi * w) / strikes, density, rtol=1e-5)


def test_calendar_arbitrage_is_found() -> None:
    columns = table()
    del columns["price"], columns["option_type"]
    volatility = np.concatenate([volatility_of(STRIKES, each) for each in MATURITIES])
    volatility[9:18] *= 0.6  # half a year now holds less variance than a quarter
    found = VolatilitySurface.from_quotes({**columns, "volatility": volatility.tolist()}, spot=SPOT)
    assert not found.arbitrage_free
    assert [text for text in found.warnings if "calendar" in text and "0.5" in text]
    assert found.slices[1].calendar_gap < 0


def test_a_flat_smile_and_bad_fits() -> None:
    flat = svi.fit(np.linspace(-0.3, 0.3, 7), np.full(7, 0.2), 0.5)
    assert flat.status == svi.OK
    assert flat.error < 1e-6
    bad = svi.fit(np.linspace(-0.3, 0.3, 7), np.full(7, -0.2), 0.5)
    assert bad.status == svi.INPUT_OUTSIDE
    assert np.isnan(bad.parameters.a)
    with pytest.raises(ValueError, match="4 quotes"):
        svi.fit(np.zeros(4), np.full(4, 0.2), 0.5)


def test_gradients_of_the_pure_core(surface) -> None:
    from lilith.quant.options.surface import interpolate

    times = np.array([own.maturity for own in surface.slices])
    parameters = svi.Svi(*np.array([own.parameters for own in surface.slices]).T)
    with jax.enable_x64(True):
        slopes_of = jax.jit(jax.grad(lambda k, t: interpolate(times, parameters, k, t), (0, 1)))
        for point in ((0.1, 0.7), (0.1, 0.1), (0.1, 3.0), (0.1, 0.25), (0.1, 1.0)):
            assert np.all(np.isfinite(np.array(slopes_of(*point))))
        k_slope, t_slope = slopes_of(0.1, 0.7)
        high, low = (
            interpolate(times, parameters, np.array([0.1 + h, 0.1]), np.array([0.7, 0.7 + h]))
            for h in (1e-6, -1e-6)
        )
        np.testing.assert_allclose((high - low) / 2e-6, [k_slope, t_slope], rtol=1e-6)


def test_plot(surface, tmp_path) -> None:
    path = surface.plot(tmp_path / "pictures" / "surface.png")
    image = path.read_bytes()
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[i : i + 4], "big") for i in (16, 20))
    assert width > 1500
    assert height > 700
    assert len(image) > 60_000  # not an empty sheet


def test_tool(tmp_path) -> None:
    answer = volatility_surface(
        table(), spot=SPOT, rate=RATE, dividend=DIVIDEND, strikes=[95.0, 110.0],
        maturities=[0.5, 0.5], plot_path=str(tmp_path / "surface.svg"),
    )  # fmt: skip
    json.dumps(answer)
    assert answer["ok"]
    np.testing.assert_allclose(
        answer["result"]["volatilities"], volatility_of(np.array([95.0, 110.0]), 0.5), atol=1e-8
    )
    assert answer["result"]["arbitrage_free"] is True
    assert (tmp_path / "surface.svg").exists()
    market = {"spot": SPOT, "rate": RATE, "dividend": DIVIDEND}
    unpaired = volatility_surface(table(), **market, strikes=[95.0])
    assert unpaired["error"]["field"] == "maturities"
    unwritable = volatility_surface(table(), **market, plot_path=str(tmp_path / "surface.abc"))
    assert unwritable["error"]["code"] == "not_written"
    wrong = volatility_surface(table(price=(3, 500.0)), **market)
    assert "row 3" in wrong["error"]["message"]
