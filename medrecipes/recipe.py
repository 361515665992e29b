"""The recipe: a frozen schema read from TOML, where every mistake is reported at once with its file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from medrecipes.errors import RecipeError, did_you_mean
from medrecipes.store import digest, digest_path

TEMPLATES = Path(__file__).parent.parent / "templates"
MAX_EXTENDS = 8

Names = Annotated[tuple[str, ...], Field(strict=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """The common rules of all tables: unknown keys forbidden, no conversion of types, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(Section):
    base: str = Field("tiny:mistral", description="Base model: a Hub id, a folder, or `tiny:FAMILY` built on the spot.")
    revision: str = Field(
        "main", description="Branch, tag or commit of the base; the commit it resolved to is recorded."
    )
    bits: Literal[4, 8, 16] = Field(4, description="Bits a weight of the base: 4 (NF4), 8 or 16.")
    engine: Literal["auto", "unsloth", "plain"] = Field("auto", description="What trains: unsloth, or plain TRL.")
    trust_remote_code: bool = Field(False, description="Run Python code that the base's repository ships.")


class Template(Section):
    name: str = Field("mistral-v1", description="A chat template of templates/, without `.jinja`.")
    system: str | None = Field(None, description="System message put before every conversation that has none.")


class SplitRatios(Section):
    train: Fraction = Field(0.8, description="Share of rows to train on.")
    dev: Fraction = Field(0.1, description="Share of rows to choose checkpoints by.")
    test: Fraction = Field(0.1, description="Share of rows for the final figures.")


class Data(Section):
    source: str = Field("medquad", description="Which dataset: a file of medrecipes/sources/.")
    path: Path | None = Field(
        None,
        strict=False,
        description="File or folder, from the recipe's own folder; left out: the source's Hub repository.",
    )
    split: SplitRatios = Field(default=SplitRatios(), description="Shares of train, dev and test; they sum to 1.")
    limit: Count | None = Field(None, description="Use at most this many rows, sampled evenly over groups.")
    max_tokens: Count = Field(2048, description="Longest conversation, in tokens.")
    on_overflow: Literal["drop", "shorten_context", "shorten_answer", "error"] = Field(
        "drop", description="What happens to a conversation that is longer than max_tokens."
    )


class Lora(Section):
    rank: Count = Field(16, description="Rank of the update matrices.")
    alpha: Count = Field(16, description="Scale of the update: alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout before the update.")
    targets: Names = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="Modules that get an update, by the end of their name.",
    )


