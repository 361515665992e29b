"""The libraries of trackers: how each is opened for training, told what the test found, and closed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback, WandbCallback

from medrecipes.core.files import read_json
from medrecipes.recipe.schema import Recipe, leaves
from medrecipes.runs.checkpoints import step_of
from medrecipes.runs.folder import RunDir, last_checkpoint

PROJECT = "medrecipes"
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Tracker:
    """One that is open: `where` its figures go, `id` by which it goes on after an interruption, and how it ends."""

    callback: Any
    where: str
    close: Callable[[bool], Any]
    id: str | None = None


def _told(recipe: Recipe, rundir: RunDir) -> dict[str, Any]:
    """The recipe, and the data report where a run has written one."""
    path = rundir.path / "data.json"
    return {"recipe": recipe.model_dump(mode="json"), "data_report": read_json(path) if path.exists() else {}}


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

    folder = _tensorboard_folder(rundir)
    resume = last_checkpoint(rundir.checkpoints)
    # what an interrupted run logged after its last checkpoint will be logged again
    writer = SummaryWriter(str(folder), purge_step=step_of(resume) + 1 if resume else None)
    for name, text in _texts(recipe, rundir).items():
        writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))  # Markdown for: as it is
    return Tracker(TensorBoardCallback(writer), f"tensorboard --logdir {folder}", lambda _: writer.close())


def _tensorboard_folder(rundir: RunDir) -> Path:
    return Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or rundir.path / "tensorboard").expanduser()


def _tell_tensorboard(recipe: Recipe, rundir: RunDir, figures: Figures, step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(_tensorboard_folder(rundir))) as writer:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)


def _wandb(recipe: Recipe, rundir: RunDir) -> Tracker:
    run, mode = _open_wandb(recipe, rundir)
    where = run.url or f"wandb sync {Path(run.dir).parent}"
    if mode:
        where = f"offline, no account is logged in here; to upload it: {where}"
    return Tracker(WandbCallback(), where, lambda whole: run.finish(exit_code=0 if whole else 1), run.id)


def _tell_wandb(recipe: Recipe, rundir: RunDir, figures: Figures, step: int) -> None:
    run, _ = _open_wandb(recipe, rundir)
    run.log({**figures, "train/global_step": step})
    run.finish()


def _open_wandb(recipe: Recipe, rundir: RunDir) -> tuple[Any, str | None]:
    """Its run, begun or gone on with, and the mode that it takes where the user said nothing."""
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
        config=_told(recipe, rundir),
    )
    return run, mode


def _mlflow(recipe: Recipe, rundir: RunDir) -> Tracker:
    mlflow, run, own = _open_mlflow(rundir)
    if not _earlier_id("mlflow", rundir):  # it takes each once
        _tell_mlflow_recipe(mlflow, recipe, rundir)
    where = f"mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}" if own else mlflow.get_tracking_uri()
    return Tracker(
        MLflowCallback(), where, lambda whole: mlflow.end_run("FINISHED" if whole else "FAILED"), run.info.run_id
    )


def _tell_mlflow(recipe: Recipe, rundir: RunDir, figures: Figures, step: int) -> None:
    mlflow, _, _ = _open_mlflow(rundir)
    mlflow.log_metrics(dict(figures), step=step)
    mlflow.end_run()


def _open_mlflow(rundir: RunDir) -> tuple[Any, Any, bool]:
    """The library, its run, begun or gone on with, and whether it is kept in the run folder."""
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
    return mlflow, run, own


def _tell_mlflow_recipe(mlflow: Any, recipe: Recipe, rundir: RunDir) -> None:
    longest = mlflow.utils.validation.MAX_PARAM_VAL_LENGTH
    for key, value in leaves(recipe.model_dump(mode="json")):
        mlflow.log_param(key, str(value)[:longest])
    for name, text in _texts(recipe, rundir).items():
        mlflow.log_text(text, name)


def _trackio(recipe: Recipe, rundir: RunDir) -> Tracker:
    trackio, told = _import_trackio(rundir), _told(recipe, rundir)

    class Callback(TrackioCallback):
        """It begins its run itself, so recipe and data are told right behind."""

        def setup(self, arguments: Any, state: Any, model: Any, **more: Any) -> None:
            super().setup(arguments, state, model, **more)
            self._trackio.config.update(told, allow_val_change=True)

    folder = importlib.import_module("trackio.utils").TRACKIO_DIR
    callback = Callback()

    def close(_: bool) -> None:
        if getattr(callback, "_initialized", True):  # or the callback itself has ended its run
            trackio.finish()

    return Tracker(callback, f"TRACKIO_DIR={folder} trackio show --project {PROJECT}", close)


def _tell_trackio(recipe: Recipe, rundir: RunDir, figures: Figures, step: int) -> None:
    trackio = _import_trackio(rundir)
    # it writes a run's configuration anew, so what it kept of training is given back
    kept = importlib.import_module("trackio.sqlite_storage").SQLiteStorage.get_run_config(PROJECT, rundir.path.name)
    config = {key: value for key, value in (kept or {}).items() if not key.startswith("_")} | _told(recipe, rundir)
    trackio.init(project=PROJECT, name=rundir.path.name, resume="must", config=config)
    trackio.log({**figures, "train/global_step": step})
    trackio.finish()


def _import_trackio(rundir: RunDir) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(rundir.path / "trackio"))  # read once, when it is imported
    return importlib.import_module("trackio")


OPEN: dict[str, Callable[[Recipe, RunDir], Tracker]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio, "mlflow": _mlflow,
}  # fmt: skip
# hand figures to the tracker's run, which training has closed
TELL: dict[str, Callable[[Recipe, RunDir, Figures, int], None]] = {
    "tensorboard": _tell_tensorboard, "wandb": _tell_wandb, "trackio": _tell_trackio, "mlflow": _tell_mlflow,
}  # fmt: skip
