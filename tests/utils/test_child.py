"""A command that ends with its parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import os, subprocess, sys, time
code = "import time; print('here', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-m", "blend_pl.utils.child", str(os.getpid()), sys.executable, "-c", code])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal exists on Linux only")
def test_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().strip()
    assert parent.stdout.readline().strip() == "here"
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while child.exists() and (child / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the child still runs"
        time.sleep(0.05)


def test_command_keeps_its_arguments_and_status() -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    command = [sys.executable, "-m", "blend_pl.utils.child", str(os.getpid()), sys.executable, "-c", code, "a b"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.stdout.strip(), process.returncode) == ("['a b']", 7)
