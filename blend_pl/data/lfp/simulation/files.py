"""Files of simulated sessions."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.io.generated import write_simulation_once
from blend_pl.data.lfp.flint import parse_flint_session
from blend_pl.data.lfp.simulation.animal import draw_electrode_array
from blend_pl.data.lfp.simulation.layouts import write_flint, write_lfp_nwb, write_makin
from blend_pl.data.lfp.simulation.parameters import FLINT_SESSIONS, MAKIN_SESSIONS, NWB_SESSIONS, LFPSimulation
from blend_pl.data.lfp.simulation.session import SimulatedSession, draw_session


def write_sessions(simulation: LFPSimulation, folder: Path) -> None:
    """Simulates sessions and writes them into a folder; see `write_simulation_once`.

    Args:
        simulation: the parameters.
        folder: a folder that is missing, empty or contains these sessions.

    Raises:
        DataError: the folder cannot be written or contains something else.
    """
    write_simulation_once(simulation, folder, "these sessions", partial(_write_files, simulation))


def _write_files(simulation: LFPSimulation, folder: Path) -> None:
    makin_rng, flint_rng, nwb_rng = (
        np.random.default_rng([simulation.seed, animal_index]) for animal_index in range(3)
    )
    for name, session in _draw_sessions(simulation, MAKIN_SESSIONS[: simulation.n_makin], makin_rng):
        write_makin(session, simulation.rate_hz, name, folder, makin_rng)
    files: dict[str, list[SimulatedSession]] = defaultdict(list)
    for name, session in _draw_sessions(simulation, FLINT_SESSIONS[: simulation.n_flint], flint_rng):
        files[parse_flint_session(name)[0]].append(session)
    for file, sessions in files.items():
        write_flint(sessions, simulation.rate_hz, folder / file, flint_rng)
    for name, session in _draw_sessions(simulation, NWB_SESSIONS[: simulation.n_nwb], nwb_rng):
        write_lfp_nwb(session, simulation.rate_hz, "N", folder / f"{name}.nwb")


def _draw_sessions(
    simulation: LFPSimulation, names: Sequence[str], rng: np.random.Generator
) -> list[tuple[str, SimulatedSession]]:
    """Draws the sessions of one animal, one per day."""
    electrode_array = draw_electrode_array(simulation, rng)
    return [(name, draw_session(simulation, electrode_array, rng)) for name in names]
