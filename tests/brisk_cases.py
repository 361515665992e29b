"""What tests/test_brisk.py asserts, worked out in a process of its own: Unsloth changes the library's classes for good."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from trl.trainer import utils

from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError
from medrecipes.engines.kernels import loss_head
from medrecipes.engines.trainer.async_logging import Brisk, light
from medrecipes.engines.trainer.callbacks import Progress
from medrecipes.runs.folder import LossLog, read_losses
from tests.together_cases import LogProbabilities

SHAPE: dict[str, Any] = {
    "vocab_size": 29, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64,
}  # fmt: skip
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


class Events(TrainerCallback):
    """What happened, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen.append(f"step {state.global_step}")

    def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.seen.append(f"log {state.global_step}")

    def on_save(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen.append(f"save {state.global_step}")


def trained(folder: Path, kind: Any, bad: int | None = None, **settings: Any) -> dict[str, Any]:
    """A training of seven steps of two micro-batches; in micro-batch number `bad` the loss is no number."""
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model.get_input_embeddings().weight.requires_grad = False
    rows = Dataset.from_list([{"number": i, "input_ids": [(7 * i + k) % 29 for k in range(9)]} for i in range(40)])
    events, seen = Events(), [0]
    log = LossLog(folder / "loss.csv")

    class Counting(kind):  # type: ignore[misc, valid-type]
        def training_step(self, model: Any, inputs: Any, *values: Any, **named: Any) -> Any:
            seen[0] += 1
            log.count(inputs.pop("number").tolist(), inputs["input_ids"].numel(), 1)
            loss = super().training_step(model, inputs, *values, **named)
            return loss * float("nan") if seen[0] == bad else loss

        def evaluate(self, *values: Any, **named: Any) -> dict[str, float]:
            events.seen.append(f"look {self.state.global_step}")
            return {}

    arguments = TrainingArguments(
        str(folder), max_steps=7, per_device_train_batch_size=2, gradient_accumulation_steps=2, report_to="none",
        disable_tqdm=True, use_cpu=True, remove_unused_columns=False, logging_nan_inf_filter=False, learning_rate=1e-2,
        **settings,
    )  # fmt: skip

    def collate(items: Any) -> dict[str, Any]:
        ids = torch.tensor([item["input_ids"] for item in items])
        return {"number": torch.tensor([item["number"] for item in items]), "input_ids": ids, "labels": ids.clone()}

    trainer = Counting(model=model, args=arguments, train_dataset=rows, eval_dataset=rows.select([0]), data_collator=collate, callbacks=[events])  # fmt: skip
    failed = None
    with Console.silent().bar("train", 7, 0) as bar, light(model):
        trainer.add_callback(Progress(log, bar, trainer.args.device, [f"row {i}" for i in range(40)], folder, lambda: getattr(trainer, "took", None)))  # fmt: skip
        try:
            trainer.train()
        except EngineError as error:
            failed = str(error)
    log.close()
    history = [{name: value for name, value in line.items() if name not in TIMES} for line in trainer.state.log_history]
    losses = [{**row, "tokens_per_second": float(row["tokens_per_second"]) > 0, "peak_gb": ""} for row in read_losses(folder / "loss.csv")]  # fmt: skip
    return {"history": history, "events": events.seen, "losses": losses, "failed": failed, "model": model}


def both(**settings: Any) -> list[dict[str, Any]]:
    """The library's trainer and ours."""
    found = []
    for kind in (Trainer, type("Ours", (Brisk, Trainer), {})):
        with tempfile.TemporaryDirectory() as name:
            said = trained(Path(name), kind, **settings)
            said["weights"] = sum(p.double().abs().sum().item() for p in said.pop("model").parameters())
            bad = Path(name) / "bad_rows.json"
            found.append({**said, "bad": json.loads(bad.read_text()) if bad.exists() else None})
    return found


def lightly() -> dict[str, Any]:
    """What is touched where a trainer asks for a mode and for no gradients, inside and behind."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    model[0].bias.requires_grad = False
    calls: list[bool] = []
    model[1].train = lambda mode=True: (calls.append(mode), type(model[1]).train(model[1], mode))[1]
    model[0].weight.grad = torch.ones(2, 2)
    found: dict[str, Any] = {}
    model[1].eval()  # as a base is that was just loaded, in a wrapper that is new
    calls.clear()
    with light(model):
        model.train()
        found["first"] = [*calls, model[1].training]
        model.train()
        found["again"] = len(calls)
        model.eval()
        found["other"] = [calls[-1], model[1].training, model.training]
        model.train()
        found["back"] = [calls[-1], model[1].training, model.training]
        for module in model.modules():  # as Unsloth does before it answers
            module.training = False
        model.train()
        found["by hand"] = [model[1].training, model.training]
        model.zero_grad()
        found["gradient"] = model[0].weight.grad is None
    found["behind"] = sorted(name for name in ("train", "zero_grad") if name in vars(model))
    return found


def heads() -> dict[str, Any]:
    """The loss and its gradients as TRL finds out what is learned, and told."""
    from peft import LoraConfig, get_peft_model

    utils._ChunkedLogProbFunction = LogProbabilities
    torch.manual_seed(0)
    base: Any = LlamaForCausalLM(LlamaConfig(**SHAPE)).double()
    utils.add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "up_proj"])).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    ids = torch.randint(0, 29, (2, 11))
    labels = ids.clone()
    labels[0, :4], labels[1, 8:] = -100, -100  # the second line's first word is a label that nothing stands before
    found: dict[str, Any] = {"places": loss_head.learned(labels).tolist()}

    def step(labels: torch.Tensor, **more: Any) -> list[Any]:
        model.zero_grad()
        out = model(input_ids=ids, labels=labels, use_cache=False, fused_lm_head=True, **more)
        figures = [float(out[name].sum()) for name in ("log_probs", "entropy", "is_top1", "label_mask")]
        (-out.log_probs.sum()).backward()
        return [*figures, *(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)]

    found["trl"] = step(labels)
    with loss_head.told(model):
        found["told"] = step(labels, learned=loss_head.learned(labels))
        found["not told"] = step(labels)
        nothing = torch.full_like(labels, -100)
        found["nothing"] = step(nothing, learned=loss_head.learned(nothing))
    found["behind"] = step(labels)
    return found


if __name__ == "__main__":
    cases = {
        "every step": {"logging_steps": 1, "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2},
        "every third": {"logging_steps": 3, "save_strategy": "no"},
        "no number": {"logging_steps": 1, "save_strategy": "no", "bad": 8},
    }
    said = {name: both(**settings) for name, settings in cases.items()}
    sys.stdout.write(json.dumps({**said, "light": lightly(), "heads": heads()}) + "\n")
