"""Confidence that means what it says: measures of calibration, and a calibrator fitted on labels.

A label is 1 where an answer was right and 0 where it was wrong. The calibrator joins named
features of a trace by a logistic regression and maps its score to a share of right answers by an
isotonic regression; what it saves predicts without scikit-learn.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lilith.config import UserError, nearest

FEATURES = ("vote_share", "margin", "answer_log_prob", "p_true", "verifier", "truncated")
SCORE = "score"  # the name of the only feature where plain numbers are fitted
FOLDS = 5

Floats = npt.NDArray[np.float64]
Numbers = Sequence[float] | npt.NDArray[Any]
Row = Mapping[str, float | None]


class CalibrationError(UserError):
    """Confidences, labels, features or a saved calibrator that can not be used."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers with a confidence in [low, high): how many, their mean confidence and accuracy.

    The last bin holds 1 too. An empty bin has neither mean.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class RiskCoverage(NamedTuple):
    """``risk[k]`` of wrong answers among the ``coverage[k]`` most confident; ``area`` its mean."""

    coverage: Floats
    risk: Floats
    area: float


def reliability(confidences: Numbers, labels: Numbers, bins: int = 15) -> list[ReliabilityBin]:
    """Confidence against accuracy in ``bins`` bins of equal width over [0, 1].

    Raises:
      CalibrationError: no items, lengths that differ, a confidence outside [0, 1] or NaN, a label
        other than 0 and 1, or no bins.
    """
    values, right = _checked(confidences, labels, probabilities=True)
    if bins < 1:
        raise CalibrationError(f"bins is {bins}; use at least 1")
    places = np.minimum((values * bins).astype(int), bins - 1)
    found = []
    for place in range(bins):
        inside = places == place
        count = int(inside.sum())
        confidence = float(values[inside].mean()) if count else None
        accuracy = float(right[inside].mean()) if count else None
        found.append(ReliabilityBin(place / bins, (place + 1) / bins, count, confidence, accuracy))
    return found


