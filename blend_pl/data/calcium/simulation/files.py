"""Simulated trees on disk, in the layout of the published one (Bugeon et al., 2022)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.calcium.simulation.animal import Animal, draw_animal
from blend_pl.data.calcium.simulation.cells import MouseCells, draw_activity, draw_cells
from blend_pl.data.calcium.simulation.parameters import MICE, SUBTYPES, TreeSimulation
from blend_pl.data.calcium.spec import STATES
from blend_pl.data.io.generated import write_settings_once

N_GENES, N_PLANES = 72, 7
MORE_CELLS = 3
"""How many cells the run that does not fit its cell table has too many."""


def write_tree(simulation: TreeSimulation, folder: Path) -> None:
    """Simulates recordings and writes them into `folder`, all at once.

    Beside ordinary cells every mouse has one of the rare subclass Serpinf1, one that never changes, and many without a
    UniqueID; the first session has a run `02` that does not fit its cell table, and gaps in the pupil. Where the folder
    already holds this tree nothing is done, and several processes may write it at the same time.

    Args:
        simulation: what to simulate.
        folder: missing, empty or holding this tree.

    Raises:
        DataError: the folder cannot be written or holds something else.
    """
    write_settings_once(simulation, folder, "this simulated tree", partial(_write, simulation))


def _write(simulation: TreeSimulation, folder: Path) -> None:
    labels = ["EC", "IN", *(label for subtypes in SUBTYPES.values() for label in subtypes)]
    _names(folder / "ttypes.names.txt", labels)
    _names(folder / "genes.names.txt", [f"Gene{number}" for number in range(1, N_GENES + 1)])
    _names(folder / "states.names.txt", list(STATES))
    seeds = np.random.SeedSequence(simulation.seed).spawn(simulation.n_mice)
    for mouse, seed in zip(MICE, seeds, strict=False):
        rng = np.random.default_rng(seed)
        cells = draw_cells(simulation, rng)
        for number in range(simulation.n_sessions):
            session = folder / mouse / f"2019-10-{number + 1:02d}"
            seen = _seen(simulation, cells, rng)
            _write_cells(session, seen, labels, rng)
            for stimulus in simulation.stimuli:
                _write_run(session / stimulus / "01", simulation, seen, rng, gaps=number == 0)
            if mouse == MICE[0] and number == 0:
                many = _more(seen)
                _write_run(session / simulation.stimuli[0] / "02", replace(simulation, n_frames=50), many, rng)


def _seen(simulation: TreeSimulation, cells: MouseCells, rng: np.random.Generator) -> MouseCells:
    """The cells that a session shows, in an order of its own, at nearly the same places."""
    n = len(cells.label)
    seen = cells.select(rng.permutation(n)[: max(1, round(n * simulation.seen))])
    return replace(seen, position=seen.position + rng.standard_normal(seen.position.shape))


def _more(cells: MouseCells) -> MouseCells:
    rows = np.concatenate([np.arange(len(cells.label)), np.arange(MORE_CELLS)])
    return cells.select(rows)


def _write_cells(session: Path, cells: MouseCells, labels: list[str], rng: np.random.Generator) -> None:
    session.mkdir(parents=True)
    _names(session / "neuron.ttype.txt", cells.label.tolist())
    number = np.array([labels.index(label) for label in cells.label])
    likelihood = rng.random((len(number), len(labels))) * 0.2
    likelihood[np.arange(len(number)), number] += 2
    tables = {
        "UniqueID": cells.unique_id[:, None],
        "gene_count": rng.poisson(1 + 3 * (np.arange(N_GENES) % len(labels) == number[:, None])),
        "prob_ttypes": likelihood / likelihood.sum(1, keepdims=True),
        "stackPosCorrected": cells.position,
        "depth": cells.position[:, 2:],
        "plane": (np.argsort(np.argsort(cells.position[:, 2])) * N_PLANES // len(number))[:, None],
    }
    for name, table in tables.items():
        np.save(session / f"neuron.{name}.npy", table)


def _write_run(
    run: Path, simulation: TreeSimulation, cells: MouseCells, rng: np.random.Generator, gaps: bool = False
) -> None:
    run.mkdir(parents=True)
    animal = draw_animal(simulation.n_frames, rng)
    np.save(run / "frame.neuralActivity.npy", draw_activity(simulation, cells, animal, rng))
    pupil = animal.pupil.copy()
    if gaps:
        # A blink, which is bridged, and a stretch in which the eye was closed, which is not.
        pupil[100:110] = pupil[300:420] = np.nan
    for name, values in _behavior(animal, pupil).items():
        np.save(run / f"{name}.npy", values[:, None])


def _behavior(animal: Animal, pupil: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "frame.times": animal.frames,
        "frame.states": animal.state.astype(float),
        "running.speed": animal.speed,
        "running.times": animal.times,
        "eye.size": pupil,
        "eye.xPos": animal.gaze[:, 0],
        "eye.yPos": animal.gaze[:, 1],
        "eye.times": animal.times,
    }


def _names(path: Path, names: list[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names))
