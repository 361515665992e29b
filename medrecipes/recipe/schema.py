"""The recipe: a frozen schema whose every key says what it is; `loading` reads one, `rules` says what goes together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo

from medrecipes.core.files import digest, digest_path
from medrecipes.core.resources import PACKAGE, shipped
from medrecipes.recipe.benchmark_names import benchmark_entry
from medrecipes.recipe.local_bases import content, is_local

TEMPLATES = shipped("templates")


@dataclass(frozen=True)
class Why:
    """The reason of a bound, as a message about it says."""

    reason: str


Names = Annotated[tuple[str, ...], Field(strict=False, max_length=256)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# what every number of a recipe is bounded by: a slip of the keyboard is told here, not by a machine that hangs
Rows = Annotated[int, Field(ge=1, le=1_000_000_000), Why("no dataset has more rows")]
Tokens = Annotated[int, Field(ge=1, le=1_048_576), Why("no base reads or writes more tokens")]
Batch = Annotated[int, Field(ge=1, le=65_536), Why("a step of so many rows would not end within a day")]
Steps = Annotated[int, Field(ge=1, le=10_000_000), Why("that is four months at a step a second")]
MOST_RUNS = 1000  # of one sweep
Format = Literal["adapter", "merged-16bit", "merged-4bit", "gguf"]


class Section(BaseModel):
    """The common rules of all tables: unknown keys forbidden, no conversion of types, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Model(Section):
    base: str = Field(
        "tiny:mistral",
        description="Base model: a Hub id, `tiny:FAMILY` built on the spot, or a folder or GGUF file, from the recipe's own folder.",
    )
    revision: str = Field(
        "main", description="Branch, tag or commit of the base; the commit it resolved to is recorded."
    )
    bits: Literal[4, 8, 16] = Field(
        4, description="Bits a weight of the base: 4 (NF4), 8 (the weights alone, by row) or 16."
    )
    engine: Literal["auto", "unsloth", "trl"] = Field(
        "auto", description="What trains: Unsloth, or TRL with fused layers."
    )
    quant_type: Literal["nf4", "fp4"] = Field("nf4", description="Number format of 4-bit weights.")
    double_quant: bool = Field(True, description="Quantise the 4-bit scales too; saves about 0.4 bits a weight.")
    shard: bool | Literal["auto"] = Field(
        "auto",
        description="Share the base's layers among the GPUs of a run: where one cannot hold them, always or never.",
    )
    skip_modules: Names = Field(
        (), description="Modules left in 16 bits when the base is quantised; lm_head always is."
    )
    cpu_offload: bool = Field(False, description="Keep what the GPU cannot hold in 8 bits on the CPU, in fp32.")
    trust_remote_code: bool = Field(
        False,
        description="Whether the base needs Python code of its own; it runs only where the command line names the base: "
        "`--trust-remote-code OWNER/NAME@COMMIT`.",
    )
    attention: Literal["causal", "bidirectional"] = Field(
        "causal", description="What a word sees when it is tagged: those before it, or all of the row."
    )
    _asked_at: str = PrivateAttr("the recipe")

    def __eq__(self, other: object) -> bool:
        """By what it says; where that stands makes no difference."""
        return isinstance(other, Model) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def asked_at(self) -> str:
        """The file and line that ask for the base's own code, for the message that refuses it."""
        return self._asked_at


class Template(Section):
    name: str | None = Field(
        None, description="A chat template of templates/, without `.jinja`; left out: the base's own."
    )
    foreign: bool = Field(
        False, description="Whether `name` is meant although the base has another chat template, or none."
    )
    thinking: bool = Field(
        False, description="What the base's own template is told as `enable_thinking`, where it knows such a switch."
    )
    system: str | None = Field(None, description="System message put before every conversation that has none.")


class SplitRatios(Section):
    train: Fraction = Field(0.8, description="Share of rows to train on.")
    dev: Fraction = Field(0.1, description="Share of rows to choose checkpoints by.")
    test: Fraction = Field(0.1, description="Share of rows for the final figures.")


