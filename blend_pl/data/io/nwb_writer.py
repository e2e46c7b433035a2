"""Creation and writing of NWB files of simulated recordings."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynwb import NWBFile

_RECORDING_DATE = datetime(2020, 1, 1, tzinfo=UTC)
"""Fixed, so that equal simulations give equal files."""


def create_nwb(identifier: str, description: str, subject_id: str, subject_description: str) -> "NWBFile":
    """Returns an empty NWB file of a simulated recording."""
    from pynwb import NWBFile
    from pynwb.file import Subject

    return NWBFile(
        session_description=description,
        identifier=identifier,
        session_start_time=_RECORDING_DATE,
        file_create_date=_RECORDING_DATE,
        subject=Subject(subject_id=subject_id, description=subject_description),
    )


def save_nwb(file: "NWBFile", path: Path) -> None:
    """Writes an NWB file to disk."""
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "w") as io:
        io.write(file)
