"""How well preferences are predicted: accuracy with its interval, calibration, bias to length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # the standard normal's quantile of 0.975


def wilson_interval(successes: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a share of ``count`` trials (Wilson 1927); 95% by default.

    A tie may count as half a success. Without a trial nothing is known: (0, 1).
    """
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Exactly 0 and 1 where every trial ends alike, which rounding would miss.
    low, high = (middle - half) / scale, (middle + half) / scale
    return max(0.0, min(share, low)), min(1.0, max(share, high))


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions of one range: how many, their mean, and what share came true."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities against outcomes.

    Attributes:
      error: expected calibration error, the mean distance of predicted and observed over all
        predictions (Guo et al. 2017, equation 3).
      bins: those that hold a prediction.
    """

    error: float
    bins: tuple[CalibrationBin, ...]


def preference_calibration(
    probability_N: np.ndarray, label_N: np.ndarray, bins: int = 10
) -> Calibration:
    """Calibration of predicted preferences over ``bins`` ranges of equal width.

    Each pair counts in both orders, (p, label) and (1 - p, 1 - label): which side comes first says
    nothing, and in files of chosen and rejected answers it is always the better one.

    Args:
      probability_N: predicted probability that the first side is the better one.
      label_N: whether it is, as a probability.
    """
    probability = np.concatenate([probability_N, 1.0 - np.asarray(probability_N)])
    label = np.concatenate([label_N, 1.0 - np.asarray(label_N)])
    place = np.minimum((probability * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        mine = place == number
        if mine.any():
            figures = float(probability[mine].mean()), float(label[mine].mean())
            low, high = number / bins, (number + 1) / bins
            found.append(CalibrationBin(low, high, int(mine.sum()), *figures))
    distance = sum(each.count * abs(each.predicted - each.observed) for each in found)
    return Calibration(distance / max(1, len(probability)), tuple(found))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two figures of the same things; 0 where one of them is constant."""
    x, y = (np.ravel(values).astype(np.float64) for values in (x, y))
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
