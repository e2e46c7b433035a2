"""A plain baseline: what it fits to a session, how kernel and penalty are chosen, and its rates."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.baselines.glm import Fit
from blend_pl.baselines.smoothing import smooth
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.metrics.nlb import NLBScores

KERNELS_MS = (20.0, 30.0, 50.0, 80.0, 120.0, 200.0)
"""Standard deviations that are tried."""

PENALTIES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
"""Penalties that are tried; kernels are compared at the middle one."""

Map = Callable[[SessionTensors], Tensor]
"""A session's trials to rates of the units and bins that the map is for."""


@dataclass(frozen=True)
class Chosen:
    """The best of several maps.

    Attributes:
        sd_ms: standard deviation of the kernel.
        penalty: of the regression.
        score: what it was chosen by.
        predict: the map.
    """

    sd_ms: float
    penalty: float
    score: float
    predict: Map


@dataclass(frozen=True)
class Baseline:
    """Rates from smoothed held-in counts; C held-in of N units, T observed and F forward bins.

    Held-in rates are the smoothed counts themselves, held-out rates a regression from those of the same bin. A forward
    bin's rate is a regression of the trial's mean forward count from the last observed bin, times the unit's course
    through the forward bins, which is its smoothed mean over trials. Only what a network would see of a trial is seen.

    Attributes:
        heldout: to (trials, T, N - C), chosen by co-bps; None where no held-out unit was recorded.
        forward: to (trials, F, N), chosen by fp-bps; None where no forward bin was recorded.
    """

    heldout: Chosen | None
    forward: Chosen | None

    @classmethod
    def choose(cls, regression: Fit, fit: SessionTensors, selection: SessionTensors) -> "Baseline":
        """Fits a map for every kernel, then for every penalty, and keeps the best.

        Args:
            regression: fits one map.
            fit: trials that are fitted on.
            selection: trials that choose.

        Raises:
            DataError: neither a held-out unit nor a forward bin was recorded.
        """
        bins, heldin = fit.n_observed, fit.n_heldin
        scores = NLBScores(selection, selection, only=("co_bps", "fp_bps")).metrics
        heldout = forward = None
        if "co_bps" in scores and fit.observed[:, :bins, 1].any():
            heldout = _best(lambda *at: _fit_heldout(regression, fit, *at), _scorer(selection, "co_bps"))
        if "fp_bps" in scores and all(fit.observed[:, bins:, g].any() for g in range(1 + (fit.n_units > heldin))):
            forward = _best(lambda *at: _fit_forward(regression, fit, *at), _scorer(selection, "fp_bps"))
        if heldout is None and forward is None:
            raise DataError(
                "neither a held-out unit nor a forward bin was recorded in the training trials, so that a baseline has "
                "nothing to predict; set data.spec.held_out or data.spec.window.forward_ms"
            )
        return cls(heldout, forward)

    @property
    def choice(self) -> dict[str, dict[str, float]]:
        """What was chosen, and by which score of the selection trials, for the record."""
        maps = {"heldout": self.heldout, "forward": self.forward}
        keys = ("sd_ms", "penalty", "score")
        return {name: {key: getattr(each, key) for key in keys} for name, each in maps.items() if each}

    def rates(self, session: SessionTensors) -> Tensor:
        """Predicts the rates of all trials.

        Returns:
            (trials, T + F, N) float32 expected counts per bin; NaN where there was nothing to fit.
        """
        chosen = self.heldout or self.forward
        assert chosen is not None
        heldin = _states(session, chosen.sd_ms)
        heldout = self.heldout.predict(session) if self.heldout else None
        forward = self.forward.predict(session) if self.forward else None
        return _assemble(session, heldin, heldout, forward).float()


