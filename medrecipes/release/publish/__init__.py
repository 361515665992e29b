"""`medrecipes publish RUN|DATASET`: what a release would be, and with --push the release itself, read back and loaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core import hub
from medrecipes.core.console import Console
from medrecipes.core.errors import HubError, MedRecipesError, RunError, did_you_mean
from medrecipes.core.files import scratch, thorough
from medrecipes.core.notes import labelled
from medrecipes.evaluation.finished_run import open_run
from medrecipes.recipe.load import load
from medrecipes.recipe.repository_names import base_name, fill
from medrecipes.recipe.schema import Publish, Recipe
from medrecipes.release.gates import NAMES
from medrecipes.release.publish.delivery import Target, deliver
from medrecipes.release.publish.readback import read_back
from medrecipes.release.publish.release import SUFFIX, Release, of_dataset, of_run
from medrecipes.release.redistribution import require_redistributable
from medrecipes.runs.folder import RunDir, holding


@thorough()
def publish(
    paths: Sequence[Path], console: Console, *, push: bool, settings: Publish | None = None,
    changes: Mapping[str, Any] | None = None, waived: Sequence[str] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Show every release of these runs and datasets; push them only if all of them pass their gates.

    Settings are those of a run's own recipe unless given; `changes` are laid over them, as the command line says.
    Returned: of each release what it is and, where it was pushed, its commit.
    """
    for name in waived:
        if name not in NAMES:
            raise MedRecipesError(f"--waive {name}: no such gate{did_you_mean(name, NAMES)}")
    asked = _Asked(_owner(console, push), settings, changes or {}, waived, console)
    with ExitStack() as stack:
        for path in dict.fromkeys(paths):
            if (path / "run.json").exists():
                stack.enter_context(holding(path))
        work = stack.enter_context(scratch("release", Path(tempfile.gettempdir())))
        releases = [
            (release, path, chosen)
            for number, path in enumerate(paths)
            for release, chosen in _releases(path, asked, work / str(number))
        ]
        for release, _, chosen in releases:
            _show(release, chosen, console, whole=not push)
        _refuse([release for release, _, _ in releases])
        told = [_outcome(release, path) for release, path, _ in releases]
        if not push:
            console.line("nothing pushed; --push does it")
            return told
        for number, (release, path, chosen) in enumerate(releases):
            told[number] |= _push(release, path, chosen, work / f"back-{number}", console)
        return told


def _outcome(release: Release, path: Path) -> dict[str, Any]:
    """A release for a machine."""
    gates = {gate.name: str(gate) for gate in release.gates}
    return {"of": str(path), "repository": release.repo, "kind": release.kind, "format": release.format, "bytes": release.size, "gates": gates, "pushed": False}  # fmt: skip


def ready(recipe: Recipe) -> None:
    """Raise now, and not after hours of training, if the run's release could not be pushed in the end."""
    require_redistributable(recipe)
    if recipe.publish.push:
        hub.user()


@dataclass(frozen=True)
class _Asked:
    """Whose releases are to be made, by which settings and changes of them, which gates are waived, and who hears of it."""

    owner: str
    settings: Publish | None
    changes: Mapping[str, Any]
    waived: Sequence[str]
    console: Console


def _releases(path: Path, asked: _Asked, work: Path) -> Iterator[tuple[Release, Publish]]:
    """The releases of one folder: a dataset's one, or one a format of a run."""
    owner, settings, changes, waived, console = asked.owner, asked.settings, asked.changes, asked.waived, asked.console
    if (path / "dataset_dict.json").exists() and (path / "data.json").exists():
        chosen = _settings(settings or Publish(), changes)
        pattern = changes.get("repo", chosen.dataset_repo)
        name = fill("publish.dataset_repo", pattern, {"user": owner, "name": path.name})
        yield of_dataset(path, name, waived, work), chosen
        return
    if not (path / "run.json").exists():
        raise RunError(f"{path}: is neither a run folder nor a dataset that `medrecipes build` made; correct the path")
    rundir = open_run(path).rundir
    recipe = load(path / "recipe.toml").recipe
    chosen = _settings(settings or recipe.publish, changes)
    values = {
        "user": owner,
        "base": base_name(recipe.model.base),
        "recipe": recipe.name,
        "timestamp": _time(rundir, chosen),
    }
    name = fill("publish.repo", chosen.repo, values)
    for format in dict.fromkeys(chosen.formats):
        with console.working("release"), console.quiet(rundir.log):
            release = of_run(rundir, recipe, format, name + SUFFIX[format], waived, work / format)
        yield release, chosen


