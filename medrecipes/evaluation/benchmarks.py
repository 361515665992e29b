"""Benchmarks people know: base and adapter handed to lm-evaluation-harness, its figures filed beside our own."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, TrustError, did_you_mean
from medrecipes.core.extras import install
from medrecipes.core.trust import OPTION, trusts
from medrecipes.rendering.bounded_jinja import Bounded
from medrecipes.runs.folder import RunDir

HARNESS = "lm-eval"
YAML = "tag:yaml.org,2002:"
PLAIN = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge"}  # what a task file is made of
NAME = re.compile(r"\w+")
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
        raise MedRecipesError(f"--suite {text}: lm-evaluation-harness is not installed; {install('bench')}")
    return tuple(task for name in tasks for task in NAMED.get(name, (name,)))


def allow_include(folder: Path | None) -> None:
    """Raise for a folder of task files that would run Python of their own, unless the command line trusts it."""
    if folder is None or trusts(str(folder.resolve()), None):
        return
    if not folder.is_dir():
        raise MedRecipesError(f"--include {folder}: no such folder")
    if found := next(_code(folder), None):
        raise TrustError(f"{found}, which runs code of that folder; read it, and if you trust it add {OPTION} {shlex.quote(str(folder))}")  # fmt: skip


def _code(folder: Path) -> Iterator[str]:
    """Where task files name functions, metrics that are fetched as code, or files elsewhere."""
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml")):
        for node, key in _nodes(file):
            at = f"{file}:{node.start_mark.line + 1}"
            if node.tag.removeprefix(YAML) not in PLAIN:
                yield f"{at}: is tagged {node.tag}"
            elif not isinstance(node.value, str):
                continue
            elif (
                (key in ("metric", "use_prompt") and not NAME.fullmatch(node.value))
                or (key == "hf_evaluate" and node.value.lower() != "false")
                or (key == "include" and not _inside(file, node.value, folder))
            ):
                yield f"{at}: {key} is {node.value!r}"


def _nodes(file: Path) -> Iterator[tuple[Any, str]]:
    """Every value of a YAML file with the key that it stands under; nothing is made of it."""
    import yaml

    try:
        left = [(node, "") for node in yaml.compose_all(file.read_bytes(), yaml.SafeLoader) if node]
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise MedRecipesError(f"{file}: cannot be read as YAML ({' '.join(str(error).split())[:200]})") from None
    seen: set[tuple[int, str]] = set()
    while left:
        node, key = left.pop()
        if (id(node), key) in seen:  # a file may name a value again, or within itself
            continue
        seen.add((id(node), key))
        yield node, key
        if isinstance(node, yaml.SequenceNode):
            left += [(item, key) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            left += [pair for name, value in node.value for pair in ((name, ""), (value, str(name.value)))]


def _inside(file: Path, name: str, folder: Path) -> bool:
    """Whether a file that another one takes in is one of those that were looked at."""
    other = (file.parent / name).resolve()
    return other.suffix in (".yaml", ".yml") and other.is_relative_to(folder.resolve())


@contextmanager
def _sandboxed(harness: Any, include: Path | None) -> Iterator[None]:
    """Inside, prompts are rendered in the sandbox where task files came from a folder that nobody trusts."""
    theirs = harness.apply_template
    if include is not None and not trusts(str(include.resolve()), None):
        environment = Bounded(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        environment.filters["regex_replace"] = environment.limited(harness.regex_replace)

        def apply(template: str, doc: dict[str, Any]) -> str:
            texts = [value for value in doc.values() if isinstance(value, str)]
            return environment.rendered(environment.compiled(template), texts, **doc)

        harness.apply_template = apply
    try:
        yield
    finally:
        harness.apply_template = theirs


def run_suite(
    tasks: Sequence[str], engine: Any, rundir: RunDir, include: Path | None, console: Console
) -> dict[str, Any]:
    """What the harness says of base and tuned on the same tasks; `include`: a folder with task files of one's own."""
    import lm_eval
    import lm_eval.utils
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

    with console.stage("suite") as stage, console.quiet(rundir.log), _sandboxed(lm_eval.utils, include):
        tokenizer = AutoTokenizer.from_pretrained(str(rundir.adapter), trust_remote_code=False)
        model = HFLM(
            pretrained=engine.model,
            tokenizer=tokenizer,
            batch_size=engine.recipe.eval.at_once(8),
        )
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
