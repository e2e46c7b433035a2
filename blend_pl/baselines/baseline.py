"""Baselines without a network: smoothing followed by a regression, with selected kernel and penalty."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, log

import torch
from torch import Tensor

from blend_pl.baselines.glm import FitFunction
from blend_pl.baselines.grids import (
    KERNEL_REMEDY,
    PENALTY_REMEDY,
    REFERENCE_PENALTY,
    HyperparameterGrid,
    edge_warning,
    search_outward,
)
from blend_pl.baselines.smoothing import smooth
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.metrics.nlb import NLBScores, evaluate_rates

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
        warnings: one line for each hyperparameter at the edge of its candidates.
    """

    sd_ms: float
    penalty: float
    score: float
    predict: RateFunction
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SelectedKernel:
    """A selected kernel; attributes as in `SelectedRegression`."""

    sd_ms: float
    score: float
    warnings: tuple[str, ...] = ()


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
        decoding: kernel of the held-in rates from which velocity is decoded, selected by velocity R2; None if the
            selection trials have no velocity to score.
    """

    heldout: SelectedRegression | None
    forward: SelectedRegression | None
    heldin_means: Tensor
    decoding: SelectedKernel | None = None

    @classmethod
    def fit(
        cls,
        regression: FitFunction,
        fit_trials: SessionTensors,
        selection_trials: SessionTensors,
        grid: HyperparameterGrid | None = None,
    ) -> "Baseline":
        """Fits a regression for every kernel, then for every penalty, and keeps the best.

        Args:
            regression: fits one regression.
            fit_trials: trials to fit on.
            selection_trials: trials that select kernel and penalty.
            grid: candidate kernels and penalties; None for those that fit the window of a trial.

        Raises:
            DataError: neither a held-out unit nor a forward bin was recorded.
        """
        bins, n_heldin = fit_trials.n_observed, fit_trials.n_heldin
        grid = grid or HyperparameterGrid.for_window(fit_trials.bin_ms, bins * fit_trials.bin_ms)
        scores = NLBScores(selection_trials, selection_trials, score_names=("co_bps", "fp_bps")).metrics
        heldout = forward = None
        unit_groups = (slice(0, n_heldin), slice(n_heldin, None))[: 1 + (fit_trials.n_units > n_heldin)]
        if "co_bps" in scores and fit_trials.has_recorded(slice(n_heldin, None), slice(bins)):
            heldout = _search_hyperparameters(
                lambda *hyperparameters: _fit_heldout(regression, fit_trials, *hyperparameters),
                _selection_scorer(selection_trials, "co_bps"),
                grid,
                "held-out rates",
            )
        if "fp_bps" in scores and all(fit_trials.has_recorded(units, slice(bins, None)) for units in unit_groups):
            forward = _search_hyperparameters(
                lambda *hyperparameters: _fit_forward(regression, fit_trials, *hyperparameters),
                _selection_scorer(selection_trials, "fp_bps"),
                grid,
                "forward rates",
            )
        if heldout is None and forward is None:
            raise DataError(
                "neither a held-out unit nor a forward bin was recorded in the training trials, so a baseline has "
                "nothing to predict; set data.spec.held_out or data.spec.window.forward_ms"
            )
        baseline = cls(heldout, forward, _heldin_means(fit_trials))
        return replace(baseline, decoding=baseline._select_decoding_kernel(fit_trials, selection_trials, grid))

    @property
    def hyperparameters(self) -> dict[str, dict[str, float]]:
        """Selected kernels and penalties, and their scores on the selection trials."""
        regressions = {"heldout": self.heldout, "forward": self.forward}
        keys = ("sd_ms", "penalty", "score")
        selected = {
            name: {key: getattr(regression, key) for key in keys}
            for name, regression in regressions.items()
            if regression
        }
        if self.decoding:
            selected["decoding"] = {"sd_ms": self.decoding.sd_ms, "score": self.decoding.score}
        return selected

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each selected hyperparameter at the edge of its candidates."""
        selected = (self.heldout, self.forward, self.decoding)
        return tuple(warning for choice in selected if choice for warning in choice.warnings)

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

    def evaluate(self, train: SessionTensors, evaluation: SessionTensors) -> dict[str, float]:
        """Returns the scores by name; velocity R2 of held-in rates with the kernel that is selected for decoding.

        Args:
            train: trials that the velocity decoder is fitted on.
            evaluation: trials that are scored.
        """
        rates = self.predict(train), self.predict(evaluation)
        scores = evaluate_rates(train, evaluation, rates)
        if self.decoding and "vel_r2" in scores:
            scores["vel_r2"] = self._decoding_score((train, evaluation), rates, self.decoding.sd_ms)
        return scores

    def _select_decoding_kernel(
        self, fit_trials: SessionTensors, selection_trials: SessionTensors, grid: HyperparameterGrid
    ) -> SelectedKernel | None:
        try:
            if not NLBScores(fit_trials, selection_trials, score_names=("vel_r2",)).metrics:
                return None
        except DataError:  # a decoder without trials among those that select
            return None
        sessions = fit_trials, selection_trials
        rates = self.predict(fit_trials), self.predict(selection_trials)
        scores = {sd_ms: self._decoding_score(sessions, rates, sd_ms) for sd_ms in grid.kernel_sds_ms}
        best = max(scores, key=scores.__getitem__)
        if not isfinite(scores[best]):  # the velocity of the selection trials does not vary
            return None
        return SelectedKernel(best, scores[best], _kernel_warnings("decoded rates", scores, grid))

    def _decoding_score(
        self, sessions: tuple[SessionTensors, SessionTensors], rates: tuple[Tensor, Tensor], sd_ms: float
    ) -> float:
        """Returns the velocity R2 of rates whose held-in units are smoothed with another kernel."""
        smoothed = rates[0].clone(), rates[1].clone()
        for session, session_rates in zip(sessions, smoothed, strict=True):
            heldin = _smooth_heldin(session, sd_ms, self.heldin_means)
            session_rates[:, : session.n_observed, : session.n_heldin] = heldin.float()
        return evaluate_rates(*sessions, smoothed, score_names=("vel_r2",))["vel_r2"]


