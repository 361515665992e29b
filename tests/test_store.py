"""A stage is built once, whole or not at all; what cannot be written is one clear line."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import DataError, MedRecipesError
from medrecipes.core.files import MANIFEST, digest, digest_path, read_json, stage, write_text, writing
from medrecipes.release.publish import publish


def test_a_stage_is_built_once(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> dict[str, object]:
        calls.append(folder)
        (folder / "a.txt").write_text("a")
        return {"rows": 1}

    first = stage("data", "f" * 64, build, tmp_path)
    assert stage("data", "f" * 64, build, tmp_path) == first
    assert len(calls) == 1
    assert first.name == "data-ffffffffffffffff"
    manifest = read_json(first / MANIFEST)
    assert {name: manifest[name] for name in ("stage", "key", "rows")} == {"stage": "data", "key": "f" * 64, "rows": 1}
    assert set(manifest) - {"stage", "key", "rows"} == {"files", "sha256"}
    assert (manifest["files"]["a.txt"]["bytes"], manifest["files"]["a.txt"]["sha256"][:8]) == (1, "ca978112")


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, object]:
        (folder / "half.txt").write_text("half")
        raise DataError("row 3: broken")

    with pytest.raises(DataError, match="row 3"):
        stage("data", "f" * 64, build, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_manifest_is_no_stage(tmp_path: Path) -> None:
    torn = tmp_path / "data-ffffffffffffffff"
    torn.mkdir()
    (torn / "half.txt").write_text("half")
    built = stage("data", "f" * 64, lambda folder: {}, tmp_path)
    assert sorted(p.name for p in built.iterdir()) == [MANIFEST]


def test_a_digest_is_of_content(tmp_path: Path) -> None:
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "f").write_text("1")
    before = digest_path(tmp_path / "x")
    (tmp_path / "x" / "f").write_text("2")
    assert digest_path(tmp_path / "x") != before
    with pytest.raises(DataError, match="cannot be read"):
        digest_path(tmp_path / "none")


def test_a_full_disk_is_one_line() -> None:
    message = r"/dev/full: cannot be written \(No space left on device\); free the space"
    with pytest.raises(MedRecipesError, match=message), writing(Path("/dev/full")), open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def test_a_full_disk_that_a_library_met_is_the_same_line(tmp_path: Path) -> None:
    with pytest.raises(MedRecipesError, match="No space left on device"), writing(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/3")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without the permission")
def test_a_forbidden_folder_is_one_line(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            write_text(tmp_path / "x.txt", "x")
        except MedRecipesError as error:
            os._exit(0 if "cannot be written (Permission denied)" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []


def test_publish_reads_every_byte_of_what_the_store_keeps(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    store = Path(shutil.copytree(os.environ["MEDRECIPES_CACHE"], tmp_path / "store"))
    monkeypatch.setenv("MEDRECIPES_CACHE", str(store))
    key = read_json(run / "run.json")["split_key"]
    [rows] = [path / "rows.jsonl" for path in store.glob("split-*") if read_json(path / "report.json")["key"] == key]
    rows.write_text(rows.read_text().replace('["train"', '["test" ', 1))
    manifest = read_json(rows.with_name(MANIFEST))
    del manifest["sha256"]
    now = rows.stat()
    times = {"bytes": now.st_size, "mtime_ns": now.st_mtime_ns, "ctime_ns": now.st_ctime_ns}
    manifest["files"]["rows.jsonl"].update(times)  # as if the disk had lost it, and nobody had written
    rows.with_name(MANIFEST).write_text(json.dumps({**manifest, "sha256": digest(manifest)}))
    capfd.readouterr()
    with suppress(MedRecipesError):
        publish([run], Console.silent(), push=False, waived=("reload",))
    assert f"{rows.parent}: rows.jsonl is not as it was written; it is made anew" in capfd.readouterr().err
