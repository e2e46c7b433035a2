"""The short help of the commands that run a `Trainer`; the full help is that of the parser."""

import re
from collections.abc import Sequence

FULL, GROUP_PREFIX = "--help.full", "--help."

OPTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "run": (
        ("--seed_everything", "0", "seed of all draws"),
        ("--output", "runs", "folder of all runs"),
        ("--run_dir", "", "folder of this run; by default a new one in the folder of all runs"),
        ("--resume", "false", "continue the run with these settings, if there is one"),
    ),
    "data": (
        ("--data.root", "data", "folder of the recordings"),
        ("--data.bin_ms", "5", "bin width, ms"),
        ("--data.batch_size", "64", "trials of a batch"),
        ("--data.phase", "val", "scored trials: val or test"),
    ),
    "model": (
        ("--model.backbone", "", "network: NDT, STNDT, LFADS, or a class path; its sizes are below it"),
        ("--model.backbone.dropout", "0.1", "dropout of the layers"),
        ("--model.masking.ratio", "0.25", "fraction of masked entries"),
        ("--model.optimizer.lr", "0.001", "highest learning rate"),
    ),
    "distillation": (
        ("--distillation.teacher", "", "checkpoint, run, experiment file (trained if needed), or W&B artifact"),
        ("--distillation.alpha", "0.5", "weight of the reconstruction, 0 to 1"),
        ("--distillation.loss", "HardLoss", "distillation loss: HardLoss, SoftLoss, FeatureLoss, ..."),
    ),
    "trainer": (
        ("--trainer.max_epochs", "", "length of the training"),
        ("--trainer.accelerator", "auto", "cpu, gpu or auto"),
        ("--trainer.precision", "", "32-true, bf16-mixed, ..."),
    ),
    "checkpoint": (("--checkpoint.monitor", "val/co_bps", "score that selects the checkpoint"),),
    "early_stopping": (("--early_stopping.patience", "3", "validations without improvement before the end"),),
}
"""Options that are used most, by group: name, default and description. Settings of an experiment replace defaults."""

CKPT_PATH = ("--ckpt_path", "", "checkpoint of the model, as RUN/checkpoints/best.ckpt; required")
GROUPS = (*(group for group in OPTIONS if group != "run"), "pretrained", "multitask")
"""Groups of options that `--help.GROUP` shows."""


def is_short_help(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for the short help."""
    return any(argument in ("-h", "--help") for argument in arguments)


def format_short_help(command: str, description: str) -> str:
    """Returns the help of a command that runs a `Trainer`, on one screen.

    Args:
        command: its name.
        description: what it does.
    """
    lines = [f"usage: python -m blend_pl {command} FILE [FILE ...] [--OPTION VALUE ...]", "", description, ""]
    lines += ["  FILE, --config FILE         experiment, and files that change it (model, arm), in this order"]
    if command != "fit":
        lines += [_format_option(*CKPT_PATH)]
    for options in OPTIONS.values():
        lines += [_format_option(*option) for option in options]
    extra = "" if command == "fit" else " --ckpt_path RUN/checkpoints/best.ckpt"
    return "\n".join(
        (
            *lines,
            "",
            "Defaults are in brackets; an experiment replaces them. Examples:",
            f"  python -m blend_pl {command} experiments/simulated_hard.yaml{extra}",
            f"  python -m blend_pl {command} experiments/mc_maze.yaml configs/arm/teacher.yaml{extra}",
            f"  python -m blend_pl {command} experiments/simulated.yaml --trainer.max_epochs 50{extra}",
            "",
            f"All options: {FULL}. Those of a group: {GROUP_PREFIX}GROUP, one of",
            f"{', '.join(GROUPS)}.",
            "Those of a class: --model.help blend_pl.systems.Student. Resolved settings: --print_config",
        )
    )


def _format_option(name: str, default: str, description: str) -> str:
    return f"  {name:28}{description}{f' [{default}]' if default else ''}"


def select_group(text: str, group: str) -> str:
    """Returns the entries of a group of options in the help of a parser."""
    selected, is_selected = [], False
    for line in text.partition("\n\n")[2].splitlines():
        if re.match(r"\S|  -", line):
            is_selected = re.match(rf"  (-\w, |ARG:\s+)?--{group}(\.|\s|$)", line) is not None
        if is_selected:
            selected.append(line)
    return "\n".join(selected)