class Columns(Section):
    messages: str | None = Field(None, description="Column with the turns, each a role and a content.")
    question: str | None = Field(None, description="Column with the question.")
    answer: str | None = Field(None, description="Column with the answer.")
    reasoning: str | None = Field(
        None, description="Column with the reasoning before the (last) answer, such as `Complex_CoT`."
    )
    context: str | None = Field(
        None, description="Column with a text that the question is about, put behind it, such as Alpaca's `input`."
    )
    system: str | None = Field(None, description="Column with a system message.")
    document: str | None = Field(None, description="Column that names what the row was taken from; never split.")
    type: str | None = Field(None, description="Column with the kind of question, to sample evenly.")
    split: str | None = Field(None, description="Column whose value `test` keeps a row in the test set.")


REPO = "A dataset of the Hub, OWNER/NAME, whose tables source jsonl reads in place of a file of one's own."
LICENCE = (
    "Licence of what source jsonl reads, by its short name, such as `CC-BY-4.0`; a release needs one, or a waiver."
)


class Mix(Section):
    source: str = Field(description="Which dataset: a file of medrecipes/data/sources/.")
    path: Path | None = Field(None, strict=False, description="File or folder, from the recipe's own folder.")
    repo: str | None = Field(None, description=REPO)
    licence: str | None = Field(None, description=LICENCE)
    revision: str = Field("main", description="Branch, tag or commit of the dataset on the Hub.")
    columns: Columns = Field(default=Columns(), description="Names of the columns, for source jsonl.")
    weight: Annotated[float, Field(gt=0, le=1_000_000), Why("shares are relative to one another")] | None = Field(
        None, description="Share of the mixture, relative to others."
    )
    limit: Rows | None = Field(None, description="Use at most this many of its rows, sampled evenly.")


class Data(Section):
    source: str = Field("medquad", description="Which dataset: a file of medrecipes/data/sources/.")
    path: Path | None = Field(
        None,
        strict=False,
        description="File or folder, from the recipe's own folder; left out: the source's Hub repository. "
        "With data.mix: the folder that holds a file or folder by each source's name.",
    )
    repo: str | None = Field(None, description=REPO)
    licence: str | None = Field(None, description=LICENCE)
    revision: str = Field(
        "main", description="Branch, tag or commit of the dataset on the Hub; the commit it resolved to is recorded."
    )
    columns: Columns = Field(default=Columns(), description="Names of the columns, for source jsonl.")
    mix: Annotated[tuple[Mix, ...], Field(strict=False, max_length=64)] = Field(
        (), description="Several datasets instead of one."
    )
    mix_by: Literal["split", "rows", "tokens"] = Field(
        "split",
        description="What the weights of data.mix are shares of. `split`: of all rows, of which some are left out before the split. "
        "`rows`, `tokens`: of an epoch of training, for which training rows are left out or repeated; dev and test stay as they are.",
    )
    max_repeats: Annotated[int, Field(ge=1, le=100), Why("rows are known by heart long before")] = Field(
        4, description="With mix_by = `rows` or `tokens`: how often a row comes in an epoch at most."
    )
    split: SplitRatios = Field(default=SplitRatios(), description="Shares of train, dev and test; they sum to 1.")
    near_duplicate: Fraction = Field(
        0.0, description="Jaccard similarity of word triples from which rows count as the same; 0: only equal ones do."
    )
    answers: Literal["one", "all"] = Field("all", description="Answers kept for a question that has several.")
    exclude: Literal["auto"] | Names = Field(
        "auto",
        description="Benchmarks whose test questions no row may hold: `medqa`, `medmcqa`, `pubmedqa`, `mmlu_medical`, `headqa`, "
        "each from the Hub or, as `medqa=PATH`, from a local copy; or a PATH of questions (jsonl, csv, txt). `auto`: those "
        "that the source was made of; see docs/splits.md.",
    )
    limit: Rows | None = Field(
        None, description="Use at most this many rows, sampled evenly over collections and question types."
    )
    max_tokens: Tokens = Field(2048, description="Longest conversation, in tokens.")
    on_overflow: Literal["drop", "shorten_context", "shorten_answer", "error"] = Field(
        "drop", description="What happens to a conversation that is longer than max_tokens."
    )

    reasoning: Literal["keep", "drop", "as_text"] = Field(
        "keep",
        description="What becomes of an answer's reasoning: written as the base's family writes it, left out, or, for a base that "
        "writes none, text between `<think>` marks.",
    )

    @property
    def entries(self) -> tuple[Mix, ...]:
        """The datasets to read: the mixture, or the one that the section itself names."""
        if self.mix:
            return self.mix
        own = Mix(
            source=self.source, path=self.path, repo=self.repo, licence=self.licence, revision=self.revision,
            columns=self.columns,
        )  # fmt: skip
        return (own,)

    @property
    def excluded(self) -> tuple[tuple[str, Path | None], ...]:
        """The benchmarks and paths that `exclude` names; none with `auto`, which the sources decide."""
        return () if self.exclude == "auto" else tuple(map(benchmark_entry, self.exclude))


