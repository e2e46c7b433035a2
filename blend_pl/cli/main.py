"""The commands of `python -m blend_pl`, found without importing what they need."""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from blend_pl.errors import ConfigError

if TYPE_CHECKING:
    from blend_pl.cli.trainer import BlendCLI

TRAINER = {
    "fit": "trains an experiment, and its teacher where that is missing, and scores it",
    "validate": "scores a checkpoint by what chooses checkpoints",
    "test": "scores a checkpoint as the benchmark does",
    "predict": "writes a checkpoint's rates",
}
"""Commands of the trainer."""

BESIDE = {
    "simulate": ("blend_pl.cli.simulate:simulate", "writes a session with known rates as NWB files"),
    "plain": ("blend_pl.baselines:plain", "fits baselines that need no network"),
    "report": ("blend_pl.report:report", "compares runs over seeds: tables and figures"),
    "submit": ("blend_pl.submission:submit", "writes, checks, scores or hands in a file of NLB'21"),
    "many": ("blend_pl.multirun:many", "fits several seeds or points of an experiment, on a GPU at once"),
    "sweep": ("blend_pl.sweep:sweep", "tries settings: W&B's sweep files on Optuna, without an account"),
    "export": ("blend_pl.export:export", "writes a student as programs for real time: torch.export and ONNX"),
}
"""Commands beside these: the function that each of them is, and what it does."""

HELP = ("-h", "--help")


def run(arguments: Sequence[str]) -> "BlendCLI | None":
    """Runs one command.

    Args:
        arguments: the command line without the program's name.

    Returns:
        What a command of the trainer left behind.

    Raises:
        BlendError: something that the user can mend.
    """
    name = next(iter(arguments), None)
    if name in HELP:
        print(overview())
        return None
    if name is None or (not name.startswith("-") and name not in (*TRAINER, *BESIDE)):
        raise ConfigError(
            f"{'no command is named' if name is None else f'there is no command {name}'}; choose from "
            f"{', '.join((*TRAINER, *BESIDE))}; see `python -m blend_pl COMMAND --help`"
        )
    if name in BESIDE:
        from blend_pl.cli.functions import run_beside

        run_beside(name, resolve_name(BESIDE[name][0]), arguments[1:])
        return None
    from blend_pl.cli.trainer import run_trainer

    return run_trainer(arguments)


def overview() -> str:
    """All commands, a line for each."""
    lines = {**TRAINER, **{name: does for name, (_, does) in BESIDE.items()}}
    return "\n".join(
        (
            "usage: python -m blend_pl COMMAND ...",
            "",
            "Privileged distillation in neural population dynamics.",
            "",
            *(f"  {name:10}{does}" for name, does in lines.items()),
            "",
            "To begin with: python -m blend_pl fit --config experiments/simulated_hard.yaml",
            "Options of a command: python -m blend_pl COMMAND --help",
        )
    )
