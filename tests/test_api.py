"""The public names: light to import, typed, the commands' own code, and the guide's example word for word."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medrecipes
from medrecipes.core.errors import MedRecipesError
from medrecipes.runs.folder import read_losses
from tests import forked
from tests.conftest import COMMAND, HASTY, ROOT
from tests.test_house import HEAVY

GUIDE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def python(code: str, place: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=400, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_public_names_are_these_and_nothing_is_loaded_for_them(tmp_path: Path) -> None:
    assert medrecipes.__all__ == ["MedRecipesError", "Recipe", "Run", "__version__", "load_recipe", "open_run", "train"]
    assert set(medrecipes.__all__) <= set(dir(medrecipes))
    heavy = (*HEAVY, "pydantic", "rich", "numpy")
    code = f"import sys, medrecipes\nprint([name for name in {heavy!r} if name in sys.modules], len(medrecipes.__version__) > 0)"
    assert python(code, tmp_path) == "[] True\n"
    with pytest.raises(AttributeError, match="module 'medrecipes' has no attribute 'trian'"):
        _ = medrecipes.trian


def test_a_recipe_is_loaded_as_the_commands_load_it() -> None:
    recipe = medrecipes.load_recipe(ROOT / "recipes" / "tiny_mistral.toml", ["train.batch=4", "lora.rank=8"])
    assert (recipe.name, recipe.train.batch, recipe.lora.rank) == ("tiny_mistral", 4, 8)
    with pytest.raises(MedRecipesError, match=r"--set: lora\.rnak is unknown; did you mean lora\.rank\?"):
        medrecipes.load_recipe("demo", ["lora.rnak=8"])


def test_what_is_no_finished_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(medrecipes.MedRecipesError, match="is no run folder; name one of those in runs/"):
        medrecipes.open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"state": "preparing"}')
    with pytest.raises(medrecipes.MedRecipesError, match="is not a finished run; finish it with"):
        medrecipes.open_run(tmp_path)


def test_the_example_of_the_guide_gives_what_the_commands_give(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
    done = forked.run("-c", HASTY + code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, path, figure, loss, _, answer = done.stdout.strip().rsplit("\n", 5)
    folder = tmp_path / path
    report = json.loads((folder / "eval" / "report.json").read_text())
    assert figure == str(report["tuned"]["bits_per_byte"])
    last = read_losses(folder / "loss.csv")[-1]
    assert loss == f"{int(last['step'])} {float(last['loss'])}"
    said = forked.run("-c", HASTY + COMMAND, "chat", folder, input="What is asthma?\n")
    assert said.returncode == 0, said.stderr
    assert answer
    assert answer in said.stdout
    assert not (folder / "checkpoints" / "README.md").exists()
    # what was written is read without what trains, and a finished run is not trained again
    code = (
        f"import sys, medrecipes\nrun = medrecipes.open_run({path!r})\n"
        "print(len(run.predictions), run.losses[0]['step'], run.report['rows'], run.recipe.name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code, tmp_path) == "12 0 6 tiny_llama3\n[]\n"
    code = "import medrecipes\nrecipe = medrecipes.load_recipe(%r)\nprint(medrecipes.train(recipe, 'runs').path)"
    assert python(code % f"{path}/recipe.toml", tmp_path).splitlines()[-1] == path
