"""What all tests share: the real data where it is at hand, a store of their own, and the command line in a subprocess."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Cli = Callable[..., subprocess.CompletedProcess[str]]


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
