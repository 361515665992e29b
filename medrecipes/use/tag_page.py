"""`medrecipes chat RUN --web` on a tagging run: a page to write a text on and see its entities marked, each with its probability."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.files import cache_root, digest
from medrecipes.data.bio_tags import OUTSIDE
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.evaluation.finished_run import open_run
from medrecipes.release.cards import DISCLAIMER
from medrecipes.use import chat_page
from medrecipes.use.tag_text import Found, open_tagger, tag_texts

COLOURS = ("#0e7490", "#a16207", "#15803d", "#a21caf", "#c2410c", "#b91c1c")  # of types, as on the terminal
LONGEST = 20_000  # characters of a text: some seconds of a processor
CSS = (
    chat_page.CSS
    + """
#marked .textfield { display: block; line-height: 2; word-break: normal; overflow-wrap: anywhere }
#marked .token.highlighted { margin: 0 1px }
#marked .highlighted .text { color: var(--body-text-color) !important }
#marked .line-break { display: block }
#found, #found > * { overflow-x: auto }
#found table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
#found table, #found tr, #found th, #found td { border: 0 !important }
#found th, #found td { padding: 3px 10px 3px 0; text-align: left; white-space: nowrap }
#found td { border-top: 1px solid var(--border-color-primary) !important }
#found td:last-child { width: 100%; white-space: pre-wrap }
"""
)
Tag = Callable[[str], Sequence[Found]]
Marked = dict[str, Any]


def serves(path: Path) -> bool:
    """Whether a finished run is one of tags."""
    return open_run(path).tags


def samples(path: Path) -> list[str]:
    """Texts of the dev rows, the same ones each time."""
    recipe = open_run(path).recipe
    rows = sorted(prepare_tagged(recipe).dev, key=lambda row: digest(f"{recipe.seed}:{row.id}"))
    return list(dict.fromkeys(" ".join(row.tokens) for row in rows))[: chat_page.SAMPLES]


def marked(text: str, found: Sequence[Found]) -> Marked:
    """A text with its entities, as Gradio marks them; both are drawn as text."""
    return {"text": text, "entities": [{"entity": one.type, "start": one.start, "end": one.end} for one in found]}


def listed(found: Sequence[Found]) -> str:
    """The entities as an HTML table; what stands in the text is text, whatever it looks like."""
    rows = "".join(
        f"<tr><td>{one.start}–{one.end}</td><td>{one.probability:.0%}</td><td>{escape(one.type)}</td><td>{escape(one.text)}</td></tr>"
        for one in found
    )
    head = "<tr><th>place</th><th>probability</th><th>type</th><th>text</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if found else ""


def build(name: str, types: Sequence[str], examples: Sequence[str], tag: Tag) -> Any:
    """The page as Gradio blocks."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    gr = import_module("gradio")

    def mark(text: str) -> tuple[Any, str, str]:
        if not text.strip():
            return None, "", "Write a text first."
        if len(text) > LONGEST:
            return (
                None,
                "",
                f"The text has {len(text):,} characters, this page takes {LONGEST:,}; tag it with `medrecipes tag`.",
            )
        found = tag(text)
        said = f"{len(found)} marked" if found else "no entity found"
        return marked(text, found), listed(found), said

    with gr.Blocks(title=f"{name} · medrecipes", analytics_enabled=False) as blocks:
        gr.Markdown(f"# {escape(name)}")
        gr.Markdown(f"> {DISCLAIMER}")
        text = gr.Textbox(label="Text", lines=4, elem_id="text", submit_btn=False)
        with gr.Row():
            asked = gr.Button("Mark entities", variant="primary", elem_id="mark", min_width=80)
            anew = gr.Button("New", elem_id="new", min_width=80)
        note = gr.HTML("", elem_id="note")
        colours = {type: COLOURS[i % len(COLOURS)] for i, type in enumerate(types)}
        shown = gr.HighlightedText(
            label=f"Entities: {', '.join(types)}", color_map=colours, elem_id="marked", buttons=[]
        )
        table = gr.HTML("", elem_id="found")
        gr.Examples([[example] for example in examples], [text], label="Texts of the dev set")
        # one text at a time: there is one model
        gr.on(
            [asked.click, text.submit], mark, [text], [shown, table, note], concurrency_limit=1, show_progress="hidden"
        )
        anew.click(lambda: ("", None, "", ""), None, [text, shown, table, note])
    return blocks


def serve(path: Path, console: Console, host: str, port: int) -> None:
    """Open the page of a finished tagging run and keep it until Ctrl-C."""
    with console.stage("load") as stage, console.quiet(cache_root() / "log.txt"):
        engine = open_tagger(path)
        types = sorted({label[2:] for label in engine.labels if label != OUTSIDE})
        stage.says(f"{engine.recipe.model.base} with adapter, which marks {' and '.join(types)}")
    blocks = build(path.name, types, samples(path), lambda text: tag_texts(engine, [text])[0])
    chat_page.keep(blocks, CSS, console, chat_page.Place(host, port, cache_root() / "log.txt"))
