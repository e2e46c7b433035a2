"""Scores of test trials, computed after training from the released targets."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from blend_pl.errors import DataError

TEST_SCORES_FILE = "scores_test.json"
"""File in the folder of a run of phase test, next to results.json."""

SCORE_TEST_COMMAND = "python -m blend_pl submit {runs} --score --test_targets download"
"""Command that writes `TEST_SCORES_FILE`."""


@dataclass(frozen=True)
class ReleasedScores:
    """Scores of a run against the released targets.

    Attributes:
        scores: scores by name, e.g. co_bps.
        targets_sha256: SHA-256 of the file of targets, in hex.
        date: time of scoring, ISO 8601.
    """

    scores: dict[str, float]
    targets_sha256: str
    date: str


def read_test_scores(run_dir: Path) -> ReleasedScores | None:
    """Reads the scores of a run on the test trials; returns None if it has not been scored.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / TEST_SCORES_FILE
    try:
        content = json.loads(path.read_text())
        scores = {str(name): math.nan if value is None else float(value) for name, value in content["scores"].items()}
        return ReleasedScores(scores, str(content["targets_sha256"]), str(content["date"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {path}: {error}; write it again with {SCORE_TEST_COMMAND.format(runs=run_dir)}"
        ) from error
