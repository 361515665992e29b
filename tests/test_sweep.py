"""Many runs from one recipe: the grid, its sample, one folder each, resumed as a whole, the best by dev rows alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from medrecipes.errors import RecipeError
from medrecipes.loading import load
from medrecipes.rundir import RunDir, read_losses
from medrecipes.sweep import Outcome, choose, combinations, outcome, recipes, table
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
        load(ROOT / "recipes" / "demo.toml", [f"{key}={value}" for key, value in one.items()]).recipe for one in GRID
    ]
    assert by_sweep == [recipe.key for recipe in by_hand]
    assert all(recipe.sweep.grid == {} for _, recipe in recipes(SWEEP, []))


def test_combinations_that_are_the_same_recipe_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(f"extends = '{ROOT}/recipes/demo.toml'\n[sweep]\n'lora.rank' = [8, 8, 4]\n")
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
    done = cli("sweep", "recipes/demo.toml")
    assert done.returncode == 2
    assert done.stderr == 'recipes/demo.toml: has no [sweep] to try; add one, such as "lora.rank" = [8, 16]\n'


def made(rank: int, value: float, dev: str = "rows") -> Outcome:
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
    # the second optimiser needs a card: two of the four runs fail, the others are kept
    recipe = tmp_path / "s.toml"
    recipe.write_text(
        f"extends = '{ROOT}/recipes/demo.toml'\n"
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
    assert again.stdout.count("finished before: ") == 1
    same = [[[row[c] for c in ("step", "split", "loss", "grad_norm")] for row in rows] for rows in (losses, read_losses(finished[0] / "loss.csv"))]  # fmt: skip
    assert same[0] == same[1]
    assert {path: path.stat().st_mtime_ns for path in finished[1].rglob("*")} == kept
