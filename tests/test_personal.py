"""Personal data: what is planted is found, clean text stays clean, and an institution's lines are no person's."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medrecipes.data.records import Conversation, Tagged
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.release.personal_data import digits, find, masked, second, survey
from tests.conftest import Cli
from tests.planted_personal import planted

# a text with something planted, what it is, and the words that must be found
PLANTED: list[tuple[str, str, str]] = [
    ("You can write to me at jane.doe@hospital.example and I will send the scans.", "e-mail", "jane.doe@hospital.example"),
    ("contact j_smith84@yahoo.co.uk for the report", "e-mail", "j_smith84@yahoo.co.uk"),
    ("My id is priya.sharma+health@gmail.com.", "e-mail", "priya.sharma+health@gmail.com"),
    ("mail me (maria@martinez.family)", "e-mail", "maria@martinez.family"),
    ("please reply to rahul_k at gmail dot com", "e-mail", "rahul_k at gmail dot com"),
    ("write: tom.baker [at] outlook [dot] com", "e-mail", "tom.baker [at] outlook [dot] com"),
    ("Ask smith.john@nih.gov, who wrote the protocol.", "e-mail", "smith.john@nih.gov"),
    ("Call me on 212-555-0147 after six.", "telephone", "212-555-0147"),
    ("my number is (415) 555-0132", "telephone", "(415) 555-0132"),
    ("Reach her at 1-617-555-0175 at night.", "telephone", "1-617-555-0175"),
    ("tel. +44 20 7946 0958 in London", "telephone", "+44 20 7946 0958"),
    ("from Delhi, +91 98765 43210", "telephone", "+91 98765 43210"),
    ("whatsapp 9876543210 any time", "telephone", "9876543210"),
    ("Mobile: 07700 900123.", "telephone", "07700 900123"),
    ("my phone number is 555 0199", "telephone", "555 0199"),
    ("Ring me: 020 7946 0018 please", "telephone", "020 7946 0018"),
    ("fax 303.555.0182 to the ward", "telephone", "303.555.0182"),
    ("+49 (0)30 901820 is my sister's", "telephone", "+49 (0)30 901820"),
    ("I live at 742 Evergreen Terrace with my son.", "address", "742 Evergreen Terrace"),
    ("She moved to 1600 West Maple Avenue last year.", "address", "1600 West Maple Avenue"),
    ("Send it to P.O. Box 1182, please.", "address", "P.O. Box 1182"),
    ("We are from Springfield, IL 62704.", "address", "Springfield, IL 62704"),
    ("Her flat is near SW1A 1AA in London.", "address", "SW1A 1AA"),
    ("Flat 4B, 12 Baker Street, London", "address", "Flat 4B, 12 Baker Street"),
    ("Apt 12, Rosewood Heights", "address", "Apt 12, Rosewood Heights"),
    ("the house is at Hauptstraße 12 in Berlin", "address", "Hauptstraße 12"),
    ("My address is 14/2 MG Road, Bengaluru", "address", "14/2 MG Road, Bengaluru"),
    ("Andheri West, pin code 400058", "address", "pin code 400058"),
    ("the clinic at 221B Baker Street knows me", "address", "221B Baker Street"),
    ("MRN 00482913 was scanned.", "record number", "MRN 00482913"),
    ("Medical record number: 77-31-904", "record number", "77-31-904"),
    ("Patient ID: HX-482913", "record number", "HX-482913"),
    ("my hospital number is 5521873", "record number", "hospital number is 5521873"),
    ("UHID: APJ1.0012345 or UHID 10012345", "record number", "UHID 10012345"),
    ("NHS number 943 476 5919", "record number", "943 476 5919"),
    ("insurance policy no. BX7719203", "record number", "BX7719203"),
    ("Medicare number: 1EG4-TE5-MK73", "record number", "1EG4-TE5-MK73"),
    ("member ID W123456789", "record number", "member ID W123456789"),
    ("my SSN is 219-09-9999", "record number", "219-09-9999"),
    ("social security 457 55 5462 was asked for", "record number", "457 55 5462"),
    ("aadhaar 2345 6789 0123", "record number", "2345 6789 0123"),
    ("passport no: K4821937", "record number", "K4821937"),
    ("National Insurance: AB 12 34 56 C", "record number", "AB 12 34 56 C"),
    ("I paid with 4111 1111 1111 1111 at the desk", "record number", "4111 1111 1111 1111"),
    ("DOB: 03/14/1962, allergic to penicillin", "date of birth", "DOB: 03/14/1962"),
    ("Date of birth 14 March 1962.", "date of birth", "Date of birth 14 March 1962"),
    ("I was born on July 4, 1975 in Ohio", "date of birth", "born on July 4, 1975"),
    ("born 1975-07-04", "date of birth", "born 1975-07-04"),
    ("my birthday is 2nd of May 1988", "date of birth", "birthday is 2nd of May 1988"),
    ("D.O.B. 12.11.84", "date of birth", "D.O.B. 12.11.84"),
    ("Hope this helps. Regards, Dr. John Smith", "name", "Regards, Dr. John Smith"),
    ("Best wishes,\nMaria Gonzalez, MD", "name", "Maria Gonzalez"),
    ("Thank you. Anusuya", "name", "Thank you. Anusuya"),
    ("Kind regards\nJ. R. Patel", "name", "J. R. Patel"),
    ("Yours sincerely, Angela O'Neill.", "name", "Angela O'Neill"),
    ("Take it with food.\n- Peter Novak", "name", "Peter Novak"),
    ("Hello, my name is Rebecca Stone and I have a rash.", "name", "my name is Rebecca Stone"),
    ("Patient name: Carlos Ruiz", "name", "Carlos Ruiz"),
    ("Hi, I am Sunita Rao, 34 years old", "name", "I am Sunita Rao"),
    ("Dear Animesh, asthma is a disease of the airways.", "name", "Dear Animesh"),
    ("my pictures: https://www.facebook.com/jane.doe.184", "user link", "facebook.com/jane.doe.184"),
    ("see linkedin.com/in/johnsmith-md", "user link", "linkedin.com/in/johnsmith-md"),
    ("https://twitter.com/maria_g82/status/1", "user link", "twitter.com/maria_g82"),
    ("skype: tom.baker.83", "user link", "skype: tom.baker.83"),
    ("follow me on instagram @rosie_k", "user link", "@rosie_k"),
    ("http://people.uni.example/~kmueller/scan.jpg", "user link", "people.uni.example/~kmueller"),
    ("the log says 192.0.2.44 uploaded it", "machine address", "192.0.2.44"),
]  # fmt: skip

# what stands in good medical text and points at nobody
CLEAN = [
    "Call the National Cancer Institute at 1-800-422-6237, or (877) 448-7848.",
    "Write to NIAMSinfo@mail.nih.gov, info@arthritis.example or 2020@nei.nih.gov for a leaflet.",
    "Ninety-five percent of 1,200 patients lived 5 years (95% CI 91.2-97.8; p < 0.001).",
    "Take 500 mg every 6 to 8 hours, at most 4000 mg in 24 hours. Thank you for asking.",
    "Parkinson disease was described by Dr. James Parkinson in 1817.",
    "The patient was born at term; birth weight 3200 g. Date of birth and sex are asked for.",
    "Hi Doctor, thank you. Hope this helps. Regards, Chat Doctor.",
    "Dear Sir, I am a 34 year old woman. My name is not important. Take care. Wish you good health.",
    "ICD-10 code E11.9, gene 7q31.2, PMID 12345678, OMIM 219700, chromosome 15q11-q13.",
    "See https://www.nlm.nih.gov/medlineplus/asthma.html and http://www.facebook.com/pages/asthma.",
    "The file of 2019 lists 10 records; the patient at 120/80 mmHg was discharged.",
    "12,0.857,train,3.4111111111111111,0.0004111111111111111,4.2,16395,11548",  # a line of loss.csv
    "Her number of red cells was 4 million; call for help if 3 doses were missed.",
    # eponyms, and those who found something out
    "Alzheimer's disease is named after Dr. Alois Alzheimer, a German doctor. In 1906, Dr. Alzheimer noticed changes.",
    "It was first identified by Dr. Thomas Addison in 1849; Sir James Paget first described the other one in 1877.",
    "Pierre Robin sequence, Charles Bonnet syndrome, Marie Unna hypotrichosis, Ramsay Hunt syndrome and Graves disease.",
    "Duchenne MD and Becker MD are inherited; an MR Angiography of MS. Patients with MS. Vitamin D is another area.",
    "Johns Hopkins Hospital, the Robert Wood Johnson Foundation and Charles Foster rats took part.",
    # ages, days and numbers of no one
    "People over 90 years of age, adults aged 90 and older, and the risk up to age 90 were looked at for 95 years.",
    "A score of 92, 97% of 101 women, 94 mg, and 9 out of 99 patients lived 10 to 95 months.",
    "Reviewed and updated March 12, 2012; accessed 3/30/2011. On August 2, 2013, the FDA approved the label.",
    "IL-2, CD34, HLA-DR4, E1234567 cells, 5-HT1B (GR 55562, CP 93129), EC 2.7.11.1, version 10.2.0.1, NCT01234567.",
    "Between 2003-2004 and 2010-2015 there were 600 000 000 doses at 1,234,567 sites; 12:30:45 was the time.",
    "See your doctor. Chest pain needs help. Dr. Please tell me; my son has a rash; call me when the test is back.",
    "The patient said that his mother had Parkinson disease; my daughter Has been well; patient Information Leaflet.",
    "Visit NIH.gov, www.cancer.gov/types or http://github.com/nih/tools, and look at figure1.png.",
    "People who live in Europe, in Texas or in India; the first-line treatment; snap trap; a birth in March.",
]


@pytest.mark.parametrize(("text", "kind", "words"), PLANTED, ids=[words for _, _, words in PLANTED])
def test_planted_personal_data_is_found(text: str, kind: str, words: str) -> None:
    found = list(find(text))
    assert any(words in finding.text for finding in found if finding.kind == kind), found
    for finding in found:
        assert text[finding.start :].lstrip().startswith(finding.text)


def test_sixty_and_more_are_planted_of_all_kinds() -> None:
    assert len(PLANTED) >= 60
    kinds = ["address", "date of birth", "e-mail", "machine address", "name", "record number", "telephone", "user link"]
    assert sorted({kind for _, kind, _ in PLANTED}) == kinds


@pytest.mark.parametrize("text", CLEAN)
def test_clean_text_stays_clean(text: str) -> None:
    assert list(find(text)) == []


def test_a_report_of_personal_data_does_not_spread_it() -> None:
    assert masked("jane.doe@hospital.example") == "ja**.***@********.******…"
    [finding] = find("Regards, Dr. John Smith")
    assert str(finding) == "name Re*****, **. **** *****"


# --- the larger list: ten countries, all kinds


def test_nineteen_of_twenty_planted_pieces_are_found_in_every_country_and_kind() -> None:
    found, of = Counter[str](), Counter[str]()
    for country, kind, words, text in planted():
        start = text.lower().index(words.lower())
        hit = any(f.kind == kind and f.start < start + len(words) and start < f.start + len(f.text) for f in find(text))
        for group in (country, kind, "all"):
            of[group] += 1
            found[group] += hit
    assert of["all"] >= 520
    assert len(of) == 10 + 15 + 1
    assert found["all"] >= 0.98 * of["all"]
    assert {group: (found[group], of[group]) for group in of if found[group] < 0.95 * of[group]} == {}


def test_a_piece_is_found_in_the_midst_of_a_long_text_as_well() -> None:
    padding = "Take the tablets with food and drink enough water; most people feel well after a week. "
    for _, _, words, text in planted()[::4]:
        whole = f"{padding * 3}\n{text}\n{padding * 3}"
        if {f.text for f in find(text)}:
            assert {f.text for f in find(text)} <= {f.text for f in find(whole)}, words


def test_wide_and_foreign_digits_are_digits() -> None:
    [finding] = find("携帯は０９０－１２３４－５６７８です。")
    assert (finding.kind, finding.text) == ("telephone", "０９０－１２３４－５６７８")
    [finding] = find("मेरा मोबाइल ९८२०० ५५५१२ है")
    assert finding.kind == "telephone"


# a number that is right, and what is wrong with one digit of it
CHECKED = [
    (digits.luhn, "4111111111111111"), (digits.npi, "1234567893"), (digits.dea, "BS4160622"), (digits.nhs, "943 476 5919"),
    (digits.idnr, "86 095 742 719"), (digits.kvnr, "A123456780"), (digits.nir, "1 85 05 78 006 084 91"), (digits.dni, "12345678Z"),
    (digits.dni, "X1234567L"), (digits.codice_fiscale, "RSSMRA85T10A562S"), (digits.cpf, "529.982.247-25"), (digits.cns, "754905083499938"),
    (digits.my_number, "1234 5678 9018"), (digits.resident, "11010519491231002X"), (digits.aadhaar, "6489 1789 5644"),
    (digits.iban, "DE89 3704 0044 0532 0130 00"), (digits.iban, "GB29 NWBK 6016 1331 9268 19"), (digits.vin, "1M8GDM9AXKP042788"), (digits.imei, "358628664115694"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "number"), CHECKED, ids=[number for _, number in CHECKED])
def test_check_digits(check: Any, number: str) -> None:
    assert check(number)
    places = [at for at, c in enumerate(number) if c.isdecimal()]
    changed = [number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :] for at in places]
    assert sum(map(check, changed)) <= 1  # an 8 for an X in the German number, and the like


def test_numbers_that_are_never_given_are_nobodys() -> None:
    for number in ("000-12-3456", "666-12-3456", "123-00-4567", "123-45-0000"):
        assert not digits.social_security(number)
        assert list(find(f"it reads {number} there")) == []


# --- what rows hold


def row(id: str, question: str, answer: str) -> Conversation:
    return Conversation.of(id, "", question, answer)


def test_a_survey_counts_rows_names_some_and_shows_no_text() -> None:
    rows = [row(f"r{n}", f"I am Sunita Rao, 3{n} years old", "<p>Rest</p> and&nbsp;drink.") for n in range(5)]
    rows += [row("r5", "What is flu?", "Write to tom.baker@outlook.com"), row("r6", "What is <5 mg?", "Less than 5.")]
    found = survey.survey(rows)
    assert (found["rows"], found["looked"], found["personal"]) == (7, 7, 6)
    assert {kind: one["rows"] for kind, one in found["kinds"].items()} == {"name": 5, "e-mail": 1}
    assert (found["markup"]["rows"], found["markup"]["ids"]) == (5, ["r0", "r1", "r2"])
    personal, markup = survey.told(found)
    assert personal[0] == "personal"
    assert "6 of 7 rows" in personal[1]
    assert "name 5 (row r0, r1, r2 and 2 more:" in personal[1]
    assert "e-mail 1 (row r5:" in personal[1]
    assert "Sunita" not in personal[1]
    assert "baker" not in personal[1]
    assert "gate" not in personal[1]
    assert markup[0] == "markup"
    assert "<p>" in markup[1]
    [(_, pushing), _] = survey.told(found, pushes=True)
    assert "personal-data" in pushing
    assert list(survey.told(survey.survey([rows[-1]]))) == []


def test_of_very_many_rows_some_are_looked_at_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "AT_MOST", 10)
    found = survey.survey([row(str(n), "Who?", "Call me at 212-555-0147.") for n in range(95)])
    assert (found["rows"], found["looked"], found["personal"]) == (95, 10, 10)
    assert "10 of 10 of 95 rows looked at hold" in next(iter(survey.told(found)))[1]


def test_tagged_words_are_put_together_before_they_are_looked_at() -> None:
    words = ("Mail", "jane", ".", "doe", "@", "mail", ".", "com", "or", "Dr", ".", "John", "Smith", ",", "212", "-", "555", "-", "0147", ".")  # fmt: skip
    tagged = Tagged("s1", "", words, ("O",) * len(words))
    [text] = survey.texts_of(tagged)
    assert text == "Mail jane.doe@mail.com or Dr.John Smith, 212-555-0147."
    assert [f.kind for f in find(text)] == ["e-mail", "telephone", "name"]
    written = Tagged("s2", "", ("a", "b"), ("O", "O"), {"text": "a  b"})
    assert survey.texts_of(written) == ("a  b",)


OWN = """
name = "own"
[model]
base = "tiny:mistral"
bits = 16
[data]
path = "own.jsonl"
source = "jsonl"
columns = { question = "input", answer = "output" }
max_tokens = 256
split = { train = 0.5, dev = 0.25, test = 0.25 }
[lora]
rank = 4
[train]
max_steps = 1
batch = 4
eval_steps = 1
save_steps = 1
optim = "adamw_torch_fused"
[eval]
rows = 2
max_new_tokens = 4
"""


def own_rows(folder: Path) -> Path:
    """A recipe with forty rows of one's own, one with a name and two with tags."""
    topics = ["asthma", "gout", "flu", "mumps", "rabies", "polio", "measles", "anthrax", "malaria", "dengue"]
    rows = [
        {"input": f"What is {topic} of kind {n}?", "output": f"A disease, number {n}, of {topic} and {n} others."}
        for n in range(4)
        for topic in topics
    ]
    rows[3]["output"] = "See Dr. Harold Whitfield about it."
    rows[5]["output"] = rows[7]["output"] = "<b>Rest</b> and drink."
    rows[7]["input"] += " Again?"
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.toml").write_text(OWN)
    return folder / "own.toml"


