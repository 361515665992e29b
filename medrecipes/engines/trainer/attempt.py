"""One attempt at a training, whatever is learned: the trainer's arguments, its log and callbacks, and how it ended."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import EarlyStoppingCallback

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError, RunError, reason
from medrecipes.core.files import writing
from medrecipes.core.notes import labelled
from medrecipes.core.trust import inspect_adapter
from medrecipes.engines import Choice
from medrecipes.engines.plan import count_steps
from medrecipes.engines.plan.evaluations import Cost, Schedule, schedule
from medrecipes.engines.trackers.libraries import PROJECT
from medrecipes.engines.trainer.async_logging import light
from medrecipes.engines.trainer.callbacks import Interrupt, Progress, Sealed, Spent, count_peak_anew
from medrecipes.engines.trainer.trainer_private import known, take_no_step
from medrecipes.recipe.rules.training import unshared
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.checkpoints import rebase, step_back, step_of
from medrecipes.runs.folder import LossLog, RunDir, last_checkpoint


@dataclass(frozen=True)
class Running:
    """The run that is trained: its recipe and folder, who hears of it, the choices so far, where it computes, and its trackers."""

    recipe: Recipe
    rundir: RunDir
    console: Console
    choices: dict[str, Choice]
    device: torch.device
    tracked: Sequence[Any] = ()


@dataclass(frozen=True)
class Attempt:
    """Where training goes on from, what it is logged to, when it evaluates, and the measure on the dev rows that chooses a checkpoint."""

    resume: Path | None
    step: int | None
    log: LossLog
    metric: str | None
    schedule: Schedule

    @classmethod
    def begin(cls, recipe: Recipe, rundir: RunDir, schedule: Schedule) -> Attempt:
        """From the last whole checkpoint, or from the beginning."""
        resume = None
        if processes.leads() and (resume := step_back(rundir.checkpoints)):
            inspect_adapter(resume)
            rebase(resume)
        resume = processes.share(resume)
        step = step_of(resume) if resume else None
        rundir.update(resumed_from_step=step)
        log = LossLog(rundir.path / "loss.csv", step, writes=processes.leads())
        keep = recipe.train.keep_best
        chooses = schedule.eval_steps is not None and keep != "last"
        return cls(resume, step, log, keep if chooses else None, schedule)

    def arguments(
        self, recipe: Recipe, rundir: RunDir, dtype: torch.dtype, micro_batch: int, *, cpu: bool, checkpointing: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """What transformers' trainer is told, TRL's too."""
        settings, every, save = recipe.train, self.schedule.eval_steps, self.schedule.save_steps
        if wrong := unshared(settings.batch, micro_batch, processes.size()):
            raise EngineError(wrong)
        return {
            "output_dir": str(rundir.checkpoints),
            "num_train_epochs": settings.epochs,
            "max_steps": settings.max_steps or -1,
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": settings.batch // micro_batch // processes.size(),
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": settings.scheduler,
            # below 1 transformers takes it for a share of all steps
            "warmup_steps": settings.warmup_steps if settings.warmup_fraction is None else settings.warmup_fraction,
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm,
            "optim": settings.optim,
            "seed": recipe.seed,
            "data_seed": recipe.seed,
            "bf16": dtype == torch.bfloat16 and not cpu,
            "fp16": dtype == torch.float16 and not cpu,
            "use_cpu": cpu,
            "gradient_checkpointing": checkpointing,
            "gradient_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
            "logging_steps": settings.logging_steps,
            "logging_nan_inf_filter": False,
            # the next rows travel to the GPU while it is at work
            "accelerator_config": {"non_blocking": not cpu},
            "eval_strategy": "no" if every is None else "epoch" if every == "epoch" else "steps",
            "eval_steps": None if every == "epoch" else every,
            "save_strategy": "epoch" if save == "epoch" else "steps",
            "save_steps": 500 if save == "epoch" else save,
            "save_total_limit": 2,
            "load_best_model_at_end": self.metric is not None,
            "metric_for_best_model": self.metric,
            "greater_is_better": self.metric == "f1" if self.metric else None,
            "report_to": "none",  # its trackers come as callbacks
            "project": PROJECT,
            "run_name": rundir.path.name,
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "ddp_find_unused_parameters": False if processes.size() > 1 else None,
            "ddp_broadcast_buffers": False if processes.size() > 1 else None,  # they are made alike, and stay so
        }

    def count(self, inputs: dict[str, Any]) -> None:
        """Take out of a micro-batch what the log wants to know of it."""
        self.log.count(*(inputs.pop(name) for name in ("rows", "tokens", "supervised")))

    def walk(
        self, trainer: Any, run: Running, ids: Sequence[str], count: int, callbacks: Sequence[Any],
        within: Sequence[AbstractContextManager[Any]] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """Train over `count` rows, packs or windows; `ids` names the rows, should a loss be no number."""
        recipe, rundir, console, device = run.recipe, run.rundir, run.console, run.device
        # in half precision a resumed run would differ: trl casts these weights down, a reload does not
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        settings, steps = recipe.train, count_steps(count, recipe)
        for name in ("_maybe_log_save_evaluate", "_get_train_sampler"):
            known(name)
        if self.step is not None:
            console.line(labelled("resumed", f"from step {self.step:,} of {steps:,}"))
        if settings.early_stopping and self.metric:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping))
        for callback in callbacks:
            trainer.add_callback(callback)
        with (
            Interrupt() as interrupt,
            console.bar("train", steps, self.step or 0) as bar,
            ExitStack() as stack,
        ):
            for context in within:
                stack.enter_context(context)
            stack.enter_context(light(trainer.model))
            took = partial(getattr, trainer, "took", None)
            trainer.add_callback(Progress(self.log, bar, device, ids, rundir.path, took))
            trainer.add_callback(Sealed(rundir.checkpoints))
            trainer.add_callback(spent := Spent())
            trainer.add_callback(interrupt)
            count_peak_anew(device)
            if self.step is not None and self.step >= steps:
                take_no_step(trainer)
            try:
                with writing(rundir.checkpoints):
                    output = trainer.train(resume_from_checkpoint=str(self.resume) if self.resume else None)
            except UnpicklingError as error:  # torch reads numbers alone
                raise RunError(
                    f"{self.resume}: its optimizer, scheduler or random state is damaged, or would run code when it is opened "
                    f"({reason(error)}); delete that folder, and the run goes on from the checkpoint before"
                ) from None
            else:
                self.log.tell(trainer.state.global_step)  # the steps since the last log
            finally:
                self.log.close()
                if noise := getattr(trainer, "neftune_hook_handle", None):
                    noise.remove()  # or another attempt's noise would be added to this one's
        if any(processes.total(interrupt.asked)):  # one may have been asked after the last step that all asked about
            processes.part()
            raise KeyboardInterrupt
        state = trainer.state
        best = state.best_global_step if self.metric else None
        if best and not (rundir.checkpoints / f"checkpoint-{best}").is_dir():
            raise RunError(
                f"{rundir.checkpoints}/checkpoint-{best}: the best checkpoint is gone; start anew with --fresh"
            )
        return {
            **output.metrics,
            "steps": state.global_step,
            "best_step": best or state.global_step,
            "best_metric": state.best_metric if self.metric else None,
            "metric": self.metric,
            "base_metric": self._of_base(state.log_history),
            "at_best": self._at(state.log_history, best or state.global_step),
            "evaluation_seconds": round(spent.evaluating, 2),
            "saving_seconds": round(spent.saving, 2),
            "tokens": self.log.tokens,
            "supervised_tokens": self.log.supervised_tokens,
        }

    def _of_base(self, history: Sequence[dict[str, Any]]) -> float | None:
        """What the dev rows said before the first step, where they were asked then."""
        return next((e[f"eval_{self.metric}"] for e in history if e["step"] == 0 and f"eval_{self.metric}" in e), None)

    def _at(self, history: Sequence[dict[str, Any]], step: int) -> dict[str, float] | None:
        """All that the dev rows said at a step, where they were evaluated then."""
        entry = next((e for e in reversed(history) if e["step"] == step and "eval_loss" in e), None)
        return entry and {name: entry[f"eval_{name}"] for name in MEASURES if f"eval_{name}" in entry}


EVALUATIONS = ("eval_rows", "eval_steps", "save_steps")  # the choices of `plan_evaluations`
MEASURES = ("loss", "bits_per_byte", "f1")


def plan_evaluations(
    recipe: Recipe, cost: Cost, rows: int, dev: int, chosen: int, choices: dict[str, Choice]
) -> Schedule:
    """When a training over so many rows evaluates `chosen` of its dev rows and saves; the reasons go into `choices`."""
    found = schedule(recipe, rows, cost, chosen)
    if dev:
        why = f"of {dev:,} dev rows, each source by its share" if cost.final else "all dev rows"
        choices["eval_rows"] = Choice(chosen, why)
        choices["eval_steps"] = Choice(found.eval_steps, found.why_eval)
    choices["save_steps"] = Choice(found.save_steps, found.why_save)
    return found


def with_all_dev(
    stats: dict[str, Any], rows: int, chosen: int, evaluate: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Statistics with what all dev rows say of the checkpoint that was kept; evaluated anew unless the curve is of all of them."""
    at_best = stats.pop("at_best")
    if not rows:
        return stats
    if chosen < rows or at_best is None:
        began = time.monotonic()
        figures = evaluate()
        at_best = {name: figures[f"eval_{name}"] for name in MEASURES if f"eval_{name}" in figures}
        stats = {**stats, "all_dev_seconds": round(time.monotonic() - began, 2)}
    return {**stats, "dev_rows": chosen, "all_dev": {"rows": rows, **at_best}}