class BuildSet(Section):
    name: str = Field(description="Name of the dataset; `{model}` stands for each of build.models.")
    sources: Names = Field((), description="Which of data.mix it is made of, by source; left out: all.")
    limit: Rows | None = Field(None, description="Use at most this many rows, as data.limit does.")


class Build(Section):
    models: Annotated[dict[str, str], Field(max_length=64)] = Field(
        {}, description="The values of `{model}`, each with its chat template."
    )
    sets: Annotated[tuple[BuildSet, ...], Field(strict=False, max_length=256)] = Field(
        (), description="Datasets to make; left out: one, by the recipe's own name and template."
    )


class Lora(Section):
    rank: Annotated[int, Field(ge=1, le=8192), Why("no layer is wider")] = Field(
        16, description="Rank of the update matrices."
    )
    alpha: Annotated[int, Field(ge=1, le=65_504), Why("fp16 holds no larger number")] = Field(
        16, description="Scale of the update: alpha / rank."
    )
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
    epochs: Annotated[float, Field(gt=0, le=10_000), Why("rows are known by heart long before")] = Field(
        1.0, description="Passes over the training rows."
    )
    max_steps: Steps | None = Field(None, description="Steps instead of epochs.")
    learning_rate: Annotated[float, Field(gt=0, le=1_000_000), Why("no training converges with a larger one")] = Field(
        2e-4, description="Peak learning rate."
    )
    batch: Batch = Field(8, description="Rows (packs, when packing) a step: micro_batch x accumulation x GPUs.")
    micro_batch: Literal["auto"] | Batch = Field("auto", description="Rows (packs, when packing) in memory at once.")
    packing: bool = Field(False, description="Put several rows into one of max_tokens; attention never crosses rows.")
    order: Literal["shuffled", "short_first"] = Field(
        "shuffled",
        description="Order of the rows in an epoch: shuffled, or a curriculum by length, the shortest tenth of the rows first and each "
        "tenth shuffled; packs hold rows of one tenth.",
    )
    padding_free: bool = Field(True, description="Rows of a micro-batch end to end, not padded, where the engine can.")
    optim: str = Field("adamw_8bit", description="Optimiser, by transformers' names.")
    scheduler: str = Field("linear", description="Learning-rate schedule, by transformers' names.")
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000), Why("no training is longer")] = Field(
        5, description="Steps until the peak learning rate."
    )
    warmup_fraction: (
        Annotated[float, Field(ge=0, lt=1), Why("the learning rate would reach its peak when all is over")] | None
    ) = Field(None, description="Share of all steps instead of warmup_steps.")
    weight_decay: Annotated[float, Field(ge=0, le=100), Why("nothing is left of the weights then")] = Field(
        0.01, description="Weight decay of the optimiser."
    )
    max_grad_norm: Annotated[float, Field(gt=0, le=1_000_000_000), Why("that clips nothing")] = Field(
        1.0, description="Gradient norm above which it is clipped."
    )
    neftune_noise_alpha: (
        Annotated[float, Field(gt=0, le=1000), Why("nothing is left of the embeddings then")] | None
    ) = Field(None, description="Noise added to the embeddings while training (NEFTune).")
    checkpointing: Literal["auto"] | bool | Annotated[int, Field(ge=1, le=1000), Why("no base has more layers")] = (
        Field("auto", description="Layers that compute their activations again to save memory: all, none, or so many.")
    )
    memory_gb: Annotated[float, Field(gt=0, le=10_000), Why("no GPU has more")] | None = Field(
        None, description="Use at most so much of the GPU; left out: all that is free."
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="Number format of the computation.")
    compute: Literal["bf16", "fp8"] = Field(
        "bf16",
        description="What the base's frozen matrices are multiplied in: that number format, or 8-bit floats (`fp8`), on GPUs that "
        "have them (RTX 40, L4, H100 and newer). LoRA, attention and the head stay as they are.",
    )
    loss_on: Literal["answers", "all"] = Field(
        "answers", description="What is learned: answers alone, or whole texts, to reproduce old runs."
    )
    supervise: Literal["answer", "reasoning_and_answer"] = Field(
        "reasoning_and_answer",
        description="What of an answer is learned where it has reasoning; the stop token always.",
    )
    turns: Literal["all", "last"] = Field(
        "all", description="Which answers of a dialogue are learned; never those of weight 0."
    )
    logging_steps: Steps = Field(1, description="Steps between two rows of loss.csv.")
    eval_rows: Literal["all"] | Rows = Field(
        256,
        description="Dev rows that are evaluated while it trains, for the curve and the choice of a checkpoint: so many, the same "
        "ones for a seed and each source by its share, or `all`. 256 are quick; the final dev figures are of all dev rows.",
    )
    eval_steps: Literal["auto", "epoch"] | Steps = Field(
        "auto",
        description="Steps between two evaluations of the dev rows, or `epoch`; `auto`: so many that evaluating and saving take "
        "at most a tenth of training, with 4 to 10 evaluations a run.",
    )
    save_steps: Literal["auto", "epoch"] | Steps = Field(
        "auto", description="Steps between two checkpoints, or `epoch`; `auto`: one with every evaluation."
    )
    keep_best: Literal["bits_per_byte", "f1", "loss", "last"] = Field(
        "bits_per_byte",
        description="Which checkpoint is kept: the best on the dev rows (`f1`: of tagged spans), or the last.",
    )
    early_stopping: Steps | None = Field(
        None, description="Evaluations without improvement after which training stops."
    )
    sample_prompts: Names = Field((), description="Questions answered at each checkpoint, into samples.jsonl.")
    report_to: Annotated[tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...], Field(strict=False)] = Field(
        (), description="Trackers that receive losses, recipe, data report, and what the test found."
    )