def _best(fit: Callable[[float, float], Map], score: Callable[[Map], float]) -> Chosen:
    """Tries all kernels at the middle penalty, then all other penalties at the best kernel."""

    def attempt(sd_ms: float, penalty: float) -> Chosen:
        predict = fit(sd_ms, penalty)
        return Chosen(sd_ms, penalty, score(predict), predict)

    def by_score(chosen: Chosen) -> float:
        return chosen.score

    middle = PENALTIES[len(PENALTIES) // 2]
    best = max((attempt(sd_ms, middle) for sd_ms in KERNELS_MS), key=by_score)
    others = (attempt(best.sd_ms, penalty) for penalty in PENALTIES if penalty != middle)
    return max([best, *others], key=by_score)


def _scorer(selection: SessionTensors, name: str) -> Callable[[Map], float]:
    def score(predict: Map) -> float:
        scores = NLBScores(selection, selection, only=(name,))
        found = predict(selection)
        parts = (found, None) if name == "co_bps" else (None, found)
        scores.update(_assemble(selection, None, *parts), torch.arange(len(selection)), train=False)
        return scores.compute()[name]

    return score


def _assemble(session: SessionTensors, heldin: Tensor | None, heldout: Tensor | None, forward: Tensor | None) -> Tensor:
    bins = session.n_observed
    rates = torch.full(session.spikes.shape, torch.nan, dtype=torch.float64)
    if heldin is not None:
        rates[:, :bins, : session.n_heldin] = heldin
    if heldout is not None:
        rates[:, :bins, session.n_heldin :] = heldout
    if forward is not None:
        rates[:, bins:] = forward
    return rates


def _states(session: SessionTensors, sd_ms: float) -> Tensor:
    """(trials, T, C) smoothed counts of the held-in units."""
    bins = session.n_observed
    counts, recorded = session.spikes[:, :bins, : session.n_heldin], session.observed[:, :bins, 0]
    return smooth(counts, recorded, sd_ms, session.bin_ms)


def _fit_heldout(regression: Fit, fit: SessionTensors, sd_ms: float, penalty: float) -> Map:
    bins, heldin = fit.n_observed, fit.n_heldin
    states = _states(fit, sd_ms).flatten(0, 1)
    counts = fit.spikes[:, :bins, heldin:].double().flatten(0, 1)
    recorded = fit.observed[:, :bins, 1].double().flatten()
    predict = regression(states.numpy(), counts.numpy(), recorded.numpy(), penalty)

    def rates(session: SessionTensors) -> Tensor:
        states = _states(session, sd_ms)
        return torch.from_numpy(predict(states.flatten(0, 1).numpy())).unflatten(0, states.shape[:2])

    return rates


def _fit_forward(regression: Fit, fit: SessionTensors, sd_ms: float, penalty: float) -> Map:
    bins, heldin = fit.n_observed, fit.n_heldin
    states = _states(fit, sd_ms)[:, -1].numpy()
    valid = fit.valid(torch.arange(len(fit)))[:, bins:].double()
    counts = fit.spikes[:, bins:].double() * valid
    # Held-in and held-out units need not be recorded in the same bins.
    maps = []
    for units in (slice(0, heldin), slice(heldin, None))[: 1 + (fit.n_units > heldin)]:
        n_bins = valid[:, :, units][:, :, 0].sum(1)
        means = counts[:, :, units].sum(1) / n_bins.clamp(min=1)[:, None]
        maps.append(regression(states, means.numpy(), n_bins.numpy(), penalty))
    course = _course(counts.sum(0) / valid.sum(0).clamp(min=1), sd_ms, fit.bin_ms)

    def rates(session: SessionTensors) -> Tensor:
        states = _states(session, sd_ms)[:, -1].numpy()
        means = torch.cat([torch.from_numpy(predict(states)) for predict in maps], dim=1)
        return means[:, None] * course

    return rates


def _course(means: Tensor, sd_ms: float, bin_ms: int) -> Tensor:
    """(F, N) mean counts over trials, smoothed, as a multiple of each unit's mean over bins; 1 for a silent unit."""
    course = smooth(means[None], torch.ones(1, len(means), dtype=torch.bool), sd_ms, bin_ms)[0]
    whole = course.mean(0)
    return torch.where(whole > 0, course / whole.masked_fill(whole == 0, 1.0), 1.0)
