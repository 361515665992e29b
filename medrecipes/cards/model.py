"""The card of a model: what it is, how well it does, how to load it, what it learned from and how, and its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.cards import text
from medrecipes.cards.text import DISCLAIMER, RELEASE, bullets, fenced, table
from medrecipes.cards.use import snippets
from medrecipes.errors import MedRecipesError
from medrecipes.evaluate import BASE, PARTS, TUNED, markdown_table, one_line
from medrecipes.gates import Gate
from medrecipes.loading import load
from medrecipes.personal import find
from medrecipes.recipe import Recipe
from medrecipes.rundir import RunDir
from medrecipes.scoring.tables import HEADLINES, METRICS, show
from medrecipes.store import read_json, write_text
from medrecipes.terms import Terms, shown, terms_of, tiny

TASKS = {"chat": "text-generation", "tag": "token-classification"}
KINDS = {"adapter": "LoRA adapter", "merged-16bit": "merged model in 16 bits", "merged-4bit": "merged model in 4 bits", "gguf": "GGUF file"}  # fmt: skip
LEARNED = {"answers": "answers and their stop tokens", "all": "whole texts"}
LIBRARY = {"adapter": "peft", "gguf": "gguf"}


@dataclass(frozen=True)
class Facts:
    """All that a card is made from; what a run did not record is empty."""

    recipe: Recipe
    path: Path
    state: Mapping[str, Any]
    report: Mapping[str, Any]
    data: Mapping[str, Any]
    stats: Mapping[str, Any]
    repo_id: str = RELEASE
    formats: Sequence[str] = ("adapter",)
    gates: Sequence[Gate] = ()

    @property
    def base(self) -> str:
        """The base as others know it: its name on the Hub, or that of its folder."""
        name = self.recipe.model.base
        return name if self.on_hub or tiny(name) else Path(name).name

    @property
    def on_hub(self) -> bool:
        """Whether others can fetch the base by its name."""
        name = self.recipe.model.base
        return not tiny(name) and not name.startswith((".", "/", "~")) and not Path(name).is_dir()

    @property
    def terms(self) -> Terms | None:
        """What its makers ask."""
        return None if tiny(self.recipe.model.base) else terms_of(self.recipe.model.base, self.state.get("base_licence"))  # fmt: skip


def model_card(
    recipe: Recipe, rundir: RunDir, report: dict[str, Any], data: dict[str, Any], stats: dict[str, Any]
) -> None:
    """Write README.md of the run folder."""
    write_text(rundir.path / "README.md", card(Facts(recipe, rundir.path, rundir.state, report, data, stats)))


def release_card(run: Path, repo_id: str, formats: Sequence[str], gates: Sequence[Gate]) -> str:
    """The card of a finished run's release, with what the gates said."""

    def read(name: str) -> dict[str, Any]:
        return dict(read_json(run / name)) if (run / name).exists() else {}

    recipe = load(run / "recipe.toml").recipe
    state, report, data, stats = map(read, ("run.json", "eval/report.json", "data.json", "trainer_stats.json"))
    return card(Facts(recipe, run, state, report, data, stats, repo_id, formats, gates))


def card(facts: Facts) -> str:
    """The whole card."""
    recipe, terms = facts.recipe, facts.terms
    title = recipe.name if facts.repo_id == RELEASE else facts.repo_id.rpartition("/")[2]
    opening = [
        f"> {DISCLAIMER}",
        f"**{terms.credit}**" if terms and terms.credit else "",
        _summary(facts),
        table(("", ""), _glance(facts)),
    ]
    sections = [
        ("Figures", list(_figures(facts))),
        ("Use", list(_use(facts))),
        ("Data", list(_data(facts))),
        ("Training", list(_training(facts))),
        ("Prompts", list(_prompts(facts))),
        ("Limits", list(_limits(facts))),
        ("Checks of this release", list(text.gate_section(facts.gates))),
        ("Licence", list(_licence(facts))),
        ("Cite", [bullets(_citations(facts))]),
        ("Recipe", list(_recipe(facts))),
    ]
    return text.page(_metadata(facts, title), title, [p for p in opening if p], sections)


