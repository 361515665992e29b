"""What each command does: takes what was typed, calls, prints; libraries are imported by the command that needs them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from medrecipes.core.errors import MedRecipesError, RecipeError, printable


def run(arguments: argparse.Namespace) -> int:
    """Train, evaluate and report a recipe, on as many cards as asked for."""
    from medrecipes.core import processes as ranks
    from medrecipes.core.console import Console
    from medrecipes.pipeline.walk import run
    from medrecipes.recipe.load import load
    from medrecipes.release.redistribution import require_redistributable

    loaded = load(arguments.recipe, arguments.set)
    recipe = loaded.recipe
    require_redistributable(recipe, loaded.at)
    processes = max(arguments.gpus, ranks.size())
    if recipe.train.batch % processes:
        shares = f"train.batch = {recipe.train.batch} is not to be shared by {processes} cards"
        raise RecipeError([f"{arguments.recipe}: {shares}; choose a multiple"])
    if arguments.gpus > ranks.size():
        return _launch(arguments)
    run(recipe, arguments.runs, Console(), fresh=arguments.fresh)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Say all that is wrong with recipes."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.check import check_all

    if problems := check_all(arguments.recipes, arguments.set, Console(), schema_only=arguments.schema_only):
        raise RecipeError(problems)


def show(arguments: argparse.Namespace) -> None:
    """Print the resolved recipe."""
    from medrecipes.recipe.load import load
    from medrecipes.recipe.show import show, show_json

    loaded = load(arguments.recipe, arguments.set)
    for line in [show_json(loaded)] if arguments.json else show(loaded):
        print(printable(line))


def plan(arguments: argparse.Namespace) -> None:
    """Print what fits a card; what does not fit is an error."""
    import json

    from medrecipes.pipeline.plan_report import lines, outlook
    from medrecipes.recipe.load import load

    found = outlook(load(arguments.recipe, arguments.set).recipe, arguments.gpu, arguments.gpus)
    print(printable(json.dumps(found, indent=2) if arguments.json else "\n".join(lines(found))))
    if not found["fits"]:
        raise MedRecipesError(f"{arguments.recipe}: {found['advice']}")


def schema(arguments: argparse.Namespace) -> None:
    """Print the schema."""
    import json

    from medrecipes.recipe.json_schema import json_schema, markdown

    print(markdown() if arguments.markdown else json.dumps(json_schema(), indent=2))


def sweep(arguments: argparse.Namespace) -> None:
    """Run every combination."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.sweep import sweep

    sweep(arguments.recipe, arguments.set, arguments.runs, Console())


