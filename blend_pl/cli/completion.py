"""Command `completion`: prints a script for the completion of commands, options and experiments in a shell."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import shtab
from jsonargparse import ArgumentParser

from blend_pl.cli.main import (
    FUNCTION_COMMANDS,
    TRAINER_COMMANDS,
    make_function_parser,
)
from blend_pl.config import list_configs
from blend_pl.experiment.parser import Command, make_parser

Shell = Literal["bash", "zsh"]
CONFIG_FUNCTION = "_blend_pl_configs"
CONFIG_COMPLETIONS = {
    "bash": f'{CONFIG_FUNCTION}() {{{{ compgen -f -- "$1"; compgen -W "{{configs}}" -- "$1"; }}}}',
    "zsh": f"{CONFIG_FUNCTION}() {{{{ _alternative 'files:file:_files' 'configs:config:({{configs}})' }}}}",
}
"""Shell functions that complete a path to a file, or to a config that is installed with the package."""
CONFIG_FOLDERS = ("experiments", "experiments/sweeps", *(f"configs/{name}" for name in ("data", "model", "arm")))
CONFIG_ARGUMENTS = ("config", "experiment", "experiments", "file")
FOLDER_ARGUMENTS = ("runs", "run", "folder", "output", "run_dir")


def print_completion(shell: Shell) -> None:
    """Prints a script that completes commands, options, values and config files of blend_pl.

    The script is static: print it again after an update. In bash: eval "$(blend_pl completion bash)".

    Args:
        shell: bash or zsh.
    """
    configs = " ".join(str(path) for folder in CONFIG_FOLDERS for path in list_configs(Path(folder)))
    preamble = CONFIG_COMPLETIONS[shell].format(configs=configs)
    # jsonargparse would add choices, for which it searches the subclasses of all types of settings for minutes.
    print(shtab.complete(_make_parser(), shell, preamble=preamble))


def _make_parser() -> ArgumentParser:
    """Returns a parser of the whole command line, with one subcommand for each command."""
    parser = ArgumentParser(prog="blend_pl")
    parser.add_argument("--version", action="store_true", help="show versions and exit")
    commands = parser.add_subcommands()
    for name, description in TRAINER_COMMANDS.items():
        trainer_parser = make_parser(cast("Command", name))
        trainer_parser.add_argument("experiments", nargs="*", type=str, default=[], help="experiment files")
        commands.add_subcommand(name, _complete_paths(trainer_parser), help=description)
    for name, (path, description) in FUNCTION_COMMANDS.items():
        command = resolve_name(path)
        function_parser = _complete_paths(make_function_parser(name, command))
        for action in function_parser._actions:
            action.choices = _literal_values(get_type_hints(command).get(action.dest))
        commands.add_subcommand(name, function_parser, help=description)
    return parser


def _literal_values(annotation: Any) -> tuple[str, ...] | None:
    """Returns the values of a Literal or of a sequence of Literals; None for another type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    arguments = get_args(annotation)
    return _literal_values(arguments[0]) if len(arguments) == 1 else None


def _complete_paths(parser: ArgumentParser) -> ArgumentParser:
    """Sets the completions of arguments that are paths, and returns the parser."""
    # argparse has no public list of the arguments of a parser; shtab uses this one, too.
    for action in parser._actions:
        if action.dest in CONFIG_ARGUMENTS:
            action.complete = dict.fromkeys(CONFIG_COMPLETIONS, CONFIG_FUNCTION)  # type: ignore[attr-defined]
        elif action.dest in FOLDER_ARGUMENTS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser
