"""Command `simulate`: writes a session with known rates as NWB files."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from blend_pl.data.nlb.simulation.files import write_session
from blend_pl.data.nlb.simulation.parameters import PRESETS


def simulate(folder: str, size: Literal["demo", "small", "mc_maze_small", "mc_maze"] = "small", seed: int = 0) -> None:
    """Writes a simulated delayed-reach session in the layout of MC_Maze, and its true rates.

    Args:
        folder: new folder for the two NWB files and ground_truth.h5.
        size: small; demo, which is as small and has lower rates; or the numbers of trials and units of MC_Maze_Small or
            MC_Maze.
        seed: seed of all draws; equal seeds give equal sessions.
    """
    write_session(replace(PRESETS[size], seed=seed), Path(folder))
    print(f"session: {folder}")
