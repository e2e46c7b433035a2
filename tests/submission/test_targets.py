import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.local_server import LocalAnswer, LocalServer, serving
from helpers.nlb import SETS
from helpers.oracle import make_targets

from blend_pl.data.io import download
from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.metrics.nlb import evaluate_rates
from blend_pl.submission import SessionSplits
from blend_pl.submission.layout import group_name
from blend_pl.submission.targets import Targets, download_targets


@pytest.fixture(scope="module", params=[("mc_maze", 20), ("mc_rtt", 5), ("area2_bump", 20), ("dmfc_rsg", 20)], ids=str)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, SessionSplits, Targets]:
    """Session with known targets, and their file written by nlb_tools."""
    pytest.importorskip("nlb_tools", reason="needs the extra nlb")
    name, bin_ms = request.param
    spec, write_files = SETS[name]
    folder = tmp_path_factory.mktemp(name)
    files = write_files(folder)
    make_targets(files.train, spec, bin_ms, folder / "targets.h5")
    splits = read_session(spec, files.train, None, bin_ms)
    return group_name(name, bin_ms), SessionSplits(splits["train"], splits["val"]), Targets.open(folder / "targets.h5")


def hide_targets(sessions: SessionSplits) -> SessionSplits:
    """Removes what a test file lacks: held-out units, forward bins, behavior and conditions."""
    session, bins, heldin = sessions.evaluation, sessions.evaluation.n_observed, sessions.evaluation.n_heldin
    spikes, observed = session.spikes.clone(), session.observed.clone()
    spikes[..., heldin:], spikes[:, bins:] = 0, 0
    observed[..., 1], observed[:, bins:] = False, False
    hidden_session = replace(
        session,
        spikes=spikes,
        observed=observed,
        behavior=torch.full_like(session.behavior, torch.nan),
        condition=torch.full_like(session.condition, -1),
        decode_mask=torch.zeros_like(session.decode_mask) if session.decode_mask.shape[1] > 1 else session.decode_mask,
        psth=torch.rand_like(session.psth),
        scoring_mask=torch.ones_like(session.scoring_mask),
        jitter=torch.zeros_like(session.jitter),
        timing_condition=torch.full_like(session.timing_condition, -1),
        produced_interval=torch.full_like(session.produced_interval, torch.nan),
    )
    return SessionSplits(sessions.train, hidden_session)


def noisy(session: SessionTensors) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return session.spikes.double() * 0.3 + torch.rand(session.spikes.shape, generator=generator) + 0.01


