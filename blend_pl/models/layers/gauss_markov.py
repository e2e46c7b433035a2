"""Gauss-Markov latent processes: prior samples, and the Gaussian posterior given counts by Newton's method."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_STEP = 1.0
"""Largest change of a latent per iteration; the prior standard deviation is 1."""
MAX_LOG_RATE = 8.0


class OrnsteinUhlenbeck(nn.Module):
    """K independent Ornstein-Uhlenbeck processes of unit variance, one value per bin.

    Args:
        time_constants: K time constants in bins.
        bins: T', number of bins.

    Example:
        >>> import torch
        >>> processes = OrnsteinUhlenbeck([5.0, 20.0], bins=30)
        >>> processes.sample(torch.randn(8, 30, 2)).shape
        torch.Size([8, 30, 2])
    """

    factor: Tensor

    def __init__(self, time_constants: list[float], bins: int) -> None:
        super().__init__()
        # Not a buffer, because modules may be converted to a precision in which 1 - decay^2 has no digits.
        self.decay = [math.exp(-1.0 / time_constant) for time_constant in time_constants]
        decay = torch.tensor(self.decay, dtype=torch.float64)
        lags = (torch.arange(bins)[:, None] - torch.arange(bins)).abs()
        covariance = decay[:, None, None] ** lags
        self.register_buffer("factor", torch.linalg.cholesky(covariance).float(), persistent=False)

    def sample(self, noise: Tensor) -> Tensor:
        """Returns samples of the processes.

        Args:
            noise: (B, T', K) independent standard normal values.
        """
        return torch.einsum("kts,bsk->btk", self.factor, noise)

    def precision(self) -> tuple[Tensor, Tensor]:
        """Returns the (T', K) diagonal and the (K,) off-diagonal of the tridiagonal precision of each process."""
        bins, device = self.factor.shape[1], self.factor.device
        decay = torch.tensor(self.decay, dtype=torch.float64)
        innovation = 1 - decay.square()
        diagonal = ((1 + decay.square()) / innovation).repeat(bins, 1)
        diagonal[0] = diagonal[-1] = 1 / innovation if bins > 1 else 1.0
        return diagonal.to(device, torch.float32), (-decay / innovation).to(device, torch.float32)

    def infer(
        self, counts: Tensor, valid: Tensor, log_rates: Tensor, loading: Tensor, iterations: int = 8
    ) -> tuple[Tensor, Tensor]:
        """Returns the Gaussian approximation of the posterior of the latents.

        Each iteration is a step of Newton's method on the evidence lower bound of counts with
        log rate = log_rates + z loading, for the covariance of the step before.

        Args:
            counts: (B, T, N) counts of the first T bins.
            valid: (B, T, N) bool, entries that were observed.
            log_rates: (B, T', N) log expected count per bin for latents of zero.
            loading: (K, N) change of the log rates per unit of a latent.
            iterations: number of steps.

        Returns:
            The (B, T', K) mean and the (B, T', K, K) covariance of the latents of each bin.
        """
        trials, observed_bins, _ = counts.shape
        bins, n_latents = log_rates.shape[1], len(loading)
        n_unobserved = bins - observed_bins
        diagonal, off_diagonal = self.precision()
        mean = log_rates.new_zeros(trials, bins, n_latents)
        covariance = torch.eye(n_latents, device=mean.device).expand(trials, bins, -1, -1)
        products = _products(loading)
        base, valid_float = log_rates[:, :observed_bins], valid.to(log_rates.dtype)
        for _ in range(iterations):
            rates = valid_float * expected_rates(base, mean[:, :observed_bins], covariance[:, :observed_bins], loading)
            residual = (counts * valid_float - rates) @ loading.T
            curvature = (rates @ products.T).unflatten(2, (n_latents, n_latents))
            neighbors = F.pad(mean[:, :-1], (0, 0, 1, 0)) + F.pad(mean[:, 1:], (0, 0, 0, 1))
            gradient = F.pad(residual, (0, 0, 0, n_unobserved)) - mean * diagonal - neighbors * off_diagonal
            blocks = torch.diag_embed(diagonal) + F.pad(curvature, (0, 0, 0, 0, 0, n_unobserved))
            step, covariance = _solve_block_tridiagonal(blocks, off_diagonal, gradient)
            mean = mean + step.clamp(-_MAX_STEP, _MAX_STEP)
        return mean, covariance


def expected_rates(log_rates: Tensor, mean: Tensor, covariance: Tensor, loading: Tensor) -> Tensor:
    """Returns the (B, T, N) expected count per bin under a posterior of the latents; see `infer`."""
    log_rates = log_rates + mean @ loading + log_rate_variance(covariance, loading) / 2
    return log_rates.clamp(max=MAX_LOG_RATE).exp()


def log_rate_variance(covariance: Tensor, loading: Tensor) -> Tensor:
    """Returns the (B, T, N) posterior variance of log rates, given the (B, T, K, K) covariance of the latents."""
    return covariance.flatten(2) @ _products(loading)


def _products(loading: Tensor) -> Tensor:
    """Returns the (K * K, N) products of the loadings of two latents."""
    return (loading[:, None] * loading).flatten(0, 1)


def _solve_block_tridiagonal(blocks: Tensor, off_diagonal: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solves a symmetric block-tridiagonal system whose off-diagonal blocks are one diagonal matrix.

    Args:
        blocks: (B, T, K, K) diagonal blocks.
        off_diagonal: (K,) diagonal of the off-diagonal blocks.
        right: (B, T, K) right-hand side.

    Returns:
        The (B, T, K) solution and the (B, T, K, K) diagonal blocks of the inverse.
    """
    bins = blocks.shape[1]
    outer = off_diagonal[:, None] * off_diagonal
    inverses, reduced = [_invert(blocks[:, 0])], [right[:, 0]]
    for t in range(1, bins):
        previous = inverses[-1]
        inverses.append(_invert(blocks[:, t] - outer * previous))
        reduced.append(right[:, t] - off_diagonal * _product(previous, reduced[-1]))
    solution, covariance = [_product(inverses[-1], reduced[-1])], [inverses[-1]]
    for t in range(bins - 2, -1, -1):
        inverse = inverses[t]
        solution.append(_product(inverse, reduced[t] - off_diagonal * solution[-1]))
        covariance.append(inverse + inverse @ (outer * covariance[-1]) @ inverse)
    return torch.stack(solution[::-1], 1), torch.stack(covariance[::-1], 1)


def _invert(matrices: Tensor) -> Tensor:
    # Without the check of `inv`, which waits for the device; positive definite matrices are invertible.
    inverse: Tensor = torch.linalg.inv_ex(matrices).inverse
    return inverse


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[..., None])[..., 0]
