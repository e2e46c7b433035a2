"""Masked modelling: who is hidden from the model, and who is scored."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blend_pl.utils.device import to_device_async


@dataclass(frozen=True)
class MaskSample:
    """What chance decides about trials.

    Attributes:
        masked: (B, T, C) bool, entries that are hidden.
        zeroed: (B, T, C) bool, which of them become zero; None for all.
        randomized: (B, T, C) bool, which of the others become a random value; None for none.
        uniform: (B, T, C) uniform between 0 and 1, for random values; None where there are none.
        privileged_dropped: (B,) bool, trials whose privileged input is hidden; None for none.
    """

    masked: Tensor
    zeroed: Tensor | None = None
    randomized: Tensor | None = None
    uniform: Tensor | None = None
    privileged_dropped: Tensor | None = None

    def select(self, rows: Tensor) -> "MaskSample":
        """The same of some of the trials."""

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
        """Replaces hidden entries by zero, a random value, or themselves.

        Args:
            observed: (B, T, C) counts.
            noise: makes random values; see `Likelihood.noise`.

        Returns:
            The corrupted copy.
        """
        if self.zeroed is None or self.randomized is None or self.uniform is None:
            return observed.masked_fill(self.masked, 0.0)
        replaced = torch.where(self.randomized, noise(self.uniform, observed), observed)
        return torch.where(self.masked, torch.where(self.zeroed, 0.0, replaced), observed)


def concatenate_mask_samples(samples: Sequence[MaskSample]) -> MaskSample:
    """Equally large batches of trials as one, in this order."""
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
    """Hides observed entries at random, as in BERT and NDT (Ye & Pandarinath, 2021; BLEND).

    Attributes:
        ratio: share of the observed entries that is hidden, on average, whatever the length of stretches.
        mode: "timestep" hides all neurons of a bin, "neuron" all bins of a neuron, "full" single entries.
        zero_ratio: of the hidden entries, the share replaced by zero.
        random_ratio: of the other hidden entries, the share replaced by a random value; the rest is kept as it is.
        max_span: longest stretch of neighbouring bins hidden together; its length is drawn from 1 .. max_span for each
            batch, with fewer stretches the longer they are. In mode "neuron" all bins are hidden anyway.
        privileged_dropout: share of the trials whose privileged input is hidden from a teacher while it trains, so that it
            learns to do without.
        span_ramp: (first, last) epoch between which the probability of stretches rises from 0 to 1; None: always 1.
    """

    ratio: float = 0.25
    mode: Literal["timestep", "neuron", "full"] = "timestep"
    zero_ratio: float = 1.0
    random_ratio: float = 0.5
    max_span: int = 1
    privileged_dropout: float = 0.0
    span_ramp: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("ratio", "zero_ratio", "random_ratio", "privileged_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"masking.{name} is a share between 0 and 1, not {getattr(self, name)}")
        if self.max_span < 1:
            raise ValueError(f"masking.max_span is at least 1 bin, not {self.max_span}")
        if self.span_ramp and not self.span_ramp[0] <= self.span_ramp[1]:
            raise ValueError(f"masking.span_ramp is (first, last) epoch, in this order, not {self.span_ramp}")

    def draw_mask(
        self,
        size: tuple[int, int, int],
        generator: torch.Generator | None,
        epoch: int = 0,
        device: torch.device | None = None,
    ) -> Tensor:
        """Which entries to hide.

        Args:
            size: (trials, bins, neurons).
            generator: source of chance, freshly seeded for each batch; None for torch's own.
            epoch: training epoch, for the ramp.
            device: where the mask shall lie; None for the generator's.

        Returns:
            Bool tensor of that size.
        """
        trials, bins, neurons = size
        span = 1 if self.mode == "neuron" else self._draw_span(generator, epoch)
        n_starts = bins + span - 1  # A stretch may have begun before the window.
        shape = {"timestep": (trials, n_starts, 1), "neuron": (trials, 1, neurons), "full": (trials, n_starts, neurons)}
        # Stretches overlap: a bin is spared if none of the `width` that could cover it begins.
        probability = 1 - (1 - self.ratio) ** (1 / span)
        span_starts = _uniform(shape[self.mode], generator, device) < probability
        covered: Tensor = span_starts.unfold(1, span, 1).any(-1) if span > 1 else span_starts
        return covered.expand(size)

    def draw_privileged_dropout(
        self, n_trials: int, generator: torch.Generator | None, device: torch.device | None = None
    ) -> Tensor:
        """(trials,) bool, in which trials privileged input is hidden."""
        return _uniform((n_trials,), generator, device) < self.privileged_dropout

    def _draw_span(self, generator: torch.Generator | None, epoch: int) -> int:
        if self.max_span == 1:
            return 1
        first, last = self.span_ramp or (0, 0)
        probability = 1.0 if epoch >= last else max(0, epoch - first) / max(1, last - first)
        # Drawn on the host: a number read back from a GPU would stall it.
        host_random = random.Random(int(torch.randint(2**62, ())) if generator is None else generator.initial_seed())
        return host_random.randint(1, self.max_span) if host_random.random() < probability else 1

    def sample(
        self,
        size: tuple[int, int, int],
        generator: torch.Generator | None,
        epoch: int = 0,
        device: torch.device | None = None,
    ) -> MaskSample:
        """All that is left to chance, for all trials of a global batch; see `draw`.

        What happens to a trial does then not depend on how trials are divided over ranks, which keep their own of it.
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
        """Who becomes zero, who a random value, and its level; see `MaskSample`."""
        if self.zero_ratio == 1:
            return None, None, None
        zeroed, randomized, uniform = _uniform((3, *size), generator, device)
        return zeroed < self.zero_ratio, randomized < self.random_ratio, uniform


def _uniform(size: Sequence[int], generator: torch.Generator | None, device: torch.device | None) -> Tensor:
    """Numbers between 0 and 1, of a generator where it lies, or of torch's own on a device."""
    return torch.rand(*size, generator=generator, device=device if generator is None else generator.device)


@dataclass(frozen=True)
class TokenMasking:
    """Drops whole tokens, as masked auto-encoders do (He et al., 2022; Erturk et al., 2025).

    Attributes:
        ratio: share of a segment's tokens that is dropped, rounded, the same in every segment of equally many tokens.
    """

    ratio: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f"token_masking.ratio is a share below 1, for something must be seen, not {self.ratio}")

    def n_dropped(self, n_patches: Sequence[int], bins: int) -> list[int]:
        """How many tokens of each segment are dropped, of segments with T bins and these numbers of patches."""
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
        """Which tokens to drop.

        Args:
            n_patches: P of each segment.
            bins: T.
            max_patches: the largest P of any session, for all of which chance is drawn.
            rows: (B,) positions of the segments in the global batch: what happens to one does not depend on how
                segments are divided over ranks.
            global_size: number of segments in the global batch.
            generator: source of chance, freshly seeded for each batch.

        Returns:
            (B, T, widest) bool; False behind a segment's patches. None where nothing is dropped.
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
