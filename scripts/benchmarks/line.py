"""A whole run, stage by stage: what each takes, as a table and as a stacked bar.

usage: scripts/bench line RECIPE [--set KEY=VALUE]... [--runs FOLDER] [--png FILE]
       scripts/bench line RUN... [--png FILE]      runs that are finished, a bar each

The seconds are those of run.json and trainer_stats.json, so that any finished run can be shown. `train` is divided into
steps, evaluations of dev rows and checkpoints; a run that this command starts has its process's start and end besides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
# the colours of a palette that colour-blind people can tell apart; what trains is dark
COLOURS = {
    "start and end": "#dddddd", "data": "#bbbbbb", "base": "#88ccee", "tokens": "#44aa99", "proofs": "#999933", "load": "#ddcc77",
    "evaluate (base)": "#cc6677", "train: steps": "#332288", "train: dev evaluation": "#aa4499", "train: checkpoints": "#661100",
    "train: all else": "#6699cc", "evaluate (tuned)": "#882255",
}  # fmt: skip
NARROW = 0.06  # of a bar: shares below are named in the legend alone


def stages(state: Mapping[str, Any], stats: Mapping[str, Any], wall: float | None = None) -> dict[str, float]:
    """Seconds by stage, `train` divided; `wall`: of the whole process."""
    found: dict[str, float] = {}
    for name, seconds in state["seconds"].items():
        if name != "train":
            found[name] = seconds
            continue
        evaluated = stats.get("evaluation_seconds", 0.0)
        saved = stats.get("saving_seconds", 0.0)
        found["train: steps"] = max(0.0, min(seconds, stats["train_runtime"]) - evaluated - saved)
        found["train: dev evaluation"] = evaluated + stats.get("all_dev_seconds", 0.0)
        found["train: checkpoints"] = saved
        found["train: all else"] = max(0.0, seconds - stats["train_runtime"] - stats.get("all_dev_seconds", 0.0))
    if wall is not None:
        found["start and end"] = max(0.0, wall - sum(found.values()))
    return {name: found[name] for name in COLOURS if name in found}


def table(runs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown, a column of seconds and one of shares for each run."""
    names = [name for name in COLOURS if any(name in found for found in runs.values())]
    head = "| stage | " + " | ".join(f"{run} | " for run in runs) + " |"
    lines = [head, "| --- |" + " ---: | ---: |" * len(runs)]
    for name in [*names, "in all"]:
        cells = []
        for found in runs.values():
            whole = sum(found.values())
            seconds = whole if name == "in all" else found.get(name)
            cells += ["", ""] if seconds is None else [f"{seconds:.1f} s", f"{seconds / whole:.0%}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def draw(path: Path, runs: Mapping[str, Mapping[str, float]]) -> None:
    """A stacked bar for each run, by shares, so that a quick run and a slow one can be compared."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.9 + 0.5 * len(runs)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, found in enumerate(runs.values()):
        whole, left = sum(found.values()), 0.0
        for name, seconds in found.items():
            share = 100 * seconds / whole
            axes.barh(
                row, share, left=left, height=0.6, color=COLOURS[name], edgecolor="white", linewidth=0.5, label=name
            )
            if share >= 100 * NARROW:
                ink = (
                    "black"
                    if name in ("start and end", "data", "base", "tokens", "proofs", "load", "train: all else")
                    else "white"
                )
                axes.text(left + share / 2, row, f"{seconds:.0f} s", ha="center", va="center", fontsize=8, color=ink)
            left += share
    axes.set_yticks(
        range(len(runs)), [f"{run}\n{sum(found.values()):.0f} s" for run, found in runs.items()], fontsize=8
    )
    axes.set(xlim=(0, 100), xlabel="% of a run's time")
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    order = [name for name in COLOURS if name in known]
    figure.legend([known[n] for n in order], order, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    figure.savefig(path)


def run(recipe: str, settings: Sequence[str], folder: Path) -> tuple[Path, float]:
    """A run of its own, and the seconds of its process."""
    before = set(folder.glob("*/run.json"))
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "medrecipes", "run", recipe, "--runs", str(folder), "--fresh", *sets]
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True)
    wall = time.monotonic() - began
    [made] = set(folder.glob("*/run.json")) - before
    return made.parent, wall


def main(argv: list[str] | None = None) -> int:
    """Run the recipe or open what ran, and show where the time went."""
    parser = argparse.ArgumentParser(
        "scripts/bench line", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="+", metavar="RECIPE|RUN")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench" / "line")
    parser.add_argument("--png", type=Path, help="where the bars go (default: line.png in --runs)")
    arguments = parser.parse_args(argv)
    found = {}
    for what in arguments.what:
        path, wall = Path(what).resolve(), None
        if not (path / "run.json").exists():
            arguments.runs.mkdir(parents=True, exist_ok=True)
            path, wall = run(str(path) if path.exists() else what, arguments.set, arguments.runs.resolve())
        state, stats = (json.loads((path / name).read_text()) for name in ("run.json", "trainer_stats.json"))
        if state.get("state") != "finished":
            parser.error(f"{path}: is not a finished run; finish it with `medrecipes run` on its recipe")
        found[path.name.rpartition("-")[0] or path.name] = stages(state, stats, wall)
    print("\n".join(table(found)))
    png = arguments.png or arguments.runs / "line.png"
    png.parent.mkdir(parents=True, exist_ok=True)
    draw(png, found)
    print(f"\n{png}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
