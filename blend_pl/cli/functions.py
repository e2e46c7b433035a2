"""The small commands beside the trainer's: each is a function, whose signature says what its arguments are."""

from argparse import ArgumentError
from collections.abc import Callable, Sequence
from inspect import signature

from jsonargparse import ArgumentParser

from blend_pl.errors import ConfigError, first_parser_error


def run_function_command(name: str, command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Runs a small command.

    Among a function's parameters `runs` are as many as one likes, and `data` are all options that begin with --data, as
    they are written.

    Args:
        name: of the command.
        command: the function.
        arguments: what follows the name.

    Raises:
        ConfigError: these are no arguments of the command.
    """
    parameters = signature(command).parameters
    parser = ArgumentParser(prog=f"python -m blend_pl {name}", exit_on_error=False)
    if "runs" in parameters:
        parser.add_argument("runs", nargs="+", type=str, help="folders of runs or experiments")
    parser.add_function_arguments(command, as_positional=True, skip={"runs", "data"})
    extra_arguments = {}
    if "data" in parameters:
        extra_arguments["data"], arguments = _split_data_options(arguments)
    # A flag alone means true; the parser wants the value.
    flags = {f"--{name}" for name, parameter in parameters.items() if parameter.annotation is bool}
    parser_arguments = [f"{argument}=true" if argument in flags else argument for argument in arguments]
    try:
        command(**parser.parse_args(parser_arguments).as_dict(), **extra_arguments)
    except ArgumentError as error:
        raise ConfigError(f"{first_parser_error(str(error))}; see `python -m blend_pl {name} --help`") from error


def _split_data_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options that begin with --data., with their values, and all other arguments."""
    options: list[str] = []
    other_arguments: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--data."):
            other_arguments.append(argument)
        elif "=" in argument:
            options.append(argument)
        else:
            options.append(f"{argument}={next(remaining, '')}")
    return options, other_arguments
