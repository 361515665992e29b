"""What both engines share: TRL's trainer fed with finished ids and labels, its log, its checkpoints, and answering."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerFast, TrainerCallback, set_seed

from medrecipes.bases import Base
from medrecipes.console import Bar, Console
from medrecipes.engines import Choice
from medrecipes.errors import EngineError, did_you_mean
from medrecipes.recipe import Recipe
from medrecipes.rendering import MASKED, ChatTemplate, Example, generation_config, save_tokenizer
from medrecipes.rundir import LossLog, RunDir, last_checkpoint
from medrecipes.scoring.text import bits
from medrecipes.store import write_json, writing

Attach = Callable[..., Any]
BEST = "bits_per_byte"


def choose_precision(recipe: Recipe) -> tuple[Choice, torch.dtype]:
    """The number format of the computation."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if recipe.train.precision != "auto":
        return Choice(recipe.train.precision, "the recipe says so"), dtypes[recipe.train.precision]
    if not torch.cuda.is_available():
        return Choice("fp32", "a CPU gains nothing from half precision at this size"), torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("bf16", "the card computes it natively"), torch.bfloat16
    return Choice("fp16", "the card has no native bf16"), torch.float16


def match_targets(model: Any, targets: Sequence[str]) -> None:
    """Raise for a target that names no linear layer of the model."""
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for target in targets:
        if target not in names:
            raise EngineError(f"lora.targets: {target!r} matches no module of this base{did_you_mean(target, names)}")


