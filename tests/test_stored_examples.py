"""Rows rendered to disk are those rendered to memory: their ids, proofs, packs, mixtures, and what training makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Conversation
from medrecipes.data.row_files import OnDisk
from medrecipes.data.split import prepare
from medrecipes.evaluation.answers import count_tokens, held_out
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.rendering import overflow, proofs
from medrecipes.rendering.chat_template import Example, generation_config
from medrecipes.rendering.mixing import mix
from medrecipes.rendering.overflow import Fitted, fit_parts
from medrecipes.rendering.packing import Pack, learn_all, pack, stretches_of, tokens_of
from medrecipes.rendering.stored_examples import Shard, StoredExamples, View, Writer, lengths_of, supervised_of
from medrecipes.runs.folder import read_losses
from tests.conftest import ROOT
from tests.conftest import Train as Trains
from tests.test_templates import bound

TEMPLATE = bound("mistral-v3")
PARTS = ("train", "dev", "held out")
Both = tuple[dict[str, Fitted], dict[str, Fitted]]


@pytest.fixture(params=["drop", "shorten_answer"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """The sample of MedQuAD rendered in memory and on disk, in shards of fifty rows, of which some are too long."""
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    data = Data(path=ROOT / "data" / "medquad", max_tokens=60, on_overflow=request.param)
    whole = fit_parts(TEMPLATE, prepare(Recipe(data=data)).parts(), data)
    monkeypatch.setattr("medrecipes.data.split.LARGE", 1)
    monkeypatch.setattr(overflow, "SHARD", 50)
    monkeypatch.setattr(overflow, "BATCH", 20)
    split = prepare(Recipe(data=data))
    assert isinstance(split.train, OnDisk)
    found = fit_parts(TEMPLATE, split.parts(), data, split.stage_key)
    assert isinstance(found["train"].examples, StoredExamples)
    return whole, found


def told(packs: Sequence[Pack]) -> list[Any]:
    return [(p.rows, p.input_ids, p.labels, p.lengths, p.stretch) for p in packs]


def test_what_is_on_disk_is_what_was_in_memory(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, found = both
    monkeypatch.setattr(proofs, "AT_ONCE", 30)
    for part in PARTS:
        one, other = whole[part], found[part]
        assert list(other.examples) == one.examples
        assert list(other.conversations) == one.conversations
        assert (other.counts, other.dropped, other.over, other.rows) == (one.counts, one.dropped, one.over, one.rows)
        assert count_tokens(other.conversations, other.examples) == count_tokens(one.conversations, one.examples)
        stops = generation_config(TEMPLATE)["eos_token_id"]
        proof = proofs.prove(TEMPLATE, other.conversations, other.examples, stops)
        assert proof == proofs.prove(TEMPLATE, one.conversations, one.examples, stops)
        assert proof.rows == len(one.examples) > 10
    assert held_out(Recipe(), found["held out"]) == held_out(Recipe(), whole["held out"])
    one, other = whole["train"].examples, found["train"].examples
    assert (other[-1], other[3:60]) == (one[-1], one[3:60])
    for packing in (True, False):
        for order in ("shuffled", "short_first"):
            packs, stored = (pack(rows, 60, packing=packing, order=order) for rows in (one, other))  # type: ignore[arg-type]
            assert not isinstance(stored, list)
            assert told(stored) == told(packs)
            assert (tokens_of(stored), list(stretches_of(stored))) == (tokens_of(packs), stretches_of(packs))
    assert list(learn_all(other)) == learn_all(one)
    assert supervised_of(learn_all(other)).tolist() == lengths_of(one).tolist()


def test_a_kept_rendering_is_used_again_and_one_that_is_damaged_is_made_anew(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = both
    data = Data(path=ROOT / "data" / "medquad", max_tokens=60, on_overflow="drop")
    rendered: list[int] = []

    def fit(template: Any, rows: Sequence[Conversation], *more: Any) -> Fitted:
        rendered.append(len(rows))
        return before(template, rows, *more)

    before = overflow.fit
    monkeypatch.setattr(overflow, "fit", fit)
    split = prepare(Recipe(data=data))
    fit_parts(TEMPLATE, split.parts(), data, split.stage_key)
    rendered.clear()
    found = fit_parts(TEMPLATE, split.parts(), data, split.stage_key)
    assert rendered == []
    for root in (tmp_path / "store").glob("tokens-*"):  # one shard of each part
        ids = max(root.glob("tokens-*/ids"), key=lambda path: path.stat().st_size)
        ids.write_bytes(ids.read_bytes()[:-4])
    found = fit_parts(TEMPLATE, split.parts(), data, split.stage_key)
    assert len(split.rows) > sum(rendered) > 50
    assert whole["dev"].rows == found["dev"].rows
    rendered.clear()
    other = data.model_copy(update={"max_tokens": 61})
    fit_parts(TEMPLATE, split.parts(), other, split.stage_key)
    assert sum(rendered) == len(split.rows)


def test_answers_that_were_altered_on_disk_fail_the_proofs(both: Both, tmp_path: Path) -> None:
    _, found = both
    ids = sorted((tmp_path / "store").glob("tokens-*/tokens-*/ids"))
    for path in ids:
        numbers = np.fromfile(path, np.int32)
        numbers[-1] += 1  # the stop token of its last row
        numbers.tofile(path)
    fitted, stops = found["train"], generation_config(TEMPLATE)["eos_token_id"]
    with pytest.raises(TemplateError, match=r"an answer.s stop token is masked"):
        proofs.prove(TEMPLATE, fitted.conversations, fitted.examples, stops)


def test_a_mixture_of_rows_on_disk_is_that_of_rows_in_memory(tmp_path: Path) -> None:
    rows = [
        Example(f"{'medquad' if i % 5 else 'wikidoc'}/{i}", "g", [i] * (i % 7 + 1), [i] * (i % 7 + 1))
        for i in range(60)
    ]
    stored = written(tmp_path, rows)
    entries = [{"source": "medquad", "weight": 1.0}, {"source": "wikidoc", "weight": 2.0}]
    recipe = Recipe(data=Data.model_validate({"mix": entries, "mix_by": "tokens", "max_repeats": 3}))
    one, other = (mix(recipe, examples, ("medquad", "wikidoc")) for examples in (rows, stored))
    assert one.report == other.report
    assert isinstance(other.of(stored), View)
    assert list(other.of(stored)) == list(one.of(rows))


def written(folder: Path, rows: Sequence[Example]) -> StoredExamples:
    writer = Writer(folder)
    for row in rows:
        meta = dict(zip(("source", "collection", "task"), row.kind.split("/"), strict=False))
        writer.add(Conversation.of(row.id, row.group, "question", "answer", **meta), row)
    writer.close()
    return StoredExamples([Shard(folder)])


@pytest.mark.parametrize("packing", ["false", "true"])
def test_training_reads_from_disk_what_it_read_from_memory(
    train: Trains, rows: list[Example], packing: str, tmp_path: Path
) -> None:
    settings = ["train.max_steps=3", "train.batch=4", f"train.packing={packing}", "train.eval_rows=2", "train.eval_steps=3", "train.save_steps=3"]  # fmt: skip
    _, one, seen = train(*settings, examples=rows, dev=rows[:6])
    folders = [tmp_path / name for name in ("train", "dev")]
    for folder in folders:
        folder.mkdir()
    stored, dev = written(folders[0], rows), written(folders[1], rows[:6])
    _, other, seen_stored = train(*settings, examples=stored, dev=dev)
    assert [batch["input_ids"] for batch in seen_stored] == [batch["input_ids"] for batch in seen]
    losses = [
        [(row["step"], row["split"], row["loss"]) for row in read_losses(run.path / "loss.csv")] for run in (one, other)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 3
