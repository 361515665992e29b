"""Personal data: sixty planted pieces are found, clean text stays clean, and an institution's lines are no person's."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from medrecipes.personal import find, masked
from medrecipes.sources import Files, Ledger, open_source

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


def flagged(source: str, path: Path) -> tuple[int, int]:
    """How many rows of a real dataset hold something, and how many there are."""
    rows = list(open_source(source).read(Files(path), Ledger()))
    return sum(any(any(find(m.content)) for m in row.messages) for row in rows), len(rows)  # type: ignore[union-attr]


def test_at_most_two_percent_of_clean_medquad_are_flagged(real_data: Path) -> None:
    found, rows = flagged("medquad", real_data / "medquad" / "MedQuAD-xml.zip")
    assert rows == 16_423
    assert found <= 0.02 * rows
    assert found == 17  # local numbers, street addresses and a mailbox of offices and societies, as docs/ says


def test_real_patients_messages_are_flagged_by_their_names(real_data: Path) -> None:
    raw = json.loads(
        gzip.decompress((real_data / "healthcaremagic" / "HealthCareMagic-sample-500.json.gz").read_bytes())
    )
    kinds = [{finding.kind for finding in find(f"{row['input']}\n{row['output']}")} for row in raw]
    assert len(raw) == 500
    assert sum("name" in found for found in kinds) == sum(map(bool, kinds)) == 28  # as docs/ says
    # the two that its publisher masked hold nothing any more
    assert "e-mail" not in kinds[330]
    assert "telephone" not in kinds[336]
