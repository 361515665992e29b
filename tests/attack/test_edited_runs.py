"""Finished runs whose files somebody edited: every edit is a difference, and most are one even where its hash was mended."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medrecipes.engines.bases import Base
from medrecipes.release.verify import by_files
from medrecipes.release.verify.claims import DIFFERS, OK, UNKNOWN
from medrecipes.release.verify.evidence import Evidence
from medrecipes.release.verify.model import ANSWERS as ANSWERS_AGAIN
from medrecipes.release.verify.model import BASE as BASE_AGAIN
from medrecipes.release.verify.model import LOSS as LOSS_AGAIN
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir
from tests.attack.harness import attack, refused

# what does not change with a run's files, and is worked out once for all edits of them
FROM_SOURCE = ("base", "from_source", "same_data", "split", "tagged", "template", "fitted", "rows", "proved", "packs")
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Edit:
    """An edit of one file; `seen`: claims that differ although its hash was mended, none where only the hash can tell."""

    name: str
    file: str
    change: Change
    seen: frozenset[str]


def edit(name: str, file: str, change: Change, *seen: str) -> Edit:
    return Edit(name, file, change, frozenset(seen))


# --- how files are edited


def text(old: str, new: str, count: int = 1) -> Change:
    """A text for another."""

    def change(path: Path) -> None:
        before = path.read_text()
        assert old in before, old
        path.write_text(before.replace(old, new, count))

    return change


def pattern(old: str, new: str) -> Change:
    """What a pattern finds first."""

    def change(path: Path) -> None:
        after, times = re.subn(old, new, path.read_text(), count=1, flags=re.M)
        assert times == 1, old
        path.write_text(after)

    return change


def value(*keys: Any, to: Any) -> Change:
    """A value of a JSON file, by the path to it; a function makes it of the one that stood there."""

    def change(path: Path) -> None:
        whole = json.loads(path.read_text())
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        before = inner.get(keys[-1]) if isinstance(inner, dict) else inner[keys[-1]]
        inner[keys[-1]] = to(before) if callable(to) else to
        assert inner[keys[-1]] != before
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    return change


def without(*keys: Any) -> Change:
    """A JSON file that lacks a value."""

    def change(path: Path) -> None:
        whole = json.loads(path.read_text())
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    return change


def lines(change_lines: Callable[[list[str]], list[str]]) -> Change:
    """The lines of a file."""

    def change(path: Path) -> None:
        before = path.read_text().splitlines(keepends=True)
        after = change_lines(before)
        assert after != before
        path.write_text("".join(after))

    return change


def line(number: int, **values: Any) -> Change:
    """A line of a JSON-lines file, other values in it; None takes one out."""

    def change_lines(before: list[str]) -> list[str]:
        row = json.loads(before[number])
        row |= {key: new(row[key]) if callable(new) else new for key, new in values.items()}
        for key in (key for key, new in values.items() if new is None):
            del row[key]
        return [*before[:number], json.dumps(row, ensure_ascii=False) + "\n", *before[number + 1 :]]

    def change(path: Path) -> None:
        after = change_lines(path.read_text().splitlines(keepends=True))
        path.write_text("".join(after))

    return change


def written(data: bytes) -> Change:
    """Another file in its place."""
    return lambda path: (path.parent.mkdir(exist_ok=True), path.write_bytes(data), None)[-1]


def gone(path: Path) -> None:
    """No file at all."""
    path.unlink()


def tensors(change_them: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """The tensors of a safetensors file by name, as numpy's arrays."""
    from safetensors.numpy import load_file, save_file

    return lambda path: save_file(change_them(load_file(path)), path)


def one_tensor(end: str, by: float) -> Change:
    """The first tensor whose name ends so, times a number."""

    def change_them(held: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in sorted(held) if name.endswith(end))
        return {**held, name: held[name] * type(held[name].flat[0])(by)}

    return tensors(change_them)


def last_gone(held: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(held.items())[:-1])


