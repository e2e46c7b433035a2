"""The commands of `python -m blend_pl`, found without importing what they need."""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, cast

from blend_pl.errors import ConfigError

if TYPE_CHECKING:
    from blend_pl.experiment import Experiment
    from blend_pl.experiment.parser import Command

TRAINER_COMMANDS = {
    "fit": "trains an experiment, and its teacher where that is missing, and scores it",
    "validate": "scores a checkpoint by what chooses checkpoints",
    "test": "scores a checkpoint as the benchmark does",
    "predict": "writes a checkpoint's rates",
}
"""Commands of the trainer."""

FUNCTION_COMMANDS = {
    "simulate": ("blend_pl.cli.simulate:simulate", "writes a session with known rates as NWB files"),
    "baseline": ("blend_pl.baselines:fit_baselines", "fits baselines that need no network"),
    "report": ("blend_pl.report:report", "compares runs over seeds: tables and figures"),
    "submit": ("blend_pl.submission:submit", "writes, checks, scores or hands in a file of NLB'21"),
    "multirun": ("blend_pl.multirun:multirun", "fits several seeds or points of an experiment, on a GPU at once"),
    "sweep": ("blend_pl.sweep:sweep", "tries settings: W&B's sweep files on Optuna, without an account"),
    "export": ("blend_pl.export:export", "writes a student as programs for real time: torch.export and ONNX"),
}
"""Commands beside these: the function that each of them is, and what it does."""

HELP_FLAGS = ("-h", "--help")


def run_command(arguments: Sequence[str]) -> "Experiment | None":
    """Runs one command.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The experiment of a command of the trainer; None for other commands.

    Raises:
        BlendError: something that the user can mend.
    """
    name = next(iter(arguments), None)
    if name in HELP_FLAGS:
        print(format_help())
        return None
    if name not in (*TRAINER_COMMANDS, *FUNCTION_COMMANDS):
        raise ConfigError(
            f"{'no command is named' if name is None else f'there is no command {name}'}; choose from "
            f"{', '.join((*TRAINER_COMMANDS, *FUNCTION_COMMANDS))}; see `python -m blend_pl COMMAND --help`"
        )
    if name in FUNCTION_COMMANDS:
        from blend_pl.cli.functions import run_function_command

        run_function_command(name, resolve_name(FUNCTION_COMMANDS[name][0]), arguments[1:])
        return None
    from blend_pl.cli.trainer import run_trainer

    return run_trainer(cast("Command", name), arguments[1:])


def format_help() -> str:
    """All commands, a line for each."""
    lines = {**TRAINER_COMMANDS, **{name: description for name, (_, description) in FUNCTION_COMMANDS.items()}}
    return "\n".join(
        (
            "usage: python -m blend_pl COMMAND ...",
            "",
            "Privileged distillation in neural population dynamics.",
            "",
            *(f"  {name:10}{description}" for name, description in lines.items()),
            "",
            "To begin with: python -m blend_pl fit --config experiments/simulated_hard.yaml",
            "Options of a command: python -m blend_pl COMMAND --help",
        )
    )
