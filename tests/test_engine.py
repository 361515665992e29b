"""The training core on a CPU, through the real Unsloth and TRL: what reaches the model, and that ways to train agree."""

from __future__ import annotations

import importlib
import json
import re
import threading
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecipes.core.errors import EngineError, SpoiledError
from medrecipes.engines import CAPPED, Decoding, choose_engine, load_libraries
from medrecipes.recipe.load import load
from medrecipes.rendering.chat_template import MASKED, Example
from medrecipes.rendering.growing_text import Growing
from medrecipes.runs.folder import RunDir, read_losses
from tests.conftest import ROOT, Train, extremes, rendered_rows
from tests.test_templates import bound


@pytest.fixture(scope="module")
def answering(libraries: None) -> Any:
    """The module, imported behind the engine's own libraries as they want it."""
    return importlib.import_module("medrecipes.engines.generation")


def adapter(engine: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in engine.model.named_parameters() if p.requires_grad}


def difference(one: Any, other: Any) -> float:
    a, b = adapter(one), adapter(other)
    return max(float((a[name] - b[name]).abs().max()) for name in a)


# how far two ways to the same step may lie apart, as a share of the step: a CPU adds up in fp32; the kernels that read
# 4-bit weights on a GPU do not keep that precision
TOLERANCE = 5e-3 if torch.cuda.is_available() else 5e-4
STEP = ("train.optim=sgd", "train.learning_rate=1.0", "train.max_grad_norm=1e9", "train.max_steps=1", "train.batch=30")


