"""Talk to a finished run, on the terminal or on a page."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError

EXAMPLE = """example:
  echo "What is asthma?" | medrecipes chat runs/tiny_mistral-*
  medrecipes chat runs/tiny_mistral-* --web"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.run_folder(parser)
    parser.add_argument("--base", action="store_true", help="the base alone, without the adapter")
    options.checkpoint(parser)
    parser.add_argument(
        "--web", action="store_true", help="a page: base and tuned side by side, or the entities of a text (extra: web)"
    )
    parser.add_argument("--host", metavar="ADDRESS", help="with --web: where it listens (default: 127.0.0.1, this machine alone)")  # fmt: skip
    parser.add_argument(
        "--port", type=options.whole(1, 65_535), metavar="N", help="with --web: its port (default: 7860)"
    )
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
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
