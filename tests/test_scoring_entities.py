"""Lists of entities and relations: what is read from an answer, and counts worked out by hand."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from medrecipes.scoring.entities import Counts, article, count, normalise, parse

TEXT = "Aspirin and ibuprofen eased the headache; cisplatin caused renal failure and nausea."
PAIR = "Chemical cisplatin influences disease renal failure"

# task, answer, items, lines that are none
PARSED = [
    ("chemicals", "- aspirin\n- ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "* aspirin\n* ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "• aspirin\n– ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "1. aspirin\n2) ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "1,2-dimethylhydrazine\n5-HT", ["1,2-dimethylhydrazine", "5-ht"], 0),
    ("chemicals", "- 5-HT\n-aspirin", ["5-ht", "aspirin"], 0),
    ("chemicals", "aspirin\nibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "aspirin, ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "- aspirin, ibuprofen", ["aspirin, ibuprofen"], 0),
    ("chemicals", "Here are the chemicals:\n- aspirin", ["aspirin"], 0),
    ("chemicals", "- **Aspirin**\n- `ibuprofen`.", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "- aspirin\n- Aspirin", ["aspirin", "aspirin"], 0),
    ("chemicals", "  - aspirin  \r\n\r\n- ibuprofen", ["aspirin", "ibuprofen"], 0),
    ("chemicals", "", [], 0),
    ("chemicals", "- ", [], 0),
    ("chemicals", "- none", [], 0),
    ("chemicals", "None.", [], 0),
    ("chemicals", "No chemicals are mentioned.", [], 0),
    ("chemicals", "- No chemicals", [], 0),
    ("chemicals", "NA", ["na"], 0),
    ("chemicals", "The article mentions no such thing, I am afraid.", [], 1),
    ("chemicals", "- aspirin\nThis is all that the article contains.", ["aspirin"], 1),
    ("diseases", "carcinoma of the breast", ["carcinoma of the breast"], 0),
    ("diseases", "- " + "very " * 20 + "long disease", [" ".join(["very"] * 20 + ["long", "disease"])], 0),
    ("diseases", "very " * 20 + "long disease", [], 1),
    ("relations", f"- {PAIR}", [("cisplatin", "renal failure")], 0),
    ("relations", "- cisplatin | renal failure", [("cisplatin", "renal failure")], 0),
    ("relations", "- cisplatin|renal failure", [("cisplatin", "renal failure")], 0),
    ("relations", "cisplatin -> renal failure", [("cisplatin", "renal failure")], 0),
    ("relations", "- Cisplatin influences renal failure", [("cisplatin", "renal failure")], 0),
    ("relations", "- Chemical: Cisplatin | Disease: Renal Failure", [("cisplatin", "renal failure")], 0),
    ("relations", "- chemical warfare agents | cough", [("chemical warfare agents", "cough")], 0),
    ("relations", "- disease progression influences cough", [("disease progression", "cough")], 0),
    ("relations", "- cisplatin", [], 1),
    ("relations", "- cisplatin |", [], 1),
    ("relations", "No influences were found", [], 0),
    ("relations", f"- {PAIR}\n- cisplatin harms kidneys", [("cisplatin", "renal failure")], 1),
]


@pytest.mark.parametrize(("task", "answer", "items", "failures"), PARSED)
def test_an_answer_is_read(task: str, answer: str, items: list[str | tuple[str, str]], failures: int) -> None:
    found = parse(task, answer)
    assert list(found.items) == [item if isinstance(item, tuple) else (item,) for item in items]
    assert len(found.failures) == failures


NORMALISED = [
    (" Aspirin. ", "aspirin"),
    ("β–Carotene", "β-carotene"),
    ("Ca²⁺", "ca2+"),
    ("interleukin\t 2", "interleukin 2"),
    ("“NSAIDs”", "nsaids"),
    ("(-)-epicatechin", "(-)-epicatechin"),
    ("µ-opioid", "μ-opioid"),
    ("STRASSE", "strasse"),
    ("**", ""),
]


@pytest.mark.parametrize(("text", "normal"), NORMALISED)
def test_a_name_is_normalised(text: str, normal: str) -> None:
    assert normalise(text) == normal


# task, gold, prediction, (tp, predicted, gold, parse failures, hallucinated, duplicates, reachable)
COUNTED = [
    ("chemicals", "- aspirin\n- ibuprofen", "- aspirin\n- ibuprofen", (2, 2, 2, 0, 0, 0, 2)),
    ("chemicals", "- aspirin\n- ibuprofen", "- aspirin", (1, 1, 2, 0, 0, 0, 2)),
    ("chemicals", "- aspirin", "- aspirin\n- cisplatin", (1, 2, 1, 0, 0, 0, 1)),
    ("chemicals", "- aspirin", "- paracetamol", (0, 1, 1, 0, 1, 0, 1)),
    ("chemicals", "- aspirin\n- Aspirin", "- ASPIRIN", (1, 1, 1, 0, 0, 0, 1)),
    ("chemicals", "- aspirin", "- aspirin\n- aspirin\n- Aspirin", (1, 1, 1, 0, 0, 2, 1)),
    ("chemicals", "- aspirin", "- aspirin tablets", (0, 1, 1, 0, 1, 0, 1)),
    ("chemicals", "- aspirin", "", (0, 0, 1, 0, 0, 0, 1)),
    ("chemicals", "- ", "", (0, 0, 0, 0, 0, 0, 0)),
    ("chemicals", "- none", "- none", (0, 0, 0, 0, 0, 0, 0)),
    ("chemicals", "", "- aspirin", (0, 1, 0, 0, 0, 0, 0)),
    ("chemicals", "- warfarin\n- aspirin", "- aspirin", (1, 1, 2, 0, 0, 0, 1)),
    ("chemicals", "- aspirin", "I am sorry, I cannot do that.", (0, 1, 1, 1, 0, 0, 1)),
    ("diseases", "- headache\n- nausea", "1. Nausea\n2. Headache", (2, 2, 2, 0, 0, 0, 2)),
    ("relations", f"- {PAIR}", "- cisplatin | renal failure", (1, 1, 1, 0, 0, 0, 1)),
    ("relations", "- cisplatin | renal failure", f"- {PAIR}", (1, 1, 1, 0, 0, 0, 1)),
    ("relations", f"- {PAIR}", "- renal failure | cisplatin", (0, 1, 1, 0, 0, 0, 1)),
    ("relations", f"- {PAIR}", "- cisplatin | deafness", (0, 1, 1, 0, 1, 0, 1)),
    ("relations", f"- {PAIR}", f"- {PAIR}\n- and so on", (1, 2, 1, 1, 0, 0, 1)),
    ("relations", "- cisplatin | deafness", "", (0, 0, 1, 0, 0, 0, 0)),
    ("relations", f"- {PAIR}", "- and so on\n- And so on\n- etc", (0, 2, 1, 3, 0, 0, 1)),
]


@pytest.mark.parametrize(("task", "gold", "prediction", "wanted"), COUNTED)
def test_counts_by_hand(task: str, gold: str, prediction: str, wanted: tuple[int, ...]) -> None:
    assert count(task, TEXT, gold, prediction) == Counts(*wanted)


def test_there_are_sixty_cases_and_more() -> None:
    assert len(PARSED) + len(NORMALISED) + len(COUNTED) >= 60


def test_nothing_to_list_and_nothing_listed_is_a_true_negative_and_exact() -> None:
    found = count("chemicals", TEXT, "- ", "- none")
    assert (found.true_negative, found.exact) == (True, True)
    assert not count("chemicals", TEXT, "- ", "- aspirin").true_negative


def test_the_filter_takes_from_the_prediction_and_never_from_gold() -> None:
    raw = count("chemicals", TEXT, "- warfarin\n- aspirin", "- aspirin\n- paracetamol\n- warfarin")
    filtered = count("chemicals", TEXT, "- warfarin\n- aspirin", "- aspirin\n- paracetamol\n- warfarin", in_text=True)
    assert (raw.tp, raw.predicted, raw.gold) == (2, 3, 2)
    assert (filtered.tp, filtered.predicted, filtered.gold) == (1, 1, 2)


def test_the_words_of_the_instruction_are_not_the_text() -> None:
    prompt = (
        "The following article contains technical terms including diseases, drugs and chemicals. Create a list only of "
        "the chemicals mentioned.\n\nAspirin helps.\n\nIt is cheap.\n\nList of extracted chemicals:\n"
    )
    assert article(prompt) == "Aspirin helps.\n\nIt is cheap."
    assert count("chemicals", prompt, "- aspirin", "- drugs").hallucinated == 1


def test_counts_equal_an_independent_count_over_2000_random_cases() -> None:
    rng = random.Random(0)
    names = ["aspirin", "Beta-carotene", "5-HT", "L-dopa", "Na", "tumour of the lung", "AIDS", "heart  failure", "rash"]
    dialects = [lambda a, b: f"- Chemical {a} influences disease {b}", lambda a, b: f"- {a} | {b}"]
    for _ in range(2000):
        task = rng.choice(["chemicals", "diseases", "relations"])

        def draw(task: str = task) -> tuple[list[str], set[object]]:
            lines, items = [], set()
            for _ in range(rng.randrange(7)):
                a, b = rng.choice(names), rng.choice(names)
                shown = [rng.choice([str.upper, str.lower, str.title])(name) for name in (a, b)]
                same = [" ".join(name.lower().split()) for name in (a, b)]
                if task == "relations":
                    lines.append(rng.choice(dialects)(*shown))
                    items.add(tuple(same))
                else:
                    lines.append(f"- {shown[0]}")
                    items.add(same[0])
            return lines, items

        (gold_lines, gold), (lines, given) = draw(), draw()
        present = [name for name in names if rng.random() < 0.6]
        text = {" ".join(name.lower().split()) for name in present}
        found = count(task, " ; ".join(present), "\n".join(gold_lines), "\n".join(lines))

        def known(item: object, text: set[str] = text) -> bool:
            parts = item if isinstance(item, tuple) else (item,)
            return all(any(part in name for name in text) for part in parts)

        assert (found.tp, found.predicted, found.gold) == (len(gold & given), len(given), len(gold))
        assert found.duplicates == len(lines) - len(given)
        assert found.hallucinated == sum(not known(item) for item in given)
        assert found.reachable == sum(known(item) for item in gold)


@pytest.mark.parametrize("name", ["both_rel_instruct_all.jsonl.gz", "both_rel_instruct_all.splits_20251111.jsonl.gz"])
def test_every_line_of_both_published_dialects_is_read(real_data: Path, name: str) -> None:
    beyond, lines, items = Counter[str](), 0, 0
    with gzip.open(real_data / "ner_instruct" / name, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            task = row["prompt"].rstrip(": \n").split()[-1].replace("influences", "relations")
            parsed = parse(task, row["completion"])
            assert parsed.failures == ()
            lines += sum(bool(text.strip("- ")) for text in row["completion"].splitlines())
            items += len(parsed.items)
            found = count(task, row["prompt"], row["completion"], row["completion"])
            assert found.exact
            beyond[task] += found.reachable < found.gold
    assert lines == items > 10_000
    assert beyond == {"chemicals": 0, "diseases": 0, "relations": 134}
