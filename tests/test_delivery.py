"""Delivery under faults: after each, the repository holds the old release or the new one, whole, and a second push succeeds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.hub import Fault, Harm, Hub, Repo, Token

TOKEN = "hf_plantedSECRETtoken0123456789"
CARD = b"---\nlicense: mit\n---\nthe %s release\n"


def release(word: str, **files: bytes) -> dict[str, bytes]:
    """A small release: a card, a list of its files, settings, and two files that are kept outside git."""
    made = {"README.md": CARD % word.encode(), "config.json": b'{"is": "%s"}' % word.encode(), **files}
    return {**made, "release.json": json.dumps({"files": {name: {} for name in made}}).encode()}


# the weights differ in every third part, so that no part can be taken for another
OLD = release("old", **{"model.safetensors": b"old weights" * 9000, "stale/only_old.txt": b"to be taken away"})
NEW = release("new", **{"model.safetensors": bytes(range(256)) * 600, "tokenizer.json": b'{"new": 1}', "eval/report.json": b"{}"})  # fmt: skip
FOREIGN = {"notes.txt": b"by somebody else"}
OK, FAILS = "ok", "fails"


NO_HARM = Harm()


@dataclass(frozen=True)
class Scenario:
    """A fault on the way of one push: which request it strikes, what happens, how often, and what comes of the push."""

    fits: str
    harm: Harm = NO_HARM
    times: int = 1
    after: int = 0
    comes: str = OK  # or a regular expression for the line that is said
    left: str = "old"  # what the repository holds after a push that failed
    new: bool = False  # whether the repository does not exist before
    revision: str = "main"
    pull: bool = False
    tag: str | None = None
    others: int = 0  # commits that somebody else makes just before ours
    alone: bool = False  # the address names no repository, so no other scenario may meet it


def cut(heard: int) -> Harm:
    return Harm(hear=heard)


def status(code: int, after: str = "", words: str = "") -> Harm:
    headers = {"Retry-After": after} if after else {}
    return Harm(status=code, headers={**headers, **({"X-Error-Message": words} if words else {})}, body="{}")


MUTE, WRONG = Harm(mute=True), Harm(spoil=True)
PART, PUT, VERIFY = r"PUT .*/{repo}/\w+/2$", r"PUT .*/{repo}/\w{64}$", r"POST .*/{repo}/\w+/verify"
COMPLETE, BATCH, PREUPLOAD = r"POST .*/{repo}/\w+/complete", r"POST .*/{repo}\.git/", r"POST .*/{repo}/preupload/"
COMMIT, TREE, REFS, INFO = r"POST .*/{repo}/commit/", r"GET .*/{repo}/tree/", r"GET .*/{repo}/refs", r"GET .*/models/ann/{repo}$"  # fmt: skip
TAG, BRANCH, CDN, RESOLVE = r"POST .*/{repo}/tag/", r"POST .*/{repo}/branch/", r"GET /cdn/.*/{repo}/", r"HEAD .*/{repo}/resolve/.*/config.json"  # fmt: skip
GAVE_UP, LINE = r"ann/{repo}: http://\S+ did not do it \(.+\); the same command goes on", r"ann/{repo}.*"

SCENARIOS = {
    "nothing goes wrong": Scenario("none"),
    # uploads
    "an upload is cut after some bytes": Scenario(PUT, cut(5)),
    "a part is cut after some bytes": Scenario(PART, cut(20_000)),
    "a part is cut before the first byte, twice": Scenario(PART, cut(0), times=2),
    "a part never arrives": Scenario(PART, cut(1000), times=99, comes=GAVE_UP),
    "a part is answered with 500": Scenario(PART, status(500)),
    "an upload is answered with 503": Scenario(PUT, status(503)),
    "an upload is slow": Scenario(PUT, Harm(slow=1.0)),
    "an upload arrives and its answer is lost": Scenario(PUT, MUTE),
    "an upload is refused": Scenario(PUT, status(403), comes=r"ann/{repo}: the token may not do this"),
    "an upload arrives damaged": Scenario(PUT, WRONG, comes=LINE + "the uploaded file is not the one"),
    "a part arrives damaged": Scenario(PART, WRONG, comes=LINE + "the uploaded file is not the one"),
    "the parts are not put together": Scenario(COMPLETE, status(500)),
    "the parts are put together and the answer is lost": Scenario(COMPLETE, MUTE),
    "a check of an upload is answered with 502": Scenario(VERIFY, status(502)),
    "a check of an upload fails": Scenario(VERIFY, status(422), comes=LINE),
    "uploads are rate-limited": Scenario(BATCH, status(429, "1")),
    "the addresses for uploads are cut off": Scenario(BATCH, cut(0)),
    "the addresses for uploads fail twice": Scenario(BATCH, status(500), times=2),
    "what is to be uploaded is not said": Scenario(PREUPLOAD, status(504)),
    "what is to be uploaded is rate-limited": Scenario(PREUPLOAD, status(429, "1")),
    "what is to be uploaded is never said": Scenario(PREUPLOAD, status(500), times=99, comes=GAVE_UP),
    # the commit
    "the commit is answered with 500": Scenario(COMMIT, status(500)),
    "the commit is rate-limited": Scenario(COMMIT, status(429, "1")),
    "the commit is answered with 503": Scenario(COMMIT, status(503, "1"), times=2),
    "the commit is cut in the middle": Scenario(COMMIT, cut(100)),
    "the commit arrives and its answer is lost": Scenario(COMMIT, MUTE),
    "the commit arrives and its answer is cut": Scenario(COMMIT, Harm(say=10)),
    "the commit arrives and half an answer comes": Scenario(COMMIT, Harm(shorten=20)),
    "the commit never works": Scenario(COMMIT, status(503), times=99, comes=GAVE_UP),
    "the commit is refused": Scenario(COMMIT, status(400, words="not like this"), comes=LINE + "not like this"),
    "somebody commits first": Scenario(COMMIT, others=1),
    "somebody always commits first": Scenario(COMMIT, others=2, comes=r"ann/{repo}: somebody else commits to it again and again; push again later"),
    "the Hub calls it a conflict": Scenario(COMMIT, status(409)),
    "somebody commits first to a branch": Scenario(COMMIT, others=1, revision="next"),
    # what is asked before and after
    "the repository is not found out about": Scenario(INFO, status(500)),
    "the repository is rate-limited": Scenario(INFO, status(429, "1")),
    "the branches are not told": Scenario(REFS, status(503)),
    "the branches are cut off": Scenario(REFS, Harm(say=5)),
    "the files are not listed": Scenario(TREE, status(500)),
    "the files are listed slowly": Scenario(TREE, Harm(slow=1.0)),
    "half a list of files comes": Scenario(TREE, Harm(shorten=9)),
    "a page of the list is cut off": Scenario(TREE, Harm(say=9), after=1),
    # branches, tags, pull requests
    "the branch is not made": Scenario(BRANCH, status(500), revision="next"),
    "the branch is made and the answer is lost": Scenario(BRANCH, MUTE, revision="next"),
    "the branch may not be made": Scenario(BRANCH, status(403), revision="next", comes=r"ann/{repo}: the token may not do this"),
    "the tag is not set": Scenario(TAG, status(500), tag="v1"),
    "the tag is set and the answer is lost": Scenario(TAG, MUTE, tag="v1"),
    "the tag is never set": Scenario(TAG, status(503), times=99, tag="v1", comes=GAVE_UP, left="new"),
    "the pull request is answered with 500": Scenario(COMMIT, status(500), pull=True),
    "the pull request is opened and the answer is lost": Scenario(COMMIT, MUTE, pull=True),
    "the pull request is cut in the middle": Scenario(COMMIT, cut(50), pull=True),
    # reading back
    "the files are not listed after the commit": Scenario(TREE, status(500), after=4),
    "a file is not found for reading back": Scenario(RESOLVE, status(503)),
    "a file comes back cut": Scenario(CDN, Harm(say=500)),
    "a file comes back short": Scenario(CDN, Harm(shorten=700)),
    "a file comes back damaged, once": Scenario(CDN, WRONG),
    "a file comes back damaged, always": Scenario(CDN, WRONG, times=99, comes=r"ann/{repo}@\w+: .* came back otherwise than it was sent, twice", left="new"),
    "a file does not come back": Scenario(CDN, status(500)),
    "a file never comes back": Scenario(CDN, status(404), times=99, comes=LINE, left="new"),
    # a new repository
    "a new repository": Scenario("none", new=True),
    "a new repository is not made": Scenario(r"POST /api/repos/create", status(500), new=True, alone=True),
    "a new repository is made and the answer is lost": Scenario(r"POST /api/repos/create", MUTE, new=True, alone=True),
    "a new repository may not be made": Scenario(r"POST /api/repos/create", status(403), new=True, alone=True, comes=r"ann/{repo}: the token may not do this"),
    "a new repository, and then no commit": Scenario(COMMIT, status(400), new=True, comes=LINE),
    "the card is not looked at": Scenario(r"POST /api/validate-yaml", status(500), alone=True),
    "the card is refused": Scenario(r"POST /api/validate-yaml", Harm(status=400, body='{"errors": [{"message": "no such licence"}]}'), alone=True, comes=r"ann/{repo}: the Hub refuses the card's metadata \(- no such licence\); correct it"),
    "the card's check is cut off": Scenario(r"POST /api/validate-yaml", Harm(say=3), alone=True),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What two pushes came to, and what the repository held after each."""

    first: dict[str, Any]
    second: dict[str, Any]
    between: dict[str, bytes]
    end: dict[str, bytes]
    repo: Repo
    name: str
    struck: list[str]


