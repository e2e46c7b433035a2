"""Whether the owner of a trial is still there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blend_pl.sweep.owner import HeartbeatMonitor, current_owner, host_id, process_id


def test_an_owner_here_is_gone_with_its_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner, sign, watch = current_owner(process.pid), tmp_path / "sign", HeartbeatMonitor()
    assert not watch.is_stale([owner], sign)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watch.is_stale([owner], sign), "what is left of a process until its parent asks is no owner"
    process.wait()
    assert watch.is_stale([owner], sign)
    assert not watch.is_stale([owner, current_owner(os.getpid())], sign)


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    earlier = [host_id(), f"{os.getpid()} 1"]
    assert process_id(os.getpid()) != earlier[1]
    assert HeartbeatMonitor().is_stale([earlier], tmp_path / "sign")


def test_an_owner_elsewhere_is_gone_when_its_sign_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("blend_pl.sweep.owner.time.monotonic", lambda: now)
    owner, sign, watch = ["another machine", "1 1"], tmp_path / "sign", HeartbeatMonitor(stale_after_s=100)
    sign.touch()
    assert not watch.is_stale([owner], sign)
    now = 99.0
    assert not watch.is_stale([owner], sign)
    os.utime(sign, (5, 5))  # By a clock that is years behind.
    now = 150.0
    assert not watch.is_stale([owner], sign)
    now = 249.0
    assert not watch.is_stale([owner], sign)
    now = 251.0
    assert watch.is_stale([owner], sign)
