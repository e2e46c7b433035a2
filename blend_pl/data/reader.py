"""From the NWB files of one session to tensors, split by split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from blend_pl.data.behavior import cut_behavior
from blend_pl.data.binning import Population
from blend_pl.data.heldout import check_held_out, held_out_units, preview
from blend_pl.data.placement import labelled_windows, windows_of_test_file
from blend_pl.data.recording import Recording, read_recording
from blend_pl.data.scoring import Scoring
from blend_pl.data.session import SessionTensors, concatenate
from blend_pl.data.spec import SessionSpec
from blend_pl.data.splits import SPLITS, check_split
from blend_pl.data.windows import Shape, Windows
from blend_pl.errors import ConfigError, DataError


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
    if spec.window.align is None and (spec.psth is not None or spec.decode_by is not None):
        raise ConfigError("windows without window.align have no trials; set psth: null and decode_by: null")
    if spec.psth is not None and (not spec.psth.condition or spec.psth.smoothing_ms < 1):
        raise ConfigError("psth needs at least one column in psth.condition and psth.smoothing_ms of 1 or more")
    return shape


def read_session(spec: SessionSpec, train_file: Path, test_file: Path | None, bin_ms: int) -> dict[str, SessionTensors]:
    """Bins a session exactly as nlb_tools does (Pei et al., 2021).

    Units are ordered held-in first and, on each side, by id, as nlb_tools orders them. Trials keep the order of the
    trials table; `trial_id` counts the rows of the train file, then those of the test file. PSTHs average training and
    validation trials together.

    Args:
        spec: what the session is made of.
        train_file: all units, behaviour, training and validation trials, and test trials where there is no test file.
        test_file: held-in units of the test trials; None if there is none.
        bin_ms: bin width.

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
    scoring = Scoring(spec, train, groups, windows.select(np.isin(labels, ("train", "val"))))
    n_channels = 0 if train.behavior is None else train.behavior.shape[1]
    everything = _tensors(train, groups, windows, scoring, n_channels)
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
        tested = _tensors(test, groups, placed, scoring, n_channels, stitched=True)
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
        Its test trials, T + F bins; D = 0 where the file has no behaviour, and no PSTHs.

    Raises:
        ConfigError: settings that contradict one another.
        DataError: the file is damaged, lacks something or has no test trials.
    """
    shape = check_spec(spec, bin_ms)
    test = read_recording(test_file, spec.behavior, bin_ms, behavior_required=False)
    groups = [_all_units(test), Population.unrecorded(np.empty(0, dtype=np.int64))]
    windows = windows_of_test_file(spec, shape, test, groups)
    scoring = Scoring(replace(spec, psth=None, decode_by=None), test, groups, windows)
    n_channels = 0 if test.behavior is None else test.behavior.shape[1]
    return _tensors(test, groups, windows, scoring, n_channels, stitched=True)


def _all_units(recording: Recording) -> Population:
    if not len(recording.units):
        raise DataError(f"{recording.path} has no units; choose a file with sorted units")
    return Population.from_units(recording.units, np.ones(len(recording.units), dtype=bool), recording.n_ms)


def _tensors(
    recording: Recording,
    groups: list[Population],
    windows: Windows,
    scoring: Scoring,
    n_channels: int,
    stitched: bool = False,
) -> SessionTensors:
    """All given windows of one file; behaviour is NaN in all `n_channels` where the file has none."""
    shape = windows.shape
    size = (windows.start, shape.n_bins, shape.bin_ms)
    spikes = np.concatenate([group.counts(*size) for group in groups], axis=2)
    observed = np.stack([group.observed(*size) for group in groups], axis=2)
    if stitched:
        foreign = groups[0].recorded.interrupted(*size)
        foreign[:, : shape.n_observed] = False
        spikes[foreign], observed[foreign] = 0, False
    behavior = np.full((len(windows), shape.n_bins, n_channels), np.nan, dtype=np.float32)
    if recording.behavior is not None:
        behavior = cut_behavior(recording.behavior, windows)
    return SessionTensors(
        spikes=torch.from_numpy(spikes),
        observed=torch.from_numpy(observed),
        behavior=torch.from_numpy(behavior),
        trial_id=torch.from_numpy(windows.row.astype(np.int64)),
        condition=torch.from_numpy(scoring.condition(recording.trials, windows)),
        decode_mask=torch.from_numpy(scoring.decode_mask(recording.trials, windows)),
        psth=torch.from_numpy(scoring.psth),
        unit_id=torch.from_numpy(np.concatenate([group.id for group in groups])),
        n_heldin=groups[0].n_units,
        n_forward=shape.n_forward,
        bin_ms=shape.bin_ms,
    )
