"""The picture of a volatility surface."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from lilith.quant.options import svi

if TYPE_CHECKING:
    from lilith.quant.options.surface import VolatilitySurface


def draw(surface: VolatilitySurface, path: pathlib.Path) -> pathlib.Path:
    """Smiles with their quotes on the left, the surface on the right; written to ``path``."""
    # pyplot keeps global state and may look for a display; a Figure of its own does neither.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.4), dpi=150, layout="constrained")
    smiles = figure.add_subplot(1, 2, 1)
    _smiles(smiles, surface, colormaps["viridis"])
    solid: Any = figure.add_subplot(1, 2, 2, projection="3d")
    _solid(solid, surface, colormaps["viridis"])
    state = "no arbitrage found" if surface.arbitrage_free else "with arbitrage: see warnings"
    count = len(surface.quotes.strike)
    figure.suptitle(f"Implied volatility: {count} quotes, raw SVI, {state}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _smiles(axes: Any, surface: VolatilitySurface, colours: Any) -> None:
    quotes, slices = surface.quotes, surface.slices
    for index, own in enumerate(slices):
        colour = colours(0.05 + 0.85 * index / max(len(slices) - 1, 1))
        here = quotes.maturity == own.maturity
        k = np.log(quotes.strike[here] / own.forward)
        margin = 0.08 * np.ptp(k)
        grid = np.linspace(k.min() - margin, k.max() + margin, 200)
        fitted = np.sqrt(svi.total_variance(own.parameters, grid) / own.maturity)
        axes.plot(grid, 100 * fitted, color=colour, lw=1.8, label=f"{own.maturity:.3g} y")
        axes.plot(k, 100 * quotes.volatility[here], "o", color=colour, ms=4, mec="white", mew=0.5)
    axes.set(xlabel="ln(strike / forward)", ylabel="implied volatility, % a year")
    axes.set_title("Smiles: quotes (dots) and fit (lines)", fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="maturity", fontsize=8, title_fontsize=8, frameon=False, ncols=2)


def _solid(axes: Any, surface: VolatilitySurface, colours: Any) -> None:
    quotes, slices = surface.quotes, surface.slices
    k = np.log(quotes.strike / quotes.forward)
    grid = np.linspace(k.min(), k.max(), 60)
    first, last = slices[0].maturity, slices[-1].maturity
    times = np.linspace(first, last if last > first else 1.01 * first, 40)
    variance = np.asarray(surface.total_variance(grid[None, :], times[:, None]))
    volatility = 100 * np.sqrt(variance / times[:, None])
    axes.plot_surface(
        grid[None, :] + 0 * times[:, None], times[:, None] + 0 * grid[None, :], volatility,
        cmap=colours, lw=0, antialiased=True, alpha=0.95, rcount=60, ccount=60,
    )  # fmt: skip
    axes.set_xlabel("ln(strike / forward)", labelpad=8)
    axes.set_ylabel("maturity, years", labelpad=8)
    axes.set_zlabel("volatility, %", labelpad=6)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=8)
    axes.set_title("Surface, linear in total variance between maturities", fontsize=10)
    axes.view_init(elev=24, azim=-58)
    axes.set_box_aspect(None, zoom=0.88)
