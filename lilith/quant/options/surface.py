"""A volatility surface: one SVI slice a maturity, joined in total variance.

Between maturities total variance is linear in time at fixed ln(strike / forward), which is free of
calendar arbitrage if the slices do not cross; before the first and after the last the volatility
at fixed ln(strike / forward) stays. ln forward is linear in time between maturities, from the spot
where that is known.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.options import surface_plot, svi
from lilith.quant.options.quotes import Quotes, crossed_quotes, read_quotes
from lilith.quant.precision import double_precision
from lilith.quant.tool_values import ToolError

MARGIN = 0.5  # the checks go this share of the quotes' width beyond them, on either side
CHECK_POINTS = 201
TOLERANCE = 1e-9  # of g, and of total variance, that is put down to rounding


class Slice(NamedTuple):
    """What is known of one maturity.

    Attributes:
      maturity, forward: years; currency.
      parameters: the SVI fit's, floats.
      error: root mean square in volatility.
      converged: whether the fit came to rest.
      least_g, least_g_at: the least of ``svi.butterfly`` and its ln(strike / forward).
      calendar_gap: the least total variance in excess of the previous slice's; None for the first.
      calendar_gap_at: its ln(strike / forward); None for the first.
    """

    maturity: float
    forward: float
    parameters: svi.Svi
    error: float
    converged: bool
    least_g: float
    least_g_at: float
    calendar_gap: float | None
    calendar_gap_at: float | None


@dataclass(frozen=True)
class VolatilitySurface:
    """Fitted slices in order of maturity, the quotes they were fitted to, and what is wrong.

    Attributes:
      slices: one a maturity.
      quotes: as read, with their implied volatilities.
      spot: currency, or None.
      warnings: sentences on arbitrage in slices and quotes, and on fits that did not converge.
    """

    slices: tuple[Slice, ...]
    quotes: Quotes
    spot: float | None
    warnings: tuple[str, ...]

    @classmethod
    def from_quotes(
        cls,
        quotes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
        *,
        spot: float | None = None,
        rate: float = 0.0,
        dividend: float = 0.0,
        strict: bool = True,
    ) -> VolatilitySurface:
        """Imply volatilities, fit a slice a maturity, and check the slices.

        Args:
          quotes: columns by name, or rows as dicts. ``strike``; ``maturity`` in years; either
            ``volatility`` (a year) or ``price`` (with ``option_type``, "call" or "put"); and, where
            they differ by row, ``forward`` and ``rate``.
          spot: makes the forwards, spot exp((rate - dividend) maturity), where there is no such
            column.
          rate, dividend: continuously compounded, a year.
          strict: refuse quotes that together allow arbitrage (call prices that rise with the
            strike, or are not convex in it); else say so in ``warnings``.

        Raises:
          ToolError: a quote is missing, not a number, out of range, beyond the no-arbitrage
            bounds (named by row, from 0) or, if strict, crossed with its neighbours; fewer than
            five strikes at a maturity.
        """
        table = read_quotes(quotes, spot=spot, rate=rate, dividend=dividend)
        crossed = crossed_quotes(table)
        if crossed and strict:
            raise ToolError(
                "crossed_quotes", "quotes", crossed[0],
                "correct or drop these rows, or pass strict=False to fit through them",
            )  # fmt: skip
        slices: list[Slice] = []
        for maturity in np.unique(table.maturity):
            slices.append(_fit_slice(table, float(maturity), slices))
        return cls(tuple(slices), table, spot, (*crossed, *_complaints(slices)))

    @property
    def arbitrage_free(self) -> bool:
        """Whether no slice fails the butterfly check and no two the calendar check."""
        return all(
            own.least_g >= -TOLERANCE and (own.calendar_gap or 0.0) >= -TOLERANCE
            for own in self.slices
        )

    def total_variance(self, log_moneyness: Any, maturity: Any) -> Any:
        """Variance to ``maturity`` at ln(strike / forward); NaN at maturity <= 0."""
        return interpolate(self._times(), self._parameters(), log_moneyness, maturity)

    def volatility(self, strike: Any, maturity: Any) -> Any:
        """Implied volatility, a year, at a strike and a maturity in years; they broadcast."""
        moneyness = log_ratio(strike, self.forward(maturity))
        return root_over(self.total_variance(moneyness, maturity), maturity)

    def forward(self, maturity: Any) -> Any:
        """The forward at a maturity in years."""
        forwards = np.array([own.forward for own in self.slices])
        times = self._times()
        if self.spot is not None:
            times, forwards = np.append(0.0, times), np.append(self.spot, forwards)
        return interpolate_forward(times, np.log(forwards), maturity)

    def plot(self, path: str | pathlib.Path) -> pathlib.Path:
        """Write a picture (its type by the suffix): the smiles with quotes, and the surface."""
        return surface_plot.draw(self, pathlib.Path(path))

    def _times(self) -> np.ndarray:
        return np.array([own.maturity for own in self.slices])

    def _parameters(self) -> svi.Svi:
        return svi.Svi(*(np.array(each) for each in zip(*(own.parameters for own in self.slices))))


@double_precision
def interpolate(times: Any, parameters: svi.Svi, log_moneyness: Any, maturity: Any) -> Any:
    """Total variance from slices at rising ``times`` [n]: the surface's pure core."""
    k, maturity = jnp.broadcast_arrays(log_moneyness, maturity)
    later = jnp.clip(jnp.searchsorted(times, maturity), 0, len(times) - 1)
    earlier = jnp.maximum(later - 1, 0)

    def at(index: Any) -> Any:
        return svi.total_variance(jax.tree.map(lambda each: each[index], parameters), k)

    outside = (maturity <= times[0]) | (maturity >= times[-1])
    edge = jnp.where(maturity <= times[0], 0, len(times) - 1)
    flat = at(edge) * maturity / times[edge]
    gap = jnp.where(outside, 1.0, times[later] - times[earlier])
    share = (maturity - times[earlier]) / gap
    between = (1 - share) * at(earlier) + share * at(later)
    return jnp.where(maturity > 0, jnp.where(outside, flat, between), jnp.nan)


