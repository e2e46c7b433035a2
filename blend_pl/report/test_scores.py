"""Scores of test trials: a run cannot see their targets, so they are made later, from those that were released."""

import json
from dataclasses import dataclass
from pathlib import Path

from blend_pl.errors import DataError

TEST_SCORES = "scores_test.json"
"""Lies beside results.json once a run of phase test is scored."""

SCORE_ON_TEST = "python -m blend_pl submit {runs} --score --test_targets download"
"""The command that writes it."""


@dataclass(frozen=True)
class ReleasedScores:
    """What a run scored against released targets.

    Attributes:
        scores: by name, e.g. co_bps.
        targets: sha256 of the file of targets.
        date: when.
    """

    scores: dict[str, float]
    targets: str
    date: str


def read_test_scores(run: Path) -> ReleasedScores | None:
    """Reads what a run scored on the test trials; None where it has not been scored.

    Raises:
        DataError: the file is damaged.
    """
    path = run / TEST_SCORES
    try:
        found = json.loads(path.read_text())
        scores = {str(name): float(value) for name, value in found["scores"].items()}
        return ReleasedScores(scores, str(found["targets_sha256"]), str(found["date"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path}: {error}; write it anew: {SCORE_ON_TEST.format(runs=run)}") from error
