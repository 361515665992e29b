"""The model card, from what really happened in the run."""

from __future__ import annotations

from typing import Any

from medrecipes.evaluate import markdown_table, spoken
from medrecipes.leakage import table
from medrecipes.recipe import Recipe
from medrecipes.rundir import RunDir
from medrecipes.store import write_text

DISCLAIMER = (
    "For research and education. Not a medical device: it gives no diagnosis, its answers can be wrong or harmful, "
    "and no decision about anybody's health may rest on them."
)


def model_card(
    recipe: Recipe, rundir: RunDir, report: dict[str, Any], data: dict[str, Any], stats: dict[str, Any]
) -> None:
    """Write README.md of the run folder."""
    rows, sources = data["rows"], data["sources"]
    titles = ", ".join(f"{source['title']} ({source['licence']})" for source in sources)
    kept = {"last": "the last"}.get(
        recipe.train.keep_best, f"the best by dev {recipe.train.keep_best.replace('_', ' ')}"
    )
    lines = [
        f"# {recipe.name}",
        "",
        f"A LoRA adapter (rank {recipe.lora.rank}) for `{recipe.model.base}`, trained in {recipe.model.bits} bits on "
        f"{titles}.",
        "",
        f"> {DISCLAIMER}",
        "",
        "![loss](loss.png)",
        "",
        "## Figures",
        "",
        f"{report['rows']} rows of {report['groups']} groups of the {report['split']} split; {spoken(report['decoding'])}; "
        f"intervals: {report['intervals']}.",
        "",
        *markdown_table(report),
        "",
        "## Data",
        "",
        f"{rows['train']:,} rows to train on, {rows['dev']:,} dev, {rows['test']:,} test, split by group: no document, "
        "article, question or answer lies in two of them.",
        "",
        "```text",
        table(data["leakage"]),
        "```",
        "",
        *(
            f"- {source['title']}: {source['kept']:,} of {source['seen']:,} rows. {source['citation']}."
            for source in sources
        ),
        *(f"- dropped, {reason}: {count:,}" for reason, count in data["dropped"].items()),
        *(f"- repaired, {reason}: {count:,}" for reason, count in data["repaired"].items()),
        "",
        "## Training",
        "",
        f"{stats['steps']} steps of {recipe.train.batch} {'packs' if recipe.train.packing else 'rows'}, loss on {recipe.train.loss_on}, learning rate {recipe.train.learning_rate:g}, "
        f"{stats['tokens']:,} tokens of which {stats['supervised_tokens']:,} supervised; the checkpoint of step "
        f"{stats['best_step']} was kept, {kept}. "
        f"{stats['train_runtime']:.0f} s, peak memory {stats['peak_gb']} GB.",
        "",
        "## Prompts",
        "",
        f"Template `{recipe.template.name}`, saved with the tokenizer: `apply_chat_template(messages, "
        "add_generation_prompt=True)` gives the prompts of training. It differs in one case: a message that spells out a "
        "control token is parsed there, and was kept as plain text here.",
        "",
        "## Recipe",
        "",
        "```toml",
        recipe.to_toml().strip(),
        "```",
        "",
    ]
    write_text(rundir.path / "README.md", "\n".join(lines))
