"""What a submission to NLB'21 holds: a group for each set, and in it the arrays that the set's session asks for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors

SETS = ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg", "mc_maze_large", "mc_maze_medium", "mc_maze_small")

TRAIN = ("train_rates_heldin", "train_rates_heldout")
EVAL = ("eval_rates_heldin", "eval_rates_heldout")
FORWARD = ("eval_rates_heldin_forward", "eval_rates_heldout_forward")
KEYS = (*TRAIN, *EVAL, *FORWARD)


def group_name(session: str, bin_ms: int) -> str:
    """The group of a set: its name, with the bin width behind it where that is not 5 ms."""
    return session if bin_ms == 5 else f"{session}_{bin_ms}"


KNOWN = tuple(group_name(session, bin_ms) for session in SETS for bin_ms in (5, 20))
"""Groups that the challenge scores; it passes over all others."""


@dataclass(frozen=True)
class Sessions:
    """The two parts of a session that rates are submitted of, with one set of units and bins.

    Attributes:
        train: trials that a decoder is fitted on, in the order of the recording.
        evaluation: trials that are scored, in the order of the recording.
    """

    train: SessionTensors
    evaluation: SessionTensors

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(trials, bins, units) of every array; no forward arrays where the session has no forward bins."""
        session = self.evaluation
        heldin = (session.n_heldin, session.n_units - session.n_heldin)
        parts = ((TRAIN, len(self.train), session.n_observed), (EVAL, len(session), session.n_observed))
        forward = ((FORWARD, len(session), session.n_forward),) if session.n_forward else ()
        return {
            key: (trials, bins, units)
            for keys, trials, bins in (*parts, *forward)
            for key, units in zip(keys, heldin, strict=True)
        }


def divide(sessions: Sessions, train_rates: Tensor, rates: Tensor) -> dict[str, Tensor]:
    """Rates of whole sessions as the arrays of a submission.

    Args:
        sessions: what the rates are of; T observed of T' bins, N units.
        train_rates: (train trials, T', N) expected counts per bin.
        rates: (evaluation trials, T', N) expected counts per bin.
    """
    bins, heldin = sessions.evaluation.n_observed, sessions.evaluation.n_heldin
    parts = ((TRAIN, train_rates[:, :bins]), (EVAL, rates[:, :bins]), (FORWARD, rates[:, bins:]))
    arrays: dict[str, Tensor] = {}
    for keys, part in parts:
        arrays.update(zip(keys, (part[..., :heldin], part[..., heldin:]), strict=True))
    return {key: arrays[key] for key in sessions.shapes()}


def unite(arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The arrays of a submission as rates, (train trials, T, N) and (evaluation trials, T', N).

    Without training arrays there are no training trials, without forward arrays no forward bins.
    """
    observed = torch.cat([arrays[key] for key in EVAL], 2)
    train = torch.cat([arrays[key] for key in TRAIN], 2) if TRAIN[0] in arrays else observed[:0]
    if FORWARD[0] not in arrays:
        return train, observed
    return train, torch.cat([observed, torch.cat([arrays[key] for key in FORWARD], 2)], 1)
