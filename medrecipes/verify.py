"""`medrecipes verify REPO|RUN`: what a release or a run claims, held against what its files give."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes import chatreport, hub
from medrecipes.console import Console
from medrecipes.errors import HubError, MedRecipesError
from medrecipes.gates.runs import TOLERANCE
from medrecipes.judge import adapter_loss, finished
from medrecipes.loading import load
from medrecipes.prepare import prepare
from medrecipes.publish.delivery import MANIFEST
from medrecipes.publish.release import CARD
from medrecipes.recipe import Recipe
from medrecipes.rundir import RunDir
from medrecipes.scoring.predictions import Prediction, read_predictions
from medrecipes.scoring.tables import aligned
from medrecipes.store import digest, read_json, scratch, thorough, write_json

OK, DIFFERS, UNKNOWN = "ok", "differs", "not checked"
# left where it is when a release is verified: gigabytes whose hash the Hub itself states
WEIGHTS = (".safetensors", ".gguf")


@dataclass(frozen=True)
class Claim:
    """Something that is claimed, and what came of checking it."""

    what: str
    verdict: str
    found: str


@thorough()
def verify(name: str, overrides: Sequence[str], console: Console, revision: str | None = None) -> bool:
    """Print every claim with its verdict; whether none of them differs. What cannot be checked says why."""
    if (Path(name) / "run.json").exists():
        claims = list(_run(finished(Path(name)), overrides, console))
    elif Path(name).exists() or name.startswith((".", "/", "~")):
        raise MedRecipesError(f"{name}: is neither a run folder nor a repository; name a run, OWNER/NAME or datasets/OWNER/NAME")  # fmt: skip
    else:
        with scratch("verify", Path(tempfile.gettempdir())) as work:
            claims = list(_repository(name, revision, overrides, work, console))
    for line in aligned([["claim", "", ""], *([c.what, c.verdict, c.found] for c in claims)]):
        console.line(line)
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in (OK, DIFFERS, UNKNOWN)}
    console.line(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return not counts[DIFFERS]


# --- a run of this machine


def _run(rundir: RunDir, overrides: Sequence[str], console: Console) -> Iterator[Claim]:
    recipe = rundir.pinned(load(rundir.path / "recipe.toml", overrides).recipe)
    state, data = rundir.state, read_json(rundir.path / "data.json")
    report = read_json(rundir.path / "eval" / "report.json")
    yield _figures(rundir.path / CARD, report)
    if recipe.task != "chat":
        yield from _tagged()
        return
    yield _template(state["template_sha256"], rundir.adapter / "chat_template.jinja")
    yield _answers(recipe, report, rundir.path / "eval" / "predictions.jsonl")
    yield _split(recipe, data, state["split_key"])
    yield _loss(recipe, rundir, report, console)


# --- a repository of the Hub


def _repository(
    name: str, revision: str | None, overrides: Sequence[str], work: Path, console: Console
) -> Iterator[Claim]:
    kind: hub.Kind = "dataset" if name.startswith("datasets/") else "model"
    repo = name.removeprefix("datasets/")
    commit, listed = _listed(repo, kind, revision)
    if MANIFEST not in listed:
        raise HubError(f"{name}: holds no {MANIFEST}, so it makes no claims that can be checked; name a release of medrecipes")  # fmt: skip
    light = [path for path in listed if not path.endswith(WEIGHTS) or path == "adapter_model.safetensors"]
    with hub.told(console), console.stage("fetch") as stage:
        folder = hub.fetch(repo, kind, commit, work / "release", light)
        stage.says(f"{name} at {commit[:12]}: {len(light)} of {len(listed)} files")
    said = read_json(folder / MANIFEST)
    yield _hashes(said, folder, listed)
    if kind == "dataset":
        yield from _dataset(said, folder)
        return
    yield _figures(folder / CARD, said["evaluation"])
    if said["template"] is None:
        yield from _tagged()
        return
    yield _template(said["template"]["sha256"], folder / "chat_template.jinja")
    try:
        recipe = load(folder / "recipe.toml", overrides).recipe
    except MedRecipesError as error:
        why = f"{_first(error)}; name the data with --set data.path=…"
        yield from (Claim("split", UNKNOWN, why), Claim("evaluation loss", UNKNOWN, why))
        return
    yield _split(recipe, read_json(folder / "data.json"), said["split"]["key"])
    if said["format"] != "adapter":
        yield Claim("evaluation loss", UNKNOWN, f"of {said['format']}; verify the adapter that it was made of")
        return
    # what the adapter's repository holds, laid out as a run
    run = RunDir(work / "run")
    run.path.mkdir()
    folder.rename(run.adapter)
    write_json(run.path / "run.json", {"state": "finished", "split_key": said["split"]["key"], "template_sha256": said["template"]["sha256"]})  # fmt: skip
    yield _loss(recipe, RunDir(run.path), said["evaluation"], console)


def _tagged() -> Iterator[Claim]:
    """What is not worked out again of a tagging run."""
    for name in ("split", "span scores"):
        yield Claim(name, UNKNOWN, "of a tagging run; train its recipe.toml again to see")


def _listed(repo: str, kind: hub.Kind, revision: str | None) -> tuple[str, dict[str, Any]]:
    from huggingface_hub import HfApi

    info = hub.patient(repo, lambda: HfApi().repo_info(repo, repo_type=kind, revision=revision))
    return str(info.sha), hub.remote_files(repo, kind, str(info.sha))


def _hashes(said: Mapping[str, Any], folder: Path, listed: Mapping[str, Any]) -> Claim:
    """Every file of the manifest, by what was fetched or by what the Hub says of weights that were not."""
    wrong = []
    for path, claimed in said["files"].items():
        if path not in listed:
            wrong.append(f"{path} is missing")
        elif (folder / path).exists():
            found = hub.content(folder / path)
            if (found.sha256, found.size) != (claimed["sha256"], claimed["bytes"]):
                wrong.append(f"{path} is {found.sha256[:12]}, claimed {claimed['sha256'][:12]}")
        elif not listed[path].lfs or listed[path].lfs.sha256 != claimed["sha256"]:
            wrong.append(f"{path} is listed otherwise")
    more = sorted(listed.keys() - said["files"].keys() - {MANIFEST})
    told = f"{len(said['files'])} files by their sha256" + (f"; not of the release: {', '.join(more)}" if more else "")
    return Claim("files", DIFFERS, "; ".join(wrong)) if wrong else Claim("files", OK, told)


def _dataset(said: Mapping[str, Any], folder: Path) -> Iterator[Claim]:
    """The rows themselves: how many, and the hash of every split, computed again from what is published."""
    import pyarrow.parquet as parquet

    data = read_json(folder / "data.json")
    system = data["template"]["system"]
    for part, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        path = folder / "data" / f"{part}.parquet"
        rows = parquet.read_table(path).to_pylist() if path.exists() else []
        whole = "".join(digest([row["meta"]["id"], _turns(row["messages"], system)]) for row in rows)
        same = len(rows) == said["split"]["rows"][name] and digest(whole) == data["keys"][name]
        found = f"{len(rows):,} rows, {'as' if same else 'not those that'} they were split"
        yield Claim(f"split {part}", OK if same else DIFFERS, found)
    whole_key = digest(data["keys"]) == said["split"]["key"] == data["key"]
    yield Claim("split key", OK if whole_key else DIFFERS, said["split"]["key"][:12])


def _turns(messages: Sequence[Mapping[str, str]], system: str | None) -> list[list[str]]:
    """A row's messages as its source had them: the recipe's own system message was put before them."""
    turns = [[message["role"], message["content"]] for message in messages]
    return turns[1:] if system and turns[0] == ["system", system] else turns


# --- the claims


def _template(claimed: str, path: Path) -> Claim:
    if not path.exists():
        return Claim("template", UNKNOWN, f"{path.name} is not there")
    found = digest(path.read_text(encoding="utf-8"))
    told = f"{path.name}, sha256 {found[:12]}"
    return Claim("template", OK, told) if found == claimed else Claim("template", DIFFERS, f"{told}, claimed {claimed[:12]}")  # fmt: skip


def _figures(card: Path, report: Mapping[str, Any]) -> Claim:
    """The card's table against the figures that lie beside it."""
    if not card.exists():
        return Claim("figures in the card", UNKNOWN, f"{card.name} is not there")
    text, lines = card.read_text(encoding="utf-8"), chatreport.markdown_table(report)
    missing = [line for line in lines if line not in text]
    told = f"{len(lines) - 2} lines as in the report"
    return Claim("figures in the card", DIFFERS, f"the report says {missing[0]}") if missing else Claim("figures in the card", OK, told)  # fmt: skip


