"""The commands of the trainer: fit, validate, test and predict."""

from collections.abc import Sequence

from blend_pl.cli.help import FULL, GROUP_PREFIX, GROUPS, select_group
from blend_pl.errors import ConfigError
from blend_pl.experiment import Experiment
from blend_pl.experiment.parser import Command, make_parser, setting_names_of, to_arguments
from blend_pl.utils.exceptions import user_errors
from blend_pl.utils.suggestions import did_you_mean

PRINTING_FLAGS = ("--print_config",)
"""Options that print and exit."""

GROUP_CLASSES = {
    "data": "blend_pl.data.NLBDataModule",
    "model": "blend_pl.systems.Student",
    "distillation": "blend_pl.callbacks.Distillation",
    "pretrained": "blend_pl.callbacks.Pretrained",
    "multitask": "blend_pl.callbacks.Multitask",
}
"""Classes whose arguments the help of a group lists, unless an experiment names another."""


def run_trainer(command: Command, arguments: Sequence[str]) -> Experiment:
    """Runs a command of the trainer.

    Args:
        command: its name.
        arguments: its arguments, which may begin with paths of experiment files.

    Returns:
        The experiment after the command.

    Raises:
        BlendError: a setting, the data or a checkpoint cannot be used, or a signal ended training.
    """
    for argument in arguments:
        if argument.startswith(GROUP_PREFIX):
            print_long_help(command, argument, arguments)
            raise SystemExit(0)
    if any(argument.startswith(PRINTING_FLAGS) or ".help" in argument.partition("=")[0] for argument in arguments):
        parser = make_parser(command)
        with user_errors(command, lambda: setting_names_of(parser)):
            parser.parse_args(to_arguments(arguments))
    experiment = Experiment(arguments, command)
    methods = {
        "fit": experiment.fit,
        "validate": experiment.validate,
        "test": experiment.test,
        "predict": experiment.predict,
    }
    return methods[command]()


def print_long_help(command: Command, flag: str, arguments: Sequence[str]) -> None:
    """Prints all options, or those of a group.

    Args:
        command: name of the command.
        flag: `--help.full`, or `--help.` and the name of a group.
        arguments: all arguments; an experiment in them determines the classes whose options are listed.

    Raises:
        ConfigError: there is no such group.
    """
    parser, group = make_parser(command), flag.removeprefix(GROUP_PREFIX)
    text = parser.format_help()
    if flag == FULL:
        print(text)
        return
    if group not in GROUPS:
        names = [f"{GROUP_PREFIX}{name}" for name in (*GROUPS, FULL.removeprefix(GROUP_PREFIX))]
        raise ConfigError(f"there is no help {flag}; {did_you_mean(flag, names) or 'choose from ' + ', '.join(names)}")
    print(select_group(text, group))
    if group in GROUP_CLASSES:
        others = [argument for argument in arguments if argument != flag]
        with user_errors(command, lambda: setting_names_of(parser)):
            settings = parser.parse_args(to_arguments(others)).get(group) if others else None
            class_path = settings.class_path if settings else GROUP_CLASSES[group]
            # Prints the help of the class and exits.
            parser.parse_args([f"--{group}.help={class_path}"])