def rows_seen(seen: Sequence[dict[str, Any]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ids and labels of every row in the batches that the model saw, however they were laid out; padding must be masked."""
    found = []
    for batch in (b for b in seen if "labels" in b):
        lines = zip(batch["input_ids"], batch["labels"], strict=True)
        for number, (ids, labels) in enumerate(lines):
            if "position_ids" in batch:  # padding-free rows: a row begins wherever its positions do
                starts = [i for i, place in enumerate(batch["position_ids"][number]) if place == 0] + [len(ids)]
            else:
                starts = [0, sum(batch["attention_mask"][number])]
                assert set(labels[starts[1] :]) <= {MASKED}
            pieces = [(tuple(ids[a:b]), tuple(labels[a:b])) for a, b in pairwise(starts)]
            found += [piece for piece in pieces if set(piece[1]) != {MASKED}]
    return found


@pytest.mark.parametrize("layout", ["padded", "padding_free", "packed"])
def test_exactly_the_rendered_ids_and_labels_reach_the_model(train: Train, rows: list[Example], layout: str) -> None:
    settings = {
        "padded": ["train.padding_free=false", "train.micro_batch=10"],
        "padding_free": ["train.micro_batch=10"],
        "packed": ["train.packing=true", "train.batch=1", "train.epochs=1"],
    }[layout]
    _, _, seen = train(*STEP, *settings)
    assert sorted(rows_seen(seen)) == sorted((tuple(e.input_ids), tuple(e.labels)) for e in rows)


def test_accumulation_is_no_other_training(train: Train) -> None:
    whole, _, _ = train(*STEP, "train.micro_batch=30")
    parts, _, _ = train(*STEP, "train.micro_batch=1")
    moved = max(float(p.abs().max()) for n, p in adapter(whole).items() if "lora_B" in n)
    assert moved > 1e-2
    assert difference(whole, parts) < TOLERANCE * moved


def test_packing_is_no_other_training(train: Train, rows: list[Example]) -> None:
    from medrecipes.rendering.packing import pack

    packs = len(pack(rows, 256, packing=True))
    assert packs < 15
    unpacked, one, _ = train(*STEP)
    packed, other, _ = train(*STEP, "train.packing=true", f"train.batch={packs}")
    moved = max(float(p.abs().max()) for n, p in adapter(unpacked).items() if "lora_B" in n)
    assert difference(unpacked, packed) < TOLERANCE * moved
    losses = [float(read_losses(r.path / "loss.csv")[0]["loss"]) for r in (one, other)]
    assert abs(losses[0] - losses[1]) < TOLERANCE


def test_a_rows_loss_in_a_pack_does_not_know_its_neighbours(train: Train, rows: list[Example]) -> None:
    from medrecipes.rendering.packing import pack

    engine, _, _ = train(*STEP)
    from medrecipes.engines.trainer.collate import tensors  # behind the engine's own libraries

    engine.model.eval()
    first = rows[20]

    def logits(neighbours: Sequence[Example]) -> Any:
        [line] = pack([first, *neighbours], 1024, packing=True)
        order = line.rows.index(0)
        start = sum(line.lengths[:order])
        batch = tensors([line], engine.template.pad[1], engine.choices["layout"].value, engine.name)
        batch = {
            k: v.to(engine.device) if hasattr(v, "to") else v
            for k, v in batch.items()
            if k not in ("labels", "rows", "tokens", "supervised")
        }
        with torch.no_grad():
            return engine.model(**batch).logits[0, start : start + line.lengths[order]]

    assert torch.allclose(logits(rows[:3]), logits(rows[3:6]), atol=1e-4)
    assert torch.allclose(logits(rows[:3]), logits(rows[25:27]), atol=1e-4)


def test_trained_on_whole_texts_every_token_is_a_label(train: Train, rows: list[Example]) -> None:
    _, _, seen = train(*STEP, "train.loss_on=all", "train.micro_batch=30")
    found = rows_seen(seen)
    assert len(found) == 30
    assert all(labels[1:] == ids[1:] for ids, labels in found)


# the template, the epochs that it takes to know thirty rows by heart, and how the learning rate goes meanwhile
FAMILIES = {
    "tiny:mistral": ("mistral-v1", 50, "linear"),
    "tiny:llama2": ("llama2", 30, "constant"),
    "tiny:llama3": ("llama3", 40, "constant"),
    "tiny:gemma": ("gemma", 30, "constant"),
    "tiny:gemma2": ("gemma", 30, "constant"),
    "tiny:gemma3": ("gemma3", 50, "constant"),
}


@pytest.mark.parametrize(
    "base", [pytest.param(base, marks=[] if base == "tiny:mistral" else [pytest.mark.slow]) for base in FAMILIES]
)
def test_thirty_rows_learned_by_heart_are_said_and_stopped(base: str, train: Train) -> None:
    template, epochs, scheduler = FAMILIES[base]
    family = f"model.base={base}", f"template.name={template}"
    rows = extremes(rendered_rows(256, *family))
    engine, _, _ = train(
        *family, f"train.epochs={epochs}", f"train.scheduler={scheduler}", "train.batch=6", "train.learning_rate=5e-3",
        "lora.rank=32", "lora.alpha=64", "eval.max_new_tokens=200", "train.logging_steps=20", examples=rows,
    )  # fmt: skip
    prompts = [e.input_ids[: next(i for i, label in enumerate(e.labels) if label != MASKED)] for e in rows]
    answers = list(engine.generate(prompts))
    wanted = [[label for label in e.labels if label != MASKED] for e in rows]
    assert {answer[-1] for answer in wanted} == {engine.template.stop_id}
    assert sum(a == w for a, w in zip(answers, wanted, strict=True)) == 30


def test_batched_answers_are_those_of_one_at_a_time(train: Train, rows: list[Example]) -> None:
    engine, _, _ = train(*STEP, "eval.max_new_tokens=24")
    prompts = [e.input_ids[:n] for n, e in zip(range(5, 25), rows, strict=False)]
    batched = list(engine.generate(prompts))
    assert batched == [answer for prompt in prompts for answer in engine.generate([prompt])]
    nats = engine.answer_nats(rows[:8])
    assert nats == pytest.approx([n for e in rows[:8] for n in engine.answer_nats([e])], abs=1e-3)


@pytest.mark.parametrize(("each", "told"), [(5.0, False), (33.0, True)])
def test_a_stop_token_that_the_base_holds_for_impossible_is_told(
    each: float, told: bool, train: Train, rows: list[Example],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    engine, _, _ = train(*STEP)
    capsys.readouterr()
    assert len(engine.answer_nats(rows[:3])) == 3
    assert capsys.readouterr().err == ""  # a base of random weights is near chance
    monkeypatch.setattr(engine, "_nats", lambda examples: [(9.0, each) for _ in examples])
    assert engine.answer_nats(rows[:3]) == [9.0] * 3
    said = capsys.readouterr().err
    assert ("which ends answers, for far less likely than chance (33 nats, chance" in said) is told
    assert ("template.name = 'question-answer'" in said) is told


DECODINGS = [
    Decoding(24, temperature=0.0, top_p=1.0, repetition_penalty=1.0, seed=1),
    Decoding(24, temperature=0.0, top_p=1.0, repetition_penalty=1.5, seed=1),
    Decoding(24, temperature=0.9, top_p=0.8, repetition_penalty=1.0, seed=1),
    Decoding(24, temperature=0.9, top_p=0.8, repetition_penalty=1.0, seed=2),
]


def test_a_streamed_answer_is_the_batched_one_however_it_is_drawn(
    train: Train, rows: list[Example], answering: Any
) -> None:
    engine, _, _ = train(*STEP)
    template = engine.template
    prompts = [e.input_ids[:n] for n, e in zip((5, 17, 9, 30), rows[10:], strict=False)]
    said = []
    for decoding in DECODINGS:
        batched = list(answering.generate(engine.model, template, prompts, decoding, answering.AtOnce(4, engine.dtype)))
        assert [list(engine.stream(prompt, decoding)) for prompt in prompts] == batched
        assert max(map(len, batched)) > 5
        again = list(
            answering.generate(engine.model, template, prompts[::-1], decoding, answering.AtOnce(3, engine.dtype))
        )
        assert again == batched[::-1]
        said.append(batched)
    assert all(one != other for one, other in combinations(said, 2))


def test_judging_takes_fewer_rows_at_a_time_from_where_memory_ran_out(answering: Any) -> None:
    import torch

    from medrecipes.core.errors import EngineError

    sizes = []

    def work(rows: list[int]) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.cuda.OutOfMemoryError
        return [2 * row for row in rows]

    assert list(answering.portions(list(range(10)), 8, work)) == [2 * row for row in range(10)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert list(answering.portions([], 8, work)) == []
    with pytest.raises(EngineError, match=r"^out of memory with one row at a time and nothing to learn from it"):
        list(answering.portions([1], 1, lambda rows: work([0] * 4)))


def test_drawn_tokens_occur_as_often_as_they_are_likely() -> None:
    from medrecipes.engines.generation.sampling import Rules, drawn, row_seed

    decoding = Decoding(1, temperature=0.5, top_p=0.9, repetition_penalty=1.0, seed=1)
    likely = torch.tensor([0.5, 0.3, 0.15, 0.05])
    squared = likely**2 / (likely**2).sum()  # at half the temperature; a share of 0.9 leaves the first two
    wanted = squared[:2] / squared[:2].sum()
    prompts = [[i] for i in range(4000)]
    rules = Rules.of([(decoding, row_seed(decoding, prompt)) for prompt in prompts], torch.device("cpu"))
    chosen = drawn(likely.log().repeat(4000, 1), rules, torch.ones(4000))
    found = chosen.bincount(minlength=4) / 4000
    assert torch.allclose(found, torch.tensor([*wanted, 0, 0]), atol=0.025)


def test_a_stream_can_be_asked_to_stop_or_left(train: Train, rows: list[Example]) -> None:
    engine, _, _ = train(*STEP)
    threads = threading.active_count()
    whole = list(engine.stream(rows[20].input_ids[:20], DECODINGS[1]))
    stop = threading.Event()
    heard = []
    for id in engine.stream(rows[20].input_ids[:20], DECODINGS[1], stop):
        heard.append(id)
        stop.set()
    assert whole[: len(heard)] == heard
    assert 0 < len(heard) < len(whole)
    stream = engine.stream(rows[20].input_ids[:20], DECODINGS[1])
    assert whole[0] == next(stream)
    stream.close()
    if not torch.cuda.is_available():  # a GPU would not survive it
        broken = engine.stream([10**9], DECODINGS[1])  # no such token
        with pytest.raises(IndexError):
            next(broken)
    assert threading.active_count() == threads


def test_a_conversation_opens_the_model_once_and_answers_as_single_streams_do(
    train: Train, rows: list[Example], answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _, _ = train(*STEP)
    threads, opened = threading.active_count(), []
    usual = answering.Generator.open
    monkeypatch.setattr(answering.Generator, "open", lambda self, ids: (opened.append(1), usual(self, ids))[1])
    prompts = [rows[i].input_ids[:20] for i in (20, 21)]
    wanted = [list(engine.stream(prompt, DECODINGS[1])) for prompt in prompts]
    with engine.base():
        of_base = list(engine.stream(prompts[0], DECODINGS[1]))
    assert len(opened) == 3
    with engine.talking():
        assert [list(engine.stream(prompt, DECODINGS[1])) for prompt in prompts * 2] == wanted * 2
        assert len(opened) == 4
        stop, heard = threading.Event(), list[int]()
        for id in engine.stream(prompts[0], DECODINGS[1], stop):
            heard.append(id)
            stop.set()
        assert wanted[0][: len(heard)] == heard
        assert 0 < len(heard) < len(wanted[0])
        with engine.base():  # with the adapter switched off another model answers, opened anew
            assert list(engine.stream(prompts[0], DECODINGS[1])) == of_base
        assert len(opened) == 5
        if not torch.cuda.is_available():  # a GPU would not survive it
            with pytest.raises(IndexError):
                next(engine.stream([10**9], DECODINGS[1]))
        assert list(engine.stream(prompts[1], DECODINGS[1])) == wanted[1]
    assert threading.active_count() == threads


@pytest.mark.parametrize("name", ["mistral-v1", "llama3", "gemma"])
def test_a_growing_text_never_splits_a_character(name: str) -> None:
    tokenizer = bound(name).tokenizer
    text = "Größe: 5 µg – «хорошо» 心臓 😀"
    [ids] = tokenizer.encode([text], continuing=False)
    growing = Growing(bound(name))
    pieces = [piece.text for id in [*ids, bound(name).stop_id] for piece in growing.add([id])]
    assert "".join([*pieces, *(piece.text for piece in growing.end())]) == text
    assert len(pieces) > 10
    broken = Growing(bound(name))  # in the middle of the last character
    pieces = [piece.text for id in ids[:-1] for piece in broken.add([id])]
    assert "".join([*pieces, *(piece.text for piece in broken.end())]) == tokenizer.decode([ids[:-1]])[0].strip()


def test_samples_are_answered_at_each_checkpoint(train: Train) -> None:
    _, rundir, _ = train(
        "train.max_steps=4",
        "train.save_steps=2",
        "train.eval_steps=2",
        'train.sample_prompts=["What causes Asthma ?"]',
        "eval.max_new_tokens=8",
    )
    lines = [json.loads(line) for line in (rundir.path / "samples.jsonl").read_text().splitlines()]
    assert [(line["step"], line["question"]) for line in lines] == [
        (2, "What causes Asthma ?"),
        (4, "What causes Asthma ?"),
    ]


def test_a_loss_that_is_no_number_stops_the_run_and_names_its_rows(train: Train, rows: list[Example]) -> None:
    with pytest.raises(EngineError, match=r"the train loss is (nan|inf) at step \d+ \(its rows: .*bad_rows\.json\)"):
        train("train.learning_rate=1e6", "train.max_grad_norm=1e9", "train.max_steps=20")


def test_a_best_checkpoint_damaged_before_it_is_loaded_is_named_and_the_next_attempt_begins_anew(
    train: Train, rows: list[Example], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # so slow that no dev loss is lower than the first: its checkpoint stays the best
    settings = ("train.max_steps=6", "train.batch=2", "train.save_steps=2", "train.eval_steps=2", "train.keep_best=loss",
                "train.learning_rate=1e-30")  # fmt: skip
    whole, expected, _ = train(*settings, dev=rows[:2])
    assert (
        json.loads((expected.checkpoints / "checkpoint-6" / "trainer_state.json").read_text())["best_global_step"] == 2
    )
    (tmp_path / "run").mkdir()
    rundir = RunDir(tmp_path / "run")
    best = rundir.checkpoints / "checkpoint-2" / "adapter_model.safetensors"

    def before(engine: Any) -> None:
        def harm(*_: Any) -> None:
            if (rundir.checkpoints / "checkpoint-4" / "manifest.json").exists() and best.read_bytes()[-8:] != bytes(8):
                best.write_bytes(best.read_bytes()[:-8] + bytes(8))

        engine.model.register_forward_pre_hook(harm)

    with pytest.raises(
        SpoiledError, match=r"checkpoint-2: adapter_model\.safetensors is not as it was written, and it is"
    ):
        train(*settings, dev=rows[:2], rundir=rundir, before=before)
    capfd.readouterr()
    again, rundir, _ = train(*settings, dev=rows[:2], rundir=rundir)
    told = capfd.readouterr().err
    assert told.count("; training goes on from the beginning, and it is kept as set-aside/checkpoint-") == 2
    assert [row["loss"] for row in read_losses(rundir.path / "loss.csv")] == [row["loss"] for row in read_losses(expected.path / "loss.csv")]  # fmt: skip
    assert difference(again, whole) == 0


def test_a_training_that_was_at_its_end_takes_no_step_more(train: Train) -> None:
    settings = (
        "train.max_steps=3",
        "train.batch=2",
        "train.save_steps=3",
        "train.eval_steps=3",
    )  # in the midst of an epoch
    whole, rundir, _ = train(*settings)
    before = (rundir.path / "loss.csv").read_text()
    again, rundir, seen = train(*settings, rundir=rundir)
    assert rundir.state["resumed_from_step"] == 3
    assert seen == []
    assert (rundir.path / "loss.csv").read_text() == before
    assert [path.name for path in rundir.checkpoints.glob("checkpoint-*")] == ["checkpoint-3"]
    assert difference(again, whole) == 0


def test_early_stopping_stops(train: Train, rows: list[Example]) -> None:
    _, rundir, _ = train(
        "train.keep_best=bits_per_byte", "train.early_stopping=2", "train.eval_steps=1", "train.save_steps=1",
        "train.learning_rate=0.5", "train.max_steps=30", dev=rows[:4],
    )  # fmt: skip
    assert max(int(row["step"]) for row in read_losses(rundir.path / "loss.csv")) < 30


HONOUR = [
    (["model.engine=trl"], False, 1, "model.engine = 'trl' needs an NVIDIA GPU"),
    (["model.engine=unsloth", "lora.use_dora=true"], True, 1, "lora.use_dora = true: Unsloth does not honour it; set model.engine = 'trl'"),
    (["model.bits=8"], False, 1, "model.bits = 8: Unsloth on a CPU would load 16 bits instead; set model.bits = 4 or 16"),
    (["model.quant_type=fp4"], False, 1, "model.quant_type = fp4: Unsloth does not honour it"),
    (["lora.targets=['q_proj', 'lm_head']"], True, 2, "lora.targets: 'lm_head' cannot be trained by engine trl (2 processes train together), whose loss"),
    (["lora.targets=['q_proj', 'lm_head']", "lora.use_dora=true"], True, 1, "lora.targets: 'lm_head' cannot be trained by engine trl (Unsloth does not honour lora.use_dora), whose loss"),
    (["model.engine=unsloth"], True, 2, "model.engine = 'unsloth' trains on one GPU; set model.engine = 'trl' for several"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "cuda", "processes", "message"), HONOUR)
def test_what_cannot_be_honoured_is_an_error(overrides: list[str], cuda: bool, processes: int, message: str) -> None:
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", overrides).recipe
    with pytest.raises(EngineError) as error:
        choose_engine(recipe, cuda=cuda, processes=processes)
    assert str(error.value).startswith(message)


FUSED = "the GPU has no variable-length attention"
CHOICES = [
    ([], False, 1, None, "unsloth (the default on a CPU)"),
    ([], True, 1, None, "trl (its fused layers are the fastest on this GPU)"),
    ([], True, 1, FUSED, f"unsloth (the default without fused layers: {FUSED})"),
    (["lora.targets=['q_proj', 'lm_head']"], True, 1, None, "unsloth (the default without fused layers: lora.targets has lm_head, which Unsloth alone trains)"),
    ([], True, 4, None, "trl (4 processes train together)"),
    ([], True, 1, "capped", f"trl ({CAPPED})"),
    (["model.engine=trl"], True, 1, FUSED, "trl (the recipe says so)"),
    (["model.engine=unsloth"], True, 1, None, "unsloth (the recipe says so)"),
    (["model.bits=8", "model.cpu_offload=true"], True, 1, None, "trl (Unsloth does not honour model.cpu_offload)"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "cuda", "processes", "slow", "choice"), CHOICES)
def test_the_choice_has_its_reason(
    overrides: list[str], cuda: bool, processes: int, slow: str | None, choice: str
) -> None:
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", overrides).recipe
    assert str(choose_engine(recipe, cuda=cuda, processes=processes, slow=slow, caps=slow == "capped")) == choice


@pytest.mark.parametrize(
    ("cuda", "capability", "base", "says"),
    [
        (False, (0, 0), "tiny:mistral", "a CPU has no 8-bit floats (RTX 40, L4, H100 and newer have)"),
        (True, (8, 0), "tiny:mistral", "this GPU has no 8-bit floats (RTX 40, L4, H100 and newer have)"),
        (True, (9, 0), "tiny:gemma4", "gemma4_text layers are built otherwise"),
    ],
)
def test_8_bit_floats_that_are_not_to_be_had_are_never_left_out_in_silence(
    cuda: bool, capability: tuple[int, int], base: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: capability)
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", ["train.compute=fp8", f"model.base={base}", "template.foreign=true"]).recipe  # fmt: skip
    with pytest.raises(EngineError, match=re.escape(f"train.compute = 'fp8': {says}; leave it out, or set 'bf16'")):
        load_libraries(recipe)
