"""Time series of a file that can be behavior, likely ones first."""

import re

from blend_pl.data.io.contents import FileContents, SeriesContents

SERIES_NAMES = ("vel", "speed", "run", "hand", "cursor", "finger", "pos", "pupil")
NEURAL_TYPES = ("ElectricalSeries", "RoiResponseSeries", "DecompositionSeries", "SpikeEventSeries")


def behavior_candidates(contents: FileContents) -> list[SeriesContents]:
    """Returns the series of a file that can be read and hold no neural activity, likely behavior first."""
    series = [item for item in contents.series if not item.problem and item.neurodata_type not in NEURAL_TYPES]
    return sorted(series, key=_series_rank)


def axis_components(series: SeriesContents, candidates: list[SeriesContents]) -> list[SeriesContents]:
    """Returns the one-dimensional series that are the axes of one signal, such as `vel_x` and `vel_y`, in their order.

    They are in the same group, have the same unit and times, and their names differ by x, y or z, or by a number.

    Args:
        series: one of them.
        candidates: the series among which the others are.
    """
    signal = _signal_and_axis(series)[0]
    components = {
        axis: other
        for other in candidates
        for other_signal, axis in [_signal_and_axis(other)]
        if axis and other_signal == signal and _clock_and_unit(other) == _clock_and_unit(series)
    }
    return [components[axis] for axis in sorted(components)] if series in components.values() else []


def _signal_and_axis(series: SeriesContents) -> tuple[str, str]:
    """Returns the path without the axis, and the axis; empty if the name has none."""
    group, _, name = series.path.rpartition("/")
    match = re.fullmatch(r"(.*?[a-z0-9])?[_\-. ]?([xyz])|(.+)_(\d+)", name, flags=re.IGNORECASE)
    if match is None or any(size != 1 for size in series.shape[1:]):
        return series.path, ""
    signal, axis = (match[1] or "", match[2].lower()) if match[2] else (match[3], match[4].zfill(6))
    return f"{group}/{signal}", axis


def _clock_and_unit(series: SeriesContents) -> tuple[int, float, float, float, float, str]:
    times = series.first_s, series.last_s, series.rate_hz, series.longest_gap_s
    return series.shape[0], *times, series.unit


def unique_name(series: SeriesContents, contents: FileContents) -> str:
    """Returns the name of a series, or its path if the file has several of that name."""
    name = series.path.rpartition("/")[2]
    n_same = sum(f"/{item.path}".endswith(f"/{name}") for item in contents.series)
    return name if n_same == 1 else series.path


def name_rank(name: str, preferred: tuple[str, ...]) -> int:
    """Returns the index of the first text that a name contains; their number if it contains none.

    Example:
        >>> name_rank("Cursor_vel", ("vel", "cursor")), name_rank("pupil", ("vel", "cursor"))
        (0, 2)
    """
    return next((rank for rank, part in enumerate(preferred) if part in name.lower()), len(preferred))


def _series_rank(series: SeriesContents) -> tuple[int, int, str]:
    n_columns = series.shape[1] if len(series.shape) > 1 else 1
    return name_rank(series.path, SERIES_NAMES), abs(n_columns - 2), series.path