def ece(confidences: Numbers, labels: Numbers, bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| of each bin, weighted by its share.

    Raises:
      CalibrationError: as :func:`reliability`.
    """
    found = reliability(confidences, labels, bins)
    total = sum(b.count for b in found)
    return sum(
        b.count / total * abs(b.confidence - b.accuracy)
        for b in found
        if b.confidence is not None and b.accuracy is not None
    )


def brier(confidences: Numbers, labels: Numbers) -> float:
    """Brier score: the mean of (confidence - label) squared; 0 is perfect.

    Raises:
      CalibrationError: as :func:`reliability`.
    """
    values, right = _checked(confidences, labels, probabilities=True)
    return float(np.mean((values - right) ** 2))


def auroc(scores: Numbers, labels: Numbers) -> float:
    """The chance that a right answer scores above a wrong one; a tie counts half.

    From mid-ranks (Mann and Whitney, 1947), so that any finite scores will do.

    Raises:
      CalibrationError: as :func:`reliability`, or all labels are the same.
    """
    values, right = _checked(scores, labels)
    _check_both_classes(right)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(right.sum())
    above = ranks[right == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(right) - positives)))


def risk_coverage(scores: Numbers, labels: Numbers) -> RiskCoverage:
    """The share of wrong answers among the k most confident, for k = 1 to all, and its mean.

    Answers of equal score have no order: each counts the mean error of them all.

    Raises:
      CalibrationError: as :func:`reliability`.
    """
    values, right = _checked(scores, labels)
    _, inverse, counts = np.unique(-values, return_inverse=True, return_counts=True)
    wrong = np.bincount(inverse, weights=1 - right) / counts
    answered = np.arange(1, len(values) + 1)
    risk = np.cumsum(np.repeat(wrong, counts)) / answered
    return RiskCoverage(answered / len(values), risk, float(risk.mean()))


@dataclass(frozen=True)
class Calibrator:
    """A fitted map from features (or a plain score) to the chance that the answer is right.

    ``weights`` belong to the standardised features, ``missing_weights`` to whether each is missing
    (a missing one counts as its mean besides). ``thresholds`` rise; between them the log-odds of
    the logistic part are mapped linearly to ``values``, which never fall.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    missing_weights: tuple[float, ...]
    intercept: float
    thresholds: tuple[float, ...]
    values: tuple[float, ...]
    examples: int

    def __post_init__(self) -> None:
        size = len(self.features)
        for name in ("means", "scales", "weights", "missing_weights"):
            if len(getattr(self, name)) != size:
                raise CalibrationError(
                    f"{name} of the calibrator has {len(getattr(self, name))} numbers for {size} "
                    "features"
                )
        numbers = [self.intercept, *self.means, *self.scales, *self.weights]
        numbers += [*self.missing_weights, *self.thresholds, *self.values]
        if not all(math.isfinite(number) for number in numbers):
            raise CalibrationError("the calibrator holds a number that is not finite")
        if not self.thresholds or len(self.thresholds) != len(self.values):
            raise CalibrationError("the calibrator needs a value for each threshold, at least one")
        if np.any(np.diff(self.thresholds) <= 0) or np.any(np.diff(self.values) < 0):
            raise CalibrationError("thresholds of the calibrator must rise and values never fall")
        if not all(0 <= value <= 1 for value in self.values) or min(self.scales) <= 0:
            raise CalibrationError("values of the calibrator lie in [0, 1] and scales above 0")

    @classmethod
    def fit(
        cls, features: Sequence[Row] | Numbers, labels: Numbers, penalty: float = 1.0
    ) -> Calibrator:
        """Fit on held-out answers; the same data always gives the same calibrator.

        ``features`` is a list of mappings from ``FEATURES`` to numbers, where None or an absent
        name is a missing one, or a list of plain scores. ``penalty`` is the weight of half the
        squared weights beside the log-loss. The isotonic part is fitted on scores of folds that
        the logistic part has not seen, and keeps 1 / (n + 2) away from 0 and 1. Where all n answers
        are wrong (or all right) nothing tells them apart: every answer gets 1 / (n + 2) (or what is
        left to 1), Laplace's rule of succession.

        Raises:
          CalibrationError: no items, lengths that differ, an unknown feature, NaN, a label other
            than 0 and 1, or a penalty that is not above 0.
        """
        from sklearn.isotonic import IsotonicRegression

        if not penalty > 0:
            raise CalibrationError(f"penalty is {penalty}; it must be above 0")
        names, table = _table(features)
        _, right = _checked(np.zeros(len(table)), labels)
        means, scales = _mean_and_scale(table)
        bound = 1 / (len(right) + 2)
        size = len(names)
        if right.min() == right.max():
            weights, thresholds = np.zeros(2 * size + 1), np.zeros(1)
            values = np.array([np.clip(right[0], bound, 1 - bound)])
        else:
            design = _design(table, means, scales)
            weights = _logistic(design, right, penalty)
            isotonic = IsotonicRegression(y_min=bound, y_max=1 - bound, out_of_bounds="clip")
            isotonic.fit(_unseen_scores(design, right, penalty), right)
            thresholds, kept = np.unique(isotonic.X_thresholds_, return_index=True)
            values = isotonic.y_thresholds_[kept]
        return cls(
            features=names,
            means=tuple(means.tolist()),
            scales=tuple(scales.tolist()),
            weights=tuple(weights[:size].tolist()),
            missing_weights=tuple(weights[size:-1].tolist()),
            intercept=float(weights[-1]),
            thresholds=tuple(thresholds.tolist()),
            values=tuple(np.maximum.accumulate(values).tolist()),
            examples=len(right),
        )

    def predict(self, features: Sequence[Row] | Numbers) -> Floats:
        """The calibrated confidence of each answer, [n] in (0, 1).

        Raises:
          CalibrationError: NaN, or a feature that the calibrator was not fitted with.
        """
        _, table = _table(features, self.features)
        weights = np.array([*self.weights, *self.missing_weights, self.intercept])
        scores = _design(table, np.array(self.means), np.array(self.scales)) @ weights
        return np.interp(scores, self.thresholds, self.values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibrator as JSON."""
        pathlib.Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibrator:
        """Read what :meth:`save` wrote; needs no scikit-learn.

        Raises:
          CalibrationError: the file can not be read or does not hold a calibrator.
        """
        try:
            data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CalibrationError(f"the calibrator {path} can not be read: {error}") from None
        return cls.from_data(data, str(path))

    @classmethod
    def from_data(cls, data: Any, name: str = "the data") -> Calibrator:
        """The calibrator of its own fields as JSON has them; ``name`` is where they are from.

        Raises:
          CalibrationError: they are not those of a calibrator.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise CalibrationError(f"{name} is not a saved calibrator: it needs {sorted(names)}")
        try:
            lists: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
            }
            return cls(**lists)
        except (TypeError, ValueError) as error:
            raise CalibrationError(f"{name} is not a saved calibrator: {error}") from None


def _checked(
    scores: Numbers, labels: Numbers, probabilities: bool = False
) -> tuple[Floats, Floats]:
    """Both as one-dimensional arrays of one length, labels as 0.0 and 1.0."""
    values, right = _numbers(scores, "confidences"), _numbers(labels, "labels")
    if len(values) != len(right):
        raise CalibrationError(
            f"there are {len(right)} labels for {len(values)} answers; give one label an answer"
        )
    if not len(values):
        raise CalibrationError("there are no answers to measure; give at least one")
    for place, label in enumerate(right):
        if label not in (0, 1):
            raise CalibrationError(f"label {place} is {label:g}; it must be 0 (wrong) or 1 (right)")
    if probabilities and (values.min() < 0 or values.max() > 1):
        place = int(np.argmax((values < 0) | (values > 1)))
        raise CalibrationError(f"confidence {place} is {values[place]:g}; it must lie in [0, 1]")
    return values, right


def _numbers(found: Any, name: str) -> Floats:
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise CalibrationError(f"{name} hold something that is not a number") from None
    if values.ndim != 1:
        raise CalibrationError(f"{name} have {values.ndim} axes; expected a flat list of numbers")
    if not np.isfinite(values).all():
        place = int(np.argmin(np.isfinite(values)))
        raise CalibrationError(f"{name} number {place} is {values[place]}; it must be finite")
    return values


def _check_both_classes(right: Floats) -> None:
    if right.min() == right.max():
        word = "right" if right[0] else "wrong"
        raise CalibrationError(
            f"all {len(right)} answers are {word}; both right and wrong ones are needed"
        )


def _table(
    features: Sequence[Row] | Numbers, names: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], Floats]:
    """Names and values [n, features], NaN where missing; ``names`` are those of a fitted one."""
    rows = list(features)
    if not all(isinstance(row, Mapping) for row in rows) or (not rows and names == (SCORE,)):
        if any(isinstance(row, Mapping) for row in rows) or names not in (None, (SCORE,)):
            raise CalibrationError(f"expected a mapping of {names or FEATURES} for each answer")
        return (SCORE,), _numbers(rows, "scores")[:, None]
    known = names or FEATURES
    for place, row in enumerate(rows):
        for name, value in row.items():
            if name not in known:
                raise CalibrationError(
                    f"answer {place} has the feature {name!r}{nearest(name, known)}; "
                    f"known: {', '.join(known)}"
                )
            if value is not None and not _is_finite(value):
                raise CalibrationError(
                    f"{name} of answer {place} is {value!r}; give a finite number, or None where "
                    "it is missing"
                )
    if names is None:
        names = tuple(n for n in FEATURES if any(row.get(n) is not None for row in rows))
        if rows and not names:
            raise CalibrationError(f"no answer has a feature; known: {', '.join(FEATURES)}")
    cells = [[row.get(name) for name in names] for row in rows]
    table = [[np.nan if cell is None else float(cell) for cell in row] for row in cells]
    return names, np.array(table, dtype=np.float64).reshape(len(rows), len(names))


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, np.bool_)) and math.isfinite(value)


