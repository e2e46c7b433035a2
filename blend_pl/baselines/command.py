"""`python -m blend_pl plain`: the plain baselines of a session, as runs that stand beside the networks'."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.core import LightningDataModule

from blend_pl.baselines.baseline import Baseline
from blend_pl.baselines.glm import Fit, fit_linear, fit_poisson
from blend_pl.config import Config, compose
from blend_pl.data import NLBDataModule
from blend_pl.errors import ConfigError, complaint
from blend_pl.metrics.nlb import NLBScores, score
from blend_pl.report import print_scores
from blend_pl.runs.folder import fingerprint, reserve
from blend_pl.runs.results import write_results

METHODS: dict[str, Fit] = {"smoothing": fit_linear, "glm": fit_poisson}
"""By the last word of their names."""


def plain(config: str, output: str = "runs", seeds: list[int] = [0], data: Sequence[str] = ()) -> None:  # noqa: B006
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
    family, found = _session(Path(config))
    datamodule, settings = _datamodule(found, data)
    datamodule.setup("fit")
    parts = datamodule.parts
    if not NLBScores(parts["train"], parts["eval"]).metrics:
        raise ConfigError(
            f"the {datamodule.phase} trials of {datamodule.spec.name} hide all that could be scored; take --data.phase "
            "val"
        )
    truth = [datamodule.true_rates(part) for part in ("train", "eval")]
    oracle = None
    if truth[0] is not None and truth[1] is not None:
        oracle = score(parts["train"], parts["eval"], (truth[0], truth[1]))
    for method, regression in METHODS.items():
        baseline = Baseline.choose(regression, parts["fit"], parts["selection"])
        scores = score(parts["train"], parts["eval"], (baseline.rates(parts["train"]), baseline.rates(parts["eval"])))
        name = f"{family}_{method}"
        for seed in seeds:
            resolved = {
                "name": name,
                "output": output,
                "seed_everything": seed,
                "data": settings,
                "model": {"plain": method},
            }
            identity = fingerprint(resolved)
            run = reserve(Path(output) / name / f"seed{seed}-{identity}")
            write_results(
                run,
                name=name,
                session=datamodule.spec.name,
                seed=seed,
                fingerprint=identity,
                phase=datamodule.phase,
                selection=datamodule.selection,
                selected={},
                teachers=[],
                checkpoint=None,
                epoch=None,
                cost=None,
                chosen=baseline.choice,
                scores=scores,
                oracle=oracle,
                config=resolved,
            )
        print_scores(name, scores, oracle, Path(output) / name)


def _session(path: Path) -> tuple[str, Config]:
    """The family of an experiment, or the name of a data file, and its data settings."""
    config = compose(path)
    if not isinstance(config.get("data"), dict):
        raise ConfigError(f"{path} has no `data:` settings; name an experiment, a data file or a run's config.yaml")
    name = str(config.get("name") or path.stem)
    family = name.rpartition("_")[0] or name if "model" in config else name
    return family, config["data"]


def _datamodule(data: Config, changes: Sequence[str]) -> tuple[NLBDataModule, Config]:
    """The data module that `fit` would make of the settings, and the settings with all defaults."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    parsed = parser.parse_args([f"--data={json.dumps(data)}", *changes])
    try:
        datamodule = parser.instantiate_classes(parsed).data
    except ValueError as error:
        raise ConfigError(complaint(str(error))) from error
    if not isinstance(datamodule, NLBDataModule):
        raise ConfigError(
            f"plain baselines are made of an NLBDataModule's sessions, not of a {type(datamodule).__name__}'s; name "
            "another config"
        )
    return datamodule, yaml.safe_load(parser.dump(parsed, skip_none=False, skip_validation=True))["data"]
