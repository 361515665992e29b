"""Loss curves as pictures: of one run, and of several side by side."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.files import write_bytes

# Okabe and Ito's colours, told apart by the colour-blind too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

SHOWN = 0.95  # share of a run's training losses that its plot is high enough for
# and by the shape of their lines, where colours fail altogether
DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2), (4, 1, 1, 1, 1, 1), (10, 3), (1, 1))


@dataclass(frozen=True)
class Point:
    """A loss at a step, with the tokens and seconds of training until then where they are known."""

    step: int
    loss: float
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Curve:
    """A run's losses, in the unit of the panel that shows it."""

    name: str
    train: Sequence[Point]
    dev: Sequence[Point]


@dataclass(frozen=True)
class Panel:
    """Runs whose losses mean the same and share their plots; `why` explains the unit."""

    title: str
    unit: str
    why: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class View:
    """One of a panel's plots: which losses, against what."""

    title: str
    split: str
    against: str
    label: str
    raw: bool = False
    unit: float = 1.0

    def points(self, curve: Curve) -> list[tuple[float, float]]:
        """The losses of a run that it is made from; none where the run does not say."""
        known = [(getattr(p, self.against), p.loss) for p in (curve.train if self.split == "train" else curve.dev)]
        return [(x / self.unit, loss) for x, loss in known if x is not None]

    def line(self, curve: Curve) -> list[tuple[float, float]]:
        """What it draws of a run: training losses smoothed, dev losses as they are."""
        points = self.points(curve)
        if self.split == "dev":
            return points
        return list(zip([x for x, _ in points], smooth([loss for _, loss in points]), strict=True))


VIEWS = (
    View("training loss", "train", "step", "step", raw=True),
    View("dev loss", "dev", "step", "step"),
    View("training loss against tokens", "train", "tokens", "million tokens", unit=1e6),
    View("training loss against time", "train", "seconds", "minutes of training", unit=60),
)


def dash(number: int) -> tuple[int, ...]:
    """The line of the nth run; where the colours begin again, another line goes with each."""
    return DASHES[(number + number // len(COLOURS)) % len(DASHES)]


def drawn(curves: Sequence[Curve]) -> list[View]:
    """The views that at least one run has points for."""
    return [view for view in VIEWS if any(view.points(curve) for curve in curves)]


def ceiling(view: View, curves: Sequence[Curve]) -> float:
    """Where a plot ends above: the first steps of some runs are so high that nothing else could be told apart."""
    highest, lowest = -math.inf, math.inf
    for curve in curves:
        losses = sorted(loss for _, loss in view.points(curve))
        if losses:
            highest = max(
                highest, losses[-1 if view.split == "dev" else min(len(losses) - 1, int(SHOWN * len(losses)))]
            )
            lowest = min(lowest, losses[0])
    return highest + 0.05 * (highest - lowest) if highest > lowest else highest * 1.05


def smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average over a fiftieth of the curve, at least ten points, without a pull towards zero."""
    weight = 1 - 1 / max(10, len(values) / 50)
    smoothed, mean, norm = [], 0.0, 0.0
    for value in values:
        mean = weight * mean + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(mean / norm)
    return smoothed


def loss_png(path: Path, title: str, rows: Sequence[dict[str, str]], loss_on: str, kept: int | None = None) -> None:
    """Training loss, raw and smoothed, and dev loss over the steps; `kept`: the step whose adapter was kept, marked."""
    figure = _figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    train = [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == "train"]
    dev = [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == "dev"]
    if train:
        steps, losses = zip(*train, strict=True)
        axes.plot(steps, losses, color=COLOURS[0], alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(losses), color=COLOURS[0], linewidth=2, label="train (smoothed; raw behind)")
    if dev:
        axes.plot(*zip(*dev, strict=True), color=COLOURS[1], linewidth=2, marker="o", markersize=5, label="dev")
    if kept is not None:
        axes.axvline(kept, color=COLOURS[2], linewidth=1.5, linestyle="--", label=f"kept: step {kept:,}", zorder=1)
    axes.set(title=title, xlabel="step", ylabel=f"loss on {loss_on}, nats a token")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if train or dev:
        axes.legend(frameon=False)
    _save(figure, path)


def panels_png(path: Path, panels: Sequence[Panel], colours: Mapping[str, int]) -> None:
    """Plots, two a row, for each group of runs whose losses mean the same."""
    views_of = [drawn(panel.curves) for panel in panels]
    rows = [(len(views) + 1) // 2 for views in views_of]
    figure = _figure(figsize=(11, 4.2 * sum(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(sum(rows), 2, squeeze=False)
    for panel, views in zip(panels, views_of, strict=True):
        mine, grid = grid[: (len(views) + 1) // 2].ravel(), grid[(len(views) + 1) // 2 :]
        for axes in mine[len(views) :]:
            axes.set_axis_off()
        for axes, view in zip(mine, views, strict=False):
            for curve in panel.curves:
                _draw(axes, view, curve, colours[curve.name])
            axes.set_ylim(top=ceiling(view, panel.curves))
            axes.set(title=view.title, xlabel=view.label, ylabel=panel.unit)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        mine[0].set_title(f"{mine[0].get_title()} ({panel.title})")
        mine[0].legend(frameon=False)
    _save(figure, path)


def _figure(**settings: Any) -> Any:
    """A matplotlib figure that draws itself: pyplot, and with it a backend, is left alone.

    Even to import matplotlib fails where a notebook's kernel names its own backend, and this environment lacks that.
    """
    named = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.figure import Figure
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    return Figure(**settings)


def _save(figure: Any, path: Path) -> None:
    """Write a figure as a whole PNG file, or none."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_bytes(path, drawn.getvalue())


def _draw(axes: Any, view: View, curve: Curve, number: int) -> None:
    line = view.line(curve)
    if not line:
        return
    colour = COLOURS[number % len(COLOURS)]
    if view.raw:
        axes.plot(*zip(*view.points(curve), strict=True), color=colour, alpha=0.2, linewidth=0.8)
    marker = "o" if view.split == "dev" else None
    style: dict[str, Any] = {"marker": marker, "markersize": 4, "linewidth": 2, "dashes": dash(number)}
    axes.plot(*zip(*line, strict=True), color=colour, label=curve.name, **style)
