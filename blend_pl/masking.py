"""Masked modeling: random masks of entries or tokens, and corruption of masked entries."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blend_pl.utils.checks import COUNT, DROPOUT, FRACTION, check_range
from blend_pl.utils.device import to_device_async


@dataclass(frozen=True)
class MaskSample:
    """Random masks and corruptions of a batch of trials.

    Attributes:
        masked: (B, T, C) bool, entries that are masked.
        zeroed: (B, T, C) bool, masked entries that are set to zero; None for all.
        randomized: (B, T, C) bool, masked entries that are set to a random value unless zeroed; None for none.
        uniform: (B, T, C) uniform numbers between 0 and 1, from which random values are computed; None for none.
        privileged_dropped: (B,) bool, trials without their privileged input; None for none.
    """

    masked: Tensor
    zeroed: Tensor | None = None
    randomized: Tensor | None = None
    uniform: Tensor | None = None
    privileged_dropped: Tensor | None = None

    def select(self, rows: Tensor) -> "MaskSample":
        """Returns the sample of a subset of the trials."""

        def select_rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return MaskSample(
            self.masked[rows],
            select_rows(self.zeroed),
            select_rows(self.randomized),
            select_rows(self.uniform),
            select_rows(self.privileged_dropped),
        )

    def corrupt(self, observed: Tensor, noise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sets masked entries to zero or a random value, or keeps them.

        Args:
            observed: (B, T, C) counts.
            noise: computes random values from `uniform` and `observed`; see `Likelihood.noise`.

        Returns:
            A corrupted copy of `observed`.
        """
        if self.zeroed is None or self.randomized is None or self.uniform is None:
            return observed.masked_fill(self.masked, 0.0)
        replaced = torch.where(self.randomized, noise(self.uniform, observed), observed)
        return torch.where(self.masked, torch.where(self.zeroed, 0.0, replaced), observed)


def concatenate_mask_samples(samples: Sequence[MaskSample]) -> MaskSample:
    """Concatenates samples of batches along the trials."""
    defaults = {"zeroed": True, "randomized": False, "uniform": 0.0, "privileged_dropped": False}
    fields = {"masked": torch.cat([sample.masked for sample in samples])}
    for name, default in defaults.items():
        tensors = [getattr(sample, name) for sample in samples]
        template = next((tensor for tensor in tensors if tensor is not None), None)
        if template is not None:
            fields[name] = torch.cat(
                [torch.full_like(template, default) if tensor is None else tensor for tensor in tensors]
            )
    return MaskSample(**fields)


