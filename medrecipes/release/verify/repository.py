"""The claims of a repository on the Hub: its manifest's hashes, and what a run claims as far as a release holds it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medrecipes.core import hub
from medrecipes.core.console import Console
from medrecipes.core.errors import HubError, SpoiledError, reason
from medrecipes.core.files import digest, write_json
from medrecipes.evaluation import answers
from medrecipes.recipe.local_bases import made_here
from medrecipes.release import cards
from medrecipes.release.export import QUANTS
from medrecipes.release.gates import Gate
from medrecipes.release.publish.delivery import MANIFEST
from medrecipes.release.publish.release import CARD, EVIDENCE, EXPORTED
from medrecipes.release.verify import adapter, files, model, rows, texts, training
from medrecipes.release.verify.claims import UNKNOWN, Claim, Found, as_json, settle, unlike, unlike_text
from medrecipes.release.verify.evidence import Evidence
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir

# left where it is when a release is verified: gigabytes whose hash the Hub itself states
WEIGHTS = (".safetensors", ".gguf")
PARTS = (("train", "train"), ("validation", "dev"), ("test", "test"))  # of a released dataset, and of its split
Look = Callable[[Evidence], Found]


def repository(
    name: str, revision: str | None, overrides: Sequence[str], work: Path, console: Console
) -> Iterator[Claim]:
    """Fetch a release and check what it claims."""
    kind: hub.Kind = "dataset" if name.startswith("datasets/") else "model"
    repo = name.removeprefix("datasets/")
    commit, listed = _listed(repo, kind, revision)
    if MANIFEST not in listed:
        raise HubError(f"{name}: holds no {MANIFEST}, so it makes no claims that can be checked; name a release of medrecipes")  # fmt: skip
    light = [path for path in listed if not path.endswith(WEIGHTS) or path == adapter.WEIGHTS]
    with hub.told(console), console.stage("fetch") as stage:
        folder = hub.fetch(repo, kind, commit, work / "fetched", light)
        stage.says(f"{name} at {commit[:12]}: {len(light)} of {len(listed)} files")
    said: dict[str, Any] = Evidence(RunDir(folder)).json(MANIFEST)
    yield settle("files", lambda: _hashes(said, folder, listed))
    if kind == "dataset":
        yield from _dataset(said, folder)
        return
    try:
        e = Evidence(_laid_out(said, folder, work / "run"), overrides, said)
        tags, looks = e.own.task == "tag", _looks(e)
    except (LookupError, TypeError, AttributeError) as error:
        raise SpoiledError(f"{name}: its {MANIFEST} is not as a release has it ({type(error).__name__}: {reason(error)})") from None  # fmt: skip
    with console.stage("source") as stage, console.quiet(e.rundir.log):
        claims = [settle(what, partial(look, e)) for what, look in looks.items()]
        stage.says(f"{len(claims)} claims held against the source and the files")
    yield from claims
    if not (e.rundir.adapter / adapter.WEIGHTS).exists():
        yield from (Claim(what, UNKNOWN, f"of {said['format']}; verify the adapter that it was made of") for what in ("adapter", model.LOSS))  # fmt: skip
    else:
        yield from model.with_tagger(e, console) if tags else model.with_model(e, console)


def _listed(repo: str, kind: hub.Kind, revision: str | None) -> tuple[str, dict[str, Any]]:
    from huggingface_hub import HfApi

    info = hub.patient(repo, lambda: HfApi().repo_info(repo, repo_type=kind, revision=revision))
    return str(info.sha), hub.remote_files(repo, kind, str(info.sha))


def _hashes(said: Mapping[str, Any], folder: Path, listed: Mapping[str, Any]) -> Found:
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
    return Found(f"{len(said['files'])} files by their sha256" + (f"; not of the release: {', '.join(more)}" if more else ""), wrong)  # fmt: skip


# --- a model


def _laid_out(said: Mapping[str, Any], folder: Path, run: Path) -> RunDir:
    """A release as a run's folder: what it brought of the run in its places, all else as its adapter."""
    (run / "eval").mkdir(parents=True)
    for name in (*EVIDENCE, CARD, "recipe.toml"):
        if (folder / name).exists():
            shutil.move(folder / name, run / name)
    folder.rename(run / "adapter")
    template = said["template"]["sha256"] if said["template"] else None
    state = {"state": "finished", "split_key": said["split"]["key"], "template_sha256": template}
    if said["template"]:  # where the recipe names none, what a run settled on
        state["template"] = said["template"]["name"]
    write_json(run / "run.json", {**said["run"], **state, file_hashes.KEY: {"code": said.get("code")}})
    return RunDir(run)


