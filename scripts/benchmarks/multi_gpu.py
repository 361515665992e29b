"""How much faster several GPUs train than one: the same recipe and batch by `medrecipes run --gpus N`, and resumed on fewer.

usage: scripts/bench multi_gpu [--gpus 1,2,4] [--steps 12] [--batch 16] [--rows] [--work FOLDER] [--tokenizer FOLDER]

A Mistral-7B-shaped base (random weights) in 4 bits, packed rows of 2,048 tokens, as many a step whatever the number of GPUs;
--rows: single padding-free rows, as the default recipe has them (--batch 8 --steps 400: much shorter runs are not recorded).
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]


def main(argv: list[str] | None = None) -> int:
    """Train with each number of GPUs and print the table; then check that a run goes on with another number."""
    parser = argparse.ArgumentParser(
        "scripts/bench multi_gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpus", default="1,2,4")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16, help="packs or rows a step, on all GPUs together")
    parser.add_argument(
        "--rows", action="store_true", help="single rows, not packs; the micro-batch as the plan has it"
    )
    parser.add_argument("--no-resume", action="store_true", help="leave out the resumed run")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    arguments = parser.parse_args(argv)
    from train import data, make_base

    base = arguments.work / "base"
    if not (base / "config.json").exists():
        base.mkdir(parents=True, exist_ok=True)
        make_base(base, arguments.tokenizer)
    counts = [int(count) for count in arguments.gpus.split(",")]
    layout = ["train.packing=true", "train.micro_batch=4"]
    if arguments.rows:
        layout = ["train.packing=false", "train.micro_batch=auto"]
    settings = [
        f"model.base='{base}'", "model.engine=trl", "template.name=mistral-v3", "data.max_tokens=2048",
        *data(), "data.split={train=0.96, dev=0.02, test=0.02}", *layout, f"train.batch={arguments.batch}",
        "train.optim=adamw_torch_fused", "train.keep_best=last", "train.checkpointing=false",
        "train.eval_steps=1000", "eval.rows=2", "eval.max_new_tokens=4", "lora.alpha=16",
        "train.learning_rate=2e-4",
    ]  # fmt: skip
    rates, losses = {}, {}
    for count in counts:
        folder = arguments.work / f"GPUs-{'rows-' if arguments.rows else ''}{count}"
        run(settings, folder, count, arguments.steps, 1000)
        rows = losses[count] = read(folder)
        rates[count] = statistics.median(float(row["tokens_per_second"]) for row in rows[max(4, len(rows) // 4) :])
    print("| GPUs | tokens/s | times one |\n| --- | --- | --- |")
    for count, rate in rates.items():
        print(f"| {count} | {rate:,.0f} | {rate / rates[counts[0]]:.2f} |")
    most, fewest = counts[-1], counts[0]
    apart = [abs(float(a["loss"]) - float(b["loss"])) for a, b in zip(losses[most], losses[fewest], strict=True)]
    print(f"losses on {most} GPUs and on {fewest}: at most {max(apart):.1e} apart over {len(apart)} steps")
    if arguments.no_resume:
        return 0
    folder, half = arguments.work / "resumed", arguments.steps // 2
    run(settings, folder, most, arguments.steps, half, stop=half)
    run(settings, folder, fewest, arguments.steps, half)
    apart = [abs(float(a["loss"]) - float(b["loss"])) for a, b in zip(read(folder), losses[most], strict=True)]
    print(
        f"begun on {most}, resumed at step {half} on {fewest}: at most {max(apart):.1e} apart from the uninterrupted run"
    )
    return 0


def run(settings: list[str], folder: Path, count: int, steps: int, save: int, *, stop: int | None = None) -> None:
    """One run; `stop`: told to go as soon as the checkpoint of this step is whole."""
    sets = [
        word
        for value in [*settings, f"train.max_steps={steps}", f"train.save_steps={save}"]
        for word in ("--set", value)
    ]
    command = [sys.executable, "-m", "medrecipes", "run", "recipes/tiny_mistral.toml", "--runs", str(folder), *sets]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "4"}
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--gpus", str(count)], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while process.poll() is None:
                if stop and list(folder.glob(f"*/checkpoints/checkpoint-{stop}/trainer_state.json")):
                    process.terminate()
                    stop = None
                    process.wait(60)
                    return
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        if process.returncode and not stop:
            sys.exit(f"{log.name}: the run on {count} GPUs failed")


def read(folder: Path) -> list[dict[str, str]]:
    """The training rows of the one run in a folder."""
    from medrecipes.runs.folder import read_losses

    [path] = folder.glob("*/loss.csv")
    return [row for row in read_losses(path) if row["split"] == "train"]


if __name__ == "__main__":
    sys.exit(main())
