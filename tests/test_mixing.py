"""Data mixing and the curriculum by length, in literals: shares, the cap on repeats, orders; dev and test are left alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.split import prepare
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Data, Mix, Recipe
from medrecipes.rendering.chat_template import Example
from medrecipes.rendering.mixing import mix, told
from medrecipes.rendering.packing import STRETCHES, pack
from medrecipes.runs.folder import read_losses, run_path
from tests.conftest import ROOT, Cli, sets, start

DATA = ROOT / "data"


def example(id: str, tokens: int) -> Example:
    return Example(id, id, [1] * tokens, [1] * tokens)


# ten long rows and forty short ones: a fifth of the rows and a half of the tokens, each
ROWS = [*(example(f"medquad/{i}", 40) for i in range(10)), *(example(f"wikidoc/{i}", 10) for i in range(40))]
SOURCES = ("medquad", "wikidoc")


def recipe(by: str, weights: tuple[float, float], repeats: int = 4, seed: int = 42) -> Recipe:
    entries = [{"source": name, "weight": weight} for name, weight in zip(SOURCES, weights, strict=True)]
    return Recipe(data=Data.model_validate({"mix": entries, "mix_by": by, "max_repeats": repeats}), seed=seed)


def mixed(by: str, weights: tuple[float, float], repeats: int = 4) -> tuple[Counter[str], dict[str, Any]]:
    """How often each source comes in an epoch, and the report."""
    found = mix(recipe(by, weights, repeats), ROWS, SOURCES)
    return Counter(e.id.partition("/")[0] for e in found.of(ROWS)), dict(found.report)


def test_weights_share_an_epoch_by_rows_or_by_tokens() -> None:
    # 50 rows, 800 tokens
    assert mixed("rows", (1, 1))[0] == {"medquad": 25, "wikidoc": 25}
    assert mixed("tokens", (1, 1))[0] == {"medquad": 10, "wikidoc": 40}
    assert mixed("tokens", (3, 1))[0] == {"medquad": 15, "wikidoc": 20}
    _, report = mixed("rows", (1, 1))
    assert (report["rows"], report["tokens"], report["by"]) == (50, 25 * 40 + 25 * 10, "rows")
    assert report["sources"]["medquad"] == {
        "asked": 0.5, "repeats": 2.5,
        "before": {"rows": 10, "tokens": 400, "share_of_rows": 0.2, "share_of_tokens": 0.5},
        "after": {"rows": 25, "tokens": 1000, "share_of_rows": 0.5, "share_of_tokens": 0.8},
    }  # fmt: skip


def test_no_row_comes_more_often_than_the_cap_and_one_line_says_what_that_costs() -> None:
    found = mix(recipe("rows", (1, 1), repeats=2), ROWS, SOURCES)
    times = Counter(e.id for e in found.of(ROWS))
    assert {times[f"medquad/{i}"] for i in range(10)} == {2}
    assert sum(times[f"wikidoc/{i}"] for i in range(40)) == 25
    [line] = [text for kind, text in told(found.report) if kind == "note"]
    assert line == "data.max_repeats = 2 caps what the weights ask for: medquad is 44.4% of the rows and not 50.0%; raise it, or lower the weight"  # fmt: skip
    assert [kind for kind, _ in told(mixed("rows", (1, 1), repeats=3)[1])] == ["mixture", "mixture"]


def test_repeats_are_even_and_what_is_drawn_hangs_on_the_seed_alone() -> None:
    def times(seed: int) -> Counter[str]:
        return Counter(e.id for e in mix(recipe("rows", (1, 1), seed=seed), ROWS, SOURCES).of(ROWS))

    assert {times(42)[f"medquad/{i}"] for i in range(10)} == {2, 3}
    assert times(42) == times(42)
    assert times(42) != times(43)
    backwards = mix(recipe("rows", (1, 1)), ROWS[::-1], SOURCES).of(ROWS[::-1])
    assert Counter(e.id for e in backwards) == times(42)


def test_a_recipe_that_mixes_nothing_has_every_row_once() -> None:
    plain = mix(Recipe(data=Data(mix=(Mix(source="medquad"), Mix(source="wikidoc")))), ROWS, SOURCES)
    assert plain.of(ROWS) is ROWS
    assert plain.report["sources"]["wikidoc"]["before"] == plain.report["sources"]["wikidoc"]["after"]
    assert told(plain.report) == [
        ("mixture", "medquad: 10 training rows (20.0%), 400 tokens (50.0%)"),
        ("mixture", "wikidoc: 40 training rows (80.0%), 400 tokens (50.0%)"),
    ]
    assert told(mix(Recipe(), ROWS, ("medquad",)).report) == []


def test_a_source_without_training_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.mix: wikidoc has no row to train on"):
        mix(recipe("rows", (1, 1)), ROWS[:10], SOURCES)


def both(**data: Any) -> Recipe:
    paths = {"medquad": DATA / "medquad", "wikidoc": DATA / "wikidoc.json"}
    entries = [{"source": name, "path": path, "weight": 1.0} for name, path in paths.items()]
    return Recipe(data=Data.model_validate({"mix": entries, **data}))


def test_mixing_an_epoch_leaves_the_split_as_it_is_without_weights() -> None:
    unweighted = tuple(entry.model_copy(update={"weight": None}) for entry in both().data.mix)
    plain = prepare(Recipe(data=Data(mix=unweighted)))
    for by in ("rows", "tokens"):
        made = prepare(both(mix_by=by))
        assert (made.key, made.train, made.dev, made.test) == (plain.key, plain.train, plain.dev, plain.test)
    assert prepare(both()).key != plain.key  # where weights leave rows out before it


def test_short_rows_come_first_by_tenths_packed_or_not() -> None:
    rows = [example(str(i), 1 + (i * 37) % 100) for i in range(100)]  # every length from 1 to 100 once
    lone = pack(rows, 100, packing=False, order="short_first")
    assert [len(p.input_ids) for p in lone] == list(range(1, 101))
    assert [p.stretch for p in lone] == [i // 10 for i in range(100)]
    packs = pack(rows, 100, packing=True, order="short_first")
    assert sorted(row for p in packs for row in p.rows) == list(range(100))
    assert [p.stretch for p in packs] == sorted(p.stretch for p in packs)
    for p in packs:
        assert {(length - 1) // 10 for length in p.lengths} == {p.stretch}
    few = pack(rows[:3], 100, packing=False, order="short_first")
    assert sorted(p.rows[0] for p in few) == [0, 1, 2]
    assert all(p.stretch < STRETCHES for p in few)


@pytest.mark.parametrize(("gpus", "fill"), [(1, 0), (2, 2)])
def test_the_order_of_a_curriculum_is_one_of_each_epoch_tenth_after_tenth(gpus: int, fill: int) -> None:
    from medrecipes.engines.trainer.samplers import ShortFirst

    stretches = [i // 10 for i in range(30)]

    def epoch(number: int, seed: int = 7) -> list[int]:
        sampler = ShortFirst(stretches, [1] * (30 + fill), seed, batch=8 // gpus * gpus, gpus=gpus, at_once=1)
        sampler.set_epoch(number)
        return list(sampler)

    first = epoch(0)
    assert sorted(first) == list(range(30 + fill))
    # a step may hold rows of two tenths, and its rows are dealt among themselves; the steps keep the order
    steps = [first[i : i + 8] for i in range(0, len(first), 8)]
    assert [sorted({row // 10 for row in step if row < 30}) for step in steps] == [[0], [0, 1], [1, 2], [2]]
    assert first == epoch(0)
    assert first != epoch(1) != epoch(1, seed=8)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["data.mix_by=tokens"], "data.mix_by = 'tokens' is about the weights of data.mix, which is empty"),
        (["data.mix=[{source='medquad'},{source='wikidoc'}]", "data.mix_by=rows"], "data.mix_by = 'rows' shares an epoch by weights"),
        (["data.max_repeats=3"], "data.max_repeats is read with data.mix_by = 'rows' or 'tokens' only"),
        (["data.max_repeats=0"], "data.max_repeats = 0: must be greater than or equal to 1"),
        (["data.mix_by=words"], "data.mix_by = 'words' is not one of"),
        (["train.order=longest"], "train.order = 'longest' is not one of"),
    ],
)  # fmt: skip
def test_nonsense_is_one_line_and_exit_2(settings: list[str], problem: str, cli: Cli) -> None:
    done = cli("check", "--schema-only", "recipes/tiny_mistral.toml", *sets(*settings))
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if problem in line]
    assert line


MIXED = [
    "recipes/tiny_medical.toml", "--set",
    f"data.mix=[{{source='medquad',path='{DATA}/medquad',weight=1.0}},{{source='wikidoc',path='{DATA}/wikidoc.json',weight=3.0}}]",
    *sets("data.mix_by=tokens", "data.max_repeats=2", "train.order=short_first", "train.packing=true", "data.max_tokens=256",
          "data.on_overflow=shorten_answer", "train.batch=2", "train.max_steps=12", "eval.rows=2", "eval.max_new_tokens=4",
          "train.eval_steps=4", "train.save_steps=4", "eval.cases=data/cases/medquad.toml"),
]  # fmt: skip


@pytest.mark.slow
def test_a_mixed_run_is_recorded_verified_and_the_same_after_a_kill(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", *MIXED, "--runs", tmp_path / "whole")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data.max_repeats = 2 caps what the weights ask for: wikidoc" in done.stdout
    [run] = (tmp_path / "whole").iterdir()
    data, state = (json.loads((run / name).read_text()) for name in ("data.json", "run.json"))
    assert data["mixture"] == state["mixture"]
    assert data["mixture"]["sources"]["wikidoc"]["repeats"] == 2
    assert "mixed by tokens" in (run / "README.md").read_text()
    assert cli("verify", run).returncode == 0
    overrides = [MIXED[i + 1] for i in range(1, len(MIXED), 2)]
    path = run_path(load(ROOT / MIXED[0], overrides).recipe, tmp_path / "killed", fresh=False)
    process = start(path, 6, *MIXED)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cli("run", *MIXED, "--runs", path.parent).returncode == 0
    assert json.loads((path / "run.json").read_text())["resumed_from_step"] in (4, 8)
    losses = [[(row["step"], row["split"], row["loss"]) for row in read_losses(each / "loss.csv")] for each in (run, path)]  # fmt: skip
    assert losses[0] == losses[1]
    shutil.rmtree(path)
