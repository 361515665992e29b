"""The rules of the house: who imports whom, what starts fast, what the lock holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT, children_seconds

# A room imports only rooms that stand before it.
ROOMS = (
    "core", "recipe", "data", "rendering", "scoring", "runs", "engines", "evaluation", "release", "use", "pipeline", "commands",
)  # fmt: skip
# The sub-rooms of engines/, and the modules beside them, likewise: what describes, what computes, what trains, the engines.
ENGINES = (
    "plan", "gguf_base", "bases", "opening", "__init__", "multi_gpu", "kernels", "tiny_tokenizers", "tiny_bases", "lora", "base_weights", "generation", "choices", "cpu_weights",
    "answering_engine", "trackers", "trainer", "trl", "unsloth_private", "unsloth",
)  # fmt: skip
TOP = {"__init__.py", "__main__.py", "run.py", "py.typed"}
PACKAGE = ROOT / "medrecipes"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)
NAMES = {".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for p in MODULES}


def imports(path: Path, *, late: bool = False) -> set[str]:
    """The modules of the package that a file imports, without `medrecipes.`; with `late` inside functions alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = set()
    for node in (n for root in (functions if late else [tree]) for n in ast.walk(root)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medrecipes"):
            inside = (node.module or "").partition(".")[2]
            names = [f"{inside}.{alias.name}".strip(".") for alias in node.names]
            found |= {name if name in NAMES else inside for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("medrecipes.")}
    return found - {""}


def sub_room(name: str) -> str:
    """`engines.kernels.fused_layer` stands in `kernels`, `engines.bases` by itself."""
    return [*name.split("."), "__init__"][1]


def test_the_package_holds_rooms_and_nothing_else() -> None:
    entries = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert entries - TOP == set(ROOMS)
    assert entries >= TOP
    assert len(MODULES) >= 150
    assert {p.name for p in (PACKAGE / "engines").iterdir() if p.name != "__pycache__"} == {
        name if (PACKAGE / "engines" / name).is_dir() else f"{name}.py" for name in ENGINES
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    names, room = imports(path), path.relative_to(PACKAGE).parts[0]
    assert {name.split(".")[0] for name in names} <= set(ROOMS[: ROOMS.index(room) + 1])
    if room == "engines":
        own = sub_room(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
        allowed = set(ENGINES[: ENGINES.index(own) + 1])
        assert {sub_room(name) for name in names if name.split(".")[0] == "engines"} <= allowed


# What imports modules of the package inside functions besides commands/ and engines/, and why.
LATE = {
    "pipeline/check.py": "check --schema-only loads neither numpy nor tokenizers",
    "evaluation/reopen.py": "its engine may be replaced, and follows in processes of its own",
    "release/export/merging.py": "torch and transformers load behind the checks",
    "release/export/parity.py": "torch and transformers load behind the checks",
    "release/verify/__init__.py": "a run needs nothing of the Hub",
    "pipeline/plan_report.py": "torch loads where this machine's own GPU is asked for",
    "use/chat.py": "the engine's libraries load behind the checks",
}


def test_only_commands_and_engines_import_late() -> None:
    late = {path.relative_to(PACKAGE).as_posix() for path in MODULES if imports(path, late=True)}
    assert {name for name in late if name.split("/")[0] not in ("commands", "engines")} <= set(LATE)
    outside = [name for path in MODULES for name in imports(path, late=True) if path.parent.name != "commands"]
    assert len(outside) <= 30


# Functions whose parameters a library names: what it calls, and what stands in the place of one of its own.
CALLED_BY = {
    ("engines/generation/body.py", "_attention"): "transformers: an attention function",
    ("engines/kernels/varlen_attention.py", "varlen"): "transformers: an attention function",
    ("engines/kernels/varlen_attention.py", "varlen_attn"): "torch: its function of this name, which Unsloth calls",
    ("engines/trainer/async_logging.py", "_maybe_log_save_evaluate"): "transformers: a method of its trainer",
    ("use/chat_page.py", "ask"): "Gradio: a parameter for each input of the page",
}


def test_a_function_has_at_most_six_parameters() -> None:
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in given if one.arg not in ("self", "cls")]) > 6:
                    found.add((path.relative_to(PACKAGE).as_posix(), node.name))
    assert found == set(CALLED_BY)


def test_only_one_file_imports_unsloth() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if re.search(r"^\s*(import|from) unsloth", path.read_text(), re.M)
    ]
    assert found == ["engines/unsloth.py"]


HEAVY = ("torch", "transformers", "datasets", "matplotlib", "trl", "peft", "unsloth")


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "--help"],
        ["check", "--schema-only", "recipes/tiny_mistral.toml"],
        ["list", "templates", "sources"],
    ],
)
def test_what_needs_no_library_loads_none_and_is_quick(command: list[str]) -> None:
    code = (
        "import sys, contextlib\nfrom medrecipes.commands import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    times = []
    for _ in range(5):
        before = children_seconds()
        done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True)
        times.append(children_seconds() - before)
        assert done.stderr.strip() == ""
    assert min(times) < (0.5 if "--help" in command else 1.0)  # of a processor, and slow ones take half as long again


@pytest.mark.parametrize(
    "command", [["check", "recipes/tiny_mistral.toml"], ["check", "recipes/tiny_bio_ner.toml"], ["preview", "recipes/tiny_mistral.toml", "-n", "1"]],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_what_needs_a_tokenizer_alone_imports_no_engine(command: list[str]) -> None:
    code = (
        "import sys\nfrom medrecipes.commands import main\ncode = main(sys.argv[1:])\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules) or code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tokens" in done.stdout or "token" in done.stdout


def test_telemetry_is_off_unless_the_user_turns_it_on() -> None:
    code = (
        "import medrecipes, os; print(os.environ['UNSLOTH_DISABLE_STATISTICS'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={"HF_HUB_DISABLE_TELEMETRY": "0"})  # fmt: skip
    assert done.stdout.split() == ["1", "0"]


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {pin.name.replace("_", "-").lower(): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.mark.parametrize(
    ("lock", "extras"), [("cpu.txt", ["unsloth", "dev"]), ("cuda.txt", ["unsloth", "cuda", "dev"])]
)
def test_the_lock_holds_what_the_project_asks_for(lock: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]]
    pins = locked("torch.txt") | locked(lock)
    assert len(pins) > 80
    for requirement in wanted:
        name = requirement.name.replace("_", "-").lower()
        if name == "medrecipes":
            continue
        assert name in pins, f"{name} is not in requirements/{lock}; run scripts/lock"
        assert pins[name] in requirement.specifier, f"{name}: {lock} pins {pins[name]}; run scripts/lock"


def test_what_checks_need_is_locked_in_the_versions_of_the_stack_beside_it() -> None:
    pins = locked("checks.txt")
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["checks"]:
        assert pins[Requirement(text).name] in Requirement(text).specifier
    for stack in (locked("cpu.txt"), locked("cuda.txt")):
        assert {name: pins[name] for name in pins.keys() & stack.keys()} == {
            name: stack[name] for name in pins.keys() & stack.keys()
        }


def test_the_cpu_lock_has_no_gpu_package() -> None:
    assert not {name for name in locked("cpu.txt") if re.match("nvidia|triton|xformers|torchvision|torchao", name)}


def test_windows_is_told_that_it_is_not_supported() -> None:
    code = "import sys; sys.platform = 'win32'; import medrecipes"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.stderr.splitlines()[-1] == "ImportError: medrecipes runs on Linux and macOS; on Windows, run it inside WSL"
    )
