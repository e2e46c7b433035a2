"""Tests of the detection of stale trial owners."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blend_pl.sweep.owner import HeartbeatMonitor, current_owner, host_id, process_id


def test_local_owner_is_stale_when_its_process_ends(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner, heartbeat, monitor = current_owner(process.pid), tmp_path / "heartbeat", HeartbeatMonitor()
    assert not monitor.is_stale([owner], heartbeat)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert monitor.is_stale([owner], heartbeat), "a zombie process is no owner"
    process.wait()
    assert monitor.is_stale([owner], heartbeat)
    assert not monitor.is_stale([owner, current_owner(os.getpid())], heartbeat)


def test_later_process_with_same_pid_is_another_owner(tmp_path: Path) -> None:
    earlier = [host_id(), f"{os.getpid()} 1"]
    assert process_id(os.getpid()) != earlier[1]
    assert HeartbeatMonitor().is_stale([earlier], tmp_path / "heartbeat")


def test_remote_owner_is_stale_when_its_heartbeat_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("blend_pl.sweep.owner.time.monotonic", lambda: now)
    owner, heartbeat, monitor = ["another machine", "1 1"], tmp_path / "heartbeat", HeartbeatMonitor(stale_after_s=100)
    heartbeat.touch()
    assert not monitor.is_stale([owner], heartbeat)
    now = 99.0
    assert not monitor.is_stale([owner], heartbeat)
    os.utime(heartbeat, (5, 5))  # A clock that is years behind.
    now = 150.0
    assert not monitor.is_stale([owner], heartbeat)
    now = 249.0
    assert not monitor.is_stale([owner], heartbeat)
    now = 251.0
    assert monitor.is_stale([owner], heartbeat)