def of_another_checkpoint(path: Path) -> None:
    """The adapter of another step than the best, which is not the same on every processor."""
    kept = sorted((path.parents[1] / "checkpoints").glob(f"checkpoint-*/{path.name}"))
    shutil.copy(next(one for one in kept if one.read_bytes() != path.read_bytes()), path)


# --- the edits of a run of conversations

REPORT, PROSE, CARD, DATA, LOSS = "eval/report.json", "eval/report.md", "README.md", "data.json", "loss.csv"
STATS, RECIPE, STATE, ANSWERS, CASES = "trainer_stats.json", "recipe.toml", "run.json", "eval/predictions.jsonl", "eval/cases.jsonl"  # fmt: skip
CONFIG, WEIGHTS, STOPS = "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/generation_config.json"  # fmt: skip
NEWEST = "checkpoints/checkpoint-12/trainer_state.json"
PAGE = "report.html"

CHAT = [
    edit("more rows", REPORT, value("rows", to=600), "report"),
    edit("more groups", REPORT, value("groups", to=60), "report"),
    edit("another split", REPORT, value("split", to="dev"), "report"),
    edit("another split's key", REPORT, value("split_key", to="0" * 64), "report"),
    edit("narrower intervals", REPORT, value("tuned", "rougeL", "low", to=lambda low: low + 0.05), "report"),
    edit("intervals in other words", REPORT, value("intervals", to="95%, exact"), "report"),
    edit("another decoding", REPORT, value("decoding", "max_new_tokens", to=512), "report"),
    edit("a better figure", REPORT, value("tuned", "bits_per_byte", "value", to=lambda v: v / 2), "report", "figures in the card"),
    edit("a worse base", REPORT, value("base", "rouge1", "value", to=0.01), "report", "figures in the card"),
    edit("a larger difference", REPORT, value("difference", "rouge2", "high", to=0.9), "report"),
    edit("all cases right", REPORT, value("cases", "exact_match", to=5), "report"),
    edit("a metric that nobody measured", REPORT, value("tuned", "truthfulness", to={"value": 1, "low": 1, "high": 1}), "report"),
    edit("a metric less", REPORT, without("tuned", "repeated_ngrams"), "report"),
    edit("absent figures", REPORT, value("absent", to=["rouge1"]), "report"),
    edit("what the dev rows said", REPORT, value("dev", "tuned", to=0.5), "report"),
    edit("a figure that is no number", REPORT, pattern(r'"value": [\d.]+', '"value": NaN'), "report"),
    edit("a figure without end", REPORT, pattern(r'"high": [\d.]+', '"high": 1e999'), "report"),
    edit("a key twice", REPORT, text('"rows": 6', '"rows": 600, "rows": 6'), "report"),
    edit("a list for a part", REPORT, value("base", to=[]), "report"),
    edit("a report cut short", REPORT, lambda path: path.write_text(path.read_text()[:900]), "report"),  # type: ignore[arg-type, return-value]
    edit("no report", REPORT, gone, "report"),
    edit("a figure of report.md", PROSE, pattern(r"(ROUGE-L \| )\d\.\d+", r"\g<1>0.999"), "report.md"),
    edit("a sentence of report.md", PROSE, text("# tiny_mistral: base against tuned", "# tiny_mistral: approved by clinicians"), "report.md"),
    edit("an answer of report.md", PROSE, pattern(r"^- tuned: .*$", "- tuned: Take two tablets."), "report.md"),
    edit("a figure of report.html", PAGE, pattern(r'(<b>)\d\.\d+', r"\g<1>0.001"), "report.html"),
    edit("an answer in report.html", PAGE, pattern(r'("said":\[\{"text":")', r"\g<1>Take two tablets. "), "report.html"),
    edit("a sentence of report.html", PAGE, text("Not a medical device", "A medical device"), "report.html"),
    edit("a script more in report.html", PAGE, text("</body>", "<script>alert(1)</script></body>"), "report.html"),
    edit("no report.html", PAGE, gone, "report.html"),
    edit("a line more in report.md", PROSE, lines(lambda held: [*held, "\nBetter than a physician.\n"]), "report.md"),
    edit("a figure of the card", CARD, pattern(r"(ROUGE-L \| )\d\.\d+", r"\g<1>0.999"), "figures in the card", "card"),
    edit("a figure of the card's metadata", CARD, pattern(r"(rougeL\n +value: )\d\.\d+", r"\g<1>0.9"), "card"),
    edit("the card's disclaimer", CARD, text("Not a medical device", "A medical device"), "card"),
    edit("the card's limits", CARD, text("No clinician has evaluated its answers", "Clinicians have evaluated its answers"), "card"),
    edit("the card's learning rate", CARD, text("learning rate | 0.002", "learning rate | 0.0002"), "card"),
    edit("the card's example", CARD, pattern(r"^\| this model \| .*$", "| this model | See a doctor. |"), "card"),
    edit("the card's licence", CARD, text("Data: MedQuAD: CC-BY-4.0.", "Data: MedQuAD: CC0-1.0."), "card"),
    edit("no card", CARD, gone, "figures in the card", "card"),
    edit("more training rows", DATA, value("rows", "train", to=9999), "data.json"),
    edit("rows dropped", DATA, value("dropped", to={"empty answer": 3}), "data.json"),
    edit("no leakage by row", DATA, value("leakage", "by_row", "test", "document", to=0), "data.json"),
    edit("another licence of the source", DATA, value("sources", 0, "licence", to="CC0-1.0"), "data.json"),
    edit("another content of the source", DATA, value("sources", 0, "content", to="0" * 64), "data.json"),
    edit("another key of the split", DATA, value("key", to="0" * 64), "split", "data.json"),
    edit("other tokens", DATA, value("tokens", "train", "tokens", to=1), "data.json"),
    edit("no sources", DATA, without("sources"), "data.json"),
    edit("a lower loss", LOSS, pattern(r"^(12,[\d.]+,train,)[\d.]+", r"\g<1>0.5"), "training"),
    edit("a lower dev loss", LOSS, pattern(r"^(12,[\d.]+,dev,)[\d.]+", r"\g<1>0.5"), "training"),
    edit("another learning rate", LOSS, pattern(r"^(6,[\d.]+,train,[\d.]+,)[\d.]+", r"\g<1>0.001"), "training"),
    edit("fewer tokens", LOSS, pattern(r"^(9,(?:[^,]*,){5})\d+", r"\g<1>1"), "training"),
    edit("a step less", LOSS, lines(lambda held: held[:5] + held[6:]), "training"),
    edit("a step twice", LOSS, lines(lambda held: [*held, held[-1]]), "training"),
    edit("a loss that is no number", LOSS, pattern(r"^(3,[\d.]+,train,)[\d.]+", r"\g<1>nan"), "training"),
    edit("other columns", LOSS, text("step,epoch,", "step,age,"), "training"),
    edit("more steps", STATS, value("steps", to=1200), "training"),
    edit("another best step", STATS, value("best_step", to=6), "training", "adapter"),
    edit("a better best", STATS, value("best_metric", to=1.5), "training"),
    edit("a worse start", STATS, value("base_metric", to=9.5), "training"),
    edit("another measure", STATS, value("metric", to="loss"), "training"),
    edit("more tokens", STATS, value("tokens", to=81800), "training"),
    edit("another mean loss", STATS, value("train_loss", to=0.5), "training"),
    edit("less time", STATS, value("train_runtime", to=0.1), "training"),
    edit("more rows a second", STATS, value("train_samples_per_second", to=900.0), "training"),
    edit("fewer rows", STATS, value("rows", to=22), "training"),
    edit("a larger adapter", STATS, value("trainable_parameters", to=9), "adapter"),
    edit("a larger base", STATS, value("parameters", to=7_000_000_000), "training"),
    edit("less memory", STATS, value("peak_gb", to=0.01), "run.json"),
    edit("the trainer's own log", NEWEST, value("log_history", 1, "loss", to=0.1), "training"),
    edit("the trainer's own best", NEWEST, value("best_global_step", to=6), "training"),
    edit("the learning rate", RECIPE, text("learning_rate = 0.002", "learning_rate = 0.0002"), "recipe", "training", "card"),
    edit("the rank", RECIPE, text("rank = 16", "rank = 8"), "recipe", "adapter"),
    edit("the scale", RECIPE, text("alpha = 32", "alpha = 64"), "recipe", "adapter"),
    edit("the steps", RECIPE, text("max_steps = 12", "max_steps = 6"), "recipe", "training"),
    edit("the rows that are evaluated", RECIPE, text("rows = 6", "rows = 5"), "recipe", "predictions"),
    edit("the draws", RECIPE, text("draws = 1000", "draws = 10"), "recipe", "report"),
    edit("the weight decay", RECIPE, text("weight_decay = 0.01", "weight_decay = 0.0"), "recipe"),
    edit("the name", RECIPE, text('name = "tiny_mistral"', 'name = "best"'), "recipe"),
    edit("the run's key", STATE, value("key", to="0" * 64), "recipe"),
    edit("what the run's key is of", STATE, value("identity", "settings", "train", "learning_rate", to=1), "recipe"),
    edit("the template's hash", STATE, value("template_sha256", to="0" * 64), "template"),
    edit("the split of the run", STATE, value("split_key", to="0" * 64), "split"),
    edit("the proofs", STATE, value("proofs", "train", "rows", to=9), "run.json"),
    edit("the base", STATE, value("base", to="/somewhere/llama-70b"), "run.json"),
    edit("the time", STATE, value("seconds", "train", to=0.1)),
    edit("the machine", STATE, value("hardware", "gpus", to=["H200"]), "card"),
    edit("the versions", STATE, value("versions", "torch", to="9.9"), "card"),
    edit("a shorter tokenizer", "adapter/tokenizer.json", value("truncation", to={"max_length": 4}), "tokenizer"),
    edit("the pad token", "adapter/tokenizer_config.json", value("pad_token", to="</s>"), "tokenizer"),
    edit("a tokenizer less", "adapter/tokenizer_config.json", gone, "tokenizer"),
    edit("the template", "adapter/chat_template.jinja", lines(lambda held: [*held, "{# #}"]), "template"),
    edit("no stop tokens", STOPS, value("eos_token_id", to=[]), "stop tokens"),
    edit("another stop token", STOPS, value("eos_token_id", to=[5]), "stop tokens"),
    edit("an answer that is drawn", STOPS, value("do_sample", to=True), "stop tokens"),
    edit("the adapter's scale", CONFIG, value("lora_alpha", to=64), "adapter"),
    edit("the adapter's rank", CONFIG, value("r", to=8), "adapter"),
    edit("a module less", CONFIG, value("target_modules", to=lambda held: held[:-1]), "adapter"),
    edit("the scale of one module", CONFIG, value("alpha_pattern", to={"q_proj": 1}), "adapter"),
    edit("the adapter's base", CONFIG, value("base_model_name_or_path", to="meta/llama"), "adapter"),
    edit("a tensor of zeros", WEIGHTS, one_tensor("v_proj.lora_B.weight", 0), "adapter"),
    edit("a tensor less", WEIGHTS, tensors(last_gone), "adapter"),
    edit("scaled weights", WEIGHTS, one_tensor("o_proj.lora_A.weight", 1.01), "adapter"),
    edit("weights that are no numbers", WEIGHTS, one_tensor("o_proj.lora_A.weight", float("nan")), "adapter"),
    edit("weights of another step", WEIGHTS, of_another_checkpoint, "adapter"),
    edit("weights cut short", WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:5000]), "adapter"),  # type: ignore[arg-type, return-value]
    edit("weights beside the adapter's", "adapter/adapter_model.bin", written(b"\x80\x04pickle")),
    edit("another plot", "loss.png", written(b"\x89PNG another")),
    edit("a base figure that is no number", ANSWERS, pattern(r'"bits": [\d.]+', '"bits": NaN'), "predictions"),
    edit("a base figure without end", ANSWERS, pattern(r'"bits": [\d.]+', '"bits": 1e999'), "predictions"),
    edit("a base figure below nothing", ANSWERS, pattern(r'"bits": ', '"bits": -'), "predictions"),
    edit("a base figure in words", ANSWERS, line(0, bits="many"), "predictions"),
    edit("no base figure", ANSWERS, line(0, bits=None), "predictions"),
    edit("a worse base figure", ANSWERS, line(0, bits=lambda bits: bits * 3), "report"),
    edit("an easier reference", ANSWERS, line(-1, gold="the"), "predictions"),
    edit("another question", ANSWERS, line(-1, prompt="Is it?"), "predictions"),
    edit("another row", ANSWERS, line(-1, id="train:1"), "predictions"),
    edit("another group", ANSWERS, line(-1, group="one"), "predictions"),
    edit("another length", ANSWERS, line(-1, bytes=lambda size: size * 2), "predictions"),
    edit("another limit", ANSWERS, line(-1, limit=512), "predictions"),
    edit("another end", ANSWERS, line(-1, stopped=lambda stopped: not stopped, tokens=7), "report"),
    edit("another answer", ANSWERS, line(-1, prediction=lambda said: f"{said} rest"), "report"),
    edit("an answer less", ANSWERS, lines(lambda held: held[:-1]), "predictions"),
    edit("an answer twice", ANSWERS, lines(lambda held: [*held, held[-1]]), "predictions"),
    edit("a third model's answers", ANSWERS, lines(lambda held: [*held, held[-1].replace('"tuned"', '"best"')]), "predictions"),
    edit("a note in an answer", ANSWERS, line(-1, clinician="approved"), "predictions"),
    edit("a torn line behind the last", ANSWERS, lines(lambda held: [*held, '{"id": "x"']), "predictions"),
    edit("another case", CASES, line(0, gold=lambda gold: f"{gold}!"), "cases"),
    edit("another answer to a case", CASES, line(0, prediction="Right."), "report.md"),
    edit("a case less", CASES, lines(lambda held: held[1:]), "cases", "report"),
]  # fmt: skip

