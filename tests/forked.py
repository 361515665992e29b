"""Python commands in processes that are forked from one which has imported the libraries and done nothing else.

Such a process is as fresh as one that imported them itself, and ten seconds of a processor cheaper.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

DESCRIPTOR = array.array("i").itemsize
ROOT = Path(__file__).parent.parent
# what the libraries read no setting from while they are imported: where anything else differs, a new interpreter starts
MAY_DIFFER = ("MEDRECIPES_", "PYTEST_", "TEST_", "COLUMNS", "LINES", "TERM", "NO_COLOR")
# what the libraries set themselves when they are imported, which tests do in their own process too: it asks for nothing
LEFT_BEHIND = (
    "UNSLOTH_", "HF_XET_", "TRITON_", "DIFFUSERS_VERBOSITY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "GRADIO_ANALYTICS_ENABLED",
    "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "KMP_", "MLFLOW_DISABLE_TELEMETRY", "OMP_WAIT_POLICY",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "PYTORCH_ALLOC_CONF", "TOKENIZERS_PARALLELISM", "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_ROCM_", "TRANSFORMERS_OFFLINE", "USE_FLAX", "USE_TF", "WANDB_ERROR_REPORTING", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip

# what most commands import besides their engine
MORE = ("medrecipes.pipeline.walk", "medrecipes.release.verify", "matplotlib.figure", "rouge_score.rouge_scorer")


class Forked:
    """A command at work, as far as `subprocess.Popen` is needed."""

    def __init__(self, told: IO[str], printed: tuple[IO[str], IO[str]]) -> None:
        self._told, self._printed, self.pid = told, printed, int(told.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked command", timeout or 0)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, and as errors, once it has ended."""
        self.wait(timeout)
        for file in self._printed:
            file.seek(0)
        out, err = (file.read() for file in self._printed)
        return out, err

    def send_signal(self, number: int) -> None:
        """As a terminal or the system does."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Forks:
    """Commands forked from a process that has imported an engine's libraries."""

    def __init__(self, engine: str) -> None:
        self._environment = dict(os.environ)
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.forked", engine, str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()])  # fmt: skip
        theirs.close()
        # not where they cannot be imported; and a GPU that was looked at meanwhile cannot be used behind a fork
        self._can_fork = self._socket.recv(1) == b"1"
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait(60)

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment would import the libraries as they are here."""
        return self._can_fork and _alike(self._environment, environment, (*MAY_DIFFER, *LEFT_BEHIND))

    def start(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], input: str = "") -> Forked:
        """`python WORDS`, with `-c` or `-m` first."""
        typed, out, err = (tempfile.TemporaryFile("w+") for _ in range(3))  # noqa: SIM115 - as long as they are read
        typed.write(input)
        typed.seek(0)
        return self.spawn(words, cwd, environment, (typed, out, err))

    def spawn(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], streams: tuple[IO[str], IO[str], IO[str]]
    ) -> Forked:
        """The same, with these for its standard input, output and errors."""
        told, status = os.pipe()
        environment = {name: value for name, value in environment.items() if not name.startswith(LEFT_BEHIND)}
        environment |= {name: value for name, value in self._environment.items() if name.startswith(LEFT_BEHIND)}
        with tempfile.TemporaryFile("w+") as job:
            json.dump({"words": [*words], "cwd": str(cwd), "environment": environment}, job)
            job.seek(0)
            descriptors = array.array("i", [*(stream.fileno() for stream in streams), status, job.fileno()])
            self._socket.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            assert self._socket.recv(1), "the process that is forked from has ended"
        os.close(status)
        return Forked(os.fdopen(told), streams[1:])


def _alike(one: Mapping[str, str], other: Mapping[str, str], may_differ: tuple[str, ...] = MAY_DIFFER) -> bool:
    return all(name.startswith(may_differ) for name, _ in one.items() ^ other.items())


def forks(engine: str, environment: Mapping[str, str]) -> Forks | None:
    """Those of this process, from when they are first wanted; none where the environment would have them import otherwise."""
    if not _alike(os.environ, environment):
        return None
    found = _forks(engine)
    return found if found.takes(environment) else None


@cache
def _forks(engine: str) -> Forks:
    return Forks(engine)


def engine_of(words: Sequence[str]) -> str:
    """Whose libraries a command imports: Unsloth changes what it finds, and must not be there for another engine."""
    text = " ".join(words)
    return "trl" if "engine=trl" in text or "bio_ner" in text else "unsloth"


def start(
    *words: object, cwd: Path = ROOT, env: Mapping[str, str] | None = None, input: str = "", engine: str | None = None
) -> Forked | subprocess.Popen[str]:
    """`python WORDS`, with `-c` or `-m` first, at work."""
    said, environment = [str(word) for word in words], dict(os.environ if env is None else env)
    if forking := forks(engine or engine_of(said), environment):
        return forking.start(said, cwd, environment, input)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *said], cwd=cwd, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # fmt: skip
    assert process.stdin
    process.stdin.write(input)
    process.stdin.close()
    process.stdin = None
    return process


def run(*words: object, timeout: float = 300, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The same to its end, as `subprocess.run` gives it."""
    process = start(*words, **settings)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess([*map(str, words)], process.returncode, out, err)


def main() -> None:
    """Import; then for every job a process, and one that waits for it and says how it ended."""
    ours, before = socket.socket(fileno=int(sys.argv[2])), dict(os.environ)
    for module in (f"medrecipes.engines.{sys.argv[1]}", *MORE):
        importlib.import_module(module)
    imported = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.collect()
    gc.freeze()
    torch = importlib.import_module("torch")
    ours.send(b"0" if torch.cuda.is_initialized() else b"1")
    while ours.recv(1, socket.MSG_PEEK):
        _, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(5 * DESCRIPTOR))
        *streams, status, file = array.array("i", control[0][2])
        if not os.fork():
            ours.close()
            if pid := os.fork():
                os.write(status, f"{pid}\n".encode())
                for descriptor in (*streams, file):  # whoever reads a pipe to its end waits for the command alone
                    os.close(descriptor)
                os.write(status, f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
                os._exit(0)
            os.close(status)
            with os.fdopen(file) as opened:
                job = json.load(opened)
            _become(job["words"], job["cwd"], imported | job["environment"], streams)
        for descriptor in (*streams, status, file):
            os.close(descriptor)
        ours.send(b"1")
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(words: Sequence[str], cwd: str, environment: Mapping[str, str], streams: Sequence[int]) -> NoReturn:
    """What an interpreter that is called with these words does from here on, but for taking its thousands of modules apart."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False, buffering=1, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    kind, what, *sys.argv[1:] = words
    sys.path[0] = cwd if kind == "-m" else ""
    status: object = None
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv[0] = "-c"
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if not isinstance(status, int | None):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined] # as the interpreter itself ends: pools first, then other threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    main()
