"""Trackers: transformers' own integrations, told of recipe and data besides losses; a run outlives a tracker that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError, reason
from medrecipes.core.notes import labelled
from medrecipes.engines.trackers.libraries import OPEN, TELL, Tracker
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.tables import HEADLINES

LEAVE_OUT = "or leave it out: --set 'train.report_to=[]'"
CURES = {
    "wandb": "log in with `wandb login`, set WANDB_MODE=offline",
    "mlflow": "check MLFLOW_TRACKING_URI, or `pip install mlflow` for a store of files",
}


@contextmanager
def open_trackers(recipe: Recipe, rundir: RunDir, console: Console) -> Iterator[list[TrainerCallback]]:
    """The recipe's trackers as callbacks of a trainer; they are closed at the end, however it comes."""
    guards: list[_Guard] = []
    wanted = recipe.train.report_to if os.environ.get("RANK", "0") == "0" else ()  # of several processes, the first
    whole = False
    try:
        for name in wanted:
            try:
                tracker = OPEN[name](recipe, rundir)
            except Exception as error:  # whatever its library raises
                raise _cannot_start(name, error) from None
            guards.append(_Guard(name, tracker, rundir, console))
        yield list(guards)
        whole = True
    finally:
        for guard in guards:
            guard.close(whole)


def tell_figures(recipe: Recipe, rundir: RunDir, report: Mapping[str, Any], step: int, console: Console) -> None:
    """Hand the headline figures of a report, such as `test/tuned/rougeL`, to the runs that the trackers have of this training."""
    figures = {
        f"{report['split']}/{part}/{name}": figure["value"]
        for part in ("base", "tuned")
        for name, figure in report[part].items()
        if name in HEADLINES and figure["value"] is not None
    }
    known = rundir.state.get("trackers", {})
    for name in recipe.train.report_to:
        if "failed" in known.get(name, {}):  # said when it happened
            continue
        try:
            with console.quiet(rundir.log):
                TELL[name](recipe, rundir, figures, step)
        except Exception as error:
            _record(rundir, name, {"failed": f"after the test: {reason(error)}"})
            console.line(
                labelled(
                    "tracker", f"{name} did not take the test's figures ({reason(error)}); eval/report.json has them"
                )
            )


class _Guard(TrainerCallback):
    """Hands what happens on to a tracker; one that fails in the middle is left out from there on."""

    def __init__(self, name: str, tracker: Tracker, rundir: RunDir, console: Console) -> None:
        self._name, self._tracker, self._rundir, self._console = name, tracker, rundir, console
        self._failed = False
        _record(rundir, name, {"where": tracker.where, "id": tracker.id}, anew=True)
        console.line(labelled("", f"{name}: {tracker.where}"))

    def on_train_begin(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
        """Nothing is trained yet, so a tracker that does not start is an error."""
        if self._failed:
            return
        try:
            self._tracker.callback.on_train_begin(arguments, state, control, **more)
        except Exception as error:
            self._failed = True
            raise _cannot_start(self._name, error) from None

    def on_log(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
        """Losses."""
        self._try(lambda: self._tracker.callback.on_log(arguments, state, control, **more), state.global_step)

    def on_save(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
        """Checkpoints, for users who ask their tracker to keep them."""
        self._try(lambda: self._tracker.callback.on_save(arguments, state, control, **more), state.global_step)

    def on_train_end(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
        """The end of training."""
        self._try(lambda: self._tracker.callback.on_train_end(arguments, state, control, **more), state.global_step)

    def close(self, whole: bool) -> None:
        """Let go of it; `whole`: training came to its end."""
        self._try(lambda: self._tracker.close(whole))

    def _try(self, tell: Callable[[], Any], step: int | None = None) -> None:
        if self._failed:
            return
        try:
            tell()
        except Exception as error:
            self._failed = True
            when, rest = f"at step {step}", "training goes on without it"
            if step is None:
                when, rest = "at the end", "training itself is done"
            _record(self._rundir, self._name, {"failed": f"{when}: {reason(error)}"})
            self._console.line(labelled("tracker", f"{self._name} failed {when} ({reason(error)}); {rest}"))


def _record(rundir: RunDir, name: str, what: dict[str, Any], *, anew: bool = False) -> None:
    known = rundir.state.get("trackers", {})
    earlier = {} if anew else known.get(name, {})
    rundir.update(trackers={**known, name: {**earlier, **what}})


def _cannot_start(name: str, error: Exception) -> EngineError:
    cure = f"{CURES[name]}, " if name in CURES else ""
    return EngineError(f"train.report_to: {name} cannot start ({reason(error)}); {cure}{LEAVE_OUT}")
