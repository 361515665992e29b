"""The command line: parses, calls, prints; holds no logic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medrecipes import __version__
from medrecipes.errors import MedRecipesError, RecipeError

# as in the schema, which is too slow to import for --help; a test compares the two
FORMATS = ("adapter", "merged-16bit", "merged-4bit", "gguf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the user's mistakes become one line and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.do(arguments) or 0)
    except MedRecipesError as error:
        if arguments.debug:
            raise
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("medrecipes", description="Medical fine-tuning recipes that prove what they do.")
    parser.add_argument("--version", action="version", version=f"medrecipes {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "train, evaluate and report a recipe")
    run.add_argument("recipe", metavar="RECIPE")
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    run.add_argument("--fresh", action="store_true", help="start another run beside the one that exists")
    run.add_argument("--gpus", type=_positive, default=1, metavar="N", help="train on so many cards of this machine (default: 1)")  # fmt: skip
    _overrides(run)

    check = _command(commands, "check", _check, "say all that is wrong with recipes, without training")
    check.add_argument("recipes", nargs="+", metavar="RECIPE")
    check.add_argument("--schema-only", action="store_true", help="stop before anything that needs data or a tokenizer")
    _overrides(check)

    show = _command(commands, "show", _show, "print the resolved recipe, each value with the file and line that set it")
    show.add_argument("recipe", metavar="RECIPE")
    show.add_argument("--json", action="store_true", help="the same as JSON")
    _overrides(show)

    plan = _command(
        commands, "plan", _plan, "memory by part, what fits a card, and how long it takes, without loading weights"
    )
    plan.add_argument("recipe", metavar="RECIPE")
    plan.add_argument("--gpu", default="this", metavar="NAME", help="t4, rtx3050, a100-40, h100, h200 …, or e.g. 24GB (default: the one here)")  # fmt: skip
    plan.add_argument("--gpus", type=_positive, default=1, metavar="N", help="how many of them (default: 1)")
    plan.add_argument("--json", action="store_true", help="the same as JSON")
    _overrides(plan)

    sweep = _command(commands, "sweep", _sweep, "run every combination of a recipe's [sweep], and name the best on its dev rows")  # fmt: skip
    sweep.add_argument("recipe", metavar="RECIPE")
    sweep.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    _overrides(sweep)

    schema = _command(commands, "schema", _schema, "print the JSON Schema of recipes, for editors")
    schema.add_argument("--markdown", action="store_true", help="the same as docs/recipe.md")

    build = _command(commands, "build", _build, "make the processed datasets of a recipe, without a model")
    build.add_argument("recipe", metavar="RECIPE")
    build.add_argument(
        "--out", type=Path, default=Path("datasets"), metavar="DIR", help="where they go (default: datasets)"
    )
    build.add_argument(
        "--format", action="append", default=[], choices=["jsonl", "parquet"], help="write the splits as files too"
    )
    build.add_argument("--push", action="store_true", help="release every dataset that it made")
    build.add_argument("--waive", action="append", default=[], metavar="GATE", help="with --push: as publish does")
    _overrides(build)

    publish = _command(commands, "publish", _publish, "show what would be released to the Hub, and with --push release it")  # fmt: skip
    publish.add_argument("folders", nargs="+", type=Path, metavar="RUN|DATASET")
    publish.add_argument("--push", action="store_true", help="release it: one commit a repository, read back after")
    publish.add_argument("--repo", metavar="OWNER/NAME", help="the repository, or a pattern such as {user}/{base}-medical")  # fmt: skip
    seen = publish.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_const", const=True, help="a private repository (the default, unless the recipe says otherwise)")  # fmt: skip
    seen.add_argument("--public", dest="private", action="store_const", const=False, help="a public repository")
    publish.add_argument("--revision", metavar="BRANCH", help="the branch that it goes to; made where it is missing")
    publish.add_argument("--create-pr", action="store_const", const=True, help="open a pull request instead")
    publish.add_argument("--tag", metavar="NAME", help="a tag for the release")
    publish.add_argument("--format", action="append", choices=FORMATS, help="what of a run: adapter, or what export made (may be repeated)")  # fmt: skip
    publish.add_argument("--waive", action="append", default=[], metavar="GATE", help="release in spite of a gate; the card records it (may be repeated)")  # fmt: skip

    verify = _command(commands, "verify", _verify, "hold what a release or a run claims against what its files give")
    verify.add_argument("name", metavar="REPO|RUN", help="OWNER/NAME or datasets/OWNER/NAME on the Hub, or a run folder")  # fmt: skip
    verify.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit of the repository")
    _overrides(verify)

    preview = _command(commands, "preview", _preview, "show examples token by token, what is learned in colour")
    preview.add_argument("recipe", nargs="?", metavar="RECIPE")
    preview.add_argument("-n", type=int, default=5, metavar="ROWS", help="how many rows (default: 5)")
    preview.add_argument("--row", metavar="ID", help="this row alone")
    preview.add_argument("--json", action="store_true", help="a line of JSON a conversation: text, ids, labels")
    preview.add_argument("--template", metavar="NAME", help="in place of a recipe: the template")
    preview.add_argument("--tokenizer", type=Path, metavar="DIR", help="in place of a recipe: a tokenizer's folder")
    preview.add_argument("--file", type=Path, metavar="FILE", help='in place of a recipe: lines of {"messages": [...]}')
    _overrides(preview)

    score = _command(commands, "score", _score, "score a predictions file, without a model")
    score.add_argument("file", type=Path, metavar="FILE", help="a line of JSON an answer: id, group, task, prompt, gold, prediction")  # fmt: skip
    score.add_argument("--model", metavar="NAME", help="whose answers, where the file holds those of several models")
    score.add_argument("--filter", choices=("none", "in_text"), default="none", help="in_text: a second score, without items that the text does not contain")  # fmt: skip
    score.add_argument("--tagged", type=Path, metavar="FILE", help="turn lists of chemicals and diseases into spans of these tagged rows, and score those")  # fmt: skip
    score.add_argument("--draws", type=_positive, default=1000, metavar="N", help="bootstrap draws (default: 1000)")
    score.add_argument("--seed", type=int, default=42, metavar="N", help="seed of the draws (default: 42)")
    score.add_argument("--json", action="store_true", help="the report as JSON")

    judge = _command(commands, "eval", _eval, "let a finished run's base and adapter answer again, or answer more")
    judge.add_argument("run", type=Path, metavar="RUN")
    judge.add_argument("--fresh", action="store_true", help="answer everything anew, in a folder of its own")
    judge.add_argument(
        "--suite", metavar="lm-eval:TASKS", help="benchmarks by lm-evaluation-harness, or medical, or general"
    )
    judge.add_argument("--checkpoint", type=int, metavar="N", help="the adapter of step N in place of the one that was kept")  # fmt: skip
    judge.add_argument("--include", type=Path, metavar="DIR", help="with --suite: a folder with task files of your own")
    _overrides(judge)

    export = _command(commands, "export", _export, "write the trained model in the form that its user runs, checked against the adapter")  # fmt: skip
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("--format", required=True, choices=FORMATS, help="what is written, into RUN/export/FORMAT")  # fmt: skip
    export.add_argument("--quant", choices=["q4_k_m", "q8_0", "f16"], help="with gguf: its number format (default: q4_k_m)")  # fmt: skip
    export.add_argument("--base", metavar="ID|DIR", help="the 16-bit base to merge on, where the run's own is published in 4 bits")  # fmt: skip

    chat = _command(commands, "chat", _chat, "talk to a finished run, on the terminal or on a page")
    chat.add_argument("run", type=Path, metavar="RUN")
    chat.add_argument("--base", action="store_true", help="the base alone, without the adapter")
    chat.add_argument("--checkpoint", type=int, metavar="N", help="the adapter of step N in place of the one that was kept")  # fmt: skip
    chat.add_argument(
        "--web", action="store_true", help="a page: base and tuned side by side, or the entities of a text (extra: web)"
    )
    chat.add_argument("--host", metavar="ADDRESS", help="with --web: where it listens (default: 127.0.0.1, this machine alone)")  # fmt: skip
    chat.add_argument("--port", type=int, metavar="N", help="with --web: its port (default: 7860)")
    _overrides(chat)

    tag = _command(commands, "tag", _tag, "mark entities in texts with a finished tagging run")
    tag.add_argument("run", type=Path, metavar="RUN")
    tag.add_argument("text", nargs="*", metavar="TEXT", help="left out: --file, or standard input, a text a line")
    tag.add_argument("--file", type=Path, metavar="FILE", help='JSON lines of {"text": …}, or a text a line')
    tag.add_argument("--json", action="store_true", help="a line of JSON a text: spans with start, end, text, type, probability")  # fmt: skip

    compare = _command(commands, "compare", _compare, "lay runs side by side: losses, settings, figures, significance")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a CSV with Step,Loss")
    compare.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="where it goes (default: comparison)")  # fmt: skip
    compare.add_argument("--anyway", action="store_true", help="compare runs that were judged on different test sets or with different decoding, and mark it")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, do: object, help: str) -> argparse.ArgumentParser:  # fmt: skip
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(do=do)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the recipe"
    )


def _run(arguments: argparse.Namespace) -> int:
    from medrecipes import ranks
    from medrecipes.console import Console
    from medrecipes.loading import load
    from medrecipes.run import run

    recipe = load(arguments.recipe, arguments.set).recipe
    processes = max(arguments.gpus, ranks.size())
    if recipe.train.batch % processes:
        raise RecipeError(
            [
                f"{arguments.recipe}: train.batch = {recipe.train.batch} is not to be shared by {processes} cards; choose a multiple"
            ]
        )
    if arguments.gpus > 1:
        again = ["--fresh"] if arguments.fresh else []
        sets = [word for value in arguments.set for word in ("--set", value)]
        return ranks.launch([arguments.recipe, "--runs", str(arguments.runs), *again, *sets], arguments.gpus)
    run(recipe, arguments.runs, Console(), fresh=arguments.fresh)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from medrecipes.check import check_all
    from medrecipes.console import Console

    if problems := check_all(arguments.recipes, arguments.set, Console(), schema_only=arguments.schema_only):
        raise RecipeError(problems)


def _show(arguments: argparse.Namespace) -> None:
    from medrecipes.loading import load
    from medrecipes.show import show, show_json

    loaded = load(arguments.recipe, arguments.set)
    for line in [show_json(loaded)] if arguments.json else show(loaded):
        print(line)


def _plan(arguments: argparse.Namespace) -> None:
    import json

    from medrecipes.loading import load
    from medrecipes.outlook import lines, outlook

    found = outlook(load(arguments.recipe, arguments.set).recipe, arguments.gpu, arguments.gpus)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(lines(found)))
    if not found["fits"]:
        raise MedRecipesError(f"{arguments.recipe}: {found['advice']}")


def _schema(arguments: argparse.Namespace) -> None:
    import json

    from medrecipes.schema import json_schema, markdown

    print(markdown() if arguments.markdown else json.dumps(json_schema(), indent=2))


def _sweep(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.sweep import sweep

    sweep(arguments.recipe, arguments.set, arguments.runs, Console())


def _build(arguments: argparse.Namespace) -> None:
    from medrecipes.build import build
    from medrecipes.console import Console
    from medrecipes.loading import load

    console, recipe, folders = Console(), load(arguments.recipe, arguments.set).recipe, []
    if recipe.task == "tag":
        from medrecipes.tagbuild import build_tagged

        made = iter([build_tagged(recipe, arguments.out, arguments.format)])
    else:
        made = build(recipe, arguments.out, arguments.format)
    for built in made:
        console.line(built.lines())
        folders.append(built.folder)
    if arguments.push:
        from medrecipes.publish import publish

        publish(folders, console, push=True, settings=recipe.publish, waived=arguments.waive)


def _publish(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.publish import publish

    names = {"repo": "repo", "private": "private", "revision": "revision", "create_pr": "create_pr", "tag": "tag", "formats": "format"}  # fmt: skip
    changes = {key: value for key, name in names.items() if (value := getattr(arguments, name)) is not None}
    publish(arguments.folders, Console(), push=arguments.push, changes=changes, waived=arguments.waive)


def _verify(arguments: argparse.Namespace) -> int:
    from medrecipes.console import Console
    from medrecipes.verify import verify

    return 0 if verify(arguments.name, arguments.set, Console(), arguments.revision) else 1


def _preview(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.preview import choose, conversations_from_file, preview, preview_json
    from medrecipes.rendering import ChatTemplate

    if arguments.recipe:
        from medrecipes.engines import recipe_base
        from medrecipes.loading import load
        from medrecipes.prepare import prepare
        from medrecipes.store import cache_root

        recipe = load(arguments.recipe, arguments.set).recipe
        split = prepare(recipe)
        with Console().quiet(cache_root() / "log.txt"):
            tokenizer = recipe_base(recipe, split).tokenizer
        template = ChatTemplate(recipe.template.name, tokenizer, system=recipe.template.system)
        rows = [*split.train, *split.dev, *split.test]
    elif arguments.template and arguments.tokenizer and arguments.file:
        from medrecipes.tokens import Tokenizer

        template = ChatTemplate(arguments.template, Tokenizer(arguments.tokenizer))
        rows = conversations_from_file(arguments.file)
    else:
        raise MedRecipesError("preview: give a RECIPE, or all of --template NAME --tokenizer DIR --file FILE")
    chosen = choose(rows, arguments.n, arguments.row)
    if arguments.json:
        for line in preview_json(template, chosen):
            print(line)
    else:
        preview(template, chosen, Console().rich)


def _score(arguments: argparse.Namespace) -> None:
    import json

    from medrecipes.scoring.judging import score
    from medrecipes.scoring.predictions import one_model, read_predictions
    from medrecipes.scoring.tables import score_lines

    rows = one_model(arguments.file, read_predictions(arguments.file), arguments.model)
    if arguments.tagged:
        from medrecipes.conversion import as_spans, read_tagged

        rows = as_spans(read_tagged(arguments.tagged), rows)
    report = score(rows, arguments.draws, arguments.seed, in_text=arguments.filter == "in_text")
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(score_lines(report)))


def _eval(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.judge import judge

    console, suite = Console(), arguments.suite
    judge(
        arguments.run, arguments.set, console, fresh=arguments.fresh, suite=suite, include=arguments.include,
        checkpoint=arguments.checkpoint,
    )  # fmt: skip


def _export(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.export import export

    export(arguments.run, arguments.format, arguments.quant, Console(), arguments.base)


def _chat(arguments: argparse.Namespace) -> None:
    from medrecipes import web, webtag
    from medrecipes.chat import chat, open_chat
    from medrecipes.console import Console

    host, port = arguments.host or web.HOST, arguments.port or web.PORT
    if arguments.web and webtag.serves(arguments.run):
        if arguments.base or arguments.checkpoint is not None or arguments.set:
            raise MedRecipesError("--base, --checkpoint and --set go with a run of conversations, and this is a tagging run; leave them out")  # fmt: skip
        web.require()
        webtag.serve(arguments.run, Console(), host, port)
        return
    if arguments.web and arguments.base:
        raise MedRecipesError("--base goes without --web: the page shows the base beside the tuned model")
    if not arguments.web and (arguments.host or arguments.port):
        raise MedRecipesError("--host and --port go with --web; add it")
    if arguments.web:
        web.require()
    console = Console()
    opened = open_chat(arguments.run, arguments.set, console, base=arguments.base, checkpoint=arguments.checkpoint)
    if arguments.web:
        web.serve(opened, console, host, port)
    else:
        chat(opened, console)


def _tag(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.tagtext import tag

    tag(arguments.run, arguments.text, arguments.file, Console(), as_json=arguments.json)


def _compare(arguments: argparse.Namespace) -> None:
    from medrecipes.compare import compare
    from medrecipes.console import Console

    compare(arguments.runs, arguments.out, Console(), anyway=arguments.anyway)


if __name__ == "__main__":
    sys.exit(main())
