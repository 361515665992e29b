"""The seal of a finished run: the sha256 of each of its files and of what run.json says, so that a later change is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from medrecipes.core.files import digest, digest_path
from medrecipes.core.resources import PACKAGE
from medrecipes.runs.folder import RunDir

KEY = "seal"  # of run.json
# what commands and the trackers' own programs go on writing once a run is finished
OPEN = ("run.json", "log.txt", "export", "mlflow", "trackio", "wandb")
# what is loaded or reported from here is the run's own, and nobody else's
OWN = (
    "adapter/",
    "checkpoints/",
    "eval/",
    "report.html",
    "recipe.toml",
    "data.json",
    "loss.",
    "trainer_stats.json",
    "README.md",
)
# what run.json is told after the seal
LATER = (KEY, "releases")


def finish(rundir: RunDir) -> None:
    """Seal a run and call it finished: the last that is written of it."""
    rundir.state["state"] = "finished"
    rundir.update(**{KEY: {"code": code(), "facts": _facts(rundir.state), "files": _files(rundir.path)}})


@contextmanager
def mending(rundir: RunDir, folder: Path, *beside: Path) -> Iterator[None]:
    """Take over into the seal what a command of ours changes in a folder, and in files beside it; what was changed before stays as it was sealed."""
    places = (folder, *beside)
    before = _files(rundir.path, *places)
    try:
        yield
    finally:
        sealed = rundir.state.get(KEY)
        changed = {name: value for name, value in _files(rundir.path, *places).items() if before.get(name) != value}
        if sealed and changed:  # a run of old times has no seal, and nobody can make one up for it
            rundir.update(**{KEY: {**sealed, "files": {**sealed["files"], **changed}}})


def broken(rundir: RunDir) -> tuple[list[str], list[str]]:
    """What is not as it was sealed, and files that have come since; checkpoints may be deleted, a folder at a time."""
    sealed, found = rundir.state[KEY]["files"], _files(rundir.path)
    wrong = ["run.json is not what was sealed"] if rundir.state[KEY]["facts"] != _facts(rundir.state) else []
    for name, value in sealed.items():
        if name not in found:
            wrong += [] if _deleted(rundir.path, name) else [f"{name} is missing"]
        elif found[name] != value:
            wrong.append(f"{name} is {found[name][:12]}, sealed as {value[:12]}")
    more = sorted(found.keys() - sealed.keys())
    wrong += [
        f"{name} is not of the run, which has sealed all that it wrote there" for name in more if name.startswith(OWN)
    ]
    return wrong, [name for name in more if not name.startswith(OWN)]


@lru_cache
def code() -> str:
    """The sha256 of this package's own source: what wrote the texts of a run, and worked its figures out."""
    files = sorted(PACKAGE.rglob("*.py"))
    return digest([[path.relative_to(PACKAGE).as_posix(), digest_path(path)] for path in files])


def _files(run: Path, *places: Path) -> dict[str, str]:
    """The sealed files of a run, or those of some of its places, by their path in it."""
    found = {}
    for path in sorted(path for place in places or (run,) for path in (place, *place.rglob("*")) if path.is_file()):
        name = path.relative_to(run)
        first = name.parts[0]
        if first not in OPEN and not first.startswith((".", "eval-")):
            found[name.as_posix()] = digest_path(path)
    return found


def _deleted(run: Path, name: str) -> bool:
    """Whether a file went with its whole checkpoint, which a finished run does not need."""
    parts = Path(name).parts
    return parts[0] == "checkpoints" and not run.joinpath(*parts[:2]).exists()


def _facts(state: Mapping[str, Any]) -> str:
    """The sha256 of what run.json says, as it is read back."""
    return digest(json.loads(json.dumps({key: value for key, value in state.items() if key not in LATER}, default=str)))
