"""Long rows on one GPU: a base of Mistral 7B's shape (random weights, 4 bits) trained on real conversations of 8,192 tokens and more.

usage: scripts/bench long [--tokens 8192,16384,32768] [--limits none,24] [--ways ours,unsloth] [--steps 8] [--work FOLDER]
                          [--tokenizer FOLDER] [--limit 240]

A row is a conversation of many turns: real questions and answers of MedQuAD and WikiDoc from MEDRECIPES_DATA, one after the
other, until no more fits. A step is as many rows as make 32,768 tokens. Limits are GB of `train.memory_gb`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

STEP = 32_768  # tokens
WAYS = {
    "ours": ["model.engine=trl"],
    "fp8": ["model.engine=trl", "train.compute=fp8"],
    "unsloth": ["model.engine=unsloth"],
}


def make(rows: Path, tokenizer: Path, tokens: int, count: int, out: Path) -> None:
    """Write conversations that a template of Mistral's renders in at most so many tokens, and nearly so many."""
    from tokenizers import Tokenizer

    counter = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    pairs = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    sizes = [len(one.ids) for one in counter.encode_batch([f"{p['question']}\n{p['answer']}" for p in pairs])]
    messages: list[dict[str, str]] = []
    held = written = turn = 0
    with out.open("w", encoding="utf-8") as file:
        while written < count:
            pair, size = pairs[turn % len(pairs)], sizes[turn % len(pairs)] + 12  # what a turn is wrapped in
            turn += 1
            if size > tokens // 2:
                continue
            if held + size > tokens:
                file.write(json.dumps({"messages": messages}) + "\n")
                messages, held, written = [], 0, written + 1
            messages += [
                {"role": "user", "content": pair["question"]},
                {"role": "assistant", "content": pair["answer"]},
            ]
            held += size


def main(argv: list[str] | None = None) -> int:
    """Train with each length, each way and each limit, and print the table."""
    parser = argparse.ArgumentParser(
        "scripts/bench long", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", default="8192,16384,32768")
    parser.add_argument("--limits", default="none,24")
    parser.add_argument("--ways", default="ours")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--limit", type=int, default=240, help="seconds that one training may take, its start included")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "medrecipes-bench")
    parser.add_argument("--tokenizer", type=Path, help="a folder with Mistral v0.3's tokenizer.json")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    from train import alone, copy_tokenizer, data, make_base, matrix_rate, measure

    base = arguments.work / "base"
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        tokens, way, limit = arguments.one
        rows = arguments.work / f"rows-{tokens}.jsonl"
        settings = [
            *WAYS[way], f"data.path='{rows}'", "data.columns={messages='messages'}", f"data.max_tokens={tokens}",
            f"train.batch={STEP // int(tokens)}", "train.packing=true", "train.optim=adamw_torch_fused",
            *([] if limit == "none" else [f"train.memory_gb={limit}"]),
        ]  # fmt: skip
        result = measure(settings, base, arguments.work / "-".join(("long", tokens, way, limit)), arguments.steps)
        (arguments.work / "result.json").write_text(json.dumps(result))
        return 0
    if not (base / "config.json").exists():
        base.mkdir(exist_ok=True)
        make_base(base, arguments.tokenizer)
    copy_tokenizer(base, arguments.tokenizer)
    pairs = Path(next(value for value in data() if value.startswith("data.path=")).split("=", 1)[1].strip("'"))
    print(f"bf16 matrix products: {matrix_rate():.0f} TFLOP/s\n", flush=True)
    print("| tokens a row | way | limit | tokens/s | peak GB | chosen |\n| ---: | --- | --- | ---: | ---: | --- |", flush=True)  # fmt: skip
    for tokens in arguments.tokens.split(","):
        make(pairs, base, int(tokens), arguments.steps * STEP // int(tokens), arguments.work / f"rows-{tokens}.jsonl")
        for way in arguments.ways.split(","):
            for limit in arguments.limits.split(","):
                name, shown = f"long-{tokens}-{way}-{limit}", "all" if limit == "none" else f"{limit} GB"
                result = alone(__file__, [tokens, way, limit, "--steps", str(arguments.steps)], arguments.work, name, arguments.limit)  # fmt: skip
                if isinstance(result, str):
                    print(f"| {tokens} | {way} | {shown} | {result} | | |", flush=True)
                    continue
                print(
                    f"| {tokens} | {way} | {shown} | {result['tokens_per_second']:,.0f} | {result['peak_gb']:.1f} | "
                    f"{result['mean_tokens']} tokens a row; {result['chosen']} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