def _summary(facts: Facts) -> str:
    kinds = " and ".join(KINDS.get(name, name) for name in facts.formats)
    kinds += "" if facts.recipe.task == "chat" else " with a tagging head"
    titles = " and ".join(source["title"] for source in facts.data.get("sources", ())) or "data that was not recorded"
    said = f"A {kinds} for {_linked(facts)}, trained on {titles}."
    if figure := _headline(facts.report):
        said += f" {figure}"
    return said


def _linked(facts: Facts) -> str:
    return f"[`{facts.base}`](https://huggingface.co/{facts.base})" if facts.on_hub else f"`{facts.base}`"


def _headline(report: Mapping[str, Any]) -> str:
    """The first figure that both models have, e.g. `bits per byte of answer: 2.657 before, 2.549 after, on 51 rows`."""
    base, tuned = report.get(BASE, {}), report.get(TUNED, {})
    for name in (name for name in HEADLINES if name in base and name in tuned):
        before, after = (show(name, part[name]) for part in (base, tuned))
        first = report.get("columns", PARTS)[0]
        return f"On {report.get('rows')} held-out rows, {METRICS[name][0]}: {before} ({first}), {after} (this model)."
    return ""


def _glance(facts: Facts) -> list[tuple[str, str]]:
    recipe, state, stats, rows = facts.recipe, facts.state, facts.stats, facts.data.get("rows", {})
    revision = str(state.get("base_revision") or "")
    lines = [
        ("base", _linked(facts) + (f" at `{revision[:12]}`" if revision else "")),
        ("base's licence", "none needed: the base was built for this run" if tiny(facts.base) else shown(facts.terms)),
        ("method", f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}, on a base in {recipe.model.bits} bits"),
        ("rows", f"{rows['train']:,} to train on, {rows['dev']:,} dev, {rows['test']:,} test" if rows else ""),
        ("length", f"{stats['steps']:,} steps, {stats.get('tokens', 0):,} tokens" if stats.get("steps") else ""),
        ("made with", _hardware(state)),
    ]
    return [line for line in lines if line[1]]


def _hardware(state: Mapping[str, Any]) -> str:
    hardware = state.get("hardware", {})
    gpus = hardware.get("gpus") or []
    named = ", ".join(f"{gpus.count(name)} x {name}" if gpus.count(name) > 1 else name for name in dict.fromkeys(gpus))
    return named or (f"{hardware['cpu_cores']} CPU cores ({hardware.get('machine')})" if hardware.get("cpu_cores") else "")  # fmt: skip


def _figures(facts: Facts) -> Iterator[str]:
    report = facts.report
    if not report:
        yield "No figures were recorded."
        return
    decoding = report.get("decoding", {})
    how = f"; {decoding['method']}" if "method" in decoding else ""
    how += f" decoding, at most {decoding['max_new_tokens']} tokens" if "max_new_tokens" in decoding else ""
    groups = f" of {report['groups']} groups" if "groups" in report else ""
    yield f"{report.get('rows', 0)} rows{groups} of the {report.get('split')} split, none of them trained on{how}; intervals: {report.get('intervals')}."  # fmt: skip
    if BASE in report and TUNED in report:
        known = [name for name in report[BASE] if all(name in report.get(part, {}) for part in PARTS)]
        yield "\n".join(
            markdown_table({**report, **{part: {name: report[part][name] for name in known} for part in PARTS}})
        )
    else:
        yield table(("measure", "figure"), list(_nested(report)))
    if cases := report.get("cases"):
        yield f"Hand-written cases answered exactly as expected: {cases['exact_match']} of {cases['rows']}."
    if (facts.path / "loss.png").exists():
        yield "![Training and dev loss, by step](loss.png)"
    yield from _example(facts)


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
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = {model: {row.get("id"): row for row in rows if row.get("model") == model} for model in (BASE, TUNED)}
    for id, after in answers[TUNED].items():
        before = answers[BASE].get(id, {})
        texts = [after.get("prompt"), after.get("gold"), before.get("prediction"), after.get("prediction")]
        if all(isinstance(t, str) and t.strip() for t in texts) and not any(any(find(str(t))) for t in texts):
            names = ("question", "reference", "base", "this model")
            yield "One of the answers, the first of those that were judged:"
            yield table(("", ""), [(name, _plain(str(t))) for name, t in zip(names, texts, strict=True)])
            return