def _search_hyperparameters(
    fit: Callable[[float, float], RateFunction],
    score: Callable[[RateFunction], float],
    grid: HyperparameterGrid,
    description: str,
) -> SelectedRegression:
    """Searches the kernel at the reference penalty, then the penalty at the best kernel."""
    predictions: dict[tuple[float, float], RateFunction] = {}

    def fit_and_score(sd_ms: float, penalty: float) -> float:
        predictions[sd_ms, penalty] = fit(sd_ms, penalty)
        return score(predictions[sd_ms, penalty])

    start_penalty = min(grid.penalties, key=lambda penalty: abs(log(penalty / REFERENCE_PENALTY)))
    start_sd = grid.kernel_sds_ms[len(grid.kernel_sds_ms) // 2]
    by_kernel = search_outward(grid.kernel_sds_ms, start_sd, lambda sd_ms: fit_and_score(sd_ms, start_penalty))
    sd_ms = max(by_kernel, key=by_kernel.__getitem__)
    by_penalty = search_outward(grid.penalties, start_penalty, lambda penalty: fit_and_score(sd_ms, penalty))
    penalty = max(by_penalty, key=by_penalty.__getitem__)
    penalty_warning = edge_warning(f"penalty of the {description}", by_penalty, grid.penalties, "", PENALTY_REMEDY)
    warnings = (*_kernel_warnings(description, by_kernel, grid), *filter(None, [penalty_warning]))
    return SelectedRegression(sd_ms, penalty, by_penalty[penalty], predictions[sd_ms, penalty], warnings)


def _kernel_warnings(description: str, scores: dict[float, float], grid: HyperparameterGrid) -> tuple[str, ...]:
    warning = edge_warning(f"kernel of the {description}", scores, grid.kernel_sds_ms, " ms", KERNEL_REMEDY)
    return (warning,) if warning else ()


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
