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


SCORED_GROUPS = tuple(group_name(session, bin_ms) for session in DATASETS for bin_ms in (5, 20))
"""Groups that the challenge scores; others are ignored."""


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
        unit_counts = (session.n_heldin, session.n_units - session.n_heldin)
        observed_arrays = (
            (TRAIN_KEYS, len(self.train), session.n_observed),
            (EVAL_KEYS, len(session), session.n_observed),
        )
        forward_arrays = ((FORWARD_KEYS, len(session), session.n_forward),) if session.n_forward else ()
        return {
            key: (trials, bins, units)
            for keys, trials, bins in (*observed_arrays, *forward_arrays)
            for key, units in zip(keys, unit_counts, strict=True)
        }


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