class Tag(Section):
    unit: Literal["sentence", "document"] = Field(
        "sentence", description="What is a row where the data knows documents: a sentence, or the whole document."
    )
    overlap: Annotated[int, Field(ge=0, le=1_048_576), Why("no base reads more tokens")] = Field(
        64, description="Tokens that neighbouring windows share where a row is longer than data.max_tokens."
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="What is minimised over the words.")
    focal_gamma: Annotated[float, Field(ge=0, le=100), Why("no word counts then")] = Field(
        2.0, description="How much the focal loss turns from words that are right already."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: a tag weighs the inverse of the root of its frequency."
    )


class Eval(Section):
    rows: Rows = Field(200, description="Held-out rows that are answered and scored.")
    max_new_tokens: Tokens = Field(256, description="Longest answer, in tokens.")
    max_reasoning_tokens: Annotated[int, Field(ge=0, le=1_048_576), Why("no base writes more tokens")] = Field(
        0,
        description="Longest reasoning before an answer, in tokens, besides max_new_tokens; longer reasoning leaves no answer. "
        "0: reasoning and answer share max_new_tokens.",
    )
    temperature: Annotated[float, Field(ge=0, le=100), Why("tokens are drawn evenly long before")] = Field(
        0.0, description="0: the likeliest token every time; above: tokens are drawn, by the recipe's seed."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of the probability that tokens are drawn from, the likeliest first."
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100), Why("beyond, nothing but it decides")] = Field(
        1.0, description="Above 1, tokens that occurred are less likely; lists that copy from the text suffer by it."
    )
    batch: Literal["auto"] | Batch = Field(
        "auto", description="Questions answered at once; left out: as many as memory allows."
    )
    backend: Literal["auto", "engine", "vllm"] = Field(
        "auto",
        description="What answers: our own engine (`auto` too), or vLLM, where it is installed; see docs/export.md.",
    )
    draws: Annotated[int, Field(ge=1, le=10_000), Why("more make no interval sharper")] = Field(
        1000, description="Bootstrap draws behind every interval."
    )
    cases: Path | None = Field(
        None, strict=False, description="TOML file of hand-written cases, answered after training; see data/cases."
    )
    filter: Literal["none", "in_text"] = Field(
        "none", description="`in_text`: a second score of lists, without items that the text does not contain."
    )

    @property
    def longest(self) -> int:
        """The most tokens that are drawn for an answer, its reasoning included."""
        return self.max_new_tokens + self.max_reasoning_tokens

    def at_once(self, most: int) -> int:
        """Questions answered at once, where the recipe leaves it to us so many."""
        return most if self.batch == "auto" else self.batch


