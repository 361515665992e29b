"""Data from the Hub: real client, real HTTP on loopback, the commit pinned and recorded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SHA = "a" * 39 + "1"
REPO = "lavita/MedQuAD"
FILES = {
    "data/train-00000-of-00001.parquet": (ROOT / "data/medquad_hub/train-00000-of-00001.parquet").read_bytes(),
    "README.md": b"---\nlicense: other\n---\n",
}


class Hub(BaseHTTPRequestHandler):
    """One dataset repository, `main` at one commit."""

    asked: list[str] = []  # noqa: RUF012 - shared by all requests on purpose

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path == f"/api/datasets/{REPO}/revision/main":
            siblings = [{"rfilename": name} for name in FILES]
            self.json({"id": REPO, "sha": SHA, "siblings": siblings}, body)
        elif path == f"/api/datasets/{REPO}/tree/{SHA}":
            tree = [{"type": "file", "path": n, "size": len(c), "oid": sha1(c)} for n, c in FILES.items()]
            self.json(tree, body)
        elif path.startswith(f"/datasets/{REPO}/resolve/{SHA}/"):
            content = FILES[path.partition(f"{SHA}/")[2]]
            self.reply(200, content, body, {"ETag": f'"{sha1(content)}"', "X-Repo-Commit": SHA})
        else:
            self.reply(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def json(self, value: Any, body: bool) -> None:
        self.reply(200, json.dumps(value).encode(), body, {"Content-Type": "application/json"})

    def reply(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


CODE = """
import json, sys
from medrecipes.errors import DataError
from medrecipes.prepare import prepare
from medrecipes.recipe import Data, Recipe
try:
    split = prepare(Recipe(data=Data(**json.loads(sys.argv[1]))))
except DataError as error:
    sys.exit(str(error))
print(json.dumps([split.report["sources"][0], split.report["seen"], split.key]))
"""


def run(endpoint: str, folder: Path, **data: Any) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "MEDRECIPES_CACHE": str(folder / "store"),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    arguments = [sys.executable, "-c", CODE, json.dumps(data)]
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_branch_is_resolved_once_and_the_commit_is_recorded(hub: str, tmp_path: Path) -> None:
    done = run(hub, tmp_path, source="medquad")
    assert done.returncode == 0, done.stderr
    source, seen, key = json.loads(done.stdout)
    assert (source["repo"], source["revision"], source["sha"], source["file"]) == (REPO, "main", SHA, None)
    assert source["content"] == f"{REPO}@{SHA}"
    assert seen == 80
    assert not [path for path in Hub.asked if "README" in path]  # only the files that the source reads
    fetched = len(Hub.asked)
    assert json.loads(run(hub, tmp_path, source="medquad").stdout)[2] == key
    assert Hub.asked[fetched:] == [f"/api/datasets/{REPO}/revision/main"]  # the split is known, nothing is read again
    pinned = run(hub, tmp_path, source="medquad", revision=SHA)
    assert json.loads(pinned.stdout)[2] == key


def test_what_the_hub_does_not_have_is_one_line(hub: str, tmp_path: Path) -> None:
    done = run(hub, tmp_path, source="medquad", revision="v9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{REPO}@v9: cannot be had from the Hub (" in done.stderr
    assert "set data.path to a local copy" in done.stderr
    none = run(hub, tmp_path, source="ner_instruct")
    assert "ner_instruct: has no repository on the Hub; set data.path (see https://github.com/" in none.stderr
