"""The pipeline, from recipe to run folder: data, base, tokens, proofs, load, evaluate, train, evaluate. Start reading here."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError
from medrecipes.core.files import read_json, write_json
from medrecipes.core.hub import asked_cache
from medrecipes.core.notes import labelled
from medrecipes.core.trust import named
from medrecipes.data import leakage, tally
from medrecipes.engines import require_trackers, said_of_load, tell_figures
from medrecipes.engines.multi_gpu.leader import leading
from medrecipes.engines.plan.dimensions import capped
from medrecipes.evaluation.chat_report import kept
from medrecipes.evaluation.pages.run_page import PAGE, write_page
from medrecipes.pipeline.tasks import Evaluation, Foundation, Rendered, Task
from medrecipes.pipeline.tasks.chat import Chat
from medrecipes.pipeline.tasks.tag import Tag
from medrecipes.recipe.schema import Recipe
from medrecipes.release import cards
from medrecipes.release.personal_data.survey import held
from medrecipes.release.publish import publish, ready
from medrecipes.runs import environment, file_hashes, loss_plot
from medrecipes.runs.folder import TRAINED, RunDir, of_another_kind, open_run, read_losses, run_path

TASKS: dict[str, type[Chat] | type[Tag]] = {"chat": Chat, "tag": Tag}


def run(recipe: Recipe, runs: Path, console: Console, *, fresh: bool = False, evaluate: bool = True) -> RunDir:
    """Run the whole pipeline, or report that it was run before; an unfinished run goes on where it stopped.

    Without `evaluate` it ends with the trained adapter, and no held-out row is answered; asked again, it goes on from there.
    """
    task: Task = TASKS[recipe.task](recipe)
    _require_processes(recipe, task)
    processes.join()
    path = processes.share(run_path(recipe, runs, fresh=fresh))
    rundir = RunDir(path, writes=processes.leads())
    console.stages.clear()  # of a run before this one
    done = ("finished",) if evaluate else ("finished", TRAINED)
    opens = processes.leads() and rundir.state.get("state") not in done
    for other in of_another_kind(recipe, runs) if opens and not path.exists() else ():
        console.line(labelled("note", f"{other} is of an earlier version, whose keys say nothing of this recipe: it is left as it is, and a new run begins"))  # fmt: skip
    with open_run(path, recipe) if opens else nullcontext(rundir) as rundir:
        # another process may have come to its end just before this one held it
        state = processes.share(rundir.state.get("state"))
        if state in done:
            _done_before(recipe, path, str(state), console)
        elif processes.leads():
            walk(recipe, task, rundir, console, evaluate=evaluate)
        else:
            with console.quiet(Path(os.devnull)):  # the leader's libraries print the same
                task.follow(rundir)
    processes.part()
    if recipe.publish.push and evaluate:
        gc.collect()  # the release loads the adapter once more, and the trained model is not needed any longer
        publish([rundir.path], console, push=True, settings=recipe.publish)
    return rundir


def walk(recipe: Recipe, task: Task, rundir: RunDir, console: Console, *, evaluate: bool) -> None:
    """Every stage of a run, top to bottom; what differs between chat and tagging is the task's."""
    require_trackers(recipe)
    task.require()
    ready(recipe)

    with console.stage("data") as stage:
        split = task.split(console)
        split.parts()  # each has rows
        dropped, repaired = (sum(split.report[what].values()) for what in ("dropped", "repaired"))
        stage.says(f"{task.describe(split)}; {dropped:,} dropped, {repaired:,} repaired")
    _print(console, tally.told(split.report))
    if said := leakage.headline(split.report["leakage"]):
        console.line(labelled("leakage", said))
    console.line(leakage.table(split.report["leakage"], console.width))
    with console.working("personal data"):
        _print(console, held(split, pushes=recipe.publish.push))

    # the engine's libraries are imported while rows are tokenised and proved, and print into the log meanwhile
    with ExitStack() as importing:
        importing.enter_context(console.quiet(rundir.log))
        with console.stage("base") as stage:
            found = task.foundation(split)
            importing.callback(found.loaded)
            stage.says(found.said)
        console.line(labelled("engine", str(found.engine)))
        if why := asked_cache():
            console.line(labelled("note", f"what comes of the Hub is as it was fetched before ({why})"))
            rundir.update(from_cache=why)

        with console.stage("tokens") as stage:
            rendered = task.render(found, split, console)
            write_json(rundir.path / "data.json", rendered.data)
            stage.says(rendered.said)
        _print(console, rendered.notes)
        if mixture := rendered.data.get("mixture"):
            rundir.update(mixture=mixture)

        with console.stage("proofs") as stage:
            proofs = task.prove(found, rendered)
            stage.says(str(proofs["train"]))
        _print(console, (("note", note) for note in task.notes(found)))
        rundir.update(task=recipe.task, proofs={name: proof.to_json() for name, proof in proofs.items()})

        with console.stage("load") as stage:
            engine = task.open(found, split)
            computed = said_of_load(recipe.model.bits, engine.choices)
            stage.says(computed)
    if said := task.estimate(found, rendered):
        console.line(labelled("estimate", said))
    rundir.update(computed=computed, **_about(recipe, found), **environment.describe())

    evaluation = Evaluation(rundir.path / "eval", console)
    with leading(engine) as led:
        if evaluate:
            with console.stage("evaluate (base)") as stage, console.quiet(rundir.log):
                before = task.reference(led, found, rendered, evaluation)
                stage.says(before.said)
        stats = _train(recipe, task, rundir, led, rendered, console)
        rundir.update(split_key=split.key, **_template(found))
        if not evaluate:
            console.line(f"{'adapter':<15} {rundir.adapter}")
            return
        with console.stage("evaluate (tuned)") as stage, console.quiet(rundir.log):
            after = task.answers(led, found, rendered, evaluation)
            stage.says(after.said)

    with console.working("report"):
        report = task.report(split, before, after, Evaluation(evaluation.folder, console, stats, computed))
        tell_figures(recipe, rundir, report, stats["steps"], console)
        finished_at = time.strftime("%Y%m%d_%H%M%S", time.gmtime())
        rundir.update(finished_at=finished_at, **rundir.account(engine.choices, console.stages, stats))
        cards.model_card(recipe, rundir, report, dict(rendered.data), stats)
        write_page(recipe, rundir, evaluation.folder)
        file_hashes.finish(rundir)
    console.line()
    task.summary(report, before, after, console)
    console.line()
    for name in ("adapter", PAGE, "eval/report.md", "loss.png", "README.md"):
        console.line(f"{name:<15} {rundir.path / name}")
    console.line(f"{'talk to it':<15} {task.next_move(rundir.path)}")