def _answers(recipe: Recipe, report: Mapping[str, Any], path: Path) -> Claim:
    """The report again, from the answers."""

    def of(model: str) -> list[Prediction]:
        rows = [p for p in predictions if p.model == model]
        return sorted(rows, key=lambda p: digest(f"{recipe.seed}:{p.id}"))

    try:
        predictions = read_predictions(path, own=True)
        again = chatreport.report(
            recipe, report["split"], report["split_key"], of(chatreport.BASE), of(chatreport.TUNED)
        )
    except (MedRecipesError, AssertionError) as error:
        return Claim("report", UNKNOWN, _first(error) or f"{path.name} does not hold both models' answers")
    wrong = [f"{part} {name}" for part in chatreport.PARTS for name in again[part] if again[part][name] != report[part].get(name)]  # fmt: skip
    told = f"scored again from {len(predictions)} answers"
    return Claim("report", DIFFERS, f"{told}: {', '.join(wrong)}") if wrong else Claim("report", OK, told)


def _split(recipe: Recipe, data: Mapping[str, Any], claimed: str) -> Claim:
    if data["key"] != claimed:
        return Claim("split", DIFFERS, f"data.json is of split {data['key'][:12]}, claimed {claimed[:12]}")
    try:
        split = prepare(recipe)
    except MedRecipesError as error:
        return Claim("split", UNKNOWN, f"{_first(error)}; name the data with --set data.path=…")
    if split.key == claimed:
        return Claim("split", OK, f"{claimed[:12]}, made again from {', '.join(s['title'] for s in data['sources'])}")
    same = [s["content"] for s in split.report["sources"]] == [s["content"] for s in data["sources"]]
    if same:
        return Claim("split", DIFFERS, f"the same data gives {split.key[:12]} here, claimed {claimed[:12]}")
    return Claim("split", UNKNOWN, "the data at hand is not what it was made of; name that with --set data.path=…")


def _loss(recipe: Recipe, rundir: RunDir, report: Mapping[str, Any], console: Console) -> Claim:
    what, said = "evaluation loss", report["tuned"].get("bits_per_byte", {}).get("value")
    if said is None:
        return Claim(what, UNKNOWN, "the report has no bits per byte")
    try:
        found, _ = adapter_loss(recipe, rundir, console)
    except MedRecipesError as error:
        return Claim(what, UNKNOWN, _first(error))
    told = f"{found:.4f} bits per byte of answer, claimed {said:.4f}"
    return Claim(what, OK if abs(found - said) <= TOLERANCE else DIFFERS, told)


def _first(error: BaseException) -> str:
    return str(error).partition("\n")[0]
