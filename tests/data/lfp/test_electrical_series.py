"""Tests of the gains, channels, probes and clocks of field potentials in NWB files."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.probe_files import SECONDS, potentials, right_lfp, write_probes
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.data.io.selection import RowSelection
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.spec import LFPSeriesNames
from blend_pl.errors import DataError

NAMES = LFPSeriesNames(velocity="hand_vel", line_hz=None)
PROBES = LFPSeriesNames(velocity="hand_vel", line_hz=None, lfp=["ProbeA", "ProbeB"])


def read(path: Path, names: LFPSeriesNames = NAMES, **settings: Any) -> CrossModalRecording:
    return read_nwb(path, names, 1.0, **settings)


def assert_is_right(recording: CrossModalRecording, volts: np.ndarray) -> None:
    """Checks correlation and amplitude of each channel away from the ends, where filters have transients."""
    inner = slice(300, recording.n_bins - 300)
    lfp, expected = recording.lfp[inner], right_lfp(volts, recording.n_bins)[inner]
    assert lfp.shape == expected.shape
    for channel, values in zip(lfp.T, expected.T, strict=True):
        assert np.corrcoef(channel, values)[0, 1] > 0.998
        assert channel.std() == pytest.approx(values.std(), rel=0.03)


@pytest.mark.parametrize(
    ("gain", "conversion", "offset", "dtype"),
    [
        (np.array([0.25, 0.25, 0.25, 2.0, 2.0, 2.0]), 1e-6, 0.0, np.int16),
        (np.array([0.05, 4.0, 1.0, 0.2, 0.5, 0.1]), 1e-6, 0.0, np.int32),
        (np.ones(6), 2.5e-7, -2.5e-7 * 32768, np.uint16),
        (np.array([-1.0, 1.0, 1.0, -2.0, 1.0, 1.0]), 1e-9, 1e-3, np.float64),
    ],
)
def test_lfp_is_in_volts_with_the_factors_of_each_channel(
    tmp_path: Path, gain: np.ndarray, conversion: float, offset: float, dtype: type
) -> None:
    volts = potentials(6)
    data = (volts - offset) / (conversion * gain)
    data = data.astype(dtype) if np.dtype(dtype).kind == "f" else np.round(data).astype(dtype)
    arguments = {"data": data, "conversion": conversion, "offset": offset, "channel_conversion": gain}
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": arguments})
    recording = read(tmp_path / "day1.nwb")
    assert recording.channel_id == tuple(f"e{k}" for k in range(6))
    assert recording.notes == ()
    assert_is_right(recording, volts)


@pytest.mark.parametrize(("dead", "value"), [([2], 0.0), ([0, 5], 3e-4), ([4], np.nan), ([1], np.inf)])
def test_channels_without_a_signal_are_left_out_with_their_share(tmp_path: Path, dead: list[int], value: float) -> None:
    volts = potentials(6)
    damaged = volts.copy()
    damaged[:, dead] = value
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": damaged}})
    recording = read(tmp_path / "day1.nwb")
    live = [k for k in range(6) if k not in dead]
    assert recording.channel_id == tuple(f"e{k}" for k in live)
    (note,) = recording.notes
    share = f"{len(dead)} of 6 channels ({100 * len(dead) / 6:.0f} %)"
    assert share in note
    assert note.endswith(", ".join(f"e{k}" for k in dead))
    assert_is_right(recording, volts[:, live])


def test_channels_that_are_partly_missing_raise_until_they_are_left_out(tmp_path: Path) -> None:
    volts = potentials(6)
    damaged = volts.copy()
    damaged[5000:7400, [1, 3]] = np.nan
    path = tmp_path / "day1.nwb"
    write_probes(path, {"ElectricalSeries": {"data": damaged}})
    with pytest.raises(DataError, match=r"not finite in 2 of 6 channels: e1 \(10 %\), e3 \(10 %\); .*bad_channels"):
        read(path)
    assert_is_right(read(path, bad_channels=[1, "e3"]), volts[:, [0, 2, 4, 5]])


def test_flat_stretches_and_weak_channels_are_mentioned(tmp_path: Path) -> None:
    damaged = potentials(6)
    damaged[:6000, 2] = damaged[6000, 2]
    damaged[:, 4] *= 1e-3
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": damaged}})
    flat, weak = read(tmp_path / "day1.nwb").notes
    assert "channels e2 are flat for 25 % or more" in flat
    assert "channels e4 vary less than 1 % of the median channel" in weak


def test_series_without_any_signal_raises(tmp_path: Path) -> None:
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": np.zeros((24_000, 3))}})
    with pytest.raises(DataError, match="no channel with a signal: its 3 channels are constant or NaN"):
        read(tmp_path / "day1.nwb")


@pytest.mark.parametrize(
    ("values", "selection"),
    [
        ([False, True, False, False, False, True], RowSelection("bad", [False])),
        (["ok", "noisy", "ok", "ok", "ok", "dead"], RowSelection("quality", ["ok"])),
        ([1.0, 0.0, 1.0, 1.0, 1.0, 2.0], RowSelection("good", [1])),
    ],
)
def test_channels_are_selected_by_a_column_of_the_electrodes(
    tmp_path: Path, values: list[Any], selection: RowSelection
) -> None:
    volts = potentials(6)
    columns = {selection.column: values}
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": volts}}, columns, n_electrodes=6)
    recording = read(tmp_path / "day1.nwb", channels=selection)
    assert recording.channel_id == ("e0", "e2", "e3", "e4")
    assert "2 of 6 channels (33 %) are left out by data.spec.channels" in recording.notes[0]
    assert_is_right(recording, volts[:, [0, 2, 3, 4]])


def test_column_of_electrodes_follows_the_rows_of_the_series(tmp_path: Path) -> None:
    volts = potentials(3)
    columns = {"area": ["M1", "PMd", "M1", "PMd", "M1", "M1"]}
    series = {"ElectricalSeries": {"data": volts, "electrodes": [5, 3, 0]}}
    write_probes(tmp_path / "day1.nwb", series, columns, list(range(10, 16)), n_electrodes=6)
    recording = read(tmp_path / "day1.nwb", channels=RowSelection("area", ["M1"]))
    assert recording.channel_id == ("e15", "e10")
    assert_is_right(recording, volts[:, [0, 2]])
    with pytest.raises(DataError, match=r"no channel e7, only e15, e13, e10; correct data\.spec\.bad_channels"):
        read(tmp_path / "day1.nwb", bad_channels=["e7"])


def test_unknown_column_or_value_of_electrodes_raises(tmp_path: Path) -> None:
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": potentials(6)}})
    with pytest.raises(DataError, match=r"no column 'bad'; set data\.spec\.channels\.column to one it has: .*location"):
        read(tmp_path / "day1.nwb", channels=RowSelection("bad", [False]))
    with pytest.raises(DataError, match=r"no row with location V1; .* some of its values: M1 \(12 rows\)"):
        read(tmp_path / "day1.nwb", channels=RowSelection("location", ["V1"]))


def test_channels_of_two_probes_are_joined(tmp_path: Path) -> None:
    volts = potentials(7)
    probes = {
        "ProbeA": {"data": np.round(volts[:, :3] / 5e-7).astype(np.int16), "conversion": 5e-7},
        "ProbeB": {"data": volts[:-200, 3:]},
    }
    write_probes(tmp_path / "day1.nwb", probes)
    recording = read(tmp_path / "day1.nwb", PROBES)
    assert recording.channel_id == tuple(f"e{k}" for k in range(7))
    assert_is_right(recording, volts[:-200])
    assert "the last 0.83 % of the samples are not in all series" in recording.notes[0]
    one = read(tmp_path / "day1.nwb", LFPSeriesNames(velocity="hand_vel", line_hz=None, lfp="ProbeB"))
    assert_is_right(one, volts[:-200, 3:])
    with pytest.raises(
        DataError, match=r"one ElectricalSeries, it has: .*ProbeA, .*ProbeB; set data\.spec\.names\.lfp"
    ):
        read(tmp_path / "day1.nwb")


def test_channels_of_probes_with_the_same_electrodes_have_names_of_their_series(tmp_path: Path) -> None:
    volts = potentials(4)
    probes = {name: {"data": volts[:, k : k + 2], "electrodes": [0, 1]} for name, k in (("ProbeA", 0), ("ProbeB", 2))}
    write_probes(tmp_path / "day1.nwb", probes)
    assert read(tmp_path / "day1.nwb", PROBES).channel_id == ("ProbeA/e0", "ProbeA/e1", "ProbeB/e0", "ProbeB/e1")


@pytest.mark.parametrize("clock", [{"rate": 500.0}, {"starting_time": 1.5}, {"rate": 1000.5}])
def test_probes_on_other_clocks_raise(tmp_path: Path, clock: dict[str, float]) -> None:
    volts = potentials(4)
    write_probes(tmp_path / "day1.nwb", {"ProbeA": {"data": volts[:, :2]}, "ProbeB": {"data": volts[:, 2:], **clock}})
    with pytest.raises(DataError, match=r"ProbeB of .* starts at .* only series on one clock can be joined") as error:
        read(tmp_path / "day1.nwb", PROBES)
    assert "\n" not in str(error.value)


def test_one_probe_twice_raises(tmp_path: Path) -> None:
    write_probes(tmp_path / "day1.nwb", {"ProbeA": {"data": potentials(2)}})
    with pytest.raises(DataError, match="twice"):
        read(tmp_path / "day1.nwb", LFPSeriesNames(velocity="hand_vel", lfp=["ProbeA", "LFP/ProbeA"]))


def test_transposed_series_raises(tmp_path: Path) -> None:
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": potentials(4)}})
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        group = file["processing/ecephys/LFP/ElectricalSeries"]
        data = group["data"][()].T
        del group["data"]
        group["data"] = data
    with pytest.raises(DataError, match=r"4 samples of 24000 channels and 4 electrodes: it is transposed"):
        read(tmp_path / "day1.nwb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: group["data"].attrs.update(conversion=0.0), "zero or not finite"),
        (lambda group: group["data"].attrs.update(offset=np.nan), "zero or not finite"),
        (lambda group: group.create_dataset("channel_conversion", data=np.ones(3)), "3 values of channel_conversion"),
        (lambda group: group["starting_time"].attrs.update(rate=0.0), "starts at 0.0 s with 0.0 samples"),
        (lambda group: group["electrodes"].__setitem__(0, 99), "electrodes that are not in the electrodes table of 12"),
    ],
)
def test_contradictory_series_raise(tmp_path: Path, change: Any, message: str) -> None:
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": potentials(4)}})
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        change(file["processing/ecephys/LFP/ElectricalSeries"])
    with pytest.raises(DataError, match=message):
        read(tmp_path / "day1.nwb")


def test_float32_timestamps_that_resolve_too_little_are_named(tmp_path: Path) -> None:
    volts = potentials(2)
    for start, is_right in ((100.0, True), (2_000_000.0, False)):
        times = (start + np.arange(len(volts)) / 1000).astype(np.float32)
        write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": volts, "timestamps": times}})
        with h5py.File(tmp_path / "day1.nwb", "a") as file:
            for name in ("processing/behavior/hand_vel/timestamps", "units/spike_times"):
                file[name][...] += start
        if is_right:
            assert_is_right(read(tmp_path / "day1.nwb"), volts)
        else:
            with pytest.raises(DataError, match=r"timestamps of type float32, which resolves 0\.12 s at 2"):
                read(tmp_path / "day1.nwb")


@pytest.mark.parametrize(
    ("column", "values", "selected"),
    [("quality", ["good", "mua", "good", "noise", "good", "mua"], ["good"]), ("ok", [1, 0, 1, 0, 1, 0], [True])],
)
def test_units_are_selected_by_a_column(tmp_path: Path, column: str, values: list[Any], selected: list[Any]) -> None:
    series = {"ElectricalSeries": {"data": potentials(2)}}
    write_probes(tmp_path / "day1.nwb", series, unit_columns={column: values})
    recording = read(tmp_path / "day1.nwb", units=UnitSelection(column=column, values=selected))
    assert recording.unit_id == ("u0", "u2", "u4")
    assert "3 of 6 units (50 %) are left out by data.spec.units" in recording.notes[0]
    assert recording.spikes.sum(0).tolist() == [round(SECONDS / 0.2)] * 3


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.sampled_from([-3.0, 0.1, 0.25, 1.0, 2.0, 7.5]), min_size=4, max_size=4),
    st.floats(-1e-3, 1e-3),
    st.sampled_from(["f4", "f8"]),
)
def test_gains_do_not_change_the_result(
    tmp_path_factory: pytest.TempPathFactory, gain: list[float], offset: float, dtype: str
) -> None:
    volts, path = potentials(4), tmp_path_factory.mktemp("gain") / "day1.nwb"
    data = ((volts - offset) / (1e-6 * np.array(gain))).astype(dtype)
    arguments = {"data": data, "conversion": 1e-6, "offset": offset, "channel_conversion": gain}
    write_probes(path, {"ElectricalSeries": arguments})
    assert_is_right(read(path), volts)


@pytest.mark.parametrize(
    ("dataset", "attribute", "value", "message"),
    [
        ("data", "conversion", "microvolts", "conversion microvolts; a number is needed"),
        ("data", "offset", "x", "offset x; a number is needed"),
        ("starting_time", "rate", "fast", "rate fast; a number is needed"),
        ("starting_time", "rate", None, "rate none; a number is needed"),
    ],
)
def test_attributes_that_are_no_numbers_raise(
    tmp_path: Path, dataset: str, attribute: str, value: str | None, message: str
) -> None:
    write_probes(tmp_path / "day1.nwb", {"ElectricalSeries": {"data": potentials(6)}})
    with h5py.File(tmp_path / "day1.nwb", "a") as file:
        (series,) = _electrical_series(file)
        del series[dataset].attrs[attribute]
        if value is not None:
            series[dataset].attrs[attribute] = value
    with pytest.raises(DataError, match=message):
        read(tmp_path / "day1.nwb")


def _electrical_series(file: h5py.File) -> list[h5py.Group]:
    groups: list[h5py.Group] = []
    file.visititems(
        lambda _, item: groups.append(item) if item.attrs.get("neurodata_type") == "ElectricalSeries" else None
    )
    return groups
