"""What a calcium data set is made of, as data: which recordings, which behaviour, which cells on which side."""

from dataclasses import dataclass, field

from blend_pl.errors import ConfigError

BEHAVIOR_SERIES = {"running": "running.speed", "pupil": "eye.size", "eye_x": "eye.xPos", "eye_y": "eye.yPos"}
"""Continuous behaviour by the name it has here, and the file of the published tree that holds it."""

BEHAVIOR_STATES = ("running", "stationary desynchronised", "stationary synchronised")
"""Behavioural states 0, 1 and 2 (Bugeon et al., 2022); a category, never a number."""


@dataclass(frozen=True)
class FigshareArchive:
    """A pinned figshare article from which a missing tree is downloaded.

    Attributes:
        article: number of the article.
        version: its version; versions differ in their sessions.
        md5: digest of each file by its name, checked beside the archive's own; empty to rely on the archive's.
    """

    article: int
    version: int
    md5: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CellTypes:
    """How labels become classes. A subclass is the text before the first "-" of a label.

    Attributes:
        excitatory: labels of excitatory cells; all others are inhibitory.
        untyped: labels of cells that have no subclass.
        subclasses: subclasses that are told apart.
        merged: subclass by the one it counts as; null leaves its cells out of the subclass scores.
    """

    excitatory: list[str] = field(default_factory=lambda: ["EC"])
    untyped: list[str] = field(default_factory=lambda: ["IN"])
    subclasses: list[str] = field(default_factory=lambda: ["Lamp5", "Pvalb", "Vip", "Sncg", "Sst"])
    merged: dict[str, str | None] = field(default_factory=lambda: {"Serpinf1": None})


@dataclass(frozen=True)
class CellSplit:
    """How cells are divided; all recordings of a cell are on one side.

    Attributes:
        train: share of the cells that train the network, of each label.
        val: share of the validation cells; what remains are the test cells.
        test_mice: mice whose cells are all test cells; the cells of the others are then train and val alone, in
            proportion to the shares above.
        seed: seed of the draw, the same in every run, so that seeds and arms can be compared.
        max_match_distance: cells without an id that lie this close on two days of one mouse may be one physical
            cell, and come to the same side; in the unit of their positions.
    """

    train: float = 0.8
    val: float = 0.1
    test_mice: list[str] = field(default_factory=list)
    seed: int = 0
    max_match_distance: float = 5.0

    def __post_init__(self) -> None:
        if not (0 < self.train < 1 and 0 <= self.val < 1 and self.train + self.val <= 1):
            raise ConfigError(
                f"data.spec.cells divides the cells into {self.train} train and {self.val} val; write shares that add "
                "up to at most 1"
            )


@dataclass(frozen=True)
class CalciumSpec:
    """A set of calcium recordings with cell types (Bugeon et al., 2022, or a lab's own).

    Attributes:
        name: name of the set.
        mice: mice whose recordings are read; empty for all.
        recordings: glob patterns: of the runs below a session's folder in the published tree ("Blank/01"), or of NWB
            files below the data root.
        behavior: continuous behaviour, any of `BEHAVIOR_SERIES` in the published tree, names of time series in NWB files.
        state: whether the behavioural state is privileged input too, one channel a state.
        train_time: share of a recording, from its start, that trains; the rest validates.
        radius: cells closer than this are neighbours (Mi et al., 2023), in the unit of the positions.
        cells: how cells are divided.
        types: how labels become classes.
        archive: where a missing tree comes from; None for one's own.
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

    def __post_init__(self) -> None:
        if not 0 < self.train_time < 1:
            raise ConfigError(f"data.spec.train_time is {self.train_time}; it is a share between 0 and 1")
