"""`medrecipes compare`: what is laid side by side, in which measure, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.console import Console
from medrecipes.evaluation.chat_report import report, write_report
from medrecipes.evaluation.compare import make_panels, read_runs
from medrecipes.evaluation.compare.histories import read_history
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import LOSS_COLUMNS
from medrecipes.runs.loss_plot import smooth
from medrecipes.scoring.predictions import Prediction, read_predictions
from tests.conftest import ROOT, Cli, children_seconds

FILES = ["comparison.html", "comparison.md", "losses.csv", "losses.png", "table.csv"]


def make_run(
    folder: Path, *, seed: int = 0, steps: int = 40, tokenizer: str = "t1", loss_on: str = "answers", rank: int = 16,
    bits: float = 2.0, questions: int = 60, state: str = "finished",
) -> Path:  # fmt: skip
    """A run folder as a run leaves it, but for the adapter."""
    rng = random.Random(seed)
    recipe = Recipe.model_validate({"name": folder.name, "lora": {"rank": rank}, "train": {"loss_on": loss_on}})
    (folder / "eval").mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe.to_toml())
    proofs = {"train": {"tokenizer_sha256": tokenizer}}
    (folder / "run.json").write_text(
        json.dumps({"state": state, "name": folder.name, "proofs": proofs, "peak_gb": 1.5})
    )
    counted = {"tokens": 2000, "supervised": 1000, "answer_bytes": 4000}
    (folder / "data.json").write_text(
        json.dumps({"tokens": {"train": counted, "dev": {**counted, "supervised": 2000}}})
    )
    (folder / "trainer_stats.json").write_text(json.dumps({"train_runtime": steps / 10, "train_loss": 2.5}))
    with (folder / "loss.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, LOSS_COLUMNS)
        writer.writeheader()
        for step in range(1, steps + 1):
            row: dict[str, Any] = dict.fromkeys(LOSS_COLUMNS, "") | {"step": step, "epoch": 1, "tokens": 800 * step}
            loss = 1 + 3 * math.exp(-5 * step / steps) + rng.gauss(0, 0.05)
            writer.writerow({**row, "split": "train", "loss": loss, "tokens_per_second": 8000})
            if step % (steps // 4) == 0:
                writer.writerow({**row, "split": "dev", "loss": loss + 0.1})
    parts = []
    for model in ("base", "tuned"):
        luck = random.Random(99)
        found = [
            Prediction(
                str(i), f"d{i // 2}", "qa", f"What is {i}?", f"It is the answer number {i}, take 5 mg.",
                f"It is answer number {i}." if rng.random() < 0.7 else "No.", model, True, 9, 64,
                (bits + (model == "base")) * 40 * luck.uniform(0.8, 1.2) + rng.gauss(0, 1), 40,
            )
            for i in range(questions)
        ]  # fmt: skip
        parts.append(found)
    (folder / "eval" / "predictions.jsonl").write_text(
        "".join(json.dumps(p.__dict__) + "\n" for ps in parts for p in ps)
    )
    made = report(recipe, ("test", "key"), *parts)
    write_report(folder.name, folder / "eval", made, *parts)
    return folder


def make_csv(path: Path, losses: list[float], stats: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Step,Loss\n" + "".join(f"{step},{loss:.6f}\n" for step, loss in enumerate(losses, 1)))
    if stats:
        (path.parent / "trainer_stats.json").write_text(json.dumps(stats))
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / "rank4", rank=4), make_run(folder / "rank16", seed=1, bits=1.8)]


@pytest.fixture(scope="module")
def compared(cli: Cli, pair: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    done = cli("compare", *pair, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    return out, done.stdout


def test_it_writes_table_plot_page_and_says_where(compared: tuple[Path, str]) -> None:
    out, printed = compared
    assert sorted(path.name for path in out.iterdir()) == FILES
    for name in FILES:
        assert str(out / name) in printed
    assert "bits per byte of answer" in printed
    # what differs, what it shows, and the figures but for those that say nothing
    assert re.search(r"^setting +rank4 +rank16\nlora\.rank +4 +16$", printed, re.M)
    assert re.search(r"^rank16 - rank4 +bits per byte of answer +-0\.\d+ .*rank16 is better +60$", printed, re.M)
    assert printed.index("lora.rank") < printed.index("is better") < printed.index("final training loss")
    assert re.search(r"^0 for every run, interval and all: .*exact match.*\.$", printed, re.M)
    assert not re.search(r"^exact match", printed, re.M)
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_has_settings_that_differ_and_no_others(compared: tuple[Path, str]) -> None:
    with (compared[0] / "table.csv").open(newline="") as file:
        rows = {row[0]: row[1:] for row in csv.reader(file)}
    assert rows["lora.rank"] == ["4", "16"]
    assert rows["exact match"] == ["0% [0, 0]", "0% [0, 0]"]  # for machines, all of them
    assert not {"lora.alpha", "name", "seed"} & set(rows)
    assert rows["steps"] == ["40", "40"]
    assert rows["tokens a second"] == ["8,000", "8,000"]
    assert rows["peak memory"] == ["1.5 GB", "1.5 GB"]
    assert rows["loss covers"] == ["answers only", "answers only"]
    assert rows["unit of losses"] == ["nats a token", "nats a token"]
    assert re.fullmatch(r"1\.\d{3} at step 40", rows["best dev loss"][0])
    assert re.fullmatch(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", rows["bits per byte of answer"][0])


def test_a_real_difference_is_told_from_none(compared: tuple[Path, str]) -> None:
    text = (compared[0] / "comparison.md").read_text()
    assert re.search(
        r"\| rank16 - rank4 \| bits per byte of answer \| -0\.(?:1[89]|2\d)\d \[.*\] \| rank16 is better \| 60 \|", text
    )
    assert re.search(r"\| rank16 - rank4 \| ROUGE-L \| .* \| no difference shown \| 60 \|", text)


def test_every_point_is_in_the_csv_raw_and_smoothed(compared: tuple[Path, str]) -> None:
    with (compared[0] / "losses.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["run"] == "rank4"]
    train = [row for row in rows if row["split"] == "train"]
    assert (len(train), len(rows)) == (40, 44)
    assert [float(row["smoothed"]) for row in train] == pytest.approx(
        smooth([float(row["loss"]) for row in train]), abs=1e-6
    )
    assert (train[-1]["tokens"], train[-1]["seconds"]) == ("32000", "4.000")


def test_the_same_tokenizer_is_compared_a_token(pair: list[Path]) -> None:
    [panel] = make_panels(read_runs(pair))
    assert (panel.title, panel.unit, panel.why) == ("loss on answers only", "nats a token", "")


def test_different_tokenizers_are_compared_in_bits_per_byte_and_the_page_says_why(tmp_path: Path, cli: Cli) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "other", tokenizer="t2")]
    [panel] = make_panels(read_runs(runs))
    assert panel.unit == "bits per byte of answer"
    raw = read_history(runs[0])
    # 1,000 learned tokens for 4,000 bytes in train, 2,000 in dev
    assert panel.curves[0].train[0].loss == pytest.approx(raw.train[0].loss / 4 / math.log(2))
    assert panel.curves[0].dev[0].loss == pytest.approx(raw.dev[0].loss / 2 / math.log(2))
    assert cli("compare", *runs, "--out", tmp_path / "out").returncode == 0
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "These runs split text into different tokens" in page


def test_losses_of_answers_and_of_whole_texts_never_share_a_plot(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "answers"),
        make_run(tmp_path / "all", loss_on="all"),
        make_csv(tmp_path / "c.csv", [2.0, 1.0]),
    ]
    panels = make_panels(read_runs(runs))
    assert [[curve.name for curve in panel.curves] for panel in panels] == [["answers"], ["all"], ["c"]]
    assert [panel.title for panel in panels] == [
        "loss on answers only",
        "loss on whole texts",
        "published losses, of what is not said",
    ]


def test_whole_texts_of_different_tokenizers_stand_alone(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, loss_on="all", tokenizer=name) for name in ("one", "other")]
    panels = make_panels(read_runs(runs))
    assert [panel.title for panel in panels] == ["loss on whole texts: one", "loss on whole texts: other"]
    assert all("no common measure exists" in panel.why for panel in panels)


def test_different_test_sets_are_refused_and_with_anyway_marked(tmp_path: Path, cli: Cli) -> None:
    runs = [make_run(tmp_path / "sixty"), make_run(tmp_path / "fifty", questions=50)]
    done = cli("compare", *runs, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (
        2,
        "sixty and fifty were evaluated on different test sets (60 and 50 test rows, 50 in common); evaluate both on one set, "
        "or lay them side by side with --anyway\n",
    )
    assert not (tmp_path / "out").exists()
    done = cli("compare", *runs, "--out", tmp_path / "out", "--anyway")
    assert "note: DIFFERENT TEST SETS: sixty and fifty" in done.stdout
    assert "ROUGE-L (not comparable)" in done.stdout
    assert '<div class="note mark">DIFFERENT TEST SETS' in (tmp_path / "out" / "comparison.html").read_text()
    assert "| 50 |" in (tmp_path / "out" / "comparison.md").read_text()  # pairs are of the common rows


def test_different_decoding_is_refused_and_with_anyway_marked(tmp_path: Path, warm: Cli) -> None:
    runs = [make_run(tmp_path / "greedy"), make_run(tmp_path / "drawn")]
    recipe = Recipe.model_validate({"eval": {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 64}})
    answers = read_predictions(tmp_path / "drawn" / "eval" / "predictions.jsonl", own=True)
    parts = [[p for p in answers if p.model == model] for model in ("base", "tuned")]
    write_report("drawn", tmp_path / "drawn" / "eval", report(recipe, ("test", "key"), *parts), *parts)
    done = warm("compare", *runs, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (
        2,
        "greedy and drawn were evaluated with different decoding (greedy decoding, at most 256 tokens, no repetition penalty "
        "against sampled decoding (temperature 0.7, top_p 0.9, seed 42), at most 64 tokens, no repetition penalty); evaluate "
        "both with the same [eval], or lay them side by side with --anyway\n",
    )
    done = warm("compare", *runs, "--out", tmp_path / "out", "--anyway")
    assert "note: DIFFERENT DECODING: greedy and drawn" in done.stdout


def test_published_artefacts_count_as_runs(tmp_path: Path, warm: Cli) -> None:
    stats = {"train_runtime": 2362.5, "train_loss": 1.099, "train_samples_per_second": 0.847}
    one = make_csv(tmp_path / "mistral" / "loss.csv", [3.0, 2.0, 1.0, 1.0], stats)
    two = make_csv(tmp_path / "all" / "llama2_loss.csv", [2.5, 2.0, 1.5])
    make_csv(tmp_path / "all" / "gemma_loss.csv", [9.0, 2.0, 1.5])
    (tmp_path / "all" / "trainer_stats_llama2.json").write_text(json.dumps([3, 1.9, {"train_runtime": 60.0}]))
    done = warm("compare", one.parent, two, tmp_path / "all" / "gemma_loss.csv", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:30].strip(): line[30:].split("  ") for line in done.stdout.splitlines()}
    assert [cell.strip() for cell in " ".join(lines["training time"]).split("  ") if cell]
    assert "39 min 22 s" in done.stdout
    assert "mistral" in done.stdout
    assert "gemma: no trainer_stats.json: time and throughput are not known" in done.stdout
    assert "the heights of their curves must not be compared" in (tmp_path / "out" / "comparison.html").read_text()
    assert read_history(two).train[0].seconds == 20.0


def test_a_notebooks_table_with_validation_losses_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("﻿Step,Training Loss,Validation Loss\n10,No log,2.0\n20,1.5,1.9\n")
    run = read_history(path)
    assert [(p.step, p.loss) for p in run.train] == [(20, 1.5)]
    assert [(p.step, p.loss) for p in run.dev] == [(10, 2.0), (20, 1.9)]


def test_an_unfinished_run_is_marked(tmp_path: Path, warm: Cli, pair: list[Path]) -> None:
    run = make_run(tmp_path / "killed", state="training")
    shutil.rmtree(run / "eval")
    done = warm("compare", run, pair[0], "--out", tmp_path / "out")
    assert "killed: not finished: its figures are those so far" in done.stdout


def test_mistakes_are_one_line_each(tmp_path: Path, warm: Cli, pair: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "y.csv").write_text("Step,Loss\n1,much\n")
    (tmp_path / "z.csv").write_text("Step,Loss\n")
    young = tmp_path / "young"
    shutil.copytree(pair[0], young)
    (young / "loss.csv").write_text(",".join(LOSS_COLUMNS) + "\n")
    both = tmp_path / "both"
    make_csv(both / "a.csv", [1.0])
    make_csv(both / "b.csv", [1.0])
    one = pair[0]
    mistakes = {
        (one,): f"{one}: is one run; name at least two to compare",
        (one, one): f"{one}: is given twice; name each run once",
        (one, one / ".." / one.name): f"{one / '..' / one.name}: is given twice; name each run once",
        (one, tmp_path / "none"): f"{tmp_path}/none: no such run; name a run folder, or a CSV with Step,Loss",
        (one, tmp_path / "empty"): f"{tmp_path}/empty: is no run folder and holds not one CSV with Step,Loss but none; name the file",
        (one, both): f"{both}: is no run folder and holds not one CSV with Step,Loss but a.csv, b.csv; name the file",
        (one, tmp_path / "x.csv"): f"{tmp_path}/x.csv: is no run: it has no columns Step and Loss; name a run folder or such a CSV",
        (one, tmp_path / "y.csv"): f"{tmp_path}/y.csv:2: step or loss is no number; correct or delete this line",
        (one, tmp_path / "z.csv"): f"{tmp_path}/z.csv: holds no training loss; name a CSV with at least one row of Step and Loss",
        (one, young): f"{young}: has no training loss yet; finish it with `medrecipes run` on its recipe",
    }  # fmt: skip
    for runs, message in mistakes.items():
        done = warm("compare", *runs, "--out", tmp_path / "out")
        assert (done.returncode, done.stderr) == (2, message + "\n")
    assert not (tmp_path / "out").exists()


class _Page(HTMLParser):
    """What a page asks for from elsewhere, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        asked = [(name, value or "") for name, value in attributes if name in ("src", "href", "data", "action")]
        self.links += [f"{tag} {name}" for name, value in asked if not value.startswith(("data:", "#"))]
        if tag not in ("meta", "path", "rect", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path, pair: list[Path]) -> None:
    from medrecipes.evaluation.compare import compare

    odd = tmp_path / "a<b>&c"
    shutil.copytree(pair[0], odd)
    compare([odd, pair[1]], tmp_path / "out", Console())
    text = (tmp_path / "out" / "comparison.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert not re.search(r"https?://|@import|url\((?!#)|<script", text)
    assert "a&lt;b&gt;&amp;c" in text
    assert "a<b>" not in text
    assert "prefers-color-scheme: dark" in text


def test_runs_of_one_name_are_told_apart(tmp_path: Path, pair: list[Path]) -> None:
    for folder in ("x", "y"):
        shutil.copytree(pair[0], tmp_path / folder / "demo")
    assert [run.name for run in read_runs([tmp_path / "x" / "demo", tmp_path / "y" / "demo"])] == ["x/demo", "y/demo"]


def test_four_runs_of_2000_steps_take_under_three_seconds(tmp_path: Path, fresh: Cli) -> None:
    runs = [make_run(tmp_path / f"run{n}", seed=n, steps=2000, rank=4 + n) for n in range(4)]
    times = []
    for _ in range(2):
        started = children_seconds()
        assert fresh("compare", *runs, "--out", tmp_path / "out").returncode == 0
        times.append(children_seconds() - started)
    assert min(times) < 5  # of a processor; a quick one takes two
    assert (tmp_path / "out" / "comparison.html").stat().st_size < 600_000


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_plots_are_drawn_whatever_backend_a_kernel_names(tmp_path: Path, backend: str) -> None:
    code = (
        "import os, sys, pathlib\nfrom medrecipes.runs.loss_plot import Curve, Panel, Point, loss_png, panels_png\n"
        "one, other = (pathlib.Path(sys.argv[1]) / name for name in ('one.png', 'other.png'))\n"
        "loss_png(one, 't', [{'step': '1', 'loss': '2.5', 'split': 'train'}], 'answers')\n"
        "panels_png(other, [Panel('t', 'u', '', (Curve('x', [Point(1, 2.0), Point(2, 1.0)], []),))], {'x': 0})\n"
        "print(os.environ['MPLBACKEND'], 'matplotlib.pyplot' in sys.modules, one.read_bytes()[:4], other.read_bytes()[:4])"
    )
    # a kernel's backend that is not installed here, as in an environment that the notebook made
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{backend} False b'\\x89PNG' b'\\x89PNG'\n"), done.stderr
