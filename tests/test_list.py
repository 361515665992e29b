"""`medrecipes list` and `medrecipes runs`: what there is, runs by their files, what is deleted, and the page over all runs."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from medrecipes.commands.list import SECTIONS
from medrecipes.core.errors import RunError
from medrecipes.core.files import write_json
from medrecipes.pipeline import catalog
from medrecipes.recipe.schema import Model, Recipe, Train, source_names, template_names
from medrecipes.runs.folder import LossLog, RunDir, holding
from medrecipes.runs.listing import at_work, in_words, lasting, list_runs, look, remove
from tests.browser import NO_CHROMIUM, browse, require_accessible
from tests.conftest import ROOT
from tests.test_house import HEAVY
from tests.test_init import medrecipes

MARKUP = '<img src=x onerror=alert(1)> & "more"'


def make(folder: Path, state: str, steps: int = 0, **train: object) -> Path:
    """A run folder as the line writes one."""
    folder.mkdir(parents=True)
    recipe = Recipe(name=folder.name[:-9], model=Model(base="tiny:mistral"), train=Train.model_validate(train))
    (folder / "recipe.toml").write_text(recipe.to_toml())
    RunDir(folder).update(state=state, name=recipe.name, key=recipe.key)
    log = LossLog(folder / "loss.csv")
    for step in range(1, steps + 1):
        log.row(step=step, epoch=step / 50, split="train", loss=4 - step / 100, learning_rate=0.1, grad_norm=1, tokens=1000 * step, supervised_tokens=500 * step, tokens_per_second=500.0, peak_gb=1)  # fmt: skip
    if steps:
        log.row(step=steps, epoch=steps / 50, split="dev", loss=3.5, learning_rate="", grad_norm="", tokens=1000 * steps, supervised_tokens=0, tokens_per_second="", peak_gb=1)  # fmt: skip
    log.close()
    return folder


def report(folder: Path, name: str, base: float, tuned: float) -> None:
    figures = {"base": base, "tuned": tuned}
    write_json(folder / "eval" / "report.json", {model: {name: {"value": value, "low": value, "high": value}} for model, value in figures.items()})  # fmt: skip


def age(folder: Path, seconds: float) -> None:
    for file in ("run.json", "loss.csv"):
        os.utime(folder / file, (time.time() - seconds,) * 2)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four runs: finished, stopped in training, damaged, just begun; and a folder that is none."""
    place = tmp_path / "runs"
    done = make(place / "done-11111111", "finished", 10, max_steps=10)
    report(done, "bits_per_byte", 0.895, 0.627)
    age(done, 3 * 3600)
    age(make(place / "half-22222222", "training", 30, epochs=2), 600)
    begun = make(place / "begun-33333333", "preparing")
    age(begun, 60)
    damaged = make(place / "damaged-44444444", "training", 3)
    (damaged / "recipe.toml").write_text("[model\n")
    age(damaged, 86_400 * 5)
    (place / "mine").mkdir()
    return place


def test_runs_are_listed_with_state_figures_age_and_size(runs: Path) -> None:
    found = {run.name: run for run in list_runs(runs)}
    assert list(found) == ["begun-33333333", "half-22222222", "done-11111111", "damaged-44444444"]
    half = found["half-22222222"]
    # an epoch has 50 steps, a step 1,000 tokens, of which 500 are trained a second
    assert (half.step, half.steps, half.tokens_per_second, half.seconds_left) == (30, 100, 500.0, 140.0)
    assert [run.said for run in found.values()] == [
        "stopped (preparing)",
        "stopped at step 30 of 100",
        "finished",
        "damaged",
    ]
    done = found["done-11111111"]
    assert (done.figures, done.base) == ("bits per byte of answer 0.895 -> 0.627", "tiny:mistral")
    assert done.size == sum(file.stat().st_size for file in done.path.rglob("*") if file.is_file()) > 1000
    assert 3 * 3600 <= done.age_s < 3 * 3600 + 60


def test_a_run_that_a_process_writes_to_is_at_work(runs: Path) -> None:
    path = runs / "half-22222222"
    with holding(path):
        run = look(path)
        assert re.fullmatch(rf"process {os.getpid()} on .+", run.by)
        assert run.said == "training, step 30 of 100"
    assert look(path).by == ""
    # what a killed process left names nobody who lives; of another machine nobody here can tell
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (path / ".medrecipes.lock").write_text(f"process {gone.pid} on {os.uname().nodename}")
    assert at_work(path) == ""
    (path / ".medrecipes.lock").write_text(f"process {gone.pid} on another")
    assert at_work(path) == f"process {gone.pid} on another"


