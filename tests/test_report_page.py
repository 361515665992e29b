"""report.html: what it holds, that texts stay texts, what it costs, and how it looks and behaves in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.files import write_json
from medrecipes.evaluation.chat_report import report, write_report
from medrecipes.evaluation.pages import answers, run_figures
from medrecipes.evaluation.pages.flags import flags
from medrecipes.evaluation.pages.run_page import PAGE, Facts, as_html, read_facts, write_page
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.overflow import Fitted
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import LossLog, RunDir
from medrecipes.scoring.predictions import Prediction
from tests.browser import DARK, NO_CHROMIUM, POLICY, browse, errors, look, require_accessible

HOSTILE = '</script><img src=x onerror=alert(1)><!-- & "more" \u2028 \u202e<b>'
DATA = {
    "rows": {"train": 40, "dev": 5, "test": 9}, "asked": {"train": 0.8, "dev": 0.1, "test": 0.1}, "got": {"train": 0.74, "dev": 0.09, "test": 0.17},
    "groups": {"in": {"train": 20, "dev": 3, "test": 4}}, "dropped": {"empty answer": 3}, "repaired": {"text normalised": 2},
    "benchmarks": {"medqa": {"questions": 1273, "rows": 4}}, "overflow": {"train": Fitted(dropped={"too long": ["r1", "r2"]}).to_json()},
    "tokens": {"train": {"tokens": 5000, "supervised": 2000}, "held out": {"tokens": 900, "supervised": 400}},
    "leakage": {"threshold": None, "grouped": {"test": {"rows": 9, "document": 0, "article": None, "question": 0, "answer": 0, "near_duplicate": None, "any": 0}},
                "by_row": {"test": {"rows": 9, "document": 7, "article": None, "question": 0, "answer": 1, "near_duplicate": None, "any": 8}}},
    "sources": [{"title": HOSTILE, "homepage": 'https://example.org/"onmouseover=', "licence": "CC0-1.0", "redistributable": "yes", "seen": 60, "kept": 54, "defects": [HOSTILE]}],
}  # fmt: skip
STATE = {
    "state": "finished", "name": "odd", "key": "k", "task": "chat", "base_revision": "0123456789abcdef", "computed": "4 bits, bf16", "template": "mistral-v1",
    "proofs": {"train": {"rows": 40, "answers": 40, "tokens": 5000, "supervised": 2000, "cut": 0, "template_sha256": "t"}},
    "choices": {"engine": {"value": "unsloth", "reason": "the default on a CPU"}, "layout": {"value": "padded", "reason": "a CPU attends through a mask"}},
    "versions": {"torch": "2.13.0"}, "commit": "f" * 40, "hardware": {"gpus": ["NVIDIA H200"] * 2}, "seconds": {"data": 0.4, "train": 12.5}, "resumed_from_step": 4,
    "finished_at": "20260102_030405", "peak_gb": 1.5,
}  # fmt: skip
STATS = {
    "steps": 12, "best_step": 8, "best_metric": 2.3, "base_metric": 2.5, "metric": "bits_per_byte", "tokens": 60_000, "supervised_tokens": 24_000,
    "trainable_parameters": 1000, "parameters": 9000, "train_runtime": 33.0, "peak_gb": 1.5, "proved": {"learned": 3.1, "after others": 3.1, "evaluated": 3.1},
}  # fmt: skip

# as a run of another machine, and of old times, could be called
RECIPE = Recipe.model_validate({"name": "odd & <b>", "lora": {"rank": 8}, "data": {"path": "/home/somebody/secret-place", "source": "jsonl"}, "eval": {"cases": "/home/somebody/cases.toml"}})  # fmt: skip


def said(number: int, model: str, text: str, **more: Any) -> Prediction:
    return Prediction(f"row {number}", f"g{number // 2}", "qa", f"What is {number}? {HOSTILE if number == 3 else ''}", "Take 5 mg of ibuprofen twice a day.", text, model, **{"stopped": True, "tokens": 9, "limit": 64, "bits": 40.0 + number, "bytes": 40, **more})  # fmt: skip


def make_run(folder: Path, rows: int = 9) -> Path:
    """A finished run of conversations as a run leaves it, but for the adapter; one row after the other has something wrong with it."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE.to_toml())
    wrong = {0: ("", {}), 1: ("Take 50 mg of ibuprofen twice a day.", {}), 2: ("and so on", {"stopped": False, "tokens": 64}), 3: (HOSTILE, {}), 4: ("Take 5 mg of ibuprofen twice a day.", {})}  # fmt: skip
    base = [said(n, "base", "nothing", stopped=False, tokens=64) for n in range(rows)]
    tuned = [said(n, "tuned", wrong.get(n, ("Rest.", {}))[0], **{"bits": 30.0 + 2 * n, **wrong.get(n, ("", {}))[1]}) for n in range(rows)]  # fmt: skip
    cases = [Prediction("headache", "cases", "qa", "What helps?", "Rest.", "Rest.", "tuned", True, 3, 64), Prediction("cough", "cases", "qa", "And now?", "Tea.", "Wine.", "tuned", True, 3, 64)]  # fmt: skip
    found = report(RECIPE, ("test", "key"), base, tuned, cases)
    write_report(RECIPE.name, folder / "eval", found, base, tuned, cases)
    (folder / "eval" / "predictions.jsonl").write_text("".join(p.line() for p in (*base, *tuned)))
    (folder / "eval" / "cases.jsonl").write_text("".join(p.line() for p in cases))
    write_json(folder / "data.json", DATA)
    write_json(folder / "trainer_stats.json", STATS)
    log = LossLog(folder / "loss.csv")
    for step in range(1, 13):
        log.row(step=step, epoch=step / 12, split="train", loss=4 - step / 10, learning_rate=0.1, grad_norm=1, tokens=1000 * step, supervised_tokens=500 * step, tokens_per_second=500.0, peak_gb=1)  # fmt: skip
        if step % 4 == 0:
            log.row(step=step, epoch=step / 12, split="dev", loss=3.5 - step / 20, learning_rate="", grad_norm="", tokens=1000 * step, supervised_tokens=0, tokens_per_second="", peak_gb=1)  # fmt: skip
    log.close()
    RunDir(folder).update(**STATE)
    return folder


