"""Benchmarks kept out: planted test questions are found however they are dressed, and honest rows are left alone."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import DataError, RecipeError
from medrecipes.data import tally
from medrecipes.data.benchmarks import KNOWN, Excluded, Question, judged, seeds, to_keep_out
from medrecipes.data.exclusion import Found, Index, Texts
from medrecipes.data.light_edits import FILLERS, edits, same, stands
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.split import prepare
from medrecipes.recipe.benchmark_names import BENCHMARKS, benchmark_entry
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Columns, Data, Recipe, source_names
from medrecipes.release.cards.text import counts_tables
from medrecipes.release.gates.rows import contaminated
from tests.conftest import ROOT
from tests.hub import Hub

DATA = ROOT / "data"
OWN = Columns(question="q", answer="a")
Dress = Callable[[Question, random.Random], str]


def questions(*paths: str) -> list[Question]:
    return [question for path in paths for question in Excluded(path, None, DATA / path, None).questions()]


# written in the shapes of MedMCQA, MedQA and PubMedQA: from two words to a hundred, with options and without
POOL = questions("medmcqa", "medqa", "pubmedqa")


def rows_of(texts: list[str]) -> list[Texts]:
    answer = "The answer follows from how the disease comes about."
    return [Texts.of(Conversation.of(str(number), "", text, answer)) for number, text in enumerate(texts)]


def found(index: Index, *texts: str) -> list[Found | None]:
    return list(index.find(rows_of(list(texts))))


def options(question: Question, chance: random.Random | None = None) -> str:
    listed = list(question.options)
    if chance:
        chance.shuffle(listed)
    return "\n".join(f"{letter}) {option}" for letter, option in zip("ABCDE", listed, strict=False))


def edited(text: str, chance: random.Random) -> str:
    """One light edit for every fifteen words: a letter wrong, an article more or less, capitals; in long texts a word gone."""
    words = text.split()
    kinds = ["letter", "more", "less", "capitals"] + (["gone"] if len(words) >= 20 else [])
    for _ in range(max(1, len(words) // 15)):
        at, kind = chance.randrange(len(words)), chance.choice(kinds)
        if kind == "letter" and (long := [n for n, word in enumerate(words) if len(word) >= 6 and word.isalpha()]):
            at = chance.choice(long)
            cut = chance.randrange(1, len(words[at]) - 2)
            words[at] = words[at][:cut] + words[at][cut + 1 :]
        elif kind == "more":
            words.insert(at, chance.choice(("the", "really", "of")))
        elif kind == "less" and (less := [n for n, word in enumerate(words) if word.lower().encode() in FILLERS]):
            words.pop(chance.choice(less))
        elif kind == "capitals":
            words[at] = words[at].upper()
        elif kind == "gone":
            words.pop(at)
    return " ".join(words)


EXACT: dict[str, Dress] = {
    "as it stands": lambda q, _: q.stem,
    "other punctuation and capitals": lambda q, _: re.sub(r"[,.:;]", " - ", q.stem.upper()),
    "with its options": lambda q, _: f"{q.stem}\n{options(q)}",
    "reordered options": lambda q, chance: f"{q.stem}\n{options(q, chance)}",
    "a prefix": lambda q, _: f"You are a careful doctor. Answer the following question step by step. {q.stem}",
    "a prefix and options": lambda q, chance: f"Question for today's round: {q.stem}\n\nOptions:\n{options(q, chance)}\nThink first.",
}  # fmt: skip
LIGHT: dict[str, Dress] = {
    "lightly edited": lambda q, chance: edited(q.stem, chance),
    "lightly edited, with options": lambda q, chance: f"{edited(q.stem, chance)}\n{options(q, chance)}",
    "lightly edited, with a prefix": lambda q, chance: f"Please help me. {edited(q.stem, chance)}",
}


def recall(dress: Dress, times: int) -> float:
    index, chance = Index(POOL), random.Random(7)
    texts = [dress(question, chance) for question in POOL for _ in range(times)]
    hits = found(index, *texts)
    return sum(hit is not None for hit in hits) / len(hits)


def test_the_pool_has_short_and_long_questions() -> None:
    lengths = [len(question.stem.split()) for question in POOL]
    assert (len(POOL), min(lengths), sum(length >= 13 for length in lengths)) == (54, 2, 23)


@pytest.mark.parametrize("name", EXACT)
def test_a_planted_question_is_found_word_for_word(name: str) -> None:
    assert recall(EXACT[name], 1) == 1.0


@pytest.mark.parametrize("name", LIGHT)
def test_a_lightly_edited_question_is_found_in_99_of_100_cases(name: str) -> None:
    assert recall(LIGHT[name], 20) >= 0.99


PARAPHRASES = {
    "With isoniazid, which vitamin is given to prevent neuropathy?": False,
    "Tetany following removal of the thyroid gland is due to the loss of:": False,
    "An adult has community-acquired bacterial pneumonia. What is the commonest cause?": False,
    "A humeral shaft fracture injures which nerve?": False,
    "Crushing chest pain for 40 minutes that goes into his left arm brings a 58-year-old man to the emergency department. He has smoked for 30 years. "
    "An electrocardiogram shows ST elevation in leads II, III and aVF; his neck veins are distended while the lungs are clear, and blood pressure is 96/60 mm Hg. "
    "What should be done next, as nitroglycerin is about to be given?": True,
    "At birth a girl has no ganglion cells in the submucosa on biopsy and passes no meconium. Which cells did not migrate?": False,
}


def test_a_paraphrase_is_found_where_runs_of_words_are_left() -> None:
    """What this measure cannot do is said too: a question in other words is another text to it."""
    hits = found(Index(POOL), *PARAPHRASES)
    assert {text: hit is not None for text, hit in zip(PARAPHRASES, hits, strict=True)} == PARAPHRASES


def test_a_long_question_is_found_in_the_answer_too_and_a_short_one_is_not() -> None:
    index = Index(POOL)
    long = next(question for question in POOL if "tranylcypromine" in question.stem)
    short = next(question for question in POOL if question.stem.startswith("Pulsus paradoxus"))
    asked = [
        Conversation.of("1", "", "Write a test question.", text) for text in (long.stem, f"{short.stem} tamponade")
    ]
    hits = list(index.find([Texts.of(row) for row in asked]))
    assert hits[0] == Found(POOL.index(long), "exact")
    assert hits[1] is None


def test_another_question_of_the_same_form_is_left_alone() -> None:
    assert found(
        Index(POOL),
        "Which vitamin is given together with phenytoin to prevent bleeding in the newborn?",
        "Drug of choice for infantile spasms is:",
        "The enzyme that is deficient in maple syrup urine disease is:",
        "What is Wilson disease?",
        "Koplik",
        "Which of the following statements is true regarding asthma?",
        "Does a reminder by telephone raise attendance at breast screening?",
        "A 58-year-old man comes to the emergency department because of a swollen knee. Which of the following is the most appropriate next step?",
    ) == [None] * 8  # fmt: skip


def test_another_type_of_a_disease_or_another_thing_about_it_is_another_question() -> None:
    index = Index([
        Question("1", "What are the symptoms of maturity-onset diabetes of the young, type 1?"),
        Question("2", "What is adult primary liver cancer?"),
        Question("3", "What are the symptoms of Ehlers-Danlos syndrome?"),
        Question("4", "What research, or which clinical trials, are being done for childhood soft tissue sarcoma at present?"),
    ])  # fmt: skip
    assert found(
        index,
        "What are the symptoms of maturity-onset diabetes of the young, type 2?",
        "Who is at risk for adult primary liver cancer?",
        "What are the symptoms of Ehlers-Danlos syndrome, vascular type?",
        "What research, or which clinical trials, are being done for adult acute lymphoblastic leukemia at present?",
    ) == [None] * 4  # fmt: skip
    assert found(
        index, "Say what the symptoms are of maturity-onset diabetes of the young, type 1?", "What is an adult primary liver cancer?"
    ) == [Found(0, "near"), Found(1, "near")]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "spoken", "cost"),
    [
        ("acute gout of the knee", "he has acute gout of the knee again", 0), ("acute gout of the kidney", "acute gout of a kidnye", 1),
        ("diabetes type 1", "diabetes type 2", 1000), ("diabetes type 1", "diabetes", 1001), ("acute gout", "nothing", 2), ("acute gout", "", 2),
    ],
)  # fmt: skip
def test_edits_are_counted_in_words_and_numbers_are_never_changed(wanted: str, spoken: str, cost: int) -> None:
    assert edits(wanted.encode().split(), spoken.encode().split()) == cost


def test_options_tell_questions_apart_that_say_little() -> None:
    one = Question(
        "1", "Serum is:", ("Plasma without clotting factors", "Blood without red cells", "Plasma with fibrinogen")
    )
    index = Index([one])
    beside = "Choose the best. Serum is: (a) blood without red cells (b) plasma without clotting factors (c) lymph"
    assert found(index, beside, "My serum is cloudy, what may that be?") == [Found(0, "exact"), None]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"pancreatitis", b"pancreatitis", True), (b"pancreatitis", b"pancreattis", True), (b"pancreatitis", b"pnacreatitis", True),
        (b"hypotension", b"hypertension", False), (b"t3", b"t4", False), (b"40", b"45", False), (b"ileum", b"ilium", True),
        (b"stone", b"stones", True), (b"heart", b"", False),
    ],
)  # fmt: skip
def test_a_letter_wrong_makes_no_other_word(one: bytes, other: bytes, equal: bool) -> None:
    assert same(one, other) is same(other, one) is equal


def test_words_stand_in_their_order_with_few_others_between() -> None:
    assert stands([b"acute", b"gout", b"knee"], b"the acute severe gout knee".split(), 1)
    assert not stands([b"acute", b"gout", b"knee"], b"the acute and severe gout knee".split(), 1)
    assert not stands([b"acute", b"gout", b"knee"], b"knee gout acute".split(), 3)


# --- honest rows


def test_no_row_of_the_samples_holds_a_question_of_the_pool() -> None:
    for name in ("medquad", "wikidoc.json", "healthcaremagic.json", "synthetic_qa.jsonl"):
        source = open_source(name.partition(".")[0])
        rows = [Texts.of(row) for row in source.read(Files(DATA / name), Ledger()) if isinstance(row, Conversation)]
        assert [hit for hit in Index(POOL).find(rows) if hit] == []
        assert len(rows) >= 30


def test_at_most_one_row_of_a_thousand_of_medquad_is_a_false_alarm(real_data: Path) -> None:
    files = Files(real_data / "medquad/medquad.csv.gz")
    rows = [row for row in open_source("medquad").read(files, Ledger()) if isinstance(row, Conversation)]
    # besides the pool, what thousands of patients ask, of the same diseases and in whole sentences
    patients = open_source("healthcaremagic").read(Files(real_data / "healthcaremagic/GenMedGPT-5k.json.gz"), Ledger())
    asked = [Question(row.id, row.question) for row in patients if isinstance(row, Conversation)]
    index = Index([*POOL, *asked])
    assert (len(rows), len(index.questions)) == (16_423, 54 + 5_452)
    before = time.process_time()
    hits = [hit for hit in index.find([Texts.of(row) for row in rows]) if hit]
    assert not [hit for hit in hits if hit.question < len(POOL)]
    assert len(hits) <= 16_423 // 1000
    assert time.process_time() - before < 30


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_searched_for_twenty_thousand_questions_in_two_minutes(real_data: Path) -> None:
    read = open_source("medquad").read(Files(real_data / "medquad/medquad.csv.gz"), Ledger())
    rows = [row for row in read if isinstance(row, Conversation)]
    chance, made = random.Random(0), []
    while len(made) < 20_000:
        words = chance.choice(rows).answer.split()
        length = chance.choice((8, 12, 40, 80))
        if len(words) > length:
            at = chance.randrange(len(words) - length)
            made.append(Question(str(len(made)), " ".join(words[at : at + length])))
    before, hits, index = time.process_time(), 0, Index(made)
    for start in range(0, 100_000, 2000):
        part = [Texts.of(rows[number % len(rows)]) for number in range(start, start + 2000)]
        hits += sum(hit is not None for hit in index.find(part))
    assert hits > 20_000
    assert time.process_time() - before < 120


# --- in a recipe


def own(folder: Path, asked: list[str], **data: Any) -> Recipe:
    path = folder / "own.jsonl"
    answers = [f"It depends on finding number {number}, as the books say." for number in range(len(asked))]
    path.write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in zip(asked, answers, strict=True)))
    return Recipe(data=Data(source="jsonl", path=path, columns=OWN, **data))


HONEST = [f"What is done for a patient who has had complaint number {number} for a week?" for number in range(30)]


def test_rows_that_hold_a_test_question_leave_training_counted_with_examples(tmp_path: Path) -> None:
    test = DATA / "medqa" / "phrases_no_exclude_test.jsonl"
    planted = [question.stem for question in questions("medqa/phrases_no_exclude_test.jsonl")[:3]]
    recipe = own(
        tmp_path, [*HONEST, planted[0], f"Think. {edited(planted[1], random.Random(1))}"], exclude=(f"medqa={test}",)
    )
    split = prepare(recipe)
    assert split.report["dropped"] == {"holds a test question of medqa": 2}
    told = split.report["benchmarks"]["medqa"]
    assert (told["questions"], told["rows"], told["exact"], told["near"]) == (6, 2, 1, 1)
    assert told["examples"][0] == {"row": "own:31", "question": "phrases_no_exclude_test:1", "how": "exact"}
    [line] = [text for kind, text in tally.told(split.report) if kind == "kept out"]
    assert line == "2 rows hold a test question and leave training: medqa (6 questions) in 2; e.g. row own:31 holds phrases_no_exclude_test:1, word for word"  # fmt: skip
    assert "| medqa | 6 | 2 |" in "\n".join(counts_tables(split.report))  # the card says so too
    kept = {row.question for row in (*split.train, *split.dev, *split.test)}
    assert kept == set(HONEST)
    without = prepare(recipe.model_copy(update={"data": recipe.data.model_copy(update={"exclude": "auto"})}))
    assert (without.report["benchmarks"], without.report["dropped"]) == ({}, {})


def test_official_test_rows_stay_what_they_are() -> None:
    test = DATA / "medqa" / "phrases_no_exclude_test.jsonl"
    split = prepare(Recipe(data=Data(source="medqa", path=DATA / "medqa", exclude=(f"medqa={test}",))))
    assert len(split.test) == 6
    assert split.report["benchmarks"]["medqa"]["rows"] == 0


def test_the_default_is_what_the_sources_were_made_of() -> None:
    assert to_keep_out(Data(source="medquad"), [open_source("medquad")]) == []
    assert seeds([open_source(name) for name in ("medqa", "medquad", "medmcqa")]) == ["medqa", "medmcqa"]
    made_of = {name: open_source(name).seeds for name in source_names()}
    assert {"medqa", "medmcqa", "pubmedqa"} <= {seed for each in made_of.values() for seed in each} <= set(BENCHMARKS)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.store.create("GBaker/MedQA-USMLE-4-options", "dataset").put(
            {path.name: path.read_bytes() for path in (DATA / "medqa").iterdir()}
        )
        yield made


CODE = """
import json, sys
from medrecipes.core.errors import MedRecipesError
from medrecipes.data.split import prepare
from medrecipes.recipe.schema import Data, Recipe
try:
    split = prepare(Recipe(data=Data(**json.loads(sys.argv[1]))))