class Publish(Section):
    repo: str = Field(
        "{user}/{base}-medical",
        description="Repository of a model; {user}, {base}, {recipe} and {timestamp} (of the run's end) are filled in, "
        "and every format but the adapter adds its own name.",
    )
    dataset_repo: str = Field(
        "{user}/{name}", description="Repository of a dataset; {user} and {name}, the dataset's own, are filled in."
    )
    private: bool = Field(True, description="Whether new repositories are private; one that is public is refused then.")
    push: bool = Field(False, description="Release the model at the end of its run.")
    formats: Annotated[tuple[Format, ...], Field(strict=False)] = Field(
        ("adapter",), description="What is released: the adapter, or what `medrecipes export` makes of it."
    )
    revision: str = Field("main", description="Branch of the repository that the release goes to.")
    create_pr: bool = Field(False, description="Open a pull request instead of committing to the branch.")
    tag: str | None = Field(None, description="Tag that the release gets; a tag never moves.")


class Sweep(Section):
    """Several runs of one recipe: besides the keys below, any key of the recipe with the values to try."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[Any]] = Field(init=False)

    samples: Annotated[int, Field(ge=1, le=MOST_RUNS), Why("each is a training")] | None = Field(
        None, description="Combinations tried, drawn at random by the recipe's seed; left out: all of them."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_dotted_key(cls, values: Any) -> Any:
        """`lora.rank = [8]` says the same as `"lora.rank" = [8]`."""
        return dict(leaves(values)) if isinstance(values, dict) else values

    @property
    def grid(self) -> dict[str, list[Any]]:
        """Every swept key with its values."""
        return self.__pydantic_extra__ or {}


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a table of tables by their dotted keys, e.g. `lora.rank`."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# to be raised when a default changes: keys hash what differs from the defaults, and mean other settings from then on
DEFAULTS = 2
# what a task has no use for: neither written out, nor part of the run's key, and a mistake to set
UNREAD = {
    "chat": ("tag", "model.attention"),
    "tag": (
        "model.shard", "template", "build", "data.columns", "data.mix", "data.mix_by", "data.max_repeats", "data.near_duplicate", "data.answers", "data.exclude", "data.on_overflow",
        "data.reasoning", "train.supervise", "train.turns", "eval.max_reasoning_tokens",
        "train.packing", "train.order", "train.padding_free", "train.compute", "train.loss_on", "train.neftune_noise_alpha", "train.sample_prompts",
        "eval.rows", "eval.max_new_tokens", "eval.temperature", "eval.top_p", "eval.repetition_penalty", "eval.cases",
        "eval.filter",
    ),
}  # fmt: skip


def _without(values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The values without some dotted keys."""
    left = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    for section, _, name in (key.partition(".") for key in keys):
        left.get(section, {}).pop(name, None) if name else left.pop(section, None)
    return left


