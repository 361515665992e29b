"""The report of a run of conversations: base, tuned and their difference, every figure with an interval over groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.errors import SpoiledError
from medrecipes.core.files import write_json, write_text
from medrecipes.core.markup import fenced, plain
from medrecipes.engines import Decoding
from medrecipes.evaluation.benchmarks import suite_rows
from medrecipes.evaluation.cases import exactly
from medrecipes.recipe.schema import Eval, Recipe
from medrecipes.scoring.bootstrap import Figure, difference, draw_weights, estimate
from medrecipes.scoring.entities import NORMALISATION
from medrecipes.scoring.figures import (
    FILTER,
    answer_figures,
    claim_figures,
    exact,
    extraction_figures,
    extraction_report,
    intervals,
    listed,
    reasoning_figures,
    task_counts,
)
from medrecipes.scoring.predictions import Prediction, groups
from medrecipes.scoring.tables import METRICS, counts_rows, lists_rows, markdown, show

BASE, TUNED = "base", "tuned"
PARTS = (BASE, TUNED, "difference")
PENALISED = (
    "a repetition penalty of {:g}, as the recipe asks: it works against copying from the text, which lists are made by"
)
REASONING = "reasoning is taken off an answer before it is scored; bits per byte are of all that is supervised"
SHOWN = 5  # answers that report.md shows in full


def report(
    recipe: Recipe, split: tuple[str, str], base: Sequence[Prediction], tuned: Sequence[Prediction],
    cases: Sequence[Prediction] = (), computed: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Base, tuned and their difference, each metric as `{value, low, high}`; lists have their own part, `extraction`.

    `split`: the name and the key of the one that was held out; `computed`: how the base was loaded and computed, as the load stage said it.
    """
    if [p.id for p in base] != [p.id for p in tuned]:
        raise SpoiledError(f"{recipe.name}: base and tuned answered different rows; answer them again with `medrecipes eval RUN --fresh`")  # fmt: skip
    draws, seed, decoding = recipe.eval.draws, recipe.seed, Decoding.of(recipe)
    figures = _compared(_figures(base), _figures(tuned), groups(base), draws, seed)
    lists = listed(base), listed(tuned)
    value: dict[str, Any] = {
        "split": split[0],
        "split_key": split[1],
        "rows": len(base),
        "groups": len(set(groups(base))),
        "decoding": decoding.as_dict()
        | _limits(recipe.eval)
        | ({"backend": "vllm"} if recipe.eval.backend == "vllm" else {}),
        "intervals": intervals(draws, seed, len(set(groups(base)))),
        **figures,
    }
    if any(p.reasoning_tokens is not None for p in (*base, *tuned)):
        value["reasoning"] = {BASE: reasoning_figures(base), TUNED: reasoning_figures(tuned)}
    if computed:
        value["computed"] = computed
    if recipe.template.foreign:
        value["foreign_template"] = recipe.template.name
    if lists[0]:
        value["extraction"] = _extraction(recipe, *lists)
        if decoding.repetition_penalty != 1:
            value["extraction"]["note"] = PENALISED.format(decoding.repetition_penalty)
        both = _averages(lists[0]), _averages(lists[1])
        for part, more in _compared(*both, groups(lists[0]), draws, seed).items():
            value[part] = value[part] | more
    # what no row can say anything of, such as doses where no reference states one
    value["absent"] = sorted(n for n, f in figures[BASE].items() if f["value"] is None)
    for part in PARTS:
        value[part] = {
            name: value[part][name] for name in METRICS if name in value[part] and name not in value["absent"]
        }
    if cases:
        value["cases"] = {"rows": len(cases), "exact_match": sum(map(exact, cases))}
    return value


def write_report(
    name: str, folder: Path, value: dict[str, Any], base: Sequence[Prediction], tuned: Sequence[Prediction],
    cases: Sequence[Prediction] = (),
) -> None:  # fmt: skip
    """report.json for programs and report.md for people."""
    write_json(folder / "report.json", value)
    write_text(folder / "report.md", as_markdown(name, value, base, tuned, cases))


