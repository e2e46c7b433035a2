"""What Weights & Biases is told of a run: its settings, and at the end its results, figures and best checkpoint.

Metrics go there by Lightning's logger. A run is begun by that logger alone, on the first rank.
"""

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger, WandbLogger

from blend_pl.errors import ConfigError
from blend_pl.report.command import draw_run_figures
from blend_pl.report.tables import SCORE_LABELS
from blend_pl.runs.folder import CONFIG_FILE
from blend_pl.runs.results import RESULTS_FILE, Results

WANDB_LOGGER = "lightning.pytorch.loggers.WandbLogger"


def select_logger(loggers: Any, run: Path) -> Any:
    """The loggers of a run: those that were named, else W&B's if its agent started this process, else a CSV file.

    An agent's server draws the next settings by what the run reports.

    Args:
        loggers: `trainer.logger` of a parsed config; true stands for the CSV file.
        run: the run's folder.
    """
    if loggers is None and os.environ.get("WANDB_SWEEP_ID"):
        # The project is the sweep's.
        return Namespace(class_path=WANDB_LOGGER, init_args=Namespace(name=None, id=None, version=None))
    if loggers in (None, True):
        csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(run), "name": ""}}
        return Namespace(csv)
    return loggers


def configure_wandb(loggers: Any, run: Path, name: str, resumed: bool) -> None:
    """Settings of W&B's loggers that follow from the run: where they write, how they are called, what they go on with.

    Args:
        loggers: `trainer.logger` of a parsed config, changed in place.
        run: the run's folder; each has a W&B folder of its own.
        name: the experiment.
        resumed: whether this is the same training as before in that folder; it goes on in W&B too.

    Raises:
        ConfigError: W&B is not installed.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if getattr(logger, "class_path", None) != WANDB_LOGGER:
            continue
        if find_spec("wandb") is None:
            raise ConfigError('the logger needs W&B; run pip install "blend-pl[wandb]", or change trainer.logger')
        settings = logger.init_args
        settings.save_dir = str(run)
        settings.name = settings.name or f"{name}/{run.name}"
        if resumed:
            settings.id = settings.id or settings.version or _find_wandb_id(run)


def _find_wandb_id(run: Path) -> str | None:
    """The id of the W&B run that this folder already has, if any."""
    matches = [re.search(r"run-(\d+_\d+)-(.+)$", folder.name) for folder in run.glob("wandb/*run-*")]
    return max((match.groups() for match in matches if match), default=(None, None))[1]


def log_settings(loggers: Sequence[Logger], settings: dict[str, Any]) -> None:
    """Tells W&B the resolved settings."""
    for logger in _wandb_loggers(loggers):
        logger.log_hyperparams(settings)


def log_results(loggers: Sequence[Logger], run: Path) -> None:
    """Tells W&B what came out, and ends its run; to be called on the first rank, once results are written.

    Scores become a table and a summary, figures are drawn for sessions that have any, and the best checkpoint becomes
    an artifact of type `model` under the experiment's name, with the settings and results beside it; its alias is the
    name of the run's folder.
    """
    for logger in _wandb_loggers(loggers):
        # Here, so that others need no W&B.
        import wandb

        results = Results.read(run)
        oracle = results.oracle or {}
        rows = [[SCORE_LABELS.get(key, key), score, oracle.get(key)] for key, score in results.scores.items()]
        logger.log_metrics(results.selected)
        if rows:
            logger.log_table("results", columns=["score", "value", "true rates"], data=rows)
        with TemporaryDirectory() as folder:
            for picture in draw_run_figures(run, Path(folder)):
                kind = picture.path.stem.rpartition("-")[2]
                logger.log_image(f"figures/{kind}", [str(picture.path)], caption=[picture.caption])
            artifact = wandb.Artifact(
                re.sub(r"[^\w.-]", "-", results.name),
                type="model",
                metadata={
                    "session": results.session,
                    "seed": results.seed,
                    "fingerprint": results.fingerprint,
                    "selected": results.selected,
                    "scores": results.scores,
                },
            )
            assert results.checkpoint is not None
            for path in (run / results.checkpoint, run / CONFIG_FILE, run / RESULTS_FILE):
                artifact.add_file(str(path), policy="immutable")
            logger.experiment.log_artifact(artifact, aliases=["latest", run.name])
            # Another fit of this process begins another run.
            logger.experiment.finish()


def _wandb_loggers(loggers: Sequence[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]