except MedRecipesError as error:
    sys.exit(str(error))
print(json.dumps(split.report["benchmarks"]))
"""


def test_a_named_benchmark_is_read_from_the_hub_at_a_commit_that_is_recorded(hub: Hub, tmp_path: Path) -> None:
    recipe = own(tmp_path, [*HONEST, questions("medqa/phrases_no_exclude_test.jsonl")[0].stem], exclude=("medqa",))
    data = json.dumps(recipe.data.model_dump(mode="json", include={"source", "path", "columns", "exclude"}))

    def run(home: str = "hf", offline: str = "0") -> subprocess.CompletedProcess[str]:
        environment = hub.environment(tmp_path / home, MEDRECIPES_CACHE=str(tmp_path / f"store-{home}"), HF_HUB_OFFLINE=offline)  # fmt: skip
        return subprocess.run([sys.executable, "-c", CODE, data], cwd=ROOT, env=environment, capture_output=True, text=True)  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["medqa"]
    assert (told["questions"], told["rows"]) == (6, 1)
    assert told["sha"] == hub.store.repos["dataset", "GBaker/MedQA-USMLE-4-options"].resolve("main").sha
    assert not [path for path in hub.requests if "exclude_train" in path]  # the test set alone is fetched
    silent = run("elsewhere", "1")
    assert silent.returncode == 1
    assert silent.stderr.count("\n") == 1
    assert silent.stderr.endswith('check the network, or read a local copy with data.exclude = ["medqa=PATH"]\n')


# --- what may be named


SHAPES = {
    "medmcqa.jsonl": '{"question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d"}\n',
    "mmlu.jsonl": '{"question": "Q?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 1}\n',
    "headqa.jsonl": '{"qid": 1, "qtext": "Q?", "ra": 1, "answers": [{"aid": 1, "atext": "a"}, {"aid": 2, "atext": "b"}, {"aid": 3, "atext": "c"}, {"aid": 4, "atext": "d"}]}\n',
    "pubmedqa.jsonl": '{"id": "1", "data": {"Question": "Q?", "Context": ["x"], "Options": {"A": "a", "B": "b", "C": "c", "D": "d"}}, "subject_name": "y"}\n',
    "medqa.jsonl": '{"question": "Q?", "options": {"A": "a", "B": "b", "C": "c", "D": "d"}, "answer_idx": "A"}\n',
    "swag.csv": "sent1,ending0,ending1,ending2,ending3,label\nQ?,a,b,c,d,1\n",
    "mine.csv": "question,note\nQ?,n\n",
    "mine.txt": "\nQ?\n\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_questions_are_read_in_every_published_shape_and_from_plain_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(SHAPES[name])
    [question] = Excluded(name, None, tmp_path / name, None).questions()
    assert question.stem == "Q?"
    assert question.options == (() if name.startswith("mine") else ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("empty.txt", "\n \n", "empty.txt: is empty; name a file with one question per line"),
        ("other.csv", "prompt,answer\nx,y\n", "other.csv: row 2 has no question under any of question, Question, QUESTION, qtext, sent1, stem, only prompt, answer; rename its column"),
        ("number.jsonl", '{"question": 5}', "number.jsonl: row 1 has no question under any of"),
        ("note.md", "x", "note.md: holds no questions, nor a file of .jsonl, .json, .csv, .tsv, .parquet, .txt; correct data.exclude"),
    ],
)  # fmt: skip
def test_what_holds_no_questions_is_one_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as raised:
        Excluded(name, None, tmp_path / name, None).questions()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_of_a_folder_the_files_of_the_test_set_are_read() -> None:
    assert len(Excluded("medqa", KNOWN["medqa"], DATA / "medqa", None).questions()) == 6
    with pytest.raises(DataError, match=r"holds no questions by the names of its test set \(en/test\*.parquet\)"):
        Excluded("headqa", KNOWN["headqa"], DATA / "medqa", None).questions()


@pytest.mark.parametrize(
    ("task", "benchmark"),
    [
        ("medqa_4options", "medqa"), ("medmcqa", "medmcqa"), ("pubmedqa", "pubmedqa"), ("mmlu_anatomy", "mmlu_medical"),
        ("mmlu_professional_medicine", "mmlu_medical"), ("mmlu_law", None), ("headqa_en", "headqa"), ("hellaswag", None),
    ],
)  # fmt: skip
def test_tasks_of_the_harness_belong_to_benchmarks(task: str, benchmark: str | None) -> None:
    assert judged(task) == benchmark
    assert set(KNOWN) == set(BENCHMARKS)


def test_a_recipe_names_benchmarks_and_files_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Is it?\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text('[data]\nexclude = ["medqa", "headqa=mine.txt", "mine.txt"]\n')
    told = load(recipe).recipe.data
    mine = (tmp_path / "mine.txt").resolve()
    assert told.excluded == (("medqa", None), ("headqa", mine), ("", mine))
    assert benchmark_entry("medqa") == ("medqa", None)
    for wrong, said in (
        ("medqq", "is neither a benchmark nor a file of questions; did you mean medqa?"),
        ("medqa=none.txt", "none.txt', the copy of medqa, does not exist; correct it, or leave the path out"),
    ):
        recipe.write_text(f'[data]\nexclude = ["{wrong}"]\n')
        with pytest.raises(RecipeError) as raised:
            load(recipe)
        [problem] = raised.value.problems
        assert problem.startswith(f"{recipe}:2: data.exclude: ")
        assert problem.endswith(said)
    recipe.write_text('[data]\nexclude = "medqa"\n')
    with pytest.raises(RecipeError, match=r"data\.exclude = 'medqa' is not one of auto, a list of texts"):
        load(recipe)


def test_what_is_kept_out_is_part_of_a_runs_key_by_content_and_not_by_place(tmp_path: Path) -> None:
    keys = []
    for folder, text in (("a", "One?"), ("b", "One?"), ("c", "Two?")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.txt").write_text(text)
        keys.append(Recipe(data=Data(path=DATA / "medquad", exclude=(str(tmp_path / folder / "mine.txt"),))).key)
    plain, none = Recipe(data=Data(path=DATA / "medquad")), Recipe(data=Data(path=DATA / "medquad", exclude=()))
    assert keys[0] == keys[1]
    assert len({*keys, plain.key, none.key}) == 4
    assert "exclude" not in plain.identity["settings"].get("data", {})
    shared = Recipe(data=Data(exclude=("medqa=/private/x.txt", "/private/y.txt", "headqa"))).shared()
    assert shared.data.exclude == ("medqa", "y.txt", "headqa")
    assert plain.shared().data.exclude == "auto"


# --- the gate

MEDQA = {"name": "medqa", "title": "MedQA-USMLE"}
SUITE = {"suites": [{"tasks": ["medqa_4options", "pubmedqa", "hellaswag"]}]}


@pytest.mark.parametrize(
    ("data", "report", "closed"),
    [
        ({"sources": [MEDQA], "benchmarks": {}}, SUITE, ["medqa_4options"]),
        ({"sources": [MEDQA]}, SUITE, ["medqa_4options"]),  # of a run from before they were kept out
        ({"sources": [MEDQA], "benchmarks": {"medqa": {}}}, SUITE, []),
        ({"sources": [MEDQA], "benchmarks": {}}, {}, []),
        ({"sources": [{"name": "medquad", "title": "MedQuAD"}]}, SUITE, []),
        ({"sources": [{"name": "gone", "title": "Gone"}]}, SUITE, []),
        ({"sources": [MEDQA], "got": {"test": None}}, {}, ["the official test set of MedQA-USMLE"]),
        ({}, SUITE, []),
    ],
)
def test_a_release_that_was_judged_by_what_it_learned_is_closed(
    data: dict[str, Any], report: dict[str, Any], closed: list[str]
) -> None:
    lines = list(contaminated(data, report))
    assert [line.partition(":")[0] for line in lines] == closed
    assert all(
        "MedQA-USMLE is made of medqa, whose test questions were not kept out of training" in line for line in lines
    )
