"""Several processes: real ones, that meet over loopback; what needs GPUs is in tests/test_engines_agree.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medrecipes.engines.trainer.samplers import Shuffled
from tests.conftest import ROOT, Cli

TOGETHER = """
import json, sys, time
from pathlib import Path
import torch
from medrecipes.core import processes
from medrecipes.runs.folder import LossLog, RunDir
from medrecipes.core.files import stage, write_json

folder = Path(sys.argv[1])
torch.distributed.init_process_group("gloo")

def build(place):
    time.sleep(1)
    (folder / f"built-{processes.rank()}").touch()
    return {}

place = stage("data", "k" * 16, build, folder / "store")
log = LossLog(folder / "loss.csv", writes=processes.leads())
counts = []
for step in (1, 2):
    log.count([processes.rank()], 10 * step + processes.rank(), 0)
    log.step_ends(step)
    log.count([], 1000, 0)  # of the step after it, which is not told yet
    assert log.tell(step) == [processes.rank()]
    counts.append(log.tokens)
log.row(step=1, epoch=0, split="train", loss=1.0)
log.close()
run = RunDir(folder / "run", writes=processes.leads())
run.update(rank=processes.rank())
write_json(folder / f"said-{processes.rank()}.json", {
    "share": processes.share(f"from {processes.rank()}"), "gather": processes.gather(processes.rank() * 2), "leads": processes.leads(),
    "place": (place / "manifest.json").exists(), "counts": counts,
})
"""


def test_the_leader_prepares_and_writes_and_all_count_together(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "together.py").write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", tmp_path / "together.py", tmp_path]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(3)]
    assert [s["share"] for s in said] == ["from 0"] * 3
    assert [s["gather"] for s in said] == [[0, 2, 4]] * 3
    assert [s["leads"] for s in said] == [True, False, False]
    assert [s["place"] for s in said] == [True] * 3
    assert sorted(p.name for p in tmp_path.glob("built-*")) == ["built-0"]
    # 10 + 11 + 12, then 20 + 21 + 22 more, and what the second step had begun with
    assert [s["counts"] for s in said] == [[33, 3096]] * 3
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {"rank": 0}


def test_the_rows_of_each_step_are_those_of_one_process() -> None:
    from accelerate.data_loader import SeedableRandomSampler

    alone = SeedableRandomSampler(range(10), data_seed=42, generator=torch.Generator())
    together = Shuffled([*range(100, 110), 1, 1], 10, seed=42, batch=4, gpus=2, at_once=1)
    for epoch in range(4):
        if epoch == 3:  # from the beginning again, as a resumed run is told
            together.set_epoch(0)
            alone.set_epoch(0)
        dealt, order = list(together), [*alone, 10, 11]
        assert [set(dealt[i : i + 4]) for i in (0, 4, 8)] == [set(order[i : i + 4]) for i in (0, 4, 8)]


@pytest.mark.parametrize(("gpus", "at_once"), [(2, 4), (2, 2), (4, 2), (4, 1), (8, 1)])
def test_cards_take_about_as_many_tokens_each_in_a_step(gpus: int, at_once: int) -> None:
    lengths = [1 + number**2 for number in range(64)]
    order = list(Shuffled(lengths, 64, seed=3, batch=8, gpus=gpus, at_once=at_once))
    assert sorted(order) == list(range(64))
    found = most = 0
    for step in (order[i : i + 8] for i in range(0, 64, 8)):
        # as accelerate hands them out: so many to each GPU in turn
        takes = [step[i : i + at_once] for i in range(0, 8, at_once)]
        tokens = [sum(lengths[row] for take in takes[gpu::gpus] for row in take) for gpu in range(gpus)]
        found += max(tokens)
        most += max(sum(lengths[row] for row in step) / gpus, max(lengths[row] for row in step))
    assert found <= 1.25 * most


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "3"], "recipes/tiny_mistral.toml: train.batch = 8 cannot be shared by 3 GPUs; choose a multiple"),
        (
            ["--gpus", "2", "--set", "train.batch=12", "--set", "train.micro_batch=4"],
            "recipes/tiny_mistral.toml: train.micro_batch = 4 does not divide the 6 rows that each of 2 GPUs has of train.batch = 12; choose a divisor of 6\n",
        ),
        (["--gpus", "4"], "--gpus 4: this machine has "),
        (
            ["--set", "model.shard=true"],
            "model.shard = true: one process has no other process to share the base with; start several with --gpus N",
        ),
    ],
)
def test_too_many_cards_or_too_few_are_one_line(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path / "runs", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("all", 2, "all have met it\n"),
        ("one", 2, "GPU 1 alone has met it\n"),
        ("killed", 2, "the process of GPU 1 was ended by SIGKILL; if that was not you, main memory ran out: `dmesg` says so. The same command goes on from the last checkpoint\n"),
        ("asked", 130, "interrupted; the same command goes on from the last checkpoint\n"),
    ],
)  # fmt: skip
def test_however_several_end_one_line_is_said(tmp_path: Path, how: str, code: int, said: str) -> None:
    command = [sys.executable, "-m", "tests.launched_cases", how, tmp_path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while how == "asked" and len(list(tmp_path.glob("waits-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    if how == "asked":
        process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=200)
    assert (process.returncode, out, errors) == (code, "", said)
    assert len(list(tmp_path.glob("saved-*"))) == (2 if how == "asked" else 0)
