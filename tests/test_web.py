"""The pages in a real browser: asked, watched, stopped, compared, entities marked, wide and narrow."""

from __future__ import annotations

import importlib.util
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.use.chat_page import require, token_view
from medrecipes.use.tag_page import listed, marked
from medrecipes.use.tag_text import Found
from tests import forked
from tests.browser import CHROMIUM, axe
from tests.conftest import free_port
from tests.test_serving import bound

GRADIO = importlib.util.find_spec("gradio") is not None
ABSENT = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None] + ["chromium"] * (CHROMIUM is None)  # fmt: skip
browsed = pytest.mark.skipif(
    bool(ABSENT),
    reason=f"clicking on the page needs {' and '.join(ABSENT)}: pip install 'gradio>=6.31,<7' playwright, and Chromium",
)
HTML = "<script>document.title='x'</script><b>Note</b>"
SCRIPT = "<script>document.title='x'</script><b>What</b> causes Asthma ?"


@pytest.mark.skipif(GRADIO, reason="gradio is installed")
def test_without_gradio_it_is_one_clear_line() -> None:
    with pytest.raises(MedRecipesError, match=re.escape("--web needs gradio; pip install -e '.[web]'")):
        require()


def test_the_prompt_is_shown_token_by_token_as_text() -> None:
    template = bound("llama3")
    ids = template.tokenizer.encode(["<b>a\n"], continuing=True)[0]
    view = token_view(template, [template.stop_id, *ids])
    assert f'<span class=control title="{template.stop_id}">&lt;|eot_id|&gt;</span>' in view
    assert "<b>" not in view
    assert view.startswith(f'<div class="tokens">{1 + len(ids)} tokens<br>')


def test_entities_are_given_as_text_with_their_places() -> None:
    found = [Found(0, 3, "<b>", "Chemical", 0.934), Found(4, 8, "Gout", "Disease", 0.5)]
    assert marked("<b> Gout", found) == {
        "text": "<b> Gout",
        "entities": [{"entity": "Chemical", "start": 0, "end": 3}, {"entity": "Disease", "start": 4, "end": 8}],
    }
    assert "<td>0–3</td><td>93%</td><td>Chemical</td><td>&lt;b&gt;</td>" in listed(found)
    assert listed([]) == ""


@contextmanager
def opened(run: Path, *arguments: str) -> Iterator[str]:
    """The page of a run, as the command opens it and Ctrl-C ends it."""
    port = free_port()
    process = forked.start("-m", "medrecipes", "chat", run, "--web", "--port", port, *arguments)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield url
    process.send_signal(2)
    out, error = process.communicate(timeout=60)
    assert f"page        {url}  (Ctrl-C ends it)" in out
    assert out.endswith("closed\n")
    assert process.returncode == 0, error


@pytest.fixture(scope="module")
def address(tiny_run: Path) -> Iterator[str]:
    """A page whose model babbles on, so that there is something to stop."""
    with opened(tiny_run, "--set", "eval.temperature=2", "--set", "eval.max_new_tokens=120") as url:
        yield url