# --- and of a tagging run

LABELS = "adapter/tagging.json"
TAG = [
    edit("a better figure", REPORT, value("tuned", "span_f1", "value", to=0.9), "report", "figures in the card"),
    edit("a worse dictionary", REPORT, value("base", "span_f1", "value", to=0.0), "report", "figures in the card"),
    edit("more gold spans", REPORT, value("support", "Chemical", to=1200), "report"),
    edit("no confusion", REPORT, value("confusion", to={}), "report"),
    edit("other groups", REPORT, value("groups_are", to="documents"), "report"),
    edit("a figure of report.html", PAGE, pattern(r'(<b>)\d\.\d+', r"\g<1>0.999"), "report.html"),
    edit("a figure of report.md", PROSE, pattern(r"(F1 of spans, micro \| )\d\.\d+", r"\g<1>0.999"), "report.md"),
    edit("a sentence of the card", CARD, text("Not a medical device", "A medical device"), "card"),
    edit("more entities", DATA, value("entities", "train", "Chemical", to=9), "data.json"),
    edit("a lower loss", LOSS, pattern(r"^(80,[\d.]+,train,)[\d.]+", r"\g<1>0.9"), "training"),
    edit("another best step", STATS, value("best_step", to=lambda best: 70 if best == 80 else 80), "training"),
    edit("a better step", STATS, value("dev", 0, "f1", to=0.99), "training"),
    edit("more tokens", STATS, value("tokens", to=99999), "training"),
    edit("the learning rate", RECIPE, text("learning_rate = 0.003", "learning_rate = 0.03"), "recipe", "training"),
    edit("the labels", LABELS, value("labels", to=lambda held: held[::-1]), "labels"),
    edit("the attention", LABELS, value("attention", to="causal"), "labels"),
    edit("a shorter tokenizer", "adapter/tokenizer.json", value("truncation", to={"max_length": 4}), "tokenizer"),
    edit("the head of zeros", WEIGHTS, one_tensor("score.weight", 0), "adapter"),
    edit("weights of another step", WEIGHTS, of_another_checkpoint, "adapter"),
    edit("another finding", ANSWERS, line(-1, prediction="Chemical\t0\t0\tx"), "predictions"),
    edit("a finding less", ANSWERS, line(20, prediction="", probabilities=[]), "report"),
    edit("the dictionary's finding", ANSWERS, line(1, prediction=""), "predictions"),
    edit("another gold", ANSWERS, line(0, gold=""), "predictions"),
    edit("a likelier finding", ANSWERS, pattern(r'"probabilities": \[0\.\d+', '"probabilities": [7.0'), "predictions"),
    edit("a row less", ANSWERS, lines(lambda held: held[:-1]), "predictions"),
]  # fmt: skip


