"""Every key of the schema is read: outside the schema and the rules about it, code takes it from a value of its section.

The package's source is followed from parameters and results annotated with a section (`recipe: Recipe`, `-> Publish`),
through attributes, assignments and loops, so a key of the same name in another section, or an attribute of something else,
does not count. What it does not prove is that a value then has its effect; that is for the tests of each part.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from medrecipes.recipe import schema
from medrecipes.recipe.schema import Recipe, Section, fields
from tests.conftest import ROOT

SECTIONS = {
    name: value for name, value in vars(schema).items() if isinstance(value, type) and issubclass(value, Section)
}
# what describes, prints or checks recipes and does nothing with them
ABOUT = {"recipe"}
PACKAGE = ROOT / "medrecipes"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in ABOUT]
Key = tuple[type[Section], str]


@dataclass(frozen=True)
class Each:
    """Several values of a section."""

    section: type[Section]


Kind = type[Section] | Each | None


def kind_of(section: type[Section], name: str) -> Kind:
    """What an attribute of a section is, where it is a section again."""
    if (section, name) == (schema.Data, "entries"):
        return Each(schema.Mix)
    field = section.model_fields.get(name)
    if field is None:
        return None
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
        return field.annotation
    inner = get_args(field.annotation)[:1]
    return Each(inner[0]) if inner and isinstance(inner[0], type) and issubclass(inner[0], Section) else None


class Reads(ast.NodeVisitor):
    """Collects `section.key` wherever what stands before the dot is known to be that section."""

    def __init__(self, members: Mapping[str, type[Section]], returns: Mapping[str, type[Section]]) -> None:
        self.members = members  # attributes of the package's own classes that hold a section
        self.returns = returns  # the module's functions that give one
        self.known: dict[str, Kind] = {}
        self.found: set[Key] = set()

    def kind(self, node: ast.AST) -> Kind:
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.kind(node.value)
            if isinstance(owner, type):
                return kind_of(owner, node.attr)
            return self.members.get(node.attr)
        if isinstance(node, ast.Subscript):
            owner = self.kind(node.value)
            return owner.section if isinstance(owner, Each) else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in self.known:
            return self.returns.get(node.func.id)
        return None

    def bind(self, target: ast.AST, kind: Kind) -> None:
        if isinstance(target, ast.Name):
            self.known[target.id] = kind

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.kind(node.value)
        if isinstance(owner, type) and node.attr in owner.model_fields:
            self.found.add((owner, node.attr))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for one, value in zip(target.elts, node.value.elts, strict=True):
                    self.bind(one, self.kind(value))
            else:
                self.bind(target, self.kind(node.value))

    def loop(self, target: ast.AST, over: ast.AST) -> None:
        kind = self.kind(over)
        self.bind(target, kind.section if isinstance(kind, Each) else None)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.loop(node.target, node.iter)
        for line in [*node.body, *node.orelse]:
            self.visit(line)

    def comprehension(self, node: Any) -> None:
        before = dict(self.known)
        for part in node.generators:
            self.visit(part.iter)
            self.loop(part.target, part.iter)
            for condition in part.ifs:
                self.visit(condition)
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                self.visit(getattr(node, name))
        self.known = before

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = comprehension  # noqa: N815

    def function(self, node: Any) -> None:
        before = dict(self.known)
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            named = argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""
            self.known[argument.arg] = SECTIONS.get(named)
        self.generic_visit(node)
        self.known = before

    visit_FunctionDef = visit_AsyncFunctionDef = function  # noqa: N815


def members(trees: Iterable[ast.AST]) -> dict[str, type[Section]]:
    """`entry: Mix` in the body of a class makes `place.entry` a Mix; names that classes annotate differently are nobody's."""
    named: dict[str, set[str]] = {"recipe": {"Recipe"}}  # engines, and a recipe as it was loaded
    for tree in trees:
        for line in (line for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for line in node.body):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                named.setdefault(line.target.id, set()).add(ast.unparse(line.annotation))
    return {
        name: SECTIONS[next(iter(kinds))]
        for name, kinds in named.items()
        if len(kinds) == 1 and kinds <= SECTIONS.keys()
    }


