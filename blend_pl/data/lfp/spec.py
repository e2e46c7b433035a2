"""Specification of a set of sessions: layouts, names and archive."""

from dataclasses import dataclass, field

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.selection import RowSelection
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.errors import ConfigError
from blend_pl.utils.checks import NON_NEGATIVE, POSITIVE, check_range


@dataclass(frozen=True)
class ZenodoArchive:
    """Zenodo records from which missing Makin files are downloaded.

    Attributes:
        records: numbers of the records in the order of search: one with all `.mat` files, and one per broadband file.
    """

    records: list[int]


@dataclass(frozen=True)
class LFPSeriesNames:
    """Names of the series in NWB files.

    Attributes:
        lfp: name of the ElectricalSeries, or enough of the end of its path to make it unique; null if there is only
            one; a list to join the channels of several series on one clock (probes).
        velocity: time series of the velocity; null if there is a position instead.
        position: time series of the position, which is differentiated; null if there is a velocity.
        columns: columns of this series to use; null for all.
        line_hz: frequency of the line noise to remove; null for none.
        smoothing_ms: standard deviation of the Gaussian kernel that smooths the velocity of a position, because
            differentiation amplifies the noise of tracking; 0 for none.
    """

    lfp: str | list[str] | None = None
    velocity: str | None = None
    position: str | None = None
    columns: list[int] | None = None
    line_hz: float | None = 60.0
    smoothing_ms: float = 30.0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, smoothing_ms=self.smoothing_ms)
        check_range(POSITIVE, line_hz=self.line_hz)


@dataclass(frozen=True)
class LFPSpec:
    """A set of sessions of spikes, field potentials and behavior, in one or more layouts.

    Attributes:
        name: name of the set.
        makin: sessions of O'Doherty et al. (2017), e.g. "indy_20160622_01".
        flint: sessions of Flint et al. (2012): "e1_2" is the second Subject of `Flint_2012_e1.mat`.
        nwb: glob patterns of NWB files below the data root; each file is a session with the file's stem as its name,
            or with its path below the root if several files have the same stem.
        names: names of the series in these NWB files.
        units: units of these files to use; None for all of `units`, or of the only other table with spike times.
        channels: rows of the electrodes tables of these files to use; None for all.
        bad_channels: channels to leave out, by name ("e4" or 4 is the electrode with the id 4): a list for all
            sessions, or a list for each session by its name.
        clock: unit of the spike times of these files, if they are not seconds; there are no events of trials.
        min_rate_hz: minimum firing rate of the units to keep.
        unsorted: include unsorted spikes, as one more unit of their channel (Makin).
        archive: source of missing Makin files; None for no download.
    """

    name: str
    makin: list[str] = field(default_factory=list)
    flint: list[str] = field(default_factory=list)
    nwb: list[str] = field(default_factory=list)
    names: LFPSeriesNames = field(default_factory=LFPSeriesNames)
    units: UnitSelection | None = None
    channels: RowSelection | None = None
    bad_channels: list[int | str] | dict[str, list[int | str]] = field(default_factory=list)
    clock: ClockSpec = field(default_factory=ClockSpec)
    min_rate_hz: float = 1.0
    unsorted: bool = False
    archive: ZenodoArchive | None = None

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, min_rate_hz=self.min_rate_hz)
        if not (self.makin or self.flint or self.nwb):
            raise ConfigError("data.spec lists no session; add some to makin, flint or nwb")
        if self.nwb and (self.names.velocity is None) == (self.names.position is None):
            raise ConfigError(
                "data.spec.names must have either a velocity or a position; set one to a time series of the files"
            )

        if self.clock.events is not None:
            raise ConfigError(
                "data.spec.clock.events is the start from which events of trials count, and these sessions have no "
                "trials; remove it"
            )

    def bad_channels_of(self, session: str) -> list[int | str]:
        """Returns the channels of a session to leave out."""
        return self.bad_channels.get(session, []) if isinstance(self.bad_channels, dict) else self.bad_channels
