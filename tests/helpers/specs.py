"""Specs of the benchmark sets for tests."""

from blend_pl.data.nlb.spec import (
    BehaviorSpec,
    HeldOutSpec,
    JitterSpec,
    PsthSpec,
    ScoringWindow,
    SessionFiles,
    SessionSpec,
    SplitSpec,
    TimingSpec,
    WindowSpec,
)


def _files(pattern: str) -> SessionFiles:
    return SessionFiles(f"{pattern}*desc-train*.nwb", f"{pattern}*desc-test*.nwb")


MC_MAZE = SessionSpec(
    name="mc_maze",
    files=_files("sub-Jenkins/*ses-full"),
    window=WindowSpec(-250, 450, align="move_onset_time"),
    behavior=BehaviorSpec("hand_vel", lag_ms=100),
    psth=PsthSpec(["trial_type", "trial_version"], smoothing_ms=70),
)

MC_MAZE_SMALL = SessionSpec(
    name="mc_maze_small",
    files=_files("sub-Jenkins/*ses-small"),
    window=WindowSpec(-250, 450, align="move_onset_time"),
    behavior=BehaviorSpec("hand_vel", lag_ms=120),
    psth=PsthSpec(["trial_type", "trial_version"], smoothing_ms=50),
)

MC_RTT = SessionSpec(
    name="mc_rtt",
    files=_files("sub-Indy/"),
    window=WindowSpec(0, 600, align="start_time"),
    behavior=BehaviorSpec("finger_vel", lag_ms=140),
)

AREA2_BUMP = SessionSpec(
    name="area2_bump",
    files=_files("sub-Han/"),
    window=WindowSpec(-100, 500, align="move_onset_time"),
    behavior=BehaviorSpec("hand_vel", lag_ms=-20),
    psth=PsthSpec(["cond_dir", "ctr_hold_bump"], smoothing_ms=40),
    decode_by="ctr_hold_bump",
)

DMFC_RSG = SessionSpec(
    name="dmfc_rsg",
    files=_files("sub-Haydn/"),
    window=WindowSpec(-1500, 0, align="go_time", jitter=JitterSpec("tp", 300)),
    behavior=BehaviorSpec(trial_columns=["is_eye", "theta", "is_short", "ts", "tp"]),
    psth=PsthSpec(["is_eye", "theta", "is_short", "ts"], smoothing_ms=70),
    scoring_window=ScoringWindow("set_time", "go_time"),
    timing=TimingSpec(["is_eye", "theta", "is_short"], "tp"),
    outlier_column="is_outlier",
)

OWN_SESSION = SessionSpec(
    name="own_session",
    files=SessionFiles("own.nwb"),
    window=WindowSpec(0, 600, stride_ms=300),
    behavior=BehaviorSpec("running"),
    held_out=HeldOutSpec(column=None, fraction=0.25),
    split=SplitSpec(column=None, by="block"),
)
