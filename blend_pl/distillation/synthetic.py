"""Synthetic trials from a generative teacher."""

from typing import Protocol

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.errors import TeacherError
from blend_pl.utils.checks import FRACTION, NON_NEGATIVE, check_range


class TrialGenerator(Protocol):
    """A teacher that generates trials."""

    def sample(self, behavior: Tensor, behavior_valid: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the (B, T', N) log expected count per bin of trials with the given behavior."""


class SyntheticTrials:
    """Replaces recorded trials of training batches by trials that a generative teacher generates.

    The behavior of a synthetic trial is that of a random training trial with behavior, private latents are drawn from
    the prior, and counts from the rates. The student sees the counts; the target of the reconstruction and of the
    distillation are the rates. Rates do not exceed the largest rates that the teacher infers for recorded trials.

    Args:
        share: expected share of synthetic trials in a batch.
        amplitude_sd: standard deviation of the log of a factor by which the standardized behavior of a synthetic trial
            is multiplied, within the range of the training trials.
        max_shift: largest number of bins by which the behavior of a synthetic trial is shifted, to earlier or later
            times; the first or last value is repeated.

    Raises:
        RangeError: a setting is out of range.
    """

    def __init__(self, share: float = 0.75, amplitude_sd: float = 0.0, max_shift: int = 0) -> None:
        check_range(FRACTION, share=share)
        check_range(NON_NEGATIVE, amplitude_sd=amplitude_sd, max_shift=max_shift)
        self.share, self.amplitude_sd, self.max_shift = share, amplitude_sd, max_shift

    def prepare(self, trials: list[Batch], log_rates: Tensor) -> None:
        """Takes the behavior of the training trials and the range of their rates.

        Args:
            trials: all training trials, in order.
            log_rates: (trials, T', N) inferred log rates; those of trials without behavior are not used.

        Raises:
            TeacherError: no trial has behavior.
        """
        privileged = [(batch.privileged, batch.privileged_valid) for batch in trials]
        behavior_valid = torch.cat([valid for _, valid in privileged if valid is not None])
        # The rates of trials without behavior would have the private part alone.
        has_behavior = behavior_valid.any(2).any(1)
        if not has_behavior.any():
            raise TeacherError("synthetic trials need behavior, and no training trial has any; see data.spec.behavior")
        self.behavior = torch.cat([values for values, _ in privileged if values is not None])[has_behavior]
        self.behavior_valid = behavior_valid[has_behavior]
        self.target_valid = torch.cat([batch.target_valid for batch in trials])[has_behavior]
        self.lowest = self.behavior.where(self.behavior_valid, torch.inf).amin((0, 1))
        self.highest = self.behavior.where(self.behavior_valid, -torch.inf).amax((0, 1))
        self.max_log_rates = log_rates[has_behavior].amax((0, 1))

    def replace_trials(self, batch: Batch, teacher: TrialGenerator, seed: int) -> None:
        """Replaces trials of a batch in place; `batch.teacher_prediction` contains the targets of recorded trials.

        Trials are drawn for the global batch, and each rank selects its rows.

        Args:
            batch: B trials.
            teacher: generates log rates.
            seed: seed of the batch.
        """
        assert batch.teacher_prediction is not None
        device, n_trials = batch.observed.device, batch.global_size
        generator = torch.Generator(device).manual_seed(seed)
        source = torch.randint(len(self.behavior), (n_trials,), generator=generator, device=device)
        is_synthetic = torch.rand(n_trials, generator=generator, device=device) < self.share
        behavior, behavior_valid = self._draw_behavior(source, generator)
        log_rates = teacher.sample(behavior, behavior_valid, generator)
        log_rates = log_rates.minimum(self.max_log_rates)
        counts = torch.poisson(log_rates.exp(), generator=generator)
        valid = self.target_valid[source]
        _, bins, channels = batch.observed.shape
        rows, synthetic = batch.global_rows, is_synthetic[batch.global_rows, None, None]

        def replaced(values: Tensor, recorded: Tensor) -> Tensor:
            return torch.where(synthetic, values[rows].to(recorded.dtype), recorded)

        batch.observed = replaced((counts * valid)[:, :bins, :channels], batch.observed)
        batch.target = replaced(log_rates.exp() * valid, batch.target)
        batch.target_valid = replaced(valid, batch.target_valid)
        batch.teacher_prediction = replaced(log_rates, batch.teacher_prediction)
        if batch.privileged is not None and batch.privileged_valid is not None:
            batch.privileged = replaced(behavior, batch.privileged)
            batch.privileged_valid = replaced(behavior_valid, batch.privileged_valid)

    def _draw_behavior(self, source: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the behavior of training trials, changed by random amounts, and its mask."""
        behavior, valid = self.behavior[source], self.behavior_valid[source]
        if self.amplitude_sd:
            noise = torch.randn(len(source), 1, 1, generator=generator, device=source.device, dtype=behavior.dtype)
            changed = behavior * (self.amplitude_sd * noise).exp()
            behavior = changed.clamp(self.lowest, self.highest).where(valid, behavior)
        if self.max_shift:
            shift = torch.randint(
                -self.max_shift, self.max_shift + 1, (len(source), 1), generator=generator, device=source.device
            )
            bins = (torch.arange(behavior.shape[1], device=source.device) + shift).clamp(0, behavior.shape[1] - 1)
            rows = torch.arange(len(source), device=source.device)[:, None]
            behavior, valid = behavior[rows, bins], valid[rows, bins]
        return behavior, valid