def _looks(e: Evidence) -> dict[str, Look]:
    """What can be checked of a release in its format."""
    looks: dict[str, Look] = {
        MANIFEST: manifest, "recipe": files.released_key, "figures in the card": texts.table, "card": card, "example in the card": example,
        "split": rows.split, "data.json": rows.data, "training": training.training, "base": files.facts,
    }  # fmt: skip
    if e.own.task == "chat":
        looks |= {"template": texts.template, "tokenizer": texts.tokenizer, "stop tokens": texts.stops}
        if e.manifest["format"] == "gguf":  # which holds all three inside
            looks = {what: look for what, look in looks.items() if what not in ("template", "tokenizer", "stop tokens")}
    else:
        looks |= {"tokenizer": texts.tokenizer, "labels": texts.labels}
        del looks["example in the card"]
    if (e.rundir.adapter / adapter.WEIGHTS).exists():
        looks["adapter"] = adapter.adapter
    return looks


def manifest(e: Evidence) -> Found:
    """release.json says what the files beside it say."""
    said, report = e.manifest, e.report
    made = {
        "split": {"key": e.data["key"], "rows": e.data["rows"]},
        "evaluation": {key: report[key] for key in said["evaluation"] if key in report},
        "template": {"name": _template_name(e), "sha256": e.state["template_sha256"]} if e.own.task == "chat" else None,
    }
    return Found("as the files beside it", list(unlike(made, {name: said[name] for name in made})))


def _template_name(e: Evidence) -> str | None:
    """What the recipe names, or the template that its base has: found again where the base is at hand."""
    return e.own.template.name or e.template.name


def card(e: Evidence) -> Found:
    """The card again, all of it but the example, which is of answers that are not released."""
    said, recipe = e.manifest, e.own
    if "repo" not in said:
        return Found(unknown="the release is older than this check, and does not say all that its card was made from")
    if e.state["base_revision"] is None and not made_here(recipe.model.base):  # a folder, known by its name alone
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": f"./{recipe.model.base}"})})
    notes = said.get("notes", {})
    gates = [
        Gate(name, verdict == "passed", verdict == "waived", said["waived"].get(name, []), note=notes.get(name, ""))
        for name, verdict in said["gates"].items()
    ]
    made = cards.card(
        cards.Facts(
            recipe, e.path, e.state, e.report, e.data, e.stats, said["repo"], [said["format"]], gates, _exports(e)
        )
    )
    return e.by_code(
        unlike_text(made, cards.without_example(e.text(CARD))), "every line as it follows from the release"
    )


def example(e: Evidence) -> Found:
    """The row that the card shows is a held-out one; what was answered to it cannot be seen here."""
    text = e.text(CARD)
    if cards.without_example(text) == text:
        return Found("there is none")
    for row in e.rows:
        conversation, stated = row[0], answers.stated(row, e.own.eval.max_new_tokens)
        if all(line in text for line in cards.example_lines(stated["prompt"], stated["gold"])):
            return Found(f"question and reference of row {conversation.id}")
    return Found(wrong=["its question and reference are those of no held-out row"])


def _exports(e: Evidence) -> list[Any]:
    """What export.json says, or the one of each quantisation."""
    names = [EXPORTED, *(f"gguf-{quant}.json" for quant in QUANTS)]
    return [e.json(f"adapter/{name}") for name in names if (e.rundir.adapter / name).exists()]


# --- a dataset


def _dataset(said: Mapping[str, Any], folder: Path) -> Iterator[Claim]:
    """The rows themselves: how many, and the hash of every split, recomputed from what is published."""
    e = Evidence(RunDir(folder))
    for part, name in PARTS:
        yield settle(f"split {part}", partial(_part, e, said, part, name))
    yield settle("split key", lambda: _key(e, said))


def _part(e: Evidence, said: Mapping[str, Any], part: str, name: str) -> Found:
    import pyarrow.parquet as parquet

    path = e.path / "data" / f"{part}.parquet"
    found = parquet.read_table(path).to_pylist() if path.exists() else []
    if "template" in e.data:
        system = e.data["template"]["system"]
        rows = ([row["meta"]["id"], _turns(row["messages"], system)] for row in found)
        claimed = e.data["keys"][name]
    elif "contents" in e.data:  # tagged words
        names = e.data["labels"]
        rows = ([r["id"], r["document"], r["tokens"], [names[tag] for tag in r["ner_tags"]]] for r in found)
        claimed = e.data["contents"].get(part)
    else:
        return Found(unknown="the dataset was built by an older version, which kept no hash of tagged rows")
    made = digest("".join(digest(row) for row in rows)) if found or claimed else None
    same = len(found) == said["split"]["rows"][name] and made == claimed
    return Found(f"{len(found):,} rows, as they were split", [] if same else [f"{len(found):,} rows, not those that they were split into"])  # fmt: skip


def _key(e: Evidence, said: Mapping[str, Any]) -> Found:
    claimed = said["split"]["key"]
    wrong = (
        [] if digest(e.data["keys"]) == claimed == e.data["key"] else [f"{claimed[:12]} is not the key of its parts"]
    )
    return Found(claimed[:12], [*wrong, *unlike(as_json(e.data["rows"]), said["split"]["rows"], "rows")])


def _turns(messages: Sequence[Mapping[str, str]], system: str | None) -> list[list[str]]:
    """A row's messages as its source had them: the recipe's own system message was put before them."""
    turns = [[message["role"], message["content"]] for message in messages]
    return turns[1:] if system and turns[0] == ["system", system] else turns
