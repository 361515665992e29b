"""Causal against bidirectional attention, and both against a dictionary, on real BC5CDR with its official splits.

usage: scripts/bench tagging [--quick] [--jobs 6] [--seeds 3] [--steps N] [--epochs N] [--bits 4] [--work FOLDER]

No public weights: a small Mistral is pre-trained here on training texts alone (MedQuAD, WikiDoc, the training articles of
BC5CDR and NCBI-disease), then tagged through medrecipes' own line, a process a run. MEDRECIPES_DATA names the folder of
the public files. `--quick` tries all of it in about a minute on a CPU, at a size whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RECIPE = """
task = "tag"

[model]
base = "{base}"
bits = {bits}

[data]
source = "bio_ner"
path = "{data}"
max_tokens = 512

[lora]
rank = {rank}
alpha = {rank}
dropout = 0.05
targets = ["all-linear"]

[train]
epochs = {epochs}
learning_rate = {rate}
batch = 32
optim = "adamw_torch_fused"
warmup_steps = 50
logging_steps = 20
eval_steps = "epoch"
save_steps = "epoch"
keep_best = "f1"

[eval]
batch = 128
"""


def texts(data: Path, share: int) -> list[str]:
    """What the base reads: one text in so many of each collection, and none of a dev or test set."""
    from medrecipes.core.files import digest

    found = [*_medquad(data), *_wikidoc(data), *_articles(data), *_ncbi(data)]
    # in an order that mixes the collections, so that every part of it is alike
    return sorted(found[::share], key=digest)


def _medquad(data: Path) -> Iterator[str]:
    csv.field_size_limit(1 << 30)
    with gzip.open(data / "medquad" / "medquad.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield " ".join(f"{row['question']} {row['answer']}".split())


def _wikidoc(data: Path) -> Iterator[str]:
    for path in sorted((data / "wikidoc").glob("*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for row in json.load(file):
                yield " ".join(f"{row['input']} {row['output']}".split())


def _articles(data: Path) -> Iterator[str]:
    from medrecipes.data.sources._files import blobs
    from medrecipes.data.sources._pubtator import articles

    for blob in blobs(data / "bc5cdr" / "CDR_TrainingSet.PubTator.txt.gz", (".txt",)):
        for article in articles(blob):
            yield f"{article.title} {article.abstract}"


def _ncbi(data: Path) -> Iterator[str]:
    block: list[str] = []
    for line in (data / "ncbi_disease" / "train.tsv").read_text(encoding="utf-8").split("\n"):
        if line:
            block.append(line.split("\t")[0])
        if len(block) > 200 and not line:
            yield " ".join(block)
            block = []
    yield " ".join(block)


def as_words(text: str) -> str:
    """A text with blanks between its words, as tagged files have them."""
    from medrecipes.data.segment import words

    return " ".join(text[start:end] for start, end in words(text))


def pretrain(data: Path, arguments: argparse.Namespace) -> Path:
    """The base's folder, and what was made of how much text."""
    import torch

    from medrecipes.engines.tiny_bases import build
    from medrecipes.engines.tiny_tokenizers import Size

    cuda = torch.cuda.is_available()
    if arguments.quick:
        size = Size(max_steps=arguments.steps or 20, dev_every=50)
    else:
        size = Size(
            vocabulary=16384, width=768, inner=2048, layers=8, heads=12, key_heads=4, window=512, rows=64,
            max_steps=arguments.steps or 2600, eval_every=200, patience=2, dev_every=100, peak_rate=1e-3, warmup=150,
            device="cuda" if cuda else "cpu",
        )  # fmt: skip
    torch.set_float32_matmul_precision("high")
    started = time.monotonic()
    read = [as_words(text) for text in texts(data, 400 if arguments.quick else 1)]
    base = build("mistral", read, 0, size)
    manifest = json.loads((base.folder / "manifest.json").read_text())
    print(
        f"base        {manifest['parameters']:,} parameters, {len(read):,} texts of {sum(map(len, read)) / 1e6:.1f} MB, "
        f"dev loss {manifest['dev_loss'][0][1]:.3f} at step {manifest['dev_loss'][0][0]} to "
        f"{min(loss for _, loss in manifest['dev_loss']):.3f}, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return base.folder


def command(recipe: Path, runs: Path, attention: str, seed: int) -> list[str]:
    """One tagging run."""
    return [sys.executable, "-m", "medrecipes", "run", str(recipe), "--runs", str(runs), "--set",
            f"model.attention={attention}", "--set", f"seed={seed}", "--set", f"name={attention}-{seed}"]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a toy size, to try the script on a CPU")
    parser.add_argument("--jobs", type=int, default=6, help="runs at the same time (default: 6)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds for either attention (default: 3)")
    parser.add_argument("--steps", type=int, help="pre-training steps")
    parser.add_argument("--epochs", type=int, help="epochs of tagging")
    parser.add_argument("--rate", type=float, help="learning rate of tagging")
    parser.add_argument("--rank", type=int, default=64, help="rank of the adapters (default: 64)")
    parser.add_argument("--bits", type=int, default=16, choices=(4, 16), help="of the base's weights (default: 16)")
    parser.add_argument("--work", type=Path, help="where everything goes (default: a temporary folder)")
    arguments = parser.parse_args()
    if not os.environ.get("MEDRECIPES_DATA"):
        print("MEDRECIPES_DATA is not set; name the folder of the public files", file=sys.stderr)
        return 2
    data = Path(os.environ["MEDRECIPES_DATA"])
    work = arguments.work or Path(tempfile.mkdtemp(prefix="medrecipes-tagging-"))
    os.environ.setdefault("MEDRECIPES_CACHE", str(work / "cache"))
    tagged = work / "bc5cdr"
    tagged.mkdir(parents=True, exist_ok=True)
    for name in ("train.tsv", "devel.tsv", "test.tsv"):
        shutil.copy(data / "bc5cdr" / name, tagged / name)
        if arguments.quick:
            sentences = (tagged / name).read_text(encoding="utf-8").split("\n\n")[:60]
            (tagged / name).write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    started = time.monotonic()
    base = pretrain(data, arguments)
    recipe = work / "tagging.toml"
    recipe.write_text(
        RECIPE.format(
            base=base, bits=arguments.bits, data=tagged, rank=arguments.rank if not arguments.quick else 8,
            epochs=arguments.epochs or (2 if arguments.quick else 12), rate=arguments.rate or 1e-3,
        ),
        encoding="utf-8",
    )  # fmt: skip
    seeds = range(1, (1 if arguments.quick else arguments.seeds) + 1)
    waiting = [(attention, seed) for seed in seeds for attention in ("bidirectional", "causal")]
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed = []
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "2",
        "TOKENIZERS_PARALLELISM": "false",
    }
    while waiting or running:
        while waiting and len(running) < (1 if arguments.quick else arguments.jobs):
            attention, seed = waiting.pop(0)
            log = (work / f"{attention}-{seed}.log").open("wb")
            running[attention, seed] = subprocess.Popen(
                command(recipe, work / "runs", attention, seed), cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        for key, process in list(running.items()):
            if process.poll() is not None:
                del running[key]
                if process.returncode:
                    failed.append(key)
                    print((work / f"{key[0]}-{key[1]}.log").read_text()[-2000:], file=sys.stderr)
        time.sleep(0.2)
    print(f"tagged      {len(seeds) * 2 - len(failed)} runs, {time.monotonic() - started:.0f} s in all", flush=True)
    return 1 if failed else report(work / "runs", list(seeds))


def report(runs: Path, seeds: list[int]) -> int:
    """The table, and whether bidirectional attention beats both others."""
    found = {
        attention: [json.loads(next(runs.glob(f"{attention}-{seed}-*/eval/report.json")).read_text()) for seed in seeds]
        for attention in ("causal", "bidirectional")
    }
    rows = [["strict test F1", "mean", *(f"seed {seed}" for seed in seeds), "precision", "recall", *found["causal"][0]["support"]]]  # fmt: skip
    means = {}
    for attention, reports in found.items():
        values = [r["strict"]["micro"]["f1"]["value"] for r in reports]
        means[attention] = statistics.mean(values)
        more = [statistics.mean(r["strict"]["micro"][n]["value"] for r in reports) for n in ("precision", "recall")]
        more += [statistics.mean(r["strict"][t]["f1"]["value"] or 0 for r in reports) for t in reports[0]["support"]]
        rows.append([attention, *(f"{v:.4f}" for v in (means[attention], *values, *more))])
    dictionary = found["causal"][0]["dictionary"]
    means["dictionary"] = dictionary["micro"]["f1"]["value"]
    figures = [means["dictionary"], *(dictionary["micro"][n]["value"] for n in ("precision", "recall")),
               *(dictionary[t]["f1"]["value"] or 0 for t in found["causal"][0]["support"])]  # fmt: skip
    rows.append(["dictionary", f"{figures[0]:.4f}", *[""] * len(seeds), *(f"{v:.4f}" for v in figures[1:])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    best = found["bidirectional"][0]
    print(f"{best['rows']:,} test rows, intervals of seed {seeds[0]}: " + ", ".join(
        f"{name} [{r['strict']['micro']['f1']['low']:.3f}, {r['strict']['micro']['f1']['high']:.3f}]"
        for name, r in ((name, those[0]) for name, those in found.items())))  # fmt: skip
    beats = means["bidirectional"] > max(means["causal"], means["dictionary"])
    print(f"bidirectional attention {'beats' if beats else 'does NOT beat'} both others")
    return 0


if __name__ == "__main__":
    sys.exit(main())
