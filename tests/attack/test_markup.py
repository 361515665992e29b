"""Mark-up in rows, names, system messages and settings: text in reports, cards, comparisons and CSVs, whatever it looks like."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from medrecipes.core.console import Console
from medrecipes.core.markup import UNSEEN, Markup, begun, cell, code, fenced, plain
from medrecipes.evaluation.chat_report import report, write_report
from medrecipes.evaluation.compare import as_markdown, compare
from medrecipes.evaluation.pages.run_page import as_html, read_facts
from medrecipes.recipe.schema import Recipe
from medrecipes.release.cards.dataset import dataset_card
from medrecipes.release.cards.facts import Facts
from medrecipes.release.cards.model import card
from medrecipes.release.gates import Gate
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.predictions import Prediction
from medrecipes.scoring.tables import markdown

Counter = Callable[..., None]
# tags that no page of ours has
OTHER_TAGS = re.compile(
    r"(?i)<(?!/?(?:!doctype|html|head|header|main|nav|section|footer|link|meta|title|style|body|h1|h2|h3|p|div|ul|li|b|a|dl|dt|dd|pre|svg|path|circle|figure|figcaption|small|span"
    r"|table|thead|tbody|tr|th|td|defs|clippath|rect|text|g|details|summary|noscript|label|input|select|option|button)\b)"
)
HOSTILE = (
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "<b>bold</b>", "</td></tr></table>", "<!-- gone", "<?php x ?>", "<details open>",
    "<https://evil.example>", "&lt;img&gt;", "&#60;b&#62;", "&amp;", "[link](http://evil.example)", "[link](javascript:alert(1))", "![image](http://evil.example/x.png)",
    "[a][b]", "[a]: http://evil.example 'x'", "[^1]: note", "http://evil.example", "https://evil.example/?a=b&c=d", "ftp://evil.example", "www.evil.example", "WWW.evil.example",
    "evil@evil.example", "@somebody", "mailto:evil@evil.example", "# heading", "## heading", "heading\n===", "heading\n---", "---", "***", "___", "> quoted", "- item", "+ item",
    "* item", "1. item", "1) item", "- [x] done", "```", "```python\nimport os\n```", "~~~", "~~struck~~", "~struck~", "`code`", "``code``", "**bold**", "__bold__", "*it*",
    "_it_", "***both***", "a | b | c", "| a | b |\n|---|---|\n| c | d |", "a\\|b", "\\`code\\`", "\\<b>", "\\\\", "\\", "a\\", "$x^2$", "$$x$$", "\\(x\\)", ":smile:",
    "---\nlicense: mit\n---", "license: mit", "!!python/object:os.system", "{{ x }}", "{% include x %}", "    indented code", "\tindented", "a  \nb", "a\r\nb", "a\rb", "a\u2028b",
    "\x1b[31mred", "\x00", "\x07", "a\u202eb", "\u200f", "text`", "`text", "*text", "text*", "[text", "text]", "(text)", "<", ">", "&", "#", "|", "~", "-", "=", "+", ".",
)  # fmt: skip
FORMULAS = ("=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=HYPERLINK(\"http://evil.example\")", "＝1+1", "＋1", "－1", "＠x", "+inf", "-nan", "--1", "=")  # fmt: skip
NUMBERS = ("-1", "+1", "-0.5", "-1e-5", "0.123", "12", "1e5", "")
DRAWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def parts(text: str) -> Iterator[Token]:
    """All that a Markdown text is made of, as a reader of pages would have it."""
    for token in DRAWN.parse(text):
        yield token
        yield from token.children or ()


def kinds(text: str) -> set[str]:
    return {token.type for token in parts(text)}


def said(text: str) -> str:
    """The words that are shown."""
    return (
        "".join(
            token.content for token in parts(text) if token.type in ("text", "text_special", "code_inline", "fence")
        )
        + " "
    )


def shown(text: str) -> str:
    return " ".join(UNSEEN.sub(" ", text).split())


@pytest.mark.parametrize("form", ["{}", "before {} after", "{}{}", "({})", "a{}b"])
def test_a_text_stays_text_wherever_it_stands(form: str, record_property: Counter) -> None:
    harmless = {"inline", "text", "text_special", "softbreak", "paragraph_open", "paragraph_close"}
    table = {f"{name}_{end}" for name in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")}
    items = {f"{name}_{end}" for name in ("bullet_list", "list_item") for end in ("open", "close")}
    for hostile in HOSTILE:
        text = form.format(*[hostile] * form.count("{}"))
        one = shown(text)
        for drawn, allowed in (
            (begun(text), harmless),
            (f"- said: {plain(one)}", harmless | items),
            ("\n".join(markdown([["a", one], [one, "b"], ["c", "d"]])), harmless | table),
            (f"**{plain(f'x{one}x')}**", harmless | {"strong_open", "strong_close"}),
            (f"# x {plain(one)} x", harmless | {"heading_open", "heading_close"}),
        ):
            assert kinds(drawn) <= allowed, (text, drawn, kinds(drawn) - allowed)
            assert one in said(drawn), (text, drawn, said(drawn))
            assert not re.search(r"(?i)(https?|ftp)://|\bwww\.|\w@\w", drawn), (
                drawn
            )  # what some pages link by themselves
        cells = [token.type for token in parts("\n".join(markdown([["a", "b"], [one, one], ["c", "d"]])))]
        assert (cells.count("th_open"), cells.count("td_open")) == (2, 4), text
        assert [token.type for token in DRAWN.parse(begun(text))].count("paragraph_open") == bool(one), text
        assert begun(Markup(text)) == plain(Markup(text)) == text  # what is ours is left alone
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_code_holds_what_it_is_given(record_property: Counter) -> None:
    for hostile in HOSTILE:
        for text in (hostile, f"a\n{hostile}\nb", f"{hostile}{hostile}", "`" * 5 + hostile):
            if not UNSEEN.sub(" ", text).strip():
                continue
            [block] = DRAWN.parse(fenced("text", text))
            assert (block.type, block.content.split()) == ("fence", UNSEEN.sub(" ", text).split()), text
            if one := shown(text):
                spans = [token for token in parts(f"before {code(text)} after") if token.type == "code_inline"]
                assert [token.content for token in spans] == [one], text
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_no_cell_is_a_formula_and_numbers_stay_numbers(record_property: Counter) -> None:
    for text in FORMULAS:
        assert cell(text) == f"'{text}"
    for text in (*NUMBERS, "text", "a=1", "2026-01-01", "1.234 [1.1, 1.3]"):
        assert cell(text) == text
    record_property("attacks", ("formulas", len(FORMULAS)))


def plain_document(text: str, *own: str) -> None:
    """Hold that a document is made of tables, lists, headings and our own code, and of nothing that a text could bring."""
    own_kinds = ("html_inline", "html_block", "link_open", "image", "s_open", "em_open", "blockquote_open", "hr")
    found = {token.type for token in parts(text) if token.type in own_kinds}
    assert found <= set(own), (found, [t.content for t in parts(text) if t.type in found])
    assert not UNSEEN.search(text)


def row(number: int, model: str, text: str) -> Prediction:
    return Prediction(f"{number}", f"g{number}", "qa", f"Q {text}", f"A {text}", text, model, True, 3, 64, 20.0, 10)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with mark-up wherever a text can stand."""
    everything = " ".join(HOSTILE)
    folder = tmp_path_factory.mktemp("runs") / "<b>[run](http:x)|"
    recipe = Recipe.model_validate(
        {"name": "demo", "template": {"system": everything}, "train": {"loss_on": "answers"}}
    )
    object.__setattr__(recipe, "name", "x`<b>|*y*[z](u)")  # as runs of old times could be called
    base, tuned = ([row(n, model, text) for n, text in enumerate(HOSTILE)] for model in ("base", "tuned"))
    cases = [
        dataclasses.replace(row(n, "tuned", text), id=text, task=text) for n, text in enumerate((everything, *HOSTILE))
    ]
    (folder / "eval").mkdir(parents=True)
    value = report(recipe, ("test", "key"), base, tuned, cases)
    value["suites"] = [{"harness": everything, "tasks": [everything], "base": {everything: {"acc,none": 0.5}}, "tuned": {everything: {"acc,none": 0.5}}}]  # fmt: skip
    write_report(recipe.name, folder / "eval", value, base, tuned, cases)
    (folder / "eval" / "predictions.jsonl").write_text("".join(json.dumps(p.__dict__) + "\n" for p in (*base, *tuned)))
    (folder / "recipe.toml").write_text(recipe.to_toml())
    (folder / "run.json").write_text(json.dumps({"state": everything, "proofs": {"train": {"tokenizer_sha256": "t"}}}))
    (folder / "data.json").write_text(json.dumps({"tokens": {}}))
    lines = [f"{step},1,{split},2.0,,,10,5,8000,1" for step in (1, 2) for split in ("train", "dev")]
    head = "step,epoch,split,loss,learning_rate,grad_norm,tokens,supervised_tokens,tokens_per_second,peak_gb"
    (folder / "loss.csv").write_text("\n".join([head, *lines, ""]))
    return folder


