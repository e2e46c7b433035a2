"""The commands of the trainer: fit, validate, test and predict."""

from collections.abc import Sequence

from blend_pl.experiment import Experiment
from blend_pl.experiment.parser import Command, make_parser, setting_names_of, to_arguments
from blend_pl.utils.exceptions import user_errors

PRINTING_FLAGS = ("-h", "--help", "--print_config")
"""Options that print and exit."""


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
