"""`medrecipes score`: a predictions file to figures, and every mistake in one line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cli, children_seconds
from tests.test_house import HEAVY

TEXT = "aspirin and ibuprofen eased the headache"
ROWS: list[dict[str, Any]] = [
    {"id": "1", "group": "a", "task": "chemicals", "gold": "- aspirin\n- ibuprofen", "prediction": "- aspirin\n- paracetamol"},
    {"id": "2", "group": "b", "task": "chemicals", "gold": "- ", "prediction": ""},
    {"id": "1", "group": "a", "task": "diseases", "gold": ["headache"], "prediction": "1. Headache\nThat is all there is."},
    {"id": "1", "group": "a", "task": "relations", "gold": [["aspirin", "headache"]], "prediction": "- Chemical aspirin influences disease headache"},
    {"id": "q", "group": "c", "task": "qa", "gold": "Take 5 mg, not more with alcohol.", "prediction": "Take 5 mcg."},
]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    path.write_text("".join(json.dumps({"prompt": TEXT, **row, **more}) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = cli("score", write(tmp_path_factory.mktemp("score") / "p.jsonl", ROWS), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_report_has_the_promised_shape(report: dict[str, Any]) -> None:
    assert list(report["tasks"]) == ["qa", "chemicals", "diseases", "relations"]
    wanted = {"precision", "recall", "f1", "tp", "predicted", "gold", "parse_failures", "hallucinated"}
    for part in (*(report["tasks"][task] for task in ("chemicals", "diseases", "relations")), report["micro"]):
        assert wanted <= set(part)
        for name in ("precision", "recall", "f1"):
            assert set(part[name]) == {"value", "low", "high"}
            assert part[name]["low"] <= part[name]["value"] <= part[name]["high"]
    assert set(report["macro"]) == {"precision", "recall", "f1"}


def test_the_figures_are_those_worked_out_by_hand(report: dict[str, Any]) -> None:
    tasks = report["tasks"]
    counts = ("tp", "predicted", "gold", "parse_failures", "hallucinated", "true_negatives", "rows")
    assert [tasks["chemicals"][name] for name in counts] == [1, 2, 2, 0, 1, 1, 2]
    assert [tasks["diseases"][name] for name in counts] == [1, 2, 1, 1, 0, 0, 1]
    assert [tasks["relations"][name] for name in counts] == [1, 1, 1, 0, 0, 0, 1]
    assert [report["micro"][name] for name in counts] == [3, 5, 4, 1, 1, 1, 4]
    figures = {task: [tasks[task][name]["value"] for name in ("precision", "recall", "f1")] for task in list(tasks)[1:]}
    assert figures["chemicals"] == [0.5, 0.5, 0.5]
    assert figures["diseases"] == pytest.approx([0.5, 1, 2 / 3])
    assert figures["relations"] == [1, 1, 1]
    micro, macro = (
        [report[part][name]["value"] for name in ("precision", "recall", "f1")] for part in ("micro", "macro")
    )
    assert micro == pytest.approx([3 / 5, 3 / 4, 2 / 3])
    assert macro == pytest.approx([2 / 3, 2.5 / 3, (0.5 + 2 / 3 + 1) / 3])
    assert tasks["qa"]["units_contradicted"]["value"] == 1
    assert tasks["qa"]["rows"] == 1


def test_only_empty_lists_give_no_precision_but_true_negatives(warm: Cli, tmp_path: Path) -> None:
    done = warm("score", write(tmp_path / "p.jsonl", [ROWS[1]]), "--json")
    found = json.loads(done.stdout)["tasks"]["chemicals"]
    assert (found["precision"]["value"], found["recall"]["value"], found["true_negatives"]) == (None, None, 1)


def test_saying_nothing_has_a_precision_of_zero(warm: Cli, tmp_path: Path) -> None:
    done = warm("score", write(tmp_path / "p.jsonl", [{**ROWS[0], "prediction": ""}]), "--json")
    found = json.loads(done.stdout)["tasks"]["chemicals"]
    assert [found[name]["value"] for name in ("precision", "recall", "f1")] == [0, 0, 0]


def test_questions_alone_have_no_averages_of_lists(warm: Cli, tmp_path: Path) -> None:
    found = json.loads(warm("score", write(tmp_path / "p.jsonl", [ROWS[-1]]), "--json").stdout)
    assert (found["micro"], found["macro"], list(found["tasks"])) == (None, None, ["qa"])


def test_the_table_names_its_averages_and_shows_raw_beside_filtered(warm: Cli, tmp_path: Path) -> None:
    printed = warm("score", write(tmp_path / "p.jsonl", ROWS), "--filter", "in_text").stdout
    for words in ("micro average", "macro average", "recall ceiling", "true negatives", "doses contradicted", "NFKC"):
        assert words in printed
    raw, filtered = printed.split("filtered: ")
    assert "chemicals      0.500 [" in raw
    assert "chemicals      1.000 [" in filtered


def test_the_same_seed_prints_the_same(warm: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", ROWS)
    assert warm("score", path, "--seed", 1).stdout == warm("score", path, "--seed", 1).stdout
    assert "1000 draws, seed 42" in warm("score", path).stdout
    assert "over groups (TOO FEW: 3 of them cannot show how groups differ)" in warm("score", path).stdout


def test_a_runs_own_file_needs_a_choice_of_model(warm: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", ROWS, model="base")
    with path.open("a", encoding="utf-8") as file:
        file.write(write(tmp_path / "q.jsonl", ROWS, model="tuned").read_text())
    done = warm("score", path)
    assert done.stderr == f"{path}: holds the answers of base and tuned; choose with --model tuned\n"
    assert warm("score", path, "--model", "tuned").returncode == 0
    assert "did you mean tuned?" in warm("score", path, "--model", "tunned").stderr


GOOD = {"id": "1", "group": "g", "task": "chemicals", "prompt": "p", "gold": "- a", "prediction": "- a"}
MISTAKES = [
    ("{oops", "p.jsonl:2: invalid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); correct or delete the line"),
    ("[1, 2]", "p.jsonl:2: is no JSON object; write {id, group, task, prompt, gold, prediction}"),
    ({"gold": None}, "p.jsonl:2: gold is missing; every line needs id, group, task, prompt, gold, prediction"),
    ({"group": None}, "p.jsonl:2: group is missing; every line needs id, group, task, prompt, gold, prediction"),
    ({"task": "chemcals"}, "p.jsonl:2: task 'chemcals' is unknown; did you mean chemicals?"),
    ({"task": 3}, "p.jsonl:2: task 3 is unknown; known: chemicals, diseases, qa, relations, spans"),
    ({"id": "0"}, "p.jsonl:2: id '0' stands in line 1 already; delete one"),
    ({"prediction": 7}, "p.jsonl:2: prediction is 7; it must be a text or a list of texts"),
    ({"task": "qa", "prediction": ["a"]}, 'p.jsonl:2: prediction is ["a"]; it must be a text'),
    ({"task": "qa", "gold": " "}, "p.jsonl:2: gold is empty, so there is nothing to compare with; fill it in or delete the line"),
    ({"task": "relations"}, "p.jsonl:2: gold holds '- a', which is no item of task relations; write '- item' a line"),
    ({"stopped": "yes"}, 'p.jsonl:2: stopped is "yes"; it must be bool, or left out'),
    ({"bits": True}, "p.jsonl:2: bits is true; it must be float, or left out"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[m[:60] for _, m in MISTAKES])
def test_a_mistake_is_one_line(line: Any, message: str, warm: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{**GOOD, "id": "0"}])
    with path.open("a", encoding="utf-8") as file:
        file.write((line if isinstance(line, str) else json.dumps({**GOOD, **line})) + "\n")
    done = warm("score", path)
    assert (done.returncode, done.stderr) == (2, f"{tmp_path}/{message}\n")


def test_no_file_and_an_empty_one(warm: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert "no such file; name a predictions file" in warm("score", tmp_path / "none").stderr
    assert "holds no prediction; write one line of JSON an answer" in warm("score", tmp_path / "empty").stderr


def test_scoring_loads_no_heavy_library(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", ROWS)
    code = (
        "import sys\nfrom medrecipes.commands import main\nmain(['score', sys.argv[1]])\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""  # where the names of what was loaded would stand


def test_ten_thousand_predictions_with_a_thousand_draws_take_under_twenty_seconds(fresh: Cli, tmp_path: Path) -> None:
    rng = random.Random(0)
    words = (ROOT / "README.md").read_text(encoding="utf-8").split() + ["5", "mg", "not", "no", "without"] * 40
    with (tmp_path / "p.jsonl").open("w", encoding="utf-8") as file:
        for number in range(10_000):
            task = "qa" if number % 2 else "chemicals"
            gold, answer = (" ".join(rng.choices(words, k=180)) for _ in range(2))
            if task == "chemicals":
                gold, answer = ("\n".join(f"- {word}" for word in text.split()[:6]) for text in (gold, answer))
            row = {"id": str(number), "group": str(number // 3), "task": task, "prompt": "p", "gold": gold, "prediction": answer}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    used = children_seconds()
    assert fresh("score", tmp_path / "p.jsonl").returncode == 0
    assert children_seconds() - used < 40
