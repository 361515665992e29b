"""The claim of how training went: loss.csv, trainer_stats.json and the checkpoints tell one story, that of the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medrecipes.engines.plan import count_steps
from medrecipes.engines.plan.dimensions import Shape
from medrecipes.recipe.schema import Train
from medrecipes.release.verify.claims import Found, unlike
from medrecipes.release.verify.evidence import Evidence
from medrecipes.runs.checkpoints import STATE, checkpoints

PROVED = 0.02  # as training itself holds it, in nats and as a share
ROUGH = 0.02  # of a count that leaves norms out
NEAR = 1e-3  # of sums that the trainer itself rounds
# share of the peak learning rate at a step, of so many for warm-up and of so many in all, as transformers has it
SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": lambda step, warm, whole: 1.0,
    "constant_with_warmup": lambda step, warm, whole: min(1.0, step / max(1, warm)),
    "linear": lambda step, warm, whole: step / warm if step < warm else max(0.0, (whole - step) / max(1, whole - warm)),
    "cosine": lambda step, warm, whole: (
        step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, whole - warm)))
    ),
}


def training(e: Evidence) -> Found:
    """Every row of loss.csv and every figure of trainer_stats.json that another file, or the recipe, gives too."""
    wrong = [*_steps(e), *_rates(e), *_tokens(e), *_statistics(e), *_kept(e), *_size(e)]
    newest = next(iter(checkpoints(e.rundir.checkpoints)), None)
    if newest:
        wrong += _checkpoint(e, newest)
    held = f"as {newest.name} has it" if newest else "whose checkpoints are gone"
    return Found(f"{e.stats['steps']:,} steps, {len(e.losses):,} rows of loss.csv, {held}", wrong)


def planned(e: Evidence) -> int:
    """The steps that the recipe takes over these rows."""
    return count_steps(e.packs, e.own)


def _of(e: Evidence, split: str) -> list[dict[str, str]]:
    return [row for row in e.losses if row["split"] == split]


def _steps(e: Evidence) -> Iterator[str]:
    """The steps that loss.csv has rows of."""
    steps, settings, whole = e.stats["steps"], e.own.train, planned(e)
    if steps > whole or (steps < whole and not settings.early_stopping):
        yield f"trainer_stats.json counts {steps:,} steps, and the recipe takes {whole:,}"
    for row in e.losses:
        if row["split"] not in ("train", "dev") or not math.isfinite(float(row["loss"])):
            yield f"loss.csv has a row of step {row['step']} that is no loss of train or dev"
    logged = [int(row["step"]) for row in _of(e, "train")]
    if logged != list(range(settings.logging_steps, steps + 1, settings.logging_steps)):
        yield f"loss.csv has {len(logged):,} training rows, which are not every {settings.logging_steps} of {steps:,} steps"  # fmt: skip
    looked = [int(row["step"]) for row in _of(e, "dev")]
    between: Any = settings.eval_steps
    if between == "auto":  # as it was chosen then, which a later version may do otherwise
        between = e.state.get("choices", {}).get("eval_steps", {}).get("value") or "epoch"
    if between != "epoch" and e.data["rows"]["dev"]:
        first = 0 if e.own.task == "chat" else between
        every = list(range(first, steps + 1, between))
        if looked not in (every, [*every, steps]):  # later versions of transformers evaluate at the end, too
            yield f"loss.csv has {len(looked)} dev rows, which are not every {between} of {steps:,} steps"
    elif looked != sorted(set(looked)) or (looked and not e.data["rows"]["dev"]):
        yield f"loss.csv has {len(looked)} dev rows, which cannot be"


def _rates(e: Evidence) -> Iterator[str]:
    """The learning rates that were used are those of the recipe."""
    settings, whole = e.own.train, planned(e)
    schedule, peak = SCHEDULES.get(settings.scheduler), settings.learning_rate
    # where a loss overflows in half precision, a step and its place in the schedule are skipped
    skips = e.state.get("choices", {}).get("precision", {}).get("value") == "fp16"
    for row in _of(e, "train"):
        step, rate = int(row["step"]), float(row["learning_rate"])
        shares = [schedule(at, _warm(settings, whole), whole) for at in (step - 1, step)] if schedule else []
        # transformers has told the rate of a step before and after it was taken
        right = any(math.isclose(rate, peak * share, rel_tol=NEAR, abs_tol=peak * 1e-6) for share in shares)
        if not 0 <= rate <= peak * (1 + NEAR) or (shares and not skips and not right):
            yield f"loss.csv has learning rate {rate:g} at step {step}, which is not that of the recipe"
            return


def _warm(settings: Train, whole: int) -> int:
    if settings.scheduler == "constant":
        return 0
    return settings.warmup_steps if settings.warmup_fraction is None else math.ceil(settings.warmup_fraction * whole)


def _tokens(e: Evidence) -> Iterator[str]:
    """Tokens add up, from row to row and over whole epochs."""
    stats, train = e.stats, e.own.train
    for name in ("tokens", "supervised_tokens"):
        counts = [int(row[name]) for row in e.losses]
        if counts != sorted(counts):
            yield f"loss.csv counts fewer {name} at a later step"
        last = counts[-1] if counts else 0
        whole = bool(e.losses) and int(e.losses[-1]["step"]) == stats["steps"]
        if last > stats[name] or (whole and last != stats[name]):
            yield f"trainer_stats.json has {stats[name]:,} {name}, loss.csv {last:,}"
    if _alone(e) and not train.max_steps and train.epochs == int(train.epochs) and stats["steps"] == planned(e):
        wanted = e.data.get("mixture", e.data["tokens"]["train"])["tokens"] * int(train.epochs)
        if stats["tokens"] != wanted:
            yield f"trainer_stats.json has {stats['tokens']:,} tokens, and {train.epochs:g} epochs are {wanted:,}"


def _alone(e: Evidence) -> bool:
    """Whether one process trained without a break, so that everything it summed up is of the whole training."""
    one = len(e.state.get("hardware", {}).get("gpus", [])) <= 1
    return one and e.state.get("resumed_from_step") is None and "out_of_memory" not in e.state


def _statistics(e: Evidence) -> Iterator[str]:
    """What trainer_stats.json says of rows, losses and time."""
    stats, chat = e.stats, e.own.task == "chat"
    rows = len(e.mixture.rows) if chat else len(e.tagged.train)
    made = {"rows": rows, "packs" if chat else "windows": e.packs}
    yield from unlike(made, {name: stats[name] for name in made}, "trainer_stats.json")
    losses = [float(row["loss"]) for row in _of(e, "train")]
    if _alone(e) and e.own.train.logging_steps == 1:
        mean = sum(losses) / len(losses)
        if not math.isclose(mean, stats["train_loss"], rel_tol=NEAR):
            yield f"trainer_stats.json has a mean loss of {stats['train_loss']:.4f}, the rows of loss.csv {mean:.4f}"
    seconds, rate = stats["train_runtime"], stats["train_steps_per_second"]
    if abs(seconds * rate - planned(e)) > NEAR * seconds + 0.01 * planned(e):
        yield f"trainer_stats.json has {seconds} s at {rate} steps a second, which are not {planned(e):,} steps"
    proved = list(stats["proved"].values()) if chat else []
    if proved and max(proved) - min(proved) > PROVED * (1 + min(proved)):
        yield "trainer_stats.json has a row that was learned otherwise than it was evaluated"
    samples = e.own.train.max_steps * e.own.train.batch if e.own.train.max_steps else e.packs * e.own.train.epochs
    if _alone(e) and not math.isclose(seconds * stats["train_samples_per_second"], samples, rel_tol=0.01):
        yield f"trainer_stats.json has {seconds} s at {stats['train_samples_per_second']} rows a second, which are not {samples:,.0f}"  # fmt: skip
    last = max((float(row["epoch"]) for row in e.losses), default=0.0)
    if abs(last - stats["epoch"]) > e.own.train.logging_steps * stats["epoch"] / stats["steps"] + NEAR:
        yield f"trainer_stats.json ends at epoch {stats['epoch']:g}, loss.csv at {last:g}"


def _kept(e: Evidence) -> Iterator[str]:
    """Which checkpoint was kept."""
    stats, wanted = e.stats, e.own.train.keep_best
    metric = wanted if wanted != "last" and e.data["rows"]["dev"] else None
    if "metric" in stats and stats["metric"] != metric:  # which runs of old times do not have
        yield f"trainer_stats.json chooses by {stats['metric']}, and the recipe by {metric}"
    if stats["best_metric"] is None and stats["best_step"] != stats["steps"]:
        yield f"trainer_stats.json keeps step {stats['best_step']} of {stats['steps']}, without a figure to choose it by"
    if dev := stats.get("all_dev"):
        rows = len(e.fitted["dev"].examples) if e.own.task == "chat" else len(e.tagged.dev)
        most = rows if e.own.train.eval_rows == "all" else min(rows, e.own.train.eval_rows)
        yield from unlike({"all": rows, "evaluated": most}, {"all": dev["rows"], "evaluated": stats["dev_rows"]}, "dev rows")  # fmt: skip
        if rows == most and metric and dev[metric] != stats["best_metric"]:
            yield f"trainer_stats.json has {dev[metric]} on all dev rows, and {stats['best_metric']} of the best on the same"
    if e.own.task != "tag":
        return
    looked = [{"step": int(row["step"]), "loss": float(row["loss"])} for row in _of(e, "dev")]
    yield from unlike(looked, [{name: entry[name] for name in ("step", "loss")} for entry in stats["dev"]], "dev")
    if e.own.train.keep_best == "f1" and stats["dev"]:
        best = max(stats["dev"], key=lambda entry: entry["f1"])
        yield from unlike({"best_step": best["step"], "best_metric": best["f1"]}, {n: stats[n] for n in ("best_step", "best_metric")}, "trainer_stats.json")  # fmt: skip


def _size(e: Evidence) -> Iterator[str]:
    """How large the base is, by what its config says of its layers."""
    config = e.base.config
    if {"text_config", "num_local_experts"} & config.keys():  # it sees, or has more layers beside one another
        return
    shape, base = Shape.of(config), e.stats["parameters"] - e.stats["trainable_parameters"]
    least = shape.parameters - (shape.head if e.own.task == "tag" else 0)  # whose head is another
    if not least * (1 - ROUGH) <= base <= shape.parameters * (1 + ROUGH):
        yield f"trainer_stats.json has {base:,} parameters of the base, its config {shape.parameters:,}"


def _checkpoint(e: Evidence, newest: Path) -> Iterator[str]:
    """The trainer's own log in its newest checkpoint holds the same losses, and names the same best."""
    state = e.json((newest / STATE).relative_to(e.path).as_posix())
    made, said = [], []
    for entry in state["log_history"]:
        if loss := {"loss": "train", "eval_loss": "dev"}.keys() & entry.keys():
            name = loss.pop()
            epoch = round(entry["epoch"], 4)
            made.append([entry["step"], epoch, entry[name], entry.get("learning_rate"), _real(entry.get("grad_norm"))])
    for row in e.losses:
        if int(row["step"]) <= state["global_step"]:
            rate, norm = row["learning_rate"], row["grad_norm"]
            epoch = float(row["epoch"])
            said.append([int(row["step"]), epoch, float(row["loss"]), float(rate) if rate else None, _real(norm)])
    yield from unlike(made, said, "loss.csv")
    if state["global_step"] == e.stats["steps"] and e.stats["best_metric"] is not None:
        yield from _best(e, state)


