"""The card of a model: what it is, how well it does, how to load it, what it learned from and how, and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.files import read_json, write_text
from medrecipes.core.markup import Markup, code, plain
from medrecipes.evaluation.chat_report import BASE, PARTS, TUNED
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.release.base_licences import shown, tiny
from medrecipes.release.cards import sections, text
from medrecipes.release.cards.conversion import conversion
from medrecipes.release.cards.facts import Facts
from medrecipes.release.cards.text import DISCLAIMER, RELEASE, bullets, table
from medrecipes.release.gates import Gate
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.tables import HEADLINES, METRICS, show

TASKS = {"chat": "text-generation", "tag": "token-classification"}
KINDS = {"adapter": "LoRA adapter", "merged-16bit": "merged model in 16 bits", "merged-4bit": "merged model in 4 bits", "gguf": "GGUF file"}  # fmt: skip
LIBRARY = {"adapter": "peft", "gguf": "gguf"}


def model_card(
    recipe: Recipe, rundir: RunDir, report: dict[str, Any], data: dict[str, Any], stats: dict[str, Any]
) -> None:
    """Write README.md of the run folder."""
    write_text(rundir.path / "README.md", run_card(recipe, rundir, report, data, stats))


def run_card(
    recipe: Recipe, rundir: RunDir, report: Mapping[str, Any], data: Mapping[str, Any], stats: Mapping[str, Any]
) -> str:
    """The card of a run that nobody has released yet."""
    return card(Facts(recipe, rundir.path, rundir.state, report, data, stats))


def release_card(
    run: Path, repo_id: str, formats: Sequence[str], gates: Sequence[Gate], exports: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The card of a finished run's release, with what the gates said, and how near its exports are to the adapter."""

    def read(name: str) -> dict[str, Any]:
        return dict(read_json(run / name)) if (run / name).exists() else {}

    recipe = load(run / "recipe.toml").recipe
    if (run / "data.json").exists():  # which knows the commits
        recipe = RunDir(run).pinned(recipe)
    state, report, data, stats = map(read, ("run.json", "eval/report.json", "data.json", "trainer_stats.json"))
    return card(Facts(recipe, run, state, report, data, stats, repo_id, formats, gates, exports))


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
    parts = [
        ("Figures", list(sections.figures(facts))),
        ("Use", list(sections.use(facts))),
        ("Data", list(sections.data(facts))),
        ("Training", list(sections.training(facts))),
        ("Conversion", list(conversion(facts))),
        ("Prompts", list(sections.prompts(facts))),
        ("Limits", list(sections.limits(facts))),
        ("Checks of this release", list(text.gate_section(facts.gates))),
        ("Licence", list(sections.licence(facts))),
        ("Cite", [bullets(sections.citations(facts))]),
        ("Recipe", list(sections.recipe(facts))),
    ]
    return text.page(_metadata(facts, title), title, [p for p in opening if p], parts)


def _summary(facts: Facts) -> str:
    kinds = " and ".join(KINDS.get(name, name) for name in facts.formats)
    kinds += "" if facts.recipe.task == "chat" else " with a tagging head"
    titles = (
        plain(" and ".join(source["title"] for source in facts.data.get("sources", ()))) or "data that was not recorded"
    )
    said = f"A {kinds} for {_linked(facts)}, trained on {titles}."
    if figure := _headline(facts.report):
        said += f" {figure}"
    return said


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
        ("base", Markup(_linked(facts) + (f" at {code(revision[:12])}" if revision else ""))),
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


def _linked(facts: Facts) -> str:
    named = re.fullmatch(r"[\w./-]+", facts.base, re.ASCII)
    return f"[{code(facts.base)}](https://huggingface.co/{facts.base})" if facts.on_hub and named else code(facts.base)


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
