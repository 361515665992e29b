"""A base that no GPU can hold, shared among several: 70 billion parameters in 4 bits, each GPU kept to --limit-gb.

usage: scripts/bench shared [--gpus 4] [--limit-gb 24] [--steps 6] [--work FOLDER] [--tokenizer FOLDER]

Random weights in the shape of Llama 2 70B, made on the GPU and written as a published 4-bit base (36 GB); packed rows of
2,048 tokens. First one GPU alone is asked, which must refuse; then all train and answer, and say what each held at most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
SHAPE = {
    "vocab_size": 32768, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 4096, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def make_base(folder: Path, tokenizer: Path | None) -> None:
    """Write a layer at a time, so that neither the GPU nor memory holds more."""
    import torch
    from bitsandbytes.functional import quantize_4bit
    from safetensors.torch import save_file
    from transformers import BitsAndBytesConfig, LlamaConfig

    from medrecipes.engines.plan.dimensions import Shape

    config = LlamaConfig(**SHAPE, dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.quantization_config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=["lm_head"],
    ).to_dict()  # fmt: skip
    config.save_pretrained(folder)
    torch.manual_seed(0)

    def random(rows: int, columns: int) -> torch.Tensor:
        return torch.empty((rows, columns), dtype=torch.bfloat16, device="cuda").normal_(0, 0.02)

    hidden, vocabulary = SHAPE["hidden_size"], SHAPE["vocab_size"]
    one = torch.ones(hidden, dtype=torch.bfloat16)
    ends = {name: random(vocabulary, hidden).cpu() for name in ("model.embed_tokens.weight", "lm_head.weight")}
    where = {}

    def write(name: str, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, folder / name, metadata={"format": "pt"})

    with ThreadPoolExecutor(8) as writers:
        jobs = []

        def add(name: str, tensors: dict[str, torch.Tensor]) -> None:
            where.update(dict.fromkeys(tensors, name))
            jobs.append(writers.submit(write, name, tensors))
            if len(jobs) > 8:
                jobs.pop(0).result()

        add("ends.safetensors", {**ends, "model.norm.weight": one})
        for number in range(SHAPE["num_hidden_layers"]):
            layer = f"model.layers.{number}"
            tensors = {f"{layer}.{norm}_layernorm.weight": one.clone() for norm in ("input", "post_attention")}
            for module, (inputs, outputs) in Shape.of({**SHAPE, "model_type": "llama"}).modules.items():
                part = "self_attn" if module[0] in "qkvo" else "mlp"
                packed, state = quantize_4bit(random(outputs, inputs), compress_statistics=True, quant_type="nf4")
                name = f"{layer}.{part}.{module}.weight"
                tensors[name] = packed.cpu()
                tensors |= {f"{name}.{key}": value.cpu() for key, value in state.as_dict(packed=True).items()}
            add(f"layer-{number}.safetensors", tensors)
        for job in jobs:
            job.result()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    from train import copy_tokenizer

    copy_tokenizer(folder, tokenizer)


def main(argv: list[str] | None = None) -> int:
    """Make the base, let one GPU refuse it, and train on all."""
    parser = argparse.ArgumentParser(
        "scripts/bench shared", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--limit-gb", type=float, default=24)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    parser.add_argument("--only-make", action="store_true", help="make the base and stop")
    arguments = parser.parse_args(argv)
    from multi_gpu import read
    from train import data

    base = arguments.work / "base-70b"
    if not (base / "tokenizer.json").exists():
        base.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        make_base(base, arguments.tokenizer)
        size = sum(file.stat().st_size for file in base.glob("*.safetensors")) / 1e9
        print(f"made {size:.1f} GB of weights in {time.monotonic() - started:.0f} s", flush=True)
    if arguments.only_make:
        return 0
    settings = [
        f"model.base='{base}'", "model.engine=trl", "template.name=mistral-v3", "data.max_tokens=2048", *data(),
        "data.split={train=0.96, dev=0.02, test=0.02}", "train.packing=true", "train.batch=8",
        f"train.memory_gb={arguments.limit_gb:g}", "train.optim=adamw_8bit", "train.keep_best=last",
        f"train.max_steps={arguments.steps}", "train.eval_steps=1000", "train.learning_rate=2e-4",
        "train.save_steps=1000", "eval.rows=4", "eval.max_new_tokens=4", "lora.alpha=16",
    ]  # fmt: skip
    for count in (1, arguments.gpus):
        folder = arguments.work / f"shared-{count}"
        sets = [word for value in settings for word in ("--set", value)]
        command = [sys.executable, "-m", "medrecipes", "run", "recipes/tiny_mistral.toml", "--runs", str(folder), *sets, "--gpus", str(count)]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "4"}
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        (arguments.work / f"shared-{count}.log").write_text(done.stdout + done.stderr)
        if count == 1:
            print(f"one GPU of {arguments.limit_gb:g} GB: exit {done.returncode}: {done.stderr.strip().splitlines()[-1]}", flush=True)  # fmt: skip
            continue
        if done.returncode:
            print("\n".join((done.stdout + done.stderr).splitlines()[-25:]))
            return 1
        rows, [run] = read(folder), folder.glob("*/run.json")
        stats = json.loads((run.parent / "trainer_stats.json").read_text())
        rate = statistics.median(float(row["tokens_per_second"]) for row in rows[2:])
        for name, choice in json.loads(run.read_text())["choices"].items():
            print(f"{name}: {choice['value']} ({choice['reason']})")
        print(f"{count} GPUs: {rate:,.0f} tokens/s, loss {float(rows[0]['loss']):.3f} to {float(rows[-1]['loss']):.3f} in {len(rows)} steps")  # fmt: skip
        steps = ", ".join(f"{float(row['tokens_per_second']):,.0f}" for row in rows)
        print(f"tokens/s of each step: {steps}; the GPU's memory tidied {stats['allocation_retries']} times")
        print(f"peak GB of each GPU: {', '.join(map(str, stats['peak_gb_of_each_gpu']))}; {time.monotonic() - started:.0f} s in all")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
