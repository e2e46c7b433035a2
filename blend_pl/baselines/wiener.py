"""Wiener filter: ridge regression from lagged held-in spike counts to behavior."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from blend_pl.baselines.grids import LAG_REMEDY, PENALTY_REMEDY, HyperparameterGrid, edge_warning
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.metrics.ridge import RidgeFit
from blend_pl.metrics.score import mean_over_varying

MAX_LAGS_PER_SIDE = 5
"""Largest number of lags in one direction. A longer filter has more distant lags, between which it is linear."""

MAX_SELECTION_ROWS = 20_000
"""Largest number of bins that select the hyperparameters; evenly spaced bins are used if there are more."""

CHUNK_ELEMENTS = 2**25
"""Largest number of lagged counts in memory."""


@dataclass(frozen=True)
class WienerFilter:
    """Ridge regression from the held-in counts around a bin to the velocity of the bin, with selected hyperparameters.

    Velocity is a time series of behavior, in the scored bins. Counts of past and future bins of a trial are used, as by
    the networks; bins outside of the trial and unrecorded bins have the mean count of the unit. Decoders, their trials
    and the R2 are those of `VelocityR2`.

    Attributes:
        lag_ms: largest lag in ms, in both directions.
        penalty: penalty, as a multiple of the mean variance of the lagged counts times the number of bins.
        score: mean R2 on the selection trials.
        warnings: one line for each hyperparameter at the edge of its candidates.
    """

    lag_ms: float
    penalty: float
    score: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def select(
        cls, fit_trials: SessionTensors, selection_trials: SessionTensors, grid: HyperparameterGrid | None = None
    ) -> "WienerFilter | None":
        """Selects the largest lag and the penalty by the velocity R2 on the selection trials.

        Args:
            fit_trials: trials to fit on.
            selection_trials: trials that select the hyperparameters.
            grid: candidate lags and penalties; None for those that fit the window of a trial.

        Returns:
            None if no decoder has at least two bins with a velocity that varies in the selection trials.
        """
        bin_ms = fit_trials.bin_ms
        grid = grid or HyperparameterGrid.for_window(bin_ms, fit_trials.n_observed * bin_ms)
        scores: dict[float, Tensor] = {}
        for lag_ms in grid.lags_ms:
            lag_scores = _score_penalties(fit_trials, selection_trials, lag_ms, grid.penalties, MAX_SELECTION_ROWS)
            if not lag_scores.isfinite().any():
                return None
            scores[lag_ms] = lag_scores.nan_to_num(nan=-torch.inf)
        best_lag = max(scores, key=lambda lag_ms: float(scores[lag_ms].max()))
        by_penalty = dict(zip(grid.penalties, scores[best_lag].tolist(), strict=True))
        best_penalty = max(by_penalty, key=by_penalty.__getitem__)
        by_lag = {lag_ms: float(lag_scores.max()) for lag_ms, lag_scores in scores.items()}
        warnings = (
            edge_warning("lag of the Wiener filter", by_lag, grid.lags_ms, " ms", LAG_REMEDY),
            edge_warning("penalty of the Wiener filter", by_penalty, grid.penalties, "", PENALTY_REMEDY),
        )
        return cls(best_lag, best_penalty, by_penalty[best_penalty], tuple(filter(None, warnings)))

    @property
    def hyperparameters(self) -> dict[str, dict[str, float]]:
        """Selected lag and penalty, and their score on the selection trials."""
        return {"velocity": {"lag_ms": self.lag_ms, "penalty": self.penalty, "score": self.score}}

    def evaluate(self, train: SessionTensors, evaluation: SessionTensors) -> dict[str, float]:
        """Fits the filter to training trials and returns its velocity R2 on the evaluation trials, by name."""
        return {"vel_r2": float(_score_penalties(train, evaluation, self.lag_ms, (self.penalty,))[0])}


def lag_weights(n_bins: int, n_lag_bins: int) -> Tensor:
    """Returns the weight of each bin in each lagged count: 1 at the lag, linearly falling to 0 at the next lags.

    Args:
        n_bins: T, the number of bins of a trial.
        n_lag_bins: the largest lag in bins, in both directions.

    Returns:
        (J, T, T) float64 weights of J lags: the lagged count j of bin t is the sum over s of weight[j, t, s] times the
        count of bin s.
    """
    spacing = max(1, ceil(n_lag_bins / MAX_LAGS_PER_SIDE))
    lags = torch.arange(-(n_lag_bins // spacing), n_lag_bins // spacing + 1) * spacing
    bins = torch.arange(n_bins)
    distance = (bins[None, None, :] - bins[None, :, None] - lags[:, None, None]).abs()
    return (1 - distance.double() / spacing).clamp(min=0)


def _score_penalties(
    fit_trials: SessionTensors,
    scored_trials: SessionTensors,
    lag_ms: float,
    penalties: tuple[float, ...],
    max_rows: int | None = None,
) -> Tensor:
    """Fits a filter for each penalty and returns its (A,) velocity R2 on other trials; nan if nothing varies there."""
    weights = lag_weights(fit_trials.n_observed, round(lag_ms / fit_trials.bin_ms))
    heldin = slice(0, fit_trials.n_heldin)
    counts = fit_trials.spikes[:, : fit_trials.n_observed, heldin].double()
    recorded = fit_trials.valid_mask(torch.arange(len(fit_trials)))[:, : fit_trials.n_observed, heldin]
    means = (counts * recorded).sum((0, 1)) / recorded.sum((0, 1)).clamp(min=1)
    scores = []
    for decoder in range(fit_trials.decode_mask.shape[1]):
        fit_moments, _ = _second_moments(fit_trials, decoder, weights, means, max_rows)
        moments, constant = _second_moments(scored_trials, decoder, weights, means, max_rows)
        n_inputs = len(weights) * len(means)
        n_rows, inputs = fit_moments[0, 0], slice(1, 1 + n_inputs)
        variance = fit_moments.diagonal()[inputs] - fit_moments[0, inputs].square() / n_rows.clamp(min=1)
        scale = variance.mean().clamp(min=1e-12)
        fit = RidgeFit.fit_path(fit_moments, len(constant), torch.tensor(penalties, dtype=torch.float64) * scale)
        if n_rows > 0 and not constant.all():
            scores.append(mean_over_varying(fit.output_scores(moments, constant), constant))
    return torch.stack(scores).mean(0) if scores else torch.full((len(penalties),), torch.nan, dtype=torch.float64)


def _second_moments(
    session: SessionTensors, decoder: int, weights: Tensor, means: Tensor, max_rows: int | None
) -> tuple[Tensor, Tensor]:
    """Returns the moments of rows (1, lagged counts, velocity), and the (Y,) mask of outputs that do not vary."""
    velocity = session.velocity.double()
    used = velocity.isfinite().all(-1) & session.decode_mask[:, decoder, None]
    rows = used.nonzero()
    rows = rows[:: max(1, ceil(len(rows) / max_rows))] if max_rows else rows
    outputs = velocity[rows[:, 0], rows[:, 1]]
    size = 1 + len(weights) * len(means) + outputs.shape[1]
    moments = torch.zeros(size, size, dtype=torch.float64)
    for in_chunk, inputs in _lagged_counts(session, rows, weights, means):
        table = torch.cat([torch.ones_like(inputs[:, :1]), inputs, outputs[in_chunk]], 1)
        moments += table.mT @ table
    constant = (outputs == outputs[:1]).all(0)
    return moments, constant


def _lagged_counts(
    session: SessionTensors, rows: Tensor, weights: Tensor, means: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields, for chunks of trials, the mask of their rows, and the lagged counts of these rows minus their means."""
    n_lags, n_bins, _ = weights.shape
    per_chunk = max(1, CHUNK_ELEMENTS // (n_lags * n_bins * max(1, len(means))))
    for trials in torch.arange(len(session)).split(per_chunk):
        recorded = session.valid_mask(trials)[:, :n_bins, : len(means)]
        counts = (session.spikes[trials, :n_bins, : len(means)].double() - means) * recorded
        in_chunk = (rows[:, 0] >= trials[0]) & (rows[:, 0] <= trials[-1])
        lagged = torch.einsum("jts,bsc->btjc", weights, counts).flatten(2)
        yield in_chunk, lagged[rows[in_chunk, 0] - trials[0], rows[in_chunk, 1]]
