"""What stands at the door of the repository: the container, the changelog, how to cite, how to report."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from tests.conftest import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_container_is_made_by_the_projects_own_installation() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    assert "RUN bash -c 'source scripts/install && medrecipes_demo_base'" in lines
    installs = (ROOT / "scripts" / "install").read_text()
    assert "${MEDRECIPES_FLAVOUR:-" in installs
    assert "medrecipes_demo_base()" in installs
    python = next(line for line in lines if line.startswith("FROM"))
    assert re.fullmatch(r"FROM python:3\.1[123]-slim", python)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "runs"} <= set(ignored)


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
