"""`python -m blend_pl many EXPERIMENT`."""

from pathlib import Path
from typing import Any

import torch
import yaml

from blend_pl.cli.trainer import run_trainer
from blend_pl.errors import BlendError, ConfigError
from blend_pl.multirun.training import finished_or_not, others_go_on, train_stacked


def many(
    experiment: str,
    seeds: list[int] | None = None,
    points: str | None = None,
    output: str = "runs",
    fit_args: list[str] = [],  # noqa: B006
    together: int = 16,
    stack: bool | None = None,
) -> None:
    """Runs `fit` for several seeds, or several points of a search, in one process; those that have finished are left.

    Each run is found where `fit` would have written it, with the same fingerprint. On a GPU models of one architecture
    train at once: they may differ in seed, masks, optimiser, schedule, alpha, tau, dropouts and the reach of attention.
    All others train one after another.

    Args:
        experiment: experiment file.
        seeds: seeds of the runs; by default the experiment's own.
        points: a list in YAML, or a YAML file with one, of mappings from options of `fit` to values, each run
            with each seed; by default the experiment as it is.
        output: folder of all runs.
        fit_args: more arguments of `fit`, for all runs.
        together: at most so many models train at once.
        stack: whether models train at once; by default if there is a GPU. On a CPU small ones gain by it and large
            ones lose.

    Raises:
        ConfigError: the points are none, or several runs failed; all others have finished.
        BlendError: whatever `fit` raises for one.
    """
    if seeds == [] or together < 1:
        raise ConfigError(f"--seeds {seeds} --together {together}: name at least one seed and one model")
    shared = ["--config", experiment, "--output", output, "--resume", "true", *fit_args]
    chosen = [[]] if seeds is None else [[f"--seed_everything={seed}"] for seed in dict.fromkeys(seeds)]
    runs = [
        [*shared, *seed, *(f"--{name}={_written(value)}" for name, value in point.items())]
        for point in _points(points)
        for seed in chosen
    ]
    failures: list[BlendError] = []
    if torch.cuda.is_available() if stack is None else stack:
        runs, failures = train_stacked(runs, together, Path(output))
    for arguments in runs:
        with others_go_on(failures), finished_or_not():
            run_trainer(["fit", *arguments])
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ConfigError(f"{len(failures)} runs failed: {'; '.join(map(str, failures))}")


def _points(given: str | None) -> list[dict[str, Any]]:
    if given is None:
        return [{}]
    try:
        text = Path(given).read_text() if Path(given).suffix in (".yaml", ".yml") else given
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the points {given}: {' '.join(str(error).split())}") from error
    if not (isinstance(content, list) and content and all(isinstance(point, dict) for point in content)):
        raise ConfigError(
            f"{given} is no list of points; write e.g. [{{distillation.alpha: 0.3}}, {{distillation.alpha: 0.7}}]"
        )
    return content


def _written(value: Any) -> str:
    """A value as the command line has it."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
