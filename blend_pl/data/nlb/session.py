"""Tensors of a session."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blend_pl.data.digest import record_digest
from blend_pl.data.io.cache import CacheEntry, cached_entry
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.signature import Signature

TRIAL_FIELDS = (
    "spikes",
    "observed",
    "scoring_mask",
    "behavior",
    "trial_id",
    "start_bin",
    "jitter",
    "condition",
    "decode_mask",
    "timing_condition",
    "produced_interval",
)

DIGESTS = "digests"
"""Section of a cache entry that holds the digests of the others."""


@dataclass(frozen=True)
class SessionTensors:
    """All trials of one split, binned; T observed bins, F forward bins, N units (held-in first, then held-out).

    Attributes:
        spikes: (trials, T + F, N) unsigned counts; 0 where unobserved.
        observed: (trials, T + F, G) bool, bins in which all held-in units [..., 0] and all held-out units [..., 1] were
            recorded; further columns, if units differ, are the recorded bins of units that `observed_column` names.
        scoring_mask: (trials, T) bool, bins that are scored; some held-in unit was recorded in each of them.
        behavior: (trials, T + F, D) float32 in the file's unit, lagged, NaN where missing; D = 0 without behavior.
        trial_id: (trials,) int64, row of the trials table counted over all files.
        start_bin: (trials,) int64, first bin of the window on the grid of its file.
        jitter: (trials,) int64, bins by which the window was shifted later.
        condition: (trials,) int64, row of `psth`; -1 for none.
        decode_mask: (trials, M) bool, the velocity decoders to which a trial belongs.
        timing_condition: (trials,) int64, condition within which produced intervals are compared; -1 for none.
        produced_interval: (trials,) float64 produced interval, NaN for none.
        psth: (conditions, T, N) float64 expected counts per bin, NaN where undefined; no rows without conditions.
        unit_id: (N,) int64 ids of the units in the file.
        observed_column: (N,) int64, the column of `observed` that holds for each unit.
        n_heldin: number of held-in units.
        n_forward: F.
        n_series: leading channels of `behavior` that are a time series; the others are constant over a trial.
        bin_ms: bin width.
        left_out: parts of the recording that were not observed or not used, with their shares; empty if there are none.
        series_target: what the time series is: velocity, speed or position.
    """

    spikes: Tensor
    observed: Tensor
    scoring_mask: Tensor
    behavior: Tensor
    trial_id: Tensor
    start_bin: Tensor
    jitter: Tensor
    condition: Tensor
    decode_mask: Tensor
    timing_condition: Tensor
    produced_interval: Tensor
    psth: Tensor
    unit_id: Tensor
    observed_column: Tensor
    n_heldin: int
    n_forward: int
    n_series: int
    bin_ms: int
    left_out: str = ""
    series_target: str = "velocity"

    def __repr__(self) -> str:
        n_channels = self.behavior.shape[2]
        recorded = 100 * float(self.valid_mask(torch.arange(len(self))).float().mean())
        return (
            f"SessionTensors({len(self)} trials of {self.n_observed} + {self.n_forward} bins of {self.bin_ms} ms, "
            f"{self.n_heldin} of {self.n_units} units held in, {n_channels} channels of behavior, "
            f"{len(self.psth)} conditions, {recorded:.0f} % recorded)"
        )

    def __len__(self) -> int:
        return len(self.spikes)

    @property
    def n_observed(self) -> int:
        """T, the number of bins in a model's input."""
        return self.spikes.shape[1] - self.n_forward

    @property
    def n_units(self) -> int:
        """N, held-in and held-out units together."""
        return self.spikes.shape[2]

    @property
    def velocity(self) -> Tensor:
        """(trials, T, Y) time series of behavior in the scored bins, NaN elsewhere; Y = 0 without a series.

        It is a velocity unless `series_target` says otherwise.
        """
        series = self.behavior[:, : self.n_observed, : self.n_series]
        return series.masked_fill(~self.scoring_mask[..., None], torch.nan)

    def has_recorded(self, units: slice, bins: slice) -> bool:
        """Whether any of the given units was recorded in any of the given bins of any trial."""
        columns = self.observed_column[units].unique()
        return bool(self.observed[:, bins, columns].any())

    def recorded_spans(self, n_bins: int) -> tuple[Tensor, Tensor]:
        """Returns the first recorded bin and the bin after the last one among the first `n_bins` of each trial.

        Both are (trials,) int64 on the grid of the file; they are equal for a trial without recorded bins.
        """
        recorded = self.observed[:, :n_bins].any(-1).long()
        first = recorded.argmax(1)
        stop = torch.where(recorded.any(1), n_bins - recorded.flip(1).argmax(1), first)
        return self.start_bin + first, self.start_bin + stop

    def select(self, trials: Tensor) -> "SessionTensors":
        """Returns the session with only the given trials (indices or a boolean mask)."""
        values = self.to_dict()
        values.update({name: values[name][trials] for name in TRIAL_FIELDS})
        return SessionTensors(**values)

    def to(self, device: torch.device) -> "SessionTensors":
        """Returns the session on another device."""
        values = self.to_dict()
        values.update({name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
        return SessionTensors(**values)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain tensors and integers for the cache."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def valid_mask(self, trials: Tensor) -> Tensor:
        """Returns the (selected trials, T + F, N) bool mask of entries that were recorded."""
        if self.observed.shape[-1] > 2:
            return self.observed[trials].index_select(-1, self.observed_column)
        heldin, heldout = self.observed[trials].split(1, -1)
        trials_by_bins = heldin.shape[:-1]
        return torch.cat(
            [
                heldin.expand(*trials_by_bins, self.n_heldin),
                heldout.expand(*trials_by_bins, self.n_units - self.n_heldin),
            ],
            -1,
        )


def concatenate_trials(first: SessionTensors, second: SessionTensors) -> SessionTensors:
    """Returns the trials of two splits of one session, in recording order."""
    merged = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in TRIAL_FIELDS}
    order = merged["trial_id"].argsort()
    values = first.to_dict()
    values.update({name: value[order] for name, value in merged.items()})
    return SessionTensors(**values)


def group_columns(n_heldin: int, n_units: int) -> Tensor:
    """Returns `SessionTensors.observed_column` of units that were recorded together in each group."""
    return (torch.arange(n_units) >= n_heldin).long()


def session_signature(name: str, session: SessionTensors) -> Signature:
    """Returns the signature of a session's tensors."""
    return Signature(
        name,
        session.bin_ms,
        session.n_observed,
        session.n_forward,
        session.n_heldin,
        session.behavior.shape[-1],
        tuple(session.unit_id.tolist()),
    )


@dataclass(frozen=True)
class CachedSessions:
    """Sessions from the cache, one per split.

    Attributes:
        sessions: sessions by split.
        digests: digest of each session; see `session_digest`.
    """

    sessions: dict[str, SessionTensors]
    digests: dict[str, str]


def session_digest(session: SessionTensors) -> str:
    """Returns the digest of all tensors except the PSTHs and the positions of windows in the recording.

    PSTHs follow from the spikes, conditions and settings, and their last digits differ between machines.
    """
    return record_digest(session, ignore=("psth", "start_bin", "left_out", "series_target"))


def cached_sessions(
    folder: Path,
    files: Sequence[Path | RemoteFile],
    settings: Mapping[str, Any],
    build: Callable[[], dict[str, SessionTensors]],
) -> CachedSessions:
    """Returns the sessions that `build` returns, one per split, and their digests; see `cached_entry`."""

    def build_entry() -> CacheEntry:
        sessions = build()
        digests = {split: session_digest(session) for split, session in sessions.items()}
        return {DIGESTS: digests, **{split: session.to_dict() for split, session in sessions.items()}}

    def restore_sessions(entry: CacheEntry) -> CachedSessions:
        sessions = {split: SessionTensors(**fields) for split, fields in entry.items() if split != DIGESTS}
        return CachedSessions(sessions, entry[DIGESTS])

    return cached_entry(folder, files, settings, build_entry, restore_sessions)
