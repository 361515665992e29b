"""What tests/test_together.py asserts: the engine of one process or several trains and answers, `FOLDER CASE…`, on CPUs.

TRL's loss is a kernel for GPUs; its place is taken by the same in plain torch, and the look at the GPU's memory is left out.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
import trl
import trl.trainer.utils as trl_utils
from transformers import AutoModelForCausalLM

from medrecipes import engines
from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.data.split import prepare
from medrecipes.engines import Choice
from medrecipes.engines.answering_engine import LoadedBase
from medrecipes.engines.base_weights import attach, quantization
from medrecipes.engines.choices import Setting
from medrecipes.engines.multi_gpu.leader import follow, leading
from medrecipes.engines.multi_gpu.shared_loading import deal
from medrecipes.engines.trainer import chat
from medrecipes.recipe.load import load
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.overflow import fit
from medrecipes.runs.folder import RunDir, read_losses

RECIPE = (
    "train.batch=6", "train.max_steps=4", "train.eval_steps=2", "train.save_steps=2", "train.optim=adamw_torch",
    "train.sample_prompts=['What is asthma?']", "eval.max_new_tokens=5", "eval.batch=2", "data.max_tokens=256",
)  # fmt: skip


class LogProbabilities:
    """What TRL's kernel computes, in plain torch."""

    @staticmethod
    def apply(hidden: Any, weight: Any, bias: Any, labels: Any, *_: Any) -> tuple[Any, ...]:
        likely = torch.log_softmax((hidden @ weight.t().to(hidden.dtype)).float(), -1)
        entropy = -(likely.exp() * likely).sum(-1).detach()
        return likely.gather(-1, labels[:, None])[:, 0], entropy, None, None, (likely.argmax(-1) == labels).detach()


def main(folder: Path, cases: list[str]) -> None:
    trl_utils._ChunkedLogProbFunction = LogProbabilities
    chat.choose_setting = lambda *_, **__: Setting("flat", True, 3, 1, False)  # type: ignore[assignment]
    if processes.size() > 1:
        torch.distributed.init_process_group("gloo")
        trl.SFTConfig = functools.partial(trl.SFTConfig, ddp_backend="gloo")
    recipe = load("recipes/tiny_mistral.toml", RECIPE).recipe
    split = prepare(recipe)
    # the store builds for one, and the others wait
    engines.load_libraries = lambda recipe: Choice("trl", "a test")  # type: ignore[assignment]
    base = engines.recipe_base(recipe, split)
    template = ChatTemplate(recipe.template.name, base.tokenizer)
    train, dev = (fit(template, rows, 256, "drop").examples for rows in (split.train[:40], split.dev[:7]))
    prompts = template.prompts([row.prompt() for row in split.dev[:5]])
    weights, device = quantization(recipe, torch.float32), torch.device("cpu")

    def opened(case: str) -> chat.TrlEngine:
        shards = None
        if "shared" in case:
            model, shards = deal(base, torch.float32, weights, device)
        else:
            model = AutoModelForCausalLM.from_pretrained(
                base.name, dtype=torch.float32, quantization_config=weights, device_map={"": "cpu"}, attn_implementation="sdpa"
            )  # fmt: skip
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        choices = {"precision": Choice("fp32", "a test")}
        return chat.TrlEngine(recipe, base, template, LoadedBase("trl", model, torch.float32, choices, shards), attach)

    for case in cases:
        engine, rundir = opened(case), RunDir(folder / case, writes=processes.leads())
        said: dict[str, Any] = {}
        if processes.leads():
            rundir.path.mkdir(exist_ok=True)
            with leading(engine) as led:
                said["before"] = list(led.generate(prompts)), led.answer_nats(dev)
                stats = led.train(train, dev, rundir, Console.silent())
                said["after"] = list(led.generate(prompts)), led.answer_nats(dev)
                led.save(rundir.adapter)
        else:
            follow(engine, functools.partial(engine.train, train, dev, rundir, Console.silent()))
        engine = opened(case)  # the finished run, by whom it may concern
        engine.open_adapter(rundir.adapter)
        if not processes.leads():
            follow(engine)
            continue
        with leading(engine) as led:
            with led.base():
                said["base again"] = list(led.generate(prompts)), led.answer_nats(dev)
            said["again"] = list(led.generate(prompts)), led.answer_nats(dev)
        said["losses"] = [[row["split"], int(row["step"]), float(row["loss"])] for row in read_losses(rundir.path / "loss.csv")]  # fmt: skip
        said["samples"] = (rundir.path / "samples.jsonl").read_text().splitlines()
        said |= {"best": stats["best_step"], "parameters": stats["parameters"], "peaks": stats.get("peak_gb_of_each_gpu"), "proved": stats["proved"]}  # fmt: skip
        (folder / f"{case}.json").write_text(json.dumps(said))
    processes.part()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