def test_the_command_prints_runs_as_a_table_and_as_json(runs: Path) -> None:
    done = medrecipes(runs.parent, "runs")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.split(r"\s{2,}", lines[3]) == ["done-11111111", "finished", "bits per byte of answer 0.895 -> 0.627", "500", "3 h ago", in_words(look(runs / "done-11111111").size)]  # fmt: skip
    told = json.loads(medrecipes(runs.parent, "runs", "--json").stdout)
    assert [(run["name"], run["state"]) for run in told] == [
        ("begun-33333333", "preparing"), ("half-22222222", "training"), ("done-11111111", "finished"), ("damaged-44444444", "damaged"),
    ]  # fmt: skip
    empty = medrecipes(runs.parent, "runs", "--runs", "nowhere")
    assert (empty.returncode, empty.stdout) == (0, "no runs in nowhere; `medrecipes run demo` makes one\n")


def test_times_and_sizes_as_a_person_says_them() -> None:
    assert [lasting(s) for s in (0, 119, 120, 7199, 7200, 172_800)] == [
        "0 s",
        "119 s",
        "2 min",
        "120 min",
        "2 h",
        "2 d",
    ]
    assert [in_words(n) for n in (0, 999, 1000, 34_000_000, 2_500_000_000)] == ["0 bytes", "999 bytes", "1 KB", "34 MB", "2.5 GB"]  # fmt: skip


def test_a_run_is_deleted_whole_and_nothing_else_is(runs: Path) -> None:
    outside = runs.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    (runs / "done-11111111" / "checkpoints").symlink_to(outside)
    done = medrecipes(runs.parent, "runs", "rm", "runs/done-11111111", "runs/half-22222222", "--yes")
    assert (done.returncode, done.stdout) == (0, "deleted runs/done-11111111\ndeleted runs/half-22222222\n")
    assert sorted(path.name for path in runs.iterdir()) == ["begun-33333333", "damaged-44444444", "mine"]
    assert (outside / "kept").exists()