def returns(tree: ast.Module) -> dict[str, type[Section]]:
    """`def settings() -> Publish` makes `settings()` a Publish, in its own module."""
    return {
        line.name: SECTIONS[line.returns.id]
        for line in tree.body
        if isinstance(line, ast.FunctionDef) and isinstance(line.returns, ast.Name) and line.returns.id in SECTIONS
    }


def reads(sources: Iterable[str]) -> set[Key]:
    trees = [ast.parse(source) for source in sources]
    known, found = members(trees), set[Key]()
    for tree in trees:
        walk = Reads(known, returns(tree))
        walk.visit(tree)
        found |= walk.found
    return found


def handed_on() -> set[Key]:
    """What Data itself hands on to the one entry that it stands for."""
    [entries] = [node for node in ast.walk(ast.parse(Path(schema.__file__).read_text(encoding="utf-8")))
                 if isinstance(node, ast.FunctionDef) and node.name == "entries"]  # fmt: skip
    walk = Reads({}, {})
    walk.known["self"] = schema.Data
    for line in entries.body:
        walk.visit(line)
    return walk.found


def keys() -> dict[str, Key]:
    """Every key that is no table itself, with its section."""
    found: dict[str, Key] = {}
    names = [name for name, _ in fields()]
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue
        section: Any = Recipe
        *tables, key = name.split(".")
        for table in tables:
            kind = kind_of(section, table)
            section = kind.section if isinstance(kind, Each) else kind
        found[name] = (section, key)
    return found


def test_every_key_is_read_by_something() -> None:
    assert len(MODULES) > 50
    assert len(keys()) > 80
    found = reads(path.read_text(encoding="utf-8") for path in MODULES) | handed_on()
    unread = [name for name, key in keys().items() if key not in found]
    # a key that can have one value only chooses nothing yet
    assert [name for name in unread if len(get_args(dict(fields())[name].annotation)) != 1] == []


COUNTS = [
    ("def f(recipe: Recipe):\n    return recipe.lora.rank\n", True),
    ("def f(self):\n    lora, x = self.recipe.lora, 1\n    return lora.rank\n", True),
    ("def f(lora: Lora):\n    return [g for _ in x if lora.rank]\n", True),
    ("class A:\n    half: Lora\ndef f(a: A):\n    return a.half.rank\n", True),
    ("class A:\n    half: Lora\nclass B:\n    half: int\ndef f(a: A):\n    return a.half.rank\n", False),
    ("def a() -> Lora: ...\ndef f():\n    return a().rank\n", True),
    ("def a() -> Lora: ...\ndef f():\n    half = a()\n    return half.rank\n", True),
    ("def a() -> int: ...\ndef f():\n    return a().rank\n", False),
    ("def a(): ...\ndef f():\n    return a().rank\n", False),
    ("def a() -> Lora: ...\ndef f(a):\n    return a().rank\n", False),
    ("class A:\n    def a(self) -> Lora: ...\ndef f():\n    return a().rank\n", False),
    ("def f(recipe: Recipe):\n    return recipe.train.rank\n", False),
    ("def f(recipe):\n    return recipe.lora.rank\n", False),
    ("def f(recipe: Recipe):\n    lora = other\n    return lora.rank\n", False),
    ("def f(lora: Lora):\n    pass\ndef g(lora):\n    return lora.rank\n", False),
    ("def f(recipe: Recipe):\n    return 'recipe.lora.rank'\n", False),
]


@pytest.mark.parametrize(("source", "counts"), COUNTS)
def test_only_a_value_of_the_section_counts(source: str, counts: bool) -> None:
    assert ((schema.Lora, "rank") in reads([source])) is counts


def test_a_loop_knows_what_it_goes_over() -> None:
    source = "def f(recipe: Recipe):\n    for e in recipe.data.entries:\n        print(e.limit)\n    return [e.limit for e in recipe.lora]\n"
    assert (schema.Mix, "limit") in reads([source])


def test_the_recipe_that_builds_is_found_too() -> None:
    assert {path.name for path in MODULES} >= {"walk.py", "chat.py", "build.py", "sweep.py", "split.py"}
    assert Path(schema.__file__) not in MODULES
