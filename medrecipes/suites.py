"""Benchmarks people know: base and adapter handed to lm-evaluation-harness, its figures filed beside our own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrecipes.console import Console
from medrecipes.errors import MedRecipesError, did_you_mean
from medrecipes.rundir import RunDir

HARNESS = "lm-eval"
# medical knowledge, and what a medical fine-tuning may have cost: base against tuned on what everybody reports
NAMED = {
    "medical": (
        "medqa_4options", "medmcqa", "pubmedqa", "mmlu_anatomy", "mmlu_clinical_knowledge", "mmlu_college_biology",
        "mmlu_college_medicine", "mmlu_medical_genetics", "mmlu_professional_medicine",
    ),
    "general": ("arc_challenge", "hellaswag", "winogrande"),
}  # fmt: skip


def parse_suite(text: str) -> tuple[str, ...]:
    """The tasks of a suite, e.g. `lm-eval:medqa_4options,pubmedqa` or `lm-eval:medical`."""
    harness, colon, names = text.partition(":")
    tasks = [name.strip() for name in names.split(",") if name.strip()]
    if harness != HARNESS or not colon or not tasks:
        raise MedRecipesError(f"--suite {text}: write it as {HARNESS}:TASK,TASK or {HARNESS}:{'|'.join(NAMED)}")
    if importlib.util.find_spec("lm_eval") is None:
        raise MedRecipesError(
            f"--suite {text}: lm-evaluation-harness is not installed; pip install 'medrecipes[bench]'"
        )
    return tuple(task for name in tasks for task in NAMED.get(name, (name,)))


def run_suite(
    tasks: Sequence[str], engine: Any, rundir: RunDir, include: Path | None, console: Console
) -> dict[str, Any]:
    """What the harness says of base and tuned on the same tasks; `include`: a folder with task files of one's own."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoTokenizer

    with console.quiet(rundir.log):
        manager = TaskManager(include_path=str(include) if include else None)
    known = set(manager.all_tasks)
    for task in tasks:
        if task not in known:
            hint = did_you_mean(task, known)
            raise MedRecipesError(f"--suite: task {task!r} is unknown to lm-eval {lm_eval.__version__}{hint}")

    def figures(model: Any) -> dict[str, Any]:
        found = lm_eval.simple_evaluate(model=model, tasks=list(tasks), task_manager=manager, log_samples=False)
        return {task: _numbers(value) for task, value in found["results"].items()}

    with console.stage("suite") as stage, console.quiet(rundir.log):
        tokenizer = AutoTokenizer.from_pretrained(str(rundir.adapter), trust_remote_code=False)
        model = HFLM(pretrained=engine.model, tokenizer=tokenizer, batch_size=engine.recipe.eval.batch)
        with engine.base():
            base = figures(model)
        tuned = figures(model)
        stage.says(f"lm-eval {lm_eval.__version__}: {', '.join(tasks)}")
    return {"harness": f"lm-eval {lm_eval.__version__}", "tasks": list(tasks), "base": base, "tuned": tuned}


def suite_rows(suite: dict[str, Any]) -> list[list[str]]:
    """Base against tuned, a row a task and metric; ± is the harness's own standard error."""
    rows = [[suite["harness"], "base", "tuned", "difference"]]
    for task, figures in suite["tuned"].items():
        for name, value in figures.items():
            if "_stderr" in name or name == "sample_len":
                continue
            before = suite["base"][task][name]
            metric, _, filtered = name.partition(",")
            error = f"{metric}_stderr,{filtered}"
            cells = [_with_error(part[task], name, error) for part in (suite["base"], suite["tuned"])]
            rows.append([f"{task} {metric}", *cells, f"{value - before:+.3f}"])
    return rows


def _with_error(figures: dict[str, Any], name: str, error: str) -> str:
    return f"{figures[name]:.3f}" + (f" ± {figures[error]:.3f}" if error in figures else "")


def _numbers(value: dict[str, Any]) -> dict[str, float]:
    return {name: number for name, number in value.items() if isinstance(number, int | float)}