def _plain(words: str) -> str:
    """A text in a table as nothing but text."""
    return one_line(words, 400).replace("&", "&amp;").replace("<", "&lt;").replace("`", "&#96;").replace("*", "&#42;")


def _use(facts: Facts) -> Iterator[str]:
    if not facts.on_hub and "adapter" in facts.formats:
        yield (
            f"The adapter needs its base, `{facts.base}`, which is not on the Hub: it loads only where that base lies."
            + (" It was built on the spot, to show the line." if tiny(facts.base) else "")
        )
    for snippet in snippets(facts.recipe, facts.repo_id, facts.formats, on_hub=facts.on_hub):
        yield f"**{snippet.title}**"
        yield fenced(snippet.kind, snippet.code)
        yield snippet.note


def _data(facts: Facts) -> Iterator[str]:
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
    yield from text.leakage(data)
    if found := text.defects(data):
        yield "Known defects of the sources:"
        yield bullets(found)


def _training(facts: Facts) -> Iterator[str]:
    recipe, stats, state = facts.recipe, facts.stats, facts.state
    train, choices = recipe.train, state.get("choices", {})
    if stats.get("steps"):
        unit = "packs" if train.packing else "rows"
        kept = "the last" if train.keep_best == "last" else f"the best by {train.keep_best.replace('_', ' ')} on the dev rows"  # fmt: skip
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
        "longest row": f"{recipe.data.max_tokens:,} tokens",
        "seed": recipe.seed,
        **{name.replace("_", " "): value for name, value in shown_choices.items()},
        "versions": ", ".join(f"{name} {number}" for name, number in state.get("versions", {}).items()),
        "commit": str(state.get("commit") or "")[:12],
    }
    yield table(("setting", "value"), [(name, value) for name, value in settings.items() if value != ""])


def _prompts(facts: Facts) -> Iterator[str]:
    if facts.recipe.task != "chat":
        return
    recipe, sha = facts.recipe, str(facts.state.get("template_sha256", ""))
    yield (
        f"Template `{recipe.template.name}`{f' (sha256 `{sha[:12]}`)' if sha else ''}, saved with the tokenizer: "
        "`apply_chat_template(messages, add_generation_prompt=True)` gives the prompts of training. It differs in one "
        "case: a message that spells out a control token is parsed there, and was kept as plain text here."
    )
    if recipe.template.system:
        yield f"Every conversation began with this system message: “{recipe.template.system}”"
    if rendered := _rendered(facts):
        yield fenced("text", rendered)


def _rendered(facts: Facts) -> str:
    """A question as the model was shown them; nothing where the tokenizer is gone."""
    from medrecipes.records import Message
    from medrecipes.rendering import ChatTemplate
    from medrecipes.tokens import Tokenizer

    if not (facts.path / "adapter" / "tokenizer.json").exists():
        return ""
    try:
        look = facts.recipe.template
        template = ChatTemplate(look.name, Tokenizer(facts.path / "adapter"), system=look.system)
        return template.render([Message("user", "What is asthma?")], ask=True)
    except MedRecipesError:
        return ""


