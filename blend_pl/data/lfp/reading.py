"""Sessions of any layout: found or simulated, read once, and kept by the content of their files."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from blend_pl.data.io.cache import Entry, cached_entry
from blend_pl.data.io.generated import folder_of, settings_of
from blend_pl.data.lfp.archive import flint_path, makin_paths, nwb_paths
from blend_pl.data.lfp.flint import read_flint
from blend_pl.data.lfp.makin import read_makin
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.simulation import SessionsSimulation, write_sessions
from blend_pl.data.lfp.spec import SessionsSpec

FORMAT = 1
"""Raised whenever reading makes another recording than before of the same files and settings."""

ARRAYS = ("spikes", "lfp", "behavior")


def read_sessions(
    spec: SessionsSpec,
    root: Path,
    source: Literal["files", "simulated"] = "files",
    simulation: SessionsSimulation = SessionsSimulation(),  # noqa: B008
    cache_dir: Path | None = None,
) -> list[CrossModalRecording]:
    """The sessions that the spec names: those of Makin, of Flint, then NWB files ordered by path.

    Each is read once for the same contents of its files; safe in many processes at once.

    Args:
        spec: which sessions.
        root: data folder; files are searched at any depth below it, and downloaded or simulated into it.
        source: "files" for recordings; "simulated" writes those of `simulation` first and reads them.
        simulation: parameters of the simulated set.
        cache_dir: folder of what was read; None for `root`/cache.

    Raises:
        DataError: a session is missing and cannot be fetched, or cannot be used.
    """
    cache = cache_dir or root / "cache"
    if source == "simulated":
        root = folder_of(root, settings_of(simulation), "sessions-")
        write_sessions(simulation, root)
    return [
        cached_entry(cache, one.files, {"format": FORMAT, **one.settings}, one.entry, _restored)
        for one in [*_makin(spec, root), *_flint(spec, root), *_nwb(spec, root)]
    ]


@dataclass(frozen=True)
class _Source:
    """A session's files, what else decides how it is read, and how."""

    files: list[Path]
    settings: dict[str, Any]
    read: Callable[[], CrossModalRecording]

    def entry(self) -> Entry:
        recording = self.read()
        values = {field.name: getattr(recording, field.name) for field in fields(recording)}
        return {"recording": {**values, **{name: torch.from_numpy(values[name]) for name in ARRAYS}}}


def _makin(spec: SessionsSpec, root: Path) -> list[_Source]:
    sources = []
    for session in spec.makin:
        files = makin_paths(session, root, spec.archive)
        settings = {"makin": session, "min_rate_hz": spec.min_rate_hz, "unsorted": spec.unsorted}
        sources.append(
            _Source([*files], settings, partial(read_makin, session, *files, spec.min_rate_hz, spec.unsorted))
        )
    return sources


def _flint(spec: SessionsSpec, root: Path) -> list[_Source]:
    sources = []
    for session in spec.flint:
        file = flint_path(session, root)
        settings = {"flint": session, "min_rate_hz": spec.min_rate_hz}
        sources.append(_Source([file], settings, partial(read_flint, session, file, spec.min_rate_hz)))
    return sources


def _nwb(spec: SessionsSpec, root: Path) -> list[_Source]:
    sources = []
    for file in nwb_paths(spec.nwb, root):
        settings = {"nwb": file.stem, "names": spec.names, "min_rate_hz": spec.min_rate_hz}
        sources.append(_Source([file], settings, partial(read_nwb, file, spec.names, spec.min_rate_hz)))
    return sources


def _restored(entry: Entry) -> CrossModalRecording:
    values = entry["recording"]
    return CrossModalRecording(**{**values, **{name: values[name].numpy() for name in ARRAYS}})
