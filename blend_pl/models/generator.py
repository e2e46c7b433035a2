"""A Poisson latent-variable model of activity given behavior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.behavior_drive import BehaviorDrive
from blend_pl.models.layers.gauss_markov import MAX_LOG_RATE, OrnsteinUhlenbeck, log_rate_variance
from blend_pl.utils.checks import COUNT, DROPOUT, NON_NEGATIVE, POSITIVE, check_range

_INITIAL_PRECISION = 50.0
_PRECISION_STEP = 0.1
"""Fraction of the way to the new estimate of a precision in each training step."""


class PopulationGenerator(nn.Module):
    """log rate = W f(behavior) + c + C z: behavior and private latents generate the spikes of a population.

    f is a `BehaviorDrive`; the latents z are Ornstein-Uhlenbeck processes, which behavior does not explain. The
    posterior of z is found for each trial by Newton's method (variational inference with a Gaussian posterior), the
    parameters by gradients of the evidence lower bound.

    Args:
        dims: sizes; `dims.context` is the number of channels of behavior.
        time_constants_ms: time constants of the latents.
        half_width_ms: time before and after a bin in which behavior has a local effect.
        hidden: number of local features, see `BehaviorDrive`.
        summary: number of summaries of the behavior of a trial; 0 for windows that do not start at an event.
        rank: number of features of behavior.
        dropout: dropout of features in training.
        ridge: penalty of the mean squared loading C, in nats per entry; None for empirical Bayes: the prior variance of
            the loadings of each latent is estimated from the data (MacKay, 1992), so that a latent which the data do
            not support vanishes.
        feature_precision: prior precision of the input weights of the features of (standardized) behavior.
        readout_precision: prior precision of W.
        iterations: Newton steps a posterior, in training; twice as many in evaluation.

    Example:
        >>> import torch
        >>> from blend_pl.models import Dims, PopulationGenerator
        >>> model = PopulationGenerator(Dims(channels=6, neurons=8, observed_bins=10, bins=12, context=2)).eval()
        >>> counts, behavior = torch.poisson(torch.ones(4, 10, 6)), torch.randn(4, 12, 2)
        >>> valid = torch.ones(4, 10, 6, dtype=torch.bool), torch.ones(4, 12, 2, dtype=torch.bool)
        >>> model(counts, valid[0], behavior, valid[1]).prediction.shape
        torch.Size([4, 12, 8])
    """

    loading_precision: Tensor
    n_trials: Tensor

    def __init__(
        self,
        dims: Dims,
        time_constants_ms: Sequence[float] = (120.0, 120.0, 120.0, 800.0, 800.0),
        half_width_ms: float = 160.0,
        hidden: int = 96,
        summary: int = 6,
        rank: int = 12,
        dropout: float = 0.2,
        ridge: float | None = None,
        feature_precision: float = 100.0,
        readout_precision: float = 5.0,
        iterations: int = 4,
    ) -> None:
        super().__init__()
        check_range(COUNT, iterations=iterations, n_time_constants=len(time_constants_ms), hidden=hidden, rank=rank)
        check_range(NON_NEGATIVE, ridge=ridge or 0.0, summary=summary)
        check_range(NON_NEGATIVE, feature_precision=feature_precision, readout_precision=readout_precision)
        check_range(DROPOUT, dropout=dropout)
        check_range(POSITIVE, half_width_ms=half_width_ms)
        for time_constant in time_constants_ms:
            check_range(POSITIVE, time_constants_ms=time_constant)
        self.ridge, self.iterations = ridge, iterations
        self.feature_precision, self.readout_precision = feature_precision, readout_precision
        half_width = max(1, round(half_width_ms / dims.bin_ms))
        self.drive = BehaviorDrive(
            dims.context, dims.bins, half_width, hidden=hidden, summary=summary, rank=rank, dropout=dropout
        )
        self.latents = OrnsteinUhlenbeck([time / dims.bin_ms for time in time_constants_ms], dims.bins)
        self.readout = nn.Linear(rank, dims.neurons)
        self.loading = nn.Parameter(0.1 * torch.randn(len(time_constants_ms), dims.neurons))
        # Of the prior of the loadings of each latent, and the number of training trials, which the estimate depends on.
        self.register_buffer("loading_precision", torch.full((len(time_constants_ms),), _INITIAL_PRECISION))
        self.register_buffer("n_trials", torch.tensor(0.0))

    def forward(self, counts: Tensor, counts_valid: Tensor, behavior: Tensor, behavior_valid: Tensor) -> Encoding:
        """Predicts the activity of all bins and neurons, given some of it and behavior.

        Args:
            counts: (B, T, C) counts of the first T bins and C neurons.
            counts_valid: (B, T, C) bool, entries that were observed.
            behavior: (B, T', D) behavior.
            behavior_valid: (B, T', D) bool, entries that were measured.

        Returns:
            An encoding with the log of the expected count per bin. In training the penalty completes the loss of the
            prediction to the negative evidence lower bound, without the divergence of the posterior from the prior,
            which has no gradient here, and adds the negative log prior of the weights.
        """
        log_rates = self.readout(self.drive(behavior, behavior_valid))
        dtype = log_rates.dtype
        bins, n_observed = counts.shape[1:]
        # In full precision, because matrices are inverted.
        with torch.autocast(counts.device.type, enabled=False):
            loading, log_rates = self.loading.float(), log_rates.float()
            with torch.no_grad():
                mean, covariance = self.latents.infer(
                    counts.float(),
                    counts_valid,
                    log_rates[..., :n_observed],
                    loading[:, :n_observed],
                    self.iterations if self.training else 2 * self.iterations,
                )
            variance = log_rate_variance(covariance, loading)
            prediction = log_rates + mean @ loading + variance / 2
        if not self.training:
            return Encoding(prediction.to(dtype), latents=mean.to(dtype))
        # The lower bound takes the log rate of a spike without half of its variance.
        spikes = (counts * counts_valid * variance[:, :bins, :n_observed] / 2).sum((1, 2))
        n_entries = counts_valid.sum().clamp(min=1)
        # The prior is that of all trials with observed entries; the loss is the mean over the entries of a batch.
        n_observed_trials = counts_valid.flatten(1).any(1).sum()
        log_prior = self.readout_precision * self.readout.weight.square().sum()
        log_prior = log_prior + self.feature_precision * self.drive.squared_input_weights()
        penalty = spikes / (n_entries / len(counts))
        if self.ridge is None:
            with torch.no_grad():
                rates = counts_valid * prediction[:, :bins, :n_observed].clamp(max=MAX_LOG_RATE).exp()
                second_moment = (mean.square() + covariance.diagonal(dim1=2, dim2=3))[:, :bins]
                information = torch.einsum("btn,btk->kn", rates, second_moment)
                self._update_loading_precision(information, n_observed_trials)
            log_prior = log_prior + self.loading_precision @ self.loading.square().sum(1)
        else:
            penalty = penalty + self.ridge * self.loading.square().mean()
        weight = n_observed_trials / (2 * self.n_trials.clamp(min=1) * n_entries)
        penalty = penalty + weight * log_prior
        return Encoding(prediction, latents=mean, penalty=penalty)

    def _update_loading_precision(self, information: Tensor, n_observed_trials: Tensor) -> None:
        """Takes a step of expectation maximization on the prior precision of the loadings.

        Args:
            information: (K, N) Fisher information of the loadings in a batch.
            n_observed_trials: number of trials of the batch that it comes from; with 0 the precision stays as it is.
        """
        information = information / n_observed_trials.clamp(min=1)
        posterior_variance = 1 / (information * self.n_trials.clamp(min=1) + self.loading_precision[:, None])
        second_moment = (self.loading.square() + posterior_variance).mean(1)
        updated = self.loading_precision.lerp(1 / second_moment, _PRECISION_STEP)
        # Selected without a branch, which would wait for the device in each step.
        self.loading_precision.copy_(updated.where(n_observed_trials > 0, self.loading_precision))

    def sample_log_rates(self, behavior: Tensor, behavior_valid: Tensor, noise: Tensor) -> Tensor:
        """Returns log rates for behavior and latents from the prior.

        Args:
            behavior: (B, T', D) behavior.
            behavior_valid: (B, T', D) bool, entries that were measured.
            noise: (B, T', K) independent standard normal values.
        """
        log_rates: Tensor = self.readout(self.drive(behavior, behavior_valid))
        return log_rates + self.latents.sample(noise) @ self.loading