# --- what comes of them


@pytest.fixture(scope="module")
def chat(demo_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(demo_run[0], tmp_path_factory.mktemp("edited") / demo_run[0].name))


@pytest.fixture(scope="module")
def tagger(tag_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tag_run[0], tmp_path_factory.mktemp("edited") / tag_run[0].name))


def opened(run: Path, like: Evidence | None = None) -> Evidence:
    """A run's evidence without any model: its base is where the run found it, and what another worked out holds here."""
    e = Evidence(RunDir(run))
    base = Path(json.loads((run / "run.json").read_text())["base"])
    e.__dict__["base"] = Base(str(base), base)
    if like is not None:
        e.__dict__ |= {name: like.__dict__[name] for name in FROM_SOURCE if name in like.__dict__}
    return e


def verdicts(e: Evidence) -> dict[str, str]:
    return {claim.what: claim.verdict for claim in by_files(e)}


def unnoticed(run: Path, edits: list[Edit]) -> Iterator[str]:
    """The edits that no claim sees, as they are made and again with every hash mended."""
    pristine = opened(run)
    honest = verdicts(pristine)
    assert set(honest.values()) == {OK}, honest
    for one in edits:
        path, state = run / one.file, run / "run.json"
        before, sealed = path.read_bytes() if path.exists() else None, state.read_bytes()
        like = None if one.file in (RECIPE, DATA) else pristine
        one.change(path)
        try:
            if file_hashes.broken(RunDir(run)) == ([], []):
                yield f"{one.name}: its hash is the same"
            file_hashes.finish(RunDir(run))
            found = verdicts(opened(run, like))
            assert found["files"] == OK
            differs = {what for what, verdict in found.items() if verdict == DIFFERS}
            if not one.seen <= differs:
                yield f"{one.name}: {sorted(one.seen - differs)} do not differ with a mended hash, {sorted(differs)} do"
        finally:
            path.unlink(missing_ok=True)
            if before is not None:
                path.write_bytes(before)
            state.write_bytes(sealed)
    assert set(verdicts(opened(run, pristine)).values()) == {OK}


