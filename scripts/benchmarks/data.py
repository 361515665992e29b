"""From a file of 112,000 chat rows to ids and labels: everything of ours against TRL's SFTTrainer preparing the same rows.

Ours reads, cleans, looks for near-duplicates, splits by group, renders and tokenises; TRL tokenises and makes labels.

`--build`: a whole `medrecipes build` of a million shorter rows instead; `--rendered`: what `medrecipes run` makes of them before
a model is loaded; `--long`: with either, rows of about 250 words. `--near`: near-duplicates alone, in texts of one template and
of ten. `--keep FOLDER`: where the rows lie, and stay, so that another version can be measured on the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.recipe.schema import Data, Recipe, Template
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, save_tokenizer
from medrecipes.rendering.tokenizer import Tokenizer
from tests import families

SOURCES = (
    ("medquad", "medquad/medquad.csv.gz", "medquad.csv"),
    ("wikidoc", "wikidoc/medical_meadow_wikidoc.json.gz", "wikidoc.json"),
    (
        "wikidoc_patient_information",
        "wikidoc/medical_meadow_wikidoc_patient_information.json.gz",
        "wikidoc_patient_information.json",
    ),
    ("healthcaremagic", "healthcaremagic/HealthCareMagic-sample-500.json.gz", "healthcaremagic.json"),
    ("healthcaremagic", "healthcaremagic/GenMedGPT-5k.json.gz", "healthcaremagic.json"),
)
INSTRUCTION = "If you are a doctor, please answer the medical questions based on the patient's description."


def make(path: Path, count: int, seed: int, taken: tuple[int, int] = (3, 3), planted: float = 0.0) -> None:
    """Rows in HealthCareMagic's shape: a real question, and an answer of sentences from real answers.

    `taken`: from how many answers, and at most how many sentences of each.
    `planted`: the share of rows whose answer is one of those before, but for its last word.
    """
    real = os.environ.get("MEDRECIPES_DATA")
    here = Path(real) if real else Path(__file__).resolve().parents[2] / "data"
    questions: list[str] = []
    answers: list[list[str]] = []
    for name, published, sample in SOURCES:
        for record in open_source(name).read(Files(here / (published if real else sample)), Ledger()):
            questions.append(record.question)
            answers.append([s for s in re.split(r"(?<=[.!?])\s+", record.answer) if 3 <= len(s.split()) <= 60])
    answers = [sentences for sentences in answers if sentences]
    chance = random.Random(seed)
    before: list[str] = []  # answers to take up again
    with path.open("w", encoding="utf-8") as file:
        for row in range(count):
            parts = []
            for sentences in chance.sample(answers, taken[0]):
                start = chance.randrange(len(sentences))
                parts += sentences[start : start + taken[1]]
            answer = " ".join(parts)
            if before and planted and chance.random() < planted:
                answer = f"{chance.choice(before).rpartition(' ')[0]} again{row}."
            elif planted and len(answer.split()) > 25 and len(before) < 100_000:
                before.append(answer)
            asked = f"{chance.choice(questions)} {chance.choice(chance.choice(answers))}"
            row_text = json.dumps({"instruction": INSTRUCTION, "input": asked, "output": answer})
            file.write(("[\n" if not row else ",\n") + row_text)
        file.write("\n]\n")


def ours(path: Path, template: str) -> dict[str, Any]:
    """The whole way, with the time of every stage."""
    from medrecipes.data.split import prepare

    stages: list[tuple[str, float]] = []
    recipe = Recipe(
        data=Data(source="healthcaremagic", path=path, near_duplicate=0.9), template=Template(name=template)
    )
    split = prepare(recipe, lambda name: stages.append((name, time.perf_counter())))
    stages.append(("render and tokenise", time.perf_counter()))
    chat = ChatTemplate(template, Tokenizer(families.folder(template)))
    tokens = supervised = 0
    for part in (split.train, split.dev, split.test):
        for example in chat.examples(part):
            tokens += len(example.input_ids)
            supervised += len(example.labels) - example.labels.count(MASKED)
    stages.append(("end", time.perf_counter()))
    return {
        "stages": {name: after - at for (name, at), (_, after) in itertools.pairwise(stages)},
        "rows": split.report["rows"],
        "dropped": split.report["dropped"],
        "leakage": split.report["leakage"]["grouped"],
        "tokens": tokens,
        "supervised": supervised,
    }


def theirs(path: Path, template: str) -> dict[str, Any]:
    """SFTTrainer's own preparation, timed around its construction with a model of a few thousand weights."""
    os.environ.update(CUDA_VISIBLE_DEVICES="", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(ChatTemplate(template, Tokenizer(families.folder(template))), Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token
        rows = json.loads(path.read_text())
        messages = [
            [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}] for row in rows
        ]
        data = Dataset.from_dict({"messages": messages})
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes)
        model = LlamaForCausalLM(config).to(torch.float32)
        settings = SFTConfig(
            output_dir=folder, assistant_only_loss=True, max_length=2048, dataset_num_proc=None, report_to=[],
            use_cpu=True, bf16=False, disable_tqdm=True,
        )  # fmt: skip
        started = time.perf_counter()
        trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        seconds = time.perf_counter() - started
        first = trainer.train_dataset[0]
        return {"stages": {"SFTTrainer": seconds}, "rows": len(trainer.train_dataset), "columns": sorted(first)}


