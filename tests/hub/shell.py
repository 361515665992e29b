"""Runs `medrecipes …` commands one after the other in one process, so that the libraries are imported once: `Shell(hub, …)`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.conftest import ROOT
from tests.hub import Hub


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


class Shell:
    """A process for which a test Hub is the only one."""

    def __init__(self, hub: Hub, home: Path, token: str | None, **environment: str) -> None:
        self.said = home / "said.txt"  # what libraries print past the console
        home.mkdir(exist_ok=True, parents=True)
        settings = {"OMP_NUM_THREADS": "1", **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.shell"], cwd=ROOT, env=hub.environment(home, token, **settings), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said.open("w"),
        )  # fmt: skip

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)

    def __call__(self, *arguments: object, **environment: str) -> Done:
        """Run a command; `environment` holds for it alone."""
        return Done(**self._ask({"run": [str(a) for a in arguments], "environment": environment}))

    def python(self, code: str, **values: Any) -> Any:
        """Run code that sets `result`, which must be JSON; the values are its variables."""
        answer = self._ask({"code": code, "values": {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}})  # fmt: skip
        assert "result" in answer, answer
        return answer["result"]

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.said.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer


def _command(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    from medrecipes.cli import main

    before = dict(os.environ)
    os.environ.update(environment)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # the descriptors, for that is what the console itself turns elsewhere
        saved = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(before)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return {"code": code, "out": said[0], "err": said[1]}


def main() -> None:
    # answers have a pipe of their own: libraries print where they like
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        if "run" in job:
            answer = _command(job["run"], job["environment"])
        else:
            space = dict(job["values"])
            try:
                exec(job["code"], space)
                answer = {"result": space["result"]}
            except Exception as error:
                answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
