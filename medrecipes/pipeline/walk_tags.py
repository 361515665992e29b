"""The straight line of a tag recipe: tagged words to a run folder with an adapter and span scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError
from medrecipes.data.tagged_split import TaggedSplit
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import RunDir

if TYPE_CHECKING:
    from medrecipes.engines.trainer.tags import Tagger

REASON = "Unsloth has no tagging head; transformers, peft and bitsandbytes train it, on a card and on a CPU"


def require_one_process() -> None:
    """Raise where several processes were started, before any of them waits for another."""
    if processes.size() > 1:
        raise EngineError(f"task = 'tag' trains on one card, and {processes.size()} processes were started; start one")


def walk(recipe: Recipe, rundir: RunDir, console: Console, evaluate: bool) -> None:
    """All stages of a tagging run, top to bottom; without `evaluate` those up to the trained adapter."""
    from medrecipes.core.errors import RecipeError
    from medrecipes.core.files import write_json
    from medrecipes.core.hub import asked_cache
    from medrecipes.core.trust import named
    from medrecipes.data import leakage, tally
    from medrecipes.data.tagged_split import prepare_tagged
    from medrecipes.engines import Choice, require_trackers, tag_base
    from medrecipes.engines.bases import contradictions
    from medrecipes.evaluation import span_report
    from medrecipes.release import cards
    from medrecipes.release.personal_data.survey import held
    from medrecipes.rendering.word_windows import prove
    from medrecipes.runs import environment, file_hashes

    require_trackers(recipe)

    with console.stage("data") as stage:
        split = prepare_tagged(recipe)
        parts = split.parts()
        entities = sum(split.report["entities"]["train"].values())
        dropped, repaired = (sum(split.report[what].values()) for what in ("dropped", "repaired"))
        drawn = f"official {' and '.join(split.report['official'])}" if split.report["official"] else "split by group"
        stage.says(
            f"{tally.parts(split.report, f'rows with {entities:,} entities to train on')}, "
            f"{drawn}; {dropped:,} dropped, {repaired:,} repaired"
        )
    for kind, text in tally.told(split.report):
        console.line(f"{kind:<11} {text}")
    console.line(leakage.table(split.report["leakage"], console.width))
    for kind, text in held(split, pushes=recipe.publish.push):
        console.line(f"{kind:<11} {text}")

    with console.stage("base") as stage, console.quiet(rundir.log):
        base = tag_base(recipe, split)
        if problems := list(contradictions(recipe, base.facts)):
            raise RecipeError(problems)
        stage.says(f"{recipe.model.base}, {recipe.model.attention} attention, tags {' '.join(split.labels)}")

    if why := asked_cache():
        console.line(f"{'note':<11} what comes of the Hub is as it was fetched before ({why})")
        rundir.update(from_cache=why)

    with console.stage("words") as stage:
        proofs = {
            name: prove(base.tokenizer, part, split.labels, recipe.data.max_tokens, recipe.tag.overlap)
            for name, part in parts.items()
        }
        stage.says(str(proofs["train"]))
        data = {**split.report, "tokens": {name: proof.counts() for name, proof in proofs.items()}}
        write_json(rundir.path / "data.json", data)
    rundir.update(task=recipe.task, proofs={name: proof.to_json() for name, proof in proofs.items()})

    with console.stage("load") as stage, console.quiet(rundir.log):
        from medrecipes.engines.trackers.guard import tell_figures
        from medrecipes.engines.trainer.tags import Tagger

        engine = Tagger(recipe, base, split.labels)
        engine.choices["engine"] = Choice("plain", REASON)
        stage.says(f"{recipe.model.bits} bits, {engine.choices['precision']}")
    code = named(base) if recipe.model.trust_remote_code else None
    rundir.update(base=base.name, base_revision=base.revision, base_code=code, **environment.describe())

    stats = _train(recipe, rundir, engine, split, console)
    if not evaluate:
        rundir.update(split_key=split.key)
        console.line(f"{'adapter':<15} {rundir.adapter}")
        return

    with console.stage("judge") as stage, console.quiet(rundir.log):
        report = span_report.judge(recipe, engine, split, rundir.path / "eval")
        stage.says(f"tagged {report['rows']:,} {report['split']} rows, for the first and only time")

    tell_figures(recipe, rundir, report, stats["steps"], console)
    rundir.update(split_key=split.key, **rundir.account(engine.choices, console.stages, stats))
    cards.model_card(recipe, rundir, report, data, stats)
    file_hashes.finish(rundir)
    console.line()
    for line in span_report.summary(report, console.width):
        console.line(line)
    console.line()
    for name in ("adapter", "eval/report.md", "loss.png", "README.md"):
        console.line(f"{name:<15} {rundir.path / name}")


def _train(recipe: Recipe, rundir: RunDir, engine: Tagger, split: TaggedSplit, console: Console) -> dict[str, Any]:
    """Train the tagger, or open the adapter of a training that is done."""
    from medrecipes.core.files import read_json, write_json
    from medrecipes.evaluation.chat_report import kept
    from medrecipes.runs import loss_plot
    from medrecipes.runs.folder import read_losses

    with console.stage("train") as stage, console.quiet(rundir.log):
        if rundir.trained:
            stats: dict[str, Any] = read_json(rundir.path / "trainer_stats.json")
            engine.open_adapter(rundir.adapter)
            stage.says(f"done before: {stats['steps']} steps, {kept(stats)}")
            return stats
        try:
            stats = engine.train(split.train, split.dev, rundir, console)
        finally:
            losses = read_losses(rundir.path / "loss.csv")
            if losses:
                loss_plot.loss_png(rundir.path / "loss.png", recipe.name, losses, "the words' tags")
        best = f", dev F1 {stats['best_metric']:.3f}" if stats["metric"] == "f1" and split.dev else ""
        stage.says(
            f"{stats['steps']} steps, {stats['trainable_parameters']:,} of {stats['parameters']:,} parameters, "
            f"{kept(stats)}{best}"
        )
        write_json(rundir.path / "trainer_stats.json", stats)
        engine.save(rundir.adapter)
    rundir.train_ends(engine.choices, console.stages, stats)
    return stats
