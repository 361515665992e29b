"""The tagging engine: transformers' token classification with LoRA, on a GPU or a CPU; the head is trained whole, in fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional
from transformers import set_seed

from medrecipes.core.console import Console
from medrecipes.core.errors import reason
from medrecipes.core.files import write_json
from medrecipes.core.notes import labelled
from medrecipes.core.progress import counted
from medrecipes.data.bio_tags import read_spans
from medrecipes.data.grouping import subset
from medrecipes.data.records import Tagged, kind
from medrecipes.engines import Choice, limit_memory
from medrecipes.engines.base_weights import attach
from medrecipes.engines.bases import Base
from medrecipes.engines.choices import Setting, choose_precision, choose_setting
from medrecipes.engines.generation import device_of, inference, portions
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.lora import begin, count, match_targets, open_adapter, require_optimiser, save_adapter
from medrecipes.engines.plan import TAG_TOKENS, tag_micro_batch
from medrecipes.engines.plan.dimensions import Shape
from medrecipes.engines.plan.evaluations import Cost, Schedule, at_most
from medrecipes.engines.trackers.guard import open_trackers
from medrecipes.engines.trainer.async_logging import Brisk
from medrecipes.engines.trainer.attempt import (
    EVALUATIONS,
    Attempt,
    Running,
    look,
    plan_evaluations,
    with_all_dev,
    within_memory,
)
from medrecipes.engines.trainer.callbacks import peak_gb
from medrecipes.engines.trainer.collate import tensors
from medrecipes.engines.trainer.fused import apart_by, fused_layers
from medrecipes.engines.trainer.samplers import ByLength
from medrecipes.engines.trainer.tag_head import HEAD, load
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.packing import Layout, Pack
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

TAG_ROWS = 8  # windows that a CPU tags at once
APART = 0.1  # of their logits, by which windows may differ in half precision from what they are by themselves
MIXED = 1e-3  # of their logits, by which what stands beside a window may change it: the same sums in the same order


def _pack(window: Window) -> Pack:
    return Pack([window.row], list(window.input_ids), list(window.labels), [len(window.input_ids)])


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
        self._layout: Layout = "padded"  # of windows; training chooses
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
        cost = Cost.of(recipe, lengths, tokens, chosen, first=False)
        planned = plan_evaluations(recipe, cost, len(found), len(dev), len(chosen), self.choices)
        setting = self._choose_setting(found)
        self._layout = setting.layout
        checkpointing = bool(setting.recomputed)
        for name in ("layout", "layers", "micro_batch", "checkpointing", "weights", "launches", *EVALUATIONS):
            if name in self.choices:
                console.line(labelled("", f"{name}: {self.choices[name]}"))
        self.model = attach(self.model, recipe, recomputed=0 if setting.fused else setting.recomputed, head=HEAD)
        if recipe.lora.init == "default":
            begin(self.model, recipe.seed)
        rundir.update(state="training")
        with open_trackers(recipe, rundir, console) as tracked:
            run = Running(recipe, rundir, console, self.choices, self.device, tracked)

            def train_with(micro_batch: int) -> dict[str, Any]:
                used = replace(setting, micro_batch=micro_batch)
                if rundir.state.get("out_of_memory"):
                    used = replace(used, graphs=None)
                return self._train(found, train, seen, planned, used, run)

            stats = within_memory(train_with, self.model, setting.micro_batch, checkpointing, run)
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
        setting: Setting, run: Running,
    ) -> dict[str, Any]:  # fmt: skip
        from datasets import Dataset

        recipe, settings, engine = self.recipe, self.recipe.train, self
        attempt = Attempt.begin(recipe, run.rundir, planned)
        dev_windows = self.windows(dev)
        arguments = transformers.TrainingArguments(
            **attempt.arguments(
                recipe,
                run.rundir,
                self.dtype,
                setting.micro_batch,
                cpu=self._on_cpu,
                checkpointing=bool(setting.recomputed) and not setting.fused,
            )
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
            data_collator=lambda items: self._tensors([found[item["window"]] for item in items], setting.layout),
            compute_loss_func=self._loss(frequencies(found, len(self.labels))),
        )
        ids = [row.id for row in train]
        within: list[AbstractContextManager[Any]] = [self._attention(setting.layout)]
        if setting.fused:
            within.append(fused_layers(self, setting, run.console))
        stats = attempt.walk(trainer, run, ids, len(found), run.tracked, within)
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
            # words that are masked lose nothing; picked out, they would have the processor wait for the GPU
            wanted = labels != MASKED
            logits = outputs.logits.float().flatten(0, -2)
            each = functional.cross_entropy(logits, labels.flatten(), ignore_index=MASKED, reduction="none")
            if settings.loss == "focal":
                each = (1 - torch.exp(-each)) ** settings.focal_gamma * each
            if weights is not None:
                each = each * weights[labels.flatten().clamp(min=0)]
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

    def _tensors(self, found: Sequence[Window], layout: Layout) -> dict[str, Any]:
        """A micro-batch, padded at the end or laid end to end, with the numbers of its rows for the log."""
        return tensors([_pack(window) for window in found], self.tokenizer.pad[1], layout, self.name)

    @contextmanager
    def _attention(self, layout: Layout) -> Iterator[None]:
        """Inside, packed windows attend by one kernel."""
        before = self.model.config._attn_implementation
        if layout == "flat":
            self.model.set_attn_implementation(varlen_attention.NAME)
        try:
            yield
        finally:
            if layout == "flat":
                self.model.set_attn_implementation(before)

    def _choose_setting(self, found: Sequence[Window]) -> Setting:
        """How windows are laid out and trained: end to end through the fused layers where they fit, else padded."""
        longest = max(len(window.input_ids) for window in found)
        if why := self._pads(longest, found):
            self.choices["layout"] = Choice("padded", why)
            micro_batch, recomputed = self._choose_micro_batch(found), self._choose_checkpointing()
            return Setting("padded", False, micro_batch, int(recomputed), False)
        packs = [_pack(window) for window in found]
        return choose_setting(self, packs, shared=False)

    def _pads(self, longest: int, found: Sequence[Window]) -> str | None:
        """Why windows are padded; None where they need not be."""
        if self._on_cpu:
            return "a CPU attends through a mask"
        shape = Shape.of(self.model.config.to_dict())
        if self.recipe.model.cpu_offload or not varlen_attention.available(self.dtype, shape.width):
            return "no variable-length attention for this torch, GPU, precision and width of heads"
        window = getattr(self.model.config, "sliding_window", None)
        if self.recipe.model.attention != "causal" and window and window < longest:
            return "both ways through a sliding window is the library's own"
        try:
            apart = self._keeps_apart(found)
        except RuntimeError as error:
            return f"packed windows cannot be tagged here: {reason(error)}"
        return None if apart else "the layers of this base were seen to mix packed windows"

    def _keeps_apart(self, found: Sequence[Window]) -> bool:
        """Whether a window amid others is tagged alike whatever they say, and as far from how it is by itself as padding has it."""
        few = [replace(window, input_ids=window.input_ids[:64], labels=window.labels[:64]) for window in found[:3]]
        few = (few * 3)[:3]
        before, middle, after = few
        changed = [
            replace(window, input_ids=window.input_ids[:1] * len(window.input_ids)) for window in (before, after)
        ]
        self.model.eval()
        alone = torch.cat([self._logits([window], "padded")[0, : len(window.input_ids)] for window in few])
        padded = torch.cat(
            [rows[: len(window.input_ids)] for rows, window in zip(self._logits(few, "padded"), few, strict=True)]
        )
        flat = self._logits(few, "flat")[0]
        others = self._logits([changed[0], middle, changed[1]], "flat")[0]
        at = slice(len(before.input_ids), len(before.input_ids) + len(middle.input_ids))
        usual = max(APART, 2 * apart_by([padded], [alone]))  # half precision adds up otherwise in other shapes
        return apart_by([others[at]], [flat[at]]) <= MIXED and apart_by([flat], [alone]) <= usual

    def _logits(self, found: Sequence[Window], layout: Layout) -> torch.Tensor:
        batch = self._tensors(found, layout)
        for name in ("rows", "tokens", "supervised", "labels"):
            del batch[name]
        named = {name: value.to(self.device) if hasattr(value, "to") else value for name, value in batch.items()}
        with inference(self.device, self.dtype), self._attention(layout):
            logits: torch.Tensor = self.model(**named).logits.float()
        return logits

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
            windows = [found[i] for i in rows]
            likely = self._logits(windows, self._layout).softmax(-1).cpu()
            if self._layout == "flat":
                pieces = likely[0].split([len(window.input_ids) for window in windows])
            else:
                pieces = tuple(likely)
            return [piece[list(window.firsts)].tolist() for piece, window in zip(pieces, windows, strict=True)]

        # the longest first: should memory run out, then at once
        order = sorted(range(len(found)), key=lambda i: -len(found[i].input_ids))
        lengths = [len(found[i].input_ids) for i in order] or [1]
        # without gradients, and nothing to fill up where they are packed
        each = sum(lengths) / len(lengths) / 4 if self._layout == "flat" else lengths[0]
        rows = self.recipe.eval.at_once(TAG_ROWS if self._on_cpu else max(1, int(TAG_TOKENS / each)))
        said = dict(zip(order, counted(portions(order, rows, some), len(order), "windows"), strict=True))
        yield from (said[i] for i in range(len(found)))

    def open_adapter(self, folder: Path) -> None:
        """Put a saved adapter and its head on the base, to tag with."""
        self.model = open_adapter(self.model, folder)

    def save(self, folder: Path) -> None:
        """Write the adapter with the head, the tokenizer, and what the head's outputs mean."""
        save_adapter(self.model, folder)
        copy_tokenizer(self.tokenizer, folder)
        write_json(folder / ABOUT, about(self.recipe, self.labels))
