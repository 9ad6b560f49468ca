"""Llama 3's rotary scaling as GGUF keeps it: by what each frequency is divided.

The scaling of Llama 3.1 (Dubey et al. 2024) has four numbers. A frequency that turns ``t`` times
within the original context is divided by ``1 / (s + (1 - s) / factor)``, where ``s`` is
``(t - low) / (high - low)`` held in [0, 1]. A file holds the divisors alone, so the numbers are
found again from them; only the ratios original : low : high can be known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from lilith.config import ModelConfig, RopeScaling
from lilith.interop.weights import ImportFailed
from lilith.model.layers import rope_frequencies

_USUAL_LOW, _USUAL_HIGH = 1.0, 4.0  # of Llama 3.1 and 3.2
_TOLERANCE = 5e-6  # relative, of a frequency: divisors are float32 and made from float32
_MOST_ORIGINAL = 1 << 31


def divisors_of(config: ModelConfig) -> np.ndarray:
    """Float32 [H/2]: the frequencies without scaling over those with ``config.rope_scaling``."""
    return (_frequencies(config, RopeScaling()) / _frequencies(config)).astype(np.float32)


def scaling_of(
    divisors: np.ndarray, head_dim: int, base: float, original: int, where: str
) -> RopeScaling:
    """The scaling that divides the frequencies so.

    Args:
      divisors: [H/2], of the frequencies from high to low.
      original: the context that the scaling stretches, where the file says it; else 0.
      where: what errors call the file.

    Raises:
      ImportFailed: no Llama 3 (or linear) scaling gives these divisors.
    """
    if divisors.shape != (head_dim // 2,):
        raise ImportFailed(
            f"{where}: the tensor 'rope_freqs.weight' has shape {list(divisors.shape)}, and heads "
            f"of width {head_dim} have {head_dim // 2} frequencies"
        )
    plain, _ = rope_frequencies(head_dim, base, RopeScaling(), 1)
    divided = divisors.astype(np.float64)
    factor = float(str(np.float32(divided.max())))
    if np.isfinite(divided).all() and divided.min() >= 1.0:
        if factor == 1.0:
            return RopeScaling()
        for candidate in _candidates(plain, divided, factor, original):
            found, _ = rope_frequencies(head_dim, base, candidate, 1)
            if np.abs(found * divided / plain - 1.0).max() < _TOLERANCE:
                return candidate
    raise ImportFailed(
        f"{where}: the tensor 'rope_freqs.weight' divides the rotary frequencies in a way that is "
        "neither Llama 3's scaling nor linear, and LILITH computes no other"
    )


def _frequencies(config: ModelConfig, scaling: RopeScaling | None = None) -> np.ndarray:
    return rope_frequencies(
        config.key_dim, config.rope_base, scaling or config.rope_scaling, config.context
    )[0]


def _candidates(
    plain: np.ndarray, divided: np.ndarray, factor: float, original: int
) -> Iterator[RopeScaling]:
    """Scalings to try, the likeliest first."""
    if np.ptp(divided) == 0:
        yield RopeScaling(kind="linear", factor=factor)
        return
    turns = plain / (2 * math.pi)  # of a token: times the original context, of the whole
    share = (1 / divided - 1 / factor) / (1 - 1 / factor)  # s above
    for slope, offset in _ramps(turns, share, original):
        if slope <= 0 or offset <= 0:
            continue
        lows = [original * offset / slope] if original else []
        for low in (*lows, *(_USUAL_LOW * 2.0**i for i in range(21))):
            high, context = low * (1 + 1 / offset), round(low * slope / offset)
            if not 0 < context < _MOST_ORIGINAL:
                continue
            exact = RopeScaling(
                kind="llama3", factor=factor, original_context=context,
                low_frequency_factor=low, high_frequency_factor=high,
            )  # fmt: skip
            for digits in (2, 4):
                yield dataclasses.replace(
                    exact,
                    low_frequency_factor=round(low, digits),
                    high_frequency_factor=round(high, digits),
                )
            yield exact


def _ramps(turns: np.ndarray, share: np.ndarray, original: int) -> Iterator[tuple[float, float]]:
    """(a, b) of the line s = a turns - b on which the shares between 0 and 1 lie."""
    between = (share > 1e-6) & (share < 1 - 1e-6)
    if between.sum() >= 2:
        a, b = np.polyfit(turns[between], share[between], 1)
        yield float(a), float(-b)
        return
    # One share or none leaves the line open: first what the file says, then the usual ratio, then
    # the flattest line that leaves the other frequencies whole or divides them wholly.
    usual = _USUAL_LOW / (_USUAL_HIGH - _USUAL_LOW)
    kept = float(turns[share >= 1 - 1e-6].min(initial=np.inf))
    stretched = float(turns[share <= 1e-6].max(initial=0.0))
    if kept <= stretched:  # a higher frequency is divided by more
        return
    if not between.any():
        if original:
            yield original * usual / _USUAL_LOW, usual
        yield usual / stretched, usual
        yield 1 / (kept - stretched), stretched / (kept - stretched)
        return
    (turn,), (value,) = turns[between], share[between]
    if original * turn > _USUAL_LOW:
        width = (original * turn - _USUAL_LOW) / value  # high - low
        yield original / width, _USUAL_LOW / width
    yield (value + usual) / turn, usual
    if not stretched < turn < kept:
        return
    slope = max((1 - value) / (kept - turn), value / (turn - stretched)) * (1 + 1e-6)
    yield slope, slope * turn - value
