"""The loss curve of a run as a picture."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from medrecipes.store import writing

# Okabe and Ito's colours, told apart by the colour-blind too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average without the pull of its start towards zero."""
    smoothed, mean, norm = [], 0.0, 0.0
    for value in values:
        mean = weight * mean + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(mean / norm)
    return smoothed


def loss_png(path: Path, title: str, rows: Sequence[dict[str, str]], loss_on: str) -> None:
    """Training loss, raw and smoothed, and dev loss over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    train = [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == "train"]
    dev = [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == "dev"]
    if train:
        steps, losses = zip(*train, strict=True)
        axes.plot(steps, losses, color=COLOURS[0], alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(losses), color=COLOURS[0], linewidth=2, label="train (smoothed; raw behind)")
    if dev:
        axes.plot(*zip(*dev, strict=True), color=COLOURS[1], linewidth=2, marker="o", markersize=5, label="dev")
    axes.set(title=title, xlabel="step", ylabel=f"loss on {loss_on}, nats a token")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if train or dev:
        axes.legend(frameon=False)
    with writing(path), tempfile.NamedTemporaryFile(dir=path.parent, suffix=".png", delete=False) as file:
        figure.savefig(file.name)
        pyplot.close(figure)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
