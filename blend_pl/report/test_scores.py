"""Scores of test trials: a run cannot see their targets, so they are made later, from those that were released."""

import json
from dataclasses import dataclass
from pathlib import Path

from blend_pl.errors import DataError

TEST_SCORES_FILE = "scores_test.json"
"""Lies beside results.json once a run of phase test is scored."""

SCORE_TEST_COMMAND = "python -m blend_pl submit {runs} --score --test_targets download"
"""The command that writes it."""


@dataclass(frozen=True)
class ReleasedScores:
    """What a run scored against released targets.

    Attributes:
        scores: by name, e.g. co_bps.
        targets_sha256: sha256 of the file of targets.
        date: when.
    """

    scores: dict[str, float]
    targets_sha256: str
    date: str


def read_test_scores(run_dir: Path) -> ReleasedScores | None:
    """Reads what a run scored on the test trials; None where it has not been scored.

    Raises:
        DataError: the file is damaged.
    """
    path = run_dir / TEST_SCORES_FILE
    try:
        content = json.loads(path.read_text())
        scores = {str(name): float(value) for name, value in content["scores"].items()}
        return ReleasedScores(scores, str(content["targets_sha256"]), str(content["date"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {path}: {error}; write it anew: {SCORE_TEST_COMMAND.format(runs=run_dir)}"
        ) from error
