"""Specification of a calcium data set: recordings, behavior, cell split and cell types."""

from dataclasses import dataclass, field

from blend_pl.data.io.selection import RowSelection
from blend_pl.errors import ConfigError
from blend_pl.utils.checks import NON_NEGATIVE, POSITIVE, check_range

BEHAVIOR_SERIES = {"running": "running.speed", "pupil": "eye.size", "eye_x": "eye.xPos", "eye_y": "eye.yPos"}
"""Names of continuous behavior and the file of the published tree that holds each."""

BEHAVIOR_STATES = ("running", "stationary desynchronised", "stationary synchronised")
"""Behavioral states 0, 1 and 2 (Bugeon et al., 2022), a categorical variable."""


@dataclass(frozen=True)
class FigshareArchive:
    """Version of a figshare article from which a missing folder tree is downloaded.

    Attributes:
        article: number of the article.
        version: version of the article; versions differ in their sessions.
        md5: MD5 digests by file name, checked in addition to the digests that figshare reports; may be empty.
    """

    article: int
    version: int
    md5: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CellTypes:
    """Mapping of cell-type labels to classes. The subclass of a label is the text before its first "-".

    Attributes:
        excitatory: labels of excitatory cells.
        inhibitory: labels of inhibitory cells without a subclass; cells with a subclass are inhibitory, too.
        untyped: labels of cells of unknown type, for example "unknown" or "": they are trained on, and in no score. A
            label that is also excitatory or inhibitory is not one of them.
        subclasses: the subclasses to classify.
        merged: maps further subclasses to the subclass that their cells are counted as; null excludes the cells
            from the scores.
    """

    excitatory: list[str] = field(default_factory=lambda: ["EC"])
    inhibitory: list[str] = field(default_factory=lambda: ["IN"])
    untyped: list[str] = field(default_factory=list)
    subclasses: list[str] = field(default_factory=lambda: ["Lamp5", "Pvalb", "Vip", "Sncg", "Sst"])
    merged: dict[str, str | None] = field(default_factory=lambda: {"Serpinf1": None})


@dataclass(frozen=True)
class CellSplit:
    """Division of the cells into train, val and test splits; a cell is in the same split in all its recordings.

    Attributes:
        train: fraction of the cells of each label that are training cells.
        val: fraction of the cells of each label that are validation cells; the remaining cells are test cells.
        test_mice: mice that have only test cells; the cells of the other mice are then divided into train and val
            only, in the ratio of `train` to `val`.
        seed: seed of the split; it does not depend on the seed of the run, so that all runs have the same split.
        max_match_distance: maximum distance at which two cells without ids, recorded on different days and each
            other's nearest neighbor, are put into the same split; in the unit of the positions.
    """

    train: float = 0.8
    val: float = 0.1
    test_mice: list[str] = field(default_factory=list)
    seed: int = 0
    max_match_distance: float = 5.0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, seed=self.seed, max_match_distance=self.max_match_distance)
        if not (0 < self.train < 1 and 0 <= self.val < 1 and self.train + self.val <= 1):
            raise ConfigError(
                f"data.spec.cells has the fractions train {self.train} and val {self.val}; write fractions that add "
                "up to at most 1, with train between 0 and 1"
            )


@dataclass(frozen=True)
class CalciumSpec:
    """A set of calcium recordings with cell types (Bugeon et al., 2022, or custom files).

    Attributes:
        name: name of the set.
        mice: mice to read; empty for all.
        recordings: glob patterns of the runs below a session's folder in the published tree ("Blank/01"), or of NWB
            files below the data root.
        behavior: variables of continuous behavior: keys of `BEHAVIOR_SERIES` for the published tree, names of time
            series for NWB files.
        state: whether the privileged input includes the behavioral state, one channel per state.
        train_time: fraction of the duration of each recording, from its start, that is used for training; the rest
            is used for validation.
        radius: maximum distance at which two cells are neighbors (Mi et al., 2023), in the unit of the positions.
        cells: division of the cells into train, val and test.
        types: mapping of cell-type labels to classes.
        archive: figshare article from which a missing tree is downloaded; None for no download.
        rois: rows of the plane segmentations of NWB files to use (suite2p: column iscell, values 1); None for all.
    """

    name: str
    mice: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=lambda: ["Blank/01"])
    behavior: list[str] = field(default_factory=lambda: ["running", "pupil"])
    state: bool = True
    train_time: float = 0.75
    radius: float = 65.0
    cells: CellSplit = field(default_factory=CellSplit)
    types: CellTypes = field(default_factory=CellTypes)
    archive: FigshareArchive | None = None
    rois: RowSelection | None = None

    def __post_init__(self) -> None:
        check_range(POSITIVE, radius=self.radius)
        if not 0 < self.train_time < 1:
            raise ConfigError(f"data.spec.train_time is {self.train_time}; it must be a fraction between 0 and 1")


@dataclass(frozen=True)
class CalciumNWBNames:
    """Names of series and columns in NWB files of calcium recordings.

    Attributes:
        activity: name of the RoiResponseSeries, or enough of the end of its path to make it unique; null if there is
            only one; a list to join the traces of several planes.
        cell_type: column of the plane segmentation that holds the cell-type labels.
        cell_id: column of the plane segmentation with cell ids that are valid across files; null if there is none.
        position: column of the plane segmentation with 2 or 3 coordinates per cell; null for the centers of the
            image, pixel or voxel masks of ROIs.
        state: time series of the behavioral state; null for none.
    """

    activity: str | list[str] | None = None
    cell_type: str = "cell_type"
    cell_id: str | None = None
    position: str | None = None
    state: str | None = None
