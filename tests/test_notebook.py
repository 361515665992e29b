"""The quickstart notebook, cell by cell, with a tiny recipe on a CPU."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from medrecipes.commands import main
from tests.conftest import ROOT

NOTEBOOK = json.loads((ROOT / "notebooks" / "quickstart.ipynb").read_text(encoding="utf-8"))
CODE = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}
INSTALL = "!pip install -q virtualenv && virtualenv -q .venv && bash scripts/install"
SHORT = """extends = "tiny_mistral.toml"
[train]
epochs = 0.4
save_steps = 4
eval_steps = 4
[eval]
rows = 6
max_new_tokens = 24
"""


def test_it_is_short_clean_and_a_notebook() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert len(NOTEBOOK["cells"]) <= 16
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert (ROOT / re.search(r'RECIPE = "(.+?)"', CODE["settings"])[1]).exists()  # type: ignore[index]


def test_it_trains_a_small_sister_of_a_recipe_on_a_t4_within_ten_minutes(real_data: Path) -> None:
    from medrecipes.pipeline.plan_report import outlook
    from medrecipes.recipe.load import load

    name = re.search(r'RECIPE = "(.+?)"', CODE["settings"])[1]  # type: ignore[index]
    recipe = load(ROOT / name, [f"data.path={real_data}/medquad/medquad.csv.gz"]).recipe
    assert recipe.model == load("mistral_medquad").recipe.model
    found = outlook(recipe, "t4", 1)
    assert (found["fits"], found["engine"]) == (True, "unsloth")
    assert 60 < found["stages"]["train"] <= 600


def test_without_an_address_to_clone_it_says_what_to_write() -> None:
    names: dict[str, Any] = {}
    run_cell(f'{CODE["settings"]}\nREPOSITORY = "https://github.com/OWNER/medrecipes"', names, {})
    with pytest.raises(AssertionError, match="write the address that you opened this notebook from into REPOSITORY"):
        run_cell(CODE["install"], names, {})


def run_cell(source: str, names: dict[str, Any], environment: dict[str, str]) -> str:
    """What IPython does with a cell: `!` goes to a shell with {names} filled in, `%cd` moves, the rest is Python."""
    said, python = "", ""

    def flush() -> str:
        nonlocal python
        out, code, python = io.StringIO(), python, ""
        with contextlib.redirect_stdout(out):
            exec(code, names)
        return out.getvalue()

    for line in source.splitlines():
        if line.startswith(("!", "%")):
            said += flush()
            filled = re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), line)
            if filled.startswith("%cd "):
                os.chdir(filled.removeprefix("%cd "))
                continue
            done = subprocess.run(
                ["bash", "-c", filled[1:]], capture_output=True, text=True, timeout=400, env=environment
            )
            assert done.returncode == 0, f"{filled}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            said += done.stdout
        else:
            python += f"{line}\n"
    return said + flush()


def knows(command: str) -> bool:
    """Whether there is such a command."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(["--help"])
    return f"    {command} " in out.getvalue()


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "origin"
    everywhere = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
    here = {
        ".git",
        ".venv",
        ".venv-docs",
        ".venv-newest",
        "build",
        "runs",
        "shared",
        "site",
    }  # medrecipes/runs is a room

    def left_out(folder: str, names: list[str]) -> set[str]:
        return set(everywhere(folder, names)) | (here & set(names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, origin, ignore=left_out)
    (origin / "recipes" / "short.toml").write_text(SHORT)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(origin)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.chdir(tmp_path)
    # the environment of the tests stands for the one that the notebook installs; the clone's own package comes first
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "medrecipes"), "HF_HUB_OFFLINE": "1"}
    names: dict[str, Any] = {}
    said: dict[str, str] = {}
    pictures: list[bytes] = []
    shows = types.ModuleType("IPython.display")  # what Colab has of its own
    shows.Image = lambda filename: Path(filename).read_bytes()  # type: ignore[attr-defined]
    shows.display = pictures.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shows)
    for name, source in CODE.items():
        if name == "publish" and not knows("publish"):
            continue
        if name == "settings":
            source = f'{source}\nREPOSITORY = "{origin}"\nRECIPE = "recipes/short.toml"\n'
        if name == "install":
            assert source.count(INSTALL) == 1
            source = source.replace(INSTALL, f"!ln -s {Path(sys.prefix)} .venv")
        said[name] = run_cell(source, names, environment)
    assert "bits per byte of answer" in said["report"]
    assert [picture[:4] for picture in pictures] == [b"\x89PNG"]
    assert "finished before" not in said["run"]
    assert "Not a medical device" in said["use"]
    assert re.search(r"^parity +100\.00% of ", said["export"], re.M)
    assert names["RUN"].name.startswith("short-")
