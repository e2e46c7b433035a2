"""What a session is made of, as data: every benchmark set and every user's own recording is one `SessionSpec`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SessionFiles:
    """Where the recording lies, as glob patterns relative to the data root.

    Attributes:
        train: file with held-in and held-out units, behaviour and the training and validation trials.
        test: file with held-in units of the test trials; None where one file holds everything.
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
    """Shifts training and validation windows later at random, so that the event's place in them tells nothing.

    Shifts are whole bins, uniform from 0 to as far as the interval before the event stays inside the window.

    Attributes:
        interval: trials column (ms), length of that interval (DMFC_RSG: tp); trials without it are not shifted.
        max_ms: largest shift.
        seed: seed of the draw.
    """

    interval: str
    max_ms: int
    seed: int = 0


@dataclass(frozen=True)
class WindowSpec:
    """Which stretch of time is one trial.

    Attributes:
        align: trials column (s) the window is cut around; None cuts continuous windows from the whole recording.
        start_ms: start relative to `align`, inclusive (0 without `align`).
        stop_ms: stop relative to `align`, exclusive (the window's length without `align`).
        forward_ms: length of the forward-prediction stretch that follows `stop_ms`.
        stride_ms: distance between the starts of continuous windows; only, and always, without `align`.
        jitter: random shift of windows around an event; None for none.
    """

    start_ms: int
    stop_ms: int
    align: str | None = None
    forward_ms: int = 200
    stride_ms: int | None = None
    jitter: JitterSpec | None = None


@dataclass(frozen=True)
class BehaviorSpec:
    """What is privileged: a time series, values of the trials table, or both.

    Attributes:
        series: name of a TimeSeries anywhere in the file, e.g. "hand_vel", which velocity scores decode; None for none.
        lag_ms: the series is read this much later than the spikes (cortex leads movement).
        columns: which columns of the series to use; None for all.
        trial_columns: numeric columns of the trials table; each becomes a channel that is constant over a trial.
        categories: columns of the trials table, numbers or text, that name categories (reach target, condition); each
            value becomes a channel that is 1 in its trials and 0 in others.
    """

    series: str | None = None
    lag_ms: int = 0
    columns: list[int] | None = None
    trial_columns: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HeldOutSpec:
    """Which units the model never sees and must predict. Exactly one way is used: column, units or fraction.

    Attributes:
        column: boolean column of the units table.
        units: unit ids.
        fraction: share of the units, drawn with `seed`.
        seed: seed of that draw.
    """

    column: str | None = "heldout"
    units: list[int] | None = None
    fraction: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class SplitSpec:
    """How trials are divided. With a `column` its values train / val / test / none are used as they are.

    Attributes:
        column: trials column; None divides by the fractions below.
        by: "trial" draws trials at random with `seed`; "block" cuts the recording into contiguous blocks, and a window
            that would cross a border belongs to none.
        train: share of the training trials.
        val: share of the validation trials; what remains is the test set.
        seed: seed of the draw.
    """

    column: str | None = "split"
    by: str = "trial"
    train: float = 0.7
    val: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class PsthSpec:
    """Conditions over which responses are averaged.

    Attributes:
        condition: trials columns that together name a condition.
        smoothing_ms: standard deviation of the Gaussian kernel of the empirical PSTH.
    """

    condition: list[str]
    smoothing_ms: int


@dataclass(frozen=True)
class ScoringWindow:
    """The part of a window that is scored; what lies before and after it is seen and trained on all the same.

    Attributes:
        start: trials column (s), inclusive.
        stop: trials column (s), exclusive.
    """

    start: str
    stop: str


@dataclass(frozen=True)
class TimingSpec:
    """Produced intervals, which the speed of the neural trajectory foretells (Sohn et al., 2019).

    Attributes:
        condition: trials columns that together name a condition, within which they are correlated.
        interval: trials column of the produced interval.
    """

    condition: list[str]
    interval: str


@dataclass(frozen=True)
class SessionSpec:
    """One recording session in the form of the Neural Latents Benchmark '21 (Pei et al., 2021).

    Attributes:
        name: name of the set, e.g. "mc_maze".
        files: where the recording lies.
        window: which stretch of time is one trial.
        behavior: what is privileged; None for a session without behaviour.
        held_out: which units are held out.
        split: how trials are divided.
        psth: conditions for the PSTH score; None where trials do not repeat.
        decode_by: trials column with one velocity decoder per value (Area2_Bump: active and passive); None for one.
        scoring_window: the part of a window that is scored; None for all of it.
        timing: produced intervals for the speed score; None where nothing is timed.
        outlier_column: trials column; where true, neither behaviour nor condition of a trial is used. None for no outliers.
        archive: where missing files come from; None for a user's own file.
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
    archive: DandiArchive | None = None