def test_what_is_no_run_of_ours_or_at_work_is_never_deleted(runs: Path) -> None:
    (runs / "link-55555555").symlink_to(runs / "done-11111111")
    (runs / "half-22222222" / "notes.txt").write_text("mine")
    (runs / "mine" / "run.json").write_text('{"name": "x"}')
    wrong = {
        "runs/mine": "its run.json is not what a run wrote",
        "runs/gone": "is no run folder",
        "runs/link-55555555": "is a link",
        "runs/half-22222222": "runs/half-22222222/notes.txt: was not written by a run and would be lost; move it away first",
    }
    before = sorted(runs.rglob("*"))
    for path, line in wrong.items():
        # one that may be deleted stands beside it, and stays
        done = medrecipes(runs.parent, "runs", "rm", "runs/done-11111111", path, "--yes")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert line in done.stderr
    with holding(runs / "done-11111111"):
        done = medrecipes(runs.parent, "runs", "rm", "runs/done-11111111", "--yes")
        assert (done.returncode, done.stderr) == (2, f"runs/done-11111111: process {os.getpid()} on {os.uname().nodename} is at work there; wait for it, or end it first\n")  # fmt: skip
        with pytest.raises(
            RunError, match="is at work there"
        ):  # who comes between the look and the deed holds the lock
            remove(runs / "done-11111111")
    asked = medrecipes(runs.parent, "runs", "rm", "runs/done-11111111")
    assert (asked.returncode, "add --yes" in asked.stderr) == (2, True)
    assert medrecipes(runs.parent, "runs", "rm").returncode == 2
    assert medrecipes(runs.parent, "runs", "list", "x").returncode == 2
    assert sorted(runs.rglob("*")) == before


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("", True), ("y", False)])
def test_a_person_is_asked_before_anything_is_deleted(answer: str, left: bool, runs: Path) -> None:
    ours, theirs = pty.openpty()
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "medrecipes", "runs", "rm", "runs/done-11111111"], cwd=runs.parent, env=settings, stdin=theirs, stdout=subprocess.PIPE, text=True)  # fmt: skip
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.match(r"delete runs/done-11111111 \(\d+ KB\)\? \[y/N\] ", said)
    assert (runs / "done-11111111").exists() == left
    assert said.endswith("nothing deleted\n" if left else "deleted runs/done-11111111\n")


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """The page of these runs, by its own command."""
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        port = door.getsockname()[1]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "medrecipes", "runs", "--web", "--port", str(port), "--runs", str(runs)]
    process = subprocess.Popen(command, cwd=runs.parent, env=settings, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"page        http://127.0.0.1:{port}  (Ctrl-C ends it)\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def fetch(address: str, **headers: str) -> str:
    with urlopen(Request(address, headers={name.replace("_", "-"): value for name, value in headers.items()}), timeout=30) as answer:  # fmt: skip
        text: str = answer.read().decode()
    return text


def test_the_page_shows_runs_as_they_grow_and_every_text_as_text(runs: Path) -> None:
    path = runs / "half-22222222"
    (path / "samples.jsonl").write_text(json.dumps({"step": 20, "question": MARKUP, "answer": f"</dd>{MARKUP}"}) + "\n")
    RunDir(runs / "begun-33333333").update(state=MARKUP)
    make(runs / "<b>-66666666", "training", 5)
    with served(runs) as address:
        page = fetch(f"{address}/")
        assert "<img" not in page
        assert "<b>" not in page
        assert page.count("&lt;img src=x onerror=alert(1)&gt; &amp; &quot;more&quot;") >= 3
        assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*", page) == []  # nothing is fetched from elsewhere
        # the axes of training and dev loss, each clipped by its own
        ids = re.findall(r'id="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        assert page.count("<svg") == 8  # of four runs that have losses
        before = json.loads(fetch(f"{address}/runs.json"))
        assert (before["live"], before["said"]) == (False, f"5 runs in {runs}, 0 at work")
        with holding(path):
            log = LossLog(path / "loss.csv", 30)
            log.row(step=31, epoch=0.62, split="train", loss=3, learning_rate=0.1, grad_norm=1, tokens=31_000, supervised_tokens=1, tokens_per_second=500.0, peak_gb=1)  # fmt: skip
            log.close()
            after = json.loads(fetch(f"{address}/runs.json"))
        assert after["live"]
        assert next(run for run in after["runs"] if run["name"] == path.name)["step"] == 31
        assert "step 31 of 100, about 2 min left" in after["html"]
        assert '<progress max="100" value="31"' in after["html"]


def test_the_page_is_for_this_machine_and_itself_alone(runs: Path) -> None:
    with served(runs) as address:
        for headers, code in (({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403), ({"Sec_Fetch_Site": "cross-site"}, 403)):  # fmt: skip
            with pytest.raises(HTTPError) as refused:
                fetch(f"{address}/runs.json", **headers)
            assert refused.value.code == code
        for path in ("/done-11111111/run.json", "/../recipe.toml", "/runs"):
            with pytest.raises(HTTPError) as refused:
                fetch(address + path)
            assert refused.value.code == 404
        assert fetch(f"{address}/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").startswith(
            "<!doctype html>"
        )
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{address}/", data=b"x"), timeout=30)
        assert refused.value.code == 501
        port = address.rpartition(":")[2]
        again = medrecipes(runs.parent, "runs", "--web", "--port", port)
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert again.stderr.startswith(f"--port {port}: cannot be opened on 127.0.0.1")


def test_list_names_what_there_is(runs: Path) -> None:
    told = json.loads(medrecipes(runs.parent, "list", "--json").stdout)
    assert list(told) == list(SECTIONS) == list(catalog.SECTIONS)
    names = {section: [entry["name"] for entry in entries] for section, entries in told.items()}
    assert names["templates"] == template_names()
    assert names["sources"] == source_names()
    assert {"demo", "tiny_mistral", "mistral_medquad"} <= set(names["recipes"])
    assert names["recipes"] == sorted(names["recipes"], key=lambda name: (name.startswith("tiny_"), name))
    assert len(names["bases"]) >= 20
    assert names["runs"] == [run.name for run in list_runs(runs)]
    assert [entry for entries in told.values() for entry in entries if not entry["what"]] == []
    done = medrecipes(runs.parent, "list", "runs", "bases")
    assert done.stdout.startswith("runs\n  begun-33333333")
    assert "\n\nbases\n  gemma " in done.stdout
    own = runs.parent / "recipes"
    own.mkdir()
    (own / "demo.toml").write_text("# mine\n")
    [mine] = [entry for entry in json.loads(medrecipes(runs.parent, "list", "recipes", "--json").stdout)["recipes"] if entry["name"] == "demo"]  # fmt: skip
    assert mine["what"] == "mine"
    wrong = medrecipes(runs.parent, "list", "reciepes")
    assert (wrong.returncode, wrong.stderr) == (2, "list: 'reciepes' is none of recipes, templates, sources, bases, runs; did you mean recipes?\n")  # fmt: skip


@pytest.mark.parametrize("words", [["list"], ["runs"]])
def test_nothing_that_trains_is_loaded(words: list[str], runs: Path) -> None:
    code = f"import sys\nfrom medrecipes.commands import main\nassert main({words!r}) == 0\nsys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=runs.parent, env=settings, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stderr.strip() == ""
    assert "done-11111111" in done.stdout


@NO_CHROMIUM
def test_the_page_is_accessible_and_writes_no_error(runs: Path, tmp_path: Path) -> None:
    path = runs / "half-22222222"
    (path / "samples.jsonl").write_text(json.dumps({"step": 20, "question": MARKUP, "answer": f"</dd>{MARKUP}"}) + "\n")
    with served(runs) as address, holding(path):
        live = fetch(f"{address}/")
        done = browse(f"{address}/", tmp_path / "console", "--enable-logging=stderr", "--v=0")
        assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
        assert f"4 runs in {runs}, 1 at work" in done.stdout
    # in a frame without the command behind it, it looks for it in vain and says so
    require_accessible(live, tmp_path)
