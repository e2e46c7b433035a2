"""A simulated set of sessions on disk."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.io.generated import write_settings_once
from blend_pl.data.lfp.flint import flint_file
from blend_pl.data.lfp.simulation.animal import draw_animal
from blend_pl.data.lfp.simulation.layouts import write_flint, write_makin, write_nwb
from blend_pl.data.lfp.simulation.parameters import FLINT_SESSIONS, MAKIN_SESSIONS, NWB_SESSIONS, SessionsSimulation
from blend_pl.data.lfp.simulation.session import Session, draw_session


def write_sessions(simulation: SessionsSimulation, folder: Path) -> None:
    """Simulates sessions and writes them into `folder`, all at once.

    Where the folder already holds this set nothing is done, and several processes may write it at the same time.

    Args:
        simulation: what to simulate.
        folder: missing, empty or holding this set.

    Raises:
        DataError: the folder cannot be written or holds something else.
    """
    write_settings_once(simulation, folder, "these sessions", partial(_write, simulation))


def _write(simulation: SessionsSimulation, folder: Path) -> None:
    makin, flint, nwb = (np.random.default_rng([simulation.seed, animal]) for animal in range(3))
    for name, session in _days(simulation, MAKIN_SESSIONS[: simulation.n_makin], makin):
        write_makin(session, simulation.rate_hz, name, folder, makin)
    files: dict[str, list[Session]] = defaultdict(list)
    for name, session in _days(simulation, FLINT_SESSIONS[: simulation.n_flint], flint):
        files[flint_file(name)[0]].append(session)
    for file, sessions in files.items():
        write_flint(sessions, simulation.rate_hz, folder / file, flint)
    for name, session in _days(simulation, NWB_SESSIONS[: simulation.n_nwb], nwb):
        write_nwb(session, simulation.rate_hz, "N", folder / f"{name}.nwb")


def _days(simulation: SessionsSimulation, names: Sequence[str], rng: np.random.Generator) -> list[tuple[str, Session]]:
    """The sessions of one animal, one a day."""
    animal = draw_animal(simulation, rng)
    return [(name, draw_session(simulation, animal, rng)) for name in names]
