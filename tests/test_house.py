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

# A module imports only what stands above it.
ORDER = [
    "errors", "markup", "intake", "resources", "ranks", "notes", "store", "bio", "words", "naming", "console", "hub", "records", "personal", "recipe", "trust", "sources", "layers", "rules", "loading", "show", "schema", "tokens", "cleaning", "pairs", "clusters", "near", "grouping", "tally", "leakage", "reading", "repeats", "bounded", "shapes",
    "prepare", "tagged", "rendering", "base_template", "gguf_base", "bases", "batching", "overflow", "proofs", "preview", "scoring", "plan", "tagging", "hardware", "checkpoints", "rundir", "seal", "plot", "engines", "outlook", "check",
    "cases", "suites", "chatreport", "spanreport", "evaluate", "judge", "compare", "terms", "gates", "cards", "build", "conversion", "tagbuild", "export", "publish", "verify", "chat", "guard", "web", "tagline", "tagtext", "webtag", "run", "sweep", "handlers", "cli",
]  # fmt: skip
PACKAGE = ROOT / "medrecipes"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms that a file imports from, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [
                f"{node.module}.{alias.name}" if node.module == "medrecipes" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("medrecipes.")}
    return found - {"__version__"}


def test_the_walk_finds_the_house() -> None:
    assert len(MODULES) >= 20
    assert {room(path) for path in MODULES} <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    if path == PACKAGE / "run.py":  # `python -m medrecipes.run` enters through the command line
        allowed = set(ORDER[: ORDER.index("run")]) | {"cli"}
    else:
        allowed = set(ORDER[: ORDER.index(room(path)) + 1])
    assert imports(path) <= allowed


def test_only_one_file_imports_unsloth() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if re.search(r"^\s*(import|from) unsloth", path.read_text(), re.M)
    ]
    assert found == ["engines/unsloth.py"]


HEAVY = ("torch", "transformers", "datasets", "matplotlib", "trl", "peft", "unsloth")


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["check", "--schema-only", "recipes/demo.toml"]])
def test_what_needs_no_library_loads_none_and_is_quick(command: list[str]) -> None:
    code = (
        "import sys, contextlib\nfrom medrecipes.cli import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    times = []
    for _ in range(5):
        before = children_seconds()
        done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True)
        times.append(children_seconds() - before)
        assert done.stderr.strip() == ""
    assert min(times) < 0.5


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


def test_the_cpu_lock_has_no_gpu_package() -> None:
    assert not {name for name in locked("cpu.txt") if re.match("nvidia|triton|xformers|torchvision|torchao", name)}
