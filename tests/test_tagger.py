"""The tagging engine on a CPU: who sees whom, what is quantised, what is learned, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError
from medrecipes.data.records import Tagged
from medrecipes.engines import Choice
from medrecipes.engines.bases import MODULES, TAGGING, Base, contradictions, tiny_facts
from medrecipes.engines.choices import Setting
from medrecipes.engines.kernels.projections import decode_weight
from medrecipes.engines.trainer.tag_head import Head
from medrecipes.engines.trainer.tags import Tagger
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import RunDir, read_losses
from tests import families
from tests.conftest import ROOT

SHAPE = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "mistral": lambda: transformers.MistralConfig(**SHAPE, sliding_window=None),
    "mistral with a sliding window": lambda: transformers.MistralConfig(**SHAPE, sliding_window=3),
    "llama": lambda: transformers.LlamaConfig(**SHAPE),
    "gemma": lambda: transformers.GemmaConfig(**SHAPE),
}
LABELS = ("O", "B-Drug", "I-Drug")
torch.set_num_threads(1)  # products this small only wait for more of them
WORDS = ("asthma", "is", "treated", "with", "an", "inhaler", "of", "salbutamol")


def recipe(*overrides: str) -> Recipe:
    return load(ROOT / "recipes" / "tiny_bio_ner.toml", overrides).recipe


def base_of(name: str, folder: Path) -> Base:
    """A base with random weights, and the small tokenizer of Gemma's kind."""
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32).save_pretrained(folder)
    for file in families.folder("gemma").glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return Base(str(folder), folder)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    return {name: base_of(name, tmp_path_factory.mktemp("base")) for name in CONFIGS}


# how far figures may lie apart: a GPU computes in bf16, and the first steps of Adam make much of the rounding of a CPU in fp32 (2e-4
# between two orders of the same sums where it has AVX2 alone)
NEAR = 5e-4 if not torch.cuda.is_available() else 5e-3


def row(words: tuple[str, ...], id: str = "a", tags: tuple[str, ...] = ()) -> Tagged:
    return Tagged(id, id, words, tags or ("O",) * len(words))


def said(engine: Tagger, *rows: Tagged) -> list[list[list[float]]]:
    return list(engine.predict(engine.windows(rows)))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("bits", [4, 16])
def test_a_later_word_changes_an_earlier_ones_tag_only_where_attention_looks_both_ways(
    name: str, bits: int, bases: dict[str, Base]
) -> None:
    longer = row(("Ventolin", *WORDS, "since", "she", "was", "seven"), "b")
    for attention in ("causal", "bidirectional"):
        engine = Tagger(recipe(f"model.attention={attention}", f"model.bits={bits}"), bases[name], LABELS)
        before, after = row(WORDS), row((*WORDS[:-1], "nothing"))
        # alone, where no mask is needed, and beside a longer row, where padding needs one
        for rows in ((before,), (before, longer)):
            one, other = said(engine, *rows)[0], said(engine, after, *rows[1:])[0]
            change = [max(abs(a - b) for a, b in zip(x, y, strict=True)) for x, y in zip(one, other, strict=True)]
            assert change[-1] > 1e-5
            if attention == "causal":
                assert max(change[:-1]) == 0
            else:
                # a window of three words in either of two layers: those before see it from afar no more
                assert min(change[-3:-1] if "window" in name else change[:-1]) > 0
        alone, beside = said(engine, before)[0], said(engine, before, longer)[0]
        assert torch.allclose(torch.tensor(alone), torch.tensor(beside), atol=NEAR), "padding must change nothing"


def test_the_head_is_neither_quantised_nor_halved_and_the_layers_are(bases: dict[str, Base]) -> None:
    engine = Tagger(recipe("model.bits=4"), bases["mistral"], LABELS)
    kinds = {name.rsplit(".", 1)[-1]: type(module).__name__ for name, module in engine.model.named_modules()}
    assert (kinds["q_proj"], kinds["down_proj"], kinds["score"]) == ("Linear4bit", "Linear4bit", "Head")
    assert engine.model.score.weight.dtype == torch.float32


def test_the_head_computes_in_fp32_whatever_is_around_it() -> None:
    head = Head(8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.ones(1, 8, dtype=torch.bfloat16)).dtype == torch.float32


def publish(whole: Base, folder: Path, dtype: torch.dtype) -> Base:
    """A base published in 4 bits, made of weights in this number format and told to compute in it."""
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=["lm_head"])  # fmt: skip
    quantised = transformers.AutoModelForCausalLM.from_pretrained(whole.name, quantization_config=config, dtype=dtype)
    quantised.save_pretrained(folder)
    for file in whole.folder.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return Base(str(folder), folder)


