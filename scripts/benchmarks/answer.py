"""How fast a base answers on this GPU: continuous batching over CUDA graphs against transformers' plain `generate`.

usage: scripts/bench answer [--rows 8,64,256] [--new 128] [--base FOLDER] [--work FOLDER] [--tokenizer FOLDER] [--only NAME,...]
                            [--as-t4]

Real questions (MedQuAD and WikiDoc from MEDRECIPES_DATA, else the project's samples) to a Mistral-7B-shaped base of
random weights, or to --base. All ways run in one process, each twice, and the second is counted: kernels are compiled
by then. `plain` is the base in 16 bits; `ours` holds it in 4 bits and decodes it once; `undecoded` does not, as on a GPU
of 16 GB; `before` is what medrecipes did until it had a generation engine: the library's generate, 4 bits, 8 rows.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
WAYS = ("plain", "ours", "ours with adapter", "undecoded", "library layers", "before")


def timed(work: Callable[[], Sequence[Sequence[int]]]) -> tuple[float, float, list[list[int]]]:
    """Seconds of a first and of a second time, and the answers."""
    import torch

    seconds = []
    for _ in range(2):
        gc.collect()
        torch.cuda.synchronize()
        began = time.monotonic()
        answers = [list(answer) for answer in work()]
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    return seconds[0], seconds[1], answers


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        "scripts/bench answer", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", default="8,64,256")
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--base", help="a base in place of the one of random weights")
    parser.add_argument("--template", default="mistral-v3")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--engine", default="trl")
    parser.add_argument(
        "--as-t4", action="store_true", help="fp16, neither flash nor cuDNN attention, 15.6 GB, on whatever GPU this is"
    )
    arguments = parser.parse_args()
    from train import data, make_base

    from medrecipes.recipe.load import load

    base = arguments.base or str(arguments.work / "base-7b")
    if not arguments.base and not (Path(base) / "config.json").exists():
        Path(base).mkdir(parents=True)
        make_base(Path(base), arguments.tokenizer)
    named = [f"template.name={arguments.template}"] if arguments.template else []
    sets = [
        f"model.base='{base}'",
        f"model.engine={arguments.engine}",
        *named,
        "data.max_tokens=2048",
        *data(),
        "lora.alpha=16",
        *(["train.precision=fp16", "train.memory_gb=15.6"] if arguments.as_t4 else []),
    ]
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", sets).recipe
    import torch

    if arguments.as_t4:
        torch.backends.cuda.is_flash_attention_available = lambda: False
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    from medrecipes.data.split import prepare
    from medrecipes.engines import Decoding, foundation, generation, open_engine
    from medrecipes.engines.lora import begin

    split = prepare(recipe)
    choice, opened, template = foundation(recipe, split)
    engine: Any = open_engine(recipe, opened, template, choice)
    rows = [*split.test, *split.dev, *split.train]
    prompts = template.prompts(row.prompt() for row in rows)
    counts, asked = [int(n) for n in arguments.rows.split(",")], arguments.only.split(",")
    greedy = Decoding(arguments.new, 0.0, 1.0, 1.0, 0)
    table = []
    references: dict[tuple[str, int], list[list[int]]] = {}

    def note(way: str, count: int, work: Callable[[], Sequence[Sequence[int]]], like: str = "") -> None:
        torch.cuda.reset_peak_memory_stats()
        first, second, answers = timed(work)
        tokens = sum(map(len, answers))
        same = ""
        if reference := references.get((like, count)):
            shared = sum(
                next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y)))
                for x, y in zip(answers, reference, strict=True)
            )
            same = f"{shared / max(1, sum(map(len, reference))):.0%} of tokens before the first that differs"
        references[way, count] = answers
        peak = torch.cuda.max_memory_allocated() / 1e9
        table.append((way, count, tokens, first, second, tokens / second, peak, same))
        print(
            f"{way:18} {count:4} rows {tokens:6} tokens, first {first:6.2f} s, then {second:6.2f} s, {tokens / second:8,.0f} tokens/s, {peak:5.1f} GB {same} {engine.choices.get('answers', '')}",
            flush=True,
        )

    def library(model: Any, count: int, batch: int) -> list[list[int]]:
        return list(generation.generate(model, template, prompts[:count], greedy, generation.AtOnce(batch, engine.dtype)))

    from medrecipes.engines.generation import batch as batching

    usual = batching.Generator._decodes, batching.fits_fused
    if "plain" in asked:
        from transformers import AutoModelForCausalLM

        config = engine.model.config.__class__(
            **{k: v for k, v in engine.model.config.to_dict().items() if k != "quantization_config"}
        )
        with torch.device("cuda"):
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        for count in counts:
            note("plain", count, lambda count=count: library(plain, count, count))
        del plain
        torch.cuda.empty_cache()
    engine.model.eval()
    for count in counts:
        if "ours" in asked:
            note("ours", count, lambda count=count: list(engine._answers(prompts[:count], greedy)))
        if "undecoded" in asked:
            batching.Generator._decodes = lambda self: False  # type: ignore[method-assign]
            note("undecoded", count, lambda count=count: list(engine._answers(prompts[:count], greedy)), "ours")
            batching.Generator._decodes = usual[0]  # type: ignore[method-assign]
        if "library layers" in asked:
            batching.fits_fused = lambda *_: False
            note("library layers", count, lambda count=count: list(engine._answers(prompts[:count], greedy)), "ours")
            batching.fits_fused = usual[1]
    if "before" in asked:
        note("before", min(32, max(counts)), lambda: library(engine.model, min(32, max(counts)), 8), "ours")
    if "ours with adapter" in asked:
        engine.model = engine._attach(engine.model, recipe, recomputed=0)
        begin(engine.model, 1)
        engine.model.eval()
        for count in counts:
            note("ours with adapter", count, lambda count=count: list(engine._answers(prompts[:count], greedy)), "ours")
    print()
    for way, count, tokens, first, second, rate, peak, same in table:
        print(f"| {way} | {count} | {tokens} | {first:.2f} | {second:.2f} | {rate:,.0f} | {peak:.1f} | {same} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
