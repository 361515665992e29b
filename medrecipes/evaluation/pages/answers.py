"""Answers side by side on a run's page: every row with what was wrong with it, as data, and the script that shows and searches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrecipes.core.files import digest
from medrecipes.evaluation.chat_report import TUNED
from medrecipes.evaluation.pages.flags import RIGHT, flags
from medrecipes.evaluation.pages.frame import paragraph, section, text
from medrecipes.scoring.predictions import SPANS, Prediction, read_spans_text

MOST = 400  # rows that a page holds
LONGEST = 4000  # characters of a text of theirs
FAILED = "case failed"
STYLE = """
.tools { display: flex; flex-wrap: wrap; gap: 10px 16px; align-items: end; margin: 12px 0; }
.tools label { display: grid; gap: 3px; font-size: 13px; color: var(--soft); min-width: 0; } .tools .find { flex: 1 1 240px; }
.tools input, .tools select, .more { font: inherit; color: var(--ink); background: var(--back); border: 1px solid var(--soft); border-radius: 8px; padding: 7px 10px; min-width: 0; max-width: 100%; width: 100%; }
.more { width: auto; cursor: pointer; padding: 8px 16px; margin-top: 12px; } .more:hover { background: var(--card); }
.row { border: 1px solid var(--line); border-radius: 10px; margin: 0 0 14px; overflow: hidden; }
.row h3 { margin: 0; padding: 10px 16px; background: var(--card); border-bottom: 1px solid var(--line); font-size: 15px; white-space: pre-wrap; overflow-wrap: anywhere; } .row h3.long { font-weight: 400; font-size: 14px; } .row h3 small { display: block; font-weight: 400; }
.said { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr)); }
.said > div { padding: 10px 16px 14px; min-width: 0; border-left: 1px solid var(--line); margin-left: -1px; }
.said h4 { margin: 0 0 4px; font-size: 13px; font-weight: 600; color: var(--soft); } .said p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 25em; overflow-y: auto; unicode-bidi: plaintext; }
.flags { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0 0; padding: 0; list-style: none; font-size: 12.5px; }
.flags li { padding: 1px 9px; border-radius: 99px; background: var(--badback); color: var(--bad); } .flags li.right { background: var(--goodback); color: var(--good); }
mark { color: inherit; background: var(--goodback); border-bottom: 2px solid var(--good); border-radius: 3px; padding: 1px 3px; } mark.wrong { background: var(--badback); border-bottom: 2px dashed var(--bad); } mark small { color: inherit; margin-left: 4px; }
"""
SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("embedded").textContent), STEP = 20;
const find = document.getElementById("find"), show = document.getElementById("show"), order = document.getElementById("order");
const list = document.getElementById("rows"), told = document.getElementById("told"), more = document.getElementById("more");
let chosen = [], shown = 0;
function make(name, text, kind) { const one = document.createElement(name); if (text) one.textContent = text; if (kind) one.className = kind; return one; }
function option(value, text, into) { const one = make("option", text); one.value = value; into.append(one); }
const count = new Map();
for (const row of data.rows) row.said.forEach((said, n) => said && said.flags.forEach(flag => count.set(n + ":" + flag, (count.get(n + ":" + flag) || 0) + 1)));
option("", "all rows (" + data.rows.length + ")", show);
const cases = data.rows.filter(row => row.case).length;
if (cases) option("case", "hand-written cases (" + cases + ")", show);
data.models.forEach((model, n) => {
  const group = document.createElement("optgroup"); group.label = model;
  for (const flag of data.flags) if (count.has(n + ":" + flag)) option(n + ":" + flag, model + ": " + flag + " (" + count.get(n + ":" + flag) + ")", group);
  if (group.children.length) show.append(group);
});
function gain(row) { const [a, b] = row.said; return a && b && a.bits !== null && b.bits !== null ? a.bits - b.bits : null; }
if (data.rows.some(row => gain(row) !== null)) { option("most", "tuning helped most", order); option("least", "tuning helped least", order); }
function passes(row, words) {
  if (show.value === "case" && !row.case) return false;
  if (show.value.includes(":")) { const at = show.value.indexOf(":"), said = row.said[+show.value.slice(0, at)]; if (!said || !said.flags.includes(show.value.slice(at + 1))) return false; }
  const text = (row.id + " " + row.asked + " " + row.gold + " " + row.said.map(said => said ? said.text : "").join(" ")).toLowerCase();
  return words.every(word => text.includes(word));
}
function body(row, text, spans, right) {
  const part = make("p");
  if (!spans) { if (text) part.textContent = text; else part.append(make("span", "(nothing)", "soft")); return part; }
  const words = row.asked.split(" "), same = span => right === null || right.some(other => other.join("|") === span.join("|"));
  let at = 0;
  for (const span of spans) {
    if (span[0] > at) part.append(words.slice(at, span[0]).join(" ") + " ");
    const one = make("mark", words.slice(span[0], span[1]).join(" "), same(span) ? "" : "wrong");
    one.append(make("small", span[2] + (same(span) ? "" : " (wrong)"))); part.append(one, " "); at = span[1];
  }
  part.append(words.slice(at).join(" "));
  return part;
}
function column(title, content, found) {
  const box = make("div"); box.append(make("h4", title), content);
  if (found && found.length) { const list = make("ul", "", "flags"); for (const flag of found) list.append(make("li", flag, flag === data.right ? "right" : "")); box.append(list); }
  return box;
}
function article(row) {
  const one = make("article", "", "row"), head = make("h3", data.spans ? row.id : row.asked, !data.spans && row.asked.length > 160 ? "long" : ""), said = make("div", "", "said");
  if (!data.spans) head.append(make("small", (row.case ? "hand-written case " : "") + row.id));
  one.append(head);
  said.append(column(data.spans ? "gold" : "reference", body(row, row.gold, row.goldspans, null)));
  row.said.forEach((each, n) => { if (each) said.append(column(data.models[n] + (each.bits === null ? "" : " \\u00b7 " + each.bits.toFixed(3) + " bits per byte of the reference"), body(row, each.text, each.spans, row.goldspans), each.flags)); });
  one.append(said);
  return one;
}
function next() {
  const end = Math.min(shown + STEP, chosen.length), first = list.children.length;
  for (; shown < end; shown++) list.append(article(chosen[shown]));
  for (const part of list.querySelectorAll(".said p")) if (part.scrollHeight > part.clientHeight) part.tabIndex = 0;  // by keyboard, too
  told.textContent = chosen.length + " of " + data.rows.length + " rows match" + (shown < chosen.length ? ", " + shown + " of them shown" : "");
  more.hidden = shown >= chosen.length;
  return list.children[first];
}
function look() {
  const words = find.value.toLowerCase().split(/\\s+/).filter(Boolean);
  chosen = data.rows.filter(row => passes(row, words));
  if (order.value) chosen = chosen.filter(row => gain(row) !== null).sort((a, b) => (gain(b) - gain(a)) * (order.value === "most" ? 1 : -1));
  list.replaceChildren(); shown = 0; next();
}
find.addEventListener("input", look); show.addEventListener("change", look); order.addEventListener("change", look);
more.addEventListener("click", () => { const first = next(); if (first) { first.tabIndex = -1; first.focus(); } });
document.getElementById("answers-tools").hidden = false;
look();
"""


