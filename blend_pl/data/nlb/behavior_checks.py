"""Checks of the behavior in training trials, before anything is trained."""

import numpy as np

from blend_pl.data.limits import is_constant
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError

MIN_DECODED_BINS = 5
"""Fewest training bins of a velocity decoder, one for each fold of the choice of its penalty."""


def check_training_behavior(train: SessionTensors, label: str, setting: str) -> None:
    """Checks that behavior varies in training trials, and that velocity decoders can be fitted.

    Args:
        train: the training trials.
        label: the recording, for error messages.
        setting: the setting that names the series, for error messages.

    Raises:
        DataError: a channel has no value, a channel of the series is constant, all channels are constant, or there are
            too few bins.
    """
    behavior = train.behavior.numpy()
    if not behavior.shape[2]:
        return
    missing = np.flatnonzero(~np.isfinite(behavior).any(axis=(0, 1)))
    missing_columns = missing[missing >= train.n_series]
    if len(missing_columns):
        raise DataError(
            f"{label} has no value in any training trial in channel {missing_columns[0]} of {behavior.shape[2]} of the "
            f"behavior; leave this channel out of {setting}, and check that outlier_column does not mark all trials"
        )
    constant = [channel for channel in range(behavior.shape[2]) if is_constant(behavior[..., channel])]
    constant_series = [channel for channel in constant if channel < train.n_series]
    if constant_series:
        channel = constant_series[0]
        value = behavior[..., channel][np.isfinite(behavior[..., channel])][0]
        raise DataError(
            f"{label} has the behavior {value:g} in all training trials (channel {channel} of {train.n_series}); leave "
            f"this channel out of {setting}, because a constant carries no information"
        )
    if len(constant) == behavior.shape[2]:
        raise DataError(
            f"{label} has the same behavior in all training trials; set {setting} to behavior that varies, or leave "
            "it out"
        )
    if not train.n_series:
        return
    has_series = np.isfinite(behavior[..., : train.n_series]).all(axis=2)
    for decoder, in_decoder in enumerate(train.decode_mask.numpy().T):
        n_bins = int(has_series[in_decoder].sum())
        if n_bins < MIN_DECODED_BINS:
            n_decoders = train.decode_mask.shape[1]
            of_decoder = f" of decoder {decoder} of {n_decoders}" if n_decoders > 1 else ""
            advice = (
                "set decode_by to a column with fewer values, or to null"
                if n_decoders > 1
                else f"check that {setting} was recorded at the time of the trials, and that outlier_column does not "
                "mark all of them"
            )
            raise DataError(
                f"{label} has {n_bins} bins with behavior in the training trials{of_decoder}, and velocity decoders "
                f"need {MIN_DECODED_BINS}; {advice}"
            )
