"""Signs of life of a command."""

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
print("here", flush=True)
while True:
    time.sleep(0.05)
"""


def wait_for_change(sign: Path, before: int) -> int:
    end = time.monotonic() + 10
    while (now := sign.stat().st_mtime_ns) == before:
        assert time.monotonic() < end, "no sign of life"
        time.sleep(0.05)
    return now


def test_signs_are_given_until_the_command_has_ended(tmp_path: Path) -> None:
    sign, other, told = tmp_path / "sign", tmp_path / "other", tmp_path / "told"
    words = [
        sys.executable,
        "-m",
        "blend_pl.utils.heartbeat",
        str(sign),
        str(other),
        "--",
        sys.executable,
        "-c",
        CODE,
        str(told),
    ]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert command.stdout is not None
    assert command.stdout.readline() == "here\n"
    last = wait_for_change(sign, 0)
    # As schedulers do; the command takes its time.
    os.killpg(command.pid, signal.SIGTERM)
    last = wait_for_change(sign, wait_for_change(sign, last))
    assert told.exists()
    wait_for_change(other, other.stat().st_mtime_ns)
    command.kill()
    # Whatever still runs holds the pipe.
    command.communicate(timeout=10)
    last = sign.stat().st_mtime_ns
    time.sleep(2.5)
    assert sign.stat().st_mtime_ns == last


@pytest.mark.parametrize("sign", ["sign", "no/folder/sign"])
def test_a_command_keeps_its_arguments_and_status(sign: str, tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    command = [
        sys.executable,
        "-m",
        "blend_pl.utils.heartbeat",
        str(tmp_path / sign),
        "--",
        sys.executable,
        "-c",
        code,
        "a b",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("['a b']", 7)