@pytest.mark.parametrize("command", ["check", "run"])
def test_check_and_run_say_what_ones_own_rows_hold_and_go_on(command: str, tmp_path: Path, warm: Cli) -> None:
    recipe = own_rows(tmp_path)
    more = ("--runs", tmp_path / "runs") if command == "run" else ()
    done = warm(command, recipe, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "personal 1 of 40 rows hold what looks like personal data: name 1 (row own:4: Dr. ****** *********)" in said
    assert "markup 2 of 40 rows hold HTML (<b>; row own:" in said
    assert "Whitfield" not in done.stdout


# --- the second opinion


def test_who_looked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second.importlib.util, "find_spec", lambda name: None)
    assert second.detectors() == "looked: medrecipes' rules; presidio-analyzer is not installed, so there is no second opinion"  # fmt: skip
    assert [f.kind for f in second.look("Call me at 212-555-0147.")] == ["telephone"]


def test_presidio_finds_more_where_it_is_installed() -> None:
    pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed: pip install '.[pii]'")
    assert "and Presidio 2." in second.detectors()
    text = "Call me at 212-555-0147. The voter who drove has ABC1234567 on his election card."
    assert next(f.kind for f in find(text)) == "telephone"
    assert [(f.kind, f.text) for f in second.look(text)] == [
        ("telephone", "212-555-0147"),
        ("record number", "ABC1234567"),
    ]
    assert list(second.look("Call the National Cancer Institute at 1-800-422-6237.")) == []
    assert list(second.look("It was described in 1817; 95% CI 91.2-97.8.")) == []


