"""Serve a finished run to OpenAI's clients."""

from __future__ import annotations

import argparse
import os

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError

EXAMPLE = """example:
  medrecipes serve runs/tiny_mistral-* --model-name tiny
then, from another terminal:
  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"model": "tiny", "messages": [{"role": "user", "content": "What causes asthma?"}]}'"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.run_folder(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where it listens (default: 127.0.0.1, this machine alone)")  # fmt: skip
    parser.add_argument("--port", type=options.whole(1, 65_535), default=8000, metavar="N", help="its port (default: 8000)")  # fmt: skip
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds the key which callers must send")  # fmt: skip
    parser.add_argument("--model-name", metavar="NAME", help="the model's name in requests (default: the run folder's)")
    parser.add_argument("--backend", choices=("engine", "vllm"), default="engine", help="what answers (default: engine, our own; vllm: vLLM's server, with its arguments)")  # fmt: skip
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Serve a run."""
    from medrecipes.core.console import Console
    from medrecipes.use import openai_server, vllm_server
    from medrecipes.use.chat import open_chat
    from medrecipes.use.chat_page import Place

    key = None
    if arguments.api_key_env and not (key := os.environ.get(arguments.api_key_env)):
        raise MedRecipesError(f"--api-key-env {arguments.api_key_env}: this environment variable is not set; set it to the key")  # fmt: skip
    name = arguments.model_name or arguments.run.resolve().name
    if arguments.backend == "vllm":
        vllm_server.serve(arguments.run, arguments.set, name, arguments.host, arguments.port, key)
        return
    console = Console()
    opened = open_chat(arguments.run, arguments.set, console, base=False, checkpoint=None)
    place = Place(arguments.host, arguments.port, opened.log)
    openai_server.serve(opened, console, place, openai_server.Settings(name, arguments.host, key))
