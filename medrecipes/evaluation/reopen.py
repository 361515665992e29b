"""`medrecipes eval RUN`: a finished run's base and adapter answer again, or answer more, without any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError, MedRecipesError, RunError
from medrecipes.core.files import digest, read_json
from medrecipes.data.split import Split, prepare
from medrecipes.engines import said_of_load
from medrecipes.evaluation import answers, chat_report
from medrecipes.evaluation.benchmarks import allow_include, parse_suite, run_suite, suite_rows
from medrecipes.evaluation.finished_run import open_run, require_run
from medrecipes.evaluation.pages.run_page import PAGE, write_page
from medrecipes.evaluation.reopen_tags import evaluate_tags, on_dev
from medrecipes.recipe.schema import Recipe
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir, holding
from medrecipes.scoring.tables import aligned
from medrecipes.scoring.text_overlap import bits

if TYPE_CHECKING:
    from medrecipes.engines import Choice, Engine
    from medrecipes.engines.bases import Base
    from medrecipes.rendering.chat_template import ChatTemplate

P = ParamSpec("P")
T = TypeVar("T")


def at_work(command: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """A command that writes into the run folder that it is given first: it holds it until it has ended."""

    @wraps(command)
    def held(path: Path, /, *rest: P.args, **more: P.kwargs) -> T:
        require_run(path)
        with holding(path):
            return command(path, *rest, **more)

    return held


@dataclass(frozen=True)
class Wanted:
    """What a finished run is asked beside its own questions, or in their place."""

    fresh: bool = False
    suite: str | None = None
    include: Path | None = None  # task files of one's own
    checkpoint: int | None = None
    dev: bool = False


@at_work
def evaluate(path: Path, overrides: Sequence[str], console: Console, wanted: Wanted) -> Path:
    """Answer and report what is not answered yet, with the run's own template and base; returns the report's folder.

    Settings of [eval] may be overridden; what they change goes into a folder of its own, for a finished run is not altered,
    and so do answers to the dev rows in place of the test rows.
    """
    run, dev, checkpoint = open_run(path), wanted.dev, wanted.checkpoint
    rundir = run.rundir
    if run.tags and wanted.suite:
        raise RunError(f"{path}: is a tagging run, and --suite asks questions; leave it out")
    allow_include(wanted.include)
    tasks = parse_suite(wanted.suite) if wanted.suite else ()
    recipe = run.with_eval(overrides, "eval.rows=500")
    adapter = run.adapter(checkpoint)
    same = recipe.eval == run.own.eval and not (wanted.fresh or dev) and checkpoint is None
    other = ("" if checkpoint is None else f"-checkpoint-{checkpoint}") + "-dev" * dev
    folder = path / "eval" if same else _fresh(path, recipe, other, fresh=wanted.fresh)
    if run.tags:
        evaluate_tags(run, recipe, adapter, folder, console, dev=dev)
        return folder
    with (
        file_hashes.mending(rundir, folder, path / PAGE),
        opened(recipe, rundir, adapter, console, dev=dev) as (engine, template, rows, split),
    ):
        asked = answers.Questions(rows, template, recipe.eval, folder, console)
        with console.stage("base") as stage, console.quiet(rundir.log):
            with engine.base():
                before = answers.predict(chat_report.BASE, engine, asked)
            stage.says(f"answered {len(rows)} {split.held_out_name} questions")
        with console.stage("tuned") as stage, console.quiet(rundir.log):
            after = answers.predict(chat_report.TUNED, engine, asked)
            cases = _cases(recipe, engine, template, folder)
            stage.says(f"answered the same {len(rows)} questions" + (f", and {len(cases)} cases" if cases else ""))
        # answers in the run's own folder are the run's; those in another were all given just now
        computed = rundir.state.get("computed") if same else said_of_load(recipe.model.bits, engine.choices)
        suites = [run_suite(tasks, engine, rundir, wanted.include, console)] if tasks else []
        report = chat_report.report(recipe, (split.held_out_name, split.key), before, after, cases, computed)
        stats = path / "trainer_stats.json"
        if checkpoint is None and stats.exists():  # of another checkpoint the dev rows said something else
            report |= chat_report.on_dev(read_json(stats))
        earlier = read_json(folder / "report.json").get("suites", []) if (folder / "report.json").exists() else []
        if suites := [*earlier, *suites]:
            report["suites"] = suites
        chat_report.write_report(recipe.name, folder, report, before, after, cases)
        page = write_page(recipe, rundir, folder)
    for line in chat_report.markdown_table(report):
        console.line(line)
    for done in suites:
        console.line()
        for line in aligned(suite_rows(done)):
            console.line(line)
    console.line(f"report.md    {folder / 'report.md'}")
    console.line(f"{PAGE}  {page}")
    console.next_move("publish", path)
    return folder


def loss_again(path: Path, console: Console) -> tuple[float, float]:
    """Bits per byte of the held-out answers: as the run's tuned model had them, and as its saved adapter has them now."""
    run = open_run(path)
    recorded = [p for p in run.predictions if p.model == chat_report.TUNED]
    again, rows = adapter_loss(run.own, run.rundir, console)
    if {p.id for p in recorded} != {conversation.id for conversation, _ in rows}:
        raise RunError(f"{path}/eval/predictions.jsonl: is not of the rows that the recipe evaluates; answer them again with `medrecipes eval {path} --fresh`")  # fmt: skip
    size = sum(example.answer_bytes for _, example in rows)
    return sum(p.bits or 0.0 for p in recorded) / size, again


