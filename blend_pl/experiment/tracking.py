"""Tracking of runs with Weights & Biases: settings, results, figures and the best checkpoint.

Metrics are logged by the logger of Lightning, which alone starts a W&B run, on the first rank.
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
from blend_pl.metrics.labels import SCORE_LABELS
from blend_pl.report.command import draw_run_figures
from blend_pl.runs.folder import CONFIG_FILE
from blend_pl.runs.results import RESULTS_FILE, Results

WANDB_LOGGER = "lightning.pytorch.loggers.WandbLogger"


def select_logger(loggers: Any, run: Path) -> Any:
    """Returns the loggers of a run: those of the settings, else W&B's if an agent started the process, else a CSV file.

    The server of a W&B agent chooses the next settings by the metrics that the run logs.

    Args:
        loggers: `trainer.logger` of a parsed config; true means a CSV file.
        run: folder of the run.
    """
    if loggers is None and os.environ.get("WANDB_SWEEP_ID"):
        # The sweep determines the project.
        return Namespace(class_path=WANDB_LOGGER, init_args=Namespace(name=None, id=None, version=None))
    if loggers in (None, True):
        csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(run), "name": ""}}
        return Namespace(csv)
    return loggers


def configure_wandb(loggers: Any, run: Path, name: str, resumed: bool) -> None:
    """Sets the folder, name and id of W&B loggers.

    Args:
        loggers: `trainer.logger` of a parsed config, changed in place.
        run: folder of the run, which holds the folder of W&B.
        name: name of the experiment.
        resumed: whether training resumes in that folder; the W&B run is resumed, too.

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
    """Returns the id of the latest W&B run in the folder, or None."""
    matches = [re.search(r"run-(\d+_\d+)-(.+)$", folder.name) for folder in run.glob("wandb/*run-*")]
    return max((match.groups() for match in matches if match), default=(None, None))[1]


def log_settings(loggers: Sequence[Logger], settings: dict[str, Any]) -> None:
    """Logs the resolved settings to W&B."""
    for logger in _wandb_loggers(loggers):
        logger.log_hyperparams(settings)


def log_results(loggers: Sequence[Logger], run: Path) -> None:
    """Logs the results to W&B and finishes its run. Call it on the first rank, after the results are written.

    Scores are logged as a table and a summary, with the figures of the session. The best checkpoint is an
    artifact of type `model` with the settings and results, named after the experiment; its alias is the folder's name.
    """
    for logger in _wandb_loggers(loggers):
        # Imported here, because W&B is optional.
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
            # A later fit in this process starts another run.
            logger.experiment.finish()


def _wandb_loggers(loggers: Sequence[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]