def _mean_and_scale(table: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column where it is known; a constant one has scale 1."""
    means = np.nanmean(table, axis=0)
    scales = np.nanstd(table, axis=0)
    return means, np.where(scales > 1e-9 * (1 + np.abs(means)), scales, 1.0)


def _design(table: Floats, means: Floats, scales: Floats) -> Floats:
    """Standardised features (0 where missing), what is missing (1), and ones: [n, 2 f + 1]."""
    missing = np.isnan(table)
    standard = np.where(missing, 0.0, (np.where(missing, 0.0, table) - means) / scales)
    return np.hstack([standard, missing.astype(np.float64), np.ones((len(table), 1))])


def _logistic(design: Floats, right: Floats, penalty: float) -> Floats:
    """Weights of the penalised logistic regression by Newton's method; the intercept is free."""
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 1e-9

    def loss(weights: Floats) -> float:
        scores = design @ weights
        fit = np.logaddexp(0, scores) - right * scores
        return float(fit.sum() + 0.5 * (ridge * weights**2).sum())

    weights = np.zeros(design.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (chance - right) + ridge * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights


def _unseen_scores(design: Floats, right: Floats, penalty: float) -> Floats:
    """Log-odds of each answer by weights fitted without its fold, both classes spread evenly.

    With fewer than ``FOLDS`` of a class, the weights of all answers serve.
    """
    if min(right.sum(), (1 - right).sum()) < FOLDS:
        return design @ _logistic(design, right, penalty)
    fold = np.empty(len(right), dtype=int)
    for label in (0, 1):
        members = np.flatnonzero(right == label)
        fold[members] = np.arange(len(members)) % FOLDS
    scores = np.empty(len(right))
    for part in range(FOLDS):
        held = fold == part
        scores[held] = design[held] @ _logistic(design[~held], right[~held], penalty)
    return scores
