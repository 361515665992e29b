"""What stands at the door of the repository: the container, the changelog, how to cite, how to report."""

from __future__ import annotations

import re
import tomllib

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