def as_markdown(
    name: str, value: Mapping[str, Any], base: Sequence[Prediction], tuned: Sequence[Prediction],
    cases: Sequence[Prediction] = (),
) -> str:  # fmt: skip
    """report.md."""
    lines = [
        f"# {plain(name)}: base against tuned",
        "",
        f"{value['rows']} rows of {value['groups']} groups of the {value['split']} split; {spoken(value['decoding'])}; "
        f"intervals: {value['intervals']}.",
        "",
        *markdown_table(value),
        "",
    ]
    if computed := value.get("computed"):
        lines += [f"Base: {computed}.", ""]
    if foreign := value.get("foreign_template"):
        lines += [f"Template {foreign} is not that of the base: the recipe says that it is meant.", ""]
    if value["absent"]:
        names = ", ".join(METRICS[name][0] for name in value["absent"])
        lines += [f"Not available from these rows: {names}.", ""]
    if thoughts := value.get("reasoning"):
        lines += [
            "## Reasoning",
            "",
            f"{REASONING[0].upper()}{REASONING[1:]}.",
            "",
            *markdown(reasoning_rows(thoughts)),
            "",
        ]
    if dev := said_on_dev(value):
        lines += [f"{dev[0].upper()}{dev[1:]}.", ""]
    if "extraction" in value:
        lines += ["## Lists", "", f"Two items are the same after: {NORMALISATION}.", ""]
        if note := value["extraction"].get("note"):
            lines += [f"{note[0].upper()}{note[1:]}.", ""]
        for part in (BASE, TUNED):
            lines += [f"### {part}", "", *markdown(lists_rows(value["extraction"][part])), ""]
            lines += [*markdown(counts_rows(value["extraction"][part])), ""]
            if filtered := value["extraction"][part].get("filtered"):
                lines += [f"Filtered ({filtered['filter']}):", "", *markdown(lists_rows(filtered)), ""]
    for suite in value.get("suites", ()):
        lines += ["## Benchmarks", "", *markdown(suite_rows(suite)), ""]
    if cases:
        lines += ["## Cases", "", f"Hand-written, answered by the tuned model: {exactly(cases)}.", ""]
        for case in cases:
            lines += _case_lines(case)
    lines += ["## Answers", ""]
    for before, after in list(zip(base, tuned, strict=True))[:SHOWN]:
        lines += [
            f"**{plain(one_line(after.prompt))}**", "", f"- reference: {plain(one_line(after.gold))}",
            f"- base: {plain(one_line(before.prediction))}",
            f"- tuned: {plain(one_line(after.prediction))}{'' if after.stopped else ' (hit the limit)'}", "",
        ]  # fmt: skip
    return "\n".join(lines)


def _limits(settings: Eval) -> dict[str, int]:
    """The limits of an answer and of its reasoning, where they are two."""
    budget = settings.max_reasoning_tokens
    return {"max_new_tokens": settings.max_new_tokens, "max_reasoning_tokens": budget} if budget else {}


