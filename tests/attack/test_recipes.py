"""Bad recipes: damaged TOML, damaged layers, files that are none, and every key of the schema with every kind of wrong value."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from medrecipes.core.errors import RecipeError
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Section, fields
from tests.attack.harness import attack, limited, refused
from tests.conftest import ROOT

Recording = Callable[[str, object], None]
LONG = "1" + "0" * 5000

# a text, and what its one line says behind the file's name
BROKEN = [
    ("[lora\n", ":1: broken TOML"),
    ("[lora]]\n", ":1: broken TOML"),
    ("[[lora]\n", ":1: broken TOML"),
    ("[]\n", ":1: broken TOML"),
    ("[lora]\nrank\n", ":2: broken TOML"),
    ("[lora]\nrank = \n", ":2: broken TOML"),
    ("[lora]\nrank = 8 9\n", ":2: broken TOML"),
    ("[lora]\nrank = 8\nrank = 8\n", ":3: broken TOML"),
    ("[lora]\nrank = 8\n[lora]\nalpha = 8\n", ":3: broken TOML"),
    ("lora = 1\n[lora]\nrank = 8\n", ":2: broken TOML"),
    ("lora.rank = 8\nlora = { alpha = 8 }\n", ":2: broken TOML"),
    ("seed = 08\n", ":1: broken TOML"),
    ("seed = 1__0\n", ":1: broken TOML"),
    ("seed = 0x\n", ":1: broken TOML"),
    ("seed = +0b1\n", ":1: broken TOML"),
    ("name = 'x\n", ":1: broken TOML"),
    ('name = "x\n', ":1: broken TOML"),
    ('name = "\\q"\n', ":1: broken TOML"),
    ('name = "\\ud800"\n', ":1: broken TOML"),
    ('name = "\\U00110000"\n', ":1: broken TOML"),
    ('name = """x\n', "broken TOML"),
    ("name = '''x\n", "broken TOML"),
    ("name = x\n", ":1: broken TOML"),
    ("name = 'a' 'b'\n", ":1: broken TOML"),
    ("seed = 1, 2\n", ":1: broken TOML"),
    ("seed = [1\n", "broken TOML"),
    ("data = { split = { train = 1 }\n", ":1: broken TOML"),
    ("data = { split = { train = 1, } }\n", ":1: broken TOML"),
    ("data = {\nlimit = 1 }\n", ":1: broken TOML"),
    ("= 1\n", ":1: broken TOML"),
    (". = 1\n", ":1: broken TOML"),
    ("a..b = 1\n", ":1: broken TOML"),
    ("a. = 1\n", ":1: broken TOML"),
    ("é = 1\n", ":1: broken TOML"),
    ("seed = 1979-02-30\n", ":1: broken TOML"),
    ("seed = 25:00:00\n", ":1: broken TOML"),
    ("seed: 1\n", ":1: broken TOML"),
    ("{}\n", ":1: broken TOML"),
    ("<recipe/>\n", ":1: broken TOML"),
    ("---\nseed: 1\n", ":1: broken TOML"),
    ("seed = nul\n", ":1: broken TOML"),
    ("seed = True\n", ":1: broken TOML"),
    ("name = \"a\x00b\"\n", ":1: broken TOML"),
    ("name = \"a\x1b[31m\"\n", ":1: broken TOML"),
    ("\x00\n", ":1: broken TOML"),
    ("# \x07\n", ":1: broken TOML"),
    (f"seed = {LONG}\n", ":1: broken TOML (a number of thousands of digits)"),
    (f"[lora]\n\nrank = [{LONG}]\n", ":3: broken TOML (a number of thousands of digits)"),
    ("seed = " + "[" * 100_000 + "\n", ":1: broken TOML (tables and lists more than 16 deep"),
    ("seed = " + "[" * 300 + "]" * 300 + "\n", ":1: broken TOML (tables and lists more than 16 deep"),
    ("seed = " + "{a=" * 300 + "1" + "}" * 300 + "\n", ":1: broken TOML (a key of more than 16 parts"),
    ("seed = " + "[{a=" * 300 + "1" + "}]" * 300 + "\n", ":1: broken TOML (a key of more than 16 parts"),
    ("\n" + "a." * 100_000 + "a = 1\n", ":2: broken TOML (a key of more than 16 parts)"),
    ("[" + "a." * 100_000 + "a]\n" + "b = 1\n" * 1000, ":1: broken TOML (a key of more than 16 parts)"),
    ("x = { " + "a." * 100_000 + "a = 1 }\n", ":1: broken TOML (a key of more than 16 parts)"),
    ('"""\\' * 50_000, ":1: broken TOML"),
    ("'" * 99_999, "broken TOML"),
    ("x = '''" * 30_000, "broken TOML"),
]  # fmt: skip
# a text in good TOML, and what its lines say of its keys
WRONG = [
    ("extends.a = 1\n", ":1: extends = {'a': 1}: must be a file, or a list of files"),
    ("[extends]\na = 1\n", ":1: extends = {'a': 1}: must be a file, or a list of files"),
    ("[[extends]]\na = 1\n", ":1: extends = [{'a': 1}]: must be a file, or a list of files"),
    ("\nextends = 1\n", ":2: extends = 1: must be a file, or a list of files"),
    ("extends = [1]\n", ":1: extends = [1]: must be a file, or a list of files"),
    ("extends = [['a.toml']]\n", ":1: extends = [['a.toml']]: must be a file"),
    ("extends = true\n", ":1: extends = True: must be a file"),
    ("extends = ''\n", ": is a folder; a recipe is a TOML file, name one"),
    ("extends = '.'\n", ": is a folder; a recipe is a TOML file, name one"),
    ("extends = 'absent.toml'\n", "absent.toml: no such recipe; correct the path"),
    ("extends = 'x.toml/y.toml'\n", "cannot be read (Not a directory)"),
    ("extends = 'x.toml'\n", "which extends it in turn; break the circle"),
    ("extends = './sub/../x.toml'\n", "which extends it in turn; break the circle"),
    ("extends = 'round.toml'\n", "x.toml, which extends it in turn; break the circle"),
    ("extends = 'circle1'\n", "cannot be read (Too many levels of symbolic links)"),
    (f"extends = '{'a' * 5000}'\n", "cannot be read (File name too long)"),
    (f"extends = '{'a/' * 5000}'\n", "cannot be read (File name too long)"),
    ('extends = "a\\u0000b"\n', "cannot be read (embedded null byte)"),
    ("extends = '/dev/zero'\n", "/dev/zero: is a device, not a file"),
    ("extends = '/dev/random'\n", "/dev/random: is a device, not a file"),
    ("extends = '/dev/null'\n", "/dev/null: is a device, not a file"),
    ("extends = 'pipe'\n", "pipe: is a named pipe, not a file; copy what it gives into one"),
    ("extends = 'socket'\n", "socket: cannot be read"),
    ("extends = 'huge.toml'\n", "huge.toml: is larger than 256 kB, and a recipe is written by hand"),
    ("extends = 'binary.toml'\n", "binary.toml: cannot be read ('utf-8' codec can't decode"),
    ("extends = 'utf16.toml'\n", "utf16.toml: cannot be read ('utf-8' codec can't decode"),
    ("extends = 'many.toml'\n", "extends more than 64 files"),
    ("extends = 'deep0.toml'\n", "extends files more than 8 deep"),
    ("extends = 'bad.toml'\n", "bad.toml:2: broken TOML"),
    ("extends = ['a.toml', 'b.toml']\n", "b.toml:2: lora.rank contradicts"),
    ("extends = ['a.toml', 'c.toml']\n", "train.max_steps contradicts"),
    ("[train]\nepochs = 1\nmax_steps = 5\n", ":3: train.max_steps contradicts"),
    ("[train]\nwarmup_steps = 1\nwarmup_fraction = 0.1\n", ":3: train.warmup_fraction contradicts"),
    ("lora = 1\n", ":1: lora = 1: must be a table"),
    ("lora = []\n", ":1: lora = []: must be a table"),
    ("[[lora]]\nrank = 8\n", ":1: lora = [{'rank': 8}]: must be a table"),
    ("[lora.rank]\nx = 1\n", ":1: lora.rank = {'x': 1}: must be"),
    ("[data.columns]\nquestion = 1\n", ":2: data.columns.question = 1: must be"),
    ("data.columns = 'question'\n", ":1: data.columns = 'question': must be a table"),
    ("[data]\nmix = [1]\n", ":2: data.mix = 1: must be a table"),
    ("[data]\nmix = [{}]\n", ":2: data.mix.0.source is missing; set it"),
    ("[[data.mix]]\nsource = 'medquad'\n[[data.mix]]\npath = '.'\n", ":3: data.mix.1.source is missing; set it"),
    ("[[data.mix]]\nsource = 'medquad'\n[[data.mix]]\nsource = 'medqaud'\n", ":4: data.mix.1.source = 'medqaud' is unknown; did you mean medquad?"),
    ("[[data.mix]]\nsource = 'medquad'\nweight = -1\n", ":3: data.mix.0.weight = -1: must be greater than 0"),
    ("[[data.mix]]\nsource = 'medquad'\n[data.mix.columns]\nanswre = 'a'\n", "data.mix.0.columns.answre is unknown; did you mean data.mix.columns.answer?"),
    ("[data]\nmix = [\n  { source = 'medquad' },\n  { source = 'medquad', limit = 0 },\n]\n", ":4: data.mix.1.limit = 0: must be"),
    ("[[data.mix]]\nsource = 'medquad'\n" * 65, "data.mix"),
    ("[lora]\ntargets = []\n", ":2: lora.targets is empty"),
    ("[lora]\ntargets = ['lm_head']\n", ":2: lora.targets: 'lm_head' alone would leave the adapter empty"),
    ("[lora]\ntargets = ['embed_tokens', 'lm_head']\n", ":2: lora.targets: 'embed_tokens' and 'lm_head' alone would"),
    ("[lora]\ntargets = ['q_proj', 'q_proj']\n", ":2: lora.targets: 'q_proj' stands there twice"),
    ("[lora]\nRank = 8\n", ":2: lora.Rank is unknown; did you mean lora.rank?"),
    ("[LORA]\nrank = 8\n", ":1: LORA is unknown; did you mean lora?"),
    ("[\"lora\\u001b[31m\"]\nrank = 8\n", "\\x1b"),
    ("\"\\u202e\" = 8\n", "\\u202e is unknown"),
    ("\"a\\nb\" = 8\n", ":1: a\\nb is unknown"),
    ("[model]\nbase = ''\n", ":2: model.base = '' is neither"),
    (f"[model]\nbase = '{'a' * 5000}'\n", ":2: model.base = 'aaa"),
    ("[model]\nbase = \"a\\u0000\"\n", ":2: model.base holds the character '\\x00'"),
    ("[model]\nbase = 'tiny:mistrel'\n", ":2: model.base = 'tiny:mistrel' is unknown; did you mean tiny:mistral?"),
    ("[model]\nbase = 'a/b/c'\n", ":2: model.base = 'a/b/c' is neither"),
    ("[data]\npath = 'circle1'\n", ":2: data.path = "),
    (f"[data]\npath = '{'a' * 5000}'\n", ":2: data.path = "),
    ("[data]\npath = '~nobody-of-this-name/x'\n", ":2: data.path = "),
    ("[eval]\ncases = '/dev/zero'\n", ":2: eval.cases = '/dev/zero' does not exist"),
    ("[eval]\ncases = 'pipe'\n", ":2: eval.cases = "),
    ("[eval]\ntemperature = 1e-300\n", ":2: eval.temperature = 1e-300 divides by so little"),
    ("[train]\nwarmup_fraction = 1.0\n", ":2: train.warmup_fraction = 1.0: must be less than 1 (the learning rate would reach its peak when all is over)"),
    ("seed = -1\n", ":1: seed = -1: must be greater than or equal to 0"),
    ("seed = 4294967296\n", ":1: seed = 4294967296: must be less than or equal to 4294967295 (NumPy's seeds have 32 bits)"),
    ("[lora]\nrank = 10_000_000\n", ":2: lora.rank = 10000000: must be less than or equal to 8192 (no layer is wider)"),
    ("[train]\nepochs = 1e300\n", ":2: train.epochs = 1e+300: must be less than or equal to 10000 (rows are known by heart long before)"),
    ("[train]\nepochs = inf\n", ":2: train.epochs = inf: must be a finite number"),
    ("[train]\nbatch = 10_000_000\n", ":2: train.batch = 10000000: must be less than or equal to 65536"),
    ("[lora]\nalpha = 10_000_000\n", ":2: lora.alpha = 10000000: must be less than or equal to 65504 (fp16 holds no larger number)"),
    (f"seed = 0x{'f' * 5000}\n", ":1: seed is a whole number of more than 64 bits; write a smaller one"),
    ("[sweep]\n\"lora.rank\" = 8\n", ":2: sweep.lora.rank = 8: must be a list"),
    ("[sweep]\n\"lora.rank\" = []\n", ":2: sweep.lora.rank is empty; give the values to try"),
    ("[sweep]\n\"lora.rnak\" = [8]\n", ":2: sweep.lora.rnak matches no key of a recipe; did you mean lora.rank?"),
    ("[sweep]\nsamples = 3\n", ":2: sweep.samples draws from nothing"),
    (f"[sweep]\n\"lora.rank\" = {list(range(1, 1500))}\n", ":1: sweep: makes 1,499 trainings, and at most 1,000 may be named"),
    ("[sweep]\nsamples = 5\n" + "".join(f"\"{key}\" = {list(range(1, 250))}\n" for key in ("lora.rank", "lora.alpha", "train.batch", "eval.rows", "seed", "data.limit")), "sweep"),
]  # fmt: skip


