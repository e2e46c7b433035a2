"""Commands of `python -m blend_pl`; the modules of a command are imported only when it runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from blend_pl.errors import ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from blend_pl.experiment import Experiment
    from blend_pl.experiment.parser import Command

TRAINER_COMMANDS = {
    "fit": "trains and tests an experiment; trains its teacher first if there is none",
    "validate": "evaluates a checkpoint on the model-selection metric",
    "test": "evaluates a checkpoint on the metrics of the benchmark",
    "predict": "writes the firing rates predicted by a checkpoint",
}
"""Commands that run a `Trainer`, with their descriptions."""

FUNCTION_COMMANDS = {
    "list": ("blend_pl.cli.list:list_experiments", "shows sets, arms and models, and how to compose them"),
    "init": ("blend_pl.cli.init:copy_experiments", "copies an experiment and all of its files into a folder"),
    "completion": ("blend_pl.cli.completion:print_completion", "prints a completion script for bash or zsh"),
    "inspect": ("blend_pl.cli.inspect:inspect_file", "shows what an NWB file holds, writes a data file to train on it"),
    "simulate": ("blend_pl.cli.simulate:simulate", "writes a simulated session with known firing rates as NWB files"),
    "baseline": (
        "blend_pl.baselines:fit_baselines",
        "fits non-neural-network baselines (smoothing, GLM, Wiener filter)",
    ),
    "report": ("blend_pl.report:write_report", "writes tables and figures that compare experiments across seeds"),
    "submit": ("blend_pl.submission:submit", "writes, checks, scores or uploads an NLB'21 submission file"),
    "multirun": ("blend_pl.multirun:multirun", "trains several seeds and config overrides, in parallel on one GPU"),
    "sweep": ("blend_pl.sweep:sweep", "hyperparameter search: runs W&B sweep files with Optuna, no W&B account needed"),
    "export": ("blend_pl.export:export_student", "exports a student for real-time inference (torch.export and ONNX)"),
}
"""Commands that are functions: import path and description."""

RENAMED_COMMANDS = {"many": "multirun", "plain": "baseline"}
RENAMED_OPTIONS = {
    "multirun": {"points": "overrides", "together": "max_parallel"},
    "report": {"into": "update_doc"},
    "sweep": {"together": "max_parallel"},
}
"""Command and option names of version 0.1; using one raises an error that gives the new name."""

HELP_FLAGS = ("-h", "--help")
VERSION_FLAG = "--version"
LIST_PARAMETERS = {
    "runs": ("+", "folders of runs or experiments"),
    "experiments": ("*", "experiment files"),
    "kinds": ("*", "sets, arms or models; by default all of them"),
}
"""Parameters of functions that take several positional arguments, with the value of `nargs` and the help."""
INTEGERS = r"-?\d+(,\s*-?\d+)*,?"
"""Pattern of an integer, or of several that are separated by commas."""
EXPERIMENT_PARAMETERS = ("experiment", "config")
"""Names of the first parameter of functions that take an experiment."""


def run_command(arguments: Sequence[str]) -> "Experiment | None":
    """Runs one command.

    Args:
        arguments: the command line without the name of the program.

    Returns:
        The experiment, for a command that runs a `Trainer`; otherwise None.

    Raises:
        BlendError: an argument, a setting or a file cannot be used.
    """
    name = next(iter(arguments), None)
    if name in HELP_FLAGS:
        print(format_help())
        return None
    if name == VERSION_FLAG:
        from blend_pl.cli.version import format_versions

        print(format_versions())
        return None
    if name in TRAINER_COMMANDS:
        from blend_pl.cli.help import format_short_help, is_short_help

        if is_short_help(arguments[1:]):
            print(format_short_help(name, TRAINER_COMMANDS[name]))
            return None
        from blend_pl.cli.trainer import run_trainer

        return run_trainer(cast("Command", name), arguments[1:])
    if name in FUNCTION_COMMANDS:
        run_function_command(name, resolve_name(FUNCTION_COMMANDS[name][0]), arguments[1:])
        return None
    if name in RENAMED_COMMANDS:
        raise ConfigError(f"the command {name} is now named {RENAMED_COMMANDS[name]}; write that instead")
    from blend_pl.utils.suggestions import did_you_mean

    commands = (*TRAINER_COMMANDS, *FUNCTION_COMMANDS)
    problem = "no command is named" if name is None else f"there is no command {name}"
    advice = (name and did_you_mean(name, commands)) or "see `python -m blend_pl COMMAND --help`"
    raise ConfigError(f"{problem}; choose from {', '.join(commands)}; {advice}")


def format_help() -> str:
    """Returns the text of `--help`: all commands, one per line."""
    lines = {**TRAINER_COMMANDS, **{name: description for name, (_, description) in FUNCTION_COMMANDS.items()}}
    return "\n".join(
        (
            "usage: python -m blend_pl COMMAND ...",
            "",
            "Privileged distillation for models of neural population activity.",
            "",
            *(f"  {name:12}{description}" for name, description in lines.items()),
            "",
            "Example: python -m blend_pl fit experiments/simulated_hard.yaml",
            "Options of a command: python -m blend_pl COMMAND --help",
            "Versions: python -m blend_pl --version",
        )
    )


def make_function_parser(name: str, command: Callable[..., None]) -> "ArgumentParser":
    """Returns the parser of a command that is a function; see `run_function_command`."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"python -m blend_pl {name}", exit_on_error=False)
    parser.add_function_arguments(command, as_positional=True, skip={*LIST_PARAMETERS, "data"})
    for parameter, command_parameter in signature(command).parameters.items():
        if parameter in LIST_PARAMETERS:
            element_type = get_type_hints(command)[parameter].__args__[0]
            nargs, description = LIST_PARAMETERS[parameter]
            if command_parameter.default is not Parameter.empty:
                nargs = "*"
            default: dict[str, Any] = {"default": []} if nargs == "*" else {}
            parser.add_argument(parameter, nargs=nargs, type=element_type, help=description, **default)
    return parser


