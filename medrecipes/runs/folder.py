"""The run folder: its layout, its state, the loss log, and what makes it resume or finish whole."""

from __future__ import annotations

import csv
import glob
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medrecipes.core import processes
from medrecipes.core.errors import MedRecipesError, RunError, SpoiledError
from medrecipes.core.files import SCRATCH, digest, digest_path, locked, read_json, write_json, write_text, writing
from medrecipes.core.notes import note
from medrecipes.recipe.repository_names import folder_name
from medrecipes.recipe.schema import DEFAULTS, Recipe
from medrecipes.runs.checkpoints import looked_over

LOSS_COLUMNS = (
    "step", "epoch", "split", "loss", "learning_rate", "grad_norm",
    "tokens", "supervised_tokens", "tokens_per_second", "peak_gb",
)  # fmt: skip


# what a run folder holds whose process was killed before it wrote a state
STARTED = re.compile(rf"(\.medrecipes)?\.lock$|recipe\.toml$|{re.escape(SCRATCH)}")

LOCK = ".medrecipes.lock"
BACK = "bring the file back, or start another run beside it with --fresh"
TRAINED = "trained"  # the state of a run whose held-out rows are not answered yet


def _state(file: Path) -> dict[str, Any]:
    """What a run.json says; without one, nothing is done yet."""
    try:
        value = read_json(file) if file.exists() else {}
    except (MedRecipesError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SpoiledError(f"{file}: is not what a run wrote; {BACK}")
    return value


class RunDir:
    """`runs/<name>-<key8>/`; `run.json` is its state, rewritten whole at every change."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes
        self.state: dict[str, Any] = _state(path / "run.json")

    @property
    def adapter(self) -> Path:
        """Where the adapter and its tokenizer lie."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Where training can go on from."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """What the libraries printed."""
        return self.path / "log.txt"

    @property
    def finished(self) -> bool:
        """Whether the whole pipeline was walked to its end."""
        return self.state.get("state") == "finished"

    def update(self, **values: Any) -> None:
        """Set values of run.json."""
        self.state.update(values)
        if self._writes:
            write_json(self.path / "run.json", self.state)

    def account(
        self, choices: Mapping[str, Any], seconds: Mapping[str, float], stats: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What run.json says of choices, time and memory; of a training that was done before, what was recorded then."""
        made = {name: {"value": choice.value, "reason": choice.reason} for name, choice in choices.items()}
        return {
            "choices": {**self.state.get("choices", {}), **made},
            "seconds": {**seconds, **self.state.get("seconds", {})},
            "peak_gb": stats["peak_gb"],
        }

    def train_ends(self, choices: Mapping[str, Any], seconds: Mapping[str, float], stats: Mapping[str, Any]) -> None:
        """Training is done, and its adapter saved: nothing of it is done again, should this process be killed."""
        self.update(state=TRAINED, trained=self._left(), **self.account(choices, seconds, stats))

    @property
    def trained(self) -> bool:
        """Whether training is done, and what it left is as it was; else it goes on from the last checkpoint."""
        if self.state.get("state") != TRAINED:
            return False
        whole = bool(self.state.get("trained") == self._left())
        if not whole:
            note(f"{self.adapter}: is not as training left it; it is made again")
        return whole

    def _left(self) -> str:
        """The sha256 of what training left."""
        return digest([digest_path(self.path / name) for name in ("adapter", "trainer_stats.json") if (self.path / name).exists()])  # fmt: skip

    def pinned(self, recipe: Recipe) -> Recipe:
        """The recipe with base and data of the Hub at the commits that this run had, wherever their branches stand now."""
        data, model = recipe.data, recipe.model
        commits = [source["sha"] for source in read_json(self.path / "data.json")["sources"]]
        if data.mix:
            mix = [e.model_copy(update={"revision": c or e.revision}) for e, c in zip(data.mix, commits, strict=True)]
            data = data.model_copy(update={"mix": tuple(mix)})
        else:
            data = data.model_copy(update={"revision": commits[0] or data.revision})
        model = model.model_copy(update={"revision": self.state.get("base_revision") or model.revision})
        return recipe.model_copy(update={"data": data, "model": model})

    def require_data(self, key: str) -> None:
        """Raise unless a split has the key of the one that the run was made of."""
        if key != self.state["split_key"]:
            raise RunError(f"{self.path}: its data has changed since it was trained; bring the old files back")

    def require_finished(self) -> None:
        """Raise unless there is something finished to work on."""
        if not self.finished:
            raise RunError(f"{self.path}: is not a finished run; finish it with `medrecipes run` on its recipe")


def run_path(recipe: Recipe, runs: Path, *, fresh: bool) -> Path:
    """The folder of a recipe's run; `fresh`: the next free one beside those that exist."""
    path = runs / f"{folder_name(recipe.name)}-{recipe.key[:8]}"
    number = 2
    first = path
    while fresh and path.exists():
        path = first.with_name(f"{first.name}-{number}")
        number += 1
    return path


def of_another_kind(recipe: Recipe, runs: Path) -> list[Path]:
    """Folders of this recipe's name whose keys were made by another rule, so that nobody knows whether they are of this recipe."""
    found = sorted(path.parent for path in runs.glob(f"{glob.escape(recipe.name)}-????????/run.json"))
    return [path for path in found if _rule(path) != DEFAULTS]


def _rule(path: Path) -> Any:
    """By which defaults a run's key was made; None where it does not say so."""
    with suppress(MedRecipesError, AttributeError):
        return RunDir(path).state.get("identity", {}).get("defaults")
    return None


@contextmanager
def holding(path: Path, way_out: str = "wait for it") -> Iterator[None]:
    """Hold a folder while a command writes into it; a second one is told in a line who is at work there.

    A folder that was made for it, and in which nothing was left, is gone afterwards.
    """
    absent = [folder for folder in (path, path.parent) if not folder.exists()]
    try:
        with ExitStack() as stack:
            try:
                with writing(path):
                    stack.enter_context(locked(path / LOCK, wait=False))
            except BlockingIOError as error:
                raise RunError(f"{path}: {error.strerror or 'another process'} is at work there; {way_out}") from None
            yield
    finally:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def open_run(path: Path, recipe: Recipe) -> Iterator[RunDir]:
    """Hold a run folder; one that fails before any training leaves nothing behind."""
    with holding(path, "wait for it, or use --fresh"):
        held = sorted(p.name for p in path.iterdir())
        existed = "run.json" in held
        if not existed and (foreign := [name for name in held if not STARTED.match(name)]):
            raise RunError(f"{path}: stands in the way and is no run folder, for it holds {foreign[0]!r} but no run.json; move it away, or choose another --runs")  # fmt: skip
        rundir = RunDir(path)
        try:
            if not existed:
                write_text(path / "recipe.toml", recipe.to_toml())
                rundir.update(state="preparing", name=recipe.name, key=recipe.key, identity=recipe.identity)
            yield rundir
        except MedRecipesError:
            if not existed and rundir.state.get("state") in (None, "preparing"):
                shutil.rmtree(path, ignore_errors=True)
            raise


SYNC_S = 1.0  # a GPU waits while the disk is at work, and the system keeps what a killed process wrote


@dataclass
class Seen:
    """What one process saw in a step: how many tokens, and which rows, should its loss be no number."""

    step: int | None = None
    tokens: int = 0
    supervised: int = 0
    rows: list[int] = field(default_factory=list)


class LossLog:
    """`loss.csv`, a row handed to the system as it happens, and to the disk every second; of several processes one `writes`."""

    def __init__(self, path: Path, resumed_from_step: int | None = None, *, writes: bool = True) -> None:
        self.path = path
        # what was logged after the checkpoint will happen again; without one, everything, the evaluation before step 1 too
        earlier = read_losses(path) if resumed_from_step is not None else []
        kept = [row for row in earlier if int(row["step"]) <= (resumed_from_step or 0)]
        # of all processes, up to the step that was last told
        self.tokens = max((int(row["tokens"] or 0) for row in kept), default=0)
        self.supervised_tokens = max((int(row["supervised_tokens"] or 0) for row in kept), default=0)
        self._steps: list[Seen] = [Seen()]  # that are not told, the last of them at work
        self._synced = 0.0
        if not writes:
            self._file: TextIO = Path(os.devnull).open("a", encoding="utf-8")  # noqa: SIM115
            self._writer = csv.DictWriter(self._file, LOSS_COLUMNS)
            return
        lines = [",".join(LOSS_COLUMNS), *(",".join(row[name] for name in LOSS_COLUMNS) for row in kept)]
        write_text(path, "\n".join(lines) + "\n")
        with writing(path):
            self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, LOSS_COLUMNS, lineterminator="\n")

    def count(self, rows: Sequence[int], tokens: int, supervised: int) -> None:
        """A micro-batch of the step at work."""
        seen = self._steps[-1]
        seen.rows += rows
        seen.tokens += tokens
        seen.supervised += supervised

    def step_ends(self, step: int) -> None:
        """What is counted from now on is of the next step."""
        self._steps[-1].step = step
        self._steps.append(Seen())

    def tell(self, step: int) -> list[int]:
        """Add what all processes have seen up to a step's end; the numbers of the rows that this one has."""
        told = [seen for seen in self._steps if seen.step is not None and seen.step <= step]
        self._steps = self._steps[len(told) :]
        tokens, supervised = processes.total(sum(s.tokens for s in told), sum(s.supervised for s in told))
        self.tokens, self.supervised_tokens = self.tokens + tokens, self.supervised_tokens + supervised
        return [row for seen in told for row in seen.rows]

    def row(self, **values: Any) -> None:
        """Append a row; floats at full precision, so that two runs can be compared bit by bit."""
        with writing(self.path):
            self._writer.writerow(values)
            self._file.flush()
            if self._file.name != os.devnull and time.monotonic() > self._synced + SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_losses(path: Path) -> list[dict[str, str]]:
    """The rows of a loss.csv; a last line that a crash cut short is left out, any other that is no row is an error."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        rows = list(csv.DictReader(text.splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpoiledError(f"{path}: cannot be read ({error}); {BACK}") from None
    if rows and not text.endswith("\n") and not _is_row(rows[-1]):
        rows.pop()
    if wrong := [number for number, row in enumerate(rows, 2) if not _is_row(row)]:
        raise SpoiledError(f"{path}:{wrong[0]}: is no row of losses; {BACK}")
    return rows


def _is_row(row: Mapping[str | None, Any]) -> bool:
    """Whether a line has every column, and in those that are counted with, numbers."""
    try:
        int(row["step"]), float(row["loss"]), int(row.get("tokens") or 0)
    except (KeyError, ValueError, TypeError):
        return False
    return None not in row and None not in row.values()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that training can go on from."""
    return next((checkpoint for checkpoint, wrong in looked_over(folder) if not wrong), None)