def test_no_edit_of_a_run_goes_unnoticed(chat: Path, record_property: Callable[[str, object], None]) -> None:
    assert list(unnoticed(chat, CHAT)) == []
    record_property("attacks", ("edited runs", len(CHAT)))


def test_no_edit_of_a_tagging_run_goes_unnoticed(tagger: Path, record_property: Callable[[str, object], None]) -> None:
    assert list(unnoticed(tagger, TAG)) == []
    record_property("attacks", ("edited runs", len(TAG)))


SPOILED = (b"", b"null", b"{}", b"\xff\xfe", b"[" * 5000, b'{"rows": {"train": NaN}}')


def test_a_file_that_is_anything_at_all_ends_in_a_verdict(
    chat: Path, tagger: Path, record_property: Callable[[str, object], None]
) -> None:
    count = 0
    for run, extra in ((chat, (CASES, STOPS, NEWEST)), (tagger, (LABELS,))):
        pristine = opened(run)
        assert set(verdicts(pristine).values()) == {OK}
        for file in (REPORT, PAGE, DATA, STATS, LOSS, ANSWERS, CONFIG, WEIGHTS, CARD, "adapter/tokenizer.json", *extra):
            before = (run / file).read_bytes()
            try:
                for content in SPOILED:
                    (run / file).write_bytes(content)
                    file_hashes.finish(RunDir(run))
                    like = None if file == DATA else pristine
                    assert DIFFERS in verdicts(opened(run, like)).values(), (file, content)
                    count += 1
            finally:
                (run / file).write_bytes(before)
                file_hashes.finish(RunDir(run))
    record_property("attacks", ("edited runs", count))


