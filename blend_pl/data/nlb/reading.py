"""From the NWB files of one session to tensors, split by split."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from blend_pl.data.io.nwb import Columns
from blend_pl.data.nlb.behavior import cut_behavior
from blend_pl.data.nlb.binning import Population
from blend_pl.data.nlb.held_out import check_held_out, held_out_units, preview
from blend_pl.data.nlb.jitter import TOGETHER, jittered
from blend_pl.data.nlb.recording import Recording, read_recording
from blend_pl.data.nlb.scoring_window import scored_bins, scored_range
from blend_pl.data.nlb.session import SessionTensors, concatenate
from blend_pl.data.nlb.spec import Scored, SessionSpec
from blend_pl.data.nlb.splits import SPLITS, check_split
from blend_pl.data.nlb.targets import Scoring
from blend_pl.data.nlb.trial_behavior import TrialBehavior
from blend_pl.data.nlb.trial_values import trusted
from blend_pl.data.nlb.trial_windows import labelled_windows, trials_of, windows_of_test_file
from blend_pl.data.nlb.windows import Shape, Windows
from blend_pl.errors import ConfigError, DataError

Setting = TypeVar("Setting", str | None, Scored | None)


def check_spec(spec: SessionSpec, bin_ms: int) -> Shape:
    """Refuses settings that contradict one another, before any file is opened.

    Returns:
        The size of a window in bins.

    Raises:
        ConfigError: says which setting to change.
    """
    shape = Shape.of(spec.window, bin_ms)
    check_held_out(spec.held_out)
    check_split(spec)
    _check_trials(spec)
    if spec.psth is not None and (not spec.psth.condition or spec.psth.smoothing_ms < 1):
        raise ConfigError("psth needs at least one column in psth.condition and psth.smoothing_ms of 1 or more")
    behavior = spec.behavior
    if behavior is not None and not (behavior.series or behavior.trial_columns or behavior.categories):
        raise ConfigError("behavior names nothing; set its series, trial_columns or categories, or set behavior: null")
    return shape


def _check_trials(spec: SessionSpec) -> None:
    """Refuses settings that need trials where there are none."""
    needs = {
        "window.jitter": spec.window.jitter,
        "psth": spec.psth,
        "decode_by": spec.decode_by,
        "scored": spec.scored,
        "timing": spec.timing,
        "outliers": spec.outliers,
        "behavior.trial_columns": spec.behavior and spec.behavior.trial_columns,
        "behavior.categories": spec.behavior and spec.behavior.categories,
    }
    given = [name for name, value in needs.items() if value]
    if spec.window.align is None and given:
        raise ConfigError(f"windows without window.align have no trials, which {given[0]} needs; set it to null")


def read_session(
    spec: SessionSpec, train_file: Path, test_file: Path | None, bin_ms: int, phase: Literal["val", "test"] = "val"
) -> dict[str, SessionTensors]:
    """Bins a session exactly as nlb_tools does (Pei et al., 2021).

    Units are ordered held-in first and, on each side, by id, as nlb_tools orders them. Trials keep the order of the
    trials table; `trial_id` counts the rows of the train file, then those of the test file. PSTHs average training and
    validation trials together.

    Args:
        spec: what the session is made of.
        train_file: all units, behaviour, training and validation trials, and test trials where there is no test file.
        test_file: held-in units of the test trials; None if there is none.
        bin_ms: bin width.
        phase: "test" where training and validation trials are trained on together, which the draw of jitter depends on.

    Returns:
        "train", "val" and "test", those of them that have trials. Trials of a test file have all N units, the held-out
        ones unobserved, and NaN behaviour where that file has none. Since such files are stitched together from trials,
        their forward bins count as observed only up to the end of the interval that the window starts in.

    Raises:
        ConfigError: settings that contradict one another or the files.
        DataError: files that are damaged, lack something, or do not belong together.
    """
    shape = check_spec(spec, bin_ms)
    train = read_recording(train_file, spec.behavior, bin_ms, behavior_required=True)
    heldout = held_out_units(train.units, spec.held_out, str(train_file))
    groups = [Population.from_units(train.units, side, train.n_ms) for side in (~heldout, heldout)]
    windows, labels = labelled_windows(spec, shape, train, groups)
    if "train" not in labels:
        raise DataError(f"{train_file} has no training trials; check the split and the window of session {spec.name}")
    if spec.window.jitter is not None:
        where = f"the trials table of {train_file}"
        windows = jittered(spec.window, windows, labels, trials_of(train), TOGETHER[phase], where)
    known = windows.select(np.isin(labels, ("train", "val")))
    scoring = Scoring(spec, train, groups, known)
    constant = TrialBehavior(spec.behavior, train.trials or {}, known.row, f"the trials table of {train_file}")
    n_series = 0 if train.behavior is None else train.behavior.shape[1]
    everything = _tensors(spec, train, groups, windows, scoring, constant, n_series)
    sessions = {split: everything.select(torch.from_numpy(labels == split)) for split in SPLITS if split in labels}

    if test_file is not None:
        test = read_recording(test_file, spec.behavior, bin_ms, behavior_required=False)
        heldin = _all_units(test)
        if not np.array_equal(heldin.id, groups[0].id):
            raise DataError(
                f"{test_file} has {len(heldin.id)} units ({preview(heldin.id)}), but {train_file} has "
                f"{len(groups[0].id)} held-in units ({preview(groups[0].id)}); a test file must hold just these: "
                "choose files of one session"
            )
        groups = [heldin, Population.unrecorded(groups[1].id)]
        placed = windows_of_test_file(spec, shape, test, groups)
        tested = _tensors(spec, test, groups, placed, scoring, constant, n_series, stitched=True)
        tested = replace(tested, trial_id=tested.trial_id + windows.n_rows)
        sessions["test"] = concatenate(sessions["test"], tested) if "test" in sessions else tested
    return sessions


def read_test_file(spec: SessionSpec, test_file: Path, bin_ms: int) -> SessionTensors:
    """Bins a test file by itself: all its units are held-in, none are held out.

    Args:
        spec: what the session is made of.
        test_file: held-in units of the test trials.
        bin_ms: bin width.

    Returns:
        Its test trials, T + F bins, without PSTHs; D = 0 where the file has no time series.

    Raises:
        ConfigError: settings that contradict one another.
        DataError: the file is damaged, lacks something or has no test trials.
    """
    shape = check_spec(spec, bin_ms)
    test = read_recording(test_file, spec.behavior, bin_ms, behavior_required=False)
    groups = [_all_units(test), Population.unrecorded(np.empty(0, dtype=np.int64))]
    windows = windows_of_test_file(spec, shape, test, groups)
    scoring = Scoring(replace(spec, psth=None, decode_by=None, timing=None), test, groups, windows)
    constant = TrialBehavior(None, {}, windows.row, "")
    n_series = 0 if test.behavior is None else test.behavior.shape[1]
    return _tensors(spec, test, groups, windows, scoring, constant, n_series, stitched=True)


def _all_units(recording: Recording) -> Population:
    if not len(recording.units):
        raise DataError(f"{recording.path} has no units; choose a file with sorted units")
    return Population.from_units(recording.units, np.ones(len(recording.units), dtype=bool), recording.n_ms)


def _tensors(
    spec: SessionSpec,
    recording: Recording,
    groups: list[Population],
    windows: Windows,
    scoring: Scoring,
    constant: TrialBehavior,
    n_series: int,
    stitched: bool = False,
) -> SessionTensors:
    """All given windows of one file; the time series is NaN in all `n_series` channels where the file has none."""
    shape = windows.shape
    size = (windows.start, shape.n_bins, shape.bin_ms)
    spikes = np.concatenate([group.counts(*size) for group in groups], axis=2)
    observed = np.stack([group.observed(*size) for group in groups], axis=2)
    if stitched:
        foreign = groups[0].recorded.interrupted(*size)
        foreign[:, : shape.n_observed] = False
        spikes[foreign], observed[foreign] = 0, False
    series = np.full((len(windows), shape.n_bins, n_series), np.nan, dtype=np.float32)
    if recording.behavior is not None:
        series = cut_behavior(recording.behavior, windows)
    trials, where = recording.trials or {}, f"the trials table of {recording.path}"
    channels = constant.of(trials, windows.row, where).astype(np.float32)[:, None].repeat(shape.n_bins, axis=1)
    behavior = np.concatenate([series, channels], axis=2)
    behavior[~trusted(trials, _unless_absent(spec.outliers, trials, stitched), windows.row, where)] = np.nan
    bounds = scored_range(_unless_absent(spec.scored, trials, stitched), windows, trials, where)
    group, produced = scoring.timing(recording.trials, windows)
    return SessionTensors(
        spikes=torch.from_numpy(spikes),
        observed=torch.from_numpy(observed),
        scored=torch.from_numpy(scored_bins(bounds, windows)),
        behavior=torch.from_numpy(behavior),
        trial_id=torch.from_numpy(windows.row.astype(np.int64)),
        jitter=torch.from_numpy(windows.jitter),
        condition=torch.from_numpy(scoring.condition(recording.trials, windows)),
        decode_mask=torch.from_numpy(scoring.decode_mask(recording.trials, windows)),
        group=torch.from_numpy(group),
        produced=torch.from_numpy(produced),
        psth=torch.from_numpy(scoring.psth),
        unit_id=torch.from_numpy(np.concatenate([group.id for group in groups])),
        n_heldin=groups[0].n_units,
        n_forward=shape.n_forward,
        n_series=n_series,
        bin_ms=shape.bin_ms,
    )


def _unless_absent(setting: Setting, trials: Columns, stitched: bool) -> Setting | None:
    """A test file need not have the columns that a setting names; it is then as if nothing were set."""
    names = {setting} if isinstance(setting, str) else set(vars(setting).values()) if setting else set()
    return None if stitched and not names <= set(trials) else setting
