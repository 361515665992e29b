"""Trackers: transformers' own integrations, told of recipe and data besides losses; a run outlives a tracker that fails."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback, WandbCallback

from medrecipes.console import Console
from medrecipes.errors import EngineError
from medrecipes.recipe import Recipe, leaves
from medrecipes.rundir import RunDir, last_checkpoint
from medrecipes.store import read_json

PROJECT = "medrecipes"
LEAVE_OUT = "or leave it out: --set 'train.report_to=[]'"
CURES = {
    "wandb": "log in with `wandb login`, set WANDB_MODE=offline",
    "mlflow": "check MLFLOW_TRACKING_URI, or `pip install mlflow` for a store of files",
}


@dataclass(frozen=True)
class Tracker:
    """One that is open: `where` its figures go, `id` by which it goes on after an interruption, and how it ends."""

    callback: Any
    where: str
    close: Callable[[bool], Any]
    id: str | None = None


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


class _Guard(TrainerCallback):
    """Hands what happens on to a tracker; one that fails in the middle is left out from there on."""

    def __init__(self, name: str, tracker: Tracker, rundir: RunDir, console: Console) -> None:
        self._name, self._tracker, self._rundir, self._console = name, tracker, rundir, console
        self._failed = False
        self._record({"where": tracker.where, "id": tracker.id})
        console.line(f"{'':<11} {name}: {tracker.where}")

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
            self._record({"failed": f"{when}: {_reason(error)}"})
            self._console.line(f"{'tracker':<11} {self._name} failed {when} ({_reason(error)}); {rest}")

    def _record(self, what: dict[str, Any]) -> None:
        known = self._rundir.state.get("trackers", {})
        self._rundir.update(trackers={**known, self._name: {**known.get(self._name, {}), **what}})


def _cannot_start(name: str, error: Exception) -> EngineError:
    cure = f"{CURES[name]}, " if name in CURES else ""
    return EngineError(f"train.report_to: {name} cannot start ({_reason(error)}); {cure}{LEAVE_OUT}")


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _data(rundir: RunDir) -> dict[str, Any]:
    """The data report, where a run has written one."""
    path = rundir.path / "data.json"
    return dict(read_json(path)) if path.exists() else {}


def _texts(recipe: Recipe, rundir: RunDir) -> dict[str, str]:
    """The recipe and the data report as files."""
    path = rundir.path / "data.json"
    found = {"recipe.toml": recipe.to_toml()}
    return found | ({"data.json": path.read_text(encoding="utf-8")} if path.exists() else {})


def _earlier_id(name: str, rundir: RunDir) -> str | None:
    """The id of a tracker's run that was interrupted."""
    found: str | None = rundir.state.get("trackers", {}).get(name, {}).get("id")
    return found


def _tensorboard(recipe: Recipe, rundir: RunDir) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or rundir.path / "tensorboard").expanduser()
    resume = last_checkpoint(rundir.checkpoints)
    # what an interrupted run logged after its last checkpoint will be logged again
    writer = SummaryWriter(str(folder), purge_step=int(resume.name.rsplit("-", 1)[1]) + 1 if resume else None)
    for name, text in _texts(recipe, rundir).items():
        writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))  # Markdown for: as it is
    return Tracker(TensorBoardCallback(writer), f"tensorboard --logdir {folder}", lambda _: writer.close())


def _wandb(recipe: Recipe, rundir: RunDir) -> Tracker:
    wandb = importlib.import_module("wandb")
    os.environ.setdefault("WANDB_CONSOLE", "off")  # what is printed goes where our console says
    mode = None
    if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
        mode = "offline"
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=os.environ.get("WANDB_NAME", rundir.path.name),
        id=os.environ.get("WANDB_RUN_ID") or _earlier_id("wandb", rundir),
        resume="allow",
        dir=os.environ.get("WANDB_DIR") or str(rundir.path),
        mode=mode,
        config={"recipe": recipe.model_dump(mode="json"), "data_report": _data(rundir)},
    )
    where = run.url or f"wandb sync {Path(run.dir).parent}"
    if mode:
        where = f"offline, no account is logged in here; to upload it: {where}"
    return Tracker(WandbCallback(), where, lambda whole: run.finish(exit_code=0 if whole else 1), run.id)


def _mlflow(recipe: Recipe, rundir: RunDir) -> Tracker:
    mlflow = importlib.import_module("mlflow")
    folder, own = rundir.path / "mlflow", "MLFLOW_TRACKING_URI" not in os.environ
    if own:
        folder.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{folder.resolve()}/mlflow.db")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if not mlflow.get_experiment_by_name(name):
        # left to itself, a store of files would put them into the current folder
        mlflow.create_experiment(name, (folder / "artifacts").resolve().as_uri() if own else None)
    mlflow.set_experiment(name)
    run = mlflow.start_run(os.environ.get("MLFLOW_RUN_ID") or _earlier_id("mlflow", rundir), run_name=rundir.path.name)
    if not _earlier_id("mlflow", rundir):  # it takes each once
        _tell_mlflow(mlflow, recipe, rundir)
    where = f"mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}" if own else mlflow.get_tracking_uri()
    return Tracker(
        MLflowCallback(), where, lambda whole: mlflow.end_run("FINISHED" if whole else "FAILED"), run.info.run_id
    )


def _tell_mlflow(mlflow: Any, recipe: Recipe, rundir: RunDir) -> None:
    longest = mlflow.utils.validation.MAX_PARAM_VAL_LENGTH
    for key, value in leaves(recipe.model_dump(mode="json")):
        mlflow.log_param(key, str(value)[:longest])
    for name, text in _texts(recipe, rundir).items():
        mlflow.log_text(text, name)


def _trackio(recipe: Recipe, rundir: RunDir) -> Tracker:
    os.environ.setdefault("TRACKIO_DIR", str(rundir.path / "trackio"))  # read once, when it is imported
    trackio = importlib.import_module("trackio")
    told = {"recipe": recipe.model_dump(mode="json"), "data_report": _data(rundir)}

    class Callback(TrackioCallback):
        """It begins its run itself, so recipe and data are told right behind."""

        def setup(self, arguments: Any, state: Any, model: Any, **more: Any) -> None:
            super().setup(arguments, state, model, **more)
            self._trackio.config.update(told, allow_val_change=True)

    folder = importlib.import_module("trackio.utils").TRACKIO_DIR
    callback = Callback()

    def close(_: bool) -> None:
        if callback._initialized:  # or the callback itself has ended its run
            trackio.finish()

    return Tracker(callback, f"TRACKIO_DIR={folder} trackio show --project {PROJECT}", close)


OPEN: dict[str, Callable[[Recipe, RunDir], Tracker]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio, "mlflow": _mlflow,
}  # fmt: skip
