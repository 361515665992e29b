"""The launch files for several machines, on stand-ins for a cluster: two machines of one GPU each, which are this one."""

from __future__ import annotations

import os
import random
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from medrecipes.commands import _parser
from medrecipes.recipe.load import load
from medrecipes.runs.folder import read_losses
from tests.conftest import ROOT, Cli, need_gpus, need_no_gpus, sets

LAUNCH = ROOT / "scripts" / "launch"
BOTH = 'for n in 0 1; do CUDA_VISIBLE_DEVICES=$n SKYPILOT_NODE_RANK=$n "$@" & done; wait -n && wait -n'
SETTINGS = ["model.engine=trl", "model.bits=16", "train.precision=fp32", "train.max_steps=4", "train.eval_steps=4", "train.save_steps=4", "eval.rows=4", "eval.max_new_tokens=4", "train.optim=adamw_torch"]  # fmt: skip
SETS = sets(*SETTINGS)


def launched(how: str, folder: Path, runs: Path, sets: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The demo's recipe, by a launch file, from a folder that stands for the checkout."""
    for name, line in {
        ".venv/bin/python": f'exec {sys.executable} "$@"',
        "bin/scontrol": "printf 'localhost\\nlocalhost\\n'",
        "bin/srun": BOTH,
    }.items():
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/usr/bin/env bash\n{line}\n")
        program.chmod(0o755)
    recipe = str(ROOT / "recipes" / "tiny_mistral.toml")
    if how == "slurm":
        command = ["bash", str(LAUNCH / "slurm.sh"), recipe, "--runs", str(runs), *sets]
    else:
        task = folder / "task.sh"  # as SkyPilot runs it on every machine, where /runs is the bucket
        task.write_text(yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())["run"].replace("/runs", f"{runs} {' '.join(sets)}"))  # fmt: skip
        command = [str(folder / "bin" / "srun"), "bash", str(task)]
    environment = {
        **os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NODELIST": "two", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(random.randrange(10**6)), "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1", "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "1", "RECIPE": recipe,
    }  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, env=environment)


def test_two_machines_meet(tmp_path: Path) -> None:
    need_no_gpus()
    with ThreadPoolExecutor() as both:
        for done in both.map(lambda how: launched(how, tmp_path / how, tmp_path / "runs", SETS), ["slurm", "skypilot"]):
            assert done.returncode != 0
            assert (
                "2 processes, but no NVIDIA GPU; several processes train on a GPU each, start one here" in done.stderr
            )
    assert not (tmp_path / "runs").exists()


@pytest.mark.cuda
@pytest.mark.parametrize("how", ["slurm", "skypilot"])
def test_two_machines_learn_what_one_with_two_cards_does(how: str, cli: Cli, tmp_path: Path) -> None:
    need_gpus(2)
    done = launched(how, tmp_path / "checkout", tmp_path / "two", SETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("evaluate (tuned)") == 1
    one = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path / "one", "--gpus", "2", *SETS)
    assert one.returncode == 0, one.stdout + one.stderr
    losses = [[float(row["loss"]) for [path] in [list((tmp_path / name).glob("*/loss.csv"))] for row in read_losses(path)] for name in ("one", "two")]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_cloud_files_have_the_shape_that_their_readers_want() -> None:
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task.keys() <= {"name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run"}
    assert (task["num_nodes"], task["resources"]["accelerators"], task["workdir"]) == (2, "A100:4", ".")
    assert task["file_mounts"]["/runs"].keys() == {"name", "store", "mode"}
    assert (ROOT / task["envs"]["RECIPE"]).exists()
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", task[part]]).returncode == 0
    header = re.search(r"^# /// script\n(.*?)^# ///$", (LAUNCH / "hf_jobs.py").read_text(), re.M | re.S)
    assert header
    wanted = tomllib.loads("".join(line.removeprefix("# ") for line in header[1].splitlines(keepends=True)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wanted["requires-python"] == project["requires-python"]
    [package] = map(Requirement, wanted["dependencies"])
    assert (package.name, package.extras <= project["optional-dependencies"].keys()) == ("medrecipes", True)


def test_a_job_of_the_hub_is_taken_as_it_is_documented() -> None:
    """The client's own `--dry-run`, which reads everything and submits nothing."""
    hf = Path(sys.executable).with_name("hf")
    lines = [line.strip() for path in (LAUNCH / "hf_jobs.py", ROOT / "docs" / "elsewhere.md") for line in path.read_text().splitlines() if line.strip().startswith("hf jobs")]  # fmt: skip
    assert len(lines) == 2
    for line in dict.fromkeys(lines):
        words = shlex.split(line)
        done = subprocess.run([str(hf), *words[1:4], "--dry-run", *words[4:]], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "HF_TOKEN": "hf_none", "HF_HUB_OFFLINE": "1"})  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Job not submitted" in done.stdout + done.stderr
        assert re.search(r"flavor +a10g-small", done.stdout)


def test_a_job_runs_a_recipe_and_releases_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("medrecipes.commands.main", lambda words: asked.append(words) or 0)
    monkeypatch.setattr(sys, "argv", ["hf_jobs.py", "tiny_mistral", "--set", "train.epochs=2"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(LAUNCH / "hf_jobs.py"), run_name="__main__")
    assert ended.value.code == 0
    assert asked == [["run", "tiny_mistral", "--set", "train.epochs=2", "--set", "publish.push=true"]]
    _parser().parse_args(asked[0])
    assert load("tiny_mistral", ["train.epochs=2", "publish.push=true"]).recipe.publish.push
