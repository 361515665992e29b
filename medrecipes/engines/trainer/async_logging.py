"""transformers' trainer without its waits: no step waits for the GPU, and none goes through all modules of a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrecipes.core import processes


class Brisk:
    """Mixed into a trainer: what a step logs is read once the next one is launched, or where somebody stops to look.

    The trainer's own way reads each loss before it launches anything more, and the GPU has nothing to do meanwhile.
    """

    took: float | None = None  # the seconds of the steps that are being logged
    _later: _Later | None = None
    _since: _Moment | None = None
    _learned: list[Tensor] | None = None
    _operations: int | None = None

    def figures(self) -> list[Tensor]:
        """What else of the steps since the last log is to be told, summed over all GPUs."""
        return []

    def take_in(self, figures: list[float]) -> None:
        """What became of it."""

    def training_step(self: Any, *values: Any, **named: Any) -> Any:
        """A micro-batch; the first one after a look or a pause begins the time."""
        self._since = self._since or _Moment(self.args.device)
        return super().training_step(*values, **named)  # type: ignore[misc]

    def _maybe_log_save_evaluate(
        self: Any, tr_loss: Tensor, grad_norm: Any, model: Any, trial: Any, epoch: float, ignored: Any,
        start_time: float, learning_rate: float | None = None,
    ) -> None:  # fmt: skip
        control, state = self.control, self.state
        due = control.should_log and state.global_step > self._globalstep_last_logged
        control.should_log = False
        self._tell()
        if due:
            norm = torch.as_tensor(0.0 if grad_norm is None else grad_norm).to(tr_loss.device)
            # these two are means over the GPUs
            sums = torch.stack([*(n.double() / processes.size() for n in (tr_loss, norm)), *self.figures()])
            numbers = self.accelerator.reduce(sums).to("cpu", non_blocking=True)
            self._later = _Later(
                step=state.global_step, epoch=state.epoch, steps=state.global_step - self._globalstep_last_logged,
                learning_rate=self._get_learning_rate() if learning_rate is None else learning_rate,
                start_time=start_time, numbers=numbers, since=self._since, until=_Moment(self.args.device),
            )  # fmt: skip
            self._since = self._later.until
            tr_loss.zero_()
            self._globalstep_last_logged = state.global_step
        if control.should_evaluate or control.should_save or control.should_training_stop or control.should_epoch_stop:
            self._tell()
            self._since = None
        super()._maybe_log_save_evaluate(  # type: ignore[misc]
            tr_loss, grad_norm, model, trial, epoch, ignored, start_time, learning_rate=learning_rate
        )

    def _tell(self: Any) -> None:
        later, self._later = self._later, None
        if later is None:
            return
        later.until.wait()
        self.took = later.until.after(later.since)
        loss, norm, *figures = later.numbers.tolist()
        self._total_loss_scalar += loss
        self.take_in(figures)
        logs = {"loss": loss / later.steps, "grad_norm": norm, "learning_rate": later.learning_rate}
        state = self.state
        now = state.global_step, state.epoch
        state.global_step, state.epoch = later.step, later.epoch
        try:
            self.log(logs, later.start_time)
        finally:
            state.global_step, state.epoch = now

    def _clip_grad_norm(self: Any, model: Any) -> Any:
        self._learned = self._learned or [p for p in model.parameters() if p.requires_grad]
        return self.accelerator.clip_grad_norm_(self._learned, self.args.max_grad_norm)

    def floating_point_ops(self: Any, inputs: dict[str, Any]) -> int:
        """transformers' count; all numbers of a model are counted once, and not at every step."""
        if self._operations is None:
            self._operations = 6 * self.model.num_parameters(exclude_embeddings=True)
        return int(self._operations * inputs["input_ids"].numel())


class _Moment:
    """When all that a GPU was asked so far is done; on a CPU, now."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if device.type == "cuda" else None
        self._time = time.monotonic()
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Until it has come; not for what was asked since."""
        if self._event is not None:
            self._event.synchronize()

    def after(self, earlier: _Moment) -> float:
        """The seconds since an earlier one."""
        if self._event is None or earlier._event is None:
            return self._time - earlier._time
        return float(earlier._event.elapsed_time(self._event)) / 1000


@dataclass
class _Later:
    """What a step will log."""

    step: int
    epoch: float
    steps: int  # since the last log
    learning_rate: float
    start_time: float
    numbers: Tensor  # on their way from the GPU until the last moment
    since: _Moment
    until: _Moment


@contextmanager
def light(model: Any) -> Iterator[None]:
    """Inside, what a trainer asks of a model at every step touches what is learned, and not all of thousands of modules."""
    learned = [p for p in model.parameters() if p.requires_grad]
    own = {name: vars(model)[name] for name in ("train", "zero_grad") if name in vars(model)}
    train_all, known = model.train, None  # what is loaded or put on a base comes in one mode or the other

    def train(mode: bool = True) -> Any:
        nonlocal known
        if known is not mode or model.training is not mode:
            known = mode
            train_all(mode)
        return model

    def zero_grad(set_to_none: bool = True) -> None:
        for parameter in learned:
            parameter.grad = None

    model.train, model.zero_grad = train, zero_grad
    try:
        yield
    finally:
        del model.train, model.zero_grad
        vars(model).update(own)
