"""Plots as inline SVG: loss curves with the kept step marked, and figures with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrecipes.evaluation.pages.frame import text
from medrecipes.evaluation.verdicts import nil
from medrecipes.runs.loss_plot import COLOURS, Curve, Panel, Point, View, ceiling, dash, drawn
from medrecipes.scoring.tables import METRICS, SHARES, show

WIDE, HIGH = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 10, 40
COLUMNS = 280  # a curve of more points is drawn as the highest and lowest of each column
BLACK_IN_THE_DARK = "#F0F0F0"
STRIP, LANE, EDGE = 256, 22, 18  # an interval's picture: its width, the height of a lane, and room at the edge
LETTER, MOST = 6.8, 13  # how wide a letter of a lane's name is, and how many are shown
DEV_F1 = View("dev F1", "dev", "step", "step")


@dataclass(frozen=True)
class Marks:
    """What tells the plots of a page apart, and the step that a run kept."""

    prefix: str = ""
    kept: int | None = None


def colour_style(colours: Mapping[str, int]) -> str:
    """The colour of each run as a class, so that black can turn white in the dark."""
    light, dark = [], []
    for number in colours.values():
        colour = COLOURS[number % len(COLOURS)]
        light.append(f".run{number} {{ stroke: {colour}; }}")
        if colour == "#000000":
            dark.append(f".run{number} {{ stroke: {BLACK_IN_THE_DARK}; }}")
    return "\n".join([*light, f"@media (prefers-color-scheme: dark) {{ {' '.join(dark)} }}" if dark else ""])


def legend(names: Sequence[str], colours: Mapping[str, int]) -> str:
    """The line of each run beside its name."""
    items = [
        f'<li><svg viewBox="0 0 36 8" aria-hidden="true"><path class="curve run{colours[name]}" d="M0 4H36"'
        f"{_dashes(colours[name])}/></svg>{text(name)}</li>"
        for name in names
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def run_plots(name: str, losses: Sequence[Mapping[str, Any]], stats: Mapping[str, Any], marks: Marks) -> str:
    """Training loss, dev loss and dev F1 of one run against its steps, whichever there are."""
    points: dict[str, list[Point]] = {"train": [], "dev": []}
    for row in losses:
        if math.isfinite(
            loss := float(row["loss"])
        ):  # what is no number has no place in a plot, and stands in loss.csv
            points[row["split"]].append(Point(int(row["step"]), loss))
    curve = Curve(name, points["train"], points["dev"])
    panel = Panel("", "nats a token", "", (curve,))
    figures = [figure(panel, view, {name: 0}, marks) for view in drawn([curve]) if view.against == "step"]
    if f1 := [Point(int(look["step"]), float(look["f1"])) for look in stats.get("dev", ()) if "f1" in look]:
        marks = Marks(f"{marks.prefix}f1-", marks.kept)
        figures.append(figure(Panel("", "strict, micro", "", (Curve(name, (), f1),)), DEV_F1, {name: 0}, marks))
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def figure(panel: Panel, view: View, colours: Mapping[str, int], marks: Marks = Marks()) -> str:
    """One plot with its axes; what is above its top is cut off, and said to be."""
    lines = {curve.name: view.line(curve) for curve in panel.curves if view.points(curve)}
    raw = {curve.name: view.points(curve) for curve in panel.curves if view.points(curve)} if view.raw else {}
    losses = [loss for points in (*lines.values(), *raw.values()) for _, loss in points]
    right = max(x for points in lines.values() for x, _ in points) or 1.0
    top, bottom = ceiling(view, panel.curves), min(losses)
    bottom = max(0.0, bottom - 0.05 * (top - bottom))
    across = (WIDE - LEFT - RIGHT) / right
    down = (HIGH - TOP - BOTTOM) / ((top - bottom) or 1.0)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{LEFT + x * across:.1f} {HIGH - BOTTOM - (y - bottom) * down:.1f}" for x, y in points)

    clip = f"{marks.prefix}clip-{view.split}-{view.against}-{colours[next(iter(lines))]}"
    drawing = [
        f'<defs><clipPath id="{clip}"><rect x="{LEFT}" y="{TOP}" width="{WIDE - LEFT - RIGHT}" '
        f'height="{HIGH - TOP - BOTTOM}"/></clipPath></defs>'
    ]
    for value in ticks(bottom, top, 5):
        y = HIGH - BOTTOM - (value - bottom) * down
        drawing.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDE - RIGHT}"/>')
        drawing.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(0, right, 5):
        drawing.append(
            f'<text x="{LEFT + value * across:.1f}" y="{HIGH - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
        )
    drawing.append(f'<text x="{(LEFT + WIDE) / 2}" y="{HIGH - 3}" text-anchor="middle">{text(view.label)}</text>')
    drawing.append(f'<g clip-path="url(#{clip})">')
    drawing += [f'<path class="raw run{colours[name]}" d="{path(thin(points))}"/>' for name, points in raw.items()]
    for name, points in lines.items():
        style = f'class="curve run{colours[name]}"{_dashes(colours[name])}'
        drawing.append(f'<path {style} d="{path(thin(points))}"><title>{text(name)}</title></path>')
    drawing.append("</g>")
    if marks.kept is not None and marks.kept <= right:
        drawing.append(_kept(marks.kept, LEFT + marks.kept * across))
    about = f"{view.title}, {panel.unit}"
    cut = sum(loss > top for points in (raw or lines).values() for _, loss in points)
    note = f"<small>{cut:,} values lie above {top:.3g} and are not shown</small>" if cut else ""
    also = f"; step {marks.kept:,} was kept" if marks.kept is not None else ""
    svg = f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{text(about + also)}">{"".join(drawing)}</svg>'
    return f"<figure><figcaption>{text(about[:1].upper() + about[1:])}</figcaption>{svg}{note}</figure>"


def _kept(step: int, x: float) -> str:
    """The step whose checkpoint was kept."""
    left = x > (LEFT + WIDE) / 2
    return (
        f'<path class="keptline" d="M{x:.1f} {TOP}V{HIGH - BOTTOM}"/>'
        f'<text class="kept" x="{x + (-6 if left else 6):.1f}" y="{TOP + 14}" text-anchor="{"end" if left else "start"}">kept: step {step:,}</text>'
    )


def intervals(report: Mapping[str, Any], names: Sequence[str]) -> str:
    """Each metric of the base and of the tuned model with its interval, on a scale of its own; none of what says nothing."""
    first = report.get("columns", ("base",))[0]
    strips = []
    for name in names:
        lanes = [(first, "base", report["base"][name]), ("tuned", "tuned", report["tuned"][name])]
        if not all(nil(lane[2]) for lane in lanes):
            strips.append(strip(name, [lane for lane in lanes if lane[2]["value"] is not None]))
    return f'<div class="strips">{"".join(strips)}</div>' if strips else ""


def strip(name: str, lanes: Sequence[tuple[str, str, Mapping[str, float]]]) -> str:
    """One metric as a picture: a lane for each model, with its name, its class, and its figure."""
    scale = 100 if name in SHARES else 1
    ends = [
        figure[part] * scale for _, _, figure in lanes for part in ("value", "low", "high") if figure[part] is not None
    ]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    if scale == 100:
        low, high = max(low, 0.0), min(high, 100.0)
    names = LETTER * max(len(_short(title)) for title, _, _ in lanes) + 10
    across = (STRIP - names - EDGE) / (high - low)
    bottom = LANE * len(lanes) + 4

    def x(value: float) -> float:
        return names + (value * scale - low) * across

    drawing = []
    for value in ticks(low, high, 4):
        place = names + (value - low) * across
        drawing.append(f'<path class="grid" d="M{place:.1f} 2V{bottom}"/>')
        drawing.append(
            f'<text x="{place:.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}{"%" if scale == 100 else ""}</text>'
        )
    for number, (title, kind, figure) in enumerate(lanes):
        y = LANE * number + LANE / 2 + 2
        drawing.append(f'<text x="0" y="{y + 4:g}">{text(_short(title))}</text>')
        if figure["low"] is not None and figure["high"] is not None:
            left, right = x(figure["low"]), x(figure["high"])
            drawing.append(
                f'<path class="whisker {kind}" d="M{left:.1f} {y:g}H{right:.1f}M{left:.1f} {y - 4:g}v8M{right:.1f} {y - 4:g}v8"/>'
            )
        drawing.append(f'<circle class="{kind}" cx="{x(figure["value"]):.1f}" cy="{y:g}" r="4"/>')
    said = "; ".join(f"{title} {show(name, figure)}" for title, _, figure in lanes)
    title, better = METRICS[name]
    note = "" if better is None else f" <small>{'higher' if better else 'lower'} is better</small>"
    svg = f'<svg viewBox="0 0 {STRIP} {bottom + 18}" role="img" aria-label="{text(f"{title}: {said}")}">{"".join(drawing)}</svg>'
    return f"<figure><figcaption>{text(title)}{note}</figcaption>{svg}</figure>"


def _short(name: str) -> str:
    """A name with room for little of it: names of runs differ at their ends."""
    return name if len(name) <= MOST else f"{name[:4]}…{name[-(MOST - 5) :]}"


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most two points a column of the plot, its highest and its lowest, so that no spike is lost."""
    if len(points) <= 2 * COLUMNS:
        return list(points)
    kept = []
    for column in range(COLUMNS):
        part = points[column * len(points) // COLUMNS : (column + 1) * len(points) // COLUMNS]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(ends)
    return [points[0], *kept, points[-1]]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values between two ends, e.g. 0, 50, 100."""
    rough = (high - low) / about or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _dashes(number: int) -> str:
    return f' stroke-dasharray="{" ".join(map(str, dash(number)))}"' if dash(number) else ""