@dataclass(frozen=True)
class Masking:
    """Masks observed entries at random, as in BERT and NDT (Ye & Pandarinath, 2021; BLEND).

    Attributes:
        ratio: expected fraction of the observed entries that is masked, for any length of spans; two numbers are the
            limits of a uniform distribution from which the fraction of each trial is drawn.
        mode: "timestep" masks all neurons of a bin, "neuron" all bins of a neuron, "full" single entries.
        zero_ratio: fraction of the masked entries that is set to zero.
        random_ratio: fraction of the other masked entries that is set to a random value; the rest is unchanged.
        max_span: largest number of consecutive bins that are masked together. The length is drawn from 1 .. max_span
            for each batch; longer spans start with a lower probability. Ignored in mode "neuron".
        privileged_dropout: fraction of the training trials in which the privileged input of a teacher is dropped, so
            that the teacher does not depend on it.
        span_ramp: (first, last) epoch between which the probability of spans longer than one bin rises from 0 to 1;
            None for a constant probability of 1.

    Raises:
        RangeError: a number is out of range.
        ValueError: `span_ramp` decreases.

    Example:
        >>> import torch
        >>> from blend_pl.masking import Masking
        >>> sample = Masking(ratio=0.5, mode="full").sample((4, 10, 6), torch.Generator().manual_seed(0))
        >>> sample.masked.shape, sample.masked.dtype
        (torch.Size([4, 10, 6]), torch.bool)
    """

    ratio: float | tuple[float, float] = 0.25
    mode: Literal["timestep", "neuron", "full"] = "timestep"
    zero_ratio: float = 1.0
    random_ratio: float = 0.5
    max_span: int = 1
    privileged_dropout: float = 0.0
    span_ramp: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for ratio in (self.ratio,) if isinstance(self.ratio, float | int) else self.ratio:
            check_range(FRACTION, **{"masking.ratio": ratio})
        for name in ("zero_ratio", "random_ratio", "privileged_dropout"):
            check_range(FRACTION, **{f"masking.{name}": getattr(self, name)})
        check_range(COUNT, **{"masking.max_span": self.max_span})
        if self.span_ramp and not self.span_ramp[0] <= self.span_ramp[1]:
            raise ValueError(f"masking.span_ramp must be (first, last) epoch with first <= last, not {self.span_ramp}")

    def draw_mask(
        self,
        size: tuple[int, int, int],
        generator: torch.Generator | None,
        epoch: int = 0,
        device: torch.device | None = None,
    ) -> Tensor:
        """Draws the entries to mask.

        Args:
            size: (trials, bins, neurons).
            generator: random generator, newly seeded for each batch; None for the default generator.
            epoch: training epoch, for `span_ramp`.
            device: device of the mask if `generator` is None; otherwise the device of the generator is used.

        Returns:
            Bool tensor of this size, True for masked entries.
        """
        trials, bins, neurons = size
        span = 1 if self.mode == "neuron" else self._draw_span(generator, epoch)
        n_starts = bins + span - 1  # A span may start before the window.
        shape = {"timestep": (trials, n_starts, 1), "neuron": (trials, 1, neurons), "full": (trials, n_starts, neurons)}
        # Spans overlap: a bin is not masked if none of the `span` spans that could cover it starts.
        probability = 1 - (1 - self._draw_ratio(trials, generator, device)) ** (1 / span)
        span_starts = _uniform(shape[self.mode], generator, device) < probability
        covered: Tensor = span_starts.unfold(1, span, 1).any(-1) if span > 1 else span_starts
        return covered.expand(size)

    def draw_privileged_dropout(
        self, n_trials: int, generator: torch.Generator | None, device: torch.device | None = None
    ) -> Tensor:
        """Draws the trials in which privileged input is dropped: (trials,) bool."""
        return _uniform((n_trials,), generator, device) < self.privileged_dropout

    def _draw_ratio(
        self, trials: int, generator: torch.Generator | None, device: torch.device | None
    ) -> float | Tensor:
        """Draws the expected fraction of masked entries of each trial; (trials, 1, 1) unless it is the same for all."""
        if isinstance(self.ratio, float | int):
            return self.ratio
        low, high = self.ratio
        return low + (high - low) * _uniform((trials, 1, 1), generator, device)

    def _draw_span(self, generator: torch.Generator | None, epoch: int) -> int:
        if self.max_span == 1:
            return 1
        first, last = self.span_ramp or (0, 0)
        probability = 1.0 if epoch >= last else max(0, epoch - first) / max(1, last - first)
        # Drawn on the host, because reading a number from a GPU would synchronize with it.
        host_random = random.Random(int(torch.randint(2**62, ())) if generator is None else generator.initial_seed())
        return host_random.randint(1, self.max_span) if host_random.random() < probability else 1

    def sample(
        self,
        size: tuple[int, int, int],
        generator: torch.Generator | None,
        epoch: int = 0,
        device: torch.device | None = None,
    ) -> MaskSample:
        """Draws the masks and corruptions of all trials of a global batch; see `draw_mask`.

        Each rank draws the sample of the global batch and selects its own trials, so that the sample of a trial does
        not depend on the number of ranks.
        """
        masked, corruption = (
            self.draw_mask(size, generator, epoch, device),
            self._draw_corruption(size, generator, device),
        )
        privileged_dropped = (
            self.draw_privileged_dropout(size[0], generator, device) if self.privileged_dropout else None
        )
        return MaskSample(masked, *corruption, privileged_dropped=privileged_dropped)

    def _draw_corruption(
        self, size: Sequence[int], generator: torch.Generator | None, device: torch.device | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Draws `zeroed`, `randomized` and `uniform` of `MaskSample`."""
        if self.zero_ratio == 1:
            return None, None, None
        zeroed, randomized, uniform = _uniform((3, *size), generator, device)
        return zeroed < self.zero_ratio, randomized < self.random_ratio, uniform


def _uniform(size: Sequence[int], generator: torch.Generator | None, device: torch.device | None) -> Tensor:
    """Draws uniform numbers from a generator on its device, or from the default generator on the given device."""
    return torch.rand(*size, generator=generator, device=device if generator is None else generator.device)


@dataclass(frozen=True)
class TokenMasking:
    """Drops whole tokens, as in masked autoencoders (He et al., 2022; Erturk et al., 2025).

    Attributes:
        ratio: fraction of the tokens of a segment that is dropped; the rounded number is the same in all segments with
            the same number of tokens.

    Raises:
        RangeError: `ratio` is out of range.
    """

    ratio: float = 0.6

    def __post_init__(self) -> None:
        check_range(DROPOUT, **{"token_masking.ratio": self.ratio})

    def n_dropped(self, n_patches: Sequence[int], bins: int) -> list[int]:
        """Returns the number of dropped tokens of each segment, given its number of patches and the number of bins."""
        return [round(self.ratio * bins * p) for p in n_patches]

    def draw_mask(
        self,
        n_patches: Sequence[int],
        bins: int,
        max_patches: int,
        rows: Tensor,
        global_size: int,
        generator: torch.Generator,
    ) -> Tensor | None:
        """Draws the tokens to drop.

        Args:
            n_patches: P of each segment.
            bins: T, number of bins.
            max_patches: largest P of all sessions; random numbers are drawn for this many patches.
            rows: (B,) positions of the segments in the global batch, so that the mask of a segment does not depend on
                the number of ranks.
            global_size: number of segments in the global batch.
            generator: random generator, newly seeded for each batch.

        Returns:
            (B, T, max_patches) bool, True for dropped tokens, False for padding; None if `ratio` is 0.
        """
        if self.ratio == 0:
            return None
        device = generator.device
        uniform = torch.rand((global_size, bins, max_patches), generator=generator, device=device)[rows]
        count = to_device_async(n_patches, device)
        padding = torch.arange(max_patches, device=device) >= count[:, None, None]
        order = uniform.masked_fill(padding, 2.0).flatten(1).argsort(1).argsort(1)
        n_dropped = to_device_async(self.n_dropped(n_patches, bins), device)
        dropped = order < n_dropped[:, None]
        return torch.unflatten(dropped, 1, (bins, max_patches))
