"""Names: of folders, and of repositories on the Hub, where a pattern in the recipe has placeholders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from medrecipes.core.errors import MedRecipesError, did_you_mean
from medrecipes.recipe.local_bases import is_local

# key of the recipe -> what may stand in its pattern
PLACEHOLDERS = {
    "publish.repo": ("user", "base", "recipe", "timestamp"),
    "publish.dataset_repo": ("user", "name"),
}
LONGEST = 96  # the Hub's own limit
# one component of a path, whatever the file system, and neither hidden nor an option on a command line
FOLDER = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")


def folder_problem(name: str) -> str:
    """What is wrong with a folder's name, or nothing."""
    if FOLDER.fullmatch(name):
        return ""
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    return (
        f"{shown!r} is no safe name of a folder: at most {LONGEST} letters (a to z), digits, '.', '_' and '-', "
        "with neither '.' nor '-' in front"
    )


def folder_name(name: str) -> str:
    """A name that is one safe component of a path; any other is an error, wherever it came from."""
    if problem := folder_problem(name):
        raise MedRecipesError(f"{problem}; choose another")
    return name


def pattern_problem(key: str, pattern: str) -> str:
    """What is wrong with a pattern, e.g. `{bse} is unknown; did you mean {base}?`, or nothing."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        return f"= {pattern!r}: {error}; write a placeholder as {{base}}"
    for name in names:
        if name not in PLACEHOLDERS[key]:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS[key])
            near = did_you_mean(name, PLACEHOLDERS[key])
            hint = re.sub(r"mean (\w+)", r"mean {\1}", near) if near.startswith("; did") else f"; known: {known}"
            return f"= {pattern!r}: {{{name}}} is unknown{hint}"
    if pattern.count("/") != 1:
        return f"= {pattern!r}: must be OWNER/NAME, such as '{{user}}/my-model'"
    return ""


def fill(key: str, pattern: str, values: Mapping[str, str]) -> str:
    """The name that a pattern stands for, as the Hub allows it."""
    if problem := pattern_problem(key, pattern):
        raise MedRecipesError(f"{key} {problem}")
    owner, _, name = (Formatter().vformat(part, (), values) for part in pattern.partition("/"))
    # what the Hub forbids: other characters, doubled dots or dashes, and either at an end
    name = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
    name = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", name)).strip("-.").removesuffix(".git")
    if not name or len(f"{owner}/{name}") > LONGEST:
        raise MedRecipesError(f"{key} = {pattern!r} gives {owner}/{name}, which is no name of at most {LONGEST} characters; correct it")  # fmt: skip
    return f"{owner}/{name}"


def base_name(base: str) -> str:
    """What a base is called in names: `unsloth/mistral-7b-instruct-v0.2-bnb-4bit` is mistral-7b-instruct-v0.2."""
    name = Path(base).name if is_local(base) else base.rpartition("/")[2]
    name = name.replace(":", "-").removesuffix("-bnb-4bit").removesuffix("-unsloth").lower()
    return name.removeprefix("meta-")  # Meta's own terms want what is made from Llama to begin with that name
