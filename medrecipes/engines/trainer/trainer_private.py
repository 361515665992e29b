"""What transformers' trainer has under private names: where a release has one no longer, a line reports what is lost."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers

from medrecipes.core.notes import note

# by name: how a training goes on without it
LOST = {
    "_maybe_log_save_evaluate": "the processor waits for the GPU at every log",
    "_get_train_sampler": "rows are taken in the trainer's own order, whatever train.order says",
    "_run_epoch": "a run that is resumed behind its last step may take one more",
}


@cache
def known(name: str) -> bool:
    """Whether the trainer still has a method; the first time that it has not, a line says what is lost."""
    if hasattr(transformers.Trainer, name):
        return True
    note(f"transformers {transformers.__version__} has no Trainer.{name}: {LOST[name]}")
    return False


def take_no_step(trainer: Any) -> None:
    """Have a training that is over end at once: where that is not the end of an epoch, transformers would take one step more."""
    if known("_run_epoch"):
        trainer._run_epoch = lambda *_, **__: setattr(trainer.control, "should_training_stop", True)
