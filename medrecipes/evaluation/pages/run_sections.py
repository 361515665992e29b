"""The sections of a run's page, each from what the run recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from medrecipes.data import leakage, tally
from medrecipes.evaluation.chat_report import kept
from medrecipes.evaluation.pages.frame import DISCLAIMER, Html, bullets, facts, folded, paragraph, section, table, text
from medrecipes.evaluation.pages.plots import Marks, run_plots
from medrecipes.evaluation.pages.run_figures import first_figures
from medrecipes.recipe.schema import UNREAD, Recipe, leaves
from medrecipes.recipe.show import to_toml

HOMEPAGE = re.compile(r"https?://[\w./~%?&=#+:-]+", re.ASCII)
SECTIONS = {"figures": "Figures", "training": "Training", "answers": "Answers", "data": "Data", "proofs": "What was proved", "settings": "Settings", "use": "Use it"}  # fmt: skip
RATE = "In loss.csv stands every step; the thin line is each step's loss, the thick one its moving average."
# which setting a choice of the run took the place of
CHOSEN = {"engine": "model.engine", **{name: f"train.{name}" for name in ("precision", "micro_batch", "checkpointing", "eval_rows", "eval_steps", "save_steps")}}  # fmt: skip


def head(
    recipe: Recipe, state: Mapping[str, Any], stats: Mapping[str, Any], data: Mapping[str, Any], report: Mapping[str, Any]
) -> str:  # fmt: skip
    """What was trained on what, and the first figures."""
    shared, rows = recipe.shared(), data.get("rows", {})
    titles = " and ".join(source["title"] for source in data.get("sources", ()))
    kind = "A LoRA adapter with a tagging head" if recipe.task == "tag" else "A LoRA adapter"
    lead = f"{kind} for {shared.model.base}, trained on {rows.get('train', 0):,} rows of {titles or 'its data'} and evaluated on {report.get('rows', 0):,} {report.get('split', '')} rows."
    pairs = [
        ("base", f"{shared.model.base}{' at ' + str(state['base_revision'])[:12] if state.get('base_revision') else ''}"),
        ("method", f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}"),
        ("loaded", state.get("computed")),
        ("template", state.get("template")),
        ("steps", _steps(recipe, stats) if "steps" in stats else ""),
        ("tokens", f"{stats.get('tokens', 0):,}, of them {stats.get('supervised_tokens', 0):,} supervised"),
        ("parameters", f"{stats['trainable_parameters']:,} trainable of {stats['parameters']:,}" if "parameters" in stats else ""),
        ("training", _spent(stats)),
        ("hardware", _hardware(state)),
        ("finished", _moment(str(state.get("finished_at", "")))),
        ("resumed", f"from step {state['resumed_from_step']:,}" if state.get("resumed_from_step") else ""),
    ]  # fmt: skip
    links = "".join(f'<li><a href="#{id}">{title}</a></li>' for id, title in SECTIONS.items())
    return (
        f"<header><h1>{text(recipe.name)}</h1>{paragraph(lead, 'lead')}{paragraph(DISCLAIMER, 'soft')}"
        f'{first_figures(report)}{facts(pairs)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
    )


def _steps(recipe: Recipe, stats: Mapping[str, Any]) -> str:
    unit = "packs" if recipe.train.packing else "rows"
    return f"{stats['steps']:,}, each of {recipe.train.batch} {unit}; {kept(stats)}"


def _spent(stats: Mapping[str, Any]) -> str:
    seconds, peak = stats.get("train_runtime"), stats.get("peak_gb")
    return ", ".join([*([f"{seconds:,.0f} s"] if seconds else []), *([f"at most {peak} GB"] if peak else [])])


def _hardware(state: Mapping[str, Any]) -> str:
    hardware = state.get("hardware", {})
    gpus = hardware.get("gpus") or []
    named = ", ".join(f"{gpus.count(name)} × {name}" if gpus.count(name) > 1 else name for name in dict.fromkeys(gpus))
    return named or (
        f"{hardware['cpu_cores']} CPU cores ({hardware.get('machine')})" if hardware.get("cpu_cores") else ""
    )


def _moment(stamp: str) -> str:
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)\d\d", stamp)
    return "{}-{}-{} {}:{} UTC".format(*found.groups()) if found else ""


# --- training, data, proofs


def training(
    recipe: Recipe, state: Mapping[str, Any], stats: Mapping[str, Any], losses: Sequence[Mapping[str, str]]
) -> str:
    """The curves with the step that was kept, and where the time went."""
    seconds = {name: value for name, value in state.get("seconds", {}).items() if value >= 0.05}
    spent = table(
        [["stage", "seconds"], *([name, f"{value:,.1f}"] for name, value in seconds.items())], "time by stage"
    )
    said = f"{kept(stats)}. {RATE}" if "steps" in stats else RATE
    return section(
        "training", "Training", run_plots(recipe.name, losses, stats, Marks(kept=stats.get("best_step"))),
        paragraph(f"{said[0].upper()}{said[1:]}", "soft"), folded("Time by stage", spent) if seconds else "",
    )  # fmt: skip


def data(report: Mapping[str, Any]) -> str:
    """Sources, parts, what was left out and mended, what benchmarks were kept out, known defects."""
    sources: list[list[object]] = [["source", "licence", "may be passed on", "rows read", "rows usable"]]
    for s in report.get("sources", ()):
        title = _linked(s["title"], str(s.get("homepage")))
        sources.append([title, s["licence"], s["redistributable"], f"{s['seen']:,}", f"{s['kept']:,}"])
    tokens, groups = report.get("tokens", {}), report.get("groups", {})
    parts: list[list[object]] = [["part", "rows", "groups", "tokens", "supervised"]]
    for part, count in report.get("rows", {}).items():
        held = tokens.get(part if part in tokens else "held out", {}) if count else {}
        inside = groups.get("in", {}).get(part, 0)
        spent = (f"{held[key]:,}" if key in held else "" for key in ("tokens", "supervised"))
        parts.append([part, f"{count:,}", f"{inside:,}", *spent])
    overflow = [
        (f"{reason} ({part})", len(ids))
        for part, each in report.get("overflow", {}).items()
        for reason, ids in each.get("dropped", {}).items()
    ]
    dropped = [*report.get("dropped", {}).items(), *overflow]
    defects = [f"{s['title']}: {defect}" for s in report.get("sources", ()) for defect in s.get("defects", ())]
    return section(
        "data", "Data", table(sources, "sources"), table(parts, "parts of the split"), paragraph(f"{tally.parts(report)}." if "asked" in report else "", "soft"),
        "<h3>Left out</h3>" + _counted("reason", dropped, "what was left out") if dropped else paragraph("No row was left out."),
        "<h3>Mended</h3>" + _counted("what", list(report["repaired"].items()), "what was mended") if report.get("repaired") else "",
        _kept_out(report.get("benchmarks", {})), folded("Known defects of the sources", bullets(defects)) if defects else "",
    )  # fmt: skip


def _counted(head: str, counts: Sequence[tuple[str, int]], name: str) -> str:
    return table([[head, "rows"], *([what, f"{count:,}"] for what, count in counts)], name)


def _kept_out(benchmarks: Mapping[str, Any]) -> str:
    rows = [[name, f"{each['questions']:,}", f"{each['rows']:,}"] for name, each in benchmarks.items()]
    return table(
        [["benchmark kept out of training", "test questions", "rows that held one"], *rows], "benchmarks kept out"
    )


def _linked(title: str, homepage: str) -> str:
    """A source's title, linked where its homepage is an address and nothing else."""
    if not HOMEPAGE.fullmatch(homepage):
        return title
    return Html(f'<a href="{escape(homepage)}" rel="noreferrer">{text(title)}</a>')