def held(repo: Repo, scenario: Scenario) -> dict[str, bytes]:
    """What stands where the release goes, but for somebody else's files."""
    pulls = [ref for ref in repo.refs if ref.startswith("refs/pr/")]
    where = pulls[-1] if pulls else scenario.revision if f"refs/heads/{scenario.revision}" in repo.refs else "main"
    return {path: data for path, data in repo.contents(where).items() if path not in FOREIGN}


class Driver:
    """The process that pushes."""

    def __init__(self, hub: Hub, home: Path) -> None:
        command = [sys.executable, "-m", "tests.hub.driver"]
        self.said = home / "said.txt"
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=hub.environment(home, TOKEN), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said.open("w"),
        )  # fmt: skip

    def push(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.said.read_text()
        found: list[dict[str, Any]] = json.loads(line)
        return found

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.store.tokens[TOKEN] = Token("ann")
        made.settings.part, made.settings.page = 50_000, 3
        yield made


@pytest.fixture(scope="module")
def driver(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    made = Driver(hub, tmp_path_factory.mktemp("hf"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    for name, data in NEW.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def outcomes(hub: Hub, driver: Driver, new: Path) -> dict[str, Outcome]:
    """All scenarios, those that can be side by side: what they wait for passes at the same time."""
    names = {title: f"m{number}" for number, title in enumerate(SCENARIOS)}
    found = {}
    together = [title for title, scenario in SCENARIOS.items() if not scenario.alone]
    for group in [together, *([title] for title, scenario in SCENARIOS.items() if scenario.alone)]:
        jobs = []
        for title in group:
            scenario, name = SCENARIOS[title], names[title]
            repo = None if scenario.new else hub.store.create(f"ann/{name}", private=True)
            if repo:
                repo.put(OLD, "the old release")
            hub.faults.add(*faults(scenario, name, repo))
            target = {"repo": f"ann/{name}", "kind": "model", "revision": scenario.revision, "pull": scenario.pull, "tag": scenario.tag}  # fmt: skip
            jobs.append({"folder": str(new), "target": target})
        first = driver.push(*jobs)
        repos = {title: hub.store.repos.get(("model", f"ann/{names[title]}")) for title in group}
        between = {title: held(repo, SCENARIOS[title]) if repo else {} for title, repo in repos.items()}
        hub.faults.clear()
        second = driver.push(*jobs)
        for title, one, two in zip(group, first, second, strict=True):
            repo = hub.store.repos["model", f"ann/{names[title]}"]
            pattern = SCENARIOS[title].fits.replace("{repo}", names[title])
            struck = [request for request in hub.faults.struck if re.search(pattern, request)]
            end = held(repo, SCENARIOS[title])
            found[title] = Outcome(one, two, between[title], end, repo, names[title], struck)
    return found


def faults(scenario: Scenario, name: str, repo: Repo | None) -> list[Fault]:
    fits = scenario.fits.replace("{repo}", name)
    if not scenario.others:
        return [Fault(fits, scenario.harm, scenario.times, scenario.after)]

    def commit() -> None:
        assert repo
        content = FOREIGN["notes.txt"] + str(len(repo.commits)).encode()
        repo.commit(scenario.revision, {"notes.txt": repo.file("notes.txt", content)}, "by somebody else")

    return [Fault(fits, replace(scenario.harm, before=commit)) for _ in range(scenario.others)]


def test_there_are_many_scenarios() -> None:
    assert len(SCENARIOS) >= 60


@pytest.mark.parametrize("title", SCENARIOS)
def test_the_repository_is_whole_whatever_happens(title: str, outcomes: dict[str, Outcome]) -> None:
    scenario, outcome = SCENARIOS[title], outcomes[title]
    if scenario.fits != "none":
        assert outcome.struck, "the fault never struck"
    if scenario.comes == OK:
        assert "error" not in outcome.first, outcome.first
        assert outcome.between == NEW
        assert outcome.first["pushed"] is True
        assert outcome.second["pushed"] is False
    else:
        said = outcome.first["error"]
        assert re.match(scenario.comes.replace("{repo}", outcome.name), said), said
        assert "\n" not in said
        before = {} if scenario.new else OLD
        assert outcome.between == (NEW if scenario.left == "new" else before)
        assert outcome.second["pushed"] is (scenario.left == "old")
    # the second push succeeds, and there is one commit of this release however often it was sent
    assert "error" not in outcome.second, outcome.second
    assert outcome.end == NEW
    ours = [commit for commit in outcome.repo.commits.values() if commit.title == "the new release"]
    assert len(ours) == 1
    assert outcome.repo.private


@pytest.mark.parametrize("title", [t for t, s in SCENARIOS.items() if s.others])
def test_what_somebody_else_brought_stays(title: str, outcomes: dict[str, Outcome]) -> None:
    repo = outcomes[title].repo
    assert repo.contents(SCENARIOS[title].revision)["notes.txt"].startswith(b"by somebody else")
    assert outcomes[title].second["foreign"] == ["notes.txt"]


def test_main_is_not_touched_by_a_branch_or_a_pull_request(outcomes: dict[str, Outcome]) -> None:
    for title, scenario in SCENARIOS.items():
        if scenario.pull or scenario.revision != "main":
            assert outcomes[title].repo.contents("main") == OLD
        if scenario.pull:
            assert sum(ref.startswith("refs/pr/") for ref in outcomes[title].repo.refs) == 1


def test_what_was_uploaded_is_not_uploaded_again(outcomes: dict[str, Outcome], hub: Hub) -> None:
    for title in ("the commit never works", "the commit is refused", "somebody always commits first"):
        sent = [request for request in hub.requests if re.match(f"PUT .*/{outcomes[title].name}/", request)]
        assert len(sent) == len(set(sent)) == 5  # four parts of the weights, and the tokenizer


def test_a_pull_request_that_was_closed_is_opened_anew(outcomes: dict[str, Outcome], hub: Hub, driver: Driver, new: Path) -> None:  # fmt: skip
    target = {"repo": "ann/pulls", "kind": "dataset", "pull": True}
    repo = hub.store.create("ann/pulls", "dataset", private=True)
    job = {"folder": str(new), "target": target}
    assert [driver.push(job)[0]["revision"] for _ in range(2)] == ["refs/pr/1", "refs/pr/1"]
    repo.closed.add(1)
    again = driver.push(job)[0]
    assert (again["revision"], again["pushed"]) == ("refs/pr/2", True)
    # merged: then it is there
    repo.put({name: file.content for name, file in repo.resolve("refs/pr/2").files.items()}, "merged")
    repo.closed.add(2)
    merged = driver.push(job)[0]
    assert (merged["revision"], merged["pushed"]) == ("main", False)


def test_a_private_repository_stays_so(hub: Hub, driver: Driver, new: Path) -> None:
    repo = hub.store.create("ann/stays", private=True)
    done = driver.push({"folder": str(new), "target": {"repo": "ann/stays", "kind": "model", "private": False}})[0]
    assert done["pushed"]
    assert repo.private
    assert (
        "note             ann/stays is private and stays so; it is made public on its own page"
        in driver.said.read_text()
    )


def test_a_tag_stands_at_the_release(outcomes: dict[str, Outcome]) -> None:
    for title in (title for title, scenario in SCENARIOS.items() if scenario.tag):
        assert outcomes[title].repo.contents("v1") == NEW


def test_a_retry_after_is_honoured(outcomes: dict[str, Outcome], driver: Driver) -> None:
    said = driver.said.read_text()
    assert "wait             Retrying in 1s: " in said  # ours, for what the client does not try again
    assert "wait             Rate limited. Waiting 2.0s before retry" in said  # the client's own


def test_the_token_is_nowhere(outcomes: dict[str, Outcome], driver: Driver, tmp_path: Path) -> None:
    said = driver.said.read_text() + json.dumps([[o.first, o.second] for o in outcomes.values()])
    assert len(said) > 2000
    assert TOKEN not in said
    assert not [o for o in outcomes.values() for data in o.end.values() if TOKEN.encode() in data]