@pytest.mark.parametrize("file", [STATE, RECIPE, CONFIG])
def test_what_a_run_is_known_by_is_refused_in_a_line(file: str, chat: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(chat, tmp_path / chat.name))
    for content in (None, b"\x00", b"{", b"[]", b"\xff"):
        if content is None:
            (run / file).unlink()
        elif file != CONFIG:  # which is a claim's to look at
            (run / file).write_bytes(content)
        outcome = attack("verify", run, cwd=tmp_path)
        refused(outcome)
        assert outcome.err.count("\n") <= 2, outcome.err


# --- runs that cannot show everything


def test_a_run_without_hashes_is_verified_and_what_it_cannot_show_is_named(chat: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(chat, tmp_path / chat.name))
    without("seal")(run / STATE)
    without("identity")(run / STATE)
    found = verdicts(opened(run))
    assert {what: verdict for what, verdict in found.items() if verdict != OK} == {"files": UNKNOWN}
    text("learning_rate = 0.002", "learning_rate = 0.0002")(run / RECIPE)
    found = verdicts(opened(run))
    assert found["recipe"] == UNKNOWN  # keys may have been made otherwise then
    assert found["training"] == DIFFERS


def test_what_another_version_wrote_is_never_called_right(chat: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(chat, tmp_path / chat.name))
    value("seal", "code", to="0" * 64)(run / STATE)
    assert set(verdicts(opened(run)).values()) == {OK}  # word for word what this one writes
    text("Not a medical device", "A medical device")(run / CARD)
    text("# tiny_mistral: base", "# tiny_mistral; base")(run / PROSE)
    text("Not a medical device", "A medical device")(run / PAGE)
    value("intervals", to="95%")(run / REPORT)
    found = verdicts(opened(run))
    assert {what: verdict for what, verdict in found.items() if verdict != OK} == {
        "files": DIFFERS, "report": UNKNOWN, "report.md": UNKNOWN, "report.html": UNKNOWN, "card": UNKNOWN,
    }  # fmt: skip
    value("tuned", "rougeL", "value", to=0.9)(run / REPORT)
    assert verdicts(opened(run))["report"] == DIFFERS