def proofs(state: Mapping[str, Any], stats: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """What was proved of every row, of the first steps, and of the split."""
    found = state.get("proofs", {})
    names = [name for name, value in next(iter(found.values()), {}).items() if isinstance(value, int)]
    rows = [["part", *names], *([part, *(f"{proof[name]:,}" for name in names)] for part, proof in found.items())]
    split = report.get("leakage")
    return section(
        "proofs", "What was proved", bullets(_proved(state, stats, report)), table(rows, "what was looked at"),
        "<h3>Rows that share something with train</h3>" + table(leakage.rows(split), "leakage") if split else "",
    )  # fmt: skip


def _proved(state: Mapping[str, Any], stats: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    proof, seen = state.get("proofs", {}).get("train", {}), stats.get("proved", {})
    if "answers" in proof:
        yield f"Of every row: its ids are those of the chat template, and each of {proof['answers']:,} answers ends with a supervised stop token; {proof['supervised']:,} of {proof['tokens']:,} training tokens are supervised."
    if "windows" in proof:
        yield "Of every row: the tags of its words come back from the ids and labels that the model was trained on."
    if "after others" in seen:
        yield "Packing isolation: a row's loss is the same whatever stands before it in its pack."
    if "evaluated" in seen:
        yield f"A row is trained with the loss that evaluation finds for it: {seen['learned']:.4f} and {seen['evaluated']:.4f} nats a token."
    if said := leakage.headline(report["leakage"]) if report.get("leakage") else "":
        yield f"Split by group: {said}."
    yield "Every file of the run is sealed by its sha256 in run.json; medrecipes verify holds them against what can be derived again."


# --- settings and use


def settings(recipe: Recipe, state: Mapping[str, Any]) -> str:
    """Every setting with where it comes from: the recipe, a choice of this run with its reason, or the default."""
    chosen = {name: each for name, each in state.get("choices", {}).items() if isinstance(each, Mapping)}
    shared, unread, unsaid = recipe.shared(), UNREAD[recipe.task], {f"train.{name}" for name in recipe.unsaid}
    given = dict(leaves(shared.model_dump(mode="json", exclude_defaults=True)))
    taken = {CHOSEN[name]: each for name, each in chosen.items() if name in CHOSEN}
    own: list[list[object]] = [["setting", "value", "origin"]]
    usual: list[list[object]] = [["setting", "value"]]
    for key, value in leaves(shared.model_dump(mode="json", exclude={"name", "task", "build", "publish", "sweep"})):
        if value in (None, []) or key in unsaid or any(f"{key}.".startswith(f"{name}.") for name in unread):
            continue
        if value == "auto" and key in taken:
            own.append([key, str(taken[key]["value"]), f"chosen: {taken[key]['reason']}"])
        elif key in given:
            own.append([key, to_toml(given[key]).strip('"'), "the recipe"])
        else:
            usual.append([key, to_toml(value).strip('"')])
    others = [
        [name.replace("_", " "), str(each["value"]), f"chosen: {each['reason']}"]
        for name, each in chosen.items()
        if name not in CHOSEN or all(row[0] != CHOSEN[name] for row in own)
    ]
    versions = ", ".join(f"{name} {number}" for name, number in state.get("versions", {}).items())
    return section(
        "settings", "Settings", table([*own, *others], "settings with their origins"), folded(f"{len(usual) - 1} settings with their defaults", table(usual, "defaults")),
        paragraph(f"Made with {versions}." if versions else "", "soft"),
    )  # fmt: skip


def use(recipe: Recipe) -> str:
    """The commands that put the run to use, as they are typed in its folder."""
    if recipe.task == "tag":
        lines = ['medrecipes tag . "Naloxone reverses the effect of clonidine."', "medrecipes chat . --web"]
    else:
        lines = [
            "medrecipes chat .",
            "medrecipes chat . --web",
            "medrecipes serve .",
            "medrecipes export . --format gguf",
        ]
    lines += ["medrecipes verify .", "medrecipes publish .          # what a release would be; --push makes it"]
    commands = f'<pre tabindex="0">{text(chr(10).join(lines))}</pre>'
    return section("use", "Use it", paragraph("In the run's folder:"), commands)
