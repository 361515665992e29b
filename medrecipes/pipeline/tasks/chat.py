"""The chat task: conversations rendered by a chat template, an engine that answers, figures on its answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from medrecipes.core import processes
from medrecipes.core.console import Console, called
from medrecipes.core.errors import MedRecipesError
from medrecipes.core.extras import vllm_python
from medrecipes.core.notes import labelled
from medrecipes.data import tally
from medrecipes.data.split import Split, prepare
from medrecipes.engines import Engine, engine_ahead, load_ahead, open_engine, recipe_base
from medrecipes.engines.bases import require_base
from medrecipes.engines.multi_gpu.leader import follow
from medrecipes.evaluation import answers, chat_report
from medrecipes.evaluation.cases import Case, exactly, read_cases
from medrecipes.pipeline import plan_report
from medrecipes.pipeline.tasks import Answers, Evaluation, Foundation, Rendered
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering import mixing
from medrecipes.rendering.base_template import base_template, said_of
from medrecipes.rendering.chat_template import ChatTemplate, generation_config
from medrecipes.rendering.mixing import labels, mix
from medrecipes.rendering.overflow import fit_parts, told, told_of_reasoning
from medrecipes.rendering.proofs import Proof, prove, template_notes
from medrecipes.rendering.stored_examples import lengths_of, supervised_of
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.predictions import Prediction
from medrecipes.scoring.tables import HEADLINES, METRICS, aligned, show
from medrecipes.scoring.text_overlap import rouge

LOSS_ON = {"answers": "answers", "all": "whole texts"}


class Chat:
    """The chat task of a recipe."""

    one_gpu = False

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.supervised = LOSS_ON[recipe.train.loss_on]

    @cached_property
    def cases(self) -> list[Case]:
        """The hand-written cases of the recipe."""
        return read_cases(self.recipe.eval.cases) if self.recipe.eval.cases else []

    def require(self) -> None:
        """A mistake in the hand-written cases is reported before the training, and so is that vLLM is missing."""
        self.cases  # noqa: B018
        if self.recipe.eval.backend == "vllm":
            vllm_python()

    def split(self, console: Console | None = None) -> Split:
        """Conversations, split by group."""
        with (console or Console.silent()).progress("data") as progress:
            return prepare(self.recipe, progress.begin, progress.share)

    def describe(self, split: Split) -> str:
        """Rows by part."""
        return f"{tally.parts(split.report)}, split by group"

    def foundation(self, split: Split) -> Foundation:
        """The engine's libraries, the base, and the chat template on its tokenizer."""
        choice, base = engine_ahead(self.recipe), recipe_base(self.recipe, split)
        require_base(self.recipe, base)
        template = base_template(self.recipe, base.tokenizer, self.recipe.model.base, split.rows)
        said = f"{self.recipe.model.base}, {said_of(self.recipe, template)}, stops at {' '.join(template.stops)}"
        return Foundation(choice, base, template, said, load_ahead(choice))

    def render(self, foundation: Foundation, split: Split, console: Console | None = None) -> Rendered:
        """Ids and labels of every row that fits data.max_tokens."""
        with (console or Console.silent()).progress("tokens") as progress:
            progress.begin("render")
            fitted = fit_parts(_template(foundation), split.parts(), self.recipe.data, split.stage_key, progress.share)
        mixture = mix(self.recipe, fitted["train"].examples, labels(split.report))
        train, dev = mixture.of(fitted["train"].examples), fitted["dev"].examples
        tokens, supervised = int(lengths_of(train).sum()), int(supervised_of(train).sum())
        return Rendered(
            train, dev, answers.held_out(self.recipe, fitted["held out"]), split.held_out_name, answers.data_report(split, fitted, mixture.report),
            f"{tokens:,} tokens to train on, {supervised / tokens:.0%} of them answers and supervised",
            [*told(fitted, self.recipe.data), *told_of_reasoning(fitted, self.recipe), *mixing.told(mixture.report)], fitted,
        )  # fmt: skip

    def estimate(self, foundation: Foundation, rendered: Rendered) -> str:
        """What the plan reckons of the whole run, on a GPU and a base that it knows."""
        gpu = None if self.recipe.model.base.startswith("tiny:") else plan_report.here()
        if gpu is None:
            return ""
        lengths = lengths_of(rendered.train).tolist()
        prompts = [len(example.input_ids) - example.supervised for _, example in rendered.held_out]
        counted = plan_report.Counted(lengths, rendered.dev, prompts)
        with suppress(MedRecipesError, LookupError):  # a shape or a setting that the plan does not know stops no run
            return plan_report.estimate(self.recipe, foundation.base.config, counted, gpu, processes.size())
        return ""

    def prove(self, foundation: Foundation, rendered: Rendered) -> dict[str, Proof]:
        """Template, labels and stop tokens, on every row."""
        template = _template(foundation)
        stops = generation_config(template)["eos_token_id"]
        return {name: prove(template, f.conversations, f.examples, stops) for name, f in rendered.parts.items()}

    def notes(self, foundation: Foundation) -> Sequence[str]:
        """What the template does that a reader would not expect."""
        return list(template_notes(_template(foundation)))

    def open(self, foundation: Foundation, split: Split) -> Engine:
        """The base loaded by the engine that was chosen."""
        foundation.loaded()
        return open_engine(self.recipe, foundation.base, _template(foundation), foundation.engine)

    def follow(self, rundir: RunDir) -> None:
        """Trains and answers with the leader, and prints and writes nothing."""
        split = self.split()
        found = self.foundation(split)
        rendered = self.render(found, split)
        engine = self.open(found, split)
        follow(engine, lambda: engine.train(rendered.train, rendered.dev, rundir, Console.silent()))

    def reference(self, engine: Engine, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """The base's answers."""
        rows = self._answered(chat_report.BASE, engine, foundation, rendered, run)
        return Answers(rows, f"the base answered {len(rows)} {rendered.held_out_name} questions")

    def answers(self, engine: Engine, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """The tuned model's answers to the same rows, and to the hand-written cases."""
        rows = self._answered(chat_report.TUNED, engine, foundation, rendered, run)
        template, cases = _template(foundation), self.cases
        answered = answers.answer_cases(engine, template, cases, self.recipe.eval, run.folder) if cases else []
        also = f", and {len(cases)} hand-written cases" if cases else ""
        return Answers(rows, f"the tuned model answered the same {len(rows)} questions{also}", answered)

    def report(self, split: Split, before: Answers, after: Answers, run: Evaluation) -> dict[str, Any]:
        """Base against tuned."""
        report = chat_report.report(
            self.recipe, (split.held_out_name, split.key), before.rows, after.rows, after.cases, run.computed
        )
        report |= chat_report.on_dev(run.stats)
        chat_report.write_report(self.recipe.name, run.folder, report, before.rows, after.rows, after.cases)
        return report

    def summary(self, report: Mapping[str, Any], before: Answers, after: Answers, console: Console) -> None:
        """Base against tuned, one answer of each, and the hand-written cases."""
        parts = (chat_report.BASE, chat_report.TUNED, "difference")
        rows = [[f"{report['rows']} {report['split']} rows", *parts]]
        for name in (name for name in HEADLINES if name in report["base"]):
            figures = (show(name, report[part][name], signed=part == "difference") for part in parts)
            rows.append([METRICS[name][0], *figures])
        for line in aligned(rows, console.width):
            console.line(line)
        if thoughts := report.get("reasoning"):
            console.line()
            for line in aligned(chat_report.reasoning_rows(thoughts), console.width):
                console.line(line)
        dev = chat_report.said_on_dev(report) if not report.get("dev", {}).get("helped") else ""
        for note in filter(None, (dev, report.get("extraction", {}).get("note"))):
            console.line(labelled("note", note))
        console.line()
        one_line = chat_report.one_line
        shown = _middle(after.rows)
        console.line(f"question   {one_line(after.rows[shown].prompt, 300)}")
        for name, predictions in ((parts[0], before.rows), (parts[1], after.rows)):
            p = predictions[shown]
            console.line(f"{name:<10} {one_line(p.prediction, 300)}{'' if p.stopped else ' … (never stopped)'}")
        console.line(f"reference  {one_line(after.rows[shown].gold, 300)}")
        if after.cases:
            console.line()
            console.line(
                f"{len(after.cases)} hand-written cases, answered by the tuned model: {exactly(list(after.cases))}"
            )
        for case in after.cases:
            console.line()
            console.line(f"case       {case.id}: {one_line(case.prompt, 120)}")
            console.line(f"expected   {one_line(case.gold, 200)}")
            console.line(f"answered   {one_line(case.prediction, 200)}")

    def _answered(
        self, model: str, engine: Engine, foundation: Foundation, rendered: Rendered, run: Evaluation
    ) -> list[Prediction]:
        template, settings = _template(foundation), self.recipe.eval
        asked = answers.Questions(rendered.held_out, template, settings, run.folder, run.console)
        return answers.predict(model, engine, asked)

    def next_move(self, path: Path) -> str:
        """How to talk to it."""
        return f"{called()} chat {shlex.quote(str(path))}"


def _middle(rows: Sequence[Prediction]) -> int:
    """Neither the luckiest answer nor the unluckiest: the one with the median ROUGE-L."""
    scores = rouge([p.gold for p in rows], [p.prediction for p in rows])["rougeL"]
    return sorted(range(len(scores)), key=lambda i: scores[i])[len(scores) // 2]


def _template(foundation: Foundation) -> ChatTemplate:
    assert foundation.template is not None
    return foundation.template