class Recipe(Section):
    """One experiment; `Recipe.key` is a hash of all that changes its result."""

    name: str = Field(
        "recipe",
        description="Name of the run folder: letters (a to z), digits, `.`, `_` and `-`; left out: the file's name.",
    )
    task: Literal["chat", "tag"] = Field(
        "chat", description="What is learned: answers in a conversation, or a tag for every word."
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), Why("NumPy's seeds have 32 bits")] = Field(
        42, description="Seed of the split, the weights and the data order."
    )
    model: Model = Field(default=Model(), description="The base model.")
    template: Template = Field(default=Template(), description="How conversations become text.")
    data: Data = Field(default=Data(), description="What is learned from.")
    build: Build = Field(default=Build(), description="Datasets that `medrecipes build` makes of it.")
    lora: Lora = Field(default=Lora(), description="The adapter.")
    train: Train = Field(default=Train(), description="How it is trained.")
    tag: Tag = Field(default=Tag(), description="How words are tagged, with task = `tag`.")
    eval: Eval = Field(default=Eval(), description="How it is evaluated.")
    publish: Publish = Field(default=Publish(), description="What is released to the Hub, and where.")
    sweep: Sweep = Field(default=Sweep(), description="What `medrecipes sweep` tries.")

    @cached_property
    def key(self) -> str:
        """Hash of what identifies the recipe."""
        return digest(self.identity)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What changes the result: settings that differ from the defaults, the template's text, and what local data and a local base hold.

        Names and paths leave it alone, and so does a key that the schema gains.
        """
        without: dict[str, Any] = dict.fromkeys(("name", "build", "publish", "sweep"), True)
        without |= {"model": {"shard": True}, "data": {"path": True, "mix": {"__all__": {"path"}}}, "eval": {"cases"}}
        local = is_local(self.model.base)
        without["model"] |= {"base": True} if local else {}
        settings = _without(self.model_dump(mode="json", exclude=without, exclude_defaults=True), UNREAD[self.task])
        look = None if self.task == "tag" else self.template.name
        text = template_path(look).read_text(encoding="utf-8") if look else ""
        paths = [self.data.path, *(entry.path for entry in self.data.mix), self.eval.cases]
        if "exclude" in settings.get("data", {}):
            settings["data"]["exclude"] = [name or "a file" for name, _ in self.data.excluded]
            paths += [path for _, path in self.data.excluded if path]
        return {
            "defaults": DEFAULTS,
            "settings": {name: value for name, value in settings.items() if value != {}},
            "template": digest(text),
            "content": [digest_path(path) if path else None for path in paths],
            **({"base": content(self.model.base)} if local else {}),
        }

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some values changed and a key of its own."""
        copy = super().model_copy(update=update, deep=deep)
        for worked_out in ("identity", "key"):  # which pydantic copies with all else
            copy.__dict__.pop(worked_out, None)
        return copy

    def shared(self) -> Recipe:
        """The recipe as others may read it: without paths of this machine, and as one run or one dataset."""
        data = self.data.model_copy(
            update={
                "path": None,
                "mix": tuple(entry.model_copy(update={"path": None}) for entry in self.data.mix),
                "exclude": tuple(name or str(path and path.name) for name, path in self.data.excluded),
            }
            | ({"exclude": "auto"} if self.data.exclude == "auto" else {})
        )
        named = Path(self.model.base).name if is_local(self.model.base) else self.model.base
        model = self.model.model_copy(update={"base": named})
        changes = {"data": data, "model": model, "eval": self.eval.model_copy(update={"cases": None}), "build": Build()}
        return self.model_copy(update=changes)

    def to_toml(self) -> str:
        """The recipe as TOML, every value written out but those that another takes the place of."""
        value = self.model_dump(mode="json", exclude_none=True, exclude={"train": self.unsaid})
        return tomli_w.dumps(_without(value, UNREAD[self.task]))

    @property
    def unsaid(self) -> set[str]:
        """The keys of `[train]` that mean nothing, because another one that excludes them is set."""
        train = self.train
        steps = {"epochs"} if train.max_steps else set()
        # a default that is longer than the whole training contradicts nobody; written out, it would
        idle = train.warmup_fraction is not None or (train.max_steps or math.inf) <= train.warmup_steps
        return steps | ({"warmup_steps"} if idle else set())


def template_path(name: str) -> Path:
    """The file of a chat template."""
    return TEMPLATES / f"{name}.jinja"


def template_names() -> list[str]:
    """All chat templates that ship."""
    return sorted(p.stem for p in TEMPLATES.glob("*.jinja"))


def source_names() -> list[str]:
    """All datasets that have a file in data/sources/; found by name, so that no library is loaded for it."""
    return sorted(p.stem for p in (PACKAGE / "data/sources").glob("*.py") if not p.stem.startswith("_"))


def fields(section: type[Section] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the schema with its field, sections included."""
    for name, info in section.model_fields.items():
        yield f"{prefix}{name}", info
        for part in (info.annotation, *get_args(info.annotation)[:1]):  # itself, or what it is a list of
            if isinstance(part, type) and issubclass(part, Section):
                yield from fields(part, f"{prefix}{name}.")
