"""`medrecipes doctor` and `medrecipes completion`: what is missing is named with what to do, and what can be typed is offered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medrecipes.commands import COMMANDS
from tests.conftest import ROOT
from tests.hub import Hub
from tests.test_house import HEAVY
from tests.test_init import medrecipes, smi

H200 = "NVIDIA H200, 140000, 143771, 570.86, 9.0"


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, object]]]:
    """What was found, by what was looked at."""
    assert done.stderr == ""
    found: dict[str, list[dict[str, object]]] = {}
    for one in json.loads(done.stdout):
        found.setdefault(str(one["what"]), []).append(one)
    return found


def test_a_machine_that_is_ready_is_called_so(tmp_path: Path) -> None:
    with Hub() as hub:
        settings = hub.environment(tmp_path / "hf", MEDRECIPES_CACHE=str(tmp_path / "store"), HF_HUB_OFFLINE="0")
        done = medrecipes(tmp_path, "doctor", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "result           ready; `medrecipes run demo` tries it all"
        found = findings(medrecipes(tmp_path, "doctor", "--json", **settings))
    assert list(found) == ["python", "stack", "GPU", "memory", "runs", "store", "hub cache", "Hub"]
    assert " answers, " in str(found["Hub"][0]["found"])
    assert found["stack"][-1]["cure"] == ""
    assert "torch 2." in str(found["stack"][-1]["found"])


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = smi(tmp_path / "bin", H200)
    found = findings(medrecipes(tmp_path, "doctor", "--json", PATH=path, CUDA_VISIBLE_DEVICES="0", HF_HUB_OFFLINE="1"))
    [gpu] = found["GPU"]
    assert str(gpu["found"]).startswith("NVIDIA H200, 146.8 of 150.8 GB free, driver 570.86")
    [hub] = found["Hub"]
    assert (hub["found"], hub["stops"]) == ("not reached (HF_HUB_OFFLINE is set)", False)
    import importlib.metadata

    if importlib.metadata.version("torch").endswith("+cpu"):  # a GPU that this torch cannot use
        [torch] = found["torch"]
        assert (torch["stops"], "scripts/install" in str(torch["cure"])) == (True, True)
        done = medrecipes(tmp_path, "doctor", PATH=path, CUDA_VISIBLE_DEVICES="0")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "result           no run would get far before this is mended: torch")  # fmt: skip


def test_a_gpu_that_others_hold_is_said_to_be(tmp_path: Path) -> None:
    path = smi(tmp_path / "bin", "NVIDIA L4, 4000, 23034, 550.54, 8.9")
    found = findings(medrecipes(tmp_path, "doctor", "--json", PATH=path, CUDA_VISIBLE_DEVICES="0"))
    assert found["GPU"][0]["cure"] == "others hold most of it: `nvidia-smi` says who"
    hidden = findings(medrecipes(tmp_path, "doctor", "--json", PATH=path))
    assert "finds no GPU that this process may use" in str(hidden["GPU"][0]["found"])


def test_a_package_that_is_missing_or_too_old_is_named(tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m, sys\nreal = m.version\n"
        "def version(name):\n    if name == 'trl': return '0.1'\n    if name == 'peft': raise m.PackageNotFoundError(name)\n    return real(name)\n"
        "m.version = version\nfrom medrecipes.commands import main\ncode = main(['doctor'])\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)\nsys.exit(code)"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.stderr.strip() == ""  # nothing heavy was loaded
    lines = done.stdout.splitlines()
    assert any(line.startswith("! stack          peft is not installed; pip install 'peft") for line in lines)
    assert any(line.startswith("? stack          trl 0.1 is not ") and "pip install 'trl" in line for line in lines)
    assert (done.returncode, lines[-1]) == (1, "result           no run would get far before this is mended: stack")


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    line = f"{script}\nCOMP_WORDS=(medrecipes {' '.join(map(repr, words))}); COMP_CWORD={len(words)}; _medrecipes; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_their_values_and_recipes(tmp_path: Path) -> None:
    script = medrecipes(tmp_path, "completion", "bash").stdout
    assert completed(script, "") == [*COMMANDS, "--help", "--version"]
    assert completed(script, "pr") == ["preview"]
    assert completed(script, "run", "--fr") == ["--fresh"]
    assert completed(script, "run", "tiny_mis") == ["tiny_mistral"]
    assert completed(script, "export", "x", "--format", "merged") == ["merged-16bit", "merged-4bit"]
    assert completed(script, "completion", "z") == ["zsh"]
    zsh = medrecipes(tmp_path, "completion", "zsh").stdout
    assert zsh.endswith(script)
    assert "bashcompinit" in zsh.splitlines()[1]


def test_fish_has_a_line_for_every_command_and_option(tmp_path: Path) -> None:
    lines = medrecipes(tmp_path, "completion", "fish").stdout.splitlines()
    assert sum("__fish_use_subcommand" in line for line in lines) == len(COMMANDS)
    assert "complete -c medrecipes -n '__fish_seen_subcommand_from export' -l format -x -a 'adapter merged-16bit merged-4bit gguf'" in "\n".join(lines)  # fmt: skip
    if fish := shutil.which("fish"):
        assert subprocess.run([fish, "--no-execute"], input="\n".join(lines), text=True).returncode == 0


@pytest.mark.parametrize("words", [("completion",), ("completion", "tcsh")])
def test_an_unknown_shell_is_an_error(words: tuple[str, ...], tmp_path: Path) -> None:
    assert medrecipes(tmp_path, *words).returncode == 2
