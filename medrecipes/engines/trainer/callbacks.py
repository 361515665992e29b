"""What happens beside the training: the loss log, the bar, sample answers, and the stop on a loss that is no number."""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medrecipes.core import processes
from medrecipes.core.console import Bar
from medrecipes.core.errors import EngineError, SpoiledError
from medrecipes.core.files import write_json, writing
from medrecipes.engines.kernels.cuda_graphs import Recorded
from medrecipes.runs.checkpoints import flaw, seal_checkpoint
from medrecipes.runs.folder import LossLog


class Progress(TrainerCallback):
    """Writes loss.csv as it happens, moves the bar, and stops on a loss that is no number."""

    def __init__(
        self, log: LossLog, bar: Bar, device: torch.device, ids: Sequence[str], folder: Path,
        took: Callable[[], float | None],
    ) -> None:  # fmt: skip
        """`took`: the seconds of the steps that are told, where the trainer knows; else it is what went by."""
        self._log, self._bar, self._device, self._ids, self._folder = log, bar, device, ids, folder
        self._took = took
        self._since = (time.monotonic(), log.tokens)

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """What comes now is the next step's."""
        self._log.step_ends(state.global_step)

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A row of loss.csv, for training and for dev losses; the next step may have begun."""
        logs = logs or {}
        split = "train" if "loss" in logs else "dev" if "eval_loss" in logs else None
        if split is None:
            return
        numbers = self._log.tell(state.global_step)
        took = self._took()
        seconds = time.monotonic() - self._since[0] if took is None else took
        tokens = self._log.tokens - self._since[1]
        rate = tokens / seconds if split == "train" and seconds > 0 else 0.0
        loss = float(logs["loss" if split == "train" else "eval_loss"])
        self._log.row(
            step=state.global_step, epoch=round(state.epoch or 0, 4), split=split, loss=loss,
            learning_rate=logs.get("learning_rate", ""), grad_norm=logs.get("grad_norm", ""),
            tokens=self._log.tokens, supervised_tokens=self._log.supervised_tokens,
            tokens_per_second=round(rate, 1) or "", peak_gb=peak_gb(self._device),
        )  # fmt: skip
        if split == "train":
            self._bar.at(state.global_step, f"loss {loss:.3f}  {rate:,.0f} tokens/s")
        self._since = (
            time.monotonic(),
            self._log.tokens,
        )  # the time of an evaluation of the dev rows is not training's
        if not math.isfinite(loss):
            rows = [self._ids[number] for numbers in processes.gather(numbers) for number in numbers]
            if processes.leads():
                write_json(self._folder / "bad_rows.json", {"step": state.global_step, "rows": rows})
            raise EngineError(
                f"the {split} loss is {loss} at step {state.global_step} (its rows: {self._folder / 'bad_rows.json'}); "
                "lower train.learning_rate, or set train.precision = 'fp32'"
            )


class Interrupt(TrainerCallback):
    """Ctrl-C, or the machine's notice that it will go, finishes the step and saves it before the run stops.

    A second one stops at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._before = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in zip(self.SIGNALS, self._before, strict=True):
            signal.signal(number, before)

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop, if asked to."""
        if any(processes.total(self.asked)):
            self.asked = True
            control.should_save = control.should_training_stop = True

    def on_epoch_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """An epoch cut short is no reason to look at the dev rows: nobody did who was not stopped."""
        if self.asked:
            control.should_evaluate = False


class Sealed(TrainerCallback):
    """Writes down what every file of a checkpoint is once all processes have written theirs, and looks the best over before it is loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_save(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is complete, once the last process has written what is its own."""
        processes.total(0)
        if processes.leads():
            with writing(self._folder):
                seal_checkpoint(self._folder / f"checkpoint-{state.global_step}")

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """The last log, of the whole training, comes right before the best checkpoint is loaded."""
        if (
            "train_runtime" not in (logs or {})
            or not arguments.load_best_model_at_end
            or not state.best_model_checkpoint
        ):
            return
        best = self._folder / Path(state.best_model_checkpoint).name
        if wrong := processes.share(flaw(best) if processes.leads() else ""):
            raise SpoiledError(f"{best}: {wrong}, and it is the best one; the same command trains again from the checkpoint before it")  # fmt: skip


class Spent(TrainerCallback):
    """How many seconds of a training went to evaluations of dev rows, and how many to checkpoints."""

    def __init__(self) -> None:
        self.evaluating = self.saving = 0.0
        self._since = time.monotonic()

    def _passed(self) -> float:
        since, self._since = self._since, time.monotonic()
        return self._since - since

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """What comes next may be the evaluation before the first step."""
        self._passed()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is no part of either."""
        self._passed()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Evaluated since the step."""
        self.evaluating += self._passed()

    def on_save(self, *_: Any, **__: Any) -> None:
        """Written since the step, or the evaluation after it."""
        self.saving += self._passed()


class SomeLayers(TrainerCallback):
    """Lets the first layers alone compute their activations again; the trainer knows all or none."""

    def __init__(self, layers: Sequence[Any], recomputed: int) -> None:
        self._layers, self._recomputed = layers, recomputed

    def on_train_begin(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """After the trainer has turned all of them on."""
        for number, layer in enumerate(self._layers):
            layer.gradient_checkpointing = number < self._recomputed


class Samples(TrainerCallback):
    """Answers a few questions at every checkpoint, a line of samples.jsonl each; all processes answer, the leader writes."""

    def __init__(self, answer: Callable[[Sequence[str]], list[str]], questions: Sequence[str], path: Path) -> None:
        self._answer, self._questions, self._path = answer, questions, path

    def on_save(self, arguments: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Answer as the model stands."""
        training = model.training
        answers = self._answer(self._questions)
        model.train(training)
        if not processes.leads():
            return
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            for question, answer in zip(self._questions, answers, strict=True):
                line = {"step": state.global_step, "question": question, "answer": answer}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def count_peak_anew(device: torch.device) -> None:
    """Forget what memory was in use before: by the base's answers, by a run before this one, or until memory ran out."""
    Recorded.most = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where the system does not let a process do so, the peak is that of its whole life
        Path("/proc/self/clear_refs").write_text("5")


def peak_gb(device: torch.device) -> float:
    """The most memory in use since `count_peak_anew`: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        # what CUDA graphs hold is the allocator's, but never in use by its count
        return round((float(torch.cuda.max_memory_allocated(device)) + Recorded.most) / 1e9, 2)
    status = Path("/proc/self/status")
    if status.exists():  # what the system counts of a process begins with its parent's; this does not
        [peak] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return round(int(peak) * 1024 / 1e9, 2)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)