class TrlEngine:
    """A loaded base with, once trained or opened, its adapter."""

    def __init__(
        self, name: str, recipe: Recipe, base: Base, template: ChatTemplate, model: Any, dtype: torch.dtype,
        choices: dict[str, Choice], attach: Attach,
    ) -> None:  # fmt: skip
        self.name, self.recipe, self._base, self.template, self.model, self.dtype = (
            name, recipe, base, template, model, dtype,
        )  # fmt: skip
        self.choices, self._attach = choices, attach
        self.device = next(model.parameters()).device
        match_targets(model, recipe.lora.targets)
        optim = recipe.train.optim
        if self.device.type == "cpu" and any(word in optim for word in ("8bit", "paged", "bnb")):
            raise EngineError(f"train.optim = {optim!r} needs a GPU; on a CPU set train.optim = 'adamw_torch_fused'")

    def train(
        self, train: Sequence[Example], dev: Sequence[Example], rundir: RunDir, console: Console
    ) -> dict[str, Any]:
        """Attach an adapter, train it (or go on from the last checkpoint) and keep the best by the dev rows."""
        from trl import SFTConfig, SFTTrainer

        recipe = self.recipe
        set_seed(recipe.seed)
        on_cpu = self.device.type == "cpu"
        checkpointing = self._choose_checkpointing()
        micro_batch = self._choose_micro_batch()
        self.model = self._attach(self.model, recipe, checkpointing=checkpointing)
        resume = last_checkpoint(rundir.checkpoints)
        resumed_from = int(resume.name.rsplit("-", 1)[1]) if resume else None
        arguments = SFTConfig(
            output_dir=str(rundir.checkpoints),
            num_train_epochs=recipe.train.epochs,
            max_steps=recipe.train.max_steps or -1,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=recipe.train.batch // micro_batch,
            learning_rate=recipe.train.learning_rate,
            lr_scheduler_type=recipe.train.scheduler,
            warmup_steps=recipe.train.warmup_steps,
            weight_decay=recipe.train.weight_decay,
            max_grad_norm=recipe.train.max_grad_norm,
            optim=recipe.train.optim,
            seed=recipe.seed,
            data_seed=recipe.seed,
            bf16=self.dtype == torch.bfloat16 and not on_cpu,
            fp16=self.dtype == torch.float16 and not on_cpu,
            use_cpu=on_cpu,
            gradient_checkpointing=checkpointing,
            logging_steps=recipe.train.logging_steps,
            logging_nan_inf_filter=False,
            eval_strategy="steps" if dev else "no",
            eval_steps=recipe.train.eval_steps,
            eval_on_start=bool(dev) and resume is None,  # where the curve comes from
            save_strategy="steps",
            save_steps=recipe.train.save_steps,
            save_total_limit=2,
            load_best_model_at_end=bool(dev),
            metric_for_best_model=BEST if dev else None,
            greater_is_better=False if dev else None,
            report_to="none",
            disable_tqdm=True,
            max_length=None,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        engine = self
        log = LossLog(rundir.path / "loss.csv", resumed_from or 0)

        class Trainer(SFTTrainer):
            """TRL's trainer, counting tokens and judging the dev rows by the measure of the report."""

            def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                log.tokens += int(inputs["attention_mask"].sum())
                log.supervised_tokens += int((inputs["labels"] != MASKED).sum())
                return super().training_step(model, inputs, *args, **kwargs)

            def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
                training = self.model.training
                self.model.eval()
                nats = engine._nats(dev)
                self.model.train(training)
                metrics = {
                    # the same tokens as the training loss, stop tokens included
                    "eval_loss": sum(text + end for text, end in nats) / sum(e.supervised for e in dev),
                    f"eval_{BEST}": bits(sum(text for text, _ in nats)) / sum(len(e.answer.encode()) for e in dev),
                }
                self.log(metrics)
                control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
                self.control: Any = control
                return metrics

        trainer = Trainer(
            model=self.model,
            args=arguments,
            train_dataset=Dataset.from_dict(
                {"input_ids": [e.input_ids for e in train], "labels": [e.labels for e in train]}
            ),
            eval_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}) if dev else None,
            processing_class=self._processing_class(),
            data_collator=self._collate,
        )
        # in half precision a resumed run would differ: trl casts these weights down, a reload does not
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        rundir.update(state="training", resumed_from_step=resumed_from)
        steps = recipe.train.max_steps or math.ceil(recipe.train.epochs * math.ceil(len(train) / recipe.train.batch))
        with console.bar("train", steps, resumed_from or 0) as bar:
            trainer.add_callback(_Progress(log, bar, self.device))
            try:
                with writing(rundir.checkpoints):
                    output = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            finally:
                log.close()
        self.model.eval()
        return {
            **output.metrics,
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step or trainer.state.global_step,
            f"best_{BEST}": trainer.state.best_metric,
            "tokens": log.tokens,
            "supervised_tokens": log.supervised_tokens,
            "trainable_parameters": sum(_count(p) for p in self.model.parameters() if p.requires_grad),
            "parameters": sum(map(_count, self.model.parameters())),
            "peak_gb": peak_gb(self.device),
        }

    def _processing_class(self) -> Any:
        """The base's tokenizer as TRL wants to hold it; it is never asked to render anything."""
        tokenizer = self.template.tokenizer
        named = {**tokenizer.named, "pad_token": tokenizer.pad[0]}
        return PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.folder / "tokenizer.json"), **named)

    def _choose_checkpointing(self) -> bool:
        wanted = self.recipe.train.checkpointing
        if wanted != "auto":
            choice = Choice(wanted, "the recipe says so")
        elif self.device.type == "cpu":
            choice = Choice(False, "a CPU has memory to spare and no time")
        else:
            choice = Choice(True, "the safe choice on a card")
        self.choices["checkpointing"] = choice
        return bool(choice.value)

    def _choose_micro_batch(self) -> int:
        wanted, batch = self.recipe.train.micro_batch, self.recipe.train.batch
        if wanted != "auto":
            choice = Choice(wanted, "the recipe says so")
        elif self.device.type == "cpu":
            choice = Choice(batch, "a CPU has memory to spare")
        else:
            choice = Choice(next(size for size in (4, 2, 1) if batch % size == 0), "the safe choice on a card")
        self.choices["micro_batch"] = choice
        return int(choice.value)

    def _collate(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Rows to tensors, padded on the right; ids and labels go through as they were rendered."""
        longest = max(len(row["input_ids"]) for row in rows)
        _, pad = self.template.tokenizer.pad

        def padded(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

        mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows])
        return {"input_ids": padded("input_ids", pad), "labels": padded("labels", MASKED), "attention_mask": mask}

    def base(self) -> AbstractContextManager[None]:
        """Inside, the model answers as the base does."""
        if hasattr(self.model, "disable_adapter"):
            context: AbstractContextManager[None] = self.model.disable_adapter()
            return context
        return nullcontext()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.no_grad():
            if self.device.type == "cuda" and self.dtype != torch.float32:
                with torch.autocast("cuda", self.dtype):
                    yield
            else:
                yield

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Greedy answers, a batch of similar length at a time, handed out in the order of the prompts."""
        stops = set(self.template.stop_ids)
        _, pad = self.template.tokenizer.pad
        config = GenerationConfig(
            max_new_tokens=self.recipe.eval.max_new_tokens, do_sample=False, num_beams=1,
            eos_token_id=self.template.stop_ids, pad_token_id=pad, bos_token_id=self.template.tokenizer.bos,
        )  # fmt: skip
        size = self.recipe.eval.batch
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            longest = max(map(len, batch))
            ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in batch], device=self.device)
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch], device=self.device)
            with self._inference():
                output = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
            for row in output[:, longest:].tolist():
                end = next((i for i, id in enumerate(row) if id in stops), None)
                yield row[: end + 1] if end is not None else row

    def answer_nats(self, examples: Sequence[Example]) -> list[float]:
        """The negative log-likelihood of each row's answer text."""
        return [text for text, _ in self._nats(examples)]

    def _nats(self, examples: Sequence[Example]) -> list[tuple[float, float]]:
        """The negative log-likelihood of each row's answer text and of its stop token; logits are made for these only."""
        nats = [(0.0, 0.0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        cap = getattr(causal.config, "final_logit_softcapping", None)
        stops = torch.tensor(sorted(self.template.stop_ids), device=self.device)
        for start in range(0, len(order), self.recipe.eval.batch):
            rows = order[start : start + self.recipe.eval.batch]
            batch = self._collate([{"input_ids": examples[i].input_ids, "labels": examples[i].labels} for i in rows])
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            labels = batch["labels"][:, 1:]
            wanted = labels != MASKED
            with self._inference():
                hidden = causal.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
                logits = causal.lm_head(hidden[:, :-1][wanted]).float()
            if cap:
                logits = cap * torch.tanh(logits / cap)
            losses = torch.zeros(labels.shape, device=self.device)
            losses[wanted] = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
            stop = torch.isin(labels, stops)
            texts, ends = (losses * ~stop).sum(1).tolist(), (losses * stop).sum(1).tolist()
            for i, text, end in zip(rows, texts, ends, strict=True):
                nats[i] = (text, end)
        return nats

    def save(self, folder: Path) -> None:
        """Write the adapter with the tokenizer, the template inside, and every stop token."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty form; the run's own card says what happened
        save_tokenizer(self.template, folder)
        write_json(folder / "generation_config.json", generation_config(self.template))


class _Progress(TrainerCallback):
    """Writes loss.csv as it happens, moves the bar, and stops on a loss that is no number."""

    def __init__(self, log: LossLog, bar: Bar, device: torch.device) -> None:
        self._log, self._bar, self._device = log, bar, device
        self._since = (time.monotonic(), log.tokens)

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        split = "train" if "loss" in logs else "dev" if "eval_loss" in logs else None
        if split is None:
            return
        now = time.monotonic()
        seconds, tokens = now - self._since[0], self._log.tokens - self._since[1]
        rate = tokens / seconds if split == "train" and seconds > 0 else 0.0
        loss = float(logs["loss" if split == "train" else "eval_loss"])
        self._log.row(
            step=state.global_step, epoch=round(state.epoch or 0, 4), split=split, loss=loss,
            learning_rate=logs.get("learning_rate", ""), grad_norm=logs.get("grad_norm", ""),
            tokens=self._log.tokens, supervised_tokens=self._log.supervised_tokens,
            tokens_per_second=round(rate, 1) or "", peak_gb=peak_gb(self._device),
        )  # fmt: skip
        if split == "train":
            self._since = (now, self._log.tokens)
            self._bar.at(state.global_step, f"loss {loss:.3f}  {rate:,.0f} tokens/s")
        if not math.isfinite(loss):
            raise EngineError(
                f"the {split} loss is {loss} at step {state.global_step}; lower train.learning_rate, "
                "or set train.precision = 'fp32'"
            )


def _count(parameter: Any) -> int:
    """The numbers in a parameter; a quantised one holds several a byte and remembers its true shape."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else int(parameter.numel())


def peak_gb(device: torch.device) -> float:
    """The most memory in use so far: of the card, or of this process on a CPU."""
    if device.type == "cuda":
        return round(float(torch.cuda.max_memory_allocated(device)) / 1e9, 2)
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)
