"""The scores of NLB'21 for one session, from predicted rates."""

import torch
from torch import Tensor
from torchmetrics import Metric

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.metrics import BitsPerSpike, PsthR2, TimingCorrelation, VelocityR2

DECODED_SCORES = {"velocity": "vel_r2", "speed": "speed_r2", "position": "pos_r2"}
"""Name of the R2 of the time series of behavior, by what it is."""

SCORES = ("co_bps", *DECODED_SCORES.values(), "tp_corr", "psth_r2", "fp_bps")


class NLBScores:
    """co-bps, fp-bps, velocity R2, tp corr and PSTH R2 (Pei et al., 2021), as far as the session has the data.

    The R2 of a speed or a position, if that is the time series of behavior, is computed like that of a velocity.

    Batches of rates may be added in any order and on any rank; each trial must be added once.

    Args:
        train: trials that the velocity decoder is fitted on.
        evaluation: trials that are scored; scores are computed on their device.
        score_names: names of the scores to compute; all by default.
    """

    def __init__(
        self, train: SessionTensors, evaluation: SessionTensors, score_names: tuple[str, ...] = SCORES
    ) -> None:
        self.evaluation = evaluation
        bins, n_units = evaluation.n_observed, evaluation.n_units
        metrics: dict[str, Metric] = {}
        if evaluation.has_recorded(slice(evaluation.n_heldin, None), slice(bins)):
            metrics["co_bps"] = BitsPerSpike(n_units - evaluation.n_heldin)
        train_velocity, eval_velocity = train.velocity, evaluation.velocity
        self.decoded_score = DECODED_SCORES[evaluation.series_target]
        has_series = train_velocity.isfinite().any() and eval_velocity.isfinite().any()
        if self.decoded_score in score_names and has_series:
            metrics[self.decoded_score] = VelocityR2(
                n_units, train_velocity, eval_velocity, train.decode_mask, evaluation.decode_mask
            )
        if (evaluation.timing_condition >= 0).any():
            metrics["tp_corr"] = TimingCorrelation(
                n_units, evaluation.scoring_mask, evaluation.timing_condition, evaluation.produced_interval
            )
        if len(evaluation.psth) and (evaluation.condition >= 0).any():
            metrics["psth_r2"] = PsthR2(evaluation.psth)
        if evaluation.has_recorded(slice(None), slice(bins, None)):
            metrics["fp_bps"] = BitsPerSpike(n_units)
        device = evaluation.spikes.device
        self.metrics = {name: metric.to(device) for name, metric in metrics.items() if name in score_names}

    def update(self, rates: Tensor, index: Tensor, is_train: bool) -> None:
        """Adds a batch of rates.

        Args:
            rates: (B, T', N) expected counts per bin.
            index: (B,) rows of the trials in `train` or `evaluation`.
            is_train: whether these are training trials, which only the velocity decoder uses.
        """
        session, bins, heldin = self.evaluation, self.evaluation.n_observed, self.evaluation.n_heldin
        metrics = self.metrics
        if self.decoded_score in metrics:
            metrics[self.decoded_score].update(rates[:, :bins], index, is_train)
        if is_train:
            return
        counts, valid = session.spikes[index], session.valid_mask(index)
        if "co_bps" in metrics:
            scored = valid[:, :bins, heldin:] & session.scoring_mask[index][..., None]
            metrics["co_bps"].update(rates[:, :bins, heldin:], counts[:, :bins, heldin:], scored)
        if "tp_corr" in metrics:
            metrics["tp_corr"].update(rates[:, :bins], index)
        if "fp_bps" in metrics:
            metrics["fp_bps"].update(rates[:, bins:], counts[:, bins:], valid[:, bins:])
        if "psth_r2" in metrics:
            metrics["psth_r2"].update(rates[:, :bins], session.condition[index], session.jitter[index])

    def compute(self) -> dict[str, float]:
        """Returns the scores by name."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}


def evaluate_rates(
    train: SessionTensors,
    evaluation: SessionTensors,
    rates: tuple[Tensor, Tensor],
    score_names: tuple[str, ...] = SCORES,
) -> dict[str, float]:
    """Computes the scores of the rates of all trials.

    Args:
        train: trials that the velocity decoder is fitted on.
        evaluation: trials that are scored.
        rates: (trials, T', N) expected counts per bin of both.
        score_names: names of the scores to compute; all by default.

    Returns:
        Scores by name.
    """
    scores = NLBScores(train, evaluation, score_names)
    for trial_rates, is_train in zip(rates, (True, False), strict=True):
        for index in torch.arange(len(trial_rates)).split(256):
            scores.update(trial_rates[index], index, is_train)
    return scores.compute()
