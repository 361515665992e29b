"""`medrecipes eval RUN`: a finished run answers again from its saved adapter, and benchmarks are handed to their harness."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.evaluation.benchmarks import NAMED, parse_suite
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir
from tests.conftest import Cli

HARNESS = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("evaluated") / tiny_run.name))


def answers(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {(row["model"], row["id"]): row for row in map(json.loads, lines)}


def test_the_saved_adapter_answers_as_the_model_did_that_was_trained(run: Path, cli: Cli) -> None:
    done = cli("eval", run, "--fresh")
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = run.glob("eval-*")
    first, again = answers(run / "eval"), answers(folder)
    assert len(first) == 12
    assert {key: row["prediction"] for key, row in first.items()} == {
        key: row["prediction"] for key, row in again.items()
    }
    assert max(abs(first[key]["bits"] - again[key]["bits"]) for key in first) < 0.01
    shutil.rmtree(folder)


def test_nothing_is_answered_twice_and_a_finished_run_is_not_altered(run: Path, warm: Cli) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "log.txt"}
    assert warm("eval", run).returncode == 0
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "log.txt"} == before


def test_a_batch_of_rows_is_answered_as_each_row_alone(run: Path, warm: Cli) -> None:
    done = warm("eval", run, "--set", "eval.batch=1")
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = run.glob("eval-*")
    batched, single = answers(run / "eval"), answers(folder)
    assert {key: row["prediction"] for key, row in batched.items()} == {key: row["prediction"] for key, row in single.items()}  # fmt: skip
    assert max(abs(batched[key]["bits"] - single[key]["bits"]) for key in batched) < 0.01
    shutil.rmtree(folder)


def test_other_settings_go_into_a_folder_of_their_own(run: Path, warm: Cli) -> None:
    done = warm("eval", run, "--set", "eval.rows=9")
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = run.glob("eval-*")
    assert len(answers(folder)) == 18
    assert json.loads((folder / "report.json").read_text())["rows"] == 9
    assert "All 9 rows" in (folder / "report.html").read_text()
    assert f"\nreport.html  {folder / 'report.html'}\n" in done.stdout
    assert answers(run / "eval").keys() < answers(folder).keys()
    shutil.rmtree(folder)


def test_mistakes_are_one_line_each(run: Path, warm: Cli, tmp_path: Path) -> None:
    bare, young = tmp_path / "bare", tmp_path / "young"
    shutil.copytree(run, bare)
    shutil.rmtree(bare / "adapter")
    shutil.copytree(run, young)
    (young / "run.json").write_text('{"state": "training"}')
    mistakes = [
        ([tmp_path], f"{tmp_path}: is no run folder; name one of those in runs/"),
        ([young], f"{young}: is not a finished run; finish it with `medrecipes run` on its recipe"),
        ([bare], f"{bare}: has no adapter; train it again with `medrecipes run {bare}/recipe.toml --fresh`"),
        ([run, "--set", "lora.rank=8"], f"{run}: only settings of [eval] can be overridden here, such as --set eval.rows=500"),
        ([run, "--suite", "mmlu"], "--suite mmlu: write it as lm-eval:TASK,TASK or lm-eval:medical|general"),
    ]  # fmt: skip
    for arguments, message in mistakes:
        done = warm("eval", *arguments)
        assert (done.returncode, done.stderr) == (2, message + "\n")


@pytest.mark.skipif(HARNESS, reason="lm-evaluation-harness is installed")
def test_an_absent_harness_is_one_clear_line() -> None:
    with pytest.raises(
        MedRecipesError, match=re.escape("lm-evaluation-harness is not installed; pip install -e '.[bench]'")
    ):
        parse_suite("lm-eval:pubmedqa")


needs_harness = pytest.mark.skipif(not HARNESS, reason="lm-evaluation-harness is not installed (extra: bench)")


@needs_harness
def test_named_suites_are_tasks_that_the_harness_has() -> None:
    from lm_eval.tasks import TaskManager

    assert parse_suite("lm-eval:medical,general") == (*NAMED["medical"], *NAMED["general"])
    known = set(TaskManager().all_tasks)
    assert {task for tasks in NAMED.values() for task in tasks} <= known


@needs_harness
def test_the_real_harness_judges_base_and_adapter_on_a_local_task(run: Path, warm: Cli, tmp_path: Path) -> None:
    questions = [{"question": f"Which organ makes bile ({i})?", "choices": ["liver", "heart", "lung"], "answer": i % 3} for i in range(6)]  # fmt: skip
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    (tmp_path / "bile.yaml").write_text(
        "task: bile\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {tmp_path / 'questions.jsonl'}\n"
        'output_type: multiple_choice\ntest_split: test\ndoc_to_text: "{{question}}\\nAnswer:"\n'
        'doc_to_choice: "{{choices}}"\ndoc_to_target: answer\nmetric_list:\n  - metric: acc\n    aggregation: mean\n'
        "    higher_is_better: true\nmetadata:\n  version: 1.0\n"
    )
    done = warm("eval", run, "--suite", "lm-eval:bile", "--include", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"bile acc +0\.\d{3} ± 0\.\d{3} +0\.\d{3} ± 0\.\d{3} +[+-]0\.\d{3}", done.stdout)
    [suite] = json.loads((run / "eval" / "report.json").read_text())["suites"]
    assert suite["tasks"] == ["bile"]
    assert set(suite["base"]["bile"]) == set(suite["tuned"]["bile"]) >= {"acc,none"}
    assert "## Benchmarks" in (run / "eval" / "report.md").read_text()
    assert "<h3>Benchmarks</h3>" in (run / "report.html").read_text()
    assert file_hashes.broken(RunDir(run)) == ([], [])
    done = warm("eval", run, "--suite", "lm-eval:bil", "--include", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "task 'bil' is unknown to lm-eval" in done.stderr