def test_rows_that_another_version_split_otherwise_are_held_against_nothing(chat: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(chat, tmp_path / chat.name))
    value("split_key", to="0" * 64)(run / STATE)
    value("key", to="0" * 64)(run / DATA)
    value("split_key", to="0" * 64)(run / REPORT)
    file_hashes.finish(RunDir(run))
    assert verdicts(opened(run))["split"] == DIFFERS  # this very version would have made another
    value("seal", "code", to="0" * 64)(run / STATE)
    found = verdicts(opened(run))
    assert DIFFERS not in found.values()
    assert {found[what] for what in ("split", "data.json", "training", "predictions", "run.json")} == {UNKNOWN}


# --- edits that only the model can tell: whoever made them worked everything out again that follows, and has no checkpoints


def followed_up(run: Path, like: Evidence) -> None:
    """Report, report.md, report.html, card and hashes as they follow from the answers that there are now."""
    from medrecipes.core.files import read_json
    from medrecipes.evaluation import chat_report
    from medrecipes.evaluation.pages.run_page import write_page
    from medrecipes.release import cards

    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    e = opened(run, like)
    answers, report = e.predictions, e.made_report
    chat_report.write_report(e.own.name, run / "eval", report, answers["base"], answers["tuned"], e.cases)
    cards.model_card(e.own, e.rundir, report, read_json(run / DATA), read_json(run / STATS))
    write_page(e.own, e.rundir, run / "eval")
    file_hashes.finish(RunDir(run))


