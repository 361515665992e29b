"""What can be typed, and how a command ends whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medrecipes import commands
from medrecipes.commands import schema
from tests.attack.harness import attack, refused
from tests.conftest import ROOT

COMMAND = [sys.executable, "-m", "medrecipes"]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A store of its own for logs; what `schema` raises is for the test to say."""
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    return monkeypatch


def raising(error: BaseException):  # type: ignore[no-untyped-def]
    def do(_: object) -> None:
        raise error

    return do


def test_what_nobody_foresaw_is_one_line_and_a_log(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fails.setattr(schema, "do", raising(ValueError("a \x1b[31mred\nsurprise")))
    done = attack("schema", cwd=tmp_path)
    (log,) = (tmp_path / "store" / "logs").iterdir()
    assert done.code == 2
    assert done.err == (
        f"internal error: ValueError: a \\x1b[31mred; the full log is at {log}; please report it with that file "
        "(--debug shows it here)\n"
    )
    assert done.out == ""
    text = log.read_text()
    assert text.startswith("medrecipes 0.1.0, Python 3.")
    assert "\nschema\n" in text
    assert "Traceback (most recent call last)" in text
    assert log.stat().st_mode & 0o077 == 0


def test_debug_shows_the_traceback(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fails.setattr(schema, "do", raising(ValueError("surprise")))
    with pytest.raises(ValueError, match="surprise"):
        attack("schema", "--debug", cwd=tmp_path)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_leaves_the_log_elsewhere(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails.setenv("MEDRECIPES_CACHE", str(tmp_path / "file" / "store"))
    fails.setenv("TMPDIR", str(tmp_path))
    fails.setattr(commands.tempfile, "tempdir", None)
    fails.setattr(schema, "do", raising(RecursionError()))
    done = attack("schema", cwd=tmp_path)
    (log,) = tmp_path.glob("medrecipes-error-*.txt")
    assert f"internal error: RecursionError: RecursionError; the full log is at {log}" in done.err


def test_memory_and_the_file_system_are_named_as_what_they_are(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fails.setattr(schema, "do", raising(MemoryError()))
    refused(attack("schema", cwd=tmp_path), "memory ran out; ask for less")
    fails.setattr(schema, "do", raising(OSError(28, "No space left on device", "/x")))
    refused(
        attack("schema", cwd=tmp_path), "/x: No space left on device; correct the path, mend the permission, or free"
    )


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    commands = (["show", "recipes/tiny_mistral.toml"], 141), (["schema"], 141), (["check", "--schema-only", "recipes/tiny_mistral.toml"], 141), (["run", "--help"], 0)  # fmt: skip
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for (command, code), environment in itertools.product(commands, (buffered, {**buffered, "PYTHONUNBUFFERED": "1"})):
        process = subprocess.Popen(
            [*COMMAND, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # as `| head -0` does
        assert process.stderr.read() == b""
        assert process.wait() == code


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "schema"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("No space left on device; ")
    assert done.stderr.count("\n") == 1


def test_an_encoding_that_lacks_a_character_ends_nothing() -> None:
    done = subprocess.run(
        [*COMMAND, "schema", "--markdown"], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    refused(attack("build", ROOT / "recipes" / "tiny_mistral.toml", "--out", "/proc/x", cwd=tmp_path), "/proc/x")


def test_text_to_tag_may_stand_behind_an_option(tmp_path: Path) -> None:
    for words in (("--json", "TEXT"), ("TEXT", "--json"), ("--json", "TEXT", "MORE"), ("ONE", "--json", "TEXT")):
        refused(attack("tag", "absent", *words, cwd=tmp_path), "absent: is no run folder")
    outcome = attack("tag", "absent", "--json", "--jsn", "TEXT", cwd=tmp_path)
    assert (outcome.code, "unrecognized arguments: --jsn TEXT" in outcome.err) == (2, True)


def test_what_is_typed_behind_an_option_is_tagged(tag_run: tuple[Path, str], warm) -> None:  # type: ignore[no-untyped-def]
    run, _ = tag_run
    done = warm("tag", run, "--json", "Aspirin helps against headache.", "No.")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["Aspirin helps against headache.", "No."]