class Train(Section):
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="Passes over the training rows.")
    max_steps: Count | None = Field(None, description="Steps instead of epochs.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(2e-4, description="Peak learning rate.")
    batch: Count = Field(8, description="Rows a step: micro_batch x accumulation x GPUs.")
    micro_batch: Literal["auto"] | Count = Field("auto", description="Rows in memory at once.")
    optim: str = Field("adamw_8bit", description="Optimiser, by transformers' names.")
    scheduler: str = Field("linear", description="Learning-rate schedule, by transformers' names.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(5, description="Steps until the peak learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="Weight decay of the optimiser.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradient norm above which it is clipped.")
    checkpointing: Literal["auto"] | bool = Field("auto", description="Recompute activations to save memory.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="Number format of the computation.")
    logging_steps: Count = Field(1, description="Steps between two rows of loss.csv.")
    eval_steps: Count = Field(50, description="Steps between two evaluations of the dev loss.")
    save_steps: Count = Field(50, description="Steps between two checkpoints.")


class Eval(Section):
    rows: Count = Field(200, description="Held-out rows that are answered and scored.")
    max_new_tokens: Count = Field(256, description="Longest answer, in tokens.")
    batch: Count = Field(8, description="Questions answered at once.")
    draws: Count = Field(1000, description="Bootstrap draws behind every interval.")


class Recipe(Section):
    """One experiment; `Recipe.key` is a hash of all that changes its result."""

    name: str = Field("recipe", description="Name of the run folder; left out: the file's name.")
    task: Literal["chat"] = Field("chat", description="What is learned: answers in a conversation.")
    seed: int = Field(42, description="Seed of the split, the weights and the data order.")
    model: Model = Field(default=Model(), description="The base model.")
    template: Template = Field(default=Template(), description="How conversations become text.")
    data: Data = Field(default=Data(), description="What is learned from.")
    lora: Lora = Field(default=Lora(), description="The adapter.")
    train: Train = Field(default=Train(), description="How it is trained.")
    eval: Eval = Field(default=Eval(), description="How it is judged.")

    @cached_property
    def key(self) -> str:
        """Hash of the recipe, the template's text and the local data's content; paths and names leave it alone."""
        value = self.model_dump(mode="json", exclude={"name": True, "data": {"path"}})
        value["template"]["text"] = template_path(self.template.name).read_text(encoding="utf-8")
        value["data"]["content"] = digest_path(self.data.path) if self.data.path else None
        return digest(value)

    def to_toml(self) -> str:
        """The recipe as TOML, every value written out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


@dataclass(frozen=True)
class Origin:
    """Where a value was set, e.g. `recipes/demo.toml:12`, or `--set`."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Loaded:
    """A recipe and, for every key that some file or `--set` gave, where it came from."""

    recipe: Recipe
    origins: Mapping[str, Origin]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe, everything it extends and the `--set KEY=VALUE` overrides; raise RecipeError with all problems."""
    path = Path(path)
    values: dict[str, Any] = {"name": path.stem}
    origins: dict[str, Origin] = {}
    for file, table, lines in _files(path, ()):
        _merge(values, table, file, lines, origins)
    problems = []
    for override in overrides:
        try:
            _merge(values, _parse_override(override), Path("--set"), {}, origins)
        except RecipeError as error:
            problems += error.problems
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(problems + [_describe(e, path, origins) for e in error.errors()]) from None
    problems += _cross_check(recipe, path, origins)
    if problems:
        raise RecipeError(problems)
    return Loaded(recipe, origins)


def template_path(name: str) -> Path:
    """The file of a chat template."""
    return TEMPLATES / f"{name}.jinja"


def template_names() -> list[str]:
    """All chat templates that ship."""
    return sorted(p.stem for p in TEMPLATES.glob("*.jinja"))


def source_names() -> list[str]:
    """All datasets that have a file in sources/; found by name, so that no library is loaded for it."""
    folder = Path(__file__).parent / "sources"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def _files(path: Path, seen: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any], dict[str, int]]]:
    """The files that make a recipe, the most general first, each with its table and the line of every key."""
    if path.resolve() in seen:
        raise RecipeError(f"{seen[-1]}: extends {path}, which extends it in turn; break the circle")
    if len(seen) > MAX_EXTENDS:
        raise RecipeError(f"{path}: extended more than {MAX_EXTENDS} files deep; flatten the chain")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        by = f"{seen[-1]}: extends " if seen else ""
        near = did_you_mean(path.stem, [p.stem for p in path.parent.glob("*.toml")])
        raise RecipeError(f"{by}{path}: no such recipe{near or '; correct the path'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}); a recipe is a TOML file in UTF-8") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise RecipeError(f"{path}{f':{line[1]}' if line else ''}: broken TOML ({error}); correct this line") from None
    parents = table.pop("extends", [])
    for parent in [parents] if isinstance(parents, str) else parents:
        yield from _files(path.parent / parent, (*seen, path.resolve()))
    yield path, table, key_lines(text)


def key_lines(text: str) -> dict[str, int]:
    """The line that sets each key, e.g. `{"lora": 3, "lora.rank": 4}`; tomllib keeps no positions."""
    lines: dict[str, int] = {}
    prefix, inside = "", ""
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            prefix = _plain_key(header[2])
            if header[1] == "[[":
                counts[prefix] = counts.get(prefix, -1) + 1
                lines.setdefault(prefix, number)
                prefix = f"{prefix}.{counts[prefix]}"
            lines.setdefault(prefix, number)
        elif setting := re.match(
            r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=(.*)""", line
        ):
            key = f"{prefix}.{_plain_key(setting[1])}" if prefix else _plain_key(setting[1])
            lines.setdefault(key, number)
            for quote in ('"""', "'''"):
                if setting[2].count(quote) % 2:
                    inside = quote
    return lines


def _plain_key(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _merge(into: dict[str, Any], table: Mapping[str, Any], file: Path, lines: Mapping[str, int], origins: dict[str, Origin],
           prefix: str = "") -> None:  # fmt: skip
    """Lay one table over another, key by key, and note where each value came from."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            if not isinstance(into.get(name), dict):
                into[name] = {}
            origins.setdefault(key, Origin(str(file), _line(key, lines)))
            _merge(into[name], value, file, lines, origins, f"{key}.")
            continue
        origins[key] = Origin(str(file), _line(key, lines))
        # a relative path belongs to the file that states it, so that a recipe works from any folder
        if key == "data.path" and isinstance(value, str):
            given = Path(value).expanduser()
            value = str((given if str(file) == "--set" else file.parent / given).resolve())
        into[name] = value


def _line(key: str, lines: Mapping[str, int]) -> int | None:
    """The line of a key, or of the inline table around it."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _parse_override(text: str) -> dict[str, Any]:
    """`lora.rank=8` as a nested table; a value that is no TOML is taken as a bare word."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise RecipeError(f"--set {text}: write it as KEY=VALUE, such as --set train.max_steps=100")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if not re.fullmatch(r"[^\s\"'\[\]{}=,]+", value):
            raise RecipeError(
                f"--set {text}: {value!r} is not a TOML value; quote it, such as {key}='\"text\"'"
            ) from None
        parsed = value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    result: dict[str, Any] = parsed
    return result


def fields(section: type[Section] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the schema with its field, sections included."""
    for name, info in section.model_fields.items():
        yield f"{prefix}{name}", info
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from fields(info.annotation, f"{prefix}{name}.")


def _describe(error: Any, path: Path, origins: Mapping[str, Origin]) -> str:
    """One problem that pydantic found, as one line for a person."""
    known = dict(fields())
    parts = [str(part) for part in error["loc"]]
    while (
        len(parts) > 1
        and ".".join(parts) not in known
        and ".".join(parts[:-1]) in known
        and error["type"] != "extra_forbidden"
    ):
        parts.pop()  # the name of a union's branch, or a position in a list
    key = ".".join(parts)
    origin = origins.get(key) or next((o for k, o in origins.items() if k.startswith(f"{key}.")), Origin(str(path)))
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        return f"{origin}: {key} is unknown{did_you_mean(key, [k for k in known if k.count('.') == key.count('.')])}"
    if error["type"] == "missing":
        return f"{origin}: {key} is missing; set it"
    words = [w for w in _words(known[key].annotation) if isinstance(w, str)] if key in known else []
    if words and isinstance(value, str):
        return f"{origin}: {key} = {value!r} is not one of {', '.join(words)}{_suggest(value, words)}"
    reason = error["msg"].replace("Input should be", "must be").replace("a valid ", "a ")
    if words or "literal" in error["type"]:
        reason = f"must be one of {', '.join(map(str, _words(known[key].annotation)))}"
    return f"{origin}: {key} = {value!r}: {reason}"


def _suggest(value: str, words: Sequence[str]) -> str:
    """A did-you-mean without the list, which the message bears already."""
    hint = did_you_mean(value, words)
    return hint if hint.startswith("; did") else ""


def _words(annotation: Any) -> list[Any]:
    """The literal values that an annotation allows."""
    found: list[Any] = []
    for part in get_args(annotation):
        found += (
            _words(part)
            if get_args(part)
            else [part]
            if isinstance(part, str | int) and not isinstance(part, type)
            else []
        )
    return found


def _cross_check(recipe: Recipe, path: Path, origins: Mapping[str, Origin]) -> list[str]:
    """What no single field can know."""

    def at(key: str) -> str:
        return f"{origins.get(key, Origin(str(path)))}: {key}"

    problems = []
    names = source_names()
    if recipe.data.source not in names:
        problems.append(
            f"{at('data.source')} = {recipe.data.source!r} is unknown{did_you_mean(recipe.data.source, names)}"
        )
    templates = template_names()
    if recipe.template.name not in templates:
        hint = did_you_mean(recipe.template.name, templates)
        problems.append(f"{at('template.name')} = {recipe.template.name!r} is unknown{hint}")
    split = recipe.data.split
    if abs(split.train + split.dev + split.test - 1) > 1e-6 or split.train == 0:
        problems.append(f"{at('data.split')}: train, dev and test must sum to 1, train above 0")
    if "train.epochs" in origins and "train.max_steps" in origins:
        problems.append(f"{at('train.max_steps')} contradicts {at('train.epochs')}; set one of them")
    if recipe.train.micro_batch != "auto" and recipe.train.batch % recipe.train.micro_batch:
        problems.append(
            f"{at('train.micro_batch')} = {recipe.train.micro_batch} does not divide train.batch = {recipe.train.batch}; "
            "choose a divisor"
        )
    if recipe.data.path and not recipe.data.path.exists():
        problems.append(f"{at('data.path')} = {str(recipe.data.path)!r} does not exist; correct it, or leave it out")
    return problems