def _settings(given: Publish, changes: Mapping[str, Any]) -> Publish:
    chosen = given.model_copy(update=dict(changes))
    if chosen.create_pr and chosen.tag:
        raise MedRecipesError("--create-pr: a tag stands at a commit of a branch; leave --tag out, and publish.tag too")
    return chosen


def _time(rundir: RunDir, chosen: Publish) -> str:
    """When the run ended, so that its release has one name however often it is pushed."""
    ended = str(rundir.state.get("finished_at", ""))
    if not ended and "{timestamp}" in chosen.repo:
        raise RunError(f"{rundir.path}: does not say when it ended; name the repository with --repo OWNER/NAME")
    return ended


def _owner(console: Console, push: bool) -> str:
    """The token's user; without a push it may stay open, and is told why."""
    if push:
        return hub.user()
    try:
        if silence := hub.hub_silence():
            raise HubError(silence)
        return hub.user()
    except HubError as error:
        console.line(labelled("note", f"{{user}} stays open: {error}"))
        return "{user}"


def _show(release: Release, chosen: Publish, console: Console, *, whole: bool) -> None:
    where = f"pull request to {chosen.revision}" if chosen.create_pr else chosen.revision
    extra = f", tag {chosen.tag}" if chosen.tag else ""
    console.line(labelled("repository", f"{release.repo} ({release.kind}, {'private' if chosen.private else 'public'}, {where}{extra})"))  # fmt: skip
    console.line(labelled("files", f"{len(release.files)}, {size(release.size)}"))
    width = max(map(len, release.files))
    for name, path in release.files.items():
        console.line(labelled("", f"{name:<{width}}  {size(path.stat().st_size)}"))
    for number, line in enumerate(line for gate in release.gates for line in str(gate).splitlines()):
        console.line(labelled("" if number else "gates", line).rstrip())
    if whole:
        for number, line in enumerate(release.card.splitlines()):
            console.line(labelled("" if number else "card", line).rstrip())


def _refuse(releases: Sequence[Release]) -> None:
    problems = [
        f"{release.name}: gate {gate.name}: {'; '.join(gate.found)}; {gate.advice}, or --waive {gate.name}, which the card records"
        for release in releases
        for gate in release.refused
    ]  # fmt: skip
    if problems:
        raise MedRecipesError("\n".join(problems))


def _push(release: Release, path: Path, chosen: Publish, back: Path, console: Console) -> dict[str, Any]:
    """Deliver it and read it back; where it stands."""
    from huggingface_hub import constants

    target = Target(release.repo, release.kind, chosen.private, chosen.revision, chosen.create_pr, chosen.tag)
    with console.stage("push") as stage:
        done = deliver(target, release.files, f"Release {release.name} ({release.format})", console)
        what = (
            f"one commit, {done.commit[:12]}" if done.pushed else f"already there, nothing pushed: {done.commit[:12]}"
        )
        stage.says(f"{what} on {done.revision}")
    if done.foreign:
        console.line(labelled("", f"not of this release, left as they are: {', '.join(done.foreign)}"))
    if done.pushed:
        with console.stage("read back") as stage, console.quiet(_log(path)):
            stage.says(read_back(target, done, release, path, back))
    if (path / "run.json").exists():
        rundir, mine = RunDir(path), {"repo": release.repo, "format": release.format}
        others = [r for r in rundir.state.get("releases", []) if {key: r[key] for key in mine} != mine]
        rundir.update(releases=[*others, {**mine, "commit": done.commit, "revision": done.revision, "tag": chosen.tag}])
    prefix = "datasets/" if release.kind == "dataset" else ""
    number = done.revision.removeprefix("refs/pr/")
    page = f"discussions/{number}" if number != done.revision else f"tree/{done.commit}"
    address = f"{constants.ENDPOINT}/{prefix}{release.repo}/{page}"
    console.line(labelled("release", address))
    console.next_move("verify", f"{prefix}{release.repo}", "--revision", done.commit[:12])
    return {"pushed": done.pushed, "commit": done.commit, "revision": done.revision, "url": address}


def _log(path: Path) -> Path:
    """Where what libraries print while they load goes: the run's log, or nowhere."""
    return path / "log.txt" if (path / "run.json").exists() else Path(os.devnull)


def size(count: int) -> str:
    """Bytes for a person, e.g. 1.4 MB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError
