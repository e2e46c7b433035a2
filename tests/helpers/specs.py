"""Benchmark sets as the tests need them."""

from blend_pl.data.nlb.spec import Behavior, Files, HeldOut, Jitter, Psth, Scored, SessionSpec, Split, Timing, Window


def _files(pattern: str) -> Files:
    return Files(f"{pattern}*desc-train*.nwb", f"{pattern}*desc-test*.nwb")


MC_MAZE = SessionSpec(
    name="mc_maze",
    files=_files("sub-Jenkins/*ses-full"),
    window=Window(-250, 450, align="move_onset_time"),
    behavior=Behavior("hand_vel", lag_ms=100),
    psth=Psth(["trial_type", "trial_version"], smoothing_ms=70),
)

MC_MAZE_SMALL = SessionSpec(
    name="mc_maze_small",
    files=_files("sub-Jenkins/*ses-small"),
    window=Window(-250, 450, align="move_onset_time"),
    behavior=Behavior("hand_vel", lag_ms=120),
    psth=Psth(["trial_type", "trial_version"], smoothing_ms=50),
)

MC_RTT = SessionSpec(
    name="mc_rtt",
    files=_files("sub-Indy/"),
    window=Window(0, 600, align="start_time"),
    behavior=Behavior("finger_vel", lag_ms=140),
)

AREA2_BUMP = SessionSpec(
    name="area2_bump",
    files=_files("sub-Han/"),
    window=Window(-100, 500, align="move_onset_time"),
    behavior=Behavior("hand_vel", lag_ms=-20),
    psth=Psth(["cond_dir", "ctr_hold_bump"], smoothing_ms=40),
    decode_by="ctr_hold_bump",
)

DMFC_RSG = SessionSpec(
    name="dmfc_rsg",
    files=_files("sub-Haydn/"),
    window=Window(-1500, 0, align="go_time", jitter=Jitter("tp", 300)),
    behavior=Behavior(trial_columns=["is_eye", "theta", "is_short", "ts", "tp"]),
    psth=Psth(["is_eye", "theta", "is_short", "ts"], smoothing_ms=70),
    scored=Scored("set_time", "go_time"),
    timing=Timing(["is_eye", "theta", "is_short"], "tp"),
    outliers="is_outlier",
)

OWN_SESSION = SessionSpec(
    name="own_session",
    files=Files("own.nwb"),
    window=Window(0, 600, stride_ms=300),
    behavior=Behavior("running"),
    held_out=HeldOut(column=None, fraction=0.25),
    split=Split(column=None, by="block"),
)
