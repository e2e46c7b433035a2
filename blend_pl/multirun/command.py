"""`python -m blend_pl many EXPERIMENT`."""

from pathlib import Path
from typing import Any

import torch
import yaml

from blend_pl.errors import BlendError, ConfigError
from blend_pl.experiment import Experiment
from blend_pl.multirun.training import collect_failures, train_stacked


def multirun(
    experiment: str,
    seeds: list[int] | None = None,
    overrides: str | None = None,
    output: str = "runs",
    fit_args: list[str] = [],  # noqa: B006
    max_parallel: int = 16,
    stack: bool | None = None,
) -> None:
    """Runs `fit` for several seeds, or several points of a search, in one process; those that have finished are left.

    Each run is found where `fit` would have written it, with the same fingerprint. On a GPU models of one architecture
    train at once: they may differ in seed, masks, optimiser, schedule, alpha, tau, dropouts and the reach of attention.
    All others train one after another.

    Args:
        experiment: experiment file.
        seeds: seeds of the runs; by default the experiment's own.
        overrides: a list in YAML, or a YAML file with one, of mappings from options of `fit` to values, each run
            with each seed; by default the experiment as it is.
        output: folder of all runs.
        fit_args: more arguments of `fit`, for all runs.
        max_parallel: at most so many models train at once.
        stack: whether models train at once; by default if there is a GPU. On a CPU small ones gain by it and large
            ones lose.

    Raises:
        ConfigError: the points are none, or several runs failed; all others have finished.
        BlendError: whatever `fit` raises for one.
    """
    if seeds == [] or max_parallel < 1:
        raise ConfigError(f"--seeds {seeds} --max_parallel {max_parallel}: name at least one seed and one model")
    common_args = ["--config", experiment, "--output", output, "--resume", "true", *fit_args]
    seed_options = (
        [[]] if seeds is None else [[f"--seed_everything={seed_option}"] for seed_option in dict.fromkeys(seeds)]
    )
    runs = [
        [*common_args, *seed_option, *(f"--{name}={_to_cli_string(value)}" for name, value in override.items())]
        for override in _read_overrides(overrides)
        for seed_option in seed_options
    ]
    failures: list[BlendError] = []
    if torch.cuda.is_available() if stack is None else stack:
        runs, failures = train_stacked(runs, max_parallel, Path(output))
    for arguments in runs:
        with collect_failures(failures):
            Experiment(arguments).fit()
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ConfigError(f"{len(failures)} runs failed: {'; '.join(map(str, failures))}")


def _read_overrides(source: str | None) -> list[dict[str, Any]]:
    if source is None:
        return [{}]
    try:
        text = Path(source).read_text() if Path(source).suffix in (".yaml", ".yml") else source
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the points {source}: {' '.join(str(error).split())}") from error
    if not (isinstance(content, list) and content and all(isinstance(override, dict) for override in content)):
        raise ConfigError(
            f"{source} is no list of points; write e.g. [{{distillation.alpha: 0.3}}, {{distillation.alpha: 0.7}}]"
        )
    return content


def _to_cli_string(value: Any) -> str:
    """A value as the command line has it."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
