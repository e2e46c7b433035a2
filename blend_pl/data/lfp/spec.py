"""What a set of sessions is made of, as data: which sessions of which layout, and where they come from."""

from dataclasses import dataclass, field

from blend_pl.errors import ConfigError


@dataclass(frozen=True)
class ZenodoArchive:
    """Zenodo records from which missing Makin files are downloaded.

    Attributes:
        records: numbers of the records, searched in this order: the one of all `.mat` files, and one a broadband file.
    """

    records: list[int]


@dataclass(frozen=True)
class LFPSeriesNames:
    """What things are called in NWB files.

    Attributes:
        lfp: the ElectricalSeries, or as much of its path as makes it the only one; null where there is one only.
        velocity: time series of the velocity; null where there is a position instead.
        position: time series of the position, whose velocity is taken; null where there is a velocity.
        columns: which columns of that series to use; null for all.
        line_hz: frequency of the mains, which is taken out; null to leave it.
    """

    lfp: str | None = None
    velocity: str | None = None
    position: str | None = None
    columns: list[int] | None = None
    line_hz: float | None = 60.0


@dataclass(frozen=True)
class LFPSpec:
    """Sessions of spikes, field potentials and behaviour; several layouts may be in one set.

    Attributes:
        name: name of the set.
        makin: sessions of O'Doherty et al. (2017), e.g. "indy_20160622_01".
        flint: sessions of Flint et al. (2012): "e1_2" is the second Subject of `Flint_2012_e1.mat`.
        nwb: glob patterns of NWB files below the data root, each file a session that is named like it.
        names: what things are called in these NWB files.
        min_rate_hz: units that fire less are left out.
        unsorted: whether spikes that no unit was found for count as a unit of their channel (Makin).
        archive: where missing Makin files come from; None to have them put there by hand.
    """

    name: str
    makin: list[str] = field(default_factory=list)
    flint: list[str] = field(default_factory=list)
    nwb: list[str] = field(default_factory=list)
    names: LFPSeriesNames = field(default_factory=LFPSeriesNames)
    min_rate_hz: float = 1.0
    unsorted: bool = False
    archive: ZenodoArchive | None = None

    def __post_init__(self) -> None:
        if not (self.makin or self.flint or self.nwb):
            raise ConfigError("data.spec names no session; list some in makin, flint or nwb")
        if self.nwb and (self.names.velocity is None) == (self.names.position is None):
            raise ConfigError(
                "data.spec.names must name either the velocity or the position; set one to a time series of the files"
            )
