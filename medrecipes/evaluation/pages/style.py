"""The stylesheet of all pages: light and dark, from a phone's width to a wide screen, nothing fetched."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --back: #fff; --card: #f6f8fa; --link: #0a5aa8;
  --mark: #8a4b00; --markback: #fff4e0; --good: #116329; --bad: #a40e26; --badback: #ffebe9; --goodback: #dafbe1; --tuned: #0072b2; --base: #6e7781; --kept: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #363d46; --back: #14171b; --card: #1c2026; --link: #79b8f5;
  --mark: #ffc266; --markback: #33260f; --good: #5bd38a; --bad: #ff9a93; --badback: #3d1a1c; --goodback: #12301d; --tuned: #56b4e9; --base: #a3adb8; --kept: #ffc266; } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
html { scroll-padding-top: 16px; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 32px 20px 64px; max-width: 1200px; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 20px; letter-spacing: -.005em; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 22px 0 6px; font-weight: 600; }
p { margin: 6px 0 12px; max-width: 80ch; overflow-wrap: anywhere; } .lead { font-size: 17px; margin: 0 0 12px; } .soft, small, .unit { color: var(--soft); }
a { color: var(--link); } ul.plain { margin: 6px 0 12px; padding-left: 20px; max-width: 80ch; } ul.plain li { margin: 2px 0; overflow-wrap: anywhere; }
code, pre { font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, monospace; } code { overflow-wrap: anywhere; }
pre { margin: 6px 0 12px; padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 18px 0 0; padding: 0; list-style: none; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
.note { border-left: 4px solid var(--line); padding: 4px 12px; margin: 8px 0; max-width: 84ch; overflow-wrap: anywhere; }
.note.mark { border-color: var(--mark); background: var(--markback); color: var(--mark); font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 165px), 1fr)); gap: 14px; margin: 20px 0 6px; padding: 0; list-style: none; }
.keys li { padding: 14px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.keys b { display: block; font-size: 22px; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; } .keys span { display: block; font-size: 13px; font-variant-numeric: tabular-nums; } .keys .unit { display: inline; font-size: inherit; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 0 32px; margin: 12px 0; }
dl.facts div { display: grid; grid-template-columns: 7em 1fr; gap: 12px; padding: 5px 0; border-bottom: 1px solid var(--line); } dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 10px 0; list-style: none; }
.legend li { display: flex; align-items: center; gap: 8px; overflow-wrap: anywhere; } .legend svg { width: 36px; flex: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; margin: 12px 0; }
.strips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); gap: 14px; margin: 12px 0 18px; }
figure { margin: 0; padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; min-width: 0; }
figure figcaption { font-size: 14px; font-weight: 600; margin: 0 0 6px; overflow-wrap: anywhere; } figure figcaption small { font-weight: 400; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; } .strips svg { max-width: 320px; }
svg text { fill: var(--soft); font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; font-variant-numeric: tabular-nums; } .grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .raw { fill: none; stroke-width: .8; opacity: .28; }
.keptline { stroke: var(--kept); stroke-width: 1.5; stroke-dasharray: 4 3; } svg text.kept { fill: var(--kept); stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
.whisker { stroke-width: 2; } .base { stroke: var(--base); fill: var(--base); } .tuned { stroke: var(--tuned); fill: var(--tuned); } .strips circle { fill: var(--card); stroke-width: 2; } .strips circle.tuned { fill: var(--tuned); }
@media (prefers-color-scheme: dark) { .curve, .raw, .strips [class*="run"] { filter: brightness(1.35); } }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; margin: 8px 0 16px; max-width: 100%; } .scroll.fit { width: fit-content; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 6px 14px; border-bottom: 1px solid var(--line); white-space: nowrap; }
.n { text-align: right; } .wide { white-space: normal; min-width: 240px; overflow-wrap: anywhere; }
tr:last-child td, tr:last-child th { border-bottom: 0; } thead th { background: var(--card); font-weight: 600; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--back); }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; padding: 4px 0; overflow-wrap: anywhere; }
@media (max-width: 600px) { body { padding: 20px 14px 48px; } h1 { font-size: 24px; } .lead { font-size: 16px; } tbody th { white-space: normal; min-width: 110px; max-width: 150px; } th, td { padding: 5px 9px; } .plots svg text { font-size: 17px; } .keys { gap: 10px; } .keys li { padding: 10px 12px; } .keys b { font-size: 18px; } }
@media print { nav, .tools { display: none; } body { max-width: none; padding: 0; } }
"""
