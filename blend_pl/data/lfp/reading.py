"""Reading of sessions in any layout, from files or a simulation, with a cache."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from blend_pl.data.io.cache import CacheEntry, cached_entry
from blend_pl.data.io.generated import settings_json, simulation_folder
from blend_pl.data.io.session_files import find_session_files, require_distinct_recordings, session_names
from blend_pl.data.lfp.archive import flint_path, makin_paths
from blend_pl.data.lfp.flint import read_flint
from blend_pl.data.lfp.makin import read_makin
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.simulation import LFPSimulation, write_sessions
from blend_pl.data.lfp.spec import LFPSpec
from blend_pl.errors import ConfigError

CACHE_VERSION = 3
"""Must be incremented when the readers change the recording of the same files and settings."""

ARRAY_FIELDS = ("spikes", "lfp", "behavior")


def read_sessions(
    spec: LFPSpec,
    root: Path,
    source: Literal["files", "simulated"] = "files",
    simulation: LFPSimulation = LFPSimulation(),  # noqa: B008
    cache_dir: Path | None = None,
) -> list[CrossModalRecording]:
    """Reads the sessions of a spec: those of Makin, those of Flint, then NWB files ordered by path.

    Recordings are cached by the contents of their files; safe across processes.

    Args:
        spec: specifies the sessions.
        root: data folder; files are searched at any depth below it, and downloaded or simulated into it.
        source: "files" reads recordings; "simulated" first writes those of `simulation`.
        simulation: parameters of the simulated set.
        cache_dir: cache folder; None for `root`/cache.

    Raises:
        DataError: a session is missing and cannot be downloaded, or cannot be used; two files contain the same one.
        ConfigError: `bad_channels` names a session that does not exist.
    """
    cache = cache_dir or root / "cache"
    if source == "simulated":
        root = _write_simulated_sessions(simulation, root)
    nwb_sources = _nwb_sources(spec, root)
    sources = [*_makin_sources(spec, root), *_flint_sources(spec, root), *nwb_sources]
    _check_bad_channels(spec, [session_source.name for session_source in sources])
    recordings = [
        cached_entry(
            cache,
            session_source.files,
            {"format": CACHE_VERSION, **session_source.settings},
            session_source.cache_entry,
            _recording_from_entry,
        )
        for session_source in sources
    ]
    nwb_recordings = recordings[len(recordings) - len(nwb_sources) :]
    lfp_by_path = {source.files[0]: r.lfp for source, r in zip(nwb_sources, nwb_recordings, strict=True)}
    require_distinct_recordings(lfp_by_path, "data.spec.nwb")
    return recordings


def _check_bad_channels(spec: LFPSpec, sessions: list[str]) -> None:
    unknown = sorted({*spec.bad_channels} - {*sessions}) if isinstance(spec.bad_channels, dict) else []
    if unknown:
        raise ConfigError(
            f"data.spec.bad_channels names the session {unknown[0]}, but there are only {', '.join(sessions)}; "
            "correct it"
        )


def fetch_sessions(spec: LFPSpec, root: Path, source: Literal["files", "simulated"], simulation: LFPSimulation) -> None:
    """Simulates the sessions, or downloads missing ones if the spec has an archive.

    Arguments are those of `read_sessions`.

    Raises:
        DataError: a file cannot be downloaded or written.
    """
    if source == "simulated":
        _write_simulated_sessions(simulation, root)
    elif spec.archive is not None:
        for session in spec.makin:
            makin_paths(session, root, spec.archive)


def _write_simulated_sessions(simulation: LFPSimulation, root: Path) -> Path:
    """Writes simulated sessions below the data folder, unless they exist, and returns their folder."""
    folder = simulation_folder(root, settings_json(simulation), "sessions-")
    write_sessions(simulation, folder)
    return folder


@dataclass(frozen=True)
class _SessionSource:
    """A session's name and files, the settings that its recording depends on, and its reader."""

    name: str
    files: list[Path]
    settings: dict[str, Any]
    read: Callable[[], CrossModalRecording]

    def cache_entry(self) -> CacheEntry:
        recording = self.read()
        values = {field.name: getattr(recording, field.name) for field in fields(recording)}
        return {"recording": {**values, **{name: torch.from_numpy(values[name]) for name in ARRAY_FIELDS}}}


def _makin_sources(spec: LFPSpec, root: Path) -> list[_SessionSource]:
    sources = []
    for session in spec.makin:
        files = makin_paths(session, root, spec.archive)
        bad_channels = spec.bad_channels_of(session)
        settings = {"makin": session, "min_rate_hz": spec.min_rate_hz, "unsorted": spec.unsorted, "bad": bad_channels}
        read = partial(read_makin, session, *files, spec.min_rate_hz, spec.unsorted, bad_channels)
        sources.append(_SessionSource(session, [*files], settings, read))
    return sources


def _flint_sources(spec: LFPSpec, root: Path) -> list[_SessionSource]:
    sources = []
    for session in spec.flint:
        file = flint_path(session, root)
        bad_channels = spec.bad_channels_of(session)
        settings = {"flint": session, "min_rate_hz": spec.min_rate_hz, "bad": bad_channels}
        read = partial(read_flint, session, file, spec.min_rate_hz, bad_channels)
        sources.append(_SessionSource(session, [file], settings, read))
    return sources


def _nwb_sources(spec: LFPSpec, root: Path) -> list[_SessionSource]:
    sources = []
    files = find_session_files(spec.nwb, root, "data.spec.nwb")
    for file, session in zip(files, session_names(files, root), strict=True):
        bad_channels = spec.bad_channels_of(session)
        settings = {
            "nwb": session,
            "names": spec.names,
            "min_rate_hz": spec.min_rate_hz,
            "units": spec.units,
            "clock": spec.clock,
            "channels": spec.channels,
            "bad": bad_channels,
        }
        read = partial(
            read_nwb, file, spec.names, spec.min_rate_hz, session, spec.units, spec.channels, bad_channels, spec.clock
        )
        sources.append(_SessionSource(session, [file], settings, read))
    return sources


def _recording_from_entry(entry: CacheEntry) -> CrossModalRecording:
    values = entry["recording"]
    return CrossModalRecording(**{**values, **{name: values[name].numpy() for name in ARRAY_FIELDS}})