def in_order(rows: Sequence[Prediction], seed: int) -> list[Prediction]:
    """Answers in the order in which they are evaluated; of tags, as they stand in their file."""
    return list(rows) if any(p.task == SPANS for p in rows) else sorted(rows, key=lambda p: digest(f"{seed}:{p.id}"))


def embedded(answers: Mapping[str, Sequence[Prediction]], cases: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """What the page's script shows: the first rows of the evaluation, then the hand-written cases; long texts are cut, and say so."""
    models = sorted(answers, key=lambda model: model == TUNED)
    by_id = [{p.id: p for p in answers[model]} for model in models]
    first = in_order(answers[models[-1]], seed)[:MOST]
    rows = [_row(p, [found.get(p.id) for found in by_id]) for p in first]
    for case in cases:
        row = _row(case, [*(None for _ in models[1:]), case])
        if RIGHT not in row["said"][-1]["flags"]:
            row["said"][-1]["flags"].append(FAILED)
        rows.append({**row, "case": True})
    told = dict.fromkeys(flag for row in rows for said in row["said"] if said for flag in said["flags"])
    spans = any(p.task == SPANS for p in first)
    return {
        "models": models,
        "right": RIGHT,
        "flags": sorted(told, key=lambda flag: flag == RIGHT),
        "spans": spans,
        "rows": rows,
    }


def _row(p: Prediction, said: Sequence[Prediction | None]) -> dict[str, Any]:
    row = {
        "id": p.id,
        "asked": p.prompt if p.task == SPANS else _cut(p.prompt),
        "gold": _cut(p.gold),
        "said": [_said(each) for each in said],
    }
    return {**row, **({"goldspans": _spans(p.gold)} if p.task == SPANS else {})}


def _said(p: Prediction | None) -> dict[str, Any] | None:
    if p is None:
        return None
    bits = round(p.bits / p.bytes, 4) if p.bits is not None and p.bytes else None
    said = {"text": _cut(p.prediction), "bits": bits, "flags": flags(p)}
    return {**said, **({"spans": _spans(p.prediction)} if p.task == SPANS else {})}


def _spans(text: str) -> list[list[Any]]:
    return [[span.start, span.end, span.type] for span in sorted(read_spans_text(text), key=lambda span: span.start)]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"


def answers_section(answers: Mapping[str, Sequence[Prediction]], cases: Sequence[Prediction], place: str) -> str:
    """Search, filter and the place that the script fills. `place`: the file that holds all answers."""
    whole = max(map(len, answers.values()), default=0)
    if not whole:
        return ""
    return section(
        "answers", "Answers side by side", *_said_of(whole, len(cases), place), _TOOLS.format(place=text(place))
    )


def _said_of(whole: int, cases: int, place: str) -> Iterator[str]:
    also = f", and {cases:,} hand-written cases, which the tuned model alone answered" if cases else ""
    if whole > MOST:
        yield paragraph(
            f"This page holds the first {MOST:,} of {whole:,} rows, in the order in which they were evaluated{also}; {place} holds all.",
            "note",
        )
    else:
        yield paragraph(
            f"All {whole:,} rows{also}. Flags are found by words and counts; they are no clinical verdict.", "soft"
        )


_TOOLS = """<noscript><p class="note">Searching needs JavaScript, which this browser has turned off; {place} holds every answer.</p></noscript>
<div class="tools" id="answers-tools" hidden>
<label class="find">Search questions and answers<input type="search" id="find" autocomplete="off" spellcheck="false"></label>
<label>Show<select id="show"></select></label>
<label>Order<select id="order"><option value="">as evaluated</option></select></label>
</div>
<p class="soft" id="told" role="status"></p>
<div id="rows"></div>
<button class="more" id="more" type="button" hidden>Show 20 more</button>"""
