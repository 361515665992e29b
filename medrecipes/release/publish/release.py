"""What a release holds: the files of a run or of a dataset, its card, and release.json, which says what each of them is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes import __version__
from medrecipes.core.errors import DataError, RunError
from medrecipes.core.files import read_json, write_json, write_text
from medrecipes.core.hub import Kind, content
from medrecipes.recipe.schema import Recipe
from medrecipes.release import cards
from medrecipes.release.base_licences import NOTICE, notice
from medrecipes.release.export import QUANTS
from medrecipes.release.gates import Gate, check_dataset, check_run
from medrecipes.release.publish.delivery import MANIFEST
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir

CARD, EXPORTED = "README.md", "export.json"
# what goes with every form of a model: how it was made and evaluated, but none of the rows
EVIDENCE = ("data.json", "loss.csv", "loss.png", "trainer_stats.json", "eval/report.json")
SUFFIX = {"adapter": "", "merged-16bit": "-merged-16bit", "merged-4bit": "-merged-4bit", "gguf": "-gguf"}


@dataclass(frozen=True)
class Release:
    """One repository's worth: its files by their path there, and what was found of them."""

    repo: str
    kind: Kind
    name: str
    format: str
    files: Mapping[str, Path]
    gates: Sequence[Gate]

    @property
    def card(self) -> str:
        """The text of its README."""
        return self.files[CARD].read_text(encoding="utf-8")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def refused(self) -> list[Gate]:
        """The gates that keep it from being pushed."""
        return [gate for gate in self.gates if not gate.passed and not gate.waived]


def of_run(rundir: RunDir, recipe: Recipe, format: str, repo: str, waived: Sequence[str], work: Path) -> Release:
    """The release of a finished run in one format; what is written for it goes to `work`."""
    exports = [] if format == "adapter" else _exports(rundir, format)
    files = _exported(exports, work) if exports else _adapter(rundir, work)
    files |= {name: rundir.path / name for name in EVIDENCE}
    data, recipe = read_json(rundir.path / "data.json"), rundir.pinned(recipe)
    write_text(work / "recipe.toml", recipe.shared().to_toml())
    files["recipe.toml"] = work / "recipe.toml"
    if text := notice(recipe.model.base, rundir.state.get("base_licence")):
        write_text(work / NOTICE, text + "\n")
        files[NOTICE] = work / NOTICE
    gates = check_run(rundir.path, files, recipe, repo, waived)
    state, report = rundir.state, read_json(rundir.path / "eval" / "report.json")
    claims = {
        "kind": "model",
        "name": rundir.path.name,
        "format": format,
        "repo": repo,
        "run": _stated(state),
        # which version worked it out, where that is the one that words it now
        "code": file_hashes.code() if state.get(file_hashes.KEY, {}).get("code") == file_hashes.code() else None,
        # a tagging run asks nothing, so it has no template
        "template": {"name": state.get("template", recipe.template.name), "sha256": state["template_sha256"]}
        if recipe.task == "chat"
        else None,
        "split": {"key": state["split_key"], "rows": data["rows"]},
        "evaluation": {
            key: report[key]
            for key in ("split", "rows", "groups", "columns", "base", "tuned", "difference")
            if key in report
        },
    }
    card = cards.release_card(rundir.path, repo, [format], gates, [made for _, made in exports])
    return Release(repo, "model", rundir.path.name, format, _finish(files, claims, gates, card, work), gates)


def of_dataset(folder: Path, repo: str, waived: Sequence[str], work: Path) -> Release:
    """The release of a dataset that `medrecipes build` made: a Parquet file a split, which any program reads."""
    from datasets import DatasetDict, disable_progress_bars, load_from_disk

    disable_progress_bars()
    report = read_json(folder / "data.json")
    dataset = load_from_disk(str(folder))
    if not isinstance(dataset, DatasetDict):
        raise DataError(f"{folder}: holds rows without splits, as `medrecipes build` never does; build it again")
    files = {"data.json": folder / "data.json"}
    for part, rows in dataset.items():
        files[f"data/{part}.parquet"] = work / f"{part}.parquet"
        rows.to_parquet(work / f"{part}.parquet")
    gates = check_dataset(folder, waived)
    claims = {
        "kind": "dataset",
        "name": report["name"],
        "format": "parquet",
        # tagged words are written by no template
        "template": {key: report["template"][key] for key in ("name", "sha256")} if "template" in report else None,
        "split": {"key": report["key"], "rows": report["rows"]},
    }
    card = cards.dataset_card(report["name"], report, list(dataset), ["parquet"], cards.Released(repo, gates))
    return Release(repo, "dataset", report["name"], "parquet", _finish(files, claims, gates, card, work), gates)


