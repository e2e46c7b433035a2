"""Time series of a file that can be behavior, likely ones first."""

from blend_pl.data.io.contents import FileContents, SeriesContents

SERIES_NAMES = ("vel", "speed", "run", "hand", "cursor", "finger", "pos", "pupil")
NEURAL_TYPES = ("ElectricalSeries", "RoiResponseSeries", "DecompositionSeries", "SpikeEventSeries")


def behavior_candidates(contents: FileContents) -> list[SeriesContents]:
    """Returns the series of a file that can be read and hold no neural activity, likely behavior first."""
    series = [item for item in contents.series if not item.problem and item.neurodata_type not in NEURAL_TYPES]
    return sorted(series, key=_series_rank)


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
