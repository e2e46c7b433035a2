"""`python -m blend_pl plain`: the plain baselines of a session, as runs that stand beside the networks'."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.core import LightningDataModule

from blend_pl.baselines.baseline import Baseline
from blend_pl.baselines.glm import FitFunction, fit_linear, fit_poisson
from blend_pl.config import ROLE_KEY, Config, compose, compose_experiment, split_reference
from blend_pl.data import NLBDataModule
from blend_pl.errors import ConfigError, first_parser_error
from blend_pl.metrics.nlb import NLBScores, evaluate_rates
from blend_pl.report import print_scores
from blend_pl.runs.folder import config_fingerprint, create_run_dir
from blend_pl.runs.results import BASELINE, Results

METHODS: dict[str, FitFunction] = {"smoothing": fit_linear, "glm": fit_poisson}
"""By the last word of their names."""


def fit_baselines(config: str, output: str = "runs", seeds: list[int] = [0], data: Sequence[str] = ()) -> None:  # noqa: B006
    """Fits the plain baselines of a session, which a network must beat, and writes them as finished runs.

    Gaussian smoothing, with held-out rates by ridge regression, and a Poisson GLM on the smoothed held-in spikes. They
    learn from the trials that a network learns from, and kernel and penalty are chosen on those that choose its
    checkpoint. `report` sets them in one table with the networks. Settings of the session are changed as in `fit`:
    --data.bin_ms 20, --data.root data.

    Args:
        config: an experiment, a data file, or the config.yaml of a run, whose session is taken.
        output: folder of all runs; these are FAMILY_smoothing and FAMILY_glm, FAMILY being the experiment's name
            without its last word.
        seeds: seeds to write runs for, as in --seeds [0,1,2]. Nothing here is drawn: the scores are the same for each,
            to be paired with those of networks of that seed.
        data: settings of the data module that replace the file's, each --data.NAME=VALUE as `fit` takes them.

    Raises:
        BlendError: the file has no data settings, or nothing can be scored on that session.
    """
    if not seeds:
        raise ConfigError("no seeds given; write at least one, as in --seeds [0]")
    base_name, data_config = _read_experiment(config)
    datamodule, settings = _build_datamodule(data_config, data)
    datamodule.setup("fit")
    splits = datamodule.subsets
    if not NLBScores(splits["train"], splits["eval"]).metrics:
        raise ConfigError(
            f"the {datamodule.phase} trials of {datamodule.spec.name} hide all that could be scored; take --data.phase "
            "val"
        )
    true_rates = [datamodule.true_rates(split) for split in ("train", "eval")]
    oracle = None
    if true_rates[0] is not None and true_rates[1] is not None:
        oracle = evaluate_rates(splits["train"], splits["eval"], (true_rates[0], true_rates[1]))
    for method, regression in METHODS.items():
        baseline = Baseline.fit(regression, splits["fit"], splits["selection"])
        scores = evaluate_rates(
            splits["train"], splits["eval"], (baseline.predict(splits["train"]), baseline.predict(splits["eval"]))
        )
        name = f"{base_name}_{method}"
        for seed in seeds:
            resolved = {
                "name": name,
                "output": output,
                "seed_everything": seed,
                "data": settings,
                "model": {"plain": method},
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
                chosen=baseline.hyperparameters,
                scores=scores,
                oracle=oracle,
                config=resolved,
            ).write(run_dir)
        print_scores(name, scores, oracle, Path(output) / name)


def _read_experiment(reference: str) -> tuple[str, Config]:
    """The experiment's name without its arm, or the name of a data file, and the data settings."""
    paths = split_reference(reference)
    config = compose(*paths)
    if not isinstance(config.get("data"), dict):
        raise ConfigError(
            f"{reference} has no `data:` settings; name an experiment, a data file or a run's config.yaml"
        )
    name = str(compose_experiment(paths)["name"])
    has_arm = ROLE_KEY in config or ("name" in config and "model" in config)
    return name.rpartition("_")[0] or name if has_arm else name, config["data"]


def _build_datamodule(data: Config, overrides: Sequence[str]) -> tuple[NLBDataModule, Config]:
    """The data module that `fit` would make of the settings, and the settings with all defaults."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    parsed = parser.parse_args([f"--data={json.dumps(data)}", *overrides])
    try:
        datamodule = parser.instantiate_classes(parsed).data
    except ValueError as error:
        raise ConfigError(first_parser_error(str(error))) from error
    if not isinstance(datamodule, NLBDataModule):
        raise ConfigError(
            f"plain baselines are made of an NLBDataModule's sessions, not of a {type(datamodule).__name__}'s; name "
            "another config"
        )
    return datamodule, yaml.safe_load(parser.dump(parsed, skip_none=False, skip_validation=True))["data"]