def _limits(facts: Facts) -> Iterator[str]:
    few = "TOO FEW" in str(facts.report.get("intervals"))
    yield bullets([
        "No clinician has judged its answers, and no figure above measures harm.",
        "It knows what its base and its data knew when they were written; guidance has changed since, and it cannot tell.",
        "Its data is English and of the sources above; other languages, other questions and other patients were not looked at.",
        "Likeness to a reference text is not truth: an answer can score well and be wrong in the one number that matters.",
        "Intervals cover the choice of documents, not the choice of seed." + (" Here there are too few documents for them to say much." if few else ""),
        "It may repeat what it was trained on word for word, errors and names included.",
        *(["Its base is a tiny model made for demonstrations: nothing that it says means anything."] if tiny(facts.base) else []),
    ])  # fmt: skip


def _licence(facts: Facts) -> Iterator[str]:
    terms = facts.terms
    if tiny(facts.base):
        yield "The base was built for this run, so no one's terms hold but those of the data."
    elif terms is None:
        yield f"The licence of `{facts.base}` is not known; ask its makers before you pass this on."
    else:
        asks = [f"its [rules of use]({terms.use})"] if terms.use else []
        asks += ["the NOTICE file of this repository"] if terms.notice else []
        more = f" With it go {' and '.join(asks)}." if asks else ""
        yield f"The terms of the base hold for what is made from it: {shown(terms)}.{more}"
        yield f"> {terms.notice}" if terms.notice else ""
    if licences := dict.fromkeys(f"{s['title']}: {s['licence']}" for s in facts.data.get("sources", ())):
        yield f"Data: {'; '.join(licences)}."


def _citations(facts: Facts) -> list[str]:
    version = facts.state.get("versions", {}).get("medrecipes", "")
    return [*text.citations(facts.data), f"medrecipes {version}".strip() + ", the recipes and checks that made this model"]  # fmt: skip


def _recipe(facts: Facts) -> Iterator[str]:
    yield "`medrecipes run recipe.toml` trains it again; paths of the machine that trained it are left out."
    yield fenced("toml", facts.recipe.shared().to_toml())


def _metadata(facts: Facts, title: str) -> Any:
    """What the Hub reads: only what is known to it, so never a path or a base built on the spot."""
    from huggingface_hub import ModelCardData

    recipe, terms = facts.recipe, facts.terms
    sources = [str(source["repo"]) for source in facts.data.get("sources", ()) if source.get("repo")]
    engine = facts.state.get("choices", {}).get("engine", {}).get("value")
    results = _results(facts)
    return ModelCardData(
        language=["en"],
        license=terms.hub if terms else None,
        license_name=terms.name if terms and terms.hub == "other" else None,
        library_name=LIBRARY.get(facts.formats[0] if facts.formats else "adapter", "transformers"),
        base_model=facts.base if facts.on_hub else None,
        base_model_relation="adapter" if facts.on_hub and "adapter" in facts.formats else None,
        datasets=sources or None,
        pipeline_tag=TASKS[recipe.task],
        tags=["medical", "lora", "sft", "trl", *(["unsloth"] if engine == "unsloth" else []), "medrecipes"],
        model_name=title if results else None,
        eval_results=results or None,
    )


def _results(facts: Facts) -> list[Any]:
    """The tuned model's figures as the Hub lists them."""
    from huggingface_hub import EvalResult

    titles = " + ".join(source["title"] for source in facts.data.get("sources", ()))
    kind = "-".join(source["name"] for source in facts.data.get("sources", ()))
    figures = facts.report.get(TUNED, {})
    return [
        EvalResult(
            task_type=TASKS[facts.recipe.task], dataset_type=kind, dataset_name=titles, metric_type=name,
            metric_name=METRICS[name][0], metric_value=round(figures[name]["value"], 4), dataset_split=facts.report.get("split"),
        )
        for name in HEADLINES
        if kind and figures.get(name, {}).get("value") is not None
    ]  # fmt: skip
