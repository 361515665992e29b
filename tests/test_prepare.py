"""From rows to a split: cleaned, without repeats, by group, the same every time, every drop counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.cleaning import clean, plain, tidy
from medrecipes.data.grouping import sample, shares
from medrecipes.data.leakage import headline, leaks, table
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Ledger, open_source
from medrecipes.data.split import Split, prepare
from medrecipes.recipe.schema import Columns, Data, Mix, Recipe, SplitRatios
from tests.conftest import ROOT

DATA = ROOT / "data"
HALVES = SplitRatios(train=0.5, dev=0.25, test=0.25)


def split(**data: Any) -> Split:
    seed = data.pop("seed", 42)
    data.setdefault("split", HALVES)
    return prepare(Recipe(seed=seed, data=Data(**data)))


def own(folder: Path, rows: list[dict[str, str]], **data: Any) -> Split:
    """The split of rows written as own data; `document` names what a row was taken from."""
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps({"document": "", "split": "", **row}) + "\n" for row in rows))
    columns = Columns(question="q", answer="a", document="document", split="split")
    return split(source="jsonl", path=path, columns=columns, **data)


def rows_of(count: int, per_document: int = 1) -> list[dict[str, str]]:
    return [
        {"q": f"What is thing {n}?", "a": f"Thing {n} is number {n}.", "document": f"leaflet {n // per_document}"}
        for n in range(count)
    ]


def part_of(made: Split) -> dict[str, str]:
    parts = {"train": made.train, "dev": made.dev, "test": made.test}
    return {row.question: name for name, rows in parts.items() for row in rows}


# cleaning


@pytest.mark.parametrize(
    ("text", "clean_text"),
    [
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("cafe\u0301 \u00a0 5\u202fmg", "café 5 mg"),
        ("a\u200bb\u00adc\ufeff\x00\x07\ud800\ue000", "abc"),
        ("  one   two\t three  \n   four \n\n\n\n five ", "one two three\nfour\n\nfive"),
        ("नमस्\u200dते", "नमस्\u200dते"),  # a joiner that the script needs
        ("50 µg, ≥ 3 °C", "50 µg, ≥ 3 °C"),
        (
            "x" + "\u0323\u0301" * 50 + "!" + "…" * 40,
            "x" + "\u0323" * 15 + "\u0301" * 15 + "!" + "…" * 40,
        ),  # accents without end
    ],
)
def test_text_is_normalised(text: str, clean_text: str) -> None:
    assert tidy(text) == clean_text
    assert tidy(clean_text) == clean_text


def test_a_layout_that_means_something_is_kept() -> None:
    assert tidy("dose:\r\n    morning  5 mg\n", keeps_layout=True) == "dose:\n    morning  5 mg"


def test_texts_are_compared_without_case_and_punctuation() -> None:
    assert plain("What is (are)  Ménière's Disease ?") == "what is are ménière s disease".encode()
    assert plain("Is it 1.5 mg?") == b"is it 1 5 mg" != plain("Is it 15 mg?")
    assert plain("Straße ²") == b"strasse 2"
    assert plain("- ?!") == b""


@pytest.mark.parametrize(
    ("source", "question", "answer", "reason"),
    [
        ("medquad", "What is (are)  ?", "An infection.", "question without content"),
        ("medquad", "What is Gout ?", " - \n", "empty answer"),
        ("medquad", "What is Gout ?", "Topics", "boilerplate"),
        ("medquad", "Is Gout inherited ?", "Is gout inherited?", "boilerplate"),
        (
            "wikidoc",
            "Could you provide me with the text that needs to be rephrased?",
            "Rest.",
            "language-model failure",
        ),
        ("wikidoc", "Could you provide more context?", "Rest.", "language-model failure"),
        ("synthetic_qa", "What is gout?", "I'm sorry, but I cannot help.", "language-model failure"),
        ("wikidoc", "Can you provide me with information regarding statins?", "They lower cholesterol.", None),
        ("medquad", "What is Gout ?", "It hurts. Is it rare?", None),
        ("healthcaremagic", "help", "Rest.", None),
    ],
)
def test_what_teaches_nothing_is_dropped_with_its_reason(
    source: str, question: str, answer: str, reason: str | None
) -> None:
    ledger = Ledger()
    kept = clean(Conversation.of("7", "", question, answer), open_source(source), ledger)
    assert (kept is None) == (reason is not None)
    assert dict(ledger.dropped) == ({reason: 1} if reason else {})


# repeats


def test_exact_and_near_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    long = "The joint is red, hot and swollen, and the pain is worst at night and in the first morning hours of the day"
    rows = [
        *rows_of(40),
        {"q": "What does gout look like?", "a": long},
        {"q": "what does GOUT look like", "a": f"{long}."},  # exact, but for case and punctuation
        {"q": "How does gout look?", "a": long},  # a repeated answer
        {"q": "Gout, how does it look?", "a": f"{long} indeed"},  # 20 of 21 triples
        {"q": "And now?", "a": long.replace("first morning", "early evening")},  # 16 of 24 triples
    ]
    made = own(tmp_path, rows, near_duplicate=0.9)
    assert made.report["dropped"] == {"exact duplicate": 1, "repeated answer": 1, "near-duplicate answer": 1}
    assert made.report["examples"]["near-duplicate answer"] == ["own:44"]
    assert sum(made.report["rows"].values()) == 42
    kept = own(tmp_path, rows)
    assert kept.report["dropped"] == {"exact duplicate": 1}
    looser = own(tmp_path, rows, near_duplicate=0.6)
    assert looser.report["dropped"]["near-duplicate answer"] == 2


def test_one_or_all_answers_to_a_question(tmp_path: Path) -> None:
    rows = [*rows_of(40), {"q": "What is thing 7?", "a": "Quite another matter.", "document": "leaflet 99"}]
    assert own(tmp_path, rows, answers="one").report["dropped"] == {"another answer to the same question": 1}
    both = own(tmp_path, rows, answers="all")
    assert both.report["dropped"] == {}
    assert [part_of(both)[f"What is thing {n}?"] for n in (7,)] == [part_of(both)["What is thing 7?"]]


def test_every_row_seen_is_kept_or_dropped_for_a_reason() -> None:
    for source, path in (("medquad", "medquad_awkward"), ("wikidoc", "wikidoc.json"), ("healthcaremagic", "healthcaremagic.json")):  # fmt: skip
        made = split(source=source, path=DATA / path, near_duplicate=0.9)
        report = made.report
        assert report["seen"] == sum(report["rows"].values()) + sum(report["dropped"].values())
        assert report["rows"] == {"train": len(made.train), "dev": len(made.dev), "test": len(made.test)}
        assert all(1 <= len(report["examples"][reason]) <= 5 for reason in report["dropped"])


# groups and splits


def test_rows_are_bound_by_any_chain_of_what_they_share(tmp_path: Path) -> None:
    rows = rows_of(60)
    rows[0]["document"] = rows[1]["document"] = "one leaflet"
    rows[2]["q"] = rows[1]["q"]
    rows[3]["a"] = rows[2]["a"].upper()
    made = own(tmp_path, rows)
    groups = {row.id: row.group for part in (made.train, made.dev, made.test) for row in part}
    assert len({groups[f"own:{n}"] for n in (1, 2, 3, 4)}) == 1
    assert len(set(groups.values())) == 57
    groups = made.report["groups"]
    assert (groups["count"], groups["largest"], groups["merged"], groups["large"]) == (
        57,
        4,
        {"groups": 1, "rows": 4},
        [],
    )
    assert sum(groups["in"].values()) == 57


def test_the_order_of_rows_decides_nothing_and_more_of_them_move_few(tmp_path: Path) -> None:
    rows = rows_of(126, per_document=2)
    few = part_of(own(tmp_path, rows[:120]))
    assert part_of(own(tmp_path, rows[119::-1])) == few
    more = part_of(own(tmp_path, rows))
    assert sum(more[question] != part for question, part in few.items()) <= 12
    other = part_of(own(tmp_path, rows[:120], seed=43))
    assert sum(other[question] != part for question, part in few.items()) > 30


def test_documents_that_a_row_chains_lie_in_one_part_and_little_else_moves(tmp_path: Path) -> None:
    rows = rows_of(120, per_document=2)
    before = part_of(own(tmp_path, rows))
    dev, test = ([n for n in range(120) if before[rows[n]["q"]] == name] for name in ("dev", "test"))
    bridge = {"q": rows[dev[0]]["q"], "a": rows[test[0]]["a"], "document": rows[dev[0]]["document"]}
    after = own(tmp_path, [*rows, bridge])
    parts = part_of(after)
    assert len({parts[rows[n]["q"]] for n in (dev[0], dev[0] ^ 1, test[0], test[0] ^ 1)}) == 1
    assert sum(parts[question] != part for question, part in before.items()) <= 12
    assert after.report["groups"]["merged"] == {"groups": 1, "rows": 5}


def test_a_group_that_is_larger_than_a_part_goes_to_train_and_says_what_binds_it(tmp_path: Path) -> None:
    rows = rows_of(400)
    for row in rows[:60]:
        row["a"] = "It is inherited in an autosomal recessive pattern."
    made = own(tmp_path, rows, split=SplitRatios())
    groups = made.report["groups"]
    assert (groups["large"], groups["bound_by"], groups["in"]) == (
        [60],
        {"answer": 60},
        {"train": 261, "dev": 40, "test": 40},
    )
    assert {part_of(made)[row["q"]] for row in rows[:60]} == {"train"}
    dropped = own(tmp_path, rows, split=SplitRatios(), near_duplicate=0.9)
    assert (dropped.report["groups"]["large"], dropped.report["groups"]["bound_by"]) == ([], {})
    assert dropped.report["dropped"]["repeated answer"] == 59


def test_splits_of_two_parts(tmp_path: Path) -> None:
    rows = rows_of(200)
    made = own(tmp_path, rows, split=SplitRatios(train=0.8, dev=0.2, test=0.0))
    assert (made.report["rows"]["test"], made.held_out_name, made.held_out) == (0, "dev", made.dev)
    assert len(made.dev) == 40
    made = own(tmp_path, rows, split=SplitRatios(train=0.9, dev=0.0, test=0.1))
    assert (made.dev, made.held_out_name, made.held_out) == ((), "test", made.test)


def test_a_split_that_stays_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.split.\w+ = 0.25 leaves no rows there: 4 rows are 1 groups; use more"):
        own(tmp_path, rows_of(4, per_document=4))


def test_an_official_test_set_stays_test_and_nothing_of_it_is_trained_on(tmp_path: Path) -> None:
    rows = rows_of(100, per_document=2)
    for row in rows[:10]:
        row["split"] = "test"
    rows += [
        {"q": "New?", "a": rows[0]["a"], "document": "leaflet 70"},
        {"q": rows[2]["q"], "a": "Something else.", "document": "leaflet 71"},
        {"q": "Third?", "a": "Third.", "document": rows[4]["document"]},
    ]
    made = own(tmp_path, rows, split=SplitRatios(train=0.8, dev=0.2, test=0.0))
    assert [row.id for row in made.test] == [f"own:{n}" for n in range(1, 11)]
    assert made.report["dropped"] == {
        "shares its document with the official test set": 1,
        "shares its question with the official test set": 1,
        "shares its answer with the official test set": 1,
    }
    assert made.held_out_name == "test"


def test_the_same_key_for_the_same_split_and_no_second_reading(tmp_path: Path) -> None:
    shutil.copy(DATA / "medquad.csv", tmp_path / "copy.csv")
    heard: list[str] = []
    recipe = Recipe(data=Data(path=tmp_path / "copy.csv", split=HALVES))
    first = prepare(recipe, heard.append)
    assert heard == ["read and clean", "repeats and limits", "group and split", "leakage", "write", "load"]
    heard.clear()
    again = prepare(recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_tokens": 99})}), heard.append)
    assert heard == ["load"]
    assert again == first
    assert split(path=DATA / "medquad.csv", seed=1).key != first.key
    (tmp_path / "copy.csv").write_text((tmp_path / "copy.csv").read_text().replace("Breast cancer", "Breast Cancer", 1))
    assert prepare(recipe).key != first.key


def test_a_fresh_split_is_made_from_the_source_whatever_the_store_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    recipe = Recipe(data=Data(path=DATA / "medquad.csv", split=HALVES))
    honest = prepare(recipe)
    [stored] = (tmp_path / "store").iterdir()
    before = {path: path.read_bytes() for path in stored.iterdir()}
    text = (stored / "rows.jsonl").read_text()
    (stored / "rows.jsonl").write_text(text.replace("cancer", "cancre"))
    assert "cancre" in text.replace("cancer", "cancre")
    assert prepare(recipe, fresh=True) == honest
    assert [path.name for path in (tmp_path / "store").iterdir()] == [stored.name]
    assert (stored / "rows.jsonl").read_bytes() != before[stored / "rows.jsonl"]


def test_the_demo_has_a_sane_split() -> None:
    made = split(path=DATA / "medquad")
    assert (made.report["seen"], made.report["dropped"], made.report["groups"]["count"]) == (327, {}, 64)
    assert min(len(made.train), len(made.dev), len(made.test)) > 30
    [row] = [row for row in made.train + made.dev + made.test if row.id == "1_CancerGov_QA/0000001#1"]
    assert row.meta == {
        "qtype": "information", "collection": "CancerGov", "focus": "Breast Cancer", "source": "medquad",
        "document": "medquad/1_CancerGov_QA/0000001",
    }  # fmt: skip


def test_preparing_loads_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from medrecipes.recipe.schema import Data, Recipe\n"
        "from medrecipes.data.split import prepare; prepare(Recipe(data=Data(path=Path('data/medquad'), near_duplicate=0.8)))\n"
        "sys.exit(' '.join(m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# samples and mixtures


def test_a_sample_is_even_over_collections_and_question_types() -> None:
    made = split(path=DATA / "medquad", limit=90, near_duplicate=0.9)
    rows = [*made.train, *made.dev, *made.test]
    assert len(rows) == 90
    assert Counter(row.meta["collection"] for row in rows) == dict.fromkeys(
        ("CancerGov", "GARD", "GHR", "MPlusHealthTopics", "NIDDK", "NINDS", "NIHSeniorHealth", "NHLBI", "CDC"), 10
    )
    types = Counter(row.meta["qtype"] for row in rows if row.meta["collection"] == "CancerGov")
    assert max(types.values()) <= 2 or len(types) < 5
    assert made.report["dropped"]["over data.limit"] == 327 - 90


def test_a_larger_sample_holds_the_smaller_one() -> None:
    levels = [["a", "b", "b", "b", "b", "b", "c", "c"]]
    ranks = [bytes([n * 37 % 251]) for n in range(8)]
    small, large = (set(sample(range(8), count, levels, ranks)) for count in (4, 6))
    assert small < large
    assert Counter(levels[0][row] for row in small) == {"a": 1, "b": 2, "c": 1}
    assert Counter(levels[0][row] for row in large) == {"a": 1, "b": 3, "c": 2}


def test_shares_of_a_mixture_never_repeat_a_row() -> None:
    assert shares([1000, 50], [1, 1], None) == [50, 50]
    assert shares([1000, 50], [4, 1], None) == [200, 50]
    assert shares([1000, 50], [4, 1], 100) == [80, 20]


def test_a_mixture_keeps_its_weights_and_limits() -> None:
    def counts(*mix: Mix, **data: Any) -> dict[str, int]:
        made = split(mix=mix, split=SplitRatios(train=0.8, dev=0.2, test=0.0), **data)
        return dict(Counter(row.meta["source"] for part in (made.train, made.dev) for row in part))

    medquad, wikidoc = (DATA / "medquad", DATA / "wikidoc.json")
    assert counts(Mix(source="medquad", path=medquad), Mix(source="wikidoc", path=wikidoc)) == {"medquad": 327, "wikidoc": 35}  # fmt: skip
    assert counts(Mix(source="medquad", path=medquad, limit=50), Mix(source="wikidoc", path=wikidoc)) == {"medquad": 50, "wikidoc": 35}  # fmt: skip
    weighted = (Mix(source="medquad", path=medquad, weight=3.0), Mix(source="wikidoc", path=wikidoc, weight=1.0))
    assert counts(*weighted) == {"medquad": 105, "wikidoc": 35}
    assert counts(*weighted, limit=40) == {"medquad": 30, "wikidoc": 10}


def test_two_datasets_that_share_rows_are_bound() -> None:
    made = split(mix=(Mix(source="medquad", path=DATA / "medquad"), Mix(source="medquad", path=DATA / "medquad.csv")))
    assert made.report["dropped"] == {"exact duplicate": 327}
    assert {row.id.partition("/")[0] for row in made.train} == {"medquad-1"}
    assert [source["kept"] for source in made.report["sources"]] == [327, 0]


def test_a_folder_for_a_mixture_is_looked_through_by_name(tmp_path: Path) -> None:
    entries = (Mix(source="medquad"), Mix(source="wikidoc"))
    assert split(mix=entries, path=DATA).report["sources"][1]["file"] == "wikidoc.json"
    shutil.copy(DATA / "wikidoc.json", tmp_path)
    with pytest.raises(DataError, match="holds nothing by the name medquad; put the source's file or folder there"):
        split(mix=entries, path=tmp_path)


def test_leaks_are_counted_row_by_row() -> None:
    codes = {"question": np.array([0, 0, 1, -1, -1]), "near_duplicate": np.array([0, 1, 2, 3, 4])}
    part = np.array([0, 2, 2, 2, 2])  # the first row is train, the others test
    pairs = np.array([[0, 2], [1, 2], [2, 3]])  # the third row is near the first and the second, the fourth the third
    assert leaks(codes, pairs, part)["test"] == {
        "rows": 4, "document": None, "article": None, "question": 1, "answer": None, "near_duplicate": 1, "any": 2,
    }  # fmt: skip


def test_the_headline_says_what_a_naive_split_would_leak() -> None:
    def report(naive: dict[str, int], ours: dict[str, int]) -> dict[str, dict[str, dict[str, int]]]:
        return {"by_row": {"dev": naive, "test": naive}, "grouped": {"dev": ours, "test": ours}}

    clean = {"rows": 50, "document": 0, "any": 0}
    assert headline(report({"rows": 1051, "document": 30, "question": 40, "any": 1049}, clean)) == (
        "a naive random split would leak 1,049 of 1,051 test rows; this split leaks none"
    )
    # a report of an earlier version says of each relation alone how many share it
    assert headline(report({"rows": 51, "document": 30, "question": 40}, clean)).startswith(
        "a naive random split would leak 40 of 51"
    )
    assert (
        headline(report(clean, clean))
        == "a naive random split would leak none of 50 test rows, and this split leaks none"
    )
    assert headline(report(clean, {**clean, "any": 2})).endswith("of 50 test rows; this split leaks 2")
    assert headline({"by_row": {"dev": clean}, "grouped": {"dev": clean, "test": {"rows": 0}}}).count("dev rows") == 1
    assert headline({"by_row": {}, "grouped": {}}) == ""


def test_the_report_reads_well() -> None:
    made = split(path=DATA / "medquad", near_duplicate=0.9)
    lines = table(made.report["leakage"]).splitlines()
    assert lines[0].split() == [
        "rows",
        "shared",
        "with",
        "train",
        "rows",
        "document",
        "article",
        "question",
        "answer",
        "near-duplicate",
        "(>=",
        "0.9)",
    ]
    assert lines[2].split() == ["grouped", "(used):", "test", str(len(made.test)), "0", "-", "0", "0", "0"]
    assert lines[4].startswith("naive random split: test")
    assert int(lines[4].split()[5]) > 50  # documents
