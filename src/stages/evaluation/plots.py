"""The plots of a model. Same numbers, same bytes: the object API, no pyplot, no version in the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stages.evaluation.metrics import calibration_curves
from stages.training.predictions import Array, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's colours, which colour-blind readers tell apart (jfly.uni-koeln.de/color), without the pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY, _INK = "#8a8f98", "#22262c"
_MOST_LABELS, _MOST_BARS, _LONG = 15, 20, 28


@dataclass(frozen=True)
class Evaluation:
    """What the plots of a model show.

    Attributes:
        name: the model's.
        predictions: for the test part.
        scores: its metrics by name.
        curves: (class, false positive rates, true positive rates, area), one for each class that has a ROC curve.
        importance: (feature, mean, standard deviation), most important first.
    """

    name: str
    predictions: Predictions
    scores: dict[str, Any]
    curves: list[tuple[str, Array, Array, float]]
    importance: list[tuple[str, float, float]]


def draw(folder: Path, found: Evaluation) -> None:
    """Write the PNGs into `folder`: confusion, roc and calibration of a classifier or residuals, and importance."""
    with rc_context({"text.parse_math": False}):  # a `$` in a name begins no formula
        _draw(folder, found)


def _draw(folder: Path, found: Evaluation) -> None:
    name, predictions, scores = found.name, found.predictions, found.scores
    if predictions.classes is None:
        _residuals(folder / "residuals.png", name, predictions, scores)
        metric = "R²"
    else:
        _confusion(folder / "confusion.png", name, predictions, scores)
        if found.curves:
            _roc(folder / "roc.png", name, found.curves, scores)
        if "brier" in scores and (curves := calibration_curves(predictions)):
            _calibration(folder / "calibration.png", name, curves, scores)
        metric = "accuracy"
    _importance(folder / "importance.png", name, metric, found.importance)


def _confusion(path: Path, name: str, predictions: Predictions, scores: dict[str, Any]) -> None:
    labels, codes = np.unique(np.concatenate([predictions.actual, predictions.predicted]), return_inverse=True)
    size, rows = len(labels), len(predictions.actual)
    counts = np.bincount(codes[:rows] * size + codes[rows:], minlength=size * size).reshape(size, size)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(2.6 + 0.6 * size, 9)
    figure, axes = _axes((side + 0.5, side), f"{name}: accuracy {scores['accuracy']:.3f} on {rows} test rows")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.hlines(np.arange(1, size) - 0.5, -0.5, size - 0.5, color="white", linewidth=2)
    axes.vlines(np.arange(1, size) - 0.5, -0.5, size - 0.5, color="white", linewidth=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set(xlabel="predicted", ylabel="actual")
    if size > _MOST_LABELS:
        axes.set(xticks=[], yticks=[])
    else:
        names = [_short(label) for label in labels]
        turned = sum(map(len, names)) > 11 * side
        axes.set_xticks(range(size), names, rotation=40 if turned else 0, ha="right" if turned else "center")
        axes.set_yticks(range(size), names)
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if share[row, column] > 0.5 else _INK if count else _GREY  # noqa: PLR2004  where Blues is dark
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=13)
    axes.tick_params(length=0)
    _save(figure, path)


def _roc(path: Path, name: str, curves: list[tuple[str, Array, Array, float]], scores: dict[str, Any]) -> None:
    figure, axes = _axes((5.6, 5.2), f"{name}: ROC AUC {scores['roc_auc']:.3f}, each class against the rest")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1.2, label="chance 0.500")
    for number, (label, wrong, right, area) in enumerate(curves):
        # Curves often lie on one another: each next one is thinner, so that the ones beneath still show.
        width = max(1.4, 4.5 - 1.4 * number)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(wrong, right, color=colour, linewidth=width, label=f"{_short(label)} {area:.3f}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(color="#e6e8eb", linewidth=0.8)
    if len(curves) <= _MOST_LABELS:
        axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def _calibration(path: Path, name: str, curves: list[tuple[str, Array, Array]], scores: dict[str, Any]) -> None:
    figure, axes = _axes((5.6, 5.2), f"{name}: Brier score {scores['brier']:.3f}, what was said and what came")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1.2, label="perfectly calibrated")
    for number, (label, said, came) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(said, came, color=colour, linewidth=1.6, marker="o", markersize=5, label=_short(label))
    axes.set(xlabel="probability that the model says", ylabel="share that is of the class")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(color="#e6e8eb", linewidth=0.8)
    if len(curves) <= _MOST_LABELS:
        axes.legend(loc="upper left", frameon=False)
    _save(figure, path)


def _residuals(path: Path, name: str, predictions: Predictions, scores: dict[str, Any]) -> None:
    rows = len(predictions.actual)
    quality = f"R² {scores['r2']:.3f}, " if "r2" in scores else ""
    error = f"RMSE {scores['rmse']:.4g} " if "rmse" in scores else ""
    figure, axes = _axes((6.2, 4.4), f"{name}: {quality}{error}on {rows} test rows")
    axes.axhline(0, color=_INK, linewidth=1)
    axes.scatter(
        predictions.predicted,
        predictions.actual - predictions.predicted,
        s=26,
        alpha=max(0.1, min(0.8, 200 / rows)),
        color=COLOURS[0],
        edgecolors="white",
        linewidths=0.4,
    )
    axes.set(xlabel="predicted", ylabel="actual - predicted")
    axes.grid(color="#e6e8eb", linewidth=0.8)
    _save(figure, path)


def _importance(path: Path, name: str, metric: str, importance: list[tuple[str, float, float]]) -> None:
    shown = importance[:_MOST_BARS]
    more = f" ({len(shown)} of {len(importance)})" if len(importance) > len(shown) else ""
    figure, axes = _axes((6.4, 1.4 + 0.34 * len(shown)), f"{name}: permutation importance{more}")
    axes.barh(
        [_short(feature) for feature, _, _ in shown],
        [mean for _, mean, _ in shown],
        xerr=[deviation for _, _, deviation in shown],
        color=COLOURS[0],
        height=0.66,
        error_kw={"ecolor": _INK, "elinewidth": 1.1, "capsize": 3},
    )
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.invert_yaxis()
    axes.set(xlabel=f"drop in {metric} when the column is shuffled (mean ± SD)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
    _save(figure, path)


def _axes(size: tuple[float, float], title: str) -> "tuple[Figure, Axes]":
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.09))
    axes = figure.subplots()
    figure.suptitle(title, fontsize=12, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})
