"""Errors that end a command."""

import subprocess
import sys


def test_closed_pipe_ends_a_command_without_a_traceback() -> None:
    command = "for _ in range(20000):\n print('x' * 100)"
    code = f"import sys; from blend_pl.cli.errors import exit_status; sys.exit(exit_status(lambda: exec({command!r})))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("x")
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 141