def _adapter(rundir: RunDir, work: Path) -> dict[str, Path]:
    """The adapter's folder; its config names the very commit of the base that it was trained on."""
    files = {path.name: path for path in _inside(rundir.adapter)}
    config = read_json(rundir.adapter / "adapter_config.json")
    if rundir.state["base_revision"]:
        write_json(work / "adapter_config.json", {**config, "revision": rundir.state["base_revision"]})
        files["adapter_config.json"] = work / "adapter_config.json"
    return files


def _exports(rundir: RunDir, format: str) -> list[tuple[Path, dict[str, Any]]]:
    """What `medrecipes export` made, each folder with its export.json; all quantisations of GGUF go to one repository."""
    names = [f"gguf-{quant}" for quant in QUANTS] if format == "gguf" else [format]
    folders = [folder for name in names if ((folder := rundir.path / "export" / name) / EXPORTED).exists()]
    if not folders:
        raise RunError(f"{rundir.path}: has no {format} yet; make it with `medrecipes export {rundir.path} --format {format}`")  # fmt: skip
    return [(folder, _shared(read_json(folder / EXPORTED))) for folder in folders]


def _stated(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a release says of its run, without the path of a base that lies in a folder of this machine."""
    said = {key: state[key] for key in cards.STATE if key in state}
    base = said.get("identity", {}).get("settings", {}).get("model", {}).get("base", "")
    if Path(base).is_absolute():  # then nobody else can see what its key is of
        del said["identity"]
    return {**said, "base": Path(state["base"]).name if Path(state["base"]).is_absolute() else state["base"]}


def _shared(made: dict[str, Any]) -> dict[str, Any]:
    """What is said of an export, without the path of a base that lies in a folder of this machine."""
    base = str(made.get("base") or "")
    if not Path(base).is_absolute():
        return made
    name = Path(base).name
    return {**made, "base": name, "reason": str(made.get("reason") or "").replace(base, name)}


def _exported(exports: Sequence[tuple[Path, dict[str, Any]]], work: Path) -> dict[str, Path]:
    """The files of all these exports; of a name that several have, such as Modelfile, the first one's."""
    files: dict[str, Path] = {}
    for folder, made in exports:
        if not made["parity"]["passed"]:
            raise RunError(f"{folder}: does not answer as the adapter does, so it is not released; export it again")
        for name, what in made["files"].items():
            if not (folder / name).is_file() or content(folder / name).sha256 != what["sha256"]:
                raise RunError(f"{folder / name}: is not what was exported; export it again")
            files.setdefault(name, folder / name)
        said = EXPORTED if len(exports) == 1 else f"{folder.name}.json"
        write_json(work / said, made)
        files[said] = work / said
    return files


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _finish(
    files: dict[str, Path], claims: dict[str, Any], gates: Sequence[Gate], card: str, work: Path
) -> dict[str, Path]:
    """All files with the card, and release.json over them."""
    write_text(work / CARD, card)
    files = dict(sorted({**files, CARD: work / CARD}.items()))
    contents = {name: content(path) for name, path in files.items()}
    value = {
        "made_by": f"medrecipes {__version__}",
        **claims,
        "gates": {gate.name: "waived" if gate.waived else "passed" for gate in gates if gate.passed or gate.waived},
        "notes": {gate.name: gate.note for gate in gates if gate.note},
        "waived": {gate.name: list(gate.found) for gate in gates if gate.waived},
        "files": {name: {"sha256": c.sha256, "bytes": c.size} for name, c in contents.items()},
    }
    write_text(work / MANIFEST, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return {**files, MANIFEST: work / MANIFEST}
