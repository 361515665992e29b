"""The straight line, from recipe to run folder: `python -m medrecipes.run recipes/demo.toml`."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError, RecipeError
from medrecipes.pipeline import walk_tags
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import TRAINED, RunDir, of_another_kind, open_run, run_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medrecipes.engines import Engine
    from medrecipes.evaluation.answers import Row
    from medrecipes.evaluation.cases import Case
    from medrecipes.rendering.chat_template import ChatTemplate, Example
    from medrecipes.scoring.predictions import Prediction

LOSS_ON = {"answers": "answers", "all": "whole texts"}


def run(recipe: Recipe, runs: Path, console: Console, *, fresh: bool = False, evaluate: bool = True) -> RunDir:
    """Walk the whole line, or say that it was walked before; an unfinished run goes on where it stopped.

    Without `evaluate` it ends with the trained adapter, and no held-out row is answered; asked again, it goes on from there.
    """
    if recipe.task == "tag":
        walk_tags.require_one_process()
    if recipe.model.shard is True and processes.size() == 1:
        raise EngineError(
            "model.shard = true: one process has nobody to share the base with; start several with --gpus N"
        )
    if recipe.publish.push and processes.size() > 1:
        raise EngineError(
            "publish.push = true: several processes train together here; set it to false, and release the run afterwards "
            "with `medrecipes publish RUN --push`, and --gpus N where its base is shared"
        )
    processes.join()
    path = processes.share(run_path(recipe, runs, fresh=fresh))
    rundir = RunDir(path, writes=processes.leads())
    console.stages.clear()  # of a run before this one
    done = ("finished",) if evaluate else ("finished", TRAINED)
    opens = processes.leads() and rundir.state.get("state") not in done
    for other in of_another_kind(recipe, runs) if opens and not path.exists() else ():
        console.line(
            f"{'note':<11} {other} is of an earlier version, whose keys say nothing of this recipe: it is left as it is, and a new run begins"
        )
    with open_run(path, recipe) if opens else nullcontext(rundir) as rundir:
        # another process may have come to its end just before this one held it
        state = processes.share(rundir.state.get("state"))
        if state not in done:
            _work(recipe, rundir, console, evaluate)
        elif processes.leads():
            looks = "only its release is looked at" if recipe.publish.push else "nothing done"
            again = f"finished before: {path} ({looks}; --fresh starts another beside it)"
            console.line(again if state == "finished" else f"trained before: {path}")
    processes.part()
    if recipe.publish.push and evaluate:
        _release(recipe, rundir, console)
    return rundir


def _work(recipe: Recipe, rundir: RunDir, console: Console, evaluate: bool) -> None:
    """What this process does of a run, the first of several or one that follows."""
    if processes.leads():
        walk = _walk if recipe.task == "chat" else walk_tags.walk
        walk(recipe, rundir, console, evaluate)
    else:
        with console.quiet(Path(os.devnull)):  # the leader's libraries say the same
            _follow(recipe, rundir)


def _release(recipe: Recipe, rundir: RunDir, console: Console) -> None:
    import gc

    from medrecipes.release.publish import publish

    gc.collect()  # the release loads the adapter once more, and the trained model is not needed any longer
    publish([rundir.path], console, push=True, settings=recipe.publish)


def _follow(recipe: Recipe, rundir: RunDir) -> None:
    """What one of several processes does beside the leader: it trains and answers, and says and writes nothing."""
    from medrecipes.data.split import prepare
    from medrecipes.engines import foundation, open_engine
    from medrecipes.engines.multi_gpu.leader import follow
    from medrecipes.rendering.overflow import fit_parts

    split = prepare(recipe)
    choice, base, template = foundation(recipe, split)
    fitted = fit_parts(template, split.parts(), recipe.data)
    engine = open_engine(recipe, base, template, choice)
    train, dev = fitted["train"].examples, fitted["dev"].examples
    follow(engine, lambda: engine.train(train, dev, rundir, Console.silent()))


def _walk(recipe: Recipe, rundir: RunDir, console: Console, evaluate: bool) -> None:
    from medrecipes.core.files import write_json
    from medrecipes.core.hub import asked_cache
    from medrecipes.core.trust import named
    from medrecipes.data import leakage, tally
    from medrecipes.data.split import Split, prepare
    from medrecipes.engines import load_libraries, open_engine, recipe_base, require_trackers
    from medrecipes.engines.bases import contradictions
    from medrecipes.engines.multi_gpu.leader import leading
    from medrecipes.engines.plan.dimensions import capped
    from medrecipes.evaluation import chat_report
    from medrecipes.evaluation.answers import data_report, held_out
    from medrecipes.evaluation.cases import read_cases
    from medrecipes.release import cards
    from medrecipes.release.personal_data.survey import held
    from medrecipes.release.publish import ready
    from medrecipes.rendering.base_template import base_template, said_of
    from medrecipes.rendering.chat_template import generation_config
    from medrecipes.rendering.overflow import fit_parts, told
    from medrecipes.rendering.proofs import prove, template_notes
    from medrecipes.runs import environment, file_hashes

    require_trackers(recipe)
    cases = read_cases(recipe.eval.cases) if recipe.eval.cases else []  # a mistake in it is said now, not hours later
    ready(recipe)

    with console.stage("data") as stage:
        split: Split = prepare(recipe)
        parts = split.parts()
        dropped, repaired = (sum(split.report[what].values()) for what in ("dropped", "repaired"))
        stage.says(f"{tally.parts(split.report)}, split by group; {dropped:,} dropped, {repaired:,} repaired")
    for kind, text in tally.told(split.report):
        console.line(f"{kind:<11} {text}")
    console.line(leakage.table(split.report["leakage"], console.width))
    for kind, text in held(split, pushes=recipe.publish.push):
        console.line(f"{kind:<11} {text}")

    with console.stage("engine") as stage, console.quiet(rundir.log):
        choice = load_libraries(recipe)
        stage.says(str(choice))

    with console.stage("base") as stage, console.quiet(rundir.log):
        base = recipe_base(recipe, split)
        if wrong := list(contradictions(recipe, base.facts)):
            raise RecipeError([f"{recipe.name}: {problem}" for problem in wrong])
        template = base_template(recipe, base.tokenizer, recipe.model.base)
        stage.says(f"{recipe.model.base}, {said_of(recipe, template)}, stops at {' '.join(template.stops)}")

    if why := asked_cache():
        console.line(f"{'note':<11} what comes of the Hub is as it was fetched before ({why})")
        rundir.update(from_cache=why)

    with console.stage("tokens") as stage:
        fitted = fit_parts(template, parts, recipe.data)
        train, dev = fitted["train"].examples, fitted["dev"].examples
        tokens, supervised = sum(len(e.input_ids) for e in train), sum(e.supervised for e in train)
        stage.says(f"{tokens:,} tokens to train on, {supervised / tokens:.0%} of them answers and supervised")
        data = data_report(split, fitted)
        write_json(rundir.path / "data.json", data)
    for kind, text in told(fitted, recipe.data):
        console.line(f"{kind:<11} {text}")

    with console.stage("proof") as stage:
        stops = generation_config(template)["eos_token_id"]
        proofs = {name: prove(template, f.conversations, f.examples, stops) for name, f in fitted.items()}
        stage.says(str(proofs["train"]))
    for note in template_notes(template):
        console.line(f"{'note':<11} {note}")
    rundir.update(proofs={name: proof.to_json() for name, proof in proofs.items()})
    rows = held_out(recipe, fitted["held out"])

    with console.stage("load") as stage, console.quiet(rundir.log):
        from medrecipes.engines.trackers.guard import tell_figures

        engine = open_engine(recipe, base, template, choice)
        stage.says(f"{recipe.model.bits} bits, {engine.choices['precision']}")
    rundir.update(
        base=base.name,
        base_revision=base.revision,
        base_licence=base.licence,
        base_code=named(base) if recipe.model.trust_remote_code else None,
        base_caps=capped(base.config),
        **environment.describe(),
    )

    asked = Asked(template, rows, cases, split.held_out_name, recipe.eval.max_new_tokens, rundir.path / "eval")
    with leading(engine) as led:
        before = _ask_base(asked, led, rundir, console) if evaluate else []
        stats = _train(recipe, rundir, led, (train, dev), console)
        if not evaluate:
            rundir.update(split_key=split.key, template=template.name, template_sha256=template.sha256)
            console.line(f"{'adapter':<15} {rundir.adapter}")
            return
        after, answered = _ask_tuned(asked, led, rundir, console)
    report = chat_report.report(recipe, split.held_out_name, split.key, before, after, answered)
    report |= chat_report.on_dev(stats)
    chat_report.write_report(recipe.name, asked.folder, report, before, after, answered)
    tell_figures(recipe, rundir, report, stats["steps"], console)
    rundir.update(
        split_key=split.key, template=template.name, template_sha256=template.sha256,
        finished_at=time.strftime("%Y%m%d_%H%M%S", time.gmtime()),
        **rundir.account(engine.choices, console.stages, stats),
    )  # fmt: skip
    cards.model_card(recipe, rundir, report, data, stats)
    file_hashes.finish(rundir)
    _summary(rundir, report, before, after, answered, console)


@dataclass(frozen=True)
class Asked:
    """What is asked of the base and of the tuned model alike, and where their answers go."""

    template: ChatTemplate
    rows: Sequence[Row]
    cases: Sequence[Case]
    held_out: str
    limit: int
    folder: Path

    def answers(self, model: str, engine: Engine, console: Console) -> list[Prediction]:
        """A model's answers to the held-out rows."""
        from medrecipes.evaluation.answers import predict

        return predict(model, engine, self.template, self.rows, self.limit, self.folder, console)


