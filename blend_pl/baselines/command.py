"""Command `baseline`: fits the non-neural-network baselines (smoothing, GLM and Wiener filter)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, PositiveFloat
from lightning.pytorch.core import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from blend_pl.baselines.baseline import Baseline
from blend_pl.baselines.glm import FitFunction, fit_poisson, fit_ridge
from blend_pl.baselines.grids import HyperparameterGrid
from blend_pl.baselines.wiener import WienerFilter
from blend_pl.config import ROLE_KEY, Config, compose, compose_experiment, split_reference
from blend_pl.data import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError
from blend_pl.metrics.nlb import NLBScores, evaluate_rates
from blend_pl.report import print_scores
from blend_pl.runs.folder import config_fingerprint, create_run_dir
from blend_pl.runs.results import BASELINE, Results
from blend_pl.utils.suggestions import explain_parser_error

METHODS: dict[str, FitFunction] = {"smoothing": fit_ridge, "glm": fit_poisson}
"""Regression of each method that predicts rates; the name of the method is the last part of the run's name."""

WIENER = "wiener"
"""Name of the method that predicts behavior only."""


@dataclass(frozen=True)
class FittedMethod:
    """Scores of a method, the selected hyperparameters, and a line for each of them at the edge of its candidates."""

    name: str
    scores: dict[str, float]
    hyperparameters: dict[str, dict[str, float]]
    warnings: tuple[str, ...]


def fit_baselines(
    config: str,
    output: str = "runs",
    seeds: list[int] = [0],  # noqa: B006
    kernel_sds_ms: list[PositiveFloat] = [],  # noqa: B006
    penalties: list[PositiveFloat] = [],  # noqa: B006
    lags_ms: list[NonNegativeFloat] = [],  # noqa: B006
    data: Sequence[str] = (),
) -> None:
    """Fits non-neural-network baselines to a session and writes them as finished runs.

    The baselines are Gaussian smoothing, with held-out rates from ridge regression, a Poisson GLM on the smoothed
    held-in spikes, and a Wiener filter that decodes velocity from the held-in spikes around each bin. They are fitted
    to the same training trials as networks; kernels, lags and penalties are selected on the trials that select a
    network's checkpoint. A warning names a selected value at the edge of its candidates. `report` lists baselines and
    networks in one table. Options of the session are those of `fit`, e.g. --data.bin_ms 20, --data.root data.

    Args:
        config: an experiment config, a data config (e.g. configs/data/mc_maze.yaml), or the config.yaml of a run.
        output: folder of all runs. The runs are named PREFIX_smoothing, PREFIX_glm and PREFIX_wiener. PREFIX is the
            name of a data config, or the name of an experiment up to its last underscore: simulated for simulated_hard.
        seeds: seeds of the runs, e.g. --seeds [0,1,2]. Fits are deterministic, so every seed gets the same scores;
            one run per seed lets `report` pair them with network runs of the same seed.
        kernel_sds_ms: candidate standard deviations of the kernel in ms; by default from the bin width to the observed
            window of a trial.
        penalties: candidate penalties of the regressions; by default 1e-6 to 1000.
        lags_ms: candidate largest lags of the Wiener filter in ms; by default from 0 to the observed window of a trial.
        data: overrides of data settings, each --data.NAME=VALUE as in `fit`.

    Raises:
        BlendError: the config has no data settings, or the session has no targets to score.
    """
    if not seeds:
        raise ConfigError("no seeds given; write at least one, as in --seeds [0]")
    base_name, data_config = _read_experiment(config)
    datamodule, settings = _build_datamodule(data_config, data)
    datamodule.setup("fit")
    splits = datamodule.subsets
    if not NLBScores(splits["train"], splits["eval"]).metrics:
        raise ConfigError(
            f"{datamodule.spec.name} has no targets to score in its {datamodule.phase} trials; use --data.phase val"
        )
    true_rates = [datamodule.true_rates(split) for split in ("train", "eval")]
    oracle = None
    if true_rates[0] is not None and true_rates[1] is not None:
        oracle = evaluate_rates(splits["train"], splits["eval"], (true_rates[0], true_rates[1]))
    session = splits["fit"]
    window_ms = session.n_observed * session.bin_ms
    grid = HyperparameterGrid.for_window(session.bin_ms, window_ms, kernel_sds_ms, penalties, lags_ms)
    for method in _fit_methods(splits, grid):
        name = f"{base_name}_{method.name}"
        for warning in method.warnings:
            rank_zero_warn(f"{name}: {warning}")
        for seed in seeds:
            resolved = {
                "name": name,
                "output": output,
                "seed_everything": seed,
                "data": settings,
                "model": {"baseline": method.name},
            }
            run_fingerprint = config_fingerprint(resolved)
            run_dir = create_run_dir(Path(output) / name / f"seed{seed}-{run_fingerprint}")
            Results(
                name=name,
                role=BASELINE,
                session=datamodule.spec.name,
                seed=seed,
                fingerprint=run_fingerprint,
                phase=datamodule.phase,
                selection=datamodule.selection,
                selected={},
                teachers=(),
                checkpoint=None,
                epoch=None,
                cost=None,
                chosen=method.hyperparameters,
                digest=datamodule.digest,
                scores=method.scores,
                oracle=oracle,
                config=resolved,
            ).write(run_dir)
        print_scores(name, method.scores, oracle, Path(output) / name)


