"""What others on the same machine can read: no folder that holds rows or answers, whatever the umask; and files are as it says."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.core.files import write_json
from medrecipes.recipe.load import load
from medrecipes.runs.folder import LossLog, open_run
from medrecipes.runs.loss_plot import loss_png
from tests.attack.harness import attack
from tests.conftest import ROOT
from tests.test_compare import make_run

UMASKS = (0o022, 0o002, 0o077)


@pytest.fixture(params=UMASKS, ids="{:03o}".format)
def umask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A umask, and a store of its own."""
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kept(folder: Path, umask: int) -> None:
    """Hold that a folder is closed to others, and that all in it is as the umask says."""
    assert mode(folder) == 0o700 & ~umask, folder
    for path in folder.rglob("*"):
        whole = 0o777 if path.is_dir() else 0o666
        # folders within are closed as well, or behind a closed one
        assert mode(path) in (whole & ~umask, 0o700 & ~umask) if path.is_dir() else mode(path) == whole & ~umask, path


def test_datasets_comparisons_and_the_store_are_closed(umask: int, tmp_path: Path, record_property: Callable[..., None]) -> None:  # fmt: skip
    (tmp_path / "r.toml").write_text(f'name = "d"\n[data]\npath = "{ROOT}/data/medquad"\n')
    built = attack("build", "r.toml", "--out", "built", "--format", "jsonl", cwd=tmp_path)
    assert built.code == 0, built
    kept(tmp_path / "built" / "d", umask)
    runs = [make_run(tmp_path / "runs" / name, seed=seed, steps=8, questions=8) for seed, name in enumerate("ab")]
    compared = attack("compare", *runs, "--out", "compared", cwd=tmp_path)
    assert compared.code == 0, compared
    kept(tmp_path / "compared", umask)
    assert mode(tmp_path / "store") == 0o700 & ~umask
    # what somebody opened to others stays so
    (tmp_path / "compared").chmod(0o755)
    assert attack("compare", *runs, "--out", "compared", cwd=tmp_path).code == 0
    assert mode(tmp_path / "compared") == 0o755
    record_property("attacks", ("folders read by others", 3))


def test_a_run_is_closed_and_its_log_with_it(umask: int, tmp_path: Path, record_property: Callable[..., None]) -> None:
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml").recipe
    with open_run(tmp_path / "runs" / "demo", recipe) as rundir:
        with Console().quiet(rundir.log):
            print("a row")
        log = LossLog(rundir.path / "loss.csv")
        log.row(step=1, epoch=0.1, split="train", loss=2.5)
        log.close()
        loss_png(rundir.path / "loss.png", "t", [{"step": "1", "loss": "2.5", "split": "train"}], "answers")
        write_json(rundir.path / "eval" / "report.json", {})
    kept(tmp_path / "runs" / "demo", umask)
    record_property("attacks", ("folders read by others", 1))
    shutil.rmtree(tmp_path / "runs")