def _ask_base(asked: Asked, engine: Engine, rundir: RunDir, console: Console) -> list[Prediction]:
    from medrecipes.evaluation.chat_report import BASE

    with console.stage("judge") as stage, console.quiet(rundir.log):
        answers = asked.answers(BASE, engine, console)
        stage.says(f"the base answered {len(asked.rows)} {asked.held_out} questions")
    return answers


def _ask_tuned(
    asked: Asked, engine: Engine, rundir: RunDir, console: Console
) -> tuple[list[Prediction], list[Prediction]]:
    """The answers to the held-out rows, and to the hand-written cases."""
    from medrecipes.evaluation.answers import answer_cases
    from medrecipes.evaluation.chat_report import TUNED

    with console.stage("judge again") as stage, console.quiet(rundir.log):
        answers = asked.answers(TUNED, engine, console)
        cases = answer_cases(engine, asked.template, asked.cases, asked.limit, asked.folder) if asked.cases else []
        also = f", and {len(cases)} hand-written cases" if cases else ""
        stage.says(f"the tuned model answered the same {len(asked.rows)} questions{also}")
    return answers, cases


def _train(
    recipe: Recipe, rundir: RunDir, engine: Engine, rows: tuple[Sequence[Example], Sequence[Example]], console: Console
) -> dict[str, Any]:
    """Train on the first of two lists of rows and choose by the other, or open the adapter of a training that is done."""
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
            stats = engine.train(*rows, rundir, console)
        finally:
            losses = read_losses(rundir.path / "loss.csv")
            if losses:
                loss_plot.loss_png(rundir.path / "loss.png", recipe.name, losses, LOSS_ON[recipe.train.loss_on])
        most = f", at most {stats['peak_gb']} GB of a card" if processes.size() > 1 else ""
        stage.says(
            f"{stats['steps']} steps, {stats['trainable_parameters']:,} of {stats['parameters']:,} parameters, "
            f"{kept(stats)}{most}{', rows on a line kept apart' if 'after others' in stats['proved'] else ''}"
        )
        write_json(rundir.path / "trainer_stats.json", stats)
        engine.save(rundir.adapter)
    rundir.train_ends(engine.choices, console.stages, stats)
    return stats