def run_function_command(name: str, command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Runs a command that is a function; its signature and docstring define the arguments.

    A parameter in `LIST_PARAMETERS` takes several positional arguments, a parameter `data` all options that begin with
    `--data.`. An experiment is given as one or more files, as positional arguments or with `--config`.

    Args:
        name: the name of the command.
        command: the function.
        arguments: the arguments of the command.

    Raises:
        ConfigError: an argument is unknown or has a value that is not allowed.
    """
    from jsonargparse import ArgumentError

    parameters = signature(command).parameters
    parser = make_function_parser(name, command)
    words = _join_integers(parameters, _normalize_options(name, parameters, arguments))
    data_options = {}
    if "data" in parameters:
        data_options["data"], words = _split_data_options(words)
    if next(iter(parameters)) in EXPERIMENT_PARAMETERS:
        words = _join_experiment(words)
    try:
        command(**parser.parse_args(words).as_dict(), **data_options)
    except ArgumentError as error:
        from blend_pl.utils.suggestions import explain_parser_error, with_help

        explanation = explain_parser_error(str(error), parameters)
        raise ConfigError(with_help(explanation, name)) from error


def _normalize_options(name: str, parameters: Mapping[str, Parameter], arguments: Sequence[str]) -> list[str]:
    """Replaces dashes in names of options by underscores, and a flag without a value by its value true."""
    renamed = RENAMED_OPTIONS.get(name, {})
    words: list[str] = []
    remaining = [*arguments]
    while remaining:
        argument = remaining.pop(0)
        flag, equals, value = argument.partition("=")
        option = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and option in renamed:
            new_flag = f"--{renamed[option].replace('_', '-')}"
            raise ConfigError(f"the option {flag} of {name} is now named {new_flag}; write that instead")
        if not flag.startswith("--") or option not in parameters:
            words.append(argument)
        elif not equals and parameters[option].annotation is bool:
            is_given = bool(remaining) and remaining[0] in ("true", "false")
            words.append(f"--{option}={remaining.pop(0) if is_given else 'true'}")
        else:
            words.append(f"--{option}{equals}{value}")
    return words


def _join_integers(parameters: Mapping[str, Parameter], arguments: Sequence[str]) -> list[str]:
    """Replaces the values 0,1 or 0 1 of options that take a list of integers by [0,1]."""
    words: list[str] = []
    remaining = [*arguments]
    while remaining:
        word = remaining.pop(0)
        flag, equals, value = word.partition("=")
        parameter = parameters.get(flag.removeprefix("--"))
        if not flag.startswith("--") or parameter is None or "list[int]" not in str(parameter.annotation):
            words.append(word)
            continue
        values = [value] if equals else []
        while remaining and not equals and re.fullmatch(INTEGERS, remaining[0]):
            values.append(remaining.pop(0))
        if values and all(re.fullmatch(INTEGERS, value) for value in values):
            integers = re.findall(r"-?\d+", " ".join(values))
            words.append(f"{flag}=[{','.join(integers)}]")
        else:
            words.append(word)
    return words


def _split_data_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the options that begin with --data., with their values, and all other arguments."""
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


def _join_experiment(arguments: Sequence[str]) -> list[str]:
    """Replaces leading paths and `--config` options by one positional argument, a reference to their composition."""
    from blend_pl.config import join_reference, split_config_options

    remaining = list(arguments)
    paths: list[str] = []
    while remaining and not remaining[0].startswith("-"):
        paths.append(remaining.pop(0))
    references, other_arguments = split_config_options(remaining)
    paths += references
    return [*([join_reference(paths)] if paths else []), *other_arguments]
