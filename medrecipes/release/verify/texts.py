"""The claims of what is written from other things: tokenizer, template, stop tokens, report, report.md and the card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import digest, scratch
from medrecipes.evaluation import chat_report, span_report
from medrecipes.evaluation.pages.run_page import PAGE, Facts, as_html
from medrecipes.release import cards
from medrecipes.release.verify.claims import Found, as_json, unlike, unlike_text
from medrecipes.release.verify.evidence import Evidence
from medrecipes.rendering.base_template import saved_template
from medrecipes.rendering.chat_template import ChatTemplate, as_trained, for_others, generation_config, save_tokenizer
from medrecipes.rendering.tokenizer import Tokenizer
from medrecipes.rendering.word_windows import ABOUT, about, copy_tokenizer

CARD = "README.md"
TEMPLATE = "chat_template.jinja"
# what decides ids; the first two are saved for every run
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json")


def template(e: Evidence) -> Found:
    """The adapter's template is the one that the run had, and the one that the recipe names."""
    saved = e.text(f"adapter/{TEMPLATE}")
    found, said = digest(as_trained(saved)), e.state["template_sha256"]
    told = f"{TEMPLATE}, sha256 {found[:12]}"
    if found != said:
        return Found(wrong=[f"{told}, claimed {said[:12]}"])
    template = (
        e.template if e.own.template.name is None else ChatTemplate(e.own.template.name, Tokenizer(e.path / "adapter"))
    )
    same = template.sha256 == said
    if same and as_trained(saved) != saved and saved != for_others(template):
        return Found(wrong=[f"{TEMPLATE} thinks by itself where the recipe does not, or the other way round"])
    return e.by_code([] if same else [f"{told}, and template {template.name} is {template.sha256[:12]}"], told)


def tokenizer(e: Evidence) -> Found:
    """The adapter's tokenizer is the base's, with the template's pad token in a run of conversations."""
    with scratch("verify", Path(tempfile.gettempdir())) as folder:
        if e.own.task == "chat":
            save_tokenizer(e.template, folder)
        else:
            copy_tokenizer(e.base.tokenizer, folder)
        wrong = []
        for name in TOKENIZER:
            made, said = folder / name, e.path / "adapter" / name
            if made.exists() != said.exists():
                wrong.append(f"{name} is {'missing' if made.exists() else 'one too many'}")
            elif made.exists() and made.read_bytes() != said.read_bytes():
                wrong.append(f"{name} is not the base's")
    return Found(f"that of {e.own.model.base}", wrong)


def stops(e: Evidence) -> Found:
    """generation_config.json ends answers where training taught to."""
    said = e.json("adapter/generation_config.json")
    try:
        template = e.template
    except MedRecipesError:  # without the base, by the tokenizer that lies with the adapter
        template = saved_template(e.own, e.path / "adapter")
    return Found(f"stops at {' '.join(template.stops)}", list(unlike(generation_config(template), said)))


def labels(e: Evidence) -> Found:
    """tagging.json: what the head's outputs mean."""
    said = e.json(f"adapter/{ABOUT}")
    return Found(" ".join(e.tagged.labels), list(unlike(about(e.own, e.tagged.labels), said)))


def report(e: Evidence) -> Found:
    """The report again, all of it, from the answers."""
    made, said = as_json(e.made_report), dict(e.report)
    said.pop("suites", None)
    wrong = list(unlike(made, said))
    told = f"scored again from {sum(map(len, e.predictions.values()))} answers"
    if not wrong or e.same_code:
        return Found(told, wrong)
    # another version may name or word things otherwise; the figures that both know must agree
    figures = {part: {n: f for n, f in said[part].items() if n in made[part]} for part in chat_report.PARTS}
    wrong = list(unlike({part: {n: made[part][n] for n in those} for part, those in figures.items()}, figures))
    return Found(wrong=wrong) if wrong else Found(unknown=f"{told}: the figures agree, but the rest was written by another version")  # fmt: skip


def suites(e: Evidence) -> Found:
    """Benchmarks, which their own harness has run."""
    names = [name for suite in e.report["suites"] for name in suite["tasks"]]
    return Found(unknown=f"{', '.join(names)}: run them again with `medrecipes eval {e.path} --suite …`")


def page(e: Evidence) -> Found:
    """report.html again, from all that it is made of."""
    facts = Facts(e.own, e.state, e.data, e.stats, e.losses, _with_suites(e), e.predictions, e.cases)
    return e.by_code(unlike_text(as_html(facts), e.text(PAGE)), "every line as it follows from the run's folder")


def _with_suites(e: Evidence) -> dict[str, Any]:
    """The report again, with the benchmarks, which their own harness has run."""
    return e.made_report | {name: e.report[name] for name in ("suites",) if name in e.report}


def markdown(e: Evidence) -> Found:
    """report.md again, from the report and the answers."""
    made = _with_suites(e)
    if e.own.task == "chat":
        answers = e.predictions
        text = chat_report.as_markdown(e.own.name, made, answers[chat_report.BASE], answers[chat_report.TUNED], e.cases)
    else:
        text = "\n".join(span_report.as_markdown(e.own.name, made))
    wrong = unlike_text(text, e.text("eval/report.md"))
    return e.by_code(wrong, "every line as it follows from report and answers")


def table(e: Evidence) -> Found:
    """The card's table holds the figures that lie beside it."""
    text, lines = e.text(CARD), chat_report.markdown_table(e.report)
    missing = [line for line in lines if line not in text]
    return Found(f"{len(lines) - 2} lines as in the report", [f"the report says {line}" for line in missing])


def card(e: Evidence) -> Found:
    """The card again, all of it, from recipe, report, data and statistics."""
    made = cards.run_card(e.own, e.rundir, e.made_report, e.data, e.stats)
    return e.by_code(unlike_text(made, e.text(CARD)), "every line as it follows from the run")
