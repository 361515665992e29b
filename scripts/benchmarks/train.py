"""How fast and with how much memory a Mistral-7B-shaped base (random weights) trains on this GPU, setting by setting.

usage: scripts/bench train [--steps 12] [--only NAME[;NAME]] [--work FOLDER] [--tokenizer FOLDER]

Rows: 1,000 of WikiDoc and 1,000 of MedQuAD's genetics collection from MEDRECIPES_DATA, else the project's samples.
Every setting runs in a process of its own through medrecipes' own engines; the base is made and quantised once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PLAIN, UNSLOTH = "model.engine=trl", "model.engine=unsloth"
NOTEBOOK = ["train.micro_batch=2", "train.batch=8", "train.padding_free=false", "train.checkpointing=true"]
PACKED = ["train.packing=true", "train.micro_batch=4", "train.batch=4"]
WIDE = ["train.packing=true", "train.batch=16", "train.optim=adamw_torch_fused"]
ROWS = ["train.batch=8", "train.micro_batch=8", "train.optim=adamw_torch_fused"]
SETTINGS: dict[str, list[str]] = {
    "plain stack, as most notebooks": [PLAIN, *NOTEBOOK],
    "unsloth, reference notebook": [UNSLOTH, *NOTEBOOK],
    "unsloth, padding-free, 8 rows": [UNSLOTH, "train.batch=8", "train.micro_batch=8", "train.checkpointing=false"],
    "unsloth, packed 4 x 2,048, checkpointing": [UNSLOTH, *PACKED, "train.checkpointing=true"],
    "unsloth, packed 4 x 2,048, row by row": [UNSLOTH, *PACKED, "train.checkpointing=false"],
    "unsloth, packed 4 x 2,048": [UNSLOTH, *PACKED, "train.checkpointing=false"],
    "unsloth, packed 8 x 2,048, fused optimiser": [
        UNSLOTH,
        *WIDE,
        "train.micro_batch=8",
        "train.checkpointing=false",
    ],
    "unsloth, packed 4 x 2,048, half the layers again": [UNSLOTH, *PACKED, "train.checkpointing=16"],
    "library layers, packed 4 x 2,048, checkpointing": [
        PLAIN,
        *PACKED,
        "train.checkpointing=true",
        "lora.dropout=1e-9",
    ],
    "library layers, packed 4 x 2,048": [PLAIN, *PACKED, "train.checkpointing=false"],
    "default recipe: 8 padding-free rows": [PLAIN, *ROWS],
    "default recipe, launched one by one": [PLAIN, *ROWS],
    "default recipe, launched one by one, 8-bit optimiser": [PLAIN, *ROWS, "train.optim=adamw_8bit"],
    "packed 4 x 2,048": [PLAIN, *PACKED, "train.checkpointing=false"],
    "packed 4 x 2,048, fused optimiser": [PLAIN, *PACKED, "train.checkpointing=false", "train.optim=adamw_torch_fused"],
    "packed 8 x 2,048, fused optimiser": [PLAIN, *WIDE, "train.micro_batch=8", "train.checkpointing=false"],
    "packed 16 x 2,048, fused optimiser": [PLAIN, *WIDE, "train.micro_batch=16"],
    "packed, all left to the plan": [PLAIN, *WIDE],
    "packed, within 40 GB": [PLAIN, *WIDE, "train.memory_gb=40"],
    "packed, within 24 GB": [PLAIN, *WIDE, "train.memory_gb=24"],
    "packed, within 16 GB": [PLAIN, *WIDE, "train.memory_gb=16"],
    "packed, within 8 GB": [PLAIN, *WIDE, "train.memory_gb=8"],
    "packed, within 16 GB, fp16": [PLAIN, *WIDE, "train.memory_gb=15.6", "train.precision=fp16"],
    "unsloth, packed, within 16 GB": [UNSLOTH, *WIDE, "train.memory_gb=15.6"],
    "unsloth, packed, within 16 GB, fp16": [UNSLOTH, *WIDE, "train.memory_gb=15.6", "train.precision=fp16"],
    "unsloth, packed, within 16 GB, fp16, row by row": [
        UNSLOTH,
        *WIDE,
        "train.memory_gb=15.6",
        "train.precision=fp16",
    ],
    "unsloth, 1,024 tokens, within 8 GB": [UNSLOTH, *WIDE, "train.memory_gb=8", "data.max_tokens=1024"],
    "1,024 tokens, within 8 GB": [PLAIN, *WIDE, "train.memory_gb=8", "data.max_tokens=1024"],
}
SHAPE = {
    "vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "rope_theta": 1e6,
    "sliding_window": None, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def make_base(folder: Path, tokenizer: Path | None, kind: str = "Mistral", shape: dict[str, Any] = SHAPE) -> None:
    """Random weights in the shape of Mistral 7B or of another base, saved once in 4 bits."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**shape), dtype=torch.bfloat16)
    torch.set_default_dtype(torch.float32)
    with tempfile.TemporaryDirectory(dir=folder.parent) as whole:
        model.save_pretrained(whole)
        del model
        torch.cuda.empty_cache()
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=["lm_head"],
        )  # fmt: skip
        quantised = AutoModelForCausalLM.from_pretrained(whole, quantization_config=config, device_map={"": 0})
        quantised.save_pretrained(folder)
    copy_tokenizer(folder, tokenizer)


