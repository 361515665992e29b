"""Many runs from one recipe: the grid, its sample, one folder each, resumed as a whole, the best by dev rows alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import RecipeError, RunError
from medrecipes.core.files import write_json
from medrecipes.pipeline.sweep import Outcome, choose, combinations, outcome, recipes, sweep, table
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import RunDir, read_losses
from tests.conftest import ROOT, Cli

SWEEP = ROOT / "recipes" / "tiny_sweep.toml"
GRID = [
    {"lora.rank": 4, "train.learning_rate": 1e-3}, {"lora.rank": 4, "train.learning_rate": 2e-3},
    {"lora.rank": 16, "train.learning_rate": 1e-3}, {"lora.rank": 16, "train.learning_rate": 2e-3},
]  # fmt: skip
SHORT = ["--set", "train.max_steps=4", "--set", "train.eval_steps=2", "--set", "train.save_steps=2", "--set",
         "eval.rows=2", "--set", "eval.max_new_tokens=4"]  # fmt: skip


def test_the_grid_is_every_combination_in_order() -> None:
    assert combinations(load(SWEEP).recipe) == GRID


def test_a_sample_is_drawn_by_the_seed_without_repeating_any() -> None:
    drawn = [combinations(load(SWEEP, ["sweep.samples=2", f"seed={seed}"]).recipe) for seed in range(40)]
    assert all(len(one) == 2 and one[0] != one[1] and one == [c for c in GRID if c in one] for one in drawn)
    assert len({json.dumps(one) for one in drawn}) == 6  # every pair of four turns up
    assert combinations(load(SWEEP, ["sweep.samples=2", "seed=7"]).recipe) == drawn[7]
    assert combinations(load(SWEEP, ["sweep.samples=9"]).recipe) == GRID


def test_a_run_of_a_sweep_is_the_run_that_set_would_make() -> None:
    by_sweep = [recipe.key for _, recipe in recipes(SWEEP, [])]
    by_hand = [
        load(ROOT / "recipes" / "tiny_mistral.toml", [f"{key}={value}" for key, value in one.items()]).recipe
        for one in GRID
    ]
    assert by_sweep == [recipe.key for recipe in by_hand]
    assert all(recipe.sweep.grid == {} for _, recipe in recipes(SWEEP, []))


def test_combinations_that_are_the_same_recipe_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        f"extends = '{ROOT}/recipes/tiny_mistral.toml'\n[sweep]\n'lora.rank' = [8, 8, 4]\n"
    )
    assert [settings for settings, _ in recipes(tmp_path / "x.toml", [])] == [{"lora.rank": 8}, {"lora.rank": 4}]


def test_what_is_wrong_with_any_run_is_told_before_the_first(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        "[train]\nbatch = 8\n[sweep]\n'train.micro_batch' = [2, 3, 5]\n'lora.rank' = [0]\n"
    )
    with pytest.raises(RecipeError) as error:
        recipes(tmp_path / "x.toml", [])
    found = [line.removeprefix(f"{tmp_path}/x.toml: with ") for line in error.value.problems]
    assert found[1] == (
        "train.micro_batch = 3, lora.rank = 0: --set: lora.rank = 0: must be greater than or equal to 1"
    )
    assert found[2] == (
        "train.micro_batch = 3, lora.rank = 0: --set: train.micro_batch = 3 does not divide train.batch = 8; choose a divisor"
    )
    assert len(found) == 5


def test_a_recipe_without_a_sweep_is_told_how_to_have_one(cli: Cli) -> None:
    done = cli("sweep", "recipes/tiny_mistral.toml")
    assert done.returncode == 2
    assert done.stderr == 'recipes/tiny_mistral.toml: has no [sweep] to try; add one, such as "lora.rank" = [8, 16]\n'


def made(rank: int, value: float | None, dev: str = "rows") -> Outcome:
    return Outcome({"lora.rank": rank}, f"runs/x-{rank}", value, 40, 1.5, dev)


def test_the_best_is_the_lowest_and_none_where_the_dev_rows_differ() -> None:
    runs = [made(4, 2.5), made(8, 2.25), made(16, 2.75)]
    assert choose(runs, "bits_per_byte") == (runs[1], "")
    assert choose([*runs, made(32, 1.0, "others")], "bits_per_byte") == (
        None,
        "no best: what was swept changes the dev rows, so these figures do not compare",
    )
    assert table(runs, "loss") == [
        "lora.rank  dev loss  at step  seconds  run",
        "8          2.2500    40       1.5      runs/x-8",
        "4          2.5000    40       1.5      runs/x-4",
        "16         2.7500    40       1.5      runs/x-16",
    ]


def test_a_run_without_a_dev_figure_is_never_the_best() -> None:
    runs = [made(4, None), made(8, 2.5)]
    assert choose(runs, "bits_per_byte") == choose(runs[::-1], "f1") == (runs[1], "")
    assert [line.split()[:2] for line in table(runs, "loss")[1:]] == [["8", "2.5000"], ["4", "-"]]
    why = "no best: no run was evaluated on its dev rows; lower train.eval_steps"
    assert choose(runs[:1], "loss") == (None, why)


Walked = list[tuple[int, bool]]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Walked:
    """Runs that are not trained, and which of them were to be evaluated; the fourth fails of something unforeseen."""
    found: Walked = []

    def run(recipe: Recipe, runs: Path, console: Console, *, evaluate: bool = True) -> RunDir:
        number = len(found)
        found.append((recipe.lora.rank, evaluate))
        if recipe.lora.rank == 64:
            raise ZeroDivisionError("division by zero")
        folder = runs / f"x-{recipe.lora.rank}"
        write_json(folder / "trainer_stats.json", {"best_metric": abs(recipe.lora.rank - 9), "best_step": number, "train_runtime": 1.0})  # fmt: skip
        write_json(folder / "data.json", {"keys": {"dev": "a"}})
        return RunDir(folder)

    monkeypatch.setattr("medrecipes.pipeline.sweep.run", run)
    return found


def test_the_best_alone_answers_the_test_rows(walked: Walked, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        f"extends = '{ROOT}/recipes/tiny_mistral.toml'\n[sweep]\n'lora.rank' = [4, 8, 16]\n"
    )
    folder = sweep(tmp_path / "x.toml", [], tmp_path / "runs", Console())
    assert walked == [(4, False), (8, False), (16, False), (8, True)]
    assert json.loads((folder / "sweep.json").read_text())["best"] == str(tmp_path / "runs" / "x-8")


def test_what_nobody_foresaw_ends_one_run_and_not_the_others(
    walked: Walked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.toml").write_text(
        f"extends = '{ROOT}/recipes/tiny_mistral.toml'\n[sweep]\n'lora.rank' = [4, 64, 8]\n"
    )
    with pytest.raises(RunError) as error:
        sweep(tmp_path / "x.toml", [], tmp_path / "runs", Console())
    assert walked == [(4, False), (64, False), (8, False)]  # the best may yet be the one that failed
    [folder] = (tmp_path / "runs").glob("x-sweep-*")
    why = f"lora.rank = 64: ZeroDivisionError: division by zero (all of it in {folder}/failures.txt)"
    assert str(error.value).splitlines() == [
        "1 of 3 runs failed; the same command tries them again, and then lets the best answer the held-out rows", why,
    ]  # fmt: skip
    assert f"failed: {why}" in capsys.readouterr().out
    assert "Traceback (most recent call last)" in (folder / "failures.txt").read_text()
    found = json.loads((folder / "sweep.json").read_text())
    assert ([one["settings"] for one in found["runs"]], found["failures"]) == ([{"lora.rank": 4}, {"lora.rank": 8}], [why])  # fmt: skip


def test_a_sweep_trains_all_and_evaluates_one(warm: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f"extends = '{ROOT}/recipes/tiny_bio_ner.toml'\n[sweep]\n'lora.rank' = [4, 8]\n")
    short = ["--set", "train.max_steps=4", "--set", "train.eval_steps=2", "--set", "train.save_steps=2"]
    runs = tmp_path / "runs"
    done = warm("sweep", tmp_path / "s.toml", "--runs", runs, *short)
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = runs.glob("s-sweep-*")
    best = Path(json.loads((folder / "sweep.json").read_text())["best"])
    [other] = [path for path in runs.iterdir() if path not in (folder, best)]
    states = {path: json.loads((path / "run.json").read_text()) for path in (best, other)}
    assert [state["state"] for state in states.values()] == ["finished", "trained"]
    assert [(path / "eval").exists() for path in (best, other)] == [True, False]
    assert [(path / "README.md").exists() for path in (best, other)] == [True, False]
    assert {"data", "load", "train", "evaluate (base)", "evaluate (tuned)"} <= states[best]["seconds"].keys()
    assert {"micro_batch", "engine", "loss"} <= states[best]["choices"].keys()
    # time and memory are those of the training, not of the answers that came later
    stats = json.loads((best / "trainer_stats.json").read_text())
    assert (stats["steps"], stats["peak_gb"]) == (4, states[best]["peak_gb"])
    assert re.search(r"train +done before: 4 steps, best at step \d", done.stdout)

    kept = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and path.parent != folder}
    again = warm("sweep", tmp_path / "s.toml", "--runs", runs, *short)
    assert (again.stdout.count("trained before: "), again.stdout.count("finished before: ")) == (1, 2)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    # the same settings by hand: what is left is done, and nothing is trained anew
    rank = {4: 8, 8: 4}[json.loads((best / "adapter/adapter_config.json").read_text())["r"]]
    by_hand = warm("run", ROOT / "recipes/tiny_bio_ner.toml", "--runs", runs, *short, "--set", f"lora.rank={rank}", "--set", "name=s")  # fmt: skip
    assert (by_hand.returncode, by_hand.stderr) == (0, "")
    assert json.loads((other / "run.json").read_text())["state"] == "finished"
    assert "done before: 4 steps" in by_hand.stdout


def test_only_dev_figures_are_read(tmp_path: Path) -> None:
    stats = {"best_metric": 2.5, "best_step": 40, "train_runtime": 1.53, "steps": 60}
    (tmp_path / "trainer_stats.json").write_text(json.dumps(stats))
    data = {"keys": {"dev": "a", "test": "b"}, "overflow": {"dev": {"dropped": {}}, "held out": {}}}
    (tmp_path / "data.json").write_text(json.dumps(data))  # and no report of the test rows anywhere
    first = outcome({"lora.rank": 8}, RunDir(tmp_path))
    assert (first.value, first.step, first.seconds) == (2.5, 40, 1.5)
    data["keys"]["test"] = "c"
    (tmp_path / "data.json").write_text(json.dumps(data))
    assert outcome({"lora.rank": 8}, RunDir(tmp_path)).dev == first.dev
    data["keys"]["dev"] = "d"
    (tmp_path / "data.json").write_text(json.dumps(data))
    assert outcome({"lora.rank": 8}, RunDir(tmp_path)).dev != first.dev


@pytest.mark.slow
def test_a_sweep_runs_each_once_goes_on_where_it_stopped_and_equals_single_runs(cli: Cli, tmp_path: Path) -> None:
    # the second optimiser needs a GPU: two of the four runs fail, the others are kept
    recipe = tmp_path / "s.toml"
    recipe.write_text(
        f"extends = '{ROOT}/recipes/tiny_mistral.toml'\n"
        "[sweep]\n'lora.rank' = [4, 8]\n'train.optim' = ['adamw_torch_fused', 'adamw_8bit']\n"
    )
    runs = tmp_path / "runs"
    done = cli("sweep", recipe, "--runs", runs, *SHORT)
    assert done.returncode == 2
    assert "needs a GPU; on a CPU set train.optim" in done.stderr
    assert "runs failed; the same command tries them again" in done.stderr
    folder = next(runs.glob("s-sweep-*"))
    found = json.loads((folder / "sweep.json").read_text())
    finished = [Path(one["folder"]) for one in found["runs"]]
    assert (len(finished), len(found["failures"])) == (2, 2)
    assert sorted(p for p in runs.iterdir() if p != folder) == sorted(finished)
    assert found["metric"] == "bits_per_byte"
    assert found["best"] == min(found["runs"], key=lambda one: one["value"])["folder"]
    assert re.search(r"best by dev bits per byte: lora\.rank = ", done.stdout)
    columns = "| lora.rank | train.optim | dev bits per byte | at step | seconds | run |"
    assert (folder / "sweep.md").read_text().splitlines()[2] == columns

    # one run is lost; the same command makes that one alone again, to the same losses
    losses = read_losses(finished[0] / "loss.csv")
    kept = {path: path.stat().st_mtime_ns for path in finished[1].rglob("*")}
    shutil.rmtree(finished[0])
    again = cli("sweep", recipe, "--runs", runs, *SHORT)
    assert again.stdout.count("trained before: ") == 1
    assert not list(runs.rglob("predictions.jsonl"))  # they wait for the two that cannot be trained here
    same = [[[row[c] for c in ("step", "split", "loss", "grad_norm")] for row in rows] for rows in (losses, read_losses(finished[0] / "loss.csv"))]  # fmt: skip
    assert same[0] == same[1]
    assert {path: path.stat().st_mtime_ns for path in finished[1].rglob("*")} == kept
