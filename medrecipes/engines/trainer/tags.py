"""The tagging engine: transformers' token classification with LoRA, on a GPU or a CPU; the head is trained whole, in fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional
from transformers import set_seed

from medrecipes.core.console import Console
from medrecipes.core.files import write_json
from medrecipes.core.notes import labelled
from medrecipes.data.bio_tags import read_spans
from medrecipes.data.grouping import subset
from medrecipes.data.records import Tagged, kind
from medrecipes.engines import Choice, limit_memory
from medrecipes.engines.base_weights import attach
from medrecipes.engines.bases import Base
from medrecipes.engines.choices import choose_precision
from medrecipes.engines.generation import device_of, inference, portions
from medrecipes.engines.lora import begin, count, match_targets, open_adapter, require_optimiser, save_adapter
from medrecipes.engines.plan import TAG_TOKENS, tag_micro_batch
from medrecipes.engines.plan.evaluations import Schedule, at_most
from medrecipes.engines.trackers.guard import open_trackers
from medrecipes.engines.trainer.async_logging import Brisk
from medrecipes.engines.trainer.attempt import (
    EVALUATIONS,
    Attempt,
    look,
    plan_evaluations,
    with_all_dev,
    within_memory,
)
from medrecipes.engines.trainer.callbacks import peak_gb
from medrecipes.engines.trainer.samplers import ByLength
from medrecipes.engines.trainer.tag_head import HEAD, load
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.word_windows import (
    ABOUT,
    MASKED,
    Window,
    about,
    copy_tokenizer,
    decode,
    frequencies,
    gather,
    windows,
)
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.spans import Tagging, micro


class Tagger:
    """A loaded base with a tagging head and, once trained or opened, its adapter."""

    name = "trl"

    def __init__(self, recipe: Recipe, base: Base, labels: Sequence[str]) -> None:
        self.recipe, self.labels, self.tokenizer = recipe, tuple(labels), base.tokenizer
        precision, self.dtype = choose_precision(recipe)
        self.choices = {"precision": precision}
        limit_memory(recipe)
        self.model = load(recipe, base, self.labels, self.dtype)
        self.device = device_of(self.model)
        self._on_cpu = self.device.type == "cpu"
        match_targets(self.model.model, recipe.lora.targets)
        require_optimiser(recipe, cpu=self._on_cpu)

    def windows(self, rows: Sequence[Tagged]) -> list[Window]:
        """The rows as this base sees them."""
        return windows(self.tokenizer, rows, self.labels, self.recipe.data.max_tokens, self.recipe.tag.overlap)

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self, train: Sequence[Tagged], dev: Sequence[Tagged], rundir: RunDir, console: Console) -> dict[str, Any]:
        """Attach an adapter, train it (or go on from the last checkpoint) and keep the best by the dev rows."""
        recipe = self.recipe
        set_seed(recipe.seed)
        found = self.windows(train)
        chosen = subset([r.id for r in dev], [kind(r.meta) for r in dev], at_most(recipe, len(dev)), recipe.seed)
        seen, tokens = [dev[row] for row in chosen], [0] * len(dev)
        for window in self.windows(dev):
            tokens[window.row] += len(window.input_ids)
        lengths = [len(window.input_ids) for window in found]
        planned = plan_evaluations(recipe, lengths, tokens, chosen, self.choices, first=False)
        micro_batch, checkpointing = self._choose_micro_batch(found), self._choose_checkpointing()
        for name in ("micro_batch", "checkpointing", *(name for name in EVALUATIONS if name in self.choices)):
            console.line(labelled("", f"{name}: {self.choices[name]}"))
        self.model = attach(self.model, recipe, recomputed=int(checkpointing), head=HEAD)
        if recipe.lora.init == "default":
            begin(self.model, recipe.seed)
        rundir.update(state="training")
        with open_trackers(recipe, rundir, console) as tracked:

            def train_with(micro_batch: int) -> dict[str, Any]:
                return self._train(found, train, seen, planned, micro_batch, checkpointing, rundir, console, tracked)

            stats = within_memory(
                train_with, self.model, micro_batch, checkpointing, recipe, rundir, console, self.choices
            )
        self.model.eval()
        stats = with_all_dev(stats, len(dev), len(chosen), lambda: self._evaluate_dev(dev, self.windows(dev)))
        return {
            **stats,
            "rows": len(train),
            "windows": len(found),
            "trainable_parameters": sum(count(p) for p in self.model.parameters() if p.requires_grad),
            "parameters": sum(map(count, self.model.parameters())),
            "peak_gb": peak_gb(self.device),
        }

    def _train(
        self, found: Sequence[Window], train: Sequence[Tagged], dev: Sequence[Tagged], planned: Schedule,
        micro_batch: int, checkpointing: bool, rundir: RunDir, console: Console, tracked: Sequence[Any],
    ) -> dict[str, Any]:  # fmt: skip
        from datasets import Dataset

        recipe, settings, engine = self.recipe, self.recipe.train, self
        attempt = Attempt.begin(recipe, rundir, planned)
        dev_windows = self.windows(dev)
        arguments = transformers.TrainingArguments(
            **attempt.arguments(recipe, rundir, self.dtype, micro_batch, cpu=self._on_cpu, checkpointing=checkpointing)
        )

        class Trainer(Brisk, transformers.Trainer):
            """transformers' trainer, counting words and evaluating the dev rows by their spans."""

            def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                attempt.count(inputs)
                return super().training_step(model, inputs, *args, **kwargs)

            def _get_train_sampler(self, *args: Any, **kwargs: Any) -> ByLength:
                return ByLength([len(w.input_ids) for w in found], settings.batch, recipe.seed)

            def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
                return look(self, lambda: engine._evaluate_dev(dev, dev_windows))

        trainer = Trainer(
            model=self.model,
            args=arguments,
            train_dataset=Dataset.from_dict({"window": list(range(len(found)))}),
            eval_dataset=Dataset.from_dict({"window": [0]}) if dev else None,
            data_collator=lambda items: self._tensors([found[item["window"]] for item in items]),
            compute_loss_func=self._loss(frequencies(found, len(self.labels))),
        )
        ids = [row.id for row in train]
        stats = attempt.walk(trainer, recipe, rundir, console, self.device, ids, len(found), tracked)
        looks = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
        return {**stats, "dev": [{"step": e["step"], "f1": e["eval_f1"], "loss": e["eval_loss"]} for e in looks]}

    def _loss(self, counts: Sequence[int]) -> Callable[..., torch.Tensor]:
        """What is minimised: the mean over the words of a step, however many micro-batches it takes."""
        settings, weights = self.recipe.tag, None
        if settings.class_weights == "balanced":
            raw = torch.tensor([1 / math.sqrt(max(count, 1)) for count in counts])
            # a word's weight is 1 on average, so that the learning rate means what it does without weights
            weights = (raw * sum(counts) / (raw * torch.tensor(counts)).sum()).to(self.device)
        self.choices["loss"] = Choice(settings.loss, "the recipe says so, class weights " + settings.class_weights)

        def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            wanted = labels != MASKED
            logits = outputs.logits[wanted].float()
            each = functional.cross_entropy(logits, labels[wanted], reduction="none")
            if settings.loss == "focal":
                each = (1 - torch.exp(-each)) ** settings.focal_gamma * each
            if weights is not None:
                each = each * weights[labels[wanted]]
            return each.sum() / (wanted.sum() if num_items_in_batch is None else num_items_in_batch)

        return loss

    def _evaluate_dev(self, dev: Sequence[Tagged], found: Sequence[Window]) -> dict[str, float]:
        """The dev rows' strict span F1, and their loss a word (cross entropy, unweighted)."""
        said = list(self.predict(found))
        rows = gather(len(dev), found, said)
        scored = [
            Tagging(row.id, row.group, row.tokens, tuple(read_spans(row.tags)), decode(words, self.labels).spans)
            for row, words in zip(dev, rows, strict=True)
        ]
        f1 = micro(scored)["f1"].value()
        number = {label: i for i, label in enumerate(self.labels)}
        nats = [
            -math.log(max(word[number[tag]], 1e-12))
            for row, words in zip(dev, rows, strict=True)
            for tag, word in zip(row.tags, words, strict=True)
            if tag in number
        ]
        return {"eval_loss": sum(nats) / len(nats), "eval_f1": 0.0 if math.isnan(f1) else f1}

    def _tensors(self, found: Sequence[Window]) -> dict[str, Any]:
        """A micro-batch, padded at the end, with the numbers of its rows for the log."""
        longest = max(len(window.input_ids) for window in found)
        _, pad = self.tokenizer.pad
        ids = [[*window.input_ids, *[pad] * (longest - len(window.input_ids))] for window in found]
        labels = [[*window.labels, *[MASKED] * (longest - len(window.labels))] for window in found]
        mask = torch.tensor([[1] * len(w.input_ids) + [0] * (longest - len(w.input_ids)) for w in found])
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": mask,
            "labels": torch.tensor(labels),
            # plain numbers, not tensors: they stay off the GPU, and reading them waits for nothing
            "rows": [window.row for window in found],
            "tokens": sum(len(window.input_ids) for window in found),
            "supervised": sum(label != MASKED for window in found for label in window.labels),
        }

    def _choose_micro_batch(self, found: Sequence[Window]) -> int:
        wanted, share = self.recipe.train.micro_batch, self.recipe.train.batch
        longest = max(len(window.input_ids) for window in found)
        if wanted != "auto":
            choice = Choice(min(wanted, share), "the recipe says so")
        elif self._on_cpu:
            choice = Choice(share, "a CPU has memory to spare")
        else:
            why = f"at most {TAG_TOKENS:,} tokens at once; rows have up to {longest:,}"
            choice = Choice(tag_micro_batch(self.recipe, longest), why)
        self.choices["micro_batch"] = choice
        return int(choice.value)

    def _choose_checkpointing(self) -> bool:
        wanted = self.recipe.train.checkpointing
        why = "the recipe says so" if wanted != "auto" else "rows of a tagging run are short"
        # of these layers all or none are recomputed
        choice = Choice(wanted != "auto" and bool(wanted), why)
        self.choices["checkpointing"] = choice
        return bool(choice.value)

    # --- tagging ----------------------------------------------------------------------------------------------------

    def predict(self, found: Sequence[Window]) -> Iterator[list[list[float]]]:
        """For every window, in order, the probability of each label for each word that it speaks for."""
        self.model.eval()

        def some(rows: Sequence[int]) -> list[list[list[float]]]:
            batch = self._tensors([found[i] for i in rows])
            with inference(self.device, self.dtype):
                logits = self.model(
                    input_ids=batch["input_ids"].to(self.device), attention_mask=batch["attention_mask"].to(self.device)
                ).logits
            likely = logits.float().softmax(-1).cpu()
            return [likely[place, list(found[i].firsts)].tolist() for place, i in enumerate(rows)]

        # the longest first: should memory run out, then at once
        order = sorted(range(len(found)), key=lambda i: -len(found[i].input_ids))
        said = dict(zip(order, portions(order, self.recipe.eval.batch, some), strict=True))
        yield from (said[i] for i in range(len(found)))

    def open_adapter(self, folder: Path) -> None:
        """Put a saved adapter and its head on the base, to tag with."""
        self.model = open_adapter(self.model, folder)

    def save(self, folder: Path) -> None:
        """Write the adapter with the head, the tokenizer, and what the head's outputs mean."""
        save_adapter(self.model, folder)
        copy_tokenizer(self.tokenizer, folder)
        write_json(folder / ABOUT, about(self.recipe, self.labels))
