"""What there is to use: recipes, templates, sources, bases and runs, each with a line of what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medrecipes.core.resources import shipped
from medrecipes.data.sources import open_source
from medrecipes.engines.plan.shipped_bases import SHAPES, halves
from medrecipes.recipe.schema import TEMPLATES, source_names, template_names
from medrecipes.runs.listing import lasting, list_runs

Entry = dict[str, str]


def recipes(_: Path) -> list[Entry]:
    """The recipes that ship and those in recipes/ here, by the name that `run` takes; the tiny ones last."""
    folders = (Path("recipes"), shipped("recipes"))
    found = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.toml")}
    names = sorted(found, key=lambda name: (name.startswith("tiny_"), name))
    return [{"name": name, "what": comment(found[name])} for name in names]


def comment(path: Path) -> str:
    """The first line of a file's head comment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.removeprefix("#").strip() for line in lines if line.startswith("# ")), "")


def templates(_: Path) -> list[Entry]:
    """The chat templates, each with the models it is for."""
    heads = {name: (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").splitlines() for name in template_names()}
    return [
        {"name": name, "what": next((line.removeprefix("models:").strip() for line in head if line.startswith("models:")), "")}
        for name, head in heads.items()
    ]  # fmt: skip


def sources(_: Path) -> list[Entry]:
    """The datasets, each with its licence and where it lies."""
    found = [open_source(name) for name in source_names()]
    return [{"name": one.name, "what": one.title, "licence": one.licence, "where": one.repo or one.homepage} for one in found]  # fmt: skip


def bases(_: Path) -> list[Entry]:
    """The bases of recipes/base, by the names that `init --base` takes."""
    return [
        {
            "name": name, "what": half["model"]["base"], "bits": str(half["model"]["bits"]),
            "parameters": f"{SHAPES[name].parameters / 1e9:.2f} billion" if name in SHAPES else "",
        }
        for name, half in halves().items()
    ]  # fmt: skip


def runs(folder: Path) -> list[Entry]:
    """The runs of a folder."""
    return [
        {"name": run.name, "what": run.said, "figures": run.figures, "changed": f"{lasting(run.age_s)} ago"}
        for run in list_runs(folder)
    ]


SECTIONS: dict[str, Callable[[Path], list[Entry]]] = {
    "recipes": recipes, "templates": templates, "sources": sources, "bases": bases, "runs": runs,
}  # fmt: skip