def test_rows_and_cases_stay_text_in_a_report(run: Path, record_property: Counter) -> None:
    text = (run / "eval" / "report.md").read_text(encoding="utf-8")
    plain_document(text)
    words = said(text)
    for hostile in HOSTILE[:5]:  # the rows that are shown
        assert shown(hostile) in words
    assert (
        next(t.content for t in parts(text) if t.type == "inline") == plain("x`<b>|*y*[z](u)") + ": base against tuned"
    )
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_names_and_settings_stay_text_in_a_comparison(run: Path, tmp_path: Path, record_property: Counter) -> None:
    other = run.with_name("=1+1")
    if not other.exists():
        shutil.copytree(run, other)
        (other / "recipe.toml").write_text(
            (run / "recipe.toml").read_text().replace("<img", "<IMG").replace("answers", "all")
        )
    made = compare([run, other], tmp_path, Console())
    text = as_markdown(made)
    plain_document(text, "blockquote_open", "image")
    assert [token.attrs["src"] for token in parts(text) if token.type == "image"] == ["losses.png"]
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert not OTHER_TAGS.search(page)
    assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", page)
    for name in ("table.csv", "losses.csv"):
        with (tmp_path / name).open(newline="") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))], name
        assert "'=1+1" in cells, name
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_everything_stays_text_in_the_page_of_a_run(run: Path, record_property: Counter) -> None:
    everything = " ".join(HOSTILE)
    source = {"title": everything, "homepage": f"https://x.org/{everything}", "licence": everything, "redistributable": everything, "seen": 3, "kept": 2, "defects": [everything, *HOSTILE]}  # fmt: skip
    counts = {"rows": 1, everything: 1, "any": 1}
    data = {
        "sources": [source], "rows": {everything: 2}, "dropped": {everything: 3}, "repaired": {everything: 1}, "benchmarks": {everything: {"questions": 1, "rows": 1}},
        "leakage": {"threshold": None, "relations": [everything], "grouped": {everything: counts}, "by_row": {everything: counts}},
    }  # fmt: skip
    state = {
        "base_revision": everything, "computed": everything, "template": everything, "versions": {everything: everything}, "commit": everything,
        "choices": {everything: {"value": everything, "reason": everything}}, "hardware": {"gpus": [everything]}, "seconds": {everything: 3.0},
        "proofs": {everything: {everything: 1}}, "finished_at": everything,
    }  # fmt: skip
    recipe = Recipe.model_validate({"name": "demo", "template": {"system": everything}, "model": {"base": "a/b"}})
    object.__setattr__(recipe, "name", everything)
    facts = read_facts(recipe, RunDir(run, writes=False), run / "eval")
    page = as_html(dataclasses.replace(facts, state=state, data=data, stats={}, evaluation=everything))
    shown_part, _, embedded = page.partition('<script type="application/json" id="embedded">')
    assert not OTHER_TAGS.search(shown_part)
    assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", shown_part)
    assert [
        hostile for hostile in HOSTILE if hostile.startswith("<") and hostile != "<" and hostile in shown_part
    ] == []
    assert shown_part.count(escape(UNSEEN.sub(" ", everything))) >= 20
    held, _, _ = embedded.partition("</script>")
    assert not re.search("[<>&\u2028]", held)
    assert {said["text"] for row in json.loads(held)["rows"] for said in row["said"]} == set(HOSTILE)
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_everything_stays_text_in_the_card_of_a_model(run: Path, record_property: Counter) -> None:
    everything = " ".join(HOSTILE)
    source: dict[str, Any] = {
        "name": "s", "title": everything, "homepage": "http://x) <b>", "licence": everything, "redistributable": "yes", "file": everything,
        "content": everything, "seen": 3, "kept": 2, "defects": [everything, *HOSTILE], "citation": everything, "repo": None, "sha": None,
    }  # fmt: skip
    data = {"sources": [source], "rows": {"train": 1, "dev": 1, "test": 1, everything: 2}, "groups": {"count": 1}, "dropped": {everything: 3}, "repaired": {everything: 1}}  # fmt: skip
    state = {
        "base_licence": everything, "base_revision": everything, "template_sha256": everything, "versions": {everything: everything},
        "choices": {everything: {"value": everything, "reason": everything}}, "hardware": {"gpus": [everything]}, "commit": everything,
    }  # fmt: skip
    recipe = Recipe.model_validate({"name": "demo", "template": {"system": everything}, "model": {"base": "a/b"}})
    object.__setattr__(recipe, "name", everything)
    found = json.loads((run / "eval" / "report.json").read_text())
    gates = [Gate("personal-data", False, True, [everything, *HOSTILE])]
    facts = Facts(recipe, run, state, found, data, {"steps": 3, "best_step": 3}, formats=("adapter",), gates=gates)
    text = card(facts)
    assert ModelCard(text).data.to_dict()["language"] == ["en"]
    body = text.partition("\n---\n")[2]
    plain_document(body, "link_open", "blockquote_open")
    hrefs = [str(token.attrs["href"]) for token in parts(body) if token.type == "link_open"]
    assert hrefs
    assert not [href for href in hrefs if not href.startswith("https://huggingface.co/")]
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))


def test_everything_stays_text_in_the_card_of_a_dataset(record_property: Counter) -> None:
    everything = " ".join(HOSTILE)
    report = {
        "sources": [{"name": "s", "title": everything, "homepage": "javascript:alert(1)", "licence": everything, "redistributable": everything,
                     "repo": everything, "sha": everything, "seen": 1, "kept": 1, "defects": [everything], "citation": everything}],
        "rows": {"train": 1}, "dropped": {everything: 1}, "template": {"name": everything, "sha256": everything, "system": everything},
    }  # fmt: skip
    text = dataset_card(everything, report, ["train"], ["jsonl"], columns={everything: everything})
    body = text.partition("\n---\n")[2]
    plain_document(body, "blockquote_open")
    record_property("attacks", ("pieces of mark-up", len(HOSTILE)))
