"""The tagging task: words with BIO tags rendered as windows of pieces, a token classifier, strict span F1."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console, called
from medrecipes.data import tally
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.engines import Choice, open_tagger, tag_base
from medrecipes.engines.bases import require_base
from medrecipes.evaluation import span_report
from medrecipes.pipeline.tasks import Answers, Evaluation, Foundation, Rendered
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.word_windows import Proof, prove
from medrecipes.runs.folder import RunDir

REASON = "Unsloth has no tagging head; transformers, peft and bitsandbytes train it, on a GPU and on a CPU"


class Tag:
    """The tagging task of a recipe."""

    one_gpu = True
    supervised = "the words' tags"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def require(self) -> None:
        """Nothing is known of a tagging run that could fail at its end."""

    def split(self, console: Console | None = None) -> TaggedSplit:
        """Tagged words, split by document, or as their publisher did."""
        return prepare_tagged(self.recipe)

    def describe(self, split: TaggedSplit) -> str:
        """Rows and entities by part."""
        entities = sum(split.report["entities"]["train"].values())
        drawn = f"official {' and '.join(split.report['official'])}" if split.report["official"] else "split by group"
        return f"{tally.parts(split.report, f'rows with {entities:,} entities to train on')}, {drawn}"

    def foundation(self, split: TaggedSplit) -> Foundation:
        """The base; the engine is settled, for one alone has a tagging head."""
        base, model = tag_base(self.recipe, split), self.recipe.model
        require_base(self.recipe, base)
        said = f"{model.base}, {model.attention} attention, tags {' '.join(split.labels)}"
        return Foundation(Choice("trl", REASON), base, None, said)

    def render(self, foundation: Foundation, split: TaggedSplit, console: Console | None = None) -> Rendered:
        """The windows of every part, counted and proved at once; the engine makes those that it needs."""
        tokenizer, data, overlap = foundation.base.tokenizer, self.recipe.data, self.recipe.tag.overlap
        proofs = {
            name: prove(tokenizer, rows, split.labels, data.max_tokens, overlap) for name, rows in split.parts().items()
        }
        report = {**split.report, "tokens": {name: proof.counts() for name, proof in proofs.items()}}
        counts = proofs["train"].counts()
        return Rendered(
            split.train, split.dev, split.held_out, split.held_out_name, report,
            f"{counts['tokens']:,} tokens to train on in {proofs['train'].windows:,} windows", (), proofs,
        )  # fmt: skip

    def estimate(self, foundation: Foundation, rendered: Rendered) -> str:
        """Nothing: a processor's pace decides, which no plan knows."""
        return ""

    def prove(self, foundation: Foundation, rendered: Rendered) -> Mapping[str, Proof]:
        """Every word's tag comes back from its pieces."""
        return rendered.parts

    def notes(self, foundation: Foundation) -> Sequence[str]:
        """A tagging run has no template."""
        return ()

    def open(self, foundation: Foundation, split: TaggedSplit) -> Any:
        """The base with a tagging head."""
        return open_tagger(self.recipe, foundation.base, split.labels, foundation.engine)

    def follow(self, rundir: RunDir) -> None:
        """Nothing: it trains in one process."""

    def reference(self, engine: Any, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """The dictionary's tags."""
        found = span_report.looked_up(rendered.train, rendered.held_out)
        return Answers(
            found, f"a dictionary of the training rows tagged {_rows(rendered)}, for an untrained head knows no tag"
        )

    def answers(self, engine: Any, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """The tuned model's tags."""
        found = span_report.tagged(engine, rendered.held_out)
        return Answers(found, f"the tuned model tagged {_rows(rendered)}")

    def report(self, split: TaggedSplit, before: Answers, after: Answers, run: Evaluation) -> dict[str, Any]:
        """The dictionary against the model."""
        return span_report.report(self.recipe, split, before.rows, after.rows, run.folder)

    def summary(self, report: Mapping[str, Any], before: Answers, after: Answers, console: Console) -> None:
        """The headline figures and those of each type."""
        for line in span_report.summary(report, console.width):
            console.line(line)

    def next_move(self, path: Path) -> str:
        """How to tag texts with it."""
        return f"{called()} tag {shlex.quote(str(path))} TEXT"


def _rows(rendered: Rendered) -> str:
    return f"{len(rendered.held_out):,} {rendered.held_out_name} rows"