def flagged(source: str, path: Path) -> tuple[int, int]:
    """How many rows of a real dataset hold something, and how many there are."""
    rows = list(open_source(source).read(Files(path), Ledger()))
    return sum(any(any(find(m.content)) for m in row.messages) for row in rows), len(rows)  # type: ignore[union-attr]


def test_at_most_three_in_a_thousand_rows_of_medquad_are_flagged(real_data: Path) -> None:
    found, rows = flagged("medquad", real_data / "medquad" / "MedQuAD-xml.zip")
    assert rows == 16_423
    assert found <= 0.003 * rows
    # lines, addresses and a mailbox of offices and societies, and physicians and officials by name, as docs/ says
    assert found == 33


def test_real_patients_messages_are_flagged_by_their_names_and_days(real_data: Path) -> None:
    raw = json.loads(
        gzip.decompress((real_data / "healthcaremagic" / "HealthCareMagic-sample-500.json.gz").read_bytes())
    )
    kinds = [{finding.kind for finding in find(f"{row['input']}\n{row['output']}")} for row in raw]
    assert len(raw) == 500
    assert (sum("name" in found for found in kinds), sum(map(bool, kinds))) == (35, 42)  # as docs/ says
    # the two that its publisher masked hold nothing any more
    assert "e-mail" not in kinds[330]
    assert "telephone" not in kinds[336]
