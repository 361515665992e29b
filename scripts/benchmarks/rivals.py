"""Our fused layers against what else trains LoRA on a frozen base, in one call: same rows, same packs, same adapter.

usage: scripts/bench rivals [--shapes mistral-7b,qwen3-8b,gemma3-4b] [--ways ours,library,...] [--rows packed,eight]
                            [--steps 12] [--limit 180] [--work FOLDER] [--tokenizer FOLDER]

Shapes are of real bases, with random weights in 4 bits. Ways:
  ours      the fused layers
  fp8       the same, the frozen matrices multiplied in 8-bit floats
  library   transformers' layers with TRL, PEFT and torch's variable-length attention
  liger     the same with Liger's kernels
  kernels   the same with transformers' use_kernels, which fetches kernels from the Hub (for these families, Liger's again)
  compiled  the same, each decoder layer compiled by torch
  unsloth   Unsloth's layers at their best: padding-free, nothing recomputed where memory allows
Rows: `packed` to 2,048 tokens, sixteen packs a step; `eight` rows a step, as the recipes have it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

COMMON = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral-7b": ("Mistral", {
        "vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "sliding_window": None,
        "tie_word_embeddings": False,
    }),
    "llama3-8b": ("Llama", {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "tie_word_embeddings": False,
    }),
    "qwen3-8b": ("Qwen3", {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    }),
    "gemma3-4b": ("Gemma3Text", {
        "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
        "query_pre_attn_scalar": 256, "max_position_embeddings": 32768,
    }),
    "gemma3-270m": ("Gemma3Text", {
        "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512,
        "query_pre_attn_scalar": 256, "max_position_embeddings": 32768,
    }),
    "gemma2-9b": ("Gemma2", {
        "vocab_size": 256000, "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "sliding_window": 4096,
        "query_pre_attn_scalar": 256, "max_position_embeddings": 8192,
    }),
}  # fmt: skip
WAYS = {
    "ours": ["model.engine=trl"], "fp8": ["model.engine=trl", "train.compute=fp8"], "library": ["model.engine=trl"], "liger": ["model.engine=trl"],
    "kernels": ["model.engine=trl"], "compiled": ["model.engine=trl"], "unsloth": ["model.engine=unsloth", "train.checkpointing=false"],
}  # fmt: skip
ROWS = {
    "packed": ["train.packing=true", "train.batch=16", "train.optim=adamw_torch_fused"],
    "eight": ["train.batch=8", "train.optim=adamw_torch_fused"],
}


def prepare(way: str) -> Any:
    """What is done to the engine before it trains, or to the libraries before it is opened."""
    from medrecipes.engines import plan
    from medrecipes.engines.kernels import fused_layer
    from medrecipes.engines.opening import without_peft

    if way in ("library", "liger", "kernels", "compiled"):
        plan.unfit = lambda *_, **__: "asked to"
    if way == "liger":
        import liger_kernel.transformers.monkey_patch as liger

        known = liger.MODEL_TYPE_TO_APPLY_LIGER_FN
        for apply in {known[name] for name in ("mistral", "llama", "qwen3", "gemma3_text", "gemma2") if name in known}:
            apply(fused_linear_cross_entropy=False, cross_entropy=False)

    def change(engine: Any) -> None:
        if way == "kernels":
            without_peft(engine.model).use_kernels = True
        if way == "compiled":
            for layer in fused_layer.decoder(engine.model).layers:
                layer.compile(dynamic=True)

    return change


def main(argv: list[str] | None = None) -> int:
    """Train each shape each way and print the table."""
    parser = argparse.ArgumentParser(
        "scripts/bench rivals", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shapes", default="mistral-7b,qwen3-8b,gemma3-4b")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rows", default="packed,eight")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--limit", type=int, default=180, help="seconds that a way may take, its start included")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    from train import alone, make_base, matrix_rate, measure

    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        shape, way, rows = arguments.one
        work = arguments.work / "-".join(arguments.one)
        result = measure([*WAYS[way], *ROWS[rows]], arguments.work / shape, work, arguments.steps, change=prepare(way))
        (arguments.work / "result.json").write_text(json.dumps(result))
        return 0
    rate = matrix_rate()
    print(f"bf16 matrix products: {rate:.0f} TFLOP/s\n", flush=True)
    print("| shape | rows | way | tokens/s | of the ceiling | peak GB | chosen |\n| --- | --- | --- | ---: | ---: | ---: | --- |", flush=True)  # fmt: skip
    for shape in arguments.shapes.split(","):
        base = arguments.work / shape
        if not (base / "tokenizer.json").exists():
            base.mkdir(exist_ok=True)
            kind, settings = SHAPES[shape]
            make_base(base, arguments.tokenizer, kind, COMMON | settings)
        from medrecipes.engines.plan.dimensions import Shape

        config = json.loads((base / "config.json").read_text())
        read = Shape.of(config)
        ceiling = rate * 1e12 / (4 * (read.computed + read.head))
        for rows in arguments.rows.split(","):
            for way in arguments.ways.split(","):
                steps = ["--steps", str(arguments.steps)]
                result = alone(__file__, [shape, way, rows, *steps], arguments.work, f"{shape}-{way}-{rows}", arguments.limit)  # fmt: skip
                if isinstance(result, str):
                    print(f"| {shape} | {rows} | {way} | {result} | | | |", flush=True)
                    continue
                pace = result["tokens_per_second"]
                print(
                    f"| {shape} | {rows} | {way} | {pace:,.0f} | {pace / ceiling:.0%} | {result['peak_gb']:.1f} | "
                    f"first step {result['first_s']:.0f} s; {result['chosen']} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