def copy_tokenizer(folder: Path, tokenizer: Path | None) -> None:
    """Put Mistral v0.3's tokenizer beside a base."""
    if tokenizer is None:
        sys.path.insert(0, str(ROOT))
        from tests.families import folder as maker_folder  # the maker's own, out of mistral-common

        tokenizer = maker_folder("mistral-v3")
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


def measure(
    settings: list[str], base: Path, work: Path, steps: int, *, profile: bool = False,
    change: Callable[[Any], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Train some steps and read what they took, the first ones (compilation, caches) left out; `change` sees the engine first."""
    from medrecipes.core.console import Console
    from medrecipes.data.split import prepare
    from medrecipes.engines import load_libraries, open_engine, plan, recipe_base
    from medrecipes.recipe.load import load
    from medrecipes.rendering.chat_template import ChatTemplate
    from medrecipes.rendering.overflow import fit
    from medrecipes.runs.folder import RunDir, read_losses

    overrides = [f"model.base='{base}'", "template.name=mistral-v3", "data.max_tokens=2048", "train.learning_rate=2e-4",
                 "train.optim=adamw_8bit", f"train.max_steps={steps}", "train.keep_best=last", "train.save_steps=100000",
                 "lora.alpha=16", *data(), *settings]  # fmt: skip
    if "row-by-row" in work.name:  # for comparison: as on a GPU without the kernel
        import torch

        os.environ["UNSLOTH_TORCH_VARLEN"] = "0"
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", overrides).recipe
    split = prepare(recipe)
    choice = load_libraries(recipe)
    opened = recipe_base(recipe, split)
    template = ChatTemplate(recipe.template.name, opened.tokenizer)
    examples = fit(template, split.train, recipe.data.max_tokens, "drop").examples
    if "library" in work.name:  # for comparison: as if the fused layers did not fit
        plan.unfit = lambda *_: "asked to"
    if "one by one" in work.name.replace("-", " "):  # for comparison: without recordings
        plan.waiting = lambda *_, **__: 0
    shutil.rmtree(work, ignore_errors=True)  # a run of this name that is there would be gone on with
    rundir = RunDir(work)
    rundir.path.mkdir(parents=True, exist_ok=True)
    engine = open_engine(recipe, opened, template, choice)
    if profile:
        _profile(engine, work)
    change(engine)
    stats = engine.train(examples, [], rundir, Console())
    rows = [r for r in read_losses(work / "loss.csv") if r["split"] == "train"][max(3, steps // 4) :]
    first = next(r for r in read_losses(work / "loss.csv") if r["split"] == "train")
    lengths = [len(e.input_ids) for e in examples]
    return {
        "tokens_per_second": statistics.median(float(r["tokens_per_second"]) for r in rows),
        "peak_gb": stats["peak_gb"],
        "first_s": float(first["tokens"]) / float(first["tokens_per_second"]),
        "loss": float(rows[-1]["loss"]),
        "proved": ", ".join(f"{name} {loss:.5f}" for name, loss in stats["proved"].items()),
        "rows": len(examples),
        "mean_tokens": round(statistics.mean(lengths)),
        "chosen": "; ".join(
            f"{name} {engine.choices[name]}"
            for name in ("attention", "layout", "layers", "micro_batch", "checkpointing", "weights", "launches")
            if name in engine.choices
        ),
    }


def _profile(engine: Any, work: Path) -> None:
    """Write what one step's time goes into, kernel by kernel, beside the log."""
    import torch
    from transformers import Trainer

    usual, seen = Trainer.training_step, [0]

    def step(self: Any, *values: Any, **named: Any) -> Any:
        seen[0] += 1
        if seen[0] != 9:
            return usual(self, *values, **named)
        torch.cuda.synchronize()
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        ) as profiler:
            loss = usual(self, *values, **named)
            torch.cuda.synchronize()
        table = "".join(
            profiler.key_averages().table(sort_by=f"self_{what}_time_total", row_limit=45, max_name_column_width=90)
            for what in ("cuda", "cpu")
        )
        (work / "profile.txt").write_text(table)
        return loss

    Trainer.training_step = step


def alone(file: str, arguments: list[str], work: Path, name: str, limit: int) -> dict[str, Any] | str:
    """What a benchmark measures in a process of its own, its output in a log of this name; or why it did not."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    log, command = work / f"{name}.log", [sys.executable, file, "--one", *arguments, "--work", str(work)]
    try:
        with log.open("w") as out:
            done = subprocess.run(command, stdout=out, stderr=out, env=environment, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"not done in {limit} s"
    if done.returncode:
        lines = log.read_text().strip().splitlines() or ["?"]
        return f"failed: {lines[-1][:120]}"
    found: dict[str, Any] = json.loads((work / "result.json").read_text())
    return found


def data() -> list[str]:
    """The rows to train on: real ones where they are at hand."""
    real = os.environ.get("MEDRECIPES_DATA")
    if not real:
        return [f"data.path='{ROOT / 'data' / 'medquad'}'", "data.split={train=1.0, dev=0.0, test=0.0}"]
    rows = Path(real) / "bench.jsonl"
    if not rows.exists():
        rows = make_rows(Path(real), Path(tempfile.gettempdir()) / "medrecipes-bench.jsonl")
    return [
        "data.source=jsonl",
        "data.columns={question='question', answer='answer'}",
        f"data.path='{rows}'",
        "data.split={train=1.0, dev=0.0, test=0.0}",
    ]


def make_rows(real: Path, out: Path) -> Path:
    """1,000 of WikiDoc and the first 1,000 answered of MedQuAD's genetics collection, as question and answer."""
    import csv
    import gzip

    rows: list[tuple[str, str]] = []
    with gzip.open(real / "wikidoc" / "medical_meadow_wikidoc.json.gz", "rt", encoding="utf-8") as file:
        rows += [(row["input"], row["output"]) for row in json.load(file)]
    with gzip.open(real / "medquad" / "medquad.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows += [(r["question"], r["answer"]) for r in csv.DictReader(file) if r["source"] == "GHR"][:1000]
    text = "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows if q and a)
    out.write_text(text, encoding="utf-8")
    return out


def matrix_rate() -> float:
    """The GPU's own bf16 matrix rate in TFLOP/s, on random numbers."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    started = time.monotonic()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.monotonic() - started) / 1e12


def main(argv: list[str] | None = None) -> None:
    """Run every setting and print the table."""
    parser = argparse.ArgumentParser(
        "scripts/bench train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", default="", help="a setting's name, or part of some; several with semicolons")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    parser.add_argument("--profile", action="store_true", help="also write what a step's time goes into")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    base = arguments.work / "base"
    if arguments.one:
        result = measure(
            SETTINGS[arguments.one],
            base,
            arguments.work / arguments.one.replace(" ", "-"),
            arguments.steps,
            profile=arguments.profile,
        )
        (arguments.work / "result.json").write_text(json.dumps(result))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not (base / "config.json").exists():
        base.mkdir(exist_ok=True)
        make_base(base, arguments.tokenizer)
    rate = matrix_rate()
    print(
        f"bf16 matrix products: {rate:.0f} TFLOP/s; 4 x 7.25e9 operations a token: {rate * 1e12 / 4 / 7.25e9:,.0f} tokens/s"
    )
    print("| setting | tokens/s | peak GB | chosen |\n| --- | --- | --- | --- |", flush=True)
    wanted = [w for w in arguments.only.split(";") if w]
    for name in SETTINGS:
        # a whole name is that setting, and not others that have it in theirs
        if wanted and not any(name == w if w in SETTINGS else w in name for w in wanted):
            continue
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--work",
            str(arguments.work),
            "--steps",
            str(arguments.steps),
            *(["--profile"] if arguments.profile else []),
        ]
        with (arguments.work / f"{name.replace(' ', '-')}.log").open("w") as log:
            done = subprocess.run(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            )
        if done.returncode:
            print(f"| {name} | failed, see {log.name} | | |", flush=True)
            continue
        result = json.loads((arguments.work / "result.json").read_text())
        print(
            f"| {name} | {result['tokens_per_second']:,.0f} | {result['peak_gb']:.1f} | {result['chosen']}; proved: {result['proved']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