@double_precision
def interpolate_forward(times: Any, log_forwards: Any, maturity: Any) -> Any:
    """The forward, ln linear in time between ``times`` and at its last slope beyond them."""
    if len(times) == 1:
        return jnp.exp(jnp.broadcast_to(log_forwards[0], jnp.shape(maturity)))
    later = jnp.clip(jnp.searchsorted(times, maturity), 1, len(times) - 1)
    share = (maturity - times[later - 1]) / (times[later] - times[later - 1])
    return jnp.exp((1 - share) * log_forwards[later - 1] + share * log_forwards[later])


@double_precision
def log_ratio(strike: Any, forward: Any) -> Any:
    """ln(strike / forward)."""
    return jnp.log(strike / forward)


@double_precision
def root_over(variance: Any, time: Any) -> Any:
    """sqrt(variance / time)."""
    return jnp.sqrt(variance / time)


def _fit_slice(table: Quotes, maturity: float, earlier: list[Slice]) -> Slice:
    own = table.maturity == maturity
    strikes, volatilities = table.strike[own], table.volatility[own]
    count = len(np.unique(strikes))
    if count < svi.LEAST_QUOTES:
        raise ToolError(
            "too_few_quotes", "quotes",
            f"maturity {maturity:g} has {count} different strikes, and a smile takes at least "
            f"{svi.LEAST_QUOTES}",
            "add quotes at this maturity or leave it out",
        )  # fmt: skip
    forward = float(table.forward[own][0])
    k = np.log(strikes / forward)
    fitted = svi.fit(k, volatilities, maturity)
    width = np.ptp(k) * MARGIN
    grid = np.linspace(k.min() - width, k.max() + width, CHECK_POINTS)
    g = svi.butterfly(fitted.parameters, grid)
    gap = gap_at = None
    if earlier:
        gaps = svi.total_variance(fitted.parameters, grid) - svi.total_variance(
            earlier[-1].parameters, grid
        )
        gap, gap_at = float(gaps.min()), float(grid[gaps.argmin()])
    return Slice(
        maturity, forward, svi.Svi(*map(float, fitted.parameters)), float(fitted.error),
        int(fitted.status) == svi.OK, float(g.min()), float(grid[g.argmin()]), gap, gap_at,
    )  # fmt: skip


def _complaints(slices: list[Slice]) -> list[str]:
    found = []
    for index, own in enumerate(slices):
        name = f"the smile at maturity {own.maturity:g}"
        if not own.converged:
            found.append(f"{name} did not converge; its error is {own.error:.2g} in volatility")
        if own.least_g < -TOLERANCE:
            found.append(
                f"{name} allows butterfly arbitrage: g falls to {own.least_g:.3g} at strike "
                f"{own.forward * np.exp(own.least_g_at):.6g}"
            )
        if own.calendar_gap is not None and own.calendar_gap < -TOLERANCE:
            found.append(
                f"{name} allows calendar arbitrage: its total variance is {-own.calendar_gap:.3g} "
                f"below that at {slices[index - 1].maturity:g} at ln(strike / forward) "
                f"{own.calendar_gap_at:.3g}"
            )
    return found
