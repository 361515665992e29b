"""`medrecipes runs --web`: one page over all runs, live while they train; made of their files alone, for this machine alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import cache_root, digest
from medrecipes.evaluation.pages.frame import Html, document, table
from medrecipes.evaluation.pages.plots import Marks, colour_style, run_plots
from medrecipes.evaluation.pages.run_page import PAGE
from medrecipes.runs.folder import read_losses
from medrecipes.runs.listing import Listed, answers, in_words, lasting, list_runs
from medrecipes.use.chat_page import HOST, Place
from medrecipes.use.request_guard import ADDED, Hosts, Refused, require_own

SHOWN = 5  # answers of a run
LONGEST = 600  # characters of an answer
LIVE_S, STILL_S = 2, 10  # between two looks of the page: while a run is at work, and else
MORE = """
progress { width: 100%; height: 10px; accent-color: var(--tuned); } .live { color: var(--good); font-weight: 600; }
details { border: 1px solid var(--line); border-radius: 10px; margin: 12px 0; padding: 8px 16px; } summary h2 { display: inline; font-size: inherit; margin: 0; padding: 0; border: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 10px 0; } dt { color: var(--soft); } dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
SCRIPT = """
const main = document.querySelector("main"), said = document.querySelector("#said");
async function look() {
  let wait = STILL;
  try {
    const found = await (await fetch("runs.json", { cache: "no-store" })).json();
    const open = new Map([...main.querySelectorAll("details")].map(d => [d.id, d.open]));
    const focus = document.activeElement && document.activeElement.parentElement ? document.activeElement.parentElement.id : "";
    main.innerHTML = found.html;
    for (const d of main.querySelectorAll("details")) if (open.has(d.id)) d.open = open.get(d.id);
    const again = focus && document.getElementById(focus);
    if (again && again.querySelector("summary")) again.querySelector("summary").focus();
    said.textContent = found.said;
    if (found.live) wait = LIVE;
  } catch (error) { said.textContent = "The command has ended; this is what it showed last."; }
  setTimeout(look, wait);
}
setTimeout(look, LIVE);
"""


def page(folder: Path) -> str:
    """The whole page, which needs nothing else."""
    state = state_of(folder)
    script = SCRIPT.replace("STILL", str(1000 * STILL_S)).replace("LIVE", str(1000 * LIVE_S))
    head = f'<header><h1>Runs</h1>\n<p class="soft" id="said" role="status">{escape(str(state["said"]))}</p></header>'
    body = f"{head}\n<main>{state['html']}</main>"
    return document(f"Runs in {folder.name}", body, more_style=MORE + colour_style({"": 0}), script=script)


def state_of(folder: Path) -> dict[str, object]:
    """What the page looks for again and again: the runs as data, and as HTML in which every text is escaped."""
    runs = list_runs(folder)
    live = sum(bool(run.by) for run in runs)
    said = (
        f"{len(runs)} run{'s' if len(runs) != 1 else ''} in {folder}, {live} at work"
        if runs
        else f"No runs in {folder} yet."
    )
    html = _table(runs) + "".join(map(_section, runs)) if runs else ""
    return {"said": said, "live": bool(live), "html": html, "runs": [run.to_json() for run in runs]}


def _table(runs: Sequence[Listed]) -> str:
    rows: list[list[object]] = [["run", "state", "base", "tuned", "figure", "tokens/s", "left", "changed", "size"]]
    for run in runs:
        rate = f"{run.tokens_per_second:,.0f}" if run.tokens_per_second else ""
        left = lasting(run.seconds_left) if run.by and run.seconds_left is not None else ""
        name = Html(f'<a href="#{_id(run)}">{escape(run.name)}</a>')
        state = Html(f'<span class="live">{escape(run.said)}</span>') if run.by else run.said
        rows.append([name, state, run.of_base, run.tuned, run.figure, rate, left, f"{lasting(run.age_s)} ago", in_words(run.size)])  # fmt: skip
    return table(rows, "all runs")


def _id(run: Listed) -> str:
    """The same for a run whenever the page looks; its name may hold what an address cannot."""
    return f"run-{digest(run.name)[:12]}"


def _section(run: Listed) -> str:
    """A run: how far it is, its curves, its last answers."""
    parts = [f"<summary><h2>{escape(run.name)}: {escape(run.said)}</h2></summary>", f"<p>{escape(run.base)}</p>"]
    if (run.path / PAGE).is_file():  # a page of the web may not lead to a file of this machine
        parts.append(f"<p>Its report: <code>{escape(str(run.path / PAGE))}</code></p>")
    if run.step is not None and run.steps and run.state == "training":
        left = f", about {lasting(run.seconds_left)} left" if run.by and run.seconds_left is not None else ""
        parts.append(f'<progress max="{run.steps}" value="{min(run.step, run.steps)}" aria-label="steps of {escape(run.name, quote=True)}"></progress>')  # fmt: skip
        parts.append(f"<p>step {run.step:,} of {run.steps:,}{left}</p>")
    if plots := _plots(run):
        parts.append(plots)
    if found := answers(run.path, SHOWN):
        parts.append("<h3>Answers so far</h3>")
        for answer in found:
            pairs = (("question", answer["question"]), (answer["by"], answer["answer"]))
            parts.append("<dl>" + "".join(f"<dt>{escape(who)}</dt><dd>{escape(text[:LONGEST])}</dd>" for who, text in pairs) + "</dl>")  # fmt: skip
    return f'<details id="{_id(run)}"{" open" if run.by else ""}>{"".join(parts)}</details>'


def _plots(run: Listed) -> str:
    """Training and dev loss against the steps, as inline SVG."""
    with suppress(MedRecipesError, ValueError, KeyError):
        return run_plots(run.name, read_losses(run.path / "loss.csv"), {}, Marks(f"{_id(run)}-"))
    return ""


class _Pages(BaseHTTPRequestHandler):
    """The page and its data, for requests that come from the page itself."""

    folder: Path
    hosts = Hosts(HOST)
    timeout = 10

    def do_GET(self) -> None:
        """Answer the two addresses there are."""
        try:
            here = self.hosts.asked(self.headers.get_all("host") or [])
            link = (
                self.path == "/" and self.headers.get("sec-fetch-mode") == "navigate"
            )  # it may be followed from anywhere
            require_own(here, self.headers.get_all("origin") or [], () if link else self.headers.get_all("sec-fetch-site") or [])  # fmt: skip
            if self.path not in ("/", "/runs.json"):
                raise Refused(404, "no such page")
        except Refused as refused:
            self._send(refused.status, "text/plain", str(refused))
            return
        if self.path == "/":
            self._send(200, "text/html", page(self.folder))
        else:
            self._send(200, "application/json", json.dumps(state_of(self.folder)))

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in (("content-type", f"{kind}; charset=utf-8"), ("content-length", str(len(body)))):
                self.send_header(name, value)
            for header, setting in ADDED:
                self.send_header(header.decode(), setting.decode())
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the command's."""


def serve(folder: Path, console: Console, port: int) -> None:
    """Open the page and keep it until Ctrl-C."""
    place = Place(HOST, port, cache_root() / "log.txt")
    handler = type("Pages", (_Pages,), {"folder": folder})
    with place.open() as door:
        server = ThreadingHTTPServer((HOST, port), handler, bind_and_activate=False)
        server.socket.close()
        server.socket, server.daemon_threads = door, True
        console.line(f"page        {place}  (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    console.line("closed")
