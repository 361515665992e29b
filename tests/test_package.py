"""The wheel: installed into an empty folder, it knows all templates, recipes and samples, wherever it is called from."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # built from a copy, as an installation from a clone is: setuptools leaves its build folder where it works
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "clone" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "clone")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def call(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the installed wheel, called from an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "medrecipes.run" if arguments[0] == "run" else "medrecipes", *arguments]
    if arguments[0] == "run":
        command = [*command[:3], *arguments[1:]]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_wheel_holds_every_template_recipe_and_sample(installed: Path) -> None:
    inside = installed / "medrecipes" / "shipped"
    for name, least in (("templates", 8), ("recipes", 35), ("data", 40)):
        ours = {p.relative_to(ROOT / name) for p in (ROOT / name).rglob("*") if p.is_file()}
        theirs = {p.relative_to(inside / name) for p in (inside / name).rglob("*") if p.is_file()}
        assert ours == theirs
        assert len(ours) >= least


def test_metadata_says_what_an_index_shows(installed: Path) -> None:
    [metadata] = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    for line in ("Name: medrecipes", "License-Expression: Apache-2.0", "Keywords: medical", "Description-Content-Type: text/markdown"):  # fmt: skip
        assert line in text
    assert text.count("Classifier: ") >= 10


# what commands that train nothing need of the dependencies
LIGHT = ("annotated_types", "jinja2", "markdown_it", "markupsafe", "mdurl", "numpy", "pydantic", "pydantic_core", "pygments", "rich", "tokenizers", "tomli_w", "typing_extensions", "typing_inspection")  # fmt: skip


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an empty environment into which pip put the wheel; of its dependencies it has the light ones alone."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    done = subprocess.run([sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    [packages] = folder.glob("lib/python3.*/site-packages")
    for name in LIGHT:
        place = Path(str(importlib.util.find_spec(name).origin))  # type: ignore[union-attr]
        found = place.parent if place.name == "__init__.py" else place
        (packages / found.name).symlink_to(found)
        if (libraries := found.with_name(f"{name}.libs")).exists():
            (packages / libraries.name).symlink_to(libraries)
    return folder / "bin"


def test_the_light_commands_of_the_guide_work_in_an_empty_environment(empty: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "elsewhere.md").read_text(encoding="utf-8").partition("## Google Colab")[0]
    lines = [line for line in guide.splitlines() if line.startswith("medrecipes ")]
    assert len(lines) == 3
    environment = {"PATH": f"{empty}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    for line in (
        *lines,
        "medrecipes --version",
        "medrecipes run --help",
        "medrecipes schema",
        "medrecipes list templates",
    ):
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line
        assert done.stdout
    assert "recipes/demo.toml" in subprocess.run(["bash", "-c", lines[1]], cwd=tmp_path, env=environment, capture_output=True, text=True).stdout  # fmt: skip


def test_a_recipe_of_the_wheel_is_read_from_any_folder(installed: Path, tmp_path: Path) -> None:
    recipe = installed / "medrecipes" / "shipped" / "recipes" / "tiny_mistral.toml"
    done = call(installed, tmp_path, "check", "--schema-only", str(recipe))
    assert (done.returncode, done.stderr) == (0, "")
    done = call(installed, tmp_path, "build", str(recipe), "--out", "built")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "built" / "tiny_mistral" / "data.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["built"]


def test_a_bare_name_is_a_recipe_that_ships(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "show", "tiny_llama3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"]["value"] == "tiny_llama3"
    done = call(installed, tmp_path, "show", "tiny_lama3")
    assert (done.returncode, done.stderr) == (2, "tiny_lama3: no such recipe; did you mean tiny_llama3?\n")
    (tmp_path / "tiny_llama3.toml").write_text("seed = 7\n")  # a file of one's own is named by its path
    done = call(installed, tmp_path, "show", "tiny_llama3.toml", "--json")
    assert json.loads(done.stdout)["seed"]["value"] == 7