def test_a_base_published_in_bf16_computes_in_what_the_run_does(bases: dict[str, Base], tmp_path: Path) -> None:
    engine = Tagger(recipe("model.bits=4"), publish(bases["mistral"], tmp_path, torch.bfloat16), LABELS)
    assert engine.dtype == torch.float32
    layer, x = engine.model.model.layers[0].mlp.up_proj, torch.randn(5, SHAPE["hidden_size"])
    decoded = decode_weight(layer.weight, layer.weight.quant_state)
    assert decoded.dtype == torch.float32
    assert torch.allclose(layer(x), x @ decoded.t(), atol=1e-5)


def test_a_base_published_in_4_bits_keeps_its_head_out_of_them(bases: dict[str, Base], tmp_path: Path) -> None:
    whole = bases["mistral"]
    engine = Tagger(recipe("model.bits=4"), publish(whole, tmp_path, torch.float32), LABELS)
    kinds = {name.rsplit(".", 1)[-1]: type(module).__name__ for name, module in engine.model.named_modules()}
    assert (kinds["q_proj"], kinds["score"]) == ("Linear4bit", "Head")
    direct = Tagger(recipe("model.bits=4"), whole, LABELS)
    a, b = (torch.tensor(said(one, row(WORDS))[0]) for one in (engine, direct))
    assert torch.allclose(a, b, atol=NEAR)