def facts(run: Path) -> Facts:
    return read_facts(RECIPE, RunDir(run), run / "eval")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("page") / "odd-12345678")


@pytest.fixture(scope="module")
def page(odd: Path) -> str:
    return as_html(facts(odd))


def embedded(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', html, re.S)
    assert found
    held: dict[str, Any] = json.loads(found[1])
    return held


# --- what it holds


def test_every_finished_run_has_its_page_sealed_with_all_else(demo_run: tuple[Path, str], tag_run: tuple[Path, str]) -> None:  # fmt: skip
    for path, printed in (demo_run, tag_run):
        assert str(path / PAGE) in printed
        run = RunDir(path, writes=False)
        assert run.state["seal"]["files"][PAGE]
        assert file_hashes.broken(run) == ([], [])
        assert (path / PAGE).read_text(encoding="utf-8") == as_html(read_facts(load(path / "recipe.toml").recipe, run, path / "eval"))  # fmt: skip


def test_rows_lie_in_the_page_as_they_were_evaluated_with_what_was_wrong(page: str, odd: Path) -> None:
    held = embedded(page)
    assert held["models"] == ["base", "tuned"]
    rows = {row["id"]: row for row in held["rows"]}
    assert [row["id"] for row in held["rows"][:9]] == [p.id for p in answers.in_order(facts(odd).answers["tuned"], 42)]
    assert sorted(rows) == sorted([*(f"row {n}" for n in range(9)), "cough", "headache"])
    tuned = {id: row["said"][1]["flags"] for id, row in rows.items()}
    assert [tuned[f"row {n}"] for n in range(6)] == [["empty"], ["dose contradicted"], ["never stopped"], [], ["exact match"], []]  # fmt: skip
    assert (tuned["headache"], tuned["cough"]) == (["exact match"], ["case failed"])
    assert rows["cough"]["said"][0] is None
    turned = replace(facts(odd), answers=dict(reversed(facts(odd).answers.items())))
    assert embedded(as_html(turned)) == held  # whoever answered first after a run was killed
    assert rows["row 3"]["said"][1]["text"] == HOSTILE
    assert rows["row 2"]["said"][0] == {"text": "nothing", "bits": 1.05, "flags": ["never stopped"]}


def test_lists_and_tags_have_flags_of_their_own() -> None:
    chemicals = Prediction("1", "g", "chemicals", "Text: aspirin helps.", "- aspirin", "- zinc\nthis line is far too long to be the name of a chemical, or so one hopes.", stopped=False)  # fmt: skip
    assert flags(chemicals) == ["list hit the limit", "lines that are no item", "items not in the text"]
    spans = Prediction("1", "g", "spans", "Aspirin helps pain", "Chemical\t0\t0\tAspirin", "Disease\t0\t0\tAspirin")
    assert flags(spans) == ["missed spans", "wrong spans"]
    assert flags(Prediction("1", "g", "spans", "Aspirin helps", "", "")) == ["exact match"]


def test_texts_of_others_stay_texts_and_paths_of_this_machine_stay_here(page: str) -> None:
    assert "<img" not in page
    assert "<b>" not in re.sub(r"<b>[\d.%]+ <span", "", page)
    assert page.count("</script>") == 2
    assert "\u2028" not in page.split("</style>")[1].replace("\\u2028", "").split('id="embedded">')[1]
    assert "onmouseover" not in page  # an address that is more than one is no link
    assert "/home/somebody" not in page
    assert re.findall(r'(?:src|href|action)="(?!#|data:)[^"]*', page) == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_figures_that_say_nothing_are_a_line_and_the_others_a_picture_and_a_row(page: str) -> None:
    body = page.partition("<body>")[2]
    assert "0 for base and tuned, interval and all: " in body
    told = re.search(r"0 for base and tuned, interval and all: ([^<]*)\.", body)
    assert told
    assert "repeated list items" in told[1]
    assert "bits per byte of answer" not in told[1]
    named = re.findall(r'<th scope="row">([^<]*)</th>', body)
    assert "bits per byte of answer" in named
    assert "repeated list items" not in named
    assert body.count('class="strips"') == 1
    assert re.search(
        r'aria-label="bits per byte of answer: base 1\.1\d\d \[[\d., ]+\]; tuned 0\.9\d\d \[[\d., ]+\]"', body
    )


def test_it_says_what_was_trained_on_what_with_every_origin(page: str) -> None:
    body = page.partition("<body>")[2]
    assert re.search(r"<dt>resumed</dt><dd>from step 4</dd>", body)
    assert re.search(r"<dt>hardware</dt><dd>2 × NVIDIA H200</dd>", body)
    assert re.search(r"<dt>finished</dt><dd>2026-01-02 03:04 UTC</dd>", body)
    assert body.count("kept: step 8") == 2
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", body)]
    assert ["lora.rank", "8", "the recipe"] in rows
    assert ["model.engine", "unsloth", "chosen: the default on a CPU"] in rows
    assert ["layout", "padded", "chosen: a CPU attends through a mask"] in rows
    assert ["seed", "42"] in rows  # a default
    assert ["empty answer", "3"] in rows
    assert ["too long (train)", "2"] in rows
    assert ["medqa", "1,273", "4"] in rows
    assert "a naive random split would leak 8 of 9 test rows; this split leaks none" in body
    assert "Packing isolation" in body


def test_a_run_of_which_little_is_known_has_a_page(odd: Path) -> None:
    losses = [{"step": "1", "split": "train", "loss": "nan"}, {"step": "1", "split": "dev", "loss": "0.0"}]
    text = as_html(replace(facts(odd), state={}, data={}, stats={"dev": [{"step": 1, "f1": 0.0}]}, losses=losses))
    assert "Dev loss, nats a token" in text
    assert "Dev F1, strict, micro" in text
    assert "Training loss, nats a token" not in text


def test_a_large_test_set_is_cut_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST", 6)
    monkeypatch.setattr(answers, "LONGEST", 12)
    text = as_html(facts(make_run(tmp_path / "odd-12345678")))
    assert "This page holds the first 6 of 9 rows" in text
    held = embedded(text)
    assert len(held["rows"]) == 8  # and the two cases
    assert all(row["gold"] in ("Take 5 mg of … (23 more characters)", "Rest.", "Tea.") for row in held["rows"])


def test_two_hundred_rows_take_less_than_a_fifth_of_a_second(tmp_path: Path) -> None:
    run = make_run(tmp_path / "odd-12345678", rows=200)
    times = []
    for _ in range(4):
        started = time.process_time()
        write_page(RECIPE, RunDir(run), run / "eval")
        times.append(time.process_time() - started)
    assert min(times) < 0.2
    assert (run / PAGE).stat().st_size < 500_000


def test_another_evaluation_has_a_page_beside_its_answers(odd: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(odd, tmp_path / odd.name))
    shutil.copytree(run / "eval", run / "eval-1234abcd")
    assert write_page(RECIPE, RunDir(run), run / "eval-1234abcd") == run / "eval-1234abcd" / PAGE
    assert not (run / PAGE).exists()
    assert "eval-1234abcd/predictions.jsonl" in (run / "eval-1234abcd" / PAGE).read_text(encoding="utf-8")
    assert write_page(RECIPE, RunDir(run), run / "eval") == run / PAGE


# --- in a browser

PROBE = """<script>
const root = document.documentElement, all = [...document.querySelectorAll("body *")];
const wide = all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll") && !e.closest("pre")).map(e => e.outerHTML.slice(0, 80));
const svgs = [...document.querySelectorAll("figure svg")];
const overlap = svgs.filter(svg => { const boxes = [...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)); }).map(s => s.getAttribute("aria-label"));
const outside = svgs.filter(svg => [...svg.querySelectorAll("text")].some(t => { const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect(); return a.left < b.left - 2 || a.right > b.right + 2; })).map(s => s.getAttribute("aria-label"));
parent.document.title = JSON.stringify({width: innerWidth, scroll: root.scrollWidth, wide, overlap, outside, rows: document.querySelectorAll(".row").length, back: getComputedStyle(document.body).backgroundColor, kept: document.querySelectorAll(".keptline").length});
</script>"""
SEARCH = """<script>
const state = () => ({rows: [...document.querySelectorAll(".row")].map(r => r.querySelector("h3 small").textContent), told: document.getElementById("told").textContent});
const type = (id, value) => { const box = document.getElementById(id); box.value = value; box.dispatchEvent(new Event(id === "find" ? "input" : "change")); return state(); };
const found = {all: state(), images: document.querySelectorAll("img").length, shown: [...document.querySelectorAll("#show option")].map(o => o.textContent)};
found.word = type("find", "IBUPROFEN 50"); found.none = type("find", "no such thing"); type("find", "");
found.dose = type("show", "1:dose contradicted"); found.cases = type("show", "case"); type("show", "");
found.most = type("order", "most"); found.least = type("order", "least");
parent.document.title = JSON.stringify(found);
</script>"""


@pytest.fixture(params=["chat", "tags", "odd"])
def any_page(request: pytest.FixtureRequest, page: str) -> str:
    """The page of a run of conversations, of a tagging run, and of one whose texts are hostile."""
    if request.param == "odd":
        return page
    path = request.getfixturevalue({"chat": "demo_run", "tags": "tag_run"}[request.param])[0]
    text: str = (path / PAGE).read_text(encoding="utf-8")
    return text


@NO_CHROMIUM
@pytest.mark.parametrize("width", [400, 768, 1600])
def test_nothing_is_wider_than_the_window_and_no_text_lies_on_another(any_page: str, width: int, tmp_path: Path) -> None:  # fmt: skip
    seen = look(any_page, PROBE, width, tmp_path)
    assert (seen["width"], seen["scroll"], seen["wide"]) == (width, width, [])
    assert (seen["overlap"], seen["outside"]) == ([], [])
    assert seen["rows"] >= 6
    assert seen["kept"] >= 1


@NO_CHROMIUM
def test_it_is_dark_where_the_reader_likes_it_dark(page: str, tmp_path: Path) -> None:
    assert look(page, PROBE, 1280, tmp_path / "light")["back"] == "rgb(255, 255, 255)"
    assert look(page, PROBE, 1280, tmp_path / "dark", DARK)["back"] == "rgb(20, 23, 27)"


@NO_CHROMIUM
def test_answers_are_searched_filtered_and_ordered(page: str, tmp_path: Path) -> None:
    seen = look(page, SEARCH, 1280, tmp_path)
    assert seen["images"] == 0
    assert (len(seen["all"]["rows"]), seen["all"]["told"]) == (11, "11 of 11 rows match")
    assert seen["shown"][:2] == ["all rows (11)", "hand-written cases (2)"]
    assert {"base: never stopped (9)", "tuned: never stopped (1)", "tuned: empty (1)", "tuned: dose contradicted (1)", "tuned: case failed (1)"} <= set(seen["shown"])  # fmt: skip
    assert (seen["word"]["rows"], seen["none"]["rows"]) == (["row 1"], [])
    assert seen["dose"]["rows"] == ["row 1"]
    assert sorted(seen["cases"]["rows"]) == ["hand-written case cough", "hand-written case headache"]
    # of the base 40 + n bits, of the tuned 30 + 2n
    assert seen["most"]["rows"] == [f"row {n}" for n in range(9)]
    assert seen["least"]["rows"] == [f"row {n}" for n in reversed(range(9))]


@NO_CHROMIUM
def test_its_own_policy_lets_its_script_run_and_no_other(any_page: str, tmp_path: Path) -> None:
    assert errors(any_page, tmp_path / "own") == []
    shown = browse((tmp_path / "own" / "page.html").as_uri(), tmp_path / "own")
    assert shown.stdout.count('<article class="row">') >= 6
    assert POLICY.search(any_page)
    worse = any_page.replace("</body>", "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"></body>")  # fmt: skip
    assert any("content security policy" in line.lower() for line in errors(worse, tmp_path / "worse"))
    assert "<title>taken" not in browse((tmp_path / "worse" / "page.html").as_uri(), tmp_path / "worse").stdout


@NO_CHROMIUM
def test_axe_finds_nothing_serious(any_page: str, tmp_path: Path) -> None:
    require_accessible(any_page, tmp_path)


@NO_CHROMIUM
def test_axe_would_find_what_is_wrong(page: str, tmp_path: Path) -> None:
    pale = page.replace("--soft: #59636e", "--soft: #c9ced4")
    with pytest.raises(AssertionError, match="color-contrast"):
        require_accessible(pale, tmp_path, widths=(1280,))


def test_of_too_few_groups_no_difference_is_called_better() -> None:
    report = {
        "base": {"rougeL": {"value": 0.1, "low": 0.1, "high": 0.2}},
        "tuned": {"rougeL": {"value": 0.3, "low": 0.25, "high": 0.4}},
        "difference": {"rougeL": {"value": 0.2, "low": 0.15, "high": 0.25}},
    }
    assert ">better<" in run_figures.first_figures({**report, "groups": 6})
    few = run_figures.first_figures({**report, "groups": 5})
    assert ">too few groups to tell<" in few
    assert "better" not in few
