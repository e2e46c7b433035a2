"""Command `multirun`: trains one experiment with several seeds and config overrides."""

from pathlib import Path
from typing import Any

import torch
import yaml

from blend_pl.config import YAML_SUFFIXES, find_config
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
    """Runs `fit` for several seeds and config overrides in one process; finished runs are skipped.

    Each run has the same folder and fingerprint as with `fit`. On a GPU, models of one architecture train in
    parallel as one vmapped stack; they may differ in seed, masks, optimizer, schedule, alpha, tau, dropouts and
    attention window. All others train one after another.

    Args:
        experiment: experiment file.
        seeds: seeds of the runs; by default the seed of the experiment.
        overrides: list of mappings from options of `fit` to values, as YAML text or as a YAML file. Each mapping is
            run with each seed; by default the experiment is run without overrides.
        output: folder of all runs.
        fit_args: further arguments of `fit` for all runs.
        max_parallel: maximum number of models that train in parallel.
        stack: whether to train models in parallel, as one vmapped stack; by default only on a GPU. On a CPU a stack is
            faster for small models and slower for large ones.

    Raises:
        ConfigError: the overrides are invalid, or several runs failed; all others have finished.
        BlendError: one run failed; the error is that of `fit`.
    """
    if seeds == [] or max_parallel < 1:
        raise ConfigError(f"--seeds {seeds} --max_parallel {max_parallel}: use at least one seed and one model")
    common_args = ["--config", experiment, "--output", output, "--resume", "true", *fit_args]
    seed_options = [[]] if seeds is None else [[f"--seed_everything={seed}"] for seed in dict.fromkeys(seeds)]
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
        text = find_config(Path(source)).read_text() if source.endswith(YAML_SUFFIXES) else source
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the overrides {source}: {' '.join(str(error).split())}") from error
    if not (isinstance(content, list) and content and all(isinstance(override, dict) for override in content)):
        raise ConfigError(
            f"--overrides {source} is not a list of mappings; write e.g. [{{distillation.alpha: 0.3}}, "
            "{distillation.alpha: 0.7}]"
        )
    return content


def _to_cli_string(value: Any) -> str:
    """Formats a value for the command line."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
