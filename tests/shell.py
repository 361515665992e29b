"""Runs `medrecipes …` commands one after the other in one process, so that the libraries are imported once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests import forked
from tests.conftest import ROOT


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


class Shell:
    """A process in which commands are run, and into which what libraries print past the console goes unread."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.said = home / "said.txt"
        home.mkdir(exist_ok=True, parents=True)
        words, errors = ("-m", "tests.shell"), self.said.open("w")
        self._process: subprocess.Popen[str] | forked.Forked
        if forking := forked.forks("unsloth", environment):
            (asks, self._asks), (self._answers, answers) = _pipe(), _pipe()
            self._process = forking.spawn(words, ROOT, environment, (asks, answers, errors))
            asks.close()
            answers.close()
        else:
            pipe = subprocess.PIPE
            self._process = process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=errors)  # fmt: skip
            assert process.stdin
            assert process.stdout
            self._asks, self._answers = process.stdin, process.stdout
        errors.close()
        # before anything else imports what it changes
        self.python("from medrecipes.engines import load_libraries\nfrom medrecipes.recipe.schema import Recipe\nload_libraries(Recipe())\nresult = 1")  # fmt: skip

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self._asks.close()
        self._process.wait(60)

    def __call__(self, *arguments: object, input: str = "", **environment: str) -> Done:
        """Run a command; `environment` holds for it alone."""
        return Done(**self._ask({"run": [str(a) for a in arguments], "input": input, "environment": environment}))

    def python(self, code: str, **values: Any) -> Any:
        """Run code that sets `result`, which must be JSON; the values are its variables."""
        answer = self._ask({"code": code, "values": {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}})  # fmt: skip
        assert "result" in answer, answer
        return answer["result"]

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        self._asks.write(json.dumps(job) + "\n")
        self._asks.flush()
        line = self._answers.readline()
        assert line, self.said.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer


def _pipe() -> tuple[IO[str], IO[str]]:
    """Its end to read and its end to write."""
    reads, writes = os.pipe()
    return os.fdopen(reads), os.fdopen(writes, "w")


def _command(arguments: list[str], typed: str, environment: dict[str, str]) -> dict[str, Any]:
    from medrecipes.commands import main

    before, jobs = dict(os.environ), sys.stdin
    os.environ.update(environment)
    sys.stdin = io.StringIO(typed)
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
            sys.stdin = jobs
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
            answer = _command(job["run"], job["input"], job["environment"])
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