def test_the_same_seed_begins_with_the_same_head_and_another_with_another(bases: dict[str, Base]) -> None:
    heads = [
        Tagger(recipe(f"seed={seed}"), bases["llama"], LABELS).model.score.weight.detach().clone() for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_gemma_3_is_refused_by_name(tmp_path: Path) -> None:
    config = transformers.Gemma3TextConfig(**SHAPE)
    config.architectures = ["Gemma3ForCausalLM"]
    config.save_pretrained(tmp_path)
    for file in families.folder("gemma").glob("tokenizer*.json"):
        shutil.copy(file, tmp_path)
    with pytest.raises(EngineError) as error:
        Tagger(recipe(), Base(str(tmp_path), tmp_path), LABELS)
    assert str(error.value) == (
        "model.base is a Gemma3, for which transformers has no token classification; choose a Mistral, Llama "
        "or Gemma (1 or 2)"
    )


ROWS = [
    row(("take", drug, "twice", "a", "day"), f"{n}", ("O", "B-Drug", "O", "O", "O"))
    for n, drug in enumerate(("aspirin", "metformin", "warfarin", "ibuprofen", "insulin", "digoxin", "heparin", "lithium"))
] + [row(("walk", "often", "twice", "a", "day"), f"w{n}") for n in range(4)]  # fmt: skip


def trained(
    base: Base, folder: Path, *overrides: str, dropout: float = 0.1, dev: Sequence[Tagged] = ROWS
) -> tuple[Tagger, dict[str, Any], RunDir]:
    settings = [
        "train.epochs=12",
        "train.batch=4",
        "train.learning_rate=5e-3",
        "train.warmup_steps=0",
        "lora.dropout=0.0",
    ]
    folder.mkdir()
    rundir = RunDir(folder)
    engine = Tagger(recipe(*settings, *overrides), base, LABELS)
    engine.model.dropout.p = dropout
    stats = engine.train(ROWS, dev, rundir, Console())
    return engine, stats, rundir


def test_it_learns_and_its_saved_adapter_says_the_same(bases: dict[str, Base], tmp_path: Path) -> None:
    engine, stats, rundir = trained(bases["llama"], tmp_path / "run")
    assert stats["best_metric"] == 1.0
    assert [look["step"] for look in stats["dev"]] == [9, 18, 27, 36]
    losses = [float(line["loss"]) for line in read_losses(rundir.path / "loss.csv") if line["split"] == "train"]
    assert losses[-1] < losses[0] / 5
    engine.save(rundir.adapter)
    assert json.loads((rundir.adapter / "tagging.json").read_text())["labels"] == list(LABELS)
    again = Tagger(recipe(), bases["llama"], LABELS)
    again.open_adapter(rundir.adapter)
    a, b = (torch.tensor(said(one, ROWS[0])[0]) for one in (engine, again))
    # bitsandbytes keeps the scales of 4-bit weights in another precision once a CPU has answered with them
    assert torch.allclose(a, b, atol=1e-3)


def test_the_mean_over_a_step_does_not_depend_on_the_micro_batch(bases: dict[str, Base], tmp_path: Path) -> None:
    once = ["train.max_steps=4", "train.keep_best=last", "train.eval_steps=100", "train.save_steps=100"]
    found = []
    for micro in (4, 1):
        _, _, rundir = trained(bases["llama"], tmp_path / str(micro), *once, f"train.micro_batch={micro}", dropout=0.0)
        found.append(
            [float(line["loss"]) for line in read_losses(rundir.path / "loss.csv") if line["split"] == "train"]
        )
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_windows_laid_end_to_end_are_learned_and_tagged_as_padded_ones(
    attention: str, bases: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = ["train.max_steps=6", "train.keep_best=last", "train.eval_steps=3", "train.save_steps=100", "model.bits=16"]
    found = {}
    for layout, fused in (("padded", False), ("flat", False), ("flat", True)):

        def choose(engine: Tagger, _: Any, layout: Any = layout, fused: bool = fused) -> Setting:
            # a CPU has no kernel for it and pads; the layers attend row by row there
            engine.choices |= {"layout": Choice(layout, "the test says so"), "micro_batch": Choice(4, "too")}
            return Setting(layout, fused, 4, 0, decode_once=False)

        monkeypatch.setattr(Tagger, "_choose_setting", choose)
        engine, stats, rundir = trained(
            bases["mistral"], tmp_path / f"{layout}-{fused}", *once, f"model.attention={attention}", dropout=0.0
        )
        losses = [float(line["loss"]) for line in read_losses(rundir.path / "loss.csv") if line["split"] == "train"]
        likely = [word for row in said(engine, *ROWS) for word in row]
        found[layout, fused] = (losses, [look["loss"] for look in stats["dev"]], likely)
        assert engine._keeps_apart(engine.windows(ROWS))
    padded = found.pop(("padded", False))
    for losses, dev, likely in found.values():
        assert losses == pytest.approx(padded[0], rel=NEAR)
        assert dev == pytest.approx(padded[1], rel=NEAR)
        assert torch.allclose(torch.tensor(likely), torch.tensor(padded[2]), atol=NEAR)


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        (lambda logits: logits, True),
        # far too little to see beside half precision
        (lambda logits: logits + 0.01 * logits.mean(1, keepdim=True), False),
        (lambda logits: 1.2 * logits, False),
    ],
)
def test_windows_that_see_each_other_are_padded_however_little_it_is(
    change: Any, apart: bool, bases: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, usual = Tagger(recipe("model.bits=16"), bases["mistral"], LABELS), Tagger._logits

    def logits(engine: Tagger, found: Sequence[Any], layout: Any) -> torch.Tensor:
        said = usual(engine, found, layout)
        return change(said) if layout == "flat" else said

    monkeypatch.setattr(Tagger, "_logits", logits)
    assert engine._keeps_apart(engine.windows(ROWS)) is apart
    assert engine._keeps_apart(engine.windows(ROWS[:1])) is apart  # a data set of one row


def test_what_was_seen_is_counted_whether_it_was_logged_or_not(bases: dict[str, Base], tmp_path: Path) -> None:
    short = ["train.max_steps=4", "train.keep_best=last", "train.eval_steps=100", "train.save_steps=100"]
    found = []
    for steps in (1, 3):  # of four: the last is told, or is not
        _, stats, rundir = trained(
            bases["llama"], tmp_path / str(steps), *short, f"train.logging_steps={steps}", dev=[]
        )
        rows = [line for line in read_losses(rundir.path / "loss.csv") if line["split"] == "train"]
        assert [int(line["step"]) for line in rows] == list(range(steps, 5, steps))
        found.append((stats["tokens"], stats["supervised_tokens"]))
    assert found[0] == found[1]
    assert found[1][0] > int(rows[-1]["tokens"])


def test_focal_loss_and_class_weights_change_what_is_minimised(bases: dict[str, Base]) -> None:
    logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 1, -100]])
    counts = [90, 10, 0]

    def loss(*overrides: str) -> float:
        engine = Tagger(recipe(*overrides), bases["llama"], LABELS)
        outputs = type("Outputs", (), {"logits": logits.to(engine.device)})
        return float(engine._loss(counts)(outputs, labels.to(engine.device)))

    easy, hard = 0.035976, 1.098612
    assert loss() == pytest.approx((easy + hard) / 2, abs=1e-5)
    # (1 - p) ** 2 of what is known already is next to nothing: 0.00125 of 0.036, and 0.444 of 1.099
    assert loss("tag.loss=focal") == pytest.approx((0.035334**2 * easy + (2 / 3) ** 2 * hard) / 2, abs=1e-5)
    # roots of 90 and 10 stand as 3 to 1, and a word of the data weighs 1 on average
    assert loss("tag.class_weights=balanced") == pytest.approx((easy * 5 / 6 + hard * 2.5) / 2, abs=1e-5)
    assert loss("tag.loss=focal", "tag.focal_gamma=0.0") == pytest.approx(loss(), abs=1e-6)


def test_a_check_before_any_weight_knows_which_families_can_tag() -> None:
    from transformers import CONFIG_MAPPING, AutoModelForTokenClassification

    tagging = {name for name in MODULES if CONFIG_MAPPING[name] in AutoModelForTokenClassification._model_mapping}
    assert set(TAGGING) == tagging
    assert {name for name in MODULES if name not in tagging} == {
        "mistral3",
        *(f"{kind}{half}" for kind in ("gemma3", "gemma3n", "gemma4", "llama4") for half in ("", "_text")),
    }
    tag = recipe()
    assert list(contradictions(tag, tiny_facts("tiny:gemma"))) == []