def built(path: Path, template: str) -> dict[str, Any]:
    """`medrecipes build` of the rows, from the file to the folder that `datasets.load_from_disk` opens."""
    from medrecipes.pipeline.build import build

    recipe = Recipe(
        name="bench",
        data=Data(source="healthcaremagic", path=path, near_duplicate=0.9),
        template=Template(name=template),
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        started = time.perf_counter()
        [made] = build(recipe, Path(out))
        seconds = time.perf_counter() - started
        files = [file.stat().st_size for file in made.folder.rglob("*.arrow")]
    told = {key: made.report[key] for key in ("rows", "dropped")}
    return {"stages": {"build": seconds}, **told, "arrow": f"{len(files)} files, {sum(files) / 1e9:.2f} GB"}


def rendered(path: Path, template: str) -> dict[str, Any]:
    """The rows of a run: split, tokens, proofs, packs, and the first hundred packs as training reads them."""
    from medrecipes.data.split import prepare
    from medrecipes.rendering.chat_template import generation_config
    from medrecipes.rendering.overflow import fit_parts
    from medrecipes.rendering.packing import pack
    from medrecipes.rendering.proofs import prove

    data = Data(source="healthcaremagic", path=path, near_duplicate=0.9)
    stages = [("data", time.perf_counter())]
    split = prepare(Recipe(data=data, template=Template(name=template)))
    stages.append(("tokens", time.perf_counter()))
    chat = ChatTemplate(template, Tokenizer(families.folder(template)))
    fitted = fit_parts(chat, split.parts(), data, split.stage_key)
    stages.append(("proofs", time.perf_counter()))
    stops = generation_config(chat)["eos_token_id"]
    proofs = {name: prove(chat, part.conversations, part.examples, stops) for name, part in fitted.items()}
    stages.append(("packs", time.perf_counter()))
    packs = pack(fitted["train"].examples, data.max_tokens, packing=True)
    read = sum(len(packs[number].input_ids) for number in range(min(100, len(packs))))
    stages.append(("end", time.perf_counter()))
    return {
        "stages": {name: after - at for (name, at), (_, after) in itertools.pairwise(stages)},
        "rows": f"{proofs['train'].rows:,} to train on in {len(packs):,} packs, of which a hundred hold {read:,} tokens",
        "tokens": proofs["train"].tokens,
    }


def alike(count: int, templates: int) -> dict[str, Any]:
    """The near-duplicates among texts of 60 words of which one, in the middle, is the row's own."""
    from medrecipes.data.near_duplicates import near

    chance = random.Random(count)
    bases = [[f"w{chance.randrange(3000)}" for _ in range(60)] for _ in range(templates)]
    texts = [
        " ".join([*base[:30], f"name{row}", *base[31:]]).encode()
        for row, base in zip(range(count), itertools.cycle(bases), strict=False)
    ]
    started = time.perf_counter()
    found = near(texts, 0.9)
    seconds = time.perf_counter() - started
    return {"stages": {"near-duplicates": seconds}, "rows": f"{count:,}, {len(found.texts):,} of them in clusters"}


def measured(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `work` returns from a process of its own, with the seconds its processors took and the peak memory of its tree."""
    import psutil

    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=_child, args=(other, work, *arguments))
    process.start()
    other.close()
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        tree = psutil.Process(process.pid)
        while not done.wait(0.05):
            total = 0
            for one in [tree, *tree.children(recursive=True)]:
                try:
                    total += one.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result: dict[str, Any] = mine.recv()
    except EOFError:
        sys.exit(f"{work.__name__} failed")
    finally:
        done.set()
        watcher.join()
        process.join()
    return {**result, "peak_gb": peak / 1e9}


def _child(pipe: Any, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as store:
        os.environ["MEDRECIPES_CACHE"] = store  # nothing is taken from an earlier run
        result = work(*arguments)
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        pipe.send({**result, "processor": sum(one.ru_utime + one.ru_stime for one in used)})


def show(name: str, result: dict[str, Any]) -> float:
    """Print the stages; returned: their sum."""
    total = sum(result["stages"].values())
    print(f"{name}: {total:.1f} s ({result['processor']:.1f} s of processors), peak {result['peak_gb']:.2f} GB")
    for stage, seconds in result["stages"].items():
        print(f"    {stage:22} {seconds:7.2f} s")
    for key in ("rows", "dropped", "leakage", "tokens", "supervised", "columns", "arrow"):
        if key in result:
            print(f"    {key}: {result[key]}")
    return float(total)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the rows, measure both sides, print the ratio and how our time grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="112,000, or 1,000,000 with --build")
    parser.add_argument("--template", default="mistral-v3", choices=sorted(families.FAMILIES))
    parser.add_argument("--ours-only", action="store_true", help="leave TRL out")
    parser.add_argument("--build", action="store_true", help="build a dataset instead")
    parser.add_argument("--rendered", action="store_true", help="render, prove and pack the rows instead")
    parser.add_argument("--long", action="store_true", help="with --build or --rendered: rows of about 250 words")
    parser.add_argument("--near", action="store_true", help="look for near-duplicates in texts of one shape instead")
    parser.add_argument("--keep", type=Path, help="a folder for the rows of --build, which are made once")
    options = parser.parse_args(argv)
    if options.near:
        for count, templates in ((4_000, 1), (50_000, 10)):
            show(f"{count:,} texts of {templates} template(s)", measured(alike, count, templates))
    elif options.build or options.rendered:
        with tempfile.TemporaryDirectory() as folder:
            path = made(options.keep or Path(folder), options.rows or 1_000_000, long=options.long)
            work, what = (rendered, "run up to the model") if options.rendered else (built, "build")
            show(f"{what}, {path.name}, {path.stat().st_size / 1e6:.0f} MB", measured(work, path, options.template))
    else:
        against_trl(options.rows or 112_000, options.template, ours_only=options.ours_only)


def made(folder: Path, count: int, *, long: bool) -> Path:
    """The rows, made where they are not there yet."""
    path = folder / f"{'long' if long else 'rows'}-{count}.json"
    if not path.exists():
        make(path, count, seed=3, taken=(5, 4) if long else (2, 1), planted=0.05)
    return path


def against_trl(count: int, template: str, *, ours_only: bool) -> None:
    """Both sides on the same rows, and ours on a quarter of as many."""
    families.folder(template)
    with tempfile.TemporaryDirectory() as folder:
        quarter, whole = Path(folder) / "quarter.json", Path(folder) / "whole.json"
        make(quarter, count // 4, seed=1)
        make(whole, count, seed=2)
        small = show(f"ours, {count // 4:,} rows", measured(ours, quarter, template))
        result = measured(ours, whole, template)
        large = show(f"ours, {count:,} rows", result)
        # again after the large one, and the faster of the two: what else the machine does must not flatter the growth
        small = min(small, show("the quarter again", measured(ours, quarter, template)))
        survived = 1 - sum(result["dropped"].values()) / count
        print(f"survived cleaning and near-deduplication: {survived:.1%}")
        print(f"growth from a quarter to the whole: {large / small / 4:.2f} x linear")
        if not ours_only:
            other = show(f"TRL, {count:,} rows", measured(theirs, whole, template))
            print(f"ratio: {other / large:.2f}")


if __name__ == "__main__":
    main()