def reasoning_rows(thoughts: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """What base and tuned thought before their answers, as the rows of a table."""
    parts = [thoughts[part] for part in (BASE, TUNED)]
    means = ["-" if part["mean_tokens"] is None else f"{part['mean_tokens']:,.1f}" for part in parts]
    return [
        ["reasoning", BASE, TUNED],
        ["answers with reasoning", *(f"{part['rows']:,} of {part['of_rows']:,}" for part in parts)],
        ["its mean length, in tokens", *means],
        ["unfinished, so without an answer", *(f"{part['unfinished']:,}" for part in parts)],
    ]


def kept(stats: Mapping[str, Any]) -> str:
    """Which checkpoint a training kept, and why; only what dev rows have chosen is called the best."""
    if stats.get("best_metric") is None:
        return f"the last step, {stats['best_step']}, is kept"
    return f"best at step {stats['best_step']}"


def on_dev(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What the dev rows said of the base and of the checkpoint that was kept, as `dev` of a report; nothing where none were asked."""
    base, tuned = stats.get("base_metric"), stats.get("best_metric")
    if base is None or tuned is None:
        return {}
    metric, helped = stats["metric"], tuned > base if stats["metric"] == "f1" else tuned < base
    found = {"metric": metric, "base": base, "tuned": tuned, "step": stats["best_step"], "helped": helped}
    whole, rows = stats.get("all_dev", {}), stats.get("dev_rows")
    return {"dev": found | ({"rows": rows, "of_rows": whole["rows"], "all": whole[metric]} if metric in whole else {})}


def said_on_dev(value: Mapping[str, Any]) -> str:
    """A report's `dev` in words; nothing where there is none, or a piece of it is missing."""
    dev = value.get("dev", {})
    if not {"metric", "base", "tuned", "step", "helped"} <= dev.keys():
        return ""
    what = str(dev["metric"]).replace("_", " ")
    some = {"rows", "of_rows", "all"} <= dev.keys() and dev["rows"] < dev["of_rows"]
    of = f"{dev['rows']:,} of {dev['of_rows']:,} dev rows" if some else "the dev rows"
    figures = f"{what} on {of}: base {dev['base']:.4g}, tuned {dev['tuned']:.4g} at step {dev['step']}"
    figures += f", {dev['all']:.4g} on all" if some else ""
    return figures if dev["helped"] else f"tuning did not help: {figures}, the best of its checkpoints"


def spoken(decoding: Mapping[str, Any]) -> str:
    """How answers were drawn, in words."""
    drawn = ", ".join(f"{name} {decoding[name]:g}" for name in ("temperature", "top_p", "seed") if name in decoding)
    penalty = decoding["repetition_penalty"]
    return (
        f"{decoding['method']} decoding{f' ({drawn})' if drawn else ''}, at most {decoding['max_new_tokens']} tokens"
        f"{f' behind at most {budget} of reasoning' if (budget := decoding.get('max_reasoning_tokens')) else ''}, "
        f"{'no repetition penalty' if penalty == 1 else f'a repetition penalty of {penalty:g}'}"
        f"{', answered by vLLM' if decoding.get('backend') == 'vllm' else ''}"
    )


def markdown_table(value: Mapping[str, Any]) -> list[str]:
    """The metrics as a Markdown table."""
    rows = [["metric", *value.get("columns", PARTS)]]
    for name in value[BASE]:
        rows.append([METRICS[name][0], *(show(name, value[part][name], signed=part == PARTS[2]) for part in PARTS)])
    return markdown(rows)


def one_line(text: str, longest: int = 1000) -> str:
    """A text as one line, its middle left out where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


def _figures(rows: Sequence[Prediction]) -> dict[str, Figure]:
    return {**answer_figures(rows), **claim_figures(rows)}


def _averages(rows: Sequence[Prediction]) -> dict[str, Figure]:
    figures = extraction_figures(task_counts(rows))
    return {f"{name}_f1": figures[name]["f1"] for name in ("micro", "macro")}


def _compared(
    before: Mapping[str, Figure], after: Mapping[str, Figure], of: Sequence[str], draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Figures of both and of their difference, on the same resamples."""
    weights, of_row = draw_weights(of, draws, seed)
    return {
        BASE: {name: estimate(figure, weights, of_row).as_dict() for name, figure in before.items()},
        TUNED: {name: estimate(figure, weights, of_row).as_dict() for name, figure in after.items()},
        PARTS[2]: {name: difference(after[name], before[name], weights, of_row).as_dict() for name in before},
    }


def _extraction(recipe: Recipe, base: Sequence[Prediction], tuned: Sequence[Prediction]) -> dict[str, Any]:
    """The lists of both models as `medrecipes score` reports them, filtered beside raw where the recipe says so."""
    draws, seed = recipe.eval.draws, recipe.seed
    parts: dict[str, Any] = {}
    for name, rows in ((BASE, base), (TUNED, tuned)):
        parts[name] = extraction_report(rows, draws, seed)
        if recipe.eval.filter == "in_text":
            parts[name]["filtered"] = {"filter": FILTER, **extraction_report(rows, draws, seed, in_text=True)}
    before, after = (extraction_figures(task_counts(rows)) for rows in (base, tuned))
    parts[PARTS[2]] = {
        part: _compared(_main(before[part]), _main(after[part]), groups(base), draws, seed)[PARTS[2]] for part in before
    }
    return parts


def _main(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    return {name: figures[name] for name in ("precision", "recall", "f1")}


def _case_lines(case: Prediction) -> list[str]:
    verdict = "exact match" if exact(case) else "no exact match"
    return [
        f"**{plain(case.id)}** ({plain(case.task)}): {verdict}", "", *_quoted("asked", case.prompt), *_quoted("expected", case.gold),
        *_quoted("answered", case.prediction or "(nothing)"), "",
    ]  # fmt: skip


def _quoted(name: str, text: str) -> list[str]:
    """A text of several lines as an entry of a Markdown list, its line ends kept."""
    first, *rest = text.splitlines() or [""]
    if not rest:
        return [f"- {name}: {plain(first)}"]
    return [f"- {name}:", "", *(f"  {line}" for line in fenced("text", text).splitlines())]
