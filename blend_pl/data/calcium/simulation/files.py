"""Files of simulated recordings, in the layout of the published tree (Bugeon et al., 2022)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from blend_pl.data.calcium.simulation.animal import SimulatedBehavior, draw_behavior
from blend_pl.data.calcium.simulation.cells import MouseCells, draw_activity, draw_cells
from blend_pl.data.calcium.simulation.parameters import MICE, SUBTYPES, BugeonSimulation
from blend_pl.data.calcium.spec import BEHAVIOR_STATES
from blend_pl.data.io.generated import write_simulation_once

N_GENES, N_PLANES = 72, 7
N_EXTRA_CELLS = 3
"""Number of surplus cells in the run that does not fit its cell table."""


def write_bugeon_dataset(simulation: BugeonSimulation, folder: Path) -> None:
    """Simulates recordings and writes them into a folder; see `write_simulation_once`.

    To test readers, every mouse has one cell of the rare subclass Serpinf1, one with constant activity, and many
    without a UniqueID; the first session has a run `02` that does not fit its cell table, and gaps in the pupil.

    Args:
        simulation: the parameters.
        folder: a folder that is missing, empty or contains this tree.

    Raises:
        DataError: the folder cannot be written or contains something else.
    """
    write_simulation_once(simulation, folder, "this simulated tree", partial(_write_dataset, simulation))


def _write_dataset(simulation: BugeonSimulation, folder: Path) -> None:
    labels = ["EC", "IN", *(label for subtypes in SUBTYPES.values() for label in subtypes)]
    _write_lines(folder / "ttypes.names.txt", labels)
    _write_lines(folder / "genes.names.txt", [f"Gene{gene}" for gene in range(1, N_GENES + 1)])
    _write_lines(folder / "states.names.txt", list(BEHAVIOR_STATES))
    seeds = np.random.SeedSequence(simulation.seed).spawn(simulation.n_mice)
    for mouse, seed in zip(MICE, seeds, strict=False):
        rng = np.random.default_rng(seed)
        cells = draw_cells(simulation, rng)
        for session_number in range(simulation.n_sessions):
            session = folder / mouse / f"2019-10-{session_number + 1:02d}"
            visible_cells = _select_visible_cells(simulation, cells, rng)
            _write_cells(session, visible_cells, labels, rng)
            for stimulus in simulation.stimuli:
                _write_run(session / stimulus / "01", simulation, visible_cells, rng, with_gaps=session_number == 0)
            if mouse == MICE[0] and session_number == 0:
                mismatched_cells = _append_extra_cells(visible_cells)
                _write_run(
                    session / simulation.stimuli[0] / "02", replace(simulation, n_frames=50), mismatched_cells, rng
                )


def _select_visible_cells(simulation: BugeonSimulation, cells: MouseCells, rng: np.random.Generator) -> MouseCells:
    """Returns the cells that are visible in a session, in random order and slightly displaced."""
    n_cells = len(cells.label)
    visible_cells = cells.select(rng.permutation(n_cells)[: max(1, round(n_cells * simulation.visible_fraction))])
    return replace(visible_cells, position=visible_cells.position + rng.standard_normal(visible_cells.position.shape))


def _append_extra_cells(cells: MouseCells) -> MouseCells:
    rows = np.concatenate([np.arange(len(cells.label)), np.arange(N_EXTRA_CELLS)])
    return cells.select(rows)


def _write_cells(session: Path, cells: MouseCells, labels: list[str], rng: np.random.Generator) -> None:
    session.mkdir(parents=True)
    _write_lines(session / "neuron.ttype.txt", cells.label.tolist())
    label_index = np.array([labels.index(label) for label in cells.label])
    likelihood = rng.random((len(label_index), len(labels))) * 0.2
    likelihood[np.arange(len(label_index)), label_index] += 2
    tables = {
        "UniqueID": cells.unique_id[:, None],
        "gene_count": rng.poisson(1 + 3 * (np.arange(N_GENES) % len(labels) == label_index[:, None])),
        "prob_ttypes": likelihood / likelihood.sum(1, keepdims=True),
        "stackPosCorrected": cells.position,
        "depth": cells.position[:, 2:],
        "plane": (np.argsort(np.argsort(cells.position[:, 2])) * N_PLANES // len(label_index))[:, None],
    }
    for name, table in tables.items():
        np.save(session / f"neuron.{name}.npy", table)


def _write_run(
    run: Path, simulation: BugeonSimulation, cells: MouseCells, rng: np.random.Generator, with_gaps: bool = False
) -> None:
    run.mkdir(parents=True)
    behavior = draw_behavior(simulation.n_frames, rng)
    np.save(run / "frame.neuralActivity.npy", draw_activity(simulation, cells, behavior, rng))
    pupil = behavior.pupil.copy()
    if with_gaps:
        # A blink, which readers interpolate, and a longer period with the eye closed, which they do not.
        pupil[100:110] = pupil[300:420] = np.nan
    for name, values in _behavior_arrays(behavior, pupil).items():
        np.save(run / f"{name}.npy", values[:, None])


def _behavior_arrays(behavior: SimulatedBehavior, pupil: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "frame.times": behavior.frame_times,
        "frame.states": behavior.state.astype(float),
        "running.speed": behavior.speed,
        "running.times": behavior.times,
        "eye.size": pupil,
        "eye.xPos": behavior.gaze[:, 0],
        "eye.yPos": behavior.gaze[:, 1],
        "eye.times": behavior.times,
    }


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
