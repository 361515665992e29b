"""Print a script that completes commands, options and recipes in bash, zsh or fish."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

EXAMPLE = """example:
  medrecipes completion bash

to have it in every shell:
  bash   echo 'source <(medrecipes completion bash)' >> ~/.bashrc
  zsh    echo 'source <(medrecipes completion zsh)' >> ~/.zshrc
  fish   medrecipes completion fish > ~/.config/fish/completions/medrecipes.fish"""
SHELLS = ("bash", "zsh", "fish")


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("shell", choices=SHELLS)


@dataclass(frozen=True)
class Command:
    """What can be typed behind a command: its options, the values of those that have a choice, and its own words."""

    help: str
    options: Mapping[str, str]
    choices: Mapping[str, Sequence[str]]
    words: Sequence[str]


def do(arguments: argparse.Namespace) -> None:
    """Print the script."""
    found = dict(_commands())
    lines = _fish(found) if arguments.shell == "fish" else _bash(found)
    zsh = ["autoload -U +X compinit && compinit", "autoload -U +X bashcompinit && bashcompinit"]
    print("\n".join([*(zsh if arguments.shell == "zsh" else []), *lines]))


def _commands() -> Iterator[tuple[str, Command]]:
    """Every command, as the parser itself has it; where a recipe is read, the names of those that ship."""
    from medrecipes.commands import _parser
    from medrecipes.core.resources import shipped

    recipes = sorted(path.stem for path in shipped("recipes").glob("*.toml"))
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: str(choice.help) for choice in commands._choices_actions}
    for name, parser in commands.choices.items():
        options = {option: (action.help or "").replace("%%", "%") for action in parser._actions for option in action.option_strings}  # fmt: skip
        choices = {option: [str(c) for c in action.choices] for action in parser._actions for option in action.option_strings if action.choices}  # fmt: skip
        own = [action for action in parser._actions if not action.option_strings]
        words = [str(word) for action in own for word in action.choices or ()]
        words += recipes if any(action.dest in ("recipe", "recipes") for action in own) else []
        yield name, Command(helps[name], options, choices, words)


def _bash(commands: Mapping[str, Command]) -> Iterator[str]:
    """A function for bash, which zsh's bashcompinit takes too; files are offered besides."""
    yield "_medrecipes() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}" words=""'
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'        COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$word")); return'
    yield "    fi"
    yield '    case "$command $before" in'
    for name, command in commands.items():
        for option, values in command.choices.items():
            yield f'        "{name} {option}") COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$word")); return ;;'
    yield "    esac"
    yield '    case "$command" in'
    for name, command in commands.items():
        yield f'        {name}) words="{" ".join([*command.options, *command.words])}" ;;'
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))'
    yield "}"
    yield "complete -o filenames -F _medrecipes medrecipes"


def _fish(commands: Mapping[str, Command]) -> Iterator[str]:
    """A line for each command and each of its options."""
    for name, command in commands.items():
        yield f"complete -c medrecipes -n __fish_use_subcommand -f -a {name} -d {_quoted(command.help)}"
    for name, command in commands.items():
        seen = f"complete -c medrecipes -n '__fish_seen_subcommand_from {name}'"
        for option, help in command.options.items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = f" -x -a {_quoted(' '.join(command.choices[option]))}" if option in command.choices else ""
            yield f"{seen} {kind}{values} -d {_quoted(help)}"
        if command.words:
            yield f"{seen} -a {_quoted(' '.join(command.words))}"


def _quoted(text: str) -> str:
    """A text as fish takes it whole."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
