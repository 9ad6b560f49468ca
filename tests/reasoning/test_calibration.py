"""Measures of calibration against numbers made by hand, and a calibrator that keeps its word."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lilith.reasoning.calibration import (
    FEATURES,
    CalibrationError,
    Calibrator,
    ReliabilityBin,
    auroc,
    brier,
    ece,
    reliability,
    risk_coverage,
)


def traces(count: int, seed: int = 0) -> tuple[list[dict[str, float | None]], list[int]]:
    """Features whose log-odds of a right answer are known, one of them often missing."""
    rng = random.Random(seed)
    rows: list[dict[str, float | None]] = []
    labels = []
    for _ in range(count):
        share, log_prob, verified = rng.random(), -3 * rng.random(), rng.random() < 0.5
        odds = 4 * share - 2 + 0.5 * (log_prob + 1.5) + (1.5 if verified else -1.5)
        labels.append(int(rng.random() < 1 / (1 + math.exp(-odds))))
        known = 1.0 if verified else -1.0
        rows.append(
            {
                "vote_share": share,
                "answer_log_prob": log_prob,
                "verifier": known if rng.random() < 0.7 else None,
            }
        )
    return rows, labels


def test_ece_by_hand() -> None:
    # Five bins: 0.1 and 0.15 fall into the first (mean 0.125, accuracy 0.5: 0.375 of weight 2/5),
    # 0.5 into the third (accuracy 1: 0.5 of 1/5), 0.9 and 1.0 into the last (0.95, 0.5: 0.45, 2/5).
    confidences, labels = [0.1, 0.15, 0.5, 0.9, 1.0], [0, 1, 1, 0, 1]
    assert ece(confidences, labels, bins=5) == pytest.approx(0.15 + 0.1 + 0.18)
    found = reliability(confidences, labels, bins=5)
    assert [b.count for b in found] == [2, 0, 1, 0, 2]
    assert found[0] == ReliabilityBin(0.0, 0.2, 2, 0.125, 0.5)
    assert found[1] == ReliabilityBin(0.2, 0.4, 0, None, None)


def test_brier_by_hand() -> None:
    assert brier([0.2, 0.7, 1.0], [0, 1, 0]) == pytest.approx((0.04 + 0.09 + 1.0) / 3)


def test_ece_of_a_calibrated_set_is_small_and_of_an_overconfident_one_is_not() -> None:
    rng = random.Random(3)
    confidences = [rng.random() for _ in range(20_000)]
    labels = [int(rng.random() < c) for c in confidences]
    assert ece(confidences, labels) < 0.015
    assert ece([c**0.25 for c in confidences], labels) > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_auroc_counts_pairs(seed: int) -> None:
    rng = random.Random(seed)
    labels = [0, 1] + [rng.randrange(2) for _ in range(28)]
    scores = [rng.randrange(6) / 3 for _ in labels]  # many ties
    pairs = [
        (right > wrong) + (right == wrong) / 2
        for (right, one), (wrong, other) in itertools.product(zip(scores, labels), repeat=2)
        if one == 1 and other == 0
    ]
    assert auroc(scores, labels) == pytest.approx(sum(pairs) / len(pairs))


def test_auroc_of_equal_scores_is_one_half() -> None:
    assert auroc([0.5] * 4, [0, 1, 1, 0]) == 0.5


def test_risk_coverage_by_hand() -> None:
    # From the most confident: right, wrong, right, wrong -> risks 0, 1/2, 1/3, 1/2.
    curve = risk_coverage([0.6, 0.9, 0.7, 0.8], [0, 1, 1, 0])
    assert curve.coverage == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_risk_coverage_does_not_order_ties() -> None:
    # 0.9 right, then a tie of one right and one wrong: risks 0, 0.25, 1/3 in either order.
    for labels in ([1, 1, 0], [1, 0, 1]):
        assert risk_coverage([0.9, 0.5, 0.5], labels).risk == pytest.approx([0, 0.25, 1 / 3])


def test_the_logistic_part_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rows, labels = traces(300)
    plain = [{"vote_share": r["vote_share"], "margin": r["answer_log_prob"]} for r in rows]
    ours = Calibrator.fit(plain, labels, penalty=2.0)
    table = np.array([list(r.values()) for r in plain])
    standard = (table - table.mean(0)) / table.std(0)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(standard, labels)
    assert ours.weights == pytest.approx(theirs.coef_[0], abs=1e-5)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_calibrated_confidence_holds_on_unseen_answers() -> None:
    fitted = Calibrator.fit(*traces(1500))
    rows, labels = traces(4000, seed=1)
    confidences = fitted.predict(rows)
    assert ece(confidences, labels) < 0.05
    assert auroc(confidences, labels) > 0.8
    assert brier(confidences, labels) < 0.18
    raw = [r["vote_share"] or 0.0 for r in rows]
    assert ece(raw, labels) > ece(confidences, labels)
    assert auroc(raw, labels) < auroc(confidences, labels)


def test_the_isotonic_part_never_falls_and_stays_inside() -> None:
    rng = random.Random(5)
    scores = [rng.gauss(0, 1) for _ in range(200)]
    labels = [int(rng.random() < 0.5 + 0.3 * math.sin(3 * s)) for s in scores]  # not monotone
    fitted = Calibrator.fit(scores, labels)
    predicted = fitted.predict(np.linspace(-10, 10, 401))
    steps = np.diff(predicted)
    assert (steps >= 0).all() or (steps <= 0).all()
    assert predicted.min() >= 1 / 202
    assert predicted.max() <= 201 / 202


def test_a_missing_feature_is_told_from_a_known_one() -> None:
    # Where the verifier is missing the answers are mostly wrong: the calibrator must see it.
    known: list[dict[str, float | None]] = [{"verifier": float(k % 2)} for k in range(100)]
    rows = known + [{"verifier": None}] * 50 + [{"vote_share": 0.5}] * 50
    labels = [1] * 90 + [0] * 10 + [0] * 85 + [1] * 15
    fitted = Calibrator.fit(rows, labels)
    assert fitted.predict([{}])[0] < 0.3 < 0.7 < fitted.predict([{"verifier": 0.5}])[0]


def test_fitting_is_deterministic_and_saving_keeps_every_bit(tmp_path: pathlib.Path) -> None:
    rows, labels = traces(200)
    fitted = Calibrator.fit(rows, labels)
    assert fitted == Calibrator.fit(rows, labels)
    fitted.save(tmp_path / "c.json")
    assert Calibrator.load(tmp_path / "c.json") == fitted
    assert fitted.features == tuple(n for n in FEATURES if n in rows[0])


def test_a_saved_calibrator_predicts_without_scikit_learn(tmp_path: pathlib.Path) -> None:
    fitted = Calibrator.fit([0.1, 0.4, 0.35, 0.8, 0.7, 0.9], [0, 0, 1, 1, 0, 1])
    fitted.save(tmp_path / "c.json")
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from lilith.reasoning.calibration import Calibrator\n"
        f"print(Calibrator.load({str(tmp_path / 'c.json')!r}).predict([0.5]).tolist())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(ended.stdout) == fitted.predict([0.5]).tolist()


def test_perfectly_separated_and_constant_features_converge() -> None:
    fitted = Calibrator.fit(
        [{"p_true": k / 20, "margin": 1.0} for k in range(20)], [0] * 10 + [1] * 10
    )
    low, high = fitted.predict([{"p_true": 0.0}, {"p_true": 1.0}])
    assert low < 0.1 < 0.9 < high


BAD: list[tuple[Any, Any, str]] = [
    ([0.5, 0.5], [1], "1 labels for 2 answers"),
    ([0.5, 0.5], [1, 2], "label 1 is 2"),
    ([0.5, 0.5], [1, float("nan")], "labels number 1 is nan"),
    ([0.5, float("nan")], [0, 1], "number 1 is nan"),
    ([], [], "no answers"),
    (["x", 1], [0, 1], "not a number"),
    ([[0.5], [0.4]], [0, 1], "2 axes"),
]


@pytest.mark.parametrize("measure", [ece, brier, auroc, risk_coverage, Calibrator.fit])
@pytest.mark.parametrize(("scores", "labels", "words"), BAD)
def test_bad_input_is_named(measure: Any, scores: Any, labels: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        measure(scores, labels)


def test_one_class_has_no_ranking() -> None:
    with pytest.raises(CalibrationError, match="all 3 answers are right"):
        auroc([0.1, 0.2, 0.3], [1, 1, 1])


@pytest.mark.parametrize(("label", "confidence"), [(0, 0.2), (1, 0.8)])
def test_one_class_gives_every_answer_the_same_confidence(
    label: int, confidence: float, tmp_path: pathlib.Path
) -> None:
    rows = [{"vote_share": 0.1 * i} for i in range(3)]
    fitted = Calibrator.fit(rows, [label] * 3)
    np.testing.assert_allclose(fitted.predict([*rows, {"vote_share": 5.0}]), confidence)
    fitted.save(tmp_path / "own.json")
    assert Calibrator.load(tmp_path / "own.json") == fitted


@pytest.mark.parametrize("measure", [ece, brier])
def test_a_confidence_outside_is_refused(measure: Any) -> None:
    with pytest.raises(CalibrationError, match=r"confidence 1 is 1\.2"):
        measure([0.1, 1.2], [0, 1])


def test_bad_features_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CalibrationError, match="did you mean 'vote_share'"):
        Calibrator.fit([{"vote_shar": 1.0}, {}], [0, 1])
    with pytest.raises(CalibrationError, match="p_true of answer 0 is nan"):
        Calibrator.fit([{"p_true": float("nan")}, {}], [0, 1])
    with pytest.raises(CalibrationError, match="no answer has a feature"):
        Calibrator.fit([{}, {"p_true": None}], [0, 1])
    with pytest.raises(CalibrationError, match="penalty is 0"):
        Calibrator.fit([0.1, 0.2], [0, 1], penalty=0)
    with pytest.raises(CalibrationError, match="bins is 0"):
        ece([0.5], [1], bins=0)
    fitted = Calibrator.fit(*traces(50))
    with pytest.raises(CalibrationError, match="has the feature 'p_true'"):
        fitted.predict([{"p_true": 0.5}])
    with pytest.raises(CalibrationError, match="expected a mapping"):
        fitted.predict([0.5])
    (tmp_path / "bad.json").write_text('{"features": []}')
    with pytest.raises(CalibrationError, match="not a saved calibrator"):
        Calibrator.load(tmp_path / "bad.json")
    with pytest.raises(CalibrationError, match="can not be read"):
        Calibrator.load(tmp_path / "none.json")
