"""What all tests share: the real data where it is at hand, a store of their own, and the command line in a subprocess."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medrecipes.rundir import read_losses

if TYPE_CHECKING:
    from medrecipes.rendering import Example
    from medrecipes.rundir import RunDir

ROOT = Path(__file__).parent.parent
Cli = Callable[..., subprocess.CompletedProcess[str]]
Train = Callable[..., tuple[Any, "RunDir", list[dict[str, Any]]]]
# the other engine needs a card and a process of its own: MEDRECIPES_TEST_ENGINE=plain pytest tests/test_engine.py
ENGINE = os.environ.get("MEDRECIPES_TEST_ENGINE", "unsloth")


@pytest.fixture(scope="session", autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that an earlier session left in the user's store can help a test, and no hub is asked."""
    os.environ["MEDRECIPES_CACHE"] = str(tmp_path_factory.mktemp("store"))
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real public data."""
    folder = os.environ.get("MEDRECIPES_DATA")
    if not folder:
        pytest.skip("MEDRECIPES_DATA is not set: the real public files are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Runs `medrecipes …` as a user does: `cli("run", "recipes/demo.toml")`."""

    def call(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medrecipes.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **settings)  # type: ignore[call-overload]

    return call


def children_seconds() -> float:
    """Processor time of all finished subprocesses: what a command costs, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(recipe: str, path: Path, step: int, *settings: str) -> subprocess.Popen[bytes]:
    """Start a run into the folder that it will have, and come back when its log has reached a step."""
    command = [sys.executable, "-m", "medrecipes.run", recipe, "--runs", str(path.parent), *settings]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not any(int(row["step"]) >= step for row in read_losses(path / "loss.csv")):
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def rendered_rows(max_tokens: int = 256, *overrides: str) -> list[Example]:
    """The demo's training rows as ids and labels, the shortest first."""
    from medrecipes.engines import load_libraries, recipe_base
    from medrecipes.loading import load
    from medrecipes.overflow import fit
    from medrecipes.prepare import prepare
    from medrecipes.rendering import ChatTemplate

    recipe = load(ROOT / "recipes" / "demo.toml", [f"model.engine={ENGINE}", *overrides]).recipe
    split = prepare(recipe)
    load_libraries(recipe)
    template = ChatTemplate(recipe.template.name, recipe_base(recipe, split).tokenizer)
    return sorted(fit(template, split.train, max_tokens, "drop").examples, key=lambda e: len(e.input_ids))


def extremes(examples: Sequence[Example]) -> list[Example]:
    """Thirty rows of very different length."""
    return [*examples[:15], *examples[-15:]]


@pytest.fixture(scope="session")
def rows() -> list[Example]:
    """Thirty rendered rows of the demo, of very different length."""
    return extremes(rendered_rows())


@pytest.fixture(scope="session")
def train(rows: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains the demo with these overrides and gives the engine, the run folder, and every batch that the model saw.

    `before` is called with the base model and the engine, `console` hears what is said.
    """
    from medrecipes.console import Console
    from medrecipes.engines import load_libraries, open_engine, recipe_base
    from medrecipes.loading import load
    from medrecipes.prepare import prepare
    from medrecipes.rendering import ChatTemplate
    from medrecipes.rundir import RunDir

    def call(
        *overrides: str, examples: Sequence[Example] = rows, dev: Sequence[Example] = (), rundir: RunDir | None = None,
        before: Callable[[Any], None] = lambda _: None, console: Any = None,
    ) -> tuple[Any, RunDir, list[dict[str, Any]]]:  # fmt: skip
        settings = [
            f"model.engine={ENGINE}", "train.precision=fp32", "train.keep_best=last", "train.warmup_steps=0",
            "train.scheduler=constant", *overrides,
        ]  # fmt: skip
        recipe = load(ROOT / "recipes" / "demo.toml", settings).recipe
        base = recipe_base(recipe, prepare(recipe))
        template = ChatTemplate(recipe.template.name, base.tokenizer)
        engine: Any = open_engine(recipe, base, template, load_libraries(recipe))
        seen: list[dict[str, Any]] = []
        engine.model.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append({k: v.tolist() for k, v in kwargs.items() if hasattr(v, "tolist")}),
            with_kwargs=True,
        )
        before(engine)
        rundir = rundir or RunDir(tmp_path_factory.mktemp("run"))
        console = console or Console()
        with console.quiet(rundir.log):
            engine.train(examples, dev, rundir, console)
        return engine, rundir, seen

    return call


@pytest.fixture(scope="session")
def tag_run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The tiny tagging recipe, whole, and what it printed; copy it before changing anything."""
    runs = tmp_path_factory.mktemp("runs")
    before = children_seconds()
    done = cli("run", "recipes/tiny_bio_ner.toml", "--runs", runs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert children_seconds() - before < 40  # base, training and scores together
    return next(runs.iterdir()), done.stdout


@pytest.fixture(scope="session")
def tiny_run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished short run of the demo, for whoever only looks at one; copy it before changing anything."""
    runs = tmp_path_factory.mktemp("tiny")
    settings = (
        "train.max_steps=12",
        "train.save_steps=6",
        "train.eval_steps=6",
        "eval.rows=6",
        "eval.max_new_tokens=24",
    )
    done = cli("run", "recipes/demo.toml", "--runs", runs, *(word for s in settings for word in ("--set", s)))
    assert done.returncode == 0, done.stdout + done.stderr
    return next(runs.iterdir())
