"""What a run says of where it was made, and what a message says to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from medrecipes.core import extras
from medrecipes.runs import environment


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_a_recipe_of_ones_own_leaves_the_commit_clean_and_another_line_of_code_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "PACKAGE", tmp_path / "medrecipes")
    for name in ("medrecipes/run.py", "templates/mistral-v1.jinja", "recipes/tiny_mistral.toml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "mine.toml").write_text("[train]\nepochs = 2\n")
    (tmp_path / "recipes" / "tiny_mistral.toml").write_text("[train]\nepochs = 2\n")
    assert environment._commit() == head
    for name in ("medrecipes/new.py", "templates/mistral-v1.jinja"):
        (tmp_path / name).write_text("x")
        assert environment._commit() == f"{head}-dirty"
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", name)
        head = git(tmp_path, "rev-parse", "HEAD")
        assert environment._commit() == head


def test_what_an_extra_takes_is_named_without_a_name_that_an_index_may_give_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extras.install("web") == "pip install -e '.[web]'"
    monkeypatch.setattr(extras, "PACKAGE", tmp_path / "site-packages" / "medrecipes")
    monkeypatch.setattr(
        extras.importlib.metadata,
        "requires",
        lambda name: ["numpy>=2", 'gradio<7,>=6.31; extra == "web"', 'gguf>=0.19; extra == "gguf"'],
    )
    assert extras.install("web") == "pip install 'gradio<7,>=6.31'"