def _best(e: Evidence, state: Mapping[str, Any]) -> Iterator[str]:
    """The best of the figures in the trainer's log is the one that trainer_stats.json has."""
    metric = e.own.train.keep_best
    figures = {entry["step"]: entry[f"eval_{metric}"] for entry in state["log_history"] if "eval_loss" in entry}
    after = {step: figure for step, figure in figures.items() if step}
    best = (max if metric == "f1" else min)(after, key=lambda step: after[step])
    made = {"best_step": best, "best_metric": after[best]}
    yield from unlike(made, {"best_step": state["best_global_step"], "best_metric": state["best_metric"]}, "trainer_state.json")  # fmt: skip
    if e.same_code or "base_metric" in e.stats:
        made["base_metric"] = figures.get(0)
    yield from unlike(made, {name: e.stats[name] for name in made}, "trainer_stats.json")
    if e.own.task == "tag":
        looked = [{"step": step, "f1": figures[step]} for step in after] if metric == "f1" else []
        yield from unlike(looked, [{"step": one["step"], "f1": one["f1"]} for one in e.stats["dev"]] if looked else [], "dev")  # fmt: skip


def _real(value: Any) -> float | None:
    """A norm; one that overflowed in half precision, and was skipped, is not compared."""
    number = float(value) if value not in (None, "") else math.nan
    return number if math.isfinite(number) else None
