"""What holds of datasets, their split and what is built of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from medrecipes.core.errors import did_you_mean, shown
from medrecipes.recipe.benchmark_names import BENCHMARKS
from medrecipes.recipe.repository_names import folder_problem
from medrecipes.recipe.rules.where import Problem, Where, unknown
from medrecipes.recipe.schema import Data, Mix, Recipe, source_names, template_names

REPOSITORY = re.compile(r"(?=.{3,96}$)[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)  # the Hub's own limit
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,63}")


def entries(data: Data) -> list[tuple[str, Mix]]:
    """The datasets of a recipe, each with the key that names it."""
    if not data.mix:
        return [("data", data.entries[0])]
    return [(f"data.mix.{position}", entry) for position, entry in enumerate(data.mix)]


def datasets(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """The datasets exist, and each is told what it reads."""
    names = source_names()
    for place, entry in entries(recipe.data):
        source, path = f"{place}.source", f"{place}.path"
        if entry.source not in names:
            yield unknown(at, source, entry.source, names)
        if entry.path and not os.path.exists(entry.path):
            yield (path,), f"{at(path)} = {shown(str(entry.path), 300)} does not exist; correct it, or leave it out"
        repo = f"{place}.repo"
        if entry.source == "jsonl" and not entry.path and not entry.repo:
            yield (source, path), f"{at(path)} is missing; source jsonl reads a file of your own, name it, or a dataset of the Hub as {repo}"  # fmt: skip
        if entry.path and entry.repo:
            yield (path, repo), f"{at(repo)} contradicts {at(path)}; set one of them"
        for key in ("columns", "repo", "licence"):
            if entry.source != "jsonl" and getattr(entry, key) != Mix.model_fields[key].default:
                yield (source, f"{place}.{key}"), f"{at(f'{place}.{key}')} is read by source jsonl only; leave it out, or change the source"  # fmt: skip
        if entry.source == "jsonl" and entry.repo and entry.repo.isprintable() and not REPOSITORY.fullmatch(entry.repo):
            yield (repo,), f"{at(repo)} = {shown(entry.repo)} is no OWNER/NAME of the Hub; correct it"
        if (
            entry.source == "jsonl"
            and entry.licence
            and entry.licence.isprintable()
            and not LICENCE.fullmatch(entry.licence)
        ):
            yield (f"{place}.licence",), f"{at(f'{place}.licence')} = {shown(entry.licence)} is no short name of a licence; write it as SPDX does, such as 'CC-BY-4.0'"  # fmt: skip
    cases = recipe.eval.cases
    if cases and not os.path.isfile(cases):
        yield (
            ("eval.cases",),
            f"{at('eval.cases')} = {shown(str(cases), 300)} does not exist; correct it, or leave it out",
        )


def exclusion(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What is kept out of training is a known benchmark, or questions that exist."""
    for name, path in recipe.data.excluded:
        if path is None or os.path.exists(path):
            continue
        given = shown(str(path), 300)
        if name:
            yield ("data.exclude",), f"{at('data.exclude')}: {given}, the copy of {name}, does not exist; correct it, or leave the path out"  # fmt: skip
        else:
            yield ("data.exclude",), f"{at('data.exclude')}: {given} is neither a benchmark nor a file of questions{did_you_mean(path.name, BENCHMARKS)}"  # fmt: skip


def mixture(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Several datasets, each with a share or none of them, and what is said of shares is read."""
    data = recipe.data
    mixes, by = data.mix_by != "split", f"{at('data.mix_by')} = {data.mix_by!r}"
    if mixes and not data.mix:
        yield ("data.mix_by", "data.mix"), f"{by} is about the weights of data.mix, which is empty; name several datasets there, or leave it out"  # fmt: skip
    elif mixes and all(entry.weight is None for entry in data.mix):
        yield ("data.mix_by", "data.mix"), f"{by} shares an epoch by weights, and {at('data.mix')} has none; give every entry a weight"  # fmt: skip
    if data.max_repeats != Data.model_fields["max_repeats"].default and not mixes:
        keys = "data.max_repeats", "data.mix_by"
        yield keys, f"{at(keys[0])} is read with {keys[1]} = 'rows' or 'tokens' only; set that, or leave it out"
    if not data.mix:
        return
    for key in ("source", "columns", "repo", "licence", "revision"):
        if getattr(data, key) != Data.model_fields[key].default:
            yield (f"data.{key}", "data.mix"), f"{at(f'data.{key}')} contradicts {at('data.mix')}; set it within the mixture"  # fmt: skip
    if len({entry.weight is None for entry in data.mix}) > 1:
        yield ("data.mix",), f"{at('data.mix')}: some entries have a weight and some have none; give all one, or none"
    if data.path and not os.path.isdir(data.path):
        yield ("data.path", "data.mix"), f"{at('data.path')} = {shown(str(data.path), 300)} is no folder; with data.mix it must be one"  # fmt: skip


def templates(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Chat templates exist."""
    names = template_names()
    if recipe.template.name and recipe.template.name not in names:
        yield unknown(at, "template.name", recipe.template.name, names)
    if recipe.template.foreign and not recipe.template.name:
        keys = "template.foreign", "template.name"
        yield keys, f"{at(keys[0])}: no template is named that could be foreign; set {keys[1]}, or leave it out"
    for model, template in recipe.build.models.items():
        if template not in names:
            yield unknown(at, f"build.models.{model}", template, names)


def name(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """The name can be that of a folder."""
    if problem := folder_problem(recipe.name):
        cure = "rename it" if at.said("name") else 'that is the file\'s own; set name = "…" in it'
        yield ("name",), f"{at('name')} = {problem}; {cure}"


def build(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Datasets are made of what the recipe has, each in a folder of its own."""
    known = {entry.source for entry in recipe.data.entries}
    folders: set[str] = set()
    for position, built in enumerate(recipe.build.sets):
        place = f"build.sets.{position}"
        for name in sorted(set(built.sources) - known):
            hint = did_you_mean(name, known)
            yield (place, "data.mix"), f"{at(f'{place}.sources')}: {shown(name)} is none of the recipe's own data{hint}"
        if ("{model}" in built.name) != bool(recipe.build.models):
            yield (place, "build.models"), f"{at(f'{place}.name')}: needs {{model}} if and only if build.models is set"
            continue
        for name in (built.name.replace("{model}", model) for model in recipe.build.models or [""]):
            if problem := folder_problem(name):
                yield (place, "build.models"), f"{at(f'{place}.name')} = {problem}; rename it"
            elif name.lower() in folders:  # some file systems know no capitals
                yield (place, "build.models"), f"{at(f'{place}.name')}: a second dataset is called {name!r}; rename one"
            folders.add(name.lower())


def split(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Shares sum to one, and what wants dev rows has some."""
    split, train = recipe.data.split, recipe.train
    if abs(split.train + split.dev + split.test - 1) > 1e-6 or split.train == 0:
        yield ("data.split",), f"{at('data.split')}: train, dev and test must sum to 1, train above 0"
    wants_dev = [key for key in ("keep_best", "early_stopping") if at.said(f"train.{key}")]
    if split.dev == 0 and train.keep_best != "last" and wants_dev:
        key = f"train.{wants_dev[0]}"
        yield ("data.split", key), f"{at(key)} needs dev rows; raise data.split.dev, or set train.keep_best = 'last'"