def every_line(model: str, **values: Any) -> Change:
    """Other values in every line of a model's answers."""

    def change(path: Path) -> None:
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        for row in rows:
            if row["model"] == model:
                row |= {key: new(row[key]) for key, new in values.items()}
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    return change


MODEL = [
    edit("weights of another step", WEIGHTS, of_another_checkpoint, "evaluation loss"),
    edit("one matrix three times as large", WEIGHTS, one_tensor("0.mlp.down_proj.lora_B.weight", 3), "evaluation loss"),
    edit("one matrix the other way", WEIGHTS, one_tensor("1.self_attn.o_proj.lora_B.weight", -1), "evaluation loss"),
    edit("a base that is worse by a tenth", ANSWERS, every_line("base", bits=lambda bits: bits * 1.1), "base figures"),
    edit("a tuned model that is better by a tenth", ANSWERS, every_line("tuned", bits=lambda bits: bits * 0.9), "evaluation loss"),
    edit("answers that are the references", ANSWERS, every_line("tuned", prediction=lambda _: "It is cured."), "answers"),
    edit("one answer of the base", ANSWERS, line(0, prediction="I am not a doctor."), "answers"),
    edit("an answer to a case", CASES, line(0, prediction="Right."), "answers"),
]  # fmt: skip


def test_what_follows_from_nothing_but_the_model_is_asked_of_it(
    chat: Path, tmp_path: Path, libraries: None, record_property: Callable[[str, object], None]
) -> None:
    pristine = opened(chat)
    by_file = verdicts(pristine)
    assert set(by_file.values()) == {OK}
    for one in MODEL:
        run = tmp_path / one.name.replace(" ", "-") / chat.name
        shutil.copytree(chat, run)
        one.change(run / one.file)
        followed_up(run, pristine)
        done = attack("verify", run, cwd=tmp_path)
        assert (done.code, done.said) == (1, []), (one.name, done)
        found = dict(re.findall(r"^(\w[\w. ]*?) {2,}(ok|differs|not checked)\b", done.out, re.M))
        assert found.keys() == by_file.keys() | {LOSS_AGAIN, BASE_AGAIN, ANSWERS_AGAIN}, (one.name, done.out)
        differs = {what for what, verdict in found.items() if verdict == DIFFERS}
        assert one.seen <= differs <= {LOSS_AGAIN, BASE_AGAIN, ANSWERS_AGAIN}, (one.name, done.out)
    record_property("attacks", ("edited runs", len(MODEL)))


def test_a_tagger_is_asked_again(
    tagger: Path, tmp_path: Path, libraries: None, record_property: Callable[[str, object], None]
) -> None:
    run = Path(shutil.copytree(tagger, tmp_path / tagger.name))
    of_another_checkpoint(run / WEIGHTS)
    shutil.rmtree(run / "checkpoints")
    file_hashes.finish(RunDir(run))
    assert set(verdicts(opened(run)).values()) == {OK}
    done = attack("verify", run, cwd=tmp_path)
    assert (done.code, done.said) == (1, []), done
    assert re.search(r"^findings +differs  row \S+: is tagged otherwise", done.out, re.M)
    without("seal")(run / STATE)
    shutil.copy(tagger / WEIGHTS, run / WEIGHTS)
    for strict, code in (((), 0), (("--strict",), 1)):
        done = attack("verify", run, *strict, cwd=tmp_path)
        assert (done.code, done.said) == (code, []), done
        assert "\n15 ok, 0 differs, 1 not checked (files)\n" in done.out
    record_property("attacks", ("edited runs", 2))
