"""scripts/acceptance: tiny bases from a Hub, trained, measured and written into the README; failures told, nothing done twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, children_seconds
from tests.hub import Hub

RECIPE = """# A tiny base of the Hub.
# reference: loss 1.099 in 2,362 s on a T4
[model]
base = "{base}"
[data]
source = "medquad"
path = "{data}"
max_tokens = 256
[train]
max_steps = 4
learning_rate = 2e-3
optim = "adamw_torch_fused"
eval_steps = 2
save_steps = 2
[eval]
rows = 4
max_new_tokens = 8
"""
README = "# title\n\n<!-- acceptance: written by scripts/acceptance -->\nnothing yet\n<!-- /acceptance -->\n\nrest\n"


@pytest.fixture
def place(tiny_run: Path, tmp_path: Path) -> Path:
    """A README and two recipes: the base of one is on the Hub, that of the other is not."""
    (tmp_path / "README.md").write_text(README)
    for name, base in (("absent", "org/no-such-model"), ("small", "org/tiny-mistral")):
        (tmp_path / f"{name}.toml").write_text(RECIPE.format(base=base, data=ROOT / "data" / "medquad"))
    return tmp_path


def accept(hub: Hub, place: Path, *recipes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "acceptance"), "--readme", "README.md", "--runs", "runs", "--recipes", *recipes]  # fmt: skip
    environment = hub.environment(place / "home", OMP_NUM_THREADS="1")
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=400, env=environment)


@pytest.mark.slow
def test_the_table_is_measured_written_and_taken_up_again(tiny_run: Path, place: Path) -> None:
    base = Path(json.loads((tiny_run / "run.json").read_text())["base"])
    with Hub() as hub:
        repo = hub.store.create("org/tiny-mistral")
        repo.put({path.name: path.read_bytes() for path in base.iterdir() if path.name != "manifest.json"})
        done = accept(hub, place, "absent.toml", "small.toml")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "absent.toml: did not finish (see above); the same command goes on from here" in done.stderr
        assert "1 of 2 recipes measured; the table is in README.md" in done.stdout
        text = (place / "README.md").read_text()
        assert text.startswith("# title\n\n<!-- acceptance")
        assert text.endswith("<!-- /acceptance -->\n\nrest\n")
        assert "nothing yet" not in text
        [line] = re.findall(r"^\| small \| loss 1\.099 in 2,362 s on a T4 \| (.+) \|$", text, re.M)
        loss, bits, rouge, stops, time, memory, rate, card = line.split(" | ")
        assert 1 < float(loss) < 8
        assert all(" → " in pair for pair in (bits, rouge, stops))
        assert re.fullmatch(r"[\d,]+ s", time)
        assert re.fullmatch(r"[\d.]+ GB", memory)
        assert int(rate.replace(",", "")) > 0
        assert re.fullmatch(r"none \(\d+ CPU cores\)", card) or "NVIDIA" in card
        used = children_seconds()
        again = accept(hub, place, "small.toml")
        assert children_seconds() - used < 8
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count("finished before: ") == 1
    assert (place / "README.md").read_text() == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipes", "nne.toml"], "nne.toml: no such recipe"),
        (["--readme", "none.md"], "none.md: needs the lines <!-- acceptance: written by scripts/acceptance --> and <!-- /acceptance -->; name another file with --readme"),
        (["--recipes", "x.toml", "--set", "lora.rnak=8"], "--set: lora.rnak is unknown; did you mean lora.rank?"),
    ],
    ids=["recipe", "readme", "key"],
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_trained(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("")
    command = [sys.executable, str(ROOT / "scripts" / "acceptance"), "--runs", "runs", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_it_explains_itself_and_the_readme_has_a_place_for_it() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "acceptance"), "--help"], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0
    assert "--recipes RECIPE [RECIPE ...]" in done.stdout
    assert (ROOT / "docs" / "recipes.md").read_text().count("<!-- acceptance: written by scripts/acceptance -->") == 1
