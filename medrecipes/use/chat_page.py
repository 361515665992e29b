"""`medrecipes chat RUN --web`: a page to try a run on, base and tuned side by side; it listens on this machine alone."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError
from medrecipes.core.extras import install
from medrecipes.core.files import digest
from medrecipes.data.records import Message
from medrecipes.data.split import prepare
from medrecipes.engines import Decoding
from medrecipes.release.cards import DISCLAIMER
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.use.chat import Opened, pieces, trimmed, unanswered
from medrecipes.use.request_guard import Guard

HOST, PORT = "127.0.0.1", 7860
SAMPLES = 6
QUESTION = 20_000  # characters; what the model does not take it says in tokens
WAITING = 8  # questions that wait for the model; who comes then is told to come again
CONNECTIONS = 128
MODELS = ("tuned", "base")
THINKS = "thinks"  # of an answer that is being written
CSS = """
.tokens { font: 13px/1.9 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
.tokens span { border: 1px solid var(--border-color-primary); border-radius: 3px; padding: 0 1px }
.tokens span.control { background: var(--color-accent-soft); font-weight: 600 }
.min_value, .max_value { color: var(--body-text-color) !important }
footer { display: none !important }
#note, #note > * { min-height: 0 !important; padding: 0 !important }
"""
# a conversation that is longer than its box is scrolled by the keyboard, too
SCROLLED = """() => {
  const reach = () => document.querySelectorAll(".bubble-wrap").forEach(box => { box.tabIndex = 0 });
  reach();
  new MutationObserver(reach).observe(document.body, {childList: true, subtree: true});
}"""
Turn = dict[str, str]  # role and content, and of an answer its reasoning and what the page says of that
Talks = dict[str, list[Turn]]


def require() -> None:
    """Raise unless Gradio is there."""
    if importlib.util.find_spec("gradio") is None:
        raise MedRecipesError(f"--web needs gradio; {install('web')}")


def samples(opened: Opened) -> list[str]:
    """Questions of the dev rows, the same ones each time."""
    rows = sorted(prepare(opened.recipe).dev, key=lambda row: digest(f"{opened.recipe.seed}:{row.id}"))
    return list(dict.fromkeys(row.question for row in rows))[:SAMPLES]


def token_view(template: ChatTemplate, ids: Sequence[int]) -> str:
    """A prompt token by token as HTML; what stands in it is text, whatever it looks like."""
    control = set(template.tokenizer.control.values())
    tokens = (
        f'<span{" class=control" if id in control else ""} title="{id}">{escape(_visible(template.tokenizer.token(id)))}</span>'
        for id in ids
    )
    return f'<div class="tokens">{len(ids)} tokens<br>{" ".join(tokens)}</div>'


def _visible(token: str) -> str:
    """A token with its line ends to be seen."""
    return token.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")


class Page:
    """The run behind the page; a visitor's conversations live in the visitor's session."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._stops: dict[str, threading.Event] = {}

    def answer(
        self, question: str, talks: Talks, beside: bool, decoding: Decoding, session: str
    ) -> Iterator[tuple[Talks, str, str]]:
        """Both conversations as they grow, the last prompt token by token, and what there is to say about it."""
        stop = self._stops[session] = threading.Event()
        try:
            yield from self._answers(question, talks, beside, decoding, stop)
        finally:
            if self._stops.get(session) is stop:
                del self._stops[session]

    def _answers(
        self, question: str, talks: Talks, beside: bool, decoding: Decoding, stop: threading.Event
    ) -> Iterator[tuple[Talks, str, str]]:
        note, view = "", ""
        talks = {model: list(talks[model]) for model in MODELS}
        for model in MODELS if beside else MODELS[:1]:
            talk = self.opened.talk()
            talk.messages = [self._message(turn) for turn in talks[model]]
            try:
                ids, gone = talk.ask(question, decoding.max_new_tokens)
            except MedRecipesError as error:
                yield talks, view, escape(str(error))
                return
            note = trimmed(gone) if gone else note
            view = view or token_view(self.opened.template, ids)
            asked = [*talks[model][2 * gone :], {"role": "user", "content": talk.messages[-1].content}]
            budget = self.opened.recipe.eval.max_reasoning_tokens
            growing = self.opened.growing(decoding.max_new_tokens - budget)
            yield {**talks, model: [*asked, _turn("…")]}, view, note
            with self.opened.engine.base() if model == "base" else nullcontext():
                for _ in pieces(self.opened.engine.stream(ids, decoding, stop), growing):
                    yield {**talks, model: [*asked, _turn(growing.text, growing.thought, THINKS)]}, view, note
            talks = {**talks, model: [*asked, _turn(growing.text, growing.thought)]}
            if stop.is_set():
                yield talks, view, "stopped"
                return
            note = unanswered(growing, self.opened.recipe.eval) or note
        yield talks, view, note

    def _message(self, turn: Turn) -> Message:
        if turn["role"] == "user":
            return Message("user", turn["content"])
        return Message("assistant", turn["content"], self.opened.template.remembered(turn["reasoning"]))

    def stop(self, session: str) -> None:
        """End the answer that a visitor is reading."""
        if event := self._stops.get(session):
            event.set()

    def forget(self, session: str) -> None:
        """A visitor has left."""
        self.stop(session)

    def settings(self, limit: float, temperature: float, top_p: float, penalty: float, seed: float) -> Decoding:
        """Decoding as a visitor sets it; a slider's ends bind whoever moves it by hand, too."""
        longest, budget = self.opened.recipe.data.max_tokens // 2, self.opened.recipe.eval.max_reasoning_tokens
        return Decoding(
            int(_within(limit, 1, longest)) + budget, _within(temperature, 0, 2), _within(top_p, 0.05, 1), _within(penalty, 1, 2),
            int(_within(seed, 0, 2**31 - 1)),
        )  # fmt: skip


def _within(value: float | None, low: float, high: float) -> float:
    """A number between two ends; what is none counts as the lower."""
    return low if value is None or math.isnan(value) else min(max(value, low), high)


def shown(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """What a visitor sees of a conversation: text as text, for Gradio would draw HTML in it, and reasoning folded away once
    the answer begins."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.get("reasoning"):
            going = turn["status"] == THINKS and not turn["content"]
            about = {"title": "Reasoning", "status": "pending" if going else "done"}
            messages.append({"role": turn["role"], "content": escape(turn["reasoning"]), "metadata": about})
        if turn["content"] or not turn.get("reasoning"):
            messages.append({"role": turn["role"], "content": escape(turn["content"])})
    return messages


def _turn(text: str, reasoning: str = "", status: str = "") -> Turn:
    return {"role": "assistant", "content": text, "reasoning": reasoning, "status": status}


def build(page: Page) -> Any:
    """The page as Gradio blocks."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    gr = importlib.import_module("gradio")
    usual = Decoding.of(page.opened.recipe)
    empty: Talks = {model: [] for model in MODELS}

    def ask(
        question: str, talks: Talks, beside: bool, limit: float, temperature: float, top_p: float, penalty: float,
        seed: float, request: Any,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        if not question.strip():
            yield talks, shown(talks["tuned"]), shown(talks["base"]), gr.skip(), "Ask something first.", question
            return
        decoding = page.settings(limit, temperature, top_p, penalty, seed)
        for grown, view, note in page.answer(question.strip(), talks, beside, decoding, request.session_hash):
            yield grown, shown(grown["tuned"]), shown(grown["base"]), view, note, ""

    def stop(request: Any) -> None:
        page.stop(request.session_hash)

    def leave(request: Any) -> None:
        page.forget(request.session_hash)

    # by this annotation Gradio knows what to hand over
    for function in (ask, stop, leave):
        function.__annotations__["request"] = gr.Request
    box = {"render_markdown": False, "sanitize_html": True, "height": 360, "buttons": []}
    with gr.Blocks(title=f"{page.opened.name} · medrecipes", analytics_enabled=False) as blocks:
        gr.Markdown(f"# {escape(page.opened.name)}")
        gr.Markdown(f"> {DISCLAIMER}")
        talks = gr.State(empty)
        # above the answers, or a phone would show two empty boxes and no question; of one line, or Enter would not send it
        question = gr.Textbox(
            label="Question", placeholder="Enter sends it, Shift+Enter begins a line", lines=1, max_lines=8,
            max_length=QUESTION, elem_id="question", submit_btn=False,
        )  # fmt: skip
        with gr.Row():
            asked = gr.Button("Ask", variant="primary", elem_id="ask", min_width=80)
            stopped = gr.Button("Stop", elem_id="stop", min_width=80)
            anew = gr.Button("New", elem_id="new", min_width=80)
        note = gr.HTML("", elem_id="note")
        with gr.Row():
            with gr.Column(min_width=300):
                tuned = gr.Chatbot(label="tuned", elem_id="tuned", **box)
            with gr.Column(min_width=300):
                base = gr.Chatbot(label=f"base: {page.opened.recipe.model.base}", elem_id="base", **box)
        gr.Examples([[text] for text in samples(page.opened)], [question], label="Questions of the dev set")
        with gr.Accordion("Decoding", open=False):
            beside = gr.Checkbox(True, label="let the base answer too", elem_id="beside")
            limit = gr.Slider(1, page.opened.recipe.data.max_tokens // 2, page.opened.recipe.eval.max_new_tokens, step=1, label="longest answer, in tokens")  # fmt: skip
            temperature = gr.Slider(0, 2, usual.temperature, step=0.05, label="temperature (0: always the likeliest token)")  # fmt: skip
            top_p = gr.Slider(0.05, 1, usual.top_p, step=0.05, label="top_p")
            penalty = gr.Slider(1, 2, usual.repetition_penalty, step=0.05, label="repetition penalty (1: none)")
            seed = gr.Number(usual.seed, precision=0, label="seed")
        with gr.Accordion("The last prompt, token by token", open=False, elem_id="prompt"):
            view = gr.HTML("")
        inputs = [question, talks, beside, limit, temperature, top_p, penalty, seed]
        outputs = [talks, tuned, base, view, note, question]
        # one answer at a time: there is one model
        gr.on([asked.click, question.submit], ask, inputs, outputs, concurrency_limit=1, show_progress="hidden")
        stopped.click(stop, queue=False)
        # the little bins of the two conversations do what the button does
        gr.on([anew.click, tuned.clear, base.clear], lambda: (empty, [], [], "", "", ""), None, outputs)
        blocks.load(None, js=SCROLLED)
        blocks.unload(leave)
    return blocks


def serve(opened: Opened, console: Console, host: str, port: int) -> None:
    """Open the page of a run of conversations and keep it until Ctrl-C."""
    with opened.engine.talking():
        keep(build(Page(opened)), CSS, console, Place(host, port, opened.log))


@dataclass(frozen=True)
class Place:
    """Where a page is served, and the file for what the server has to say."""

    host: str
    port: int
    log: Path

    def open(self) -> socket.socket:
        """The socket that it listens on."""
        name = self.host.strip("[]")
        try:
            return socket.create_server((name, self.port), family=socket.AF_INET6 if ":" in name else socket.AF_INET)
        except (OSError, OverflowError) as error:
            raise MedRecipesError(
                f"--port {self.port}: cannot be opened on {self.host} ({error}); choose another"
            ) from None

    def __str__(self) -> str:
        name = self.host.strip("[]")
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"


def keep(blocks: Any, css: str, console: Console, place: Place) -> None:
    """Serve a page until Ctrl-C, behind a guard; never shared beyond the host that was asked for."""
    gr, fastapi, uvicorn = map(importlib.import_module, ("gradio", "fastapi", "uvicorn"))
    door = place.open()
    # fonts of the system: the usual theme fetches its own from another site; colours that can be read on each other
    theme = gr.themes.Default(primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
        **{f"button_primary_background_fill{state}{scheme}": f"*primary_{shade}" for state, shade in (("", 700), ("_hover", 800)) for scheme in ("", "_dark")},
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
    )  # fmt: skip
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None), blocks.queue(max_size=WAITING, api_open=False), "/", server_name=place.host,
        server_port=place.port, theme=theme, css=css, footer_links=[], run_history=False, show_error=False, ssr_mode=False,
        enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    settings = uvicorn.Config(
        Guard(app, place.host), log_level="error", ws="none", http="h11", proxy_headers=False, server_header=False,
        limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=32 << 10, timeout_graceful_shutdown=1,
    )  # fmt: skip
    console.line(f"page        {place}  (Ctrl-C ends it)")
    with door, console.quiet(place.log), suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[door])
    console.line("closed")