def _fit_methods(splits: Mapping[str, SessionTensors], grid: HyperparameterGrid) -> Iterator[FittedMethod]:
    """Yields all methods; the Wiener filter only if there is a velocity to decode."""
    for name, regression in METHODS.items():
        baseline = Baseline.fit(regression, splits["fit"], splits["selection"], grid)
        scores = baseline.evaluate(splits["train"], splits["eval"])
        yield FittedMethod(name, scores, baseline.hyperparameters, baseline.warnings)
    has_velocity = "vel_r2" in NLBScores(splits["train"], splits["eval"], score_names=("vel_r2",)).metrics
    wiener = WienerFilter.select(splits["fit"], splits["selection"], grid) if has_velocity else None
    if wiener is None:
        trials = "selection" if has_velocity else "scored"
        print(f"no {WIENER} baseline: the {trials} trials have no velocity that varies")
        return
    yield FittedMethod(
        WIENER, wiener.evaluate(splits["train"], splits["eval"]), wiener.hyperparameters, wiener.warnings
    )


def _read_experiment(reference: str) -> tuple[str, Config]:
    """Returns the prefix of the run names and the data settings; see `fit_baselines`."""
    paths = split_reference(reference)
    config = compose(*paths)
    if not isinstance(config.get("data"), dict):
        raise ConfigError(
            f"{reference} has no `data:` settings; use an experiment config, a data config or a run's config.yaml"
        )
    name = str(compose_experiment(paths)["name"])
    has_arm = ROLE_KEY in config or ("name" in config and "model" in config)
    return name.rpartition("_")[0] or name if has_arm else name, config["data"]


def _build_datamodule(data: Config, overrides: Sequence[str]) -> tuple[NLBDataModule, Config]:
    """Returns the data module that `fit` builds from the settings, and the settings with all defaults."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    parsed = parser.parse_args([f"--data={json.dumps(data)}", *overrides])
    try:
        datamodule = parser.instantiate_classes(parsed).data
    except ValueError as error:
        raise ConfigError(explain_parser_error(str(error))) from error
    if not isinstance(datamodule, NLBDataModule):
        raise ConfigError(
            f"non-neural-network baselines need an NLBDataModule, but this config has a {type(datamodule).__name__}; "
            "use another config"
        )
    return datamodule, yaml.safe_load(parser.dump(parsed, skip_none=False, skip_validation=True))["data"]
