"""Trackers: what TensorBoard, offline W&B, a file-backed MLflow and Trackio received, read back from their own files."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import EngineError
from medrecipes.engines import require_trackers
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe, leaves
from medrecipes.rendering.chat_template import Example
from medrecipes.runs.folder import RunDir, read_losses
from tests.conftest import ROOT, Cli, Train
from tests.test_memory import Heard, Memory

SETTINGS = ("train.max_steps=4", "train.batch=4", "train.save_steps=2", "train.eval_steps=2", "eval.batch=4")
NAMES = ("tensorboard", "wandb", "mlflow", "trackio")
# what evaluating found: the headlines are told, by the split that was evaluated, and what has no value is not
REPORT = {
    "split": "test",
    "base": {"bits_per_byte": {"value": 2.5}, "rougeL": {"value": 0.125}, "exact_match": {"value": None}, "limit": {"value": 0.5}},
    "tuned": {"bits_per_byte": {"value": 2.25}, "rougeL": {"value": 0.25}, "exact_match": {"value": None}, "limit": {"value": 0}},
    "difference": {"bits_per_byte": {"value": -0.25}, "rougeL": {"value": 0.125}},
}  # fmt: skip
TOLD = {
    "test/base/bits_per_byte": 2.5, "test/base/rougeL": 0.125, "test/tuned/bits_per_byte": 2.25, "test/tuned/rougeL": 0.25,
}  # fmt: skip
DATA = {"rows": {"train": 30, "dev": 2, "test": 0}, "dropped": {"repeats another row": 3}}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without an account, who said nothing of where things go."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "MLFLOW_TRACKING_URI", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def tracked(name: str, train: Train, rows: list[Example], folder: Path, heard: Heard | None = None) -> RunDir:
    """A short run that one tracker follows, interrupted once, and told in the end what its test found."""
    pytest.importorskip(name, reason=f"{name} is not installed (extra: trackers)")
    if name == "mlflow":
        pytest.importorskip("sqlalchemy", reason="this MLflow has no store of files: mlflow-skinny")
    rundir = RunDir(folder)
    (folder / "data.json").write_text(json.dumps(DATA))
    told: Any = {"dev": rows[:2], "rundir": rundir, "console": heard or Heard()}
    with pytest.raises(EngineError):  # in the third step
        train(*SETTINGS, f"train.report_to=['{name}']", before=Memory(0, since=2), **told)
    engine, _, _ = train(*SETTINGS, f"train.report_to=['{name}']", **told)  # goes on, and the tracker's own run with it
    evaluated(engine.recipe, rundir, told["console"])
    assert rundir.state["resumed_from_step"] == 2
    assert "failed" not in rundir.state["trackers"][name]
    return rundir


def evaluated(recipe: Recipe, rundir: RunDir, console: Any) -> None:
    """Tell the recipe's trackers, after four steps."""
    from medrecipes.engines.trackers.guard import tell_figures

    tell_figures(recipe, rundir, REPORT, 4, console)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard holds: name, step, value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def losses(rundir: RunDir, split: str) -> dict[int, float]:
    return {int(r["step"]): float(r["loss"]) for r in read_losses(rundir.path / "loss.csv") if r["split"] == split}


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of W&B's file: behind seven bytes, LevelDB's log of blocks, in which a long record lies in parts."""
    at, record, block = 7, b"", 1 << 15
    while at < len(data):
        if block - at % block < 7:  # no room for another head: filled up with zeros
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


def test_tensorboard_has_losses_recipe_and_data(train: Train, rows: list[Example], tmp_path: Path) -> None:
    heard = Heard()
    rundir = tracked("tensorboard", train, rows, tmp_path, heard)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    for tag, split in (("train/loss", "train"), ("eval/loss", "dev")):
        assert {e.step: e.value for e in found.Scalars(tag)} == pytest.approx(losses(rundir, split), rel=1e-5)
    assert len(found.Scalars("eval/bits_per_byte")) == len(losses(rundir, "dev")) == 3
    assert {tag: at for tag, at in scalars(tmp_path / "tensorboard").items() if tag.startswith("test/")} == {
        tag: {4: value} for tag, value in TOLD.items()
    }
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert "    max_steps = 4" in texts["recipe.toml/text_summary"]
    assert '"repeats another row": 3' in texts["data.json/text_summary"]
    assert f"{'':17}tensorboard: tensorboard --logdir {tmp_path}/tensorboard" in heard.lines
    assert rundir.state["trackers"]["tensorboard"]["where"] == f"tensorboard --logdir {tmp_path}/tensorboard"


def test_offline_wandb_has_losses_recipe_and_data(train: Train, rows: list[Example], tmp_path: Path) -> None:
    heard = Heard()
    rundir = tracked("wandb", train, rows, tmp_path, heard)
    from wandb.proto import wandb_internal_pb2

    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) == 1  # each part is a file; all are of one run
    history: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    for record in (record for file in files for record in wandb_records(file.read_bytes())):
        value = wandb_internal_pb2.Record()
        value.ParseFromString(record)
        if value.WhichOneof("record_type") == "history":
            items = value.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        for item in (item for section in (value.run.config, value.config) for item in section.update):
            config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    steps = {row["train/global_step"]: row["train/loss"] for row in history if "train/loss" in row}
    assert steps == pytest.approx(losses(rundir, "train"))
    looks = {row["train/global_step"]: row["eval/loss"] for row in history if "eval/loss" in row}
    assert looks == pytest.approx(losses(rundir, "dev"))
    assert TOLD.items() <= history[-1].items()
    assert history[-1]["train/global_step"] == 4
    assert config["recipe"]["lora"]["rank"] == 16
    assert config["recipe"]["train"]["max_steps"] == 4
    assert config["data_report"] == DATA
    said = [line for line in heard.lines if "wandb" in line][-1]
    assert "offline, no account is logged in here; to upload it: wandb sync" in said


def test_file_backed_mlflow_has_losses_recipe_and_data(
    train: Train, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    rundir = tracked("mlflow", train, rows, tmp_path / "run")
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{rundir.path}/mlflow/mlflow.db")
    run = client.get_run(rundir.state["trackers"]["mlflow"]["id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", rundir.path.name)
    for name, split in (("loss", "train"), ("eval_loss", "dev")):
        found = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert found == pytest.approx(losses(rundir, split))
    for name, value in TOLD.items():
        assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] == [(4, value)]
    assert (run.data.params["lora.rank"], run.data.params["seed"]) == ("16", "42")
    stored = rundir.path / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    assert json.loads((stored / "data.json").read_text()) == DATA
    assert "max_steps = 4" in (stored / "recipe.toml").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]  # nothing in the current folder


def test_trackio_has_losses_recipe_and_data(train: Train, rows: list[Example], tmp_path: Path) -> None:
    rundir = tracked("trackio", train, rows, tmp_path)
    from trackio.sqlite_storage import SQLiteStorage

    logged = SQLiteStorage.get_logs("medrecipes", tmp_path.name)
    steps = {row["train/global_step"]: row["train/loss"] for row in logged if "train/loss" in row}
    assert steps == pytest.approx(losses(rundir, "train"), rel=1e-6)
    assert TOLD.items() <= logged[-1].items()
    config = SQLiteStorage.get_run_config("medrecipes", tmp_path.name)
    assert config["vocab_size"] == 1024  # what its own callback says of the model is still there
    assert config["recipe"]["lora"]["rank"] == 16
    assert config["data_report"] == DATA


def test_a_run_outlives_a_tracker_that_fails_and_says_so_once(
    train: Train, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: trackers)")
    heard = Heard()
    seen = 0

    def write(engine: Any) -> None:
        """The disk of the tracker is gone before the third step."""
        from torch.utils.tensorboard import SummaryWriter

        whole = SummaryWriter.add_scalar

        def add_scalar(self: Any, *arguments: Any, **more: Any) -> None:
            nonlocal seen
            seen += arguments[0] == "train/loss"
            if seen > 2:
                raise OSError("No space left on device")
            whole(self, *arguments, **more)

        monkeypatch.setattr(SummaryWriter, "add_scalar", add_scalar)

    rundir = RunDir(tmp_path)
    engine, _, _ = train(
        *SETTINGS, "train.report_to=['tensorboard']", dev=rows[:2], rundir=rundir, console=heard, before=write
    )
    assert len(losses(rundir, "train")) == 4
    assert [line for line in heard.lines if "failed" in line] == [
        "tracker          tensorboard failed at step 3 (No space left on device); training goes on without it"
    ]
    assert rundir.state["trackers"]["tensorboard"]["failed"] == "at step 3: No space left on device"
    said = list(heard.lines)
    evaluated(engine.recipe, rundir, heard)  # it is not asked again
    assert heard.lines == said


def test_a_tracker_that_does_not_take_the_test_s_figures_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: trackers)")
    heard, rundir = Heard(), RunDir(tmp_path / "run")
    rundir.path.mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "file" / "logs"))
    evaluated(load(ROOT / "recipes" / "tiny_mistral.toml", ["train.report_to=['tensorboard']"]).recipe, rundir, heard)
    [line] = heard.lines
    assert line.startswith("tracker          tensorboard did not take the test's figures (")
    assert line.endswith("); eval/report.json has them")
    assert rundir.state["trackers"]["tensorboard"]["failed"].startswith("after the test: ")


@pytest.mark.parametrize("task", ["chat", "tag"])
def test_a_whole_run_tells_what_its_report_says(task: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: trackers)")
    path = request.getfixturevalue("tiny_run") if task == "chat" else request.getfixturevalue("tag_run")[0]
    report = json.loads((path / "eval" / "report.json").read_text())
    found = {tag: at for tag, at in scalars(path / "tensorboard").items() if tag.startswith("test/")}
    names = {
        "chat": {"bits_per_byte", "rouge1", "rouge2", "rougeL", "stops", "exact_match"},
        "tag": {"span_f1", "span_macro_f1", "span_precision", "span_recall"},
    }[task]
    assert set(found) == {f"test/{part}/{name}" for part in ("base", "tuned") for name in names}
    steps = json.loads((path / "trainer_stats.json").read_text())["steps"]
    for tag, at in found.items():
        _, part, name = tag.split("/")
        assert at == {steps: pytest.approx(report[part][name]["value"], rel=1e-5)}


def test_one_that_cannot_start_is_an_error_before_anything_is_trained(
    train: Train, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: trackers)")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "file" / "logs"))
    with pytest.raises(EngineError) as error:
        train(*SETTINGS, "train.report_to=['tensorboard']", rundir=RunDir(tmp_path))
    assert str(error.value).startswith("train.report_to: tensorboard cannot start (")
    assert str(error.value).endswith("); or leave it out: --set 'train.report_to=[]'")
    assert not (tmp_path / "loss.csv").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_line_with_its_install_line(name: str, cli: Cli, tmp_path: Path) -> None:
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", [f"train.report_to=['{name}']"]).recipe
    if importlib.util.find_spec(name):
        require_trackers(recipe)
        return
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path / "runs", "--set", f"train.report_to=['{name}']")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"train.report_to: {name} is not installed; pip install {name}, or leave it out: --set 'train.report_to=[]'\n",
    )
    assert not (tmp_path / "runs").exists()


def test_keys_are_told_dotted() -> None:
    assert dict(leaves({"lora": {"rank": 8, "targets": ["q"]}, "seed": 1})) == {
        "lora.rank": 8, "lora.targets": ["q"], "seed": 1,
    }  # fmt: skip
