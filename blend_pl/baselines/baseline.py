"""Baselines without a network: smoothing followed by a regression, with selected kernel and penalty."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.baselines.glm import FitFunction
from blend_pl.baselines.smoothing import smooth
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.metrics.nlb import NLBScores

KERNEL_SDS_MS = (20.0, 30.0, 50.0, 80.0, 120.0, 200.0)
"""Candidate standard deviations of the kernel."""

PENALTIES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
"""Candidate penalties; kernels are compared at the middle one."""

RateFunction = Callable[[SessionTensors], Tensor]
"""Maps the trials of a session to the rates of some of its units and bins."""


@dataclass(frozen=True)
class SelectedRegression:
    """A fitted regression with selected hyperparameters.

    Attributes:
        sd_ms: standard deviation of the kernel in ms.
        penalty: penalty of the regression.
        score: score on the selection trials.
        predict: predicts rates.
    """

    sd_ms: float
    penalty: float
    score: float
    predict: RateFunction


@dataclass(frozen=True)
class Baseline:
    """Rates from smoothed held-in counts; C held-in of N units, T observed and F forward bins.

    Held-in rates are the smoothed counts. Held-out rates are a regression from the smoothed counts of the same bin.
    Forward rates are a regression of the trial's mean forward count from the last observed bin, times the unit's
    profile over the forward bins, which is its smoothed mean over trials. The inputs are those of a network. Units are
    fitted on the bins in which they were recorded; a held-in unit that was not recorded in a trial has its mean rate.

    Attributes:
        heldout: predicts (trials, T, N - C) rates, selected by co-bps; None if no held-out unit was recorded.
        forward: predicts (trials, F, N) rates, selected by fp-bps; None if no forward bin was recorded.
        heldin_means: (C,) float64 mean counts per bin of the held-in units.
    """

    heldout: SelectedRegression | None
    forward: SelectedRegression | None
    heldin_means: Tensor

    @classmethod
    def fit(cls, regression: FitFunction, fit_trials: SessionTensors, selection_trials: SessionTensors) -> "Baseline":
        """Fits a regression for every kernel, then for every penalty, and keeps the best.

        Args:
            regression: fits one regression.
            fit_trials: trials to fit on.
            selection_trials: trials that select kernel and penalty.

        Raises:
            DataError: neither a held-out unit nor a forward bin was recorded.
        """
        bins, n_heldin = fit_trials.n_observed, fit_trials.n_heldin
        scores = NLBScores(selection_trials, selection_trials, score_names=("co_bps", "fp_bps")).metrics
        heldout = forward = None
        unit_groups = (slice(0, n_heldin), slice(n_heldin, None))[: 1 + (fit_trials.n_units > n_heldin)]
        if "co_bps" in scores and fit_trials.has_recorded(slice(n_heldin, None), slice(bins)):
            heldout = _search_hyperparameters(
                lambda *hyperparameters: _fit_heldout(regression, fit_trials, *hyperparameters),
                _selection_scorer(selection_trials, "co_bps"),
            )
        if "fp_bps" in scores and all(fit_trials.has_recorded(units, slice(bins, None)) for units in unit_groups):
            forward = _search_hyperparameters(
                lambda *hyperparameters: _fit_forward(regression, fit_trials, *hyperparameters),
                _selection_scorer(selection_trials, "fp_bps"),
            )
        if heldout is None and forward is None:
            raise DataError(
                "neither a held-out unit nor a forward bin was recorded in the training trials, so a baseline has "
                "nothing to predict; set data.spec.held_out or data.spec.window.forward_ms"
            )
        return cls(heldout, forward, _heldin_means(fit_trials))

    @property
    def hyperparameters(self) -> dict[str, dict[str, float]]:
        """Selected kernel and penalty, and their score on the selection trials."""
        regressions = {"heldout": self.heldout, "forward": self.forward}
        keys = ("sd_ms", "penalty", "score")
        return {
            name: {key: getattr(regression, key) for key in keys}
            for name, regression in regressions.items()
            if regression
        }

    def predict(self, session: SessionTensors) -> Tensor:
        """Predicts the rates of all trials.

        Returns:
            (trials, T + F, N) float32 expected counts per bin; NaN for units and bins that were not fitted.
        """
        selected = self.heldout or self.forward
        assert selected is not None
        heldin = _smooth_heldin(session, selected.sd_ms, self.heldin_means)
        heldout = self.heldout.predict(session) if self.heldout else None
        forward = self.forward.predict(session) if self.forward else None
        return _assemble_rates(session, heldin, heldout, forward).float()


def _search_hyperparameters(
    fit: Callable[[float, float], RateFunction], score: Callable[[RateFunction], float]
) -> SelectedRegression:
    """Compares all kernels at the middle penalty, then all other penalties at the best kernel."""

    def fit_and_score(sd_ms: float, penalty: float) -> SelectedRegression:
        predict = fit(sd_ms, penalty)
        return SelectedRegression(sd_ms, penalty, score(predict), predict)

    def by_score(candidate: SelectedRegression) -> float:
        return candidate.score

    middle_penalty = PENALTIES[len(PENALTIES) // 2]
    best = max((fit_and_score(sd_ms, middle_penalty) for sd_ms in KERNEL_SDS_MS), key=by_score)
    candidates = (fit_and_score(best.sd_ms, penalty) for penalty in PENALTIES if penalty != middle_penalty)
    return max([best, *candidates], key=by_score)


def _selection_scorer(selection_trials: SessionTensors, name: str) -> Callable[[RateFunction], float]:
    def score(predict: RateFunction) -> float:
        scores = NLBScores(selection_trials, selection_trials, score_names=(name,))
        rates = predict(selection_trials)
        heldout_and_forward = (rates, None) if name == "co_bps" else (None, rates)
        scores.update(
            _assemble_rates(selection_trials, None, *heldout_and_forward),
            torch.arange(len(selection_trials)),
            is_train=False,
        )
        return scores.compute()[name]

    return score


def _assemble_rates(
    session: SessionTensors, heldin: Tensor | None, heldout: Tensor | None, forward: Tensor | None
) -> Tensor:
    bins = session.n_observed
    rates = torch.full(session.spikes.shape, torch.nan, dtype=torch.float64)
    if heldin is not None:
        rates[:, :bins, : session.n_heldin] = heldin
    if heldout is not None:
        rates[:, :bins, session.n_heldin :] = heldout
    if forward is not None:
        rates[:, bins:] = forward
    return rates


def _heldin_means(fit_trials: SessionTensors) -> Tensor:
    """Returns the (C,) mean counts per recorded bin of the held-in units; that of all units for one never recorded."""
    heldin = slice(0, fit_trials.n_heldin)
    recorded = _recorded(fit_trials)[:, : fit_trials.n_observed, heldin]
    counts = fit_trials.spikes[:, : fit_trials.n_observed, heldin].double() * recorded
    total, n_bins = counts.sum((0, 1)), recorded.sum((0, 1))
    return torch.where(n_bins > 0, total / n_bins.clamp(min=1), total.sum() / n_bins.sum().clamp(min=1))


def _recorded(session: SessionTensors) -> Tensor:
    return session.valid_mask(torch.arange(len(session)))


def _smooth_heldin(session: SessionTensors, sd_ms: float, means: Tensor) -> Tensor:
    """Returns (trials, T, C) smoothed counts of the held-in units; their means in trials where none was recorded."""
    bins = session.n_observed
    counts, recorded = session.spikes[:, :bins, : session.n_heldin], session.observed[:, :bins, 0]
    if len(session.observed_column[: session.n_heldin].unique()) > 1:
        recorded = _recorded(session)[:, :bins, : session.n_heldin]
    smoothed = smooth(counts, recorded, sd_ms, session.bin_ms)
    has_recorded = recorded.any(1, keepdim=True) if recorded.ndim == 3 else recorded.any(1)[:, None, None]
    return torch.where(has_recorded, smoothed, means)


def _fit_heldout(regression: FitFunction, fit_trials: SessionTensors, sd_ms: float, penalty: float) -> RateFunction:
    bins, n_heldin, means = fit_trials.n_observed, fit_trials.n_heldin, _heldin_means(fit_trials)
    states = _smooth_heldin(fit_trials, sd_ms, means).flatten(0, 1)
    counts = fit_trials.spikes[:, :bins, n_heldin:].double().flatten(0, 1)
    recorded = _recorded(fit_trials)[:, :bins, n_heldin:].double().flatten(0, 1)
    predict = _fit_by_coverage(regression, states, counts, recorded, fit_trials.observed_column[n_heldin:], penalty)

    def predict_rates(session: SessionTensors) -> Tensor:
        states = _smooth_heldin(session, sd_ms, means)
        rates: Tensor = predict(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return rates

    return predict_rates


def _fit_forward(regression: FitFunction, fit_trials: SessionTensors, sd_ms: float, penalty: float) -> RateFunction:
    bins, heldin_means = fit_trials.n_observed, _heldin_means(fit_trials)
    states = _smooth_heldin(fit_trials, sd_ms, heldin_means)[:, -1]
    valid = _recorded(fit_trials)[:, bins:].double()
    counts, n_bins = fit_trials.spikes[:, bins:].double() * valid, valid.sum(1)
    means = counts.sum(1) / n_bins.clamp(min=1)
    predict = _fit_by_coverage(regression, states, means, n_bins, fit_trials.observed_column, penalty)
    profile = _forward_profile(counts.sum(0) / valid.sum(0).clamp(min=1), sd_ms, fit_trials.bin_ms)

    def predict_rates(session: SessionTensors) -> Tensor:
        return predict(_smooth_heldin(session, sd_ms, heldin_means)[:, -1])[:, None] * profile

    return predict_rates


def _fit_by_coverage(
    regression: FitFunction, states: Tensor, counts: Tensor, bins_per_row: Tensor, column: Tensor, penalty: float
) -> Callable[[Tensor], Tensor]:
    """Fits one regression for all units that were recorded in the same bins.

    Args:
        regression: fits one regression.
        states: (R, C) inputs.
        counts: (R, M) mean counts per bin.
        bins_per_row: (R, M) number of recorded bins in each row.
        column: (M,) units with equal values were recorded in the same bins.
        penalty: penalty of the regression.

    Returns:
        Function from (R', C) states to (R', M) rates. A unit that was never recorded has the mean rate of the others.
    """
    predictors = []
    for value in column.unique():
        units = (column == value).nonzero()[:, 0]
        weights = bins_per_row[:, units[0]].contiguous()
        if weights.any():
            predictors.append(
                (units, regression(states.numpy(), counts[:, units].contiguous().numpy(), weights.numpy(), penalty))
            )
    mean_rate = float((counts * bins_per_row).sum() / bins_per_row.sum().clamp(min=1))

    def predict(new_states: Tensor) -> Tensor:
        rates = torch.full((len(new_states), len(column)), mean_rate, dtype=torch.float64)
        for units, predict_units in predictors:
            rates[:, units] = torch.from_numpy(predict_units(new_states.numpy())).double()
        return rates

    return predict


def _forward_profile(means: Tensor, sd_ms: float, bin_ms: int) -> Tensor:
    """Returns (F, N) smoothed mean counts over trials, divided by each unit's mean over bins; 1 for a silent unit."""
    profile = smooth(means[None], torch.ones(1, len(means), dtype=torch.bool), sd_ms, bin_ms)[0]
    unit_means = profile.mean(0)
    return torch.where(unit_means > 0, profile / unit_means.masked_fill(unit_means == 0, 1.0), 1.0)