def lines_of(path: Path, *overrides: str) -> list[str]:
    """What is wrong with a recipe, every line of it printable; none where it is accepted."""
    problems: list[str] = []
    with limited():
        try:
            load(path, overrides)
        except RecipeError as error:
            problems = error.problems or [""]
    assert all(problem and problem.isprintable() for problem in problems), problems
    return problems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files that a recipe may extend, and better does not."""
    import socket

    files = {
        "a.toml": "[lora]\nrank = 4\n[train]\nepochs = 2\n", "b.toml": "[lora]\nrank = 8\n", "c.toml": "[train]\nmax_steps = 5\n",
        "bad.toml": "\n[lora\n", "round.toml": "extends = 'x.toml'\n", "many.toml": f"extends = {['more.toml'] * 9}\n",
        "more.toml": f"extends = {['most.toml'] * 9}\n", "most.toml": "seed = 1\n", "huge.toml": "# a\n" * 70_000,
        **{f"deep{n}.toml": f"extends = 'deep{n + 1}.toml'\n" for n in range(12)},
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "utf16.toml").write_bytes("seed = 1\n".encode("utf-16"))
    (tmp_path / "circle1").symlink_to("circle2")
    (tmp_path / "circle2").symlink_to("circle1")
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = os.getcwd()
    os.chdir(tmp_path)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("socket")
    os.chdir(before)
    return tmp_path


def test_damaged_toml_is_one_line(folder: Path, record_property: Recording) -> None:
    path = folder / "x.toml"
    for text, message in BROKEN:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        (line,) = lines_of(path)
        assert line.startswith(str(path)), line
        assert message in line, (text[:100], line)
        assert len(line) < 600, line[:700]
    record_property("attacks", ("bad recipes", len(BROKEN)))


def test_good_toml_that_is_no_recipe_is_told_by_file_line_and_key(folder: Path, record_property: Recording) -> None:
    path = folder / "x.toml"
    for text, message in WRONG:
        path.write_text(text)
        lines = lines_of(path)
        assert lines, text[:100]
        assert any(message in line for line in lines), (text[:100], lines)
        assert str(folder) in lines[0], lines
        assert len(lines) < 42
    record_property("attacks", ("bad recipes", len(WRONG)))


# --- every key of the schema with every kind of value that it cannot hold

EVERY = ["{ a = 1 }", "[[1]]", "[{}]", "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", '"\\u0000"', '"\\u001b[31m"', '"\\u0085"', LONG, f"0x{'f' * 40}"]  # fmt: skip
NUMBERS = ['"8"', "''", "true", "nan", "-nan", "inf", "-inf", "-1", "-1e300", "1e300", "1_000_000_000_000", "9223372036854775807", "-9223372036854775808", "9223372036854775808"]  # fmt: skip
TEXTS = ["1", "1.5", "true", "nan", "[]"]
LISTS = ["1", "1.5", "false", "'a'", "''", "[1]", "[true]", "[nan]", "[['a']]", "[{ a = 1 }]", f"{['a'] * 300}", "{}"]
BOOLS = ["'true'", "'yes'", "0", "1", "1.0", "nan", "[]", "[true]"]
# what of it is good after all, and why: any text names something that only the Hub, the file system or a person knows
GOOD = {("train.checkpointing", "true"), ("model.shard", "true")}


def kinds(annotation: Any) -> set[Any]:
    """The plain types within an annotation, and `list` for one of those."""
    parts = get_args(annotation)
    own = {list} if getattr(annotation, "__origin__", None) is tuple else set()
    return own.union(*map(kinds, parts)) if parts else {annotation}


def wrong_values() -> Iterator[tuple[str, str]]:
    """Every key with what it cannot hold, as TOML writes it."""
    for key, info in fields():
        if key.startswith(("data.mix.", "build.")):
            continue  # lists of tables, which WRONG holds
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from ((key, value) for value in ("1", "'a'", "[]", "[{}]", "true", "nan", "1979-05-27"))
            continue
        found = kinds(info.annotation)
        words = [word for word in found if isinstance(word, str)]
        values = list(EVERY)
        if list in found:
            values += LISTS
        elif bool in found and not words:
            values += BOOLS
        elif found & {int, float} or 4 in found:
            values += NUMBERS
            values += ["1.5"] if float not in found else []
        else:
            values += TEXTS
        for word in words if list not in found else ():
            values += [f"'{word.upper()}'", f"'{word}x'", f"' {word}'", "''"]
        yield from ((key, value) for value in values if (key, value) not in GOOD)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_key_refuses_what_it_cannot_hold(every: int, tmp_path: Path, record_property: Recording) -> None:
    path, chosen = tmp_path / "x.toml", list(wrong_values())[::every]
    assert len(chosen) >= 2000 / every
    for key, value in chosen:
        section, _, name = key.rpartition(".")
        path.write_text(f"\n[{section}]\n{name} = {value}\n" if section else f"\n\n{name} = {value}\n")
        lines = lines_of(path)
        assert 1 <= len(lines) <= 2, (key, value, lines)
        assert any(line.startswith(f"{path}:3: ") for line in lines), (key, value, lines)
        assert all(line.startswith(f"{path}:") and len(line) < 700 for line in lines), (key, value, lines)
        assert any(key in line for line in lines) or value == LONG, (key, value, lines)
    record_property("attacks", ("bad recipes", len(chosen)))


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_every_key_refuses_it_from_the_command_line_too(every: int, tmp_path: Path, record_property: Recording) -> None:
    path = tmp_path / "x.toml"
    path.write_text("")
    chosen = [(key, value) for key, value in wrong_values() if value != LONG][3::every]  # which is a bare word there
    for key, value in chosen:
        lines = lines_of(path, f"{key}={value}")
        assert 1 <= len(lines) <= 2, (key, value, lines)
        assert all(line.startswith(("--set: ", "--set ")) for line in lines), (key, value, lines)
        assert any(key in line for line in lines), (key, value, lines)
    record_property("attacks", ("bad settings", len(chosen)))


# --- damage at random, and size


def test_recipes_with_random_damage_are_refused_in_lines_or_load(tmp_path: Path, record_property: Recording) -> None:
    random_ = random.Random(7)
    texts = [path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.toml"))]
    assert len(texts) >= 30
    path, refused_, count = tmp_path / "x.toml", 0, 200
    (tmp_path / "base").symlink_to(ROOT / "recipes" / "base")
    for _ in range(count):
        text = bytearray(random_.choice(texts))
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(text))
            kind = random_.randrange(4)
            if kind == 0:
                del text[at : at + random_.randint(1, 9)]
            elif kind == 1:
                text[at] = random_.randrange(256)
            elif kind == 2:
                text[at:at] = text[at : at + random_.randint(1, 40)]
            else:
                text[at:at] = random_.choice(
                    [b"[", b"]", b"{", b"}", b'"', b"'", b"=", b"\n", b".", b",", b"#", b"\\", b"\xff"]
                )
        path.write_bytes(bytes(text))
        lines = lines_of(path)
        refused_ += bool(lines)
        assert all(line.startswith((str(path), f"{ROOT}", f"{tmp_path}")) for line in lines), lines
        if not lines:  # damage within a comment or a number: it is a recipe still, and says so
            again = tmp_path / "again.toml"
            recipe = load(path).recipe
            again.write_text(recipe.to_toml())
            assert load(again).recipe.key == recipe.key
    assert refused_ >= count // 2
    record_property("attacks", ("bad recipes", count))


def many(line: Callable[[int], str], count: int) -> str:
    return "".join(line(number) for number in range(count))


VAST = {
    "unknown keys": many(lambda n: f"a{n}=1\n", 28_000),
    "unknown keys of a section": "[lora]\n" + many(lambda n: f"a{n}=1\n", 28_000),
    "unknown tables": many(lambda n: f"[a{n}]\n", 28_000),
    "unknown keys in quotes": many(lambda n: f'"\\U0001F600{n}"=1\n', 12_000),
    "swept keys": "[sweep]\n" + many(lambda n: f"a{n}=[1]\n", 24_000),
    "templates of datasets": "[build.models]\n" + many(lambda n: f"a{n}='x'\n", 22_000),
    "datasets": many(lambda n: "[[data.mix]]\nsource='x'\n", 10_000),
    "sources of datasets": many(lambda n: f"[[build.sets]]\nname='a{n}'\nsources={['b'] * 50}\n", 250),
    "modules": f"[lora]\ntargets = {['a'] * 50_000}\n",
    "a text where a number stands": f"[train]\nbatch = '{'x' * 250_000}'\n",
    "a text that names a file": f"[data]\npath = '{'x' * 250_000}'\n",
    "a text that names a base": f"[model]\nbase = '{'x' * 250_000}'\n",
    "a number where a list stands": f"[lora]\ntargets = {'9' * 4000}\n",
    "blank lines": "\n" * 250_000 + "x",
    "quotes": "a = " + "'' " * 80_000,
    "brackets": "a = " + "[]," * 80_000,
    "one long key": "a" * 250_000 + " = 1\n",
    "a key in thousands of parts": "a." * 120_000 + "a = 1\n",
    "a table in thousands of parts": "[" + "a." * 60_000 + "a]\n" + "b = 1\n" * 20_000,
    "more than a recipe may hold": many(lambda n: f"a{n}=1\n", 100_000),
}


@pytest.mark.parametrize("what", VAST)
def test_size_costs_little_and_the_answer_is_short(what: str, tmp_path: Path, record_property: Recording) -> None:
    path = tmp_path / "x.toml"
    path.write_text(VAST[what])
    began = time.process_time()
    lines = lines_of(path)
    assert time.process_time() - began < 3
    assert 1 <= len(lines) <= 42
    assert sum(map(len, lines)) < 100_000
    record_property("attacks", ("bad recipes", 1))


def test_how_many_problems_are_not_listed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(VAST["unknown keys"])
    lines = lines_of(path)
    assert lines[0].startswith(f"{path}:1: a0 is unknown")
    assert len(lines) == 41
    assert lines[40] == f"{path}: at least 27,960 more problems are not listed; mend these first"


def test_a_sample_of_a_vast_sweep_is_drawn_without_writing_it_out(tmp_path: Path) -> None:
    from medrecipes.pipeline.sweep import combinations

    path = tmp_path / "x.toml"
    keys = ("lora.rank", "lora.alpha", "train.logging_steps", "seed")
    path.write_text("[sweep]\nsamples = 3\n" + many(lambda n: f'"{keys[n]}" = {list(range(1, 900))}\n', 4))
    found = combinations(load(path).recipe)
    assert len(found) == 3
    assert all(list(one) == list(keys) for one in found)


# --- through the command line, and files that are none


def test_commands_say_the_same_in_lines(folder: Path, record_property: Recording) -> None:
    table = [*BROKEN[::3], *WRONG[::2]]
    for number, (text, message) in enumerate(table):
        (folder / "x.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        command = [["show"], ["show", "--json"], ["check", "--schema-only"]][number % 3]
        outcome = attack(*command, "x.toml", cwd=folder)
        refused(outcome)
        assert any(part in outcome.err for part in (message, message.removeprefix(":"))), (text[:100], outcome)
    record_property("attacks", ("bad recipes", len(table)))


FILES = [
    ("absent.toml", "absent.toml: no such recipe; correct the path"),
    ("", "is a folder"),
    (".", "is a folder"),
    ("sub", "sub: is a folder"),
    ("/", "is a folder"),
    ("pipe", "pipe: is a named pipe, not a file; copy what it gives into one"),
    ("socket", "socket: cannot be read"),
    ("/dev/zero", "/dev/zero: is a device, not a file"),
    ("/dev/random", "is a device, not a file"),
    ("/dev/null", "is a device, not a file"),
    ("/dev/stdin", "/dev/stdin: "),
    ("circle1", "circle1: cannot be read (Too many levels of symbolic links)"),
    ("a" * 5000, "cannot be read (File name too long)"),
    ("a.toml/b.toml", "cannot be read (Not a directory)"),
    ("huge.toml", "is larger than 256 kB"),
    ("binary.toml", "cannot be read ('utf-8' codec"),
    ("utf16.toml", "cannot be read ('utf-8' codec"),
    ("\x1b[31m.toml", "\\x1b[31m.toml: no such recipe"),
    ("\udcff.toml", "\\udcff.toml: no such recipe"),
    ("a\nb.toml", "no such recipe"),
    ("bda.toml", "bda.toml: no such recipe; did you mean bad.toml?"),
]


def test_what_is_no_recipe_is_one_line_and_never_waited_for(folder: Path, record_property: Recording) -> None:
    for name, message in FILES:
        for command in (["show"], ["check", "--schema-only"], ["run", "--runs", "runs"]):
            outcome = attack(*command, name, cwd=folder)
            refused(outcome, message)
            assert outcome.seconds < 5
    assert not (folder / "runs").exists()
    record_property("attacks", ("bad recipes", 3 * len(FILES)))


def test_a_name_with_escape_sequences_does_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "\x1b]0;gone\x07.toml").write_text("seed = 1\n")
    for command in (["show"], ["show", "--json"], ["check", "--schema-only"]):
        outcome = attack(*command, "\x1b]0;gone\x07.toml", cwd=tmp_path)
        assert "\x1b" not in outcome.out + outcome.err
        assert "\x07" not in outcome.out + outcome.err


def test_a_bare_name_is_the_file_in_recipes_and_no_name_leads_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "demo.toml").write_text("seed = 1\n")
    for name in ("recipes/demo", "recipes/dmeo.toml", "Demo"):
        refused(attack("show", name, cwd=tmp_path), f"{name}: no such recipe; did you mean recipes/demo.toml?")
    for name in ("demo", "recipes/demo.toml"):  # one's own before the one that ships
        assert attack("show", name, cwd=tmp_path).out.splitlines()[2].split() == [
            "seed",
            "=",
            "1",
            "#",
            "recipes/demo.toml:1",
        ]


CASES = [
    ("", "holds no [[case]] tables alone"),
    ("case = 1\n", "holds no [[case]] tables alone"),
    ("case = [1]\n", "case 1: is no table; write [[case]] with id, task, prompt, expect"),
    ("[[case]]\n", "case 1: id is missing or no text"),
    ("[[case]]\nid = 1\n", "case 1: id is missing or no text"),
    ("[[case]]\nid = 'a'\ntask = 'qa'\nprompt = ' '\nexpect = 'x'\n", "case 1: prompt is missing or no text"),
    (f"[[case]]\nid = {LONG}\n", ":2: broken TOML (a number of thousands of digits)"),
    ("x = " + "[" * 100_000, ":1: broken TOML"),
    ("[case\n", ":1: broken TOML"),
    ("# a\n" * 1_100_000, "is larger than 4,000 kB, and a file of cases is written by hand"),
    ("[[case]]\nid = 'a'\ntask = 'qa'\nprompt = 'p'\nexpect = 'e'\n" * 5000, "case 2: id 'a' is taken"),
]


def test_damaged_cases_are_one_line(tmp_path: Path, record_property: Recording) -> None:
    from medrecipes.core.errors import MedRecipesError
    from medrecipes.evaluation.cases import read_cases

    path = tmp_path / "cases.toml"
    for text, message in CASES:
        path.write_text(text)
        with limited(), pytest.raises(MedRecipesError) as error:
            read_cases(path)
        assert str(error.value).startswith(str(path))
        assert message in str(error.value)
        assert str(error.value).isprintable()
    for place in (tmp_path, Path("/dev/zero"), tmp_path / "absent.toml"):
        with limited(), pytest.raises(MedRecipesError, match=str(place)):
            read_cases(place)
    record_property("attacks", ("bad recipes", len(CASES) + 3))