def test_fill_restores_hidden_targets(case: tuple[str, SessionSplits, Targets]) -> None:
    group, complete, targets = case
    filled = targets.fill(group, hide_targets(complete))
    ours, theirs, bins = complete.evaluation, filled.evaluation, complete.evaluation.n_observed
    for name in ("scoring_mask", "condition", "jitter", "decode_mask", "timing_condition"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    torch.testing.assert_close(ours.produced_interval, theirs.produced_interval, rtol=1e-6, atol=0, equal_nan=True)
    assert torch.equal(ours.spikes[:, bins:], theirs.spikes[:, bins:])
    assert torch.equal(ours.spikes[:, :bins][ours.scoring_mask], theirs.spikes[:, :bins][ours.scoring_mask])
    assert torch.equal(ours.observed[:, :bins, 1] & ours.scoring_mask, theirs.observed[:, :bins, 1])
    torch.testing.assert_close(ours.velocity, theirs.velocity, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(complete.train.velocity, filled.train.velocity)
    # nlb_tools stores single precision.
    torch.testing.assert_close(ours.psth, theirs.psth, rtol=0, atol=1e-6, equal_nan=True)
    rates = noisy(complete.train), noisy(ours)
    expected = evaluate_rates(complete.train, ours, rates)
    assert len(expected) == (3 if group.startswith("mc_rtt") else 4)
    assert evaluate_rates(filled.train, theirs, rates) == pytest.approx(expected, abs=1e-6)


def test_fill_does_not_modify_its_input(case: tuple[str, SessionSplits, Targets]) -> None:
    group, complete, targets = case
    before = hide_targets(complete)
    targets.fill(group, before)
    assert not before.evaluation.spikes[..., before.evaluation.n_heldin :].any()
    assert not before.evaluation.observed[..., 1].any()
    assert before.evaluation.behavior.isnan().all()


def test_bins_without_targets_are_not_scored(case: tuple[str, SessionSplits, Targets], tmp_path: Path) -> None:
    group, complete, targets = case
    path = tmp_path / "padded.h5"
    path.write_bytes(targets.path.read_bytes())
    with h5py.File(path, "a") as file:
        file[f"{group}/eval_spikes_heldout"][1, :7] = np.nan
    filled = Targets.open(path).fill(group, hide_targets(complete)).evaluation
    bins = filled.n_observed
    assert not filled.observed[1, :7, 1].any()
    assert torch.equal(filled.observed[1, 7:bins, 1], complete.evaluation.scoring_mask[1, 7:])
    assert not filled.spikes[1, :7, filled.n_heldin :].any()


FAULTS: dict[str, tuple[Any, str]] = {
    "fewer trials": (lambda file, group: shorten(file, f"{group}/eval_spikes_heldout"), r"has shape \(\d+, .*requires"),
    "other units": (lambda file, group: shorten(file, f"{group}/eval_behavior", axis=-1), r"eval_behavior .*has shape"),
    "no counts": (lambda file, group: halve(file, f"{group}/eval_spikes_heldout"), r"does not hold spike counts"),
    "no key": (lambda file, group: file.pop(f"{group}/eval_behavior"), r"lacks eval_behavior"),
    "no set": (lambda file, group: file.move(group, "other"), r"no targets of .*; it holds other"),
}


def shorten(file: h5py.File, key: str, axis: int = 0) -> None:
    array = file[key][()]
    del file[key]
    file[key] = np.delete(array, 0, axis)


def halve(file: h5py.File, key: str) -> None:
    file[key][()] = file[key][()] / 2 + 0.25


@pytest.mark.parametrize("fault", FAULTS)
def test_incompatible_targets_raise(case: tuple[str, SessionSplits, Targets], tmp_path: Path, fault: str) -> None:
    group, complete, targets = case
    change, message = FAULTS[fault]
    path = tmp_path / "targets.h5"
    path.write_bytes(targets.path.read_bytes())
    with h5py.File(path, "a") as file:
        change(file, group)
    with pytest.raises(DataError, match=message) as raised:
        Targets.open(path).fill(group, complete)
    assert "\n" not in str(raised.value)


def test_missing_or_non_hdf5_file_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of targets at"):
        Targets.open(tmp_path / "targets.h5")
    (tmp_path / "pointer.h5").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="not its Git LFS pointer"):
        Targets.open(tmp_path / "pointer.h5")


CONTENT = np.random.default_rng(0).bytes(1_500_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(LocalServer):
    """Serves one file with configurable faults."""

    def __init__(self) -> None:
        super().__init__(Answer, "/data/eval_data_test.h5")
        self.content = CONTENT
        self.offsets: list[int] = []
        self.cut_after: list[int] = []
        self.supports_ranges = True
        self.status = 200


class Answer(LocalAnswer):
    server: Server

    def do_GET(self) -> None:
        range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(range_match[1]) if range_match and self.server.supports_ranges else 0
        self.server.offsets.append(int(range_match[1]) if range_match else 0)
        status = self.server.status if self.server.status != 200 else 206 if start else 200
        self.start(status, len(self.server.content) - start)
        stop = self.server.cut_after.pop(0) if self.server.cut_after else None
        self.wfile.write(self.server.content[start:][:stop])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setattr(download, "RETRY_DELAYS_S", (0, 0))
    with serving(Server()) as server:
        yield server


def fetch(server: Server, folder: Path) -> Path:
    return download_targets(folder, server.url, DIGEST, len(CONTENT))


def test_targets_are_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path / "nlb21")
    assert path.read_bytes() == CONTENT
    assert fetch(server, tmp_path / "nlb21") == path
    assert server.offsets == [0]


@pytest.mark.parametrize("supports_ranges", [True, False])
def test_interrupted_download_is_resumed(server: Server, tmp_path: Path, supports_ranges: bool) -> None:
    server.cut_after, server.supports_ranges = [700_000, 0], supports_ranges
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.offsets[0] == 0
    assert server.offsets[-1] > 500_000


def test_wrong_content_raises(server: Server, tmp_path: Path) -> None:
    server.content = bytes(len(CONTENT))
    with pytest.raises(DataError, match="arrived damaged and was deleted"):
        fetch(server, tmp_path)
    assert not (tmp_path / "eval_data_test.h5").exists()
    (tmp_path / "eval_data_test.h5").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"is not the released file .*; move it away"):
        fetch(server, tmp_path)
    assert (tmp_path / "eval_data_test.h5").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("status", "message"), [(404, "status 404; download"), (503, r"HTTPError at .* run again, or")]
)
def test_missing_remote_file_raises(server: Server, tmp_path: Path, status: int, message: str) -> None:
    server.status = status
    with pytest.raises(DataError, match=message) as raised:
        fetch(server, tmp_path)
    assert "\n" not in str(raised.value)
    assert "manually" in str(raised.value)


def test_unreachable_server_raises(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"cannot download .* run again, or download .* manually"):
        fetch(server, tmp_path)
