"""The line of a tag recipe, for real: trained, killed, resumed, scored, used on texts of one's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.data.records import Tagged
from medrecipes.engines.trainer.tags import Tagger
from medrecipes.runs.folder import read_losses
from medrecipes.use.tag_text import Found, open_tagger, read_texts, show, tag_texts
from tests.conftest import TAG, Cli, start
from tests.test_line import losses

RECIPE = "recipes/tiny_bio_ner.toml"
FILES = {
    "recipe.toml", "run.json", "data.json", "loss.csv", "loss.png", "trainer_stats.json", "README.md", "report.html", "log.txt",
    "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/tokenizer.json", "adapter/tagging.json",
    "eval/predictions.jsonl", "eval/report.json", "eval/report.md",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tag_run: tuple[Path, str]) -> tuple[Path, str]:
    """The tiny tagging recipe, whole, and what it printed."""
    return tag_run


def test_the_run_folder_is_whole(finished: tuple[Path, str]) -> None:
    path, _ = finished
    assert re.fullmatch(r"tiny_bio_ner-[0-9a-f]{8}", path.name)
    assert {f for f in FILES if not (path / f).exists()} == set()
    state = json.loads((path / "run.json").read_text())
    assert (state["state"], state["task"], state["resumed_from_step"]) == ("finished", "tag", None)
    assert state["choices"]["engine"]["value"] == "trl"
    assert state["choices"]["loss"]["value"] == "cross_entropy"
    assert (state["proofs"]["train"]["rows"], state["proofs"]["train"]["spans"]) == (60, 110)
    assert state["peak_gb"] < 3
    assert re.fullmatch(r"\d{8}_\d{6}", state["finished_at"])
    assert (state["base_licence"], state["base_caps"]) == (None, False)
    stages = ["data", "base", "tokens", "proofs", "load", "evaluate (base)", "train", "evaluate (tuned)"]
    assert list(state["seconds"]) == stages
    about = json.loads((path / "adapter" / "tagging.json").read_text())
    assert about == {
        "labels": ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"], "attention": "bidirectional",
        "unit": "sentence", "max_tokens": 256, "overlap": 64,
    }  # fmt: skip


def test_the_best_checkpoint_by_dev_f1_is_kept(finished: tuple[Path, str]) -> None:
    stats = json.loads((finished[0] / "trainer_stats.json").read_text())
    assert [look["step"] for look in stats["dev"]] == [
        14,
        28,
        42,
        56,
        70,
        80,
    ]  # six evaluations: what a tenth of training affords
    best = max(stats["dev"], key=lambda look: look["f1"])
    assert (stats["best_step"], stats["best_metric"]) == (best["step"], best["f1"])
    dev = [line for line in read_losses(finished[0] / "loss.csv") if line["split"] == "dev"]
    assert [float(line["loss"]) for line in dev] == [look["loss"] for look in stats["dev"]]
    train = [float(line["loss"]) for line in read_losses(finished[0] / "loss.csv") if line["split"] == "train"]
    assert sum(train[-8:]) < sum(train[:8]) / 4


def test_the_report_has_every_way_of_counting_with_intervals(finished: tuple[Path, str]) -> None:
    report = json.loads((finished[0] / "eval" / "report.json").read_text())
    assert (report["rows"], report["groups"], report["split"]) == (15, 2, "test")
    assert "TOO FEW" in report["intervals"]
    assert report["support"] == {"Chemical": 12, "Disease": 13}
    for way in ("strict", "relaxed", "type_only", "dictionary"):
        assert set(report[way]) == {"Chemical", "Disease", "micro", "macro"}
        for figure in report[way]["micro"].values():
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert report["base"]["span_f1"] == report["dictionary"]["micro"]["f1"]
    assert report["tuned"]["span_f1"] == report["strict"]["micro"]["f1"]
    assert set(report["token_accuracy"]) == {"with_O", "without_O"}
    text = (finished[0] / "eval" / "report.md").read_text()
    for title in ("## Strict", "## Relaxed", "## Type only", "## Words", "## Confusion", "## The most frequent errors"):
        assert title in text
    assert "`O` counted" in text


def test_the_predictions_score_the_same_again(finished: tuple[Path, str], warm: Cli) -> None:
    report = json.loads((finished[0] / "eval" / "report.json").read_text())
    for model, part in (("tuned", "strict"), ("dictionary", "dictionary")):
        done = warm("score", finished[0] / "eval" / "predictions.jsonl", "--model", model, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["spans"]["strict"] == report[part]


def test_the_dev_rows_are_tagged_in_place_of_the_test_rows(
    finished: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = cli("eval", run, "--dev")
    assert done.returncode == 0, done.stderr
    (folder,) = run.glob("eval-*-dev")
    report = json.loads((folder / "report.json").read_text())
    data = json.loads((run / "data.json").read_text())
    assert (report["split"], report["rows"]) == ("dev", data["rows"]["dev"])
    strict = report["tuned"]["span_f1"]["value"]
    assert strict == pytest.approx(json.loads((run / "trainer_stats.json").read_text())["all_dev"]["f1"], abs=1e-6)
    kept = {path: path.read_bytes() for path in before}
    assert {path for path in before if before[path] != kept[path]} <= {run / "log.txt", run / "run.json"}


def test_it_costs_less_than_eighty_seconds(finished: tuple[Path, str]) -> None:
    assert 1 < float((finished[0].parent.parent / "seconds.txt").read_text()) < 80  # of a processor


def test_what_is_printed_is_for_people(finished: tuple[Path, str]) -> None:
    path, printed = finished
    for words in ("official dev and test", "bidirectional attention", "give back their 110 spans", "dev F1", "dictionary",
                  "macro average", "the tuned model tagged 15 test rows", "a dictionary of the training rows tagged 15 test rows", str(path)):  # fmt: skip
        assert words in printed
    assert "\x1b" not in printed
    assert "Warning" not in printed


def test_both_tables_fit_a_terminal_of_eighty_columns(finished: tuple[Path, str]) -> None:
    lines = finished[1].splitlines()
    leaks = next(i for i, line in enumerate(lines) if "shared with train" in line)
    figures = next(i for i, line in enumerate(lines) if line.split()[-1:] == ["difference"])
    assert lines[figures + 2].split()[:3] == ["95%", "interval", lines[figures + 2].split()[2]]
    tables = [*lines[leaks : leaks + 3], *lines[figures : figures + 8]]
    assert all(0 < len(line) <= 80 for line in tables if line), tables


def test_a_finished_run_is_left_alone(finished: tuple[Path, str], cli: Cli) -> None:
    path, _ = finished
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    done = cli("run", *TAG, "--runs", path.parent)
    assert done.stdout == f"finished before: {path} (nothing done; --fresh starts another beside it)\n"
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_stopped_and_started_again_it_ends_the_same(
    how: signal.Signals, code: int, finished: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / finished[0].name
    process = start(path, 19, *TAG)
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    assert process.returncode == code
    done = cli("run", *TAG, "--runs", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((path / "run.json").read_text())["resumed_from_step"] >= 14
    assert losses(path) == losses(finished[0])
    weights = [(p / "adapter" / "adapter_model.safetensors").read_bytes() for p in (finished[0], path)]
    assert weights[0] == weights[1]
    reports = [json.loads((p / "eval" / "report.json").read_text()) for p in (finished[0], path)]
    assert reports[0] == reports[1]


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_its_rows(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "run", RECIPE, "--runs", tmp_path, "--set", "train.learning_rate=1e6", "--set", "train.max_grad_norm=1e9"
    )
    assert done.returncode == 2
    assert re.match(r"the train loss is nan at step \d+ \(its rows: .*bad_rows\.json\); lower train\.learning_rate", done.stderr)  # fmt: skip
    rows = json.loads(next(tmp_path.glob("*/bad_rows.json")).read_text())["rows"]
    assert len(rows) == 8
    assert all(row.startswith("train:") for row in rows)


# --- its use


@pytest.fixture(scope="module")
def tagger(finished: tuple[Path, str]) -> Tagger:
    return open_tagger(finished[0])


def test_texts_of_ones_own_are_tagged_in_their_places(tagger: Tagger) -> None:
    text = "Aspirin reduced the risk of myocardial infarction in men over 50. Gentamicin caused acute renal failure."
    found, nothing = tag_texts(tagger, [text, " "])
    assert nothing == []
    assert found, "its first sentence was trained on"
    for span in found:
        assert text[span.start : span.end] == span.text
        assert span.type in ("Chemical", "Disease")
        assert 0 < span.probability <= 1
    assert all(one.end <= other.start for one, other in pairwise(found))
    # in a text that takes several windows too
    long = " ".join([text] * 20)
    assert len(tagger.windows([Tagged("a", "a", tuple(long.split()), ("O",) * len(long.split()))])) > 1
    assert all(long[span.start : span.end] == span.text for span in tag_texts(tagger, [long])[0])


def test_entities_are_shown_under_the_text_and_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show("[bold]Aspirin", [Found(6, 13, "Aspirin", "Chemical", 0.934)], {"Chemical": "red"}, Console())
    show("no", [], {}, Console())
    assert capsys.readouterr().out == (
        "[bold]Aspirin\n      6    13   93%  Chemical     Aspirin\nno\n  no entity found\n"
    )


def test_texts_are_read_from_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": 1, "text": "a"}\n\n{"text": "b"}\n')
    (tmp_path / "x.txt").write_text("a\n\nb")
    assert list(read_texts([], tmp_path / "x.jsonl")) == [{"id": 1, "text": "a"}, {"text": "b"}]
    assert list(read_texts([], tmp_path / "x.txt")) == [{"text": "a"}, {"text": ""}, {"text": "b"}]
    assert list(read_texts(["a", "b"], None)) == [{"text": "a"}, {"text": "b"}]


def test_the_command_reads_standard_input(finished: tuple[Path, str], cli: Cli) -> None:
    done = cli("tag", finished[0], "--json", input="Aspirin reduced the risk.\nno\n")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["Aspirin reduced the risk.", "no"]
    spans = [span for line in lines for span in line["spans"]]
    assert all(set(span) == {"start", "end", "text", "type", "probability"} for span in spans)


def test_it_is_evaluated_again(finished: tuple[Path, str], cli: Cli, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished[0], tmp_path / finished[0].name))
    done = cli("eval", run, "--fresh")
    assert done.returncode == 0, done.stderr
    [folder] = run.glob("eval-*")
    assert (folder / "predictions.jsonl").read_bytes() == (run / "eval" / "predictions.jsonl").read_bytes()
    assert "eval-" in (folder / "report.html").read_text().partition("<footer>")[2]
    assert (folder / "report.json").read_bytes() == (run / "eval" / "report.json").read_bytes()
    best = json.loads((run / "trainer_stats.json").read_text())["best_step"]
    kept = sorted(int(path.name.rpartition("-")[2]) for path in (run / "checkpoints").glob("checkpoint-*"))
    [step] = [step for step in kept if step != best]
    done = cli("eval", run, "--checkpoint", str(step), "--set", "eval.draws=100")
    assert done.returncode == 0, done.stderr
    [other] = run.glob(f"eval-*-checkpoint-{step}")
    assert json.loads((other / "report.json").read_text())["rows"] == 15
    assert (other / "predictions.jsonl").read_bytes() != (folder / "predictions.jsonl").read_bytes()


WRONG = [
    (["tag", "RUN", "--file", "nowhere.txt"], 'nowhere.txt: no such file; name a file of JSON lines {"text": …}, or of a text a line'),
    (["tag", "RUN", "x", "--file", "README.md"], "tag: give TEXT or --file, not both"),
    (["tag", "RUN", "--file", "data/synthetic_qa.jsonl"], 'data/synthetic_qa.jsonl:1: has no text; write {"text": "…"}'),
    (["tag", "runs/none", "x"], "runs/none: is no run folder; name one of those in runs/"),
    (["eval", "RUN", "--suite", "medical"], "RUN: is a tagging run, and --suite asks questions; leave it out"),
    (["chat", "RUN"], "RUN: is a tagging run, which holds no conversation; see its entities on a page with --web, or tag texts with `medrecipes tag RUN TEXT`"),
    (["chat", "RUN", "--web", "--base"], "--base, --checkpoint and --set go with a run of conversations, and this is a tagging run; leave them out"),
    (["chat", "RUN", "--web", "--checkpoint", "8"], "--base, --checkpoint and --set go with a run of conversations, and this is a tagging run; leave them out"),
    (["export", "RUN", "--format", "gguf"], "RUN: is a tagging run, whose one form is its adapter, in RUN/adapter; tag texts with `medrecipes tag RUN TEXT`"),
    (["score", "RUN/eval/predictions.jsonl"], "RUN/eval/predictions.jsonl: holds the answers of dictionary and tuned; choose with --model tuned"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[" ".join(command[:4]) for command, _ in WRONG])
def test_a_mistake_is_one_line(command: list[str], message: str, finished: tuple[Path, str], warm: Cli) -> None:
    run = str(finished[0])
    done = warm(*(part.replace("RUN", run) for part in command))
    assert (done.returncode, done.stderr) == (2, message.replace("RUN", run) + "\n")


def test_runs_of_tags_are_laid_side_by_side(finished: tuple[Path, str], warm: Cli, tmp_path: Path) -> None:
    other = tmp_path / "causal"
    shutil.copytree(finished[0], other)
    recipe = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(recipe.replace('attention = "bidirectional"', 'attention = "causal"'))
    done = warm("compare", finished[0], other, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^loss covers +tags of words +tags of words$", done.stdout, re.M)
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| F1 of spans, micro |" in table
    assert re.search(r"^\| model.attention \| bidirectional \| causal \|$", table, re.M)
    assert "F1 of spans, micro | " in table.split("second minus first")[1]


def test_check_proves_every_row(warm: Cli) -> None:
    done = warm("check", RECIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 rows proved: 580 words" in done.stdout
    assert "no problems found" in done.stdout
