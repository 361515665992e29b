"""What all tests share: the real data where it is at hand, a store of their own, and the command line in a subprocess."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from medrecipes.runs.folder import read_losses
from tests import forked

if TYPE_CHECKING:
    from medrecipes.rendering.chat_template import Example
    from medrecipes.runs.folder import RunDir

ROOT = Path(__file__).parent.parent
# the tiny runs that tests look at, with a tracker, which is told at the end what the test found
TRACKED = ("--set", "train.report_to=['tensorboard']")
TAG = ("recipes/tiny_bio_ner.toml", *TRACKED)
SHORT = ("train.max_steps=12", "train.save_steps=6", "train.eval_steps=6", "eval.rows=6", "eval.max_new_tokens=24")
DEMO = ("recipes/tiny_mistral.toml", *TRACKED, *(word for setting in SHORT for word in ("--set", setting)))
# put before code in a process of its own: tiny bases are trained for a few steps only, for what asks nothing of their answers
HASTY = """
from dataclasses import replace
from functools import partial
from medrecipes.engines import load_libraries
from medrecipes.recipe.schema import Recipe
load_libraries(Recipe())
from medrecipes.engines import tiny_bases
tiny_bases.build = partial(tiny_bases.build, size=replace(tiny_bases.TINY, max_steps=10, eval_every=10))
"""
COMMAND = "import sys\nfrom medrecipes.commands import main\nsys.exit(main(sys.argv[1:]))"  # what `medrecipes` is
Cli = Callable[..., subprocess.CompletedProcess[str]]
Train = Callable[..., tuple[Any, "RunDir", list[dict[str, Any]]]]
# two workers share two processors; more threads than that only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# the other engine needs a GPU and a process of its own: MEDRECIPES_TEST_ENGINE=plain pytest tests/test_engine.py
ENGINE = os.environ.get("MEDRECIPES_TEST_ENGINE", "unsloth")
MODULE = pytest.StashKey[tuple[Path]]()  # of the test before
gc.set_threshold(50_000, 20, 20)  # many small tests make many objects, and few that refer to each other in a circle


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Between two modules, leave what lives on out of later garbage collections: every training starts with one of all objects."""
    if item.path not in item.session.stash.get(MODULE, ()):
        item.session.stash[MODULE] = (item.path,)
        gc.collect()
        gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many attacks of each kind ran: a test of them says `record_property("attacks", ("bad recipes", 400))`."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in getattr(report, "user_properties", ()):
            if name == "attacks" and report.when == "call":
                counts[value[0]] += value[1]
    if counts:
        terminalreporter.write_line(
            "attacks withstood: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
        )


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _own_store(shared: Path) -> None:
    """Nothing that an earlier session left in the user's store can help a test, and no hub is asked."""
    os.environ["MEDRECIPES_CACHE"] = str(shared / "store")
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real public data."""
    folder = os.environ.get("MEDRECIPES_DATA")
    if not folder:
        pytest.skip("MEDRECIPES_DATA is not set: the real public files are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Runs `medrecipes …` in a process of its own, the libraries imported: `cli("run", "recipes/tiny_mistral.toml")`."""

    def call(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        return forked.run("-m", "medrecipes", *arguments, **settings)

    return call


@pytest.fixture(scope="session")
def fresh() -> Cli:
    """As `cli`, but as a user does, in a new interpreter: for what the imports are a part of."""

    def call(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medrecipes", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **settings)  # type: ignore[call-overload]

    return call


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """As `cli`, but all commands in one process, which has the libraries imported: for what a fresh one does not change."""
    from tests.shell import Shell

    with Shell(tmp_path_factory.mktemp("shell"), os.environ) as shell:

        def call(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
            done = shell(*arguments, **settings)
            return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)

        call.shell = shell  # type: ignore[attr-defined]
        yield call


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


RANK = """
import os, runpy, sys
os.environ.update(RANK=sys.argv[1], LOCAL_RANK=sys.argv[1], WORLD_SIZE=sys.argv[2], LOCAL_WORLD_SIZE=sys.argv[2],
                  MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[3])
module, *sys.argv[1:] = sys.argv[4:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def work_out(module: str, *words: object, processes: int = 1) -> str:
    """What a module of the tests prints in a process of its own, or in several that know of each other."""
    torch = pytest.importorskip("torch")
    if processes > 1 and not torch.cuda.is_available():  # as torch.distributed.run starts them, the libraries imported
        port = free_port()
        ranks = [forked.start("-c", RANK, rank, processes, port, module, *words, engine="trl") for rank in range(processes)]  # fmt: skip
        try:
            said = [rank.communicate(timeout=300) for rank in ranks]
        finally:  # nobody waits for one that failed
            for rank in ranks:
                rank.send_signal(signal.SIGKILL)
        assert [rank.returncode for rank in ranks] == [0] * processes, said
        return "".join(out for out, _ in said)
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = forked.run(*(several if processes > 1 else []), "-m", module, *words, engine="trl")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def need_gpus(count: int) -> None:
    """Skip what wants so many NVIDIA GPUs, where they are not."""
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < count:
        pytest.skip("no NVIDIA GPU" if count == 1 else f"no {count} NVIDIA GPUs")


def need_no_gpus() -> None:
    """Skip what is said where there is no NVIDIA GPU, where one is."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")


def sets(*settings: str) -> list[str]:
    """Settings as they are typed."""
    return [word for value in settings for word in ("--set", value)]


def children_seconds() -> float:
    """Processor time of all finished subprocesses: what a command costs, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(path: Path, step: int, *arguments: str) -> forked.Forked | subprocess.Popen[str]:
    """Start a run, given the folder that it will have, and come back when its log has reached a step."""
    process = forked.start("-m", "medrecipes.run", *arguments, "--runs", path.parent)
    deadline = time.monotonic() + 300  # others may use the machine too
    while not any(int(row["step"]) >= step for row in read_losses(path / "loss.csv")):
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def rendered_rows(max_tokens: int = 256, *overrides: str) -> list[Example]:
    """The demo's training rows as ids and labels, the shortest first."""
    from medrecipes.data.split import prepare
    from medrecipes.engines import load_libraries, recipe_base
    from medrecipes.recipe.load import load
    from medrecipes.rendering.chat_template import ChatTemplate
    from medrecipes.rendering.overflow import fit

    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", [f"model.engine={ENGINE}", *overrides]).recipe
    split = prepare(recipe)
    load_libraries(recipe)
    template = ChatTemplate(recipe.template.name, recipe_base(recipe, split).tokenizer)
    return sorted(fit(template, split.train, max_tokens, "drop").examples, key=lambda e: len(e.input_ids))


def extremes(examples: Sequence[Example]) -> list[Example]:
    """Thirty rows of very different length."""
    return [*examples[:15], *examples[-15:]]


@pytest.fixture(scope="session")
def libraries() -> None:
    """What training is made of, imported in the order it wants; modules that import it come behind."""
    from medrecipes.engines import load_libraries
    from medrecipes.recipe.load import load

    load_libraries(load(ROOT / "recipes" / "tiny_mistral.toml", [f"model.engine={ENGINE}"]).recipe)
    gc.freeze()


@pytest.fixture(scope="session")
def rows(shared: Path) -> list[Example]:
    """Thirty rendered rows of the demo, of very different length."""
    with FileLock(shared / "demo_run.lock"):  # whoever is first makes the base
        return extremes(rendered_rows())


@pytest.fixture(scope="session")
def train(rows: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains the demo with these overrides and gives the engine, the run folder, and every batch that the model saw.

    `before` is called with the base model and the engine, `console` hears what is said.
    """
    import torch

    from medrecipes.core.console import Console
    from medrecipes.data.split import prepare
    from medrecipes.engines import load_libraries, open_engine, recipe_base
    from medrecipes.recipe.load import load
    from medrecipes.rendering.chat_template import ChatTemplate
    from medrecipes.runs.folder import RunDir

    def call(
        *overrides: str, examples: Sequence[Example] = rows, dev: Sequence[Example] = (), rundir: RunDir | None = None,
        before: Callable[[Any], None] = lambda _: None, console: Any = None,
    ) -> tuple[Any, RunDir, list[dict[str, Any]]]:  # fmt: skip
        settings = [
            f"model.engine={ENGINE}", "train.precision=fp32", "train.keep_best=last", "train.warmup_steps=0",
            "train.scheduler=constant", *overrides,
        ]  # fmt: skip
        recipe = load(ROOT / "recipes" / "tiny_mistral.toml", settings).recipe
        base = recipe_base(recipe, prepare(recipe))
        template = ChatTemplate(recipe.template.name, base.tokenizer)
        engine: Any = open_engine(recipe, base, template, load_libraries(recipe))
        seen: list[dict[str, Any]] = []

        def look(_: Any, __: Any, batch: dict[str, Any]) -> None:
            if torch.is_grad_enabled():  # what it learns from
                seen.append({k: v.tolist() for k, v in batch.items() if hasattr(v, "tolist")})

        engine.model.register_forward_pre_hook(look, with_kwargs=True)
        before(engine)
        rundir = rundir or RunDir(tmp_path_factory.mktemp("run"))
        console = console or Console()
        with console.quiet(rundir.log):
            engine.train(examples, dev, rundir, console)
        return engine, rundir, seen

    return call


def walked(fresh: Cli, arguments: Sequence[str], folder: Path) -> tuple[Path, str]:
    """A run that one worker walks and all look at, and what it printed."""
    with FileLock(f"{folder}.lock"):
        if not (folder / "printed.txt").exists():
            before = children_seconds()
            done = fresh("run", *arguments, "--runs", folder / "runs")
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stderr == ""
            # base, training and scores together
            (folder / "seconds.txt").write_text(str(children_seconds() - before))
            (folder / "printed.txt").write_text(done.stdout)
    return next((folder / "runs").iterdir()), (folder / "printed.txt").read_text()


@pytest.fixture(scope="session")
def tag_run(fresh: Cli, shared: Path) -> tuple[Path, str]:
    """The tiny tagging recipe, whole, and what it printed; copy it before changing anything."""
    return walked(fresh, TAG, shared / "tag_run")


@pytest.fixture(scope="session")
def demo_run(fresh: Cli, shared: Path) -> tuple[Path, str]:
    """A finished short run of the demo, and what it printed; copy it before changing anything."""
    return walked(fresh, DEMO, shared / "demo_run")


@pytest.fixture(scope="session")
def tiny_run(demo_run: tuple[Path, str]) -> Path:
    """The demo's run alone."""
    return demo_run[0]