def _train(
    recipe: Recipe, task: Task, rundir: RunDir, engine: Any, rendered: Rendered, console: Console
) -> dict[str, Any]:
    """Train and choose by the dev rows, or open the adapter of a training that is done."""
    with console.stage("train") as stage, console.quiet(rundir.log):
        if rundir.trained:
            stats: dict[str, Any] = read_json(rundir.path / "trainer_stats.json")
            engine.open_adapter(rundir.adapter)
            stage.says(f"done before: {stats['steps']} steps, {kept(stats)}")
            return stats
        best = None
        try:
            stats = engine.train(rendered.train, rendered.dev, rundir, console)
            best = stats["best_step"]
        finally:
            if losses := read_losses(rundir.path / "loss.csv"):
                loss_plot.loss_png(rundir.path / "loss.png", recipe.name, losses, task.supervised, best)
        stage.says(_trained(stats))
        write_json(rundir.path / "trainer_stats.json", stats)
        engine.save(rundir.adapter)
    rundir.train_ends(engine.choices, console.stages, stats)
    return stats


def _trained(stats: dict[str, Any]) -> str:
    """A training in a line."""
    parts = [
        f"{stats['steps']} steps",
        f"{stats['trainable_parameters']:,} trainable parameters of {stats['parameters']:,}",
        kept(stats),
    ]
    if stats["metric"] == "f1":
        parts.append(f"dev F1 {stats['best_metric']:.3f}")
    if processes.size() > 1:
        parts.append(f"at most {stats['peak_gb']} GB of a GPU")
    if "after others" in stats.get("proved", ()):
        parts.append("packing isolation verified")
    return ", ".join(parts)


def _about(recipe: Recipe, found: Foundation) -> dict[str, Any]:
    """What run.json says of the base."""
    base = found.base
    code = named(base) if recipe.model.trust_remote_code else None
    return {
        "base": base.name, "base_revision": base.revision, "base_licence": base.licence, "base_code": code,
        "base_caps": capped(base.config),
    }  # fmt: skip


def _template(found: Foundation) -> dict[str, str]:
    return {"template": found.template.name, "template_sha256": found.template.sha256} if found.template else {}


def _print(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    for label, text in lines:
        console.line(labelled(label, text))


def _done_before(recipe: Recipe, path: Path, state: str, console: Console) -> None:
    if processes.leads():
        looks = "only its release is looked at" if recipe.publish.push else "nothing done"
        again = f"finished before: {path} ({looks}; --fresh starts another beside it)"
        console.line(again if state == "finished" else f"trained before: {path}")


def _require_processes(recipe: Recipe, task: Task) -> None:
    """Raise where the number of processes is wrong for the recipe, before any of them waits for another."""
    if processes.size() == 1:
        if recipe.model.shard is True:
            raise EngineError(
                "model.shard = true: one process has no other process to share the base with; start several with --gpus N"
            )
        return
    if task.one_gpu:
        raise EngineError(
            f"task = {recipe.task!r} trains on one GPU, and {processes.size()} processes were started; start one"
        )
    if recipe.publish.push:
        raise EngineError(
            "publish.push = true: several processes train together here; set it to false, and release the run afterwards "
            "with `medrecipes publish RUN --push`, and --gpus N where its base is shared"
        )
