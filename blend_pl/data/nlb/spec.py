"""Declarative description of a session: a benchmark set or a recording of the user."""

from dataclasses import dataclass, field
from typing import Literal

from blend_pl.data.io.clock import ClockSpec
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.utils.checks import NON_NEGATIVE, check_range


@dataclass(frozen=True)
class SessionFiles:
    """Glob patterns of the recording, relative to the data root.

    Attributes:
        train: file with held-in and held-out units, behavior, and the training and validation trials.
        test: file with held-in units of the test trials; None if one file contains everything.
    """

    train: str
    test: str | None = None


@dataclass(frozen=True)
class DandiArchive:
    """A pinned DANDI dandiset from which missing files are downloaded.

    Attributes:
        dandiset: six digits, e.g. "000128".
        version: published version, e.g. "0.220113.0400".
    """

    dandiset: str
    version: str


@dataclass(frozen=True)
class JitterSpec:
    """Random shift of training and validation windows, so that the event's position carries no information.

    Windows are shifted later by whole bins. Shifts are uniform from 0 to the largest one with which the interval before
    the event is inside the window.

    Attributes:
        interval: trials column (ms), length of that interval (DMFC_RSG: tp); trials without it are not shifted.
        max_ms: largest shift.
        seed: seed of the draw.
    """

    interval: str
    max_ms: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, max_ms=self.max_ms, seed=self.seed)


@dataclass(frozen=True)
class WindowSpec:
    """The window of time that is one trial.

    Attributes:
        align: trials column (s) of the event to which windows are aligned; None for windows over the whole recording.
        start_ms: start relative to `align`, inclusive (0 without `align`).
        stop_ms: stop relative to `align`, exclusive (the window's length without `align`).
        forward_ms: length of the forward prediction after `stop_ms`.
        stride_ms: distance between the starts of continuous windows; required without `align`, invalid with it.
        jitter: random shift of aligned windows; None for none.
    """

    start_ms: int
    stop_ms: int
    align: str | None = None
    forward_ms: int = 200
    stride_ms: int | None = None
    jitter: JitterSpec | None = None


@dataclass(frozen=True)
class BehaviorSpec:
    """The privileged input: a time series, columns of the trials table, or both.

    Attributes:
        series: name of a TimeSeries in the file, e.g. "hand_vel", also the target of velocity scores, or names of
            several with the same timestamps, whose columns are joined; None for none.
        lag_ms: delay of the series relative to the spikes (cortex leads movement).
        columns: selected columns of the series; None for all.
        period: period of circular columns in the unit of the series (360 degrees), each of which becomes its cosine and
            sine; a list has one entry per selected column, None for columns that are not circular.
        trial_columns: numeric columns of the trials table, each a channel that is constant over a trial; a column with
            several values per trial is as many channels.
        categories: columns of the trials table with categories, numbers or text (reach target, condition); each value
            is a channel that is 1 in its trials and 0 in others.
        quantity: what the series is, "velocity" or "position".
        target: what is derived from the series, decoded, and named in tables: "velocity", "speed" or "position"; None
            for the series itself.
        smoothing_ms: standard deviation of the Gaussian kernel that smooths the velocity of a position; 0 for none.
    """

    series: str | list[str] | None = None
    lag_ms: int = 0
    columns: list[int] | None = None
    trial_columns: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    period: float | list[float | None] | None = None
    quantity: Literal["velocity", "position"] = "velocity"
    target: Literal["velocity", "speed", "position"] | None = None
    smoothing_ms: float = 30.0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, smoothing_ms=self.smoothing_ms)

    @property
    def series_names(self) -> list[str]:
        """Names of the series, empty without one."""
        return [self.series] if isinstance(self.series, str) else self.series or []


@dataclass(frozen=True)
class HeldOutSpec:
    """Units that are predicted but never an input. Exactly one of column, units and fraction is set.

    The fraction 0 and `by_fold` replace the other settings, which need not be set to null.

    Attributes:
        column: boolean column of the units table.
        units: unit ids.
        fraction: fraction of the units, drawn with `seed`; 0 for no held-out unit, so that there is no co-bps.
        seed: seed of the draw.
        by_fold: instead of these units, each fold of `data.fold` holds out another part of the units, which are divided
            with `seed`.
    """

    column: str | None = "heldout"
    units: list[int] | None = None
    fraction: float | None = None
    seed: int = 0
    by_fold: bool = False

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, seed=self.seed)


