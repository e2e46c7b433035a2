"""One recording of spikes, field potentials and behavior in common time bins."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.signature import SessionInfo

BIN_MS = 10
"""Bin width of all readers (Erturk et al., 2025)."""


@dataclass(frozen=True)
class CrossModalRecording:
    """T bins of N units and C channels.

    Attributes:
        name: name of the session, e.g. "indy_20160622_01".
        subject: the animal, e.g. "I".
        spikes: (T, N) uint8, spikes per bin; N is 0 in a recording without units.
        lfp: (T, C) float32, field potentials between 0.05 and 50 Hz, in the file's unit, not z-scored.
        behavior: (T, D) float32, velocity in the file's unit per second; NaN where missing.
        unit_id: name of each unit in the file.
        channel_id: name of each channel in the file.
        bin_ms: bin width.
        notes: a line on each part of the recording that is left out or looks odd.
    """

    name: str
    subject: str
    spikes: np.ndarray
    lfp: np.ndarray
    behavior: np.ndarray
    unit_id: tuple[str, ...]
    channel_id: tuple[str, ...]
    bin_ms: int = BIN_MS
    notes: tuple[str, ...] = ()

    @property
    def n_bins(self) -> int:
        """T, number of bins."""
        return len(self.lfp)

    @property
    def info(self) -> SessionInfo:
        """Name, subject and ids of the session."""
        return SessionInfo(self.name, self.subject, tuple(self.channel_id), tuple(self.unit_id))
