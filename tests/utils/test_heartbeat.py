"""Tests of the heartbeat of a command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1]).touch())
print("started", flush=True)
while True:
    time.sleep(0.05)
"""


def wait_for_change(heartbeat_file: Path, before: int) -> int:
    end = time.monotonic() + 10
    while (now := heartbeat_file.stat().st_mtime_ns) == before:
        assert time.monotonic() < end, "no heartbeat"
        time.sleep(0.05)
    return now


def test_heartbeat_continues_until_command_exits(tmp_path: Path) -> None:
    heartbeat_file, second_heartbeat_file, signal_file = (
        tmp_path / "heartbeat_file",
        tmp_path / "second_heartbeat_file",
        tmp_path / "signal_file",
    )
    arguments = [
        sys.executable,
        "-m",
        "blend_pl.utils.heartbeat",
        str(heartbeat_file),
        str(second_heartbeat_file),
        "--",
        sys.executable,
        "-c",
        CODE,
        str(signal_file),
    ]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert command.stdout is not None
    assert command.stdout.readline() == "started\n"
    last = wait_for_change(heartbeat_file, 0)
    # Signal the whole process group, as schedulers do; the command continues.
    os.killpg(command.pid, signal.SIGTERM)
    last = wait_for_change(heartbeat_file, wait_for_change(heartbeat_file, last))
    assert signal_file.exists()
    wait_for_change(second_heartbeat_file, second_heartbeat_file.stat().st_mtime_ns)
    command.kill()
    # A process that is still running would keep the pipe open.
    command.communicate(timeout=10)
    last = heartbeat_file.stat().st_mtime_ns
    time.sleep(2.5)
    assert heartbeat_file.stat().st_mtime_ns == last


@pytest.mark.parametrize("heartbeat_file", ["heartbeat_file", "no/folder/heartbeat_file"])
def test_command_keeps_arguments_and_exit_status(heartbeat_file: str, tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    command = [
        sys.executable,
        "-m",
        "blend_pl.utils.heartbeat",
        str(tmp_path / heartbeat_file),
        "--",
        sys.executable,
        "-c",
        code,
        "a b",
    ]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert (completed.stdout.strip(), completed.returncode) == ("['a b']", 7)
