"""Velocity R2: ridge decoding of hand velocity from predicted rates."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics.ridge import RidgeFit, merge_offsets, moments_size, rounded_mean, row_moments
from blend_pl.metrics.score import StreamingScore, expect_row_indices, expect_shape, mean_over_varying

N_FOLDS = 5
"""Number of folds that select the penalty."""

PENALTIES = torch.logspace(-4, 0, 9, dtype=torch.float64)
"""Candidate ridge penalties."""

EVAL_SLOT = N_FOLDS
"""Index of the moments of evaluation rows, after those of the training folds."""

CHUNK_SIZE = 32768
"""Number of bins per computation of moments, which bounds the memory of large batches."""


class VelocityR2(StreamingScore):
    """R2 of a ridge decoder fitted on training trials and scored on evaluation trials (Pei et al., 2021, NLB'21).

    The penalty is the first best of logspace(-4, 0, 9) by the mean R2 over 5 unshuffled folds of the training rows in
    trial order; the decoder is then fitted on all training rows. R2 is averaged over outputs and decoders. An output
    that is constant in the evaluation rows of a decoder is left out of its mean, whereas scikit-learn and nlb_tools
    count a prediction without error as 1; the score is nan, with a warning, if all are. Bins with NaN velocity are
    ignored. The fold of every row follows from the velocities, so only second moments of each fold are
    stored. Trials that were not added are ignored; without trials the score is nan.

    Args:
        n_units: N, the number of units that are decoded.
        train_velocity: (n_train, T, Y) velocities of the training trials in trial order, any unit, NaN where missing.
        eval_velocity: (n_eval, T, Y) velocities of the evaluation trials.
        train_decode_mask: (n_train, M) bool, the decoders of each training trial; None for one decoder.
        eval_decode_mask: (n_eval, M) bool, the same for the evaluation trials.

    Raises:
        BlendError: shapes do not match.
        DataError: a bin lacks some of its velocity components, or a decoder has fewer than 5 training bins or no
            evaluation bins.

    Example:
        >>> rates = torch.rand(20, 10, 3, generator=torch.Generator().manual_seed(0))
        >>> velocity = rates @ torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])  # decoded perfectly
        >>> score = VelocityR2(3, velocity[:15], velocity[15:])
        >>> score.update(rates[:15], torch.arange(15), train=True)
        >>> score.update(rates[15:], torch.arange(5), train=False)
        >>> round(score.compute().item(), 3)
        1.0
    """

    moments: Tensor

    def __init__(
        self,
        n_units: int,
        train_velocity: Tensor,
        eval_velocity: Tensor,
        train_decode_mask: Tensor | None = None,
        eval_decode_mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        expect_shape("training velocities", train_velocity, (-1, -1, -1))
        expect_shape("evaluation velocities", eval_velocity, (-1, *train_velocity.shape[1:]))
        if (train_decode_mask is None) != (eval_decode_mask is None):
            raise BlendError("decode masks are given for one split only; pass both or none")
        self.n_units = n_units
        self._train_targets = _VelocityTargets.from_velocity(
            train_velocity, train_decode_mask, "training", first_slot=0, n_slots=N_FOLDS
        )
        self._eval_targets = _VelocityTargets.from_velocity(
            eval_velocity, eval_decode_mask, "evaluation", first_slot=EVAL_SLOT, n_slots=1
        )
        if self._train_targets.n_decoders != self._eval_targets.n_decoders:
            counts = f"{self._train_targets.n_decoders} for training and {self._eval_targets.n_decoders} for evaluation"
            raise BlendError(f"there are {counts} decode masks; pass the same number for both splits")
        self._is_scored = ~self._eval_targets.constant[:, 0].all(-1)
        if not self._is_scored.any():
            warnings.warn(
                "the velocity is constant in all evaluation bins, so that velocity R2 is nan; choose another series, "
                "or omit velocity R2",
                stacklevel=2,
            )
        self._velocity_mean = self._train_targets.mean
        self._decoder: _Decoder | None = None
        size = moments_size(n_units, train_velocity.shape[2])
        self.add_sum_state("moments", self._train_targets.n_decoders, N_FOLDS + 1, size, size)

    def update(self, rates: Tensor, index: Tensor, train: bool) -> None:
        """Adds a batch.

        Args:
            rates: (B, T, N) expected counts per bin, any dtype; used only where the velocity is finite.
            index: (B,) integer rows of the trials in the training or the evaluation set.
            train: whether `index` refers to training trials.

        Raises:
            BlendError: shapes do not match, a trial does not exist, or a used rate is NaN or infinite.
        """
        targets = self._train_targets if train else self._eval_targets
        expect_shape("rates", rates, (-1, targets.velocity.shape[1], self.n_units))
        expect_shape("trial indices", index, (len(rates),))
        index = index.cpu()
        expect_row_indices("trial indices", index, 0, len(targets.velocity))
        index = index.long()
        inputs = rates.reshape(-1, self.n_units)
        outputs = (targets.velocity[index] - self._velocity_mean).flatten(0, 1)
        for decoder, slots in enumerate(targets.slot[index].flatten(0, 1).unbind(1)):
            for slot in slots.unique().tolist():
                if slot < 0:
                    continue
                for rows in (slots == slot).nonzero()[:, 0].split(CHUNK_SIZE):
                    moments = row_moments(inputs[rows.to(inputs.device)], outputs[rows].to(inputs.device))
                    if not moments[0].isfinite().all():
                        raise BlendError("predicted rates are NaN or infinite in decoded bins; check for divergence")
                    self.moments[decoder, slot] += moments

    def compute(self) -> Tensor:
        """Fits the decoders that `decode` uses and returns the score of all batches as a float64 scalar."""
        n_outputs, device = len(self._velocity_mean), self.moments.device
        penalties = PENALTIES.to(device)
        reference = rounded_mean(self.moments[:, :EVAL_SLOT].sum(1), self.n_units)
        second_moments = merge_offsets(self.moments, reference[:, None])
        fold_moments, eval_moments = second_moments[:, :EVAL_SLOT], second_moments[:, EVAL_SLOT]
        train_moments = fold_moments.sum(1)
        fold_fits = RidgeFit.fit_path(train_moments[:, None] - fold_moments, n_outputs, penalties)
        fold_scores = fold_fits.score(fold_moments, self._train_targets.constant.to(device))
        best = fold_scores.mean(1).nan_to_num(nan=-torch.inf).argmax(-1)
        fit = RidgeFit.fit_path(train_moments, n_outputs, penalties)
        constant = self._eval_targets.constant[:, 0].to(device)
        scores = fit.output_scores(eval_moments, constant)
        decoder_indices = torch.arange(len(best), device=device)
        self._decoder = _Decoder.build(fit.weights[decoder_indices, best], fit.mean, reference, self._velocity_mean)
        return mean_over_varying(scores[decoder_indices, best], constant)[self._is_scored.to(device)].mean()

    def decode(self, rates: Tensor, decode_mask: Tensor | None = None) -> Tensor:
        """Decodes velocities with the decoders of the last `compute`.

        Args:
            rates: (B, T, N) expected counts per bin.
            decode_mask: (B, M) bool, the decoders of each trial, of which the first is used; trials without decoder are
                NaN. Optional with one decoder.

        Returns:
            (B, T, Y) float64 in the unit of the given velocities.

        Raises:
            BlendError: `compute` was not called, or shapes do not match.
        """
        if self._decoder is None:
            raise BlendError("there is no velocity decoder yet; call compute() before decode()")
        expect_shape("rates", rates, (-1, -1, self.n_units))
        return self._decoder.predict(rates.to(torch.float64), decode_mask)


@dataclass(frozen=True)
class _VelocityTargets:
    """Velocities of a set of trials and the slots of their bins, as tensors on the CPU.

    Attributes:
        velocity: (trials, T, Y) float64.
        slot: (trials, T, M) index of the moments that a bin is added to for each decoder; -1 for unused bins.
        constant: (M, slots, Y) bool, whether a velocity is constant in a slot.
    """

    velocity: Tensor
    slot: Tensor
    constant: Tensor

    @classmethod
    def from_velocity(
        cls, velocity: Tensor, decode_mask: Tensor | None, name: str, first_slot: int, n_slots: int
    ) -> "_VelocityTargets":
        """Splits the used bins of each decoder, in trial order, into contiguous slots of almost equal size."""
        velocity = velocity.detach().to("cpu", torch.float64)
        if decode_mask is None:
            decode_mask = torch.ones(len(velocity), 1, dtype=torch.bool)
        expect_shape(f"{name} decode masks", decode_mask, (len(velocity), -1))
        n_decoders, n_outputs = decode_mask.shape[1], velocity.shape[2]
        if n_decoders == 0 or n_outputs == 0:
            raise DataError(f"{n_decoders} decoders of {n_outputs} velocities have no score; omit velocity R2")
        has_velocity = ~velocity[..., 0].isnan()
        if not velocity[has_velocity].isfinite().all():
            raise DataError(f"a {name} bin has an infinite or partly missing velocity; set all its columns to NaN")
        decoded_bins = has_velocity[..., None] & decode_mask.detach().to("cpu", torch.bool)[:, None, :]
        slot = torch.full(decoded_bins.shape, -1)
        constant = torch.empty(n_decoders, n_slots, n_outputs, dtype=torch.bool)
        for decoder, bin_mask in enumerate(decoded_bins.unbind(-1)):
            values = velocity[bin_mask]
            if len(values) < n_slots:
                raise DataError(f"decoder {decoder} has {len(values)} {name} bins with a velocity; it needs {n_slots}")
            slot_values = dict(enumerate(values.tensor_split(n_slots), first_slot))
            slot[..., decoder][bin_mask] = torch.cat(
                [torch.full((len(slot_velocity),), slot_index) for slot_index, slot_velocity in slot_values.items()]
            )
            constant[decoder] = torch.stack(
                [(slot_velocity == slot_velocity[0]).all(0) for slot_velocity in slot_values.values()]
            )
        return cls(velocity, slot, constant)

    @property
    def n_decoders(self) -> int:
        return self.slot.shape[-1]

    @property
    def mean(self) -> Tensor:
        """(Y,) mean velocity over all used bins."""
        return self.velocity[(self.slot >= 0).any(-1)].mean(0)


@dataclass(frozen=True)
class _Decoder:
    """Fitted weights (M, N, Y) and intercepts (M, Y)."""

    weights: Tensor
    intercepts: Tensor

    @classmethod
    def build(cls, weights: Tensor, mean: Tensor, reference: Tensor, velocity_mean: Tensor) -> "_Decoder":
        inputs = reference + mean[:, : reference.shape[1]]
        outputs = velocity_mean.to(mean.device) + mean[:, reference.shape[1] :]
        return cls(weights, outputs - (inputs[:, :, None] * weights).sum(1))

    def predict(self, rates: Tensor, decode_mask: Tensor | None) -> Tensor:
        n_decoders = len(self.weights)
        if decode_mask is None:
            if n_decoders > 1:
                raise BlendError(f"there are {n_decoders} velocity decoders; pass a decode mask")
            decode_mask = torch.ones(len(rates), 1, dtype=torch.bool)
        expect_shape("decode masks", decode_mask, (len(rates), n_decoders))
        decode_mask = decode_mask.to(rates.device)
        decoder_indices = decode_mask.to(torch.uint8).argmax(1)
        weights, intercepts = self.weights.to(rates.device), self.intercepts.to(rates.device)
        velocity = rates @ weights[decoder_indices] + intercepts[decoder_indices][:, None]
        return velocity.masked_fill(~decode_mask.any(1)[:, None, None], torch.nan)