def build(arguments: argparse.Namespace) -> None:
    """Make datasets, and release them where that is asked for."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.build import build
    from medrecipes.recipe.load import load

    console, recipe, folders = Console(), load(arguments.recipe, arguments.set).recipe, []
    if recipe.task == "tag":
        from medrecipes.pipeline.build_tags import build_tagged

        made = iter([build_tagged(recipe, arguments.out, arguments.format)])
    else:
        made = build(recipe, arguments.out, arguments.format)
    for built in made:
        console.line(built.lines(console.width))
        folders.append(built.folder)
    if arguments.push:
        from medrecipes.release.publish import publish

        publish(folders, console, push=True, settings=recipe.publish, waived=arguments.waive)


def publish(arguments: argparse.Namespace) -> int:
    """Show releases, or make them."""
    from medrecipes.core.console import Console
    from medrecipes.release.publish import publish

    names = {"repo": "repo", "private": "private", "revision": "revision", "create_pr": "create_pr", "tag": "tag", "formats": "format"}  # fmt: skip
    changes = {key: value for key, name in names.items() if (value := getattr(arguments, name)) is not None}
    console, push, waived = Console(), arguments.push, arguments.waive
    return _on_cards(arguments, lambda: publish(arguments.folders, console, push=push, changes=changes, waived=waived))


def verify(arguments: argparse.Namespace) -> int:
    """Hold claims against files; 1 where one differs, and with --strict where one could not be checked."""
    from medrecipes.core.console import Console
    from medrecipes.release.verify import verify

    name, settings, revision, strict = arguments.name, arguments.set, arguments.revision, arguments.strict
    return _on_cards(arguments, lambda: not verify(name, settings, Console(), revision, strict=strict))


def preview(arguments: argparse.Namespace) -> None:
    """Show examples of a recipe, or of a template, a tokenizer and a file."""
    from medrecipes.core.console import Console
    from medrecipes.rendering.chat_template import ChatTemplate
    from medrecipes.rendering.preview import choose, conversations_from_file, preview, preview_json

    if arguments.recipe:
        from medrecipes.core.files import cache_root
        from medrecipes.data.split import prepare
        from medrecipes.engines import recipe_base
        from medrecipes.recipe.load import load
        from medrecipes.rendering.base_template import base_template

        recipe = load(arguments.recipe, arguments.set).recipe
        data, split = recipe.data, prepare(recipe)
        with Console().quiet(cache_root() / "log.txt"):
            template = base_template(recipe, recipe_base(recipe, split).tokenizer, recipe.model.base)
        rows = [*split.train, *split.dev, *split.test]
    elif arguments.template and arguments.tokenizer and arguments.file:
        from medrecipes.rendering.tokenizer import Tokenizer

        data, template = None, ChatTemplate(arguments.template, Tokenizer(arguments.tokenizer))
        rows = conversations_from_file(arguments.file)
    else:
        raise MedRecipesError("preview: give a RECIPE, or all of --template NAME --tokenizer DIR --file FILE")
    chosen = choose(rows, arguments.n, arguments.row)
    if arguments.json:
        for line in preview_json(template, chosen):
            print(printable(line))
    else:
        preview(template, chosen, Console().rich, data)


def score(arguments: argparse.Namespace) -> None:
    """Score a predictions file."""
    import json

    from medrecipes.scoring.figures import score
    from medrecipes.scoring.predictions import one_model, read_predictions
    from medrecipes.scoring.tables import score_lines

    rows = one_model(arguments.file, read_predictions(arguments.file), arguments.model)
    if arguments.tagged:
        from medrecipes.pipeline.tags_as_questions import as_spans, read_tagged

        rows = as_spans(read_tagged(arguments.tagged), rows)
    report = score(rows, arguments.draws, arguments.seed, in_text=arguments.filter == "in_text")
    print(printable(json.dumps(report, indent=2) if arguments.json else "\n".join(score_lines(report))))


def judge(arguments: argparse.Namespace) -> int:
    """Let a finished run answer again."""
    from medrecipes.core.console import Console
    from medrecipes.evaluation.reopen import judge

    if arguments.suite and arguments.gpus > 1:
        raise MedRecipesError("--suite: the harness asks on one card; leave --gpus out, or the suite")

    def do() -> None:
        judge(
            arguments.run, arguments.set, Console(), fresh=arguments.fresh, suite=arguments.suite,
            include=arguments.include, checkpoint=arguments.checkpoint,
        )  # fmt: skip

    return _on_cards(arguments, do)


def export(arguments: argparse.Namespace) -> None:
    """Write the model in another form."""
    from medrecipes.core.console import Console
    from medrecipes.release.export import export

    export(arguments.run, arguments.format, arguments.quant, Console(), arguments.base)


def chat(arguments: argparse.Namespace) -> None:
    """Talk to a run on the terminal, or serve its page."""
    from medrecipes.core.console import Console
    from medrecipes.use import chat_page, tag_page
    from medrecipes.use.chat import chat, open_chat

    host, port = arguments.host or chat_page.HOST, arguments.port or chat_page.PORT
    if arguments.web and tag_page.serves(arguments.run):
        if arguments.base or arguments.checkpoint is not None or arguments.set:
            raise MedRecipesError("--base, --checkpoint and --set go with a run of conversations, and this is a tagging run; leave them out")  # fmt: skip
        chat_page.require()
        tag_page.serve(arguments.run, Console(), host, port)
        return
    if arguments.web and arguments.base:
        raise MedRecipesError("--base goes without --web: the page shows the base beside the tuned model")
    if not arguments.web and (arguments.host or arguments.port):
        raise MedRecipesError("--host and --port go with --web; add it")
    if arguments.web:
        chat_page.require()
    console = Console()
    opened = open_chat(arguments.run, arguments.set, console, base=arguments.base, checkpoint=arguments.checkpoint)
    if arguments.web:
        chat_page.serve(opened, console, host, port)
    else:
        chat(opened, console)


def tag(arguments: argparse.Namespace) -> None:
    """Mark entities in texts."""
    from medrecipes.core.console import Console
    from medrecipes.use.tag_text import tag

    tag(arguments.run, arguments.text, arguments.file, Console(), as_json=arguments.json)


def compare(arguments: argparse.Namespace) -> None:
    """Lay runs side by side."""
    from medrecipes.core.console import Console
    from medrecipes.evaluation.compare import compare

    compare(arguments.runs, arguments.out, Console(), anyway=arguments.anyway)


def _launch(arguments: argparse.Namespace) -> int:
    """The same command, by a process for each card."""
    from medrecipes.core import processes as ranks

    return ranks.launch(["-m", "medrecipes", *arguments.words], arguments.gpus)


def _on_cards(arguments: argparse.Namespace, do: Callable[[], object]) -> int:
    """Do what opens a finished run: on one card, or on as many as asked for, where the others answer beside the leader."""
    from medrecipes.core import processes as ranks

    if arguments.gpus > ranks.size():
        return _launch(arguments)
    ranks.join()
    code = 0
    if ranks.leads():
        code = int(bool(do()))
        ranks.share(None)
    else:
        from medrecipes.core.console import Console
        from medrecipes.evaluation.reopen import assist

        with Console().quiet(Path(os.devnull)):
            assist()
    ranks.part()
    return code
