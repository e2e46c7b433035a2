"""The small commands beside the trainer's: each is a function, whose signature says what its arguments are."""

from argparse import ArgumentError
from collections.abc import Callable, Sequence
from inspect import signature

from jsonargparse import ArgumentParser

from blend_pl.errors import ConfigError, complaint


def run_beside(name: str, command: Callable[..., None], arguments: Sequence[str]) -> None:
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
    more = {}
    if "data" in parameters:
        more["data"], arguments = _data_options(arguments)
    # A flag alone means true; the parser wants the value.
    flags = {f"--{name}" for name, parameter in parameters.items() if parameter.annotation is bool}
    given = [f"{argument}=true" if argument in flags else argument for argument in arguments]
    try:
        command(**parser.parse_args(given).as_dict(), **more)
    except ArgumentError as error:
        raise ConfigError(f"{complaint(str(error))}; see `python -m blend_pl {name} --help`") from error


def _data_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options that begin with --data., with their values, and all other arguments."""
    options: list[str] = []
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--data."):
            others.append(argument)
        elif "=" in argument:
            options.append(argument)
        else:
            options.append(f"{argument}={next(remaining, '')}")
    return options, others
