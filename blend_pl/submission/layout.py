"""Layout of a submission to NLB'21: one group per set, with the rate arrays of its session."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors

DATASETS = ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg", "mc_maze_large", "mc_maze_medium", "mc_maze_small")

TRAIN_KEYS = ("train_rates_heldin", "train_rates_heldout")
EVAL_KEYS = ("eval_rates_heldin", "eval_rates_heldout")
FORWARD_KEYS = ("eval_rates_heldin_forward", "eval_rates_heldout_forward")
RATE_KEYS = (*TRAIN_KEYS, *EVAL_KEYS, *FORWARD_KEYS)


def group_name(session: str, bin_ms: int) -> str:
    """Returns the group of a set: its name, with the bin width as suffix if it is not 5 ms."""
    return session if bin_ms == 5 else f"{session}_{bin_ms}"


def bin_width(group: str) -> int:
    """Returns the bin width of a group, in ms; the inverse of `group_name`."""
    suffix = group.rpartition("_")[2]
    return int(suffix) if suffix.isdecimal() and int(suffix) > 0 and "_" in group else 5


SCORED_GROUPS = tuple(group_name(session, bin_ms) for session in DATASETS for bin_ms in (5, 20))
"""Groups that the challenge scores; others are ignored."""


def array_shapes(
    trials: tuple[int, int], bins: tuple[int, int], units: tuple[int, int]
) -> dict[str, tuple[int, int, int]]:
    """Returns (trials, bins, units) of every array; without forward bins there are no forward arrays.

    Args:
        trials: number of training and of evaluation trials.
        bins: number of observed and of forward bins.
        units: number of held-in and of held-out units.
    """
    arrays = [(TRAIN_KEYS, trials[0], bins[0]), (EVAL_KEYS, trials[1], bins[0])]
    if bins[1]:
        arrays.append((FORWARD_KEYS, trials[1], bins[1]))
    return {
        key: (n_trials, n_bins, n_units)
        for keys, n_trials, n_bins in arrays
        for key, n_units in zip(keys, units, strict=True)
    }


@dataclass(frozen=True)
class SessionSplits:
    """The trials of a session whose rates are submitted; both splits share units and bins.

    Attributes:
        train: trials on which decoders are fitted, in the order of the recording.
        evaluation: scored trials, in the order of the recording.
    """

    train: SessionTensors
    evaluation: SessionTensors

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Returns (trials, bins, units) of every array; sessions without forward bins have no forward arrays."""
        session = self.evaluation
        return array_shapes(
            (len(self.train), len(session)),
            (session.n_observed, session.n_forward),
            (session.n_heldin, session.n_units - session.n_heldin),
        )


def split_rates(splits: SessionSplits, train_rates: Tensor, rates: Tensor) -> dict[str, Tensor]:
    """Splits rates of whole sessions into the arrays of a submission.

    Args:
        splits: trials of the rates; T observed of T' bins, N units.
        train_rates: (train trials, T', N) expected counts per bin.
        rates: (evaluation trials, T', N) expected counts per bin.
    """
    bins, n_heldin = splits.evaluation.n_observed, splits.evaluation.n_heldin
    rates_by_keys = ((TRAIN_KEYS, train_rates[:, :bins]), (EVAL_KEYS, rates[:, :bins]), (FORWARD_KEYS, rates[:, bins:]))
    arrays: dict[str, Tensor] = {}
    for keys, key_rates in rates_by_keys:
        arrays.update(zip(keys, (key_rates[..., :n_heldin], key_rates[..., n_heldin:]), strict=True))
    return {key: arrays[key] for key in splits.shapes()}


def join_rates(arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Joins the arrays of a submission into rates, (train trials, T, N) and (evaluation trials, T', N).

    Missing training arrays give zero training trials, missing forward arrays zero forward bins.
    """
    observed = torch.cat([arrays[key] for key in EVAL_KEYS], 2)
    train_rates = torch.cat([arrays[key] for key in TRAIN_KEYS], 2) if TRAIN_KEYS[0] in arrays else observed[:0]
    if FORWARD_KEYS[0] not in arrays:
        return train_rates, observed
    return train_rates, torch.cat([observed, torch.cat([arrays[key] for key in FORWARD_KEYS], 2)], 1)