def _summary(rundir: RunDir, report: dict[str, Any], before: Any, after: Any, cases: Any, console: Console) -> None:
    """Base against tuned, one answer of each, and where everything lies."""
    from medrecipes.evaluation.cases import exactly
    from medrecipes.evaluation.chat_report import one_line, said_on_dev
    from medrecipes.scoring.tables import HEADLINES, METRICS, aligned, show
    from medrecipes.scoring.text_overlap import rouge

    parts = ("base", "tuned", "difference")
    rows = [[f"{report['rows']} {report['split']} rows", *parts]]
    for name in (name for name in HEADLINES if name in report["base"]):
        rows.append(
            [METRICS[name][0], *(show(name, report[part][name], signed=part == "difference") for part in parts)]
        )
    console.line()
    for line in aligned(rows, console.width):
        console.line(line)
    dev = said_on_dev(report) if not report.get("dev", {}).get("helped") else ""
    for note in filter(None, (dev, report.get("extraction", {}).get("note"))):
        console.line(f"{'note':<11} {note}")
    console.line()
    # neither the luckiest nor the unluckiest: the answer of the tuned model with the median ROUGE-L
    scores = rouge([p.gold for p in after], [p.prediction for p in after])["rougeL"]
    spoken = sorted(range(len(scores)), key=lambda i: scores[i])[len(scores) // 2]
    console.line(f"question   {one_line(after[spoken].prompt, 300)}")
    for name, predictions in (("base", before), ("tuned", after)):
        p = predictions[spoken]
        console.line(f"{name:<10} {one_line(p.prediction, 300)}{'' if p.stopped else ' … (never stopped)'}")
    console.line(f"reference  {one_line(after[spoken].gold, 300)}")
    if cases:
        console.line()
        console.line(f"{len(cases)} hand-written cases, answered by the tuned model: {exactly(cases)}")
    for case in cases:
        console.line()
        console.line(f"case       {case.id}: {one_line(case.prompt, 120)}")
        console.line(f"expected   {one_line(case.gold, 200)}")
        console.line(f"answered   {one_line(case.prediction, 200)}")
    console.line()
    for name in ("adapter", "eval/report.md", "loss.png", "README.md"):
        console.line(f"{name:<15} {rundir.path / name}")
