"""The SFT trainer of chat runs: TRL's SFTTrainer fed with finished ids and labels, its log, checkpoints and LoRA adapter."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from transformers import set_seed

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.notes import labelled
from medrecipes.data.grouping import subset
from medrecipes.data.row_files import Joined
from medrecipes.engines import Choice
from medrecipes.engines.answering_engine import LoadedBase, Speaker
from medrecipes.engines.bases import Base
from medrecipes.engines.choices import Setting, choose_setting
from medrecipes.engines.kernels import loss_head, varlen_attention
from medrecipes.engines.lora import begin, count, match_targets, require_optimiser
from medrecipes.engines.plan.evaluations import Cost, Schedule, at_most
from medrecipes.engines.trackers.guard import open_trackers
from medrecipes.engines.trainer.attempt import (
    EVALUATIONS,
    Attempt,
    Running,
    look,
    plan_evaluations,
    with_all_dev,
    within_memory,
)
from medrecipes.engines.trainer.callbacks import Samples, SomeLayers, peak_gb
from medrecipes.engines.trainer.collate import processing_class, tensors
from medrecipes.engines.trainer.fused import fused_layers
from medrecipes.engines.trainer.runtime_proofs import Proving
from medrecipes.engines.trainer.samplers import ShortFirst, Shuffled
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.packing import Pack, learn_all, pack, stretches_of, tokens_of
from medrecipes.rendering.stored_examples import lengths_of
from medrecipes.runs.folder import RunDir

Attach = Callable[..., Any]


class TrlEngine(Speaker):
    """A loaded base that can be trained."""

    def __init__(
        self, recipe: Recipe, base: Base, template: ChatTemplate, loaded: LoadedBase, attach: Attach,
        recompute: Callable[[Any], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        super().__init__(recipe, template, loaded)
        self.source = base
        self._attach, self._recompute = attach, recompute  # the latter undoes what the former decided, if it can
        self._on_cpu = self.device.type == "cpu"
        match_targets(self.model, recipe.lora.targets)
        require_optimiser(recipe, cpu=self._on_cpu)

    def train(
        self, train: Sequence[Example], dev: Sequence[Example], rundir: RunDir, console: Console
    ) -> dict[str, Any]:
        """Attach an adapter, train it (or go on from the last checkpoint) and keep the best by the dev rows."""
        recipe = self.recipe
        set_seed(recipe.seed)
        if recipe.train.loss_on == "all":
            train, dev_learned = learn_all(train), learn_all(dev)
        else:
            dev_learned = dev
        packs = pack(train, recipe.data.max_tokens, packing=recipe.train.packing, order=recipe.train.order)
        chosen = subset([e.id for e in dev], [e.kind for e in dev], at_most(recipe, len(dev)), recipe.seed)
        seen, seen_learned = [dev[row] for row in chosen], [dev_learned[row] for row in chosen]
        passes = 1 if recipe.train.loss_on == "answers" else 2
        cost = Cost.of(recipe, tokens_of(packs), lengths_of(dev).tolist(), chosen, first=True, passes=passes)
        planned = plan_evaluations(recipe, cost, len(packs), len(dev), len(chosen), self.choices)
        setting = choose_setting(self, packs, shared=self._shards is not None)
        for name in (
            "shards",
            "attention",
            "layout",
            "layers",
            "compute",
            "micro_batch",
            "checkpointing",
            "weights",
            "launches",
            *EVALUATIONS,
        ):
            if name in self.choices:
                console.line(labelled("", f"{name}: {self.choices[name]}"))
        self.model = self._attach(self.model, recipe, recomputed=0 if setting.fused else setting.recomputed)
        if self._shards is not None:  # what lies on one GPU alone is not to be made equal on all
            shared = self._shards.weights
            self.model._ddp_params_and_buffers_to_ignore = [
                n for n, p in self.model.named_parameters() if id(p) in shared
            ]
        if recipe.lora.init == "default":
            begin(self.model, recipe.seed)
        rundir.update(state="training")
        trackers: AbstractContextManager[Sequence[Any]] = nullcontext([])
        if processes.leads():
            trackers = open_trackers(recipe, rundir, console)
        with trackers as tracked:
            run = Running(recipe, rundir, console, self.choices, self.device, tracked)

            def train_with(micro_batch: int) -> dict[str, Any]:
                now = replace(setting, micro_batch=micro_batch)
                if setting.graphs and rundir.state.get("out_of_memory"):
                    now = replace(now, graphs=None)
                    self.choices["launches"] = Choice("one by one", "CUDA graphs were given up when memory ran out")
                return self._train(packs, train, (seen, seen_learned), planned, now, run)

            def recompute() -> str:
                """Half as many layers keep what they computed, where the engine can choose among them; else none."""
                nonlocal setting
                layers = self.model.config.get_text_config().num_hidden_layers
                if recipe.train.checkpointing != "auto" or setting.recomputed == layers:
                    return ""
                if not setting.fused and not self._recompute(self.model):
                    return ""
                kept = (layers - setting.recomputed) // 2 if setting.fused else 0
                setting = replace(setting, recomputed=layers - kept)
                return f"{layers - kept} of {layers} layers" if kept else "all layers"

            stats = within_memory(train_with, self.model, setting.micro_batch, bool(setting.recomputed), run, recompute)
        self.model.eval()
        stats = with_all_dev(stats, len(dev), len(chosen), lambda: self._evaluate_dev(dev, dev_learned))
        if dev:
            counted = {"supervised": sum(e.supervised for e in seen), "answer_bytes": sum(e.answer_bytes for e in seen)}
            stats["dev_counts"] = counted
        peaks = processes.gather(peak_gb(self.device))
        trainable = sum(count(p) for p in self.model.parameters() if p.requires_grad)
        return {
            **stats,
            "rows": len(train),
            "packs": len(packs),
            "trainable_parameters": trainable,
            "allocation_retries": torch.cuda.memory_stats(self.device)["num_alloc_retries"] if not self._on_cpu else 0,
            "parameters": sum(map(count, self.model.parameters())),
            "peak_gb": max(peaks),
            **({"peak_gb_of_each_gpu": peaks} if len(peaks) > 1 else {}),
        }

    def _train(
        self, packs: Sequence[Pack], train: Sequence[Example], seen: tuple[Sequence[Example], Sequence[Example]],
        planned: Schedule, setting: Setting, run: Running,
    ) -> dict[str, Any]:  # fmt: skip
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        recipe, settings, engine = self.recipe, self.recipe.train, self
        layout, micro_batch = setting.layout, setting.micro_batch
        checkpointing = bool(setting.recomputed) and not setting.fused
        rundir, attempt = run.rundir, Attempt.begin(recipe, run.rundir, planned)
        shared = attempt.arguments(
            recipe, rundir, self.dtype, micro_batch, cpu=self._on_cpu, checkpointing=checkpointing
        )
        arguments = SFTConfig(
            **shared,
            neftune_noise_alpha=settings.neftune_noise_alpha,
            eval_on_start=bool(seen[0]) and attempt.resume is None,  # where the curve comes from
            max_length=None,
            packing=False,  # the rows come packed, as the recipe says
            padding_free=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            router_aux_loss_coef=0.0,  # answers alone are learned; LoRA does not sit on what deals tokens to experts
        )

        # several processes want steps of equal size: the last is filled with packs of which nothing is learned
        fill = -len(packs) % settings.batch if processes.size() > 1 else 0
        _, pad = self.template.pad
        padded = Joined(packs, [Pack([], [pad], [MASKED], [1])] * fill)

        # Unsloth brings a trainer of its own, under TRL's name
        usual = (
            SFTTrainer
            if self.name == "unsloth"
            else importlib.import_module("medrecipes.engines.trainer.measured").MeasuredTrainer
        )

        random = recipe.lora.dropout or settings.neftune_noise_alpha  # then no row is learned as it is evaluated
        proving = Proving(
            self.model.config.model_type, packing=settings.packing, evaluate=None if random else self._row_loss
        )

        class Trainer(usual):  # type: ignore[misc, valid-type]
            """TRL's trainer, counting tokens and evaluating the dev rows by the measure of the report."""

            def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                attempt.count(inputs)
                # processes that share layers go in step, and one may have nothing to prove
                if engine._shards is None and proving.goes_on:
                    inner = self.accelerator.unwrap_model(model)
                    proving.look(self._prepare_inputs(inputs), lambda batch: engine._loss(inner.train(), batch))
                return super().training_step(model, inputs, *args, **kwargs)

            def _get_train_sampler(self, train_dataset: Any = None) -> Any:
                lengths = [*tokens_of(packs), *[1] * fill]
                if settings.order == "short_first":
                    return ShortFirst(
                        stretches_of(packs), lengths, recipe.seed, settings.batch, processes.size(), micro_batch
                    )
                if processes.size() == 1:
                    return super()._get_train_sampler(train_dataset)
                return Shuffled(lengths, len(packs), recipe.seed, settings.batch, processes.size(), micro_batch)

            def create_model_card(self, *_: Any, **__: Any) -> None:
                """None of TRL's own beside the checkpoints, which knows no base: the run has a card."""

            def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
                return look(self, lambda: engine._evaluate_dev(*seen))

        def collate(items: Sequence[dict[str, int]]) -> dict[str, Any]:
            batch = tensors([padded[item["pack"]] for item in items], pad, layout, "trl" if self._on_cpu else self.name)
            return (
                batch | {"learned": loss_head.learned(batch["labels"])} if setting.fused and not self._on_cpu else batch
            )

        trainer = Trainer(
            model=self.model,
            args=arguments,
            train_dataset=Dataset.from_dict({"pack": list(range(len(padded)))}),
            eval_dataset=Dataset.from_dict({"pack": [0]}) if seen[0] else None,
            processing_class=processing_class(self.template),
            data_collator=collate,
        )
        callbacks = list(run.tracked)
        if checkpointing and self.name == "trl":
            callbacks.append(SomeLayers(self.model.get_base_model().get_decoder().layers, setting.recomputed))
        if settings.sample_prompts:
            callbacks.append(Samples(self.answer, settings.sample_prompts, rundir.path / "samples.jsonl"))
        within: list[AbstractContextManager[Any]] = [
            self._attention(varlen_attention.NAME if layout == "flat" else self._usual)
        ]
        if setting.fused:
            within.append(fused_layers(self, setting, run.console, self._shards))
        if setting.fused and not self._on_cpu:  # on a CPU Unsloth's loss takes in the supervised tokens alone
            within.append(loss_head.told(self.model))
        ids = _Ids(train)
        stats = attempt.walk(trainer, run, ids, len(packs), callbacks, within)
        return {**stats, "proved": proving.found}

    def _loss(self, model: Any, batch: dict[str, Any]) -> Any:
        """The loss as training comes to it, without what a trainer counts."""
        if self.name == "trl":
            if "learned" in batch:  # of the labels that there are now
                batch = batch | {"learned": loss_head.learned(batch["labels"])}
            outputs = model(**batch, use_cache=False, fused_lm_head=True)
            return -outputs.log_probs.sum() / outputs.label_mask.sum()
        return model(**batch, use_cache=False).loss


class _Ids(Sequence[str]):
    """The names of rows, read when one is asked for."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        return self._rows[row].id