def look(trainer: Any, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
    """An evaluation of the dev rows by our own measure, told to the log and to whoever chooses a checkpoint by it."""
    training = trainer.model.training
    metrics = evaluate()
    trainer.model.train(training)
    trainer.log(metrics)
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
    return metrics


def within_memory(
    train: Callable[[int], dict[str, Any]], model: Any, micro_batch: int, recomputed: bool, run: Running,
    recompute: Callable[[], str] = lambda: "",
) -> dict[str, Any]:  # fmt: skip
    """What `train` makes with so many rows at a time, or with fewer, from the beginning or a checkpoint, where memory ran out.

    `recompute` has more layers with gradient checkpointing from then on, and says which; nothing where no more can be had.
    """
    begun = {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}
    while True:
        try:
            return train(micro_batch)
        except torch.cuda.OutOfMemoryError:
            pass  # behind this block, where the failed step's activations are no longer held
        if micro_batch == 1 and processes.size() == 1 and (layers := recompute()):
            recomputed = True
            _tell(run, f"gradient checkpointing in {layers} from now on", micro_batch, micro_batch)
            run.choices["checkpointing"] = Choice(layers, "more was kept until the GPU's memory ran out")
        else:
            micro_batch = smaller(micro_batch, recomputed, run)
        for name, parameter in model.named_parameters():
            if name in begun:
                parameter.grad = None
                parameter.data.copy_(begun[name])
        gc.collect()
        torch.cuda.empty_cache()


def _tell(run: Running, what: str, micro_batch: int, now: int) -> None:
    rundir = run.rundir
    saved = last_checkpoint(rundir.checkpoints)
    run.console.line(
        labelled("memory", f"out of memory: {what}; it goes on from {saved.name if saved else 'the beginning'}")
    )
    rundir.update(out_of_memory=[*rundir.state.get("out_of_memory", []), {"micro_batch": micro_batch, "now": now}])


def smaller(micro_batch: int, recomputed: bool, run: Running) -> int:
    """After memory ran out, the next smaller micro-batch that divides the batch; there is none below one row."""
    recipe = run.recipe
    gpus = processes.size()
    if gpus > 1 or micro_batch == 1:  # of several GPUs, the others do not know
        rows = "one row" if micro_batch == 1 else f"{micro_batch} rows"
        what = f"{rows} at a time on each of {gpus} GPUs" if gpus > 1 else "one row at a time"
        says = f" (`medrecipes plan {run.rundir.path}/recipe.toml` says what fits)" if recipe.task == "chat" else ""
        cures = ["lower data.max_tokens", f"or choose a smaller base{says}"]
        if micro_batch > 1:
            cures.insert(0, f"set train.micro_batch = {micro_batch // 2}")
        if not recomputed:
            cures.insert(0, "set train.checkpointing = true")
        checkpointing = "on" if recomputed else "off"
        raise EngineError(f"out of memory with {what} and checkpointing {checkpointing}; {', '.join(cures)}")
    size = next(size for size in range(micro_batch // 2, 0, -1) if recipe.train.batch % size == 0)
    _tell(
        run, f"the micro-batch is now {size} instead of {micro_batch}, the batch stays {recipe.train.batch}",
        micro_batch, size,
    )  # fmt: skip
    run.choices["micro_batch"] = Choice(size, "halved when the GPU's memory ran out")
    return size
