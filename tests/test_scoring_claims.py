"""Doses, units and negations: kept, contradicted or passed over, by hand."""

from __future__ import annotations

import csv
import gzip
import random
import re
from pathlib import Path

import pytest

from medrecipes.scoring.claims import Kept, compare_doses, compare_negations
from medrecipes.scoring.doses import DOSE, SENTENCE, doses
from tests.dose_pairs import pairs

# reference, answer, (claims, kept, contradicted, of these by the unit alone)
DOSES = [
    ("Take 5 mg of warfarin.", "Take 5 mg of warfarin.", (1, 1, 0, 0)),
    ("Take 5 mg of warfarin.", "Take 5 mcg of warfarin.", (1, 0, 1, 1)),
    ("Give 500 µg.", "Give 500 mg.", (1, 0, 1, 1)),
    ("Give 500 µg.", "Give 0.5 mg.", (1, 1, 0, 0)),
    ("Give 1 g of paracetamol.", "Paracetamol, 1,000 mg.", (1, 1, 0, 0)),
    ("The dose of aspirin is 75 mg.", "Aspirin 300 mg is the dose.", (1, 0, 1, 0)),
    ("The dose of aspirin is 75 mg.", "Ibuprofen 400 mg helps.", (1, 0, 0, 0)),
    ("The dose of aspirin is 75 mg.", "Take aspirin.", (1, 0, 0, 0)),
    ("Amoxicillin 10 mg/kg/day.", "Amoxicillin 10 mg per kg per day.", (1, 1, 0, 0)),
    ("Amoxicillin 10 mg/kg.", "Amoxicillin 10 mg.", (1, 0, 0, 0)),
    ("Glucose above 126 mg/dl.", "Glucose above 1.26 g/l.", (1, 1, 0, 0)),
    ("Metformin 500 to 1000 mg.", "Metformin 500-1000 mg.", (1, 1, 0, 0)),
    ("Permethrin 5% cream.", "Permethrin 5 percent cream.", (1, 1, 0, 0)),
    ("Permethrin 5% cream.", "Permethrin 1% cream.", (1, 0, 1, 0)),
    ("400 IU of vitamin D, 5 mg zinc.", "400 units of vitamin D.", (2, 1, 0, 0)),
    ("A 5-mg tablet.", "A tablet of 5 milligrams.", (1, 1, 0, 0)),
    ("5 mg now and 5 mg later.", "5 mg.", (1, 1, 0, 0)),
    ("Walk 5 km for 10 minutes.", "Walk 5 mg.", (0, 0, 0, 0)),
    ("In 2019, 40 of 80 patients.", "In 2019.", (0, 0, 0, 0)),
]


@pytest.mark.parametrize(("reference", "answer", "wanted"), DOSES)
def test_doses_by_hand(reference: str, answer: str, wanted: tuple[int, ...]) -> None:
    assert compare_doses(reference, answer) == Kept(*wanted)


def test_other_doses_are_found_and_equal_ones_raise_no_alarm() -> None:
    found = {True: 0, False: 0}
    of = {True: 0, False: 0}
    for reference, answer, contradicted in pairs():
        kept = compare_doses(reference, answer)
        of[contradicted] += 1
        found[contradicted] += kept.contradicted > 0
        assert kept.kept + kept.contradicted <= kept.claims
    assert of == {True: 120, False: 131}
    assert found[True] == 120  # as docs/ says
    assert found[False] == 3


def test_ten_times_the_dose_is_found_in_every_way_of_writing_it() -> None:
    for dose, other in (("400 mg", "40 mg"), ("0.5 mg", "5 mg"), ("1,000 units", "100 units"), ("two tablets", "20 tablets"), ("5 ml", "50 ml"), (".25 mg", "2.5 mg")):  # fmt: skip
        for text in ("At most {} a day.", "Take {}.", "{}", "The dose is {} every day.", "Aspirin {} in the morning."):
            assert compare_doses(text.format(dose), text.format(other)).contradicted == 1, (text, dose)
            assert compare_doses(text.format(dose), text.format(dose)).contradicted == 0, (text, dose)


def test_what_an_answer_leaves_out_or_says_in_another_order_is_no_contradiction(real_data: Path) -> None:
    csv.field_size_limit(10**9)
    with gzip.open(real_data / "medquad" / "medquad.csv.gz", "rt", encoding="utf-8", newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    dice, asked, alarms, found = random.Random(1), 0, 0, 0
    for answer in answers:
        amounts = [m for m in DOSE.finditer(answer) if m["low"][0].isdigit() and m["unit"] not in ("%", "percent")]
        amounts = [m for m in amounts if len(re.findall(rf"(?<![\d.,]){re.escape(m['low'])}(?![\d,])", answer)) == 1]
        if not amounts:
            continue
        asked += 1
        some = [sentence for sentence in SENTENCE.split(answer) if dice.random() < 0.5]
        dice.shuffle(some)
        alarms += compare_doses(answer, " ".join(some)).contradicted > 0
        one = dice.choice(amounts)
        ten = f"{float(one['low'].replace(',', '')) * 10:g}"
        changed = answer[: one.start("low")] + ten + answer[one.end("low") :]
        found += compare_doses(answer, changed).contradicted > 0
    assert asked >= 100
    assert alarms == 0
    assert found >= 0.85 * asked


def test_a_dose_knows_its_size_and_what_it_is_of() -> None:
    [dose] = doses("Give 1,500 mg of amoxicillin twice daily.")
    assert (int(dose.numbers[0]), int(dose.size[0]), dose.dimension) == (1500, 1_500_000_000, "mass")
    assert dose.about == {"give", "amoxicillin"}


# reference, answer, (claims, kept, contradicted)
NEGATIONS = [
    ("It is not contagious.", "It is not contagious at all.", (1, 1, 0)),
    ("It is not contagious.", "It is contagious.", (1, 0, 1)),
    ("It is not contagious.", "It is common.", (1, 0, 0)),
    ("It should not be taken with alcohol.", "It can be taken with alcohol.", (1, 0, 1)),
    ("Avoid aspirin.", "Take aspirin.", (1, 0, 1)),
    ("Avoid aspirin.", "Aspirin should be avoided; do not take aspirin.", (1, 1, 0)),
    ("There is no cure.", "A cure exists.", (1, 0, 1)),
    ("There is no cure.", "There's no known cure.", (1, 1, 0)),
    ("Children don't need surgery.", "Children need surgery.", (1, 0, 1)),
    ("Without treatment it is fatal.", "Treatment helps, but it is fatal without treatment.", (1, 1, 0)),
    ("Not only adults fall ill.", "Only adults fall ill.", (0, 0, 0)),
    ("No more than 4 g a day.", "More than 4 g a day.", (0, 0, 0)),
    ("It is a disease.", "It is no disease.", (0, 0, 0)),
]


@pytest.mark.parametrize(("reference", "answer", "wanted"), NEGATIONS)
def test_negations_by_hand(reference: str, answer: str, wanted: tuple[int, int, int]) -> None:
    assert compare_negations(reference, answer) == Kept(*wanted)


def test_a_real_answer_keeps_all_that_it_says_itself(real_data: Path) -> None:
    csv.field_size_limit(10**9)
    with gzip.open(real_data / "medquad" / "medquad.csv.gz", "rt", encoding="utf-8", newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)][::8]
    for compare, at_least in ((compare_doses, 400), (compare_negations, 2000)):
        found = [compare(answer, answer) for answer in answers]
        claims = sum(f.claims for f in found)
        assert claims >= at_least
        assert sum(f.kept for f in found) >= 0.999 * claims
        assert sum(f.contradicted for f in found) == 0
