"""A comparison as one HTML page that needs nothing else: plots as inline SVG, light and dark, wide and narrow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from medrecipes import __version__
from medrecipes.runs.loss_plot import COLOURS, Panel, View, ceiling, dash, drawn

PAIRED = (
    "Both runs answered the same rows; whole groups are drawn again and again, the same for both, and the interval (95%) is that "
    "of the difference. An interval that holds 0 shows no difference. Not corrected for the number of comparisons."
)
WIDE, HIGH = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 10, 40
COLUMNS = 280  # a curve of more points is drawn as the highest and lowest of each column
BLACK_IN_THE_DARK = "#F0F0F0"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --back: #fff; --card: #f6f8fa; --mark: #8a4b00; --markback: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #363d46; --back: #14171b; --card: #1c2026; --mark: #ffc266; --markback: #33260f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 1240px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; } h3 { font-size: 15px; margin: 0 0 4px; font-weight: 600; }
p { margin: 4px 0 10px; max-width: 80ch; } .soft { color: var(--soft); } small { color: var(--soft); }
.note { border-left: 4px solid var(--line); padding: 4px 12px; margin: 6px 0; overflow-wrap: anywhere; }
.note.mark { border-color: var(--mark); background: var(--markback); color: var(--mark); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 10px 0; list-style: none; }
.legend li { display: flex; align-items: center; gap: 8px; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 12px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; min-width: 0; }
svg { display: block; width: 100%; height: auto; } .legend svg { width: 36px; flex: none; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } .grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .raw { fill: none; stroke-width: .8; opacity: .28; }
@media (prefers-color-scheme: dark) { .curve, .raw { filter: brightness(1.35); } }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td, tr:last-child th { border-bottom: 0; } thead th { background: var(--card); }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--back); }
@media (max-width: 600px) { tbody th { white-space: normal; min-width: 110px; max-width: 130px; } th, td { padding: 5px 8px; } svg text { font-size: 17px; } }
"""


def html(
    panels: Sequence[Panel], notes: Sequence[str], marks: int, figures: Sequence[Sequence[str]],
    settings: Sequence[Sequence[str]], pairs: Sequence[Sequence[str]], colours: Mapping[str, int],
) -> str:  # fmt: skip
    """The whole page; the first `marks` notes are warnings."""
    parts = ["<h1>Runs side by side</h1>", f'<p class="soft">{len(colours)} runs, by medrecipes {__version__}</p>']
    parts += [
        f'<div class="note{" mark" if number < marks else ""}">{escape(note)}</div>'
        for number, note in enumerate(notes)
    ]
    for panel in panels:
        parts.append(f"<h2>{escape(panel.title.capitalize())}, {escape(panel.unit)}</h2>")
        if panel.why:
            parts.append(f"<p>{escape(panel.why)}</p>")
        parts.append(_legend([curve.name for curve in panel.curves], colours))
        plots = [figure(panel, view, colours) for view in drawn(panel.curves)]
        parts.append(f'<div class="plots">{"".join(plots)}</div>')
    parts += ["<h2>Figures</h2>", _table(figures)]
    if len(settings) > 1:
        parts += ["<h2>Settings that differ</h2>", _table(settings)]
    if len(pairs) > 1:
        parts += ["<h2>Which differences are real</h2>", f"<p>{escape(PAIRED)}</p>", _table(pairs)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Runs side by side</title>\n'
        f"<style>{STYLE}{colour_style(colours)}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def colour_style(colours: Mapping[str, int]) -> str:
    """The colour of each run as a class, so that black can turn white in the dark."""
    light, dark = [], []
    for number in colours.values():
        colour = COLOURS[number % len(COLOURS)]
        light.append(f".run{number} {{ stroke: {colour}; }}")
        if colour == "#000000":
            dark.append(f".run{number} {{ stroke: {BLACK_IN_THE_DARK}; }}")
    return "\n".join([*light, f"@media (prefers-color-scheme: dark) {{ {' '.join(dark)} }}" if dark else ""])


def _dashes(number: int) -> str:
    return f' stroke-dasharray="{" ".join(map(str, dash(number)))}"' if dash(number) else ""


def _legend(names: Sequence[str], colours: Mapping[str, int]) -> str:
    items = [
        f'<li><svg viewBox="0 0 36 8" aria-hidden="true"><path class="curve run{colours[name]}" d="M0 4H36"'
        f"{_dashes(colours[name])}/></svg>{escape(name)}</li>"
        for name in names
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def figure(panel: Panel, view: View, colours: Mapping[str, int]) -> str:
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

    clip = f"clip-{view.split}-{view.against}-{colours[next(iter(lines))]}"
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
    drawing.append(f'<text x="{(LEFT + WIDE) / 2}" y="{HIGH - 3}" text-anchor="middle">{escape(view.label)}</text>')
    drawing.append(f'<g clip-path="url(#{clip})">')
    drawing += [f'<path class="raw run{colours[name]}" d="{path(thin(points))}"/>' for name, points in raw.items()]
    for name, points in lines.items():
        style = f'class="curve run{colours[name]}"{_dashes(colours[name])}'
        drawing.append(f'<path {style} d="{path(thin(points))}"><title>{escape(name)}</title></path>')
    drawing.append("</g>")
    about = f"{view.title}, {panel.unit}"
    cut = sum(loss > top for points in (raw or lines).values() for _, loss in points)
    note = f"<small>{cut:,} values lie above {top:.3g} and are not shown</small>" if cut else ""
    svg = f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(about)}">{"".join(drawing)}</svg>'
    return f"<figure><h3>{escape(about.capitalize())}</h3>{svg}{note}</figure>"


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


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in body
    ]
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
