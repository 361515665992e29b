"""How many steps a second a tagging recipe trains: windows end to end through the fused layers, and padded through the library's.

usage: scripts/bench tag_steps [RECIPE] [--set KEY=VALUE]... [--steps 300,60] [--shape 7b --tokenizer FOLDER] [--work FOLDER]

Both ways run in one process, on the same rows, without a look at dev rows. `--steps`: of either way. What is said is the pace of
the last third of the steps, when most sizes are captured, and of all of them. `--shape 7b` trains a Mistral-7B-shaped base of
random weights in 4 bits in place of the recipe's; the folder holds a tokenizer for it.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
USUAL = [
    "sweep={}", "train.logging_steps=1", "train.keep_best=last", "train.eval_steps=epoch", "train.save_steps=epoch", "train.scheduler=constant",
]  # fmt: skip


def pace(rows: list[dict[str, str]]) -> float:
    """Steps a second of these lines of loss.csv, which stand a step apart; the first tells where the second began."""
    took = sum((float(b["tokens"]) - float(a["tokens"])) / float(b["tokens_per_second"]) for a, b in pairwise(rows))
    return (len(rows) - 1) / took if took else float("nan")


def main() -> int:
    """Train both ways and print a table."""
    parser = argparse.ArgumentParser(
        "scripts/bench tag_steps", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "smollm2_135m_bio_ner.toml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--steps", default="300,60", metavar="N,N", help="of the packed way, and of the padded one")
    parser.add_argument("--shape", choices=("7b",))
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    arguments = parser.parse_args()
    from medrecipes.core.console import Console
    from medrecipes.data.tagged_split import prepare_tagged
    from medrecipes.engines import Choice, open_tagger, tag_base
    from medrecipes.engines.trainer.tags import Tagger
    from medrecipes.pipeline.tasks.tag import REASON
    from medrecipes.recipe.load import load
    from medrecipes.runs.folder import RunDir, read_losses

    settings = [*arguments.settings, *USUAL]
    if arguments.shape:
        from train import make_base

        base = arguments.work / "base-7b"
        if not (base / "config.json").exists():
            base.mkdir(parents=True)
            make_base(base, arguments.tokenizer)
        settings += [f"model.base='{base}'", "model.bits=4"]
    usual, table = Tagger._pads, []
    for way, steps in zip(("packed", "padded"), map(int, arguments.steps.split(",")), strict=True):
        recipe = load(arguments.recipe, [*settings, f"train.max_steps={steps}"]).recipe
        split = prepare_tagged(recipe)
        if way == "padded":
            Tagger._pads = lambda *_: "the benchmark says so"  # type: ignore[method-assign]
        try:
            engine: Any = open_tagger(recipe, tag_base(recipe, split), split.labels, Choice("trl", REASON))
            folder = arguments.work / f"tag-{way}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            stats = engine.train(split.train, [], RunDir(folder), Console())
        finally:
            Tagger._pads = usual  # type: ignore[method-assign]
        rows = [row for row in read_losses(folder / "loss.csv") if row["split"] == "train"]
        layers = engine.choices["layers"] if "layers" in engine.choices else engine.choices["layout"]
        losses = [float(row["loss"]) for row in rows[: min(map(int, arguments.steps.split(",")))]]
        table.append((way, steps, pace(rows[-max(2, steps // 3) :]), pace(rows), stats["peak_gb"], str(layers), losses))
        del engine
        gc.collect()
    print(
        "\n| windows | steps | steps/s, the last third | steps/s, all but the first | peak GB | layers |\n| --- | --- | --- | --- | --- | --- |"
    )
    for way, steps, late, whole, peak, layers, _ in table:
        print(f"| {way} | {steps} | {late:.1f} | {whole:.1f} | {peak:.1f} | {layers} |")
    apart = [abs(a - b) for a, b in zip(table[0][-1], table[1][-1], strict=False)]
    print(
        f"\nlosses of the first {len(apart)} steps: at most {max(apart):.4f} apart, {sum(apart) / len(apart):.4f} in the mean"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
