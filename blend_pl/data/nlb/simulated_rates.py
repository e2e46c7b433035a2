"""True rates of the units of a simulated session."""

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, TRAIN_FILE
from blend_pl.data.nlb.simulation.ground_truth import read_rates
from blend_pl.data.nlb.unit_groups import select_units


def simulated_rates(folder: Path, session: SessionTensors) -> Tensor:
    """Reads the expected counts per bin that generated the spikes of a simulated session.

    Args:
        folder: folder of the simulated session.
        session: trials of this session with any of its units, in any order.

    Returns:
        (trials, T + F, N) float32 expected counts per bin.
    """
    rates = read_rates(folder / GROUND_TRUTH_FILE, session.trial_id, session.bin_ms)
    with h5py.File(folder / TRAIN_FILE) as file:
        unit_id, is_held_out = file["units/id"][:], file["units/heldout"][:].astype(bool)
    # The columns of the ground truth are the held-in units of the file, then its held-out units.
    column_id = unit_id[np.argsort(is_held_out, kind="stable")]
    return select_units(rates, torch.from_numpy(column_id.astype(np.int64)), session.unit_id)