def adapter_loss(recipe: Recipe, rundir: RunDir, console: Console) -> tuple[float, Sequence[answers.Row]]:
    """Bits per byte of the held-out answers, as the saved adapter has them on its base, and those rows."""
    with (
        opened(recipe, rundir, rundir.adapter, console) as (engine, _, rows, _),
        console.stage("loss") as stage,
        console.quiet(rundir.log),
    ):
        nats = sum(map(bits, engine.answer_nats([example for _, example in rows])))
        stage.says(f"{len(rows)} answers of the saved adapter")
    return nats / sum(example.answer_bytes for _, example in rows), rows


def _fresh(path: Path, recipe: Recipe, other: str, *, fresh: bool) -> Path:
    """A folder by its settings, and by what `other` rows or adapter it is of; asked for a fresh one, the first that is free."""
    # a key that the schema gained changes no folder's name where it says what was done before
    settings = recipe.eval.model_dump(mode="json", exclude=set() if recipe.eval.max_reasoning_tokens else {"max_reasoning_tokens"})  # fmt: skip
    first = folder = path / f"eval-{digest(settings)[:8]}{other}"
    number = 2
    while fresh and folder.exists():
        folder = first.with_name(f"{first.name}-{number}")
        number += 1
    return folder


@contextmanager
def opened(
    recipe: Recipe, rundir: RunDir, adapter: Path, console: Console, split: Split | None = None, *, dev: bool = False
) -> Iterator[tuple[Any, ChatTemplate, Sequence[answers.Row], Split]]:
    """Engine, template, rows and split, as the run had them; what has changed since is an error. `split`: made already;
    `dev`: the dev rows are answered in place of the test rows.

    With several processes the others open it too (`assist`), and answer with the leader until the end.
    """
    from medrecipes.engines import foundation
    from medrecipes.engines.multi_gpu.leader import leading
    from medrecipes.rendering.overflow import fit

    recipe = rundir.pinned(recipe) if (rundir.path / "data.json").exists() else recipe
    with console.stage("data") as stage:
        split = split or prepare(recipe)
        rundir.require_data(split.key)
        split = on_dev(split) if dev else split
        stage.says(f"{len(split.held_out)} {split.held_out_name} rows")
    with console.stage("load") as stage, console.quiet(rundir.log):
        choice, base, template = foundation(recipe, split)
        if template.sha256 != rundir.state["template_sha256"]:
            raise RunError(f"{rundir.path}: template {template.name} has changed since it was trained; bring it back")
        fitted = fit(template, split.held_out, recipe.data.max_tokens, recipe.data.on_overflow)
        processes.share((recipe, adapter))
        engine = _load(recipe, base, template, choice, adapter)
        stage.says(f"{recipe.model.base} with {adapter.relative_to(rundir.path)} of {rundir.path.name}")
    with leading(engine) as led:
        yield led, template, answers.held_out(recipe, fitted), split


def assist() -> None:
    """What one of several processes does beside the leader: it opens what the leader opens, and answers with it."""
    from medrecipes.engines import foundation
    from medrecipes.engines.multi_gpu.leader import follow

    while (asked := processes.share(None)) is not None:
        recipe, adapter = asked
        choice, base, template = foundation(recipe, prepare(recipe))
        try:
            engine = _load(recipe, base, template, choice, adapter)
        except MedRecipesError:
            continue  # the leader meets it too, or is told
        follow(engine)
        del engine  # before another is opened


def _load(recipe: Recipe, base: Base, template: ChatTemplate, choice: Choice, adapter: Path) -> Engine:
    """Base and adapter; of several processes all load them, or none."""
    from medrecipes.engines import open_engine

    mine = None
    try:
        engine = open_engine(recipe, base, template, choice)
        engine.open_adapter(adapter)
    except MedRecipesError as error:
        mine = error
    said = [text for text in processes.gather(str(mine or "")) if text]
    if said:
        raise mine or EngineError(said[0])
    return engine


def _cases(recipe: Recipe, engine: Any, template: Any, folder: Path) -> list[Any]:
    from medrecipes.evaluation.cases import read_cases

    if not recipe.eval.cases:
        return []
    return answers.answer_cases(engine, template, read_cases(recipe.eval.cases), recipe.eval, folder)
