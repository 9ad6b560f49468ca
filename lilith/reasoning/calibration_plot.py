"""The picture of a calibration: reliability by bin, how many answers each holds, and risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lilith.reasoning.metacognition import CalibrationReport

BLUE, RED, GREY = "#4a6fd1", "#c8553d", "#77727f"


def calibration_figure(report: CalibrationReport) -> Figure:
    """Accuracy against confidence, the number of answers by confidence, and risk by coverage."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    upper = figure.add_subplot(grid[0, 0])
    _reliability(upper, report)
    _counts(figure.add_subplot(grid[1, 0], sharex=upper), report)
    _risk(figure.add_subplot(grid[:, 1]), report)
    return figure


def _reliability(axes: Axes, report: CalibrationReport) -> None:
    width = 1 / len(report.bins)
    full = [(b.low, b.confidence, b.accuracy) for b in report.bins
            if b.confidence is not None and b.accuracy is not None]  # fmt: skip
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as it should be")
    axes.bar(
        [low for low, _, _ in full], [right for _, _, right in full], width=width, align="edge",
        color=BLUE, edgecolor="white", alpha=0.85, label="share right",
    )  # fmt: skip
    for place, (_, sure, right) in enumerate(full):
        axes.plot([sure, sure], [sure, right], color=RED, linewidth=2,
                  solid_capstyle="butt", label="gap" if place == 0 else None)  # fmt: skip
    kind = "calibrated" if report.calibrated else "uncalibrated"
    axes.set_title(f"Reliability ({kind}): ECE {report.ece:.3f}, Brier {report.brier:.3f}",
                   fontsize=11)  # fmt: skip
    axes.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", edgecolor="none", fontsize=9)
    _plain(axes)


def _counts(axes: Axes, report: CalibrationReport) -> None:
    from matplotlib.ticker import MaxNLocator

    width = 1 / len(report.bins)
    axes.bar([b.low for b in report.bins], [b.count for b in report.bins], width=width,
             align="edge", color=GREY, edgecolor="white")  # fmt: skip
    axes.set(xlabel="confidence", ylabel="answers")
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _plain(axes)


def _risk(axes: Axes, report: CalibrationReport) -> None:
    curve = report.risk_coverage
    axes.plot(curve.coverage, curve.risk, color=RED, linewidth=2)
    axes.axhline(1 - report.accuracy, color=GREY, linestyle="--", linewidth=1)
    axes.annotate("wrong among all", (0.02, 1 - report.accuracy), color=GREY, fontsize=9,
                  xytext=(0, 4), textcoords="offset points")  # fmt: skip
    order = "" if report.auroc is None else f", AUROC {report.auroc:.3f}"
    axes.set_title(f"Risk and coverage: area {curve.area:.3f}{order}", fontsize=11)
    top = max(float(curve.risk.max()), 1 - report.accuracy)
    axes.set(xlabel="share answered, the surest first", ylabel="share of wrong answers",
             xlim=(0, 1), ylim=(0, min(1.02, 1.15 * top + 0.02)))  # fmt: skip
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e1e8", linewidth=0.7)
    axes.set_axisbelow(True)