@dataclass(frozen=True)
class SplitSpec:
    """Division of the trials. The values of `column`, if set, are train, val, test or none.

    Attributes:
        column: trials column; None to divide by the fractions below.
        by: "trial" draws trials at random with `seed`; "block" divides the recording into contiguous blocks and
            excludes windows across a border.
        train: fraction of training trials.
        val: fraction of validation trials; the others are test trials.
        seed: seed of the draw.
    """

    column: str | None = "split"
    by: str = "trial"
    train: float = 0.7
    val: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, seed=self.seed)


@dataclass(frozen=True)
class PsthSpec:
    """Conditions of averaged responses.

    Attributes:
        condition: trials columns that together identify a condition.
        smoothing_ms: standard deviation of the Gaussian kernel of the empirical PSTH.
    """

    condition: list[str]
    smoothing_ms: int


@dataclass(frozen=True)
class ScoringWindow:
    """The scored part of a window; models see and are trained on the whole window.

    Attributes:
        start: trials column (s), inclusive.
        stop: trials column (s), exclusive.
    """

    start: str
    stop: str


@dataclass(frozen=True)
class TimingSpec:
    """Produced intervals, which correlate with the speed of the neural trajectory (Sohn et al., 2019).

    Attributes:
        condition: trials columns that together identify a condition, within which they are correlated.
        interval: trials column of the produced interval.
    """

    condition: list[str]
    interval: str


@dataclass(frozen=True)
class SessionSpec:
    """One recording session in the format of the Neural Latents Benchmark '21 (Pei et al., 2021).

    Attributes:
        name: name of the set, e.g. "mc_maze".
        files: files of the recording.
        window: the window of time that is one trial.
        behavior: privileged input; None for a session without behavior.
        held_out: selection of the held-out units.
        split: division of the trials.
        psth: conditions for the PSTH score; None if trials do not repeat.
        decode_by: trials column with one velocity decoder per value (Area2_Bump: active and passive); None for one.
        scoring_window: scored part of a window; None for the whole window.
        timing: produced intervals for the speed score; None for no such score.
        outlier_column: trials column that marks outliers: trials without behavior and condition; None for none.
        units: the units of the file to use.
        trials: table of intervals that are the trials; None for `intervals/trials`, or the only other table.
        clock: units of time of a file whose times are not seconds of the session.
        archive: source of missing files; None if there is none.
        min_rate_hz: leaves out units with fewer spikes per second in the training trials alone, so that scored trials
            do not decide which units are scored; 0 for none.

    Example:
        >>> spec = SessionSpec(
        ...     name="my_session",
        ...     files=SessionFiles(train="my_session.nwb"),
        ...     window=WindowSpec(align="go_cue_time", start_ms=-200, stop_ms=400),
        ...     behavior=BehaviorSpec(series="hand_vel", lag_ms=100),
        ...     held_out=HeldOutSpec(column=None, fraction=0.25),
        ... )
        >>> spec.held_out.fraction, spec.window.forward_ms
        (0.25, 200)
    """

    name: str
    files: SessionFiles
    window: WindowSpec
    behavior: BehaviorSpec | None = None
    held_out: HeldOutSpec = field(default_factory=HeldOutSpec)
    split: SplitSpec = field(default_factory=SplitSpec)
    psth: PsthSpec | None = None
    decode_by: str | None = None
    scoring_window: ScoringWindow | None = None
    timing: TimingSpec | None = None
    outlier_column: str | None = None
    units: UnitSelection = field(default_factory=UnitSelection)
    trials: str | None = None
    clock: ClockSpec = field(default_factory=ClockSpec)
    archive: DandiArchive | None = None
    min_rate_hz: float = 0.0

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, min_rate_hz=self.min_rate_hz)