@pytest.fixture(scope="module")
def tags(tag_run: tuple[Path, str]) -> Iterator[str]:
    """The page of a tagging run."""
    with opened(tag_run[0]) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def visit(browser: Any, address: str, width: int, button: str = "#ask", scheme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(button)
    page.wait_for_timeout(1000)
    return page


def answers(page: Any, model: str) -> list[str]:
    return [box.inner_text() for box in page.query_selector_all(f"#{model} .bot.message")]


def shoot(page: Any, name: str) -> None:
    """A picture for whoever wants to look: MEDRECIPES_PICTURES names the folder."""
    if folder := os.environ.get("MEDRECIPES_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@browsed
@pytest.mark.parametrize("width", [1280, 400])
def test_ask_watch_compare_and_html_stays_text(browser: Any, address: str, width: int) -> None:
    page = visit(browser, address, width)
    assert "Not a medical device" in page.inner_text("body")
    box = {name: page.query_selector(f"#{name}").bounding_box() for name in ("question", "ask", "tuned", "base")}
    # the question stands above the answers, and with its button on the first screen of a phone
    assert box["question"]["y"] < box["ask"]["y"] < box["tuned"]["y"] <= box["base"]["y"]
    assert box["ask"]["y"] + box["ask"]["height"] < 640
    page.fill("#question textarea", SCRIPT)
    page.press("#question textarea", "Shift+Enter")  # a line of the question
    assert page.input_value("#question textarea") == f"{SCRIPT}\n"
    page.press("#question textarea", "Enter")
    lengths = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (page.is_visible("#prompt") and len(answers(page, "base")) == 1 and len(lengths) > 1):  # fmt: skip
        lengths |= {len(text) for text in answers(page, "tuned") if len(text) > 1}
        page.wait_for_timeout(30)
    assert len(lengths) > 1  # it grew before the reader's eyes
    page.wait_for_function("() => { const b = document.querySelector('#base .bot.message'); return b && b.innerText.length > 40 }", timeout=60_000)  # fmt: skip
    assert page.title().endswith("· medrecipes")
    assert SCRIPT in page.inner_text("#tuned")
    assert SCRIPT in page.inner_text("#base")
    assert page.query_selector("#tuned .message b") is None
    assert page.query_selector("#tuned .message script") is None
    page.click("#prompt button")
    page.wait_for_selector("#prompt .tokens span.control")
    assert re.match(r"\d+ tokens", page.inner_text("#prompt .tokens"))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shoot(page, f"chat-{width}")
    assert [url for url in page.asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


@browsed
def test_an_answer_is_stopped_and_a_new_conversation_begun(browser: Any, address: str) -> None:
    page = visit(browser, address, 1280)
    page.click("button:has-text('What')")  # a question of the dev set
    page.wait_for_function("() => document.querySelector('#question textarea').value.length > 5")
    page.click("#ask")
    page.wait_for_function("() => { const b = document.querySelector('#tuned .bot.message'); return b && b.innerText.length > 3 }")  # fmt: skip
    page.click("#stop")
    page.wait_for_function("() => document.querySelector('#note').innerText.includes('stopped')", timeout=30_000)
    stopped = answers(page, "tuned")
    page.wait_for_timeout(1500)
    assert answers(page, "tuned") == stopped
    assert answers(page, "base") == []
    page.fill("#question textarea", "And then ?")
    page.click("#ask")
    page.wait_for_function("() => document.querySelectorAll('#tuned .bot.message').length === 2")
    page.click("#stop")
    page.wait_for_function("() => document.querySelector('#note').innerText.includes('stopped')", timeout=30_000)
    page.click("#new")
    page.wait_for_function("() => document.querySelectorAll('.bot.message').length === 0")
    page.close()


@browsed
@pytest.mark.parametrize("width", [1280, 400])
def test_entities_of_a_text_are_marked_and_html_stays_text(browser: Any, tags: str, width: int) -> None:
    page = visit(browser, tags, width, "#mark")
    assert "Not a medical device" in page.inner_text("body")
    page.click("#mark")
    page.wait_for_function("() => document.querySelector('#note').innerText.includes('Write a text first.')")
    page.click("button:has-text(' .')")  # a text of the dev set
    page.wait_for_function("() => document.querySelector('#text textarea').value.length > 5")
    text = f"Aspirin reduced the risk of myocardial infarction in men over 50. Gentamicin caused acute renal failure.\n{HTML}"
    page.fill("#text textarea", text)
    page.click("#mark")
    page.wait_for_selector("#found tbody tr")
    rows = [row.inner_text().split("\t") for row in page.query_selector_all("#found tbody tr")]
    for place, probability, kind, said in rows:
        start, end = map(int, place.split("–"))
        assert text[start:end] == said
        assert re.fullmatch(r"\d+%", probability)
        assert kind in ("Chemical", "Disease")
    spans = page.query_selector_all("#marked .highlighted")
    assert [span.query_selector(".text").inner_text() for span in spans] == [said for *_, said in rows]
    colours = {span.evaluate("s => s.querySelector('.label').innerText.trim().toLowerCase() + getComputedStyle(s).backgroundColor") for span in spans}  # fmt: skip
    assert len(colours) == len({kind for _, _, kind, _ in rows})  # a colour a type
    assert page.title().endswith("· medrecipes")
    assert page.query_selector("#marked b, #found b, #marked script, #found script") is None
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shoot(page, f"tags-{width}")
    page.click("#new")
    page.wait_for_function("() => !document.querySelector('#found tbody tr, #marked .highlighted')")
    assert page.input_value("#text textarea") == ""
    assert [url for url in page.asked if not url.startswith((tags, "data:", "blob:"))] == []
    page.close()


@browsed
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_each_page_can_be_read_by_everybody(browser: Any, address: str, tags: str, width: int, scheme: str) -> None:
    for url, button, box, text, answer in (
        (address, "#ask", "#question", "What is asthma?", "#base .bot.message"),
        (tags, "#mark", "#text", "Aspirin reduced the risk of myocardial infarction.", "#found tbody tr"),
    ):
        page = visit(browser, url, width, button, scheme)
        page.fill(f"{box} textarea", text)
        page.click(button)
        page.wait_for_selector(answer, timeout=60_000)
        for folded in page.query_selector_all("button.label-wrap"):
            folded.click()
        page.wait_for_timeout(500)  # what unfolds is drawn
        page.evaluate(axe())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(done => [done.passes.length, done.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)])])")  # fmt: skip
        assert found[0] >= 10
        assert [one for one in found[1] if one[0] in ("serious", "critical")] == [], (width, scheme)
        assert page.errors == []
        page.close()


@browsed
def test_each_page_listens_on_this_machine_alone(address: str, tags: str) -> None:
    listening = [
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    ]
    for url in (address, tags):
        port = int(url.rsplit(":", 1)[1])
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening
