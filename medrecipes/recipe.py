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
    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="Number format of 4-bit weights.")
    double_quant: bool = Field(True, description="Quantise the 4-bit scales too; saves about 0.4 bits a weight.")
    skip_modules: Names = Field(
        (), description="Modules left in 16 bits when the base is quantised; lm_head always is."
    )
    cpu_offload: bool = Field(False, description="Keep what the card cannot hold in 8 bits on the CPU, in fp32.")
    trust_remote_code: bool = Field(False, description="Run Python code that the base's repository ships.")


class Template(Section):
    name: str = Field("mistral-v1", description="A chat template of templates/, without `.jinja`.")
    system: str | None = Field(None, description="System message put before every conversation that has none.")


class SplitRatios(Section):
    train: Fraction = Field(0.8, description="Share of rows to train on.")
    dev: Fraction = Field(0.1, description="Share of rows to choose checkpoints by.")
    test: Fraction = Field(0.1, description="Share of rows for the final figures.")


class Columns(Section):
    messages: str | None = Field(None, description="Column with the turns, each a role and a content.")
    question: str | None = Field(None, description="Column with the question.")
    answer: str | None = Field(None, description="Column with the answer.")
    system: str | None = Field(None, description="Column with a system message.")
    document: str | None = Field(None, description="Column that names what the row was taken from; never split.")
    type: str | None = Field(None, description="Column with the kind of question, to sample evenly.")
    split: str | None = Field(None, description="Column whose value `test` keeps a row in the test set.")


class Mix(Section):
    source: str = Field(description="Which dataset: a file of medrecipes/sources/.")
    path: Path | None = Field(None, strict=False, description="File or folder, from the recipe's own folder.")
    revision: str = Field("main", description="Branch, tag or commit of the dataset on the Hub.")
    columns: Columns = Field(default=Columns(), description="Names of the columns, for source jsonl.")
    weight: Annotated[float, Field(gt=0)] | None = Field(None, description="Share of the mixture, relative to others.")
    limit: Count | None = Field(None, description="Use at most this many of its rows, sampled evenly.")


class Data(Section):
    source: str = Field("medquad", description="Which dataset: a file of medrecipes/sources/.")
    path: Path | None = Field(
        None,
        strict=False,
        description="File or folder, from the recipe's own folder; left out: the source's Hub repository. "
        "With data.mix: the folder that holds a file or folder by each source's name.",
    )
    revision: str = Field(
        "main", description="Branch, tag or commit of the dataset on the Hub; the commit it resolved to is recorded."
    )
    columns: Columns = Field(default=Columns(), description="Names of the columns, for source jsonl.")
    mix: Annotated[tuple[Mix, ...], Field(strict=False)] = Field((), description="Several datasets instead of one.")
    split: SplitRatios = Field(default=SplitRatios(), description="Shares of train, dev and test; they sum to 1.")
    near_duplicate: Fraction = Field(
        0.0, description="Jaccard similarity of word triples from which rows count as the same; 0: only equal ones do."
    )
    answers: Literal["one", "all"] = Field("all", description="Answers kept for a question that has several.")
    limit: Count | None = Field(
        None, description="Use at most this many rows, sampled evenly over collections and question types."
    )
    max_tokens: Count = Field(2048, description="Longest conversation, in tokens.")
    on_overflow: Literal["drop", "shorten_context", "shorten_answer", "error"] = Field(
        "drop", description="What happens to a conversation that is longer than max_tokens."
    )

    @property
    def entries(self) -> tuple[Mix, ...]:
        """The datasets to read: the mixture, or the one that the section itself names."""
        if self.mix:
            return self.mix
        return (Mix(source=self.source, path=self.path, revision=self.revision, columns=self.columns),)


class BuildSet(Section):
    name: str = Field(description="Name of the dataset; `{model}` stands for each of build.models.")
    sources: Names = Field((), description="Which of data.mix it is made of, by source; left out: all.")
    limit: Count | None = Field(None, description="Use at most this many rows, as data.limit does.")


class Build(Section):
    models: dict[str, str] = Field({}, description="The values of `{model}`, each with its chat template.")
    sets: Annotated[tuple[BuildSet, ...], Field(strict=False)] = Field(
        (), description="Datasets to make; left out: one, by the recipe's own name and template."
    )


class Lora(Section):
    rank: Count = Field(16, description="Rank of the update matrices.")
    alpha: Count = Field(16, description="Scale of the update: alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout before the update.")
    targets: Names = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="Modules that get an update, by the end of their name, or `all-linear`.",
    )
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(rank) instead.")
    use_dora: bool = Field(False, description="Learn magnitude and direction apart (DoRA).")
    init: Literal["default", "gaussian", "pissa", "loftq"] = Field(
        "default", description="How the update begins: zero (default, gaussian) or from the weights' own decomposition."
    )


class Train(Section):
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="Passes over the training rows.")
    max_steps: Count | None = Field(None, description="Steps instead of epochs.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(2e-4, description="Peak learning rate.")
    batch: Count = Field(8, description="Rows (packs, when packing) a step: micro_batch x accumulation x GPUs.")
    micro_batch: Literal["auto"] | Count = Field("auto", description="Rows (packs, when packing) in memory at once.")
    packing: bool = Field(False, description="Put several rows into one of max_tokens; attention never crosses rows.")
    optim: str = Field("adamw_8bit", description="Optimiser, by transformers' names.")
    scheduler: str = Field("linear", description="Learning-rate schedule, by transformers' names.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(5, description="Steps until the peak learning rate.")
    warmup_fraction: Fraction | None = Field(None, description="Share of all steps instead of warmup_steps.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="Weight decay of the optimiser.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradient norm above which it is clipped.")
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Noise added to the embeddings while training (NEFTune)."
    )
    checkpointing: Literal["auto"] | bool = Field("auto", description="Recompute activations to save memory.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="Number format of the computation.")
    loss_on: Literal["answers", "all"] = Field(
        "answers", description="What is learned: answers alone, or whole texts, to reproduce old runs."
    )
    logging_steps: Count = Field(1, description="Steps between two rows of loss.csv.")
    eval_steps: Literal["epoch"] | Count = Field(50, description="Steps between two looks at the dev rows, or `epoch`.")
    save_steps: Literal["epoch"] | Count = Field(50, description="Steps between two checkpoints, or `epoch`.")
    keep_best: Literal["bits_per_byte", "loss", "last"] = Field(
        "bits_per_byte", description="Which checkpoint is kept: the best on the dev rows, or the last."
    )
    early_stopping: Count | None = Field(None, description="Looks without improvement after which training stops.")
    sample_prompts: Names = Field((), description="Questions answered at each checkpoint, into samples.jsonl.")
    report_to: Annotated[tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...], Field(strict=False)] = Field(
        (), description="Trackers that receive losses, recipe and data report."
    )


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
    build: Build = Field(default=Build(), description="Datasets that `medrecipes build` makes of it.")
    lora: Lora = Field(default=Lora(), description="The adapter.")
    train: Train = Field(default=Train(), description="How it is trained.")
    eval: Eval = Field(default=Eval(), description="How it is judged.")

    @cached_property
    def key(self) -> str:
        """Hash of the recipe, the template's text and the local data's content; paths and names leave it alone."""
        value = self.model_dump(
            mode="json", exclude={"name": True, "build": True, "data": {"path": True, "mix": {"__all__": {"path"}}}}
        )
        value["template"]["text"] = template_path(self.template.name).read_text(encoding="utf-8")
        paths = [self.data.path, *(entry.path for entry in self.data.mix)]
        value["data"]["content"] = [digest_path(path) if path else None for path in paths]
        return digest(value)

    def to_toml(self) -> str:
        """The recipe as TOML, every value written out."""
        unsaid = {"train": {"epochs"}} if self.train.max_steps else None
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude=unsaid))


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
            table = _parse_override(override)
            # steps and epochs exclude each other; what is said last, by hand, holds
            for said, unsaid in (("max_steps", "epochs"), ("epochs", "max_steps")):
                if said in table.get("train", ()) and isinstance(values.get("train"), dict):
                    values["train"].pop(unsaid, None)
                    origins.pop(f"train.{unsaid}", None)
            _merge(values, table, Path("--set"), {}, origins)
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
            value = _beside(value, file)
        if key == "data.mix" and isinstance(value, list):
            value = [
                {**entry, "path": _beside(entry["path"], file)}
                if isinstance(entry, dict) and isinstance(entry.get("path"), str)
                else entry
                for entry in value
            ]
        into[name] = value


def _beside(path: str, file: Path) -> str:
    """A path as the file that states it means it; `--set` means the current folder."""
    given = Path(path).expanduser()
    return str((given if str(file) == "--set" else file.parent / given).resolve())


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
        for part in (info.annotation, *get_args(info.annotation)[:1]):  # itself, or what it is a list of
            if isinstance(part, type) and issubclass(part, Section):
                yield from fields(part, f"{prefix}{name}.")


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
    near = key if key in origins else next((k for k in origins if k.startswith(f"{key}.")), key)
    while near and near not in origins:  # an entry of a list was set where the list was
        near = near.rpartition(".")[0]
    origin = origins.get(near, Origin(str(path)))
    value = error.get("input")
    name = ".".join(part for part in parts if not part.isdigit())
    if error["type"] == "extra_forbidden":
        return f"{origin}: {key} is unknown{did_you_mean(name, [k for k in known if k.count('.') == name.count('.')])}"
    if error["type"] == "missing":
        return f"{origin}: {key} is missing; set it"
    words = [w for w in _words(known[name].annotation) if isinstance(w, str)] if name in known else []
    if words and isinstance(value, str):
        return f"{origin}: {key} = {value!r} is not one of {', '.join(words)}{_suggest(value, words)}"
    reason = re.sub("a valid ([aeiou])", r"an \1", error["msg"].replace("Input should be", "must be")).replace(
        "a valid ", "a "
    )
    if words or "literal" in error["type"]:
        reason = f"must be one of {', '.join(map(str, _words(known[name].annotation)))}"
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
        near = key
        while near and near not in origins:  # an entry of a list was set where the list was
            near = near.rpartition(".")[0]
        return f"{origins.get(near, Origin(str(path)))}: {key}"

    problems = []
    names = source_names()
    for place, entry in _entries(recipe.data):
        if entry.source not in names:
            hint = did_you_mean(entry.source, names)
            problems.append(f"{at(f'{place}.source')} = {entry.source!r} is unknown{hint}")
        if entry.path and not entry.path.exists():
            problems.append(f"{at(f'{place}.path')} = {str(entry.path)!r} does not exist; correct it, or leave it out")
        if entry.source == "jsonl" and not entry.path:
            problems.append(f"{at(f'{place}.path')} is missing; source jsonl reads a file of your own, name it")
        if entry.source != "jsonl" and entry.columns != Columns():
            problems.append(
                f"{at(f'{place}.columns')} is read by source jsonl only; leave it out, or change the source"
            )
    if recipe.data.mix:
        for key in ("source", "columns", "revision"):
            if getattr(recipe.data, key) != Data.model_fields[key].default:
                problems.append(f"{at(f'data.{key}')} contradicts {at('data.mix')}; set it within the mixture")
        if len({entry.weight is None for entry in recipe.data.mix}) > 1:
            problems.append(f"{at('data.mix')}: some entries have a weight and some have none; give all one, or none")
    templates = template_names()
    if recipe.template.name not in templates:
        hint = did_you_mean(recipe.template.name, templates)
        problems.append(f"{at('template.name')} = {recipe.template.name!r} is unknown{hint}")
    for model, template in recipe.build.models.items():
        if template not in templates:
            hint = did_you_mean(template, templates)
            problems.append(f"{at(f'build.models.{model}')} = {template!r} is unknown{hint}")
    for position, built in enumerate(recipe.build.sets):
        known = {entry.source for entry in recipe.data.entries}
        for name in sorted(set(built.sources) - known):
            key = at(f"build.sets.{position}.sources")
            problems.append(f"{key}: {name!r} is none of the recipe's own data{did_you_mean(name, known)}")
        if ("{model}" in built.name) != bool(recipe.build.models):
            problems.append(f"{at(f'build.sets.{position}.name')}: needs {{model}} if and only if build.models is set")
    split = recipe.data.split
    if abs(split.train + split.dev + split.test - 1) > 1e-6 or split.train == 0:
        problems.append(f"{at('data.split')}: train, dev and test must sum to 1, train above 0")
    if "train.epochs" in origins and "train.max_steps" in origins:
        problems.append(f"{at('train.max_steps')} contradicts {at('train.epochs')}; set one of them")
    train = recipe.train
    if "train.warmup_steps" in origins and "train.warmup_fraction" in origins:
        problems.append(f"{at('train.warmup_fraction')} contradicts {at('train.warmup_steps')}; set one of them")
    needs_dev = [
        key for key in ("keep_best", "early_stopping") if f"train.{key}" in origins and train.keep_best != "last"
    ]
    if split.dev == 0 and needs_dev:
        problems.append(
            f"{at(f'train.{needs_dev[0]}')} needs dev rows; raise data.split.dev, or set train.keep_best = 'last'"
        )
    if train.keep_best != "last" and split.dev > 0:
        steps = train.eval_steps, train.save_steps
        whole = steps[0] == steps[1] or (
            isinstance(steps[0], int) and isinstance(steps[1], int) and steps[1] % steps[0] == 0
        )
        if not whole:
            problems.append(
                f"{at('train.save_steps')} = {steps[1]!r} must be a multiple of train.eval_steps = {steps[0]!r}, so that the "
                "best checkpoint was looked at; change one, or set train.keep_best = 'last'"
            )
    if recipe.model.cpu_offload and recipe.model.bits != 8:
        problems.append(f"{at('model.cpu_offload')} works with model.bits = 8 only; set that, or leave it out")
    if recipe.model.skip_modules and recipe.model.bits == 16:
        problems.append(f"{at('model.skip_modules')} means nothing with model.bits = 16; leave it out")
    if recipe.train.micro_batch != "auto" and recipe.train.batch % recipe.train.micro_batch:
        problems.append(
            f"{at('train.micro_batch')} = {recipe.train.micro_batch} does not divide train.batch = {recipe.train.batch}; "
            "choose a divisor"
        )
    if recipe.data.mix and recipe.data.path and not recipe.data.path.is_dir():
        problems.append(f"{at('data.path')} = {str(recipe.data.path)!r} is no folder; with data.mix it must be one")
    return problems


def _entries(data: Data) -> list[tuple[str, Mix]]:
    """The datasets of a recipe, each with the key that names it."""
    if not data.mix:
        return [("data", data.entries[0])]
    return [(f"data.mix.{position}", entry) for position, entry in enumerate(data.mix)]
