"""All systems train on a GPU, and no training step waits for the device; see `helpers.gpu`.

The host still waits in these places: in each batch of a validation, where torchmetrics searches for NaN and the scores
check the rates; at the end of an epoch, to select the checkpoint; every `log_every_n_steps` steps, to log; and in each
batch of a prediction, to copy the rates.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch.utils import backend_registration

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this version of torch has no custom devices", allow_module_level=True)

from helpers.gpu import REAL
from helpers.gpu_cases import CASES, VIOLATIONS

QUICK = ["SoftLoss", "copies to the device", "branches on a value", "mixes devices"]
ERRORS = {
    "reads a value": "DataDependentOutput",
    "branches on a value": "DataDependentOutput",
    "selects by value": "DynamicOutputShape",
    "copies to the device": "blocking copy from cpu to fakegpu:0",
    "copies to the host": "blocking copy from fakegpu:0 to cpu",
    "indexes from the host": "index on cpu",
    "mixes devices": "DeviceMismatch",
}
TESTS = Path(__file__).parents[1]


def run_cases(names: Sequence[str]) -> dict[str, str]:
    """Runs cases in a subprocess and returns their errors, empty for those that pass."""
    path = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    done = subprocess.run(
        [sys.executable, "-m", "helpers.gpu_cases", *names],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    return run_cases([*CASES])


def test_distilled_step_does_not_synchronize_and_violations_are_detected() -> None:
    errors = run_cases(QUICK)
    assert not errors.pop("SoftLoss")
    assert all(errors.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in VIOLATIONS])
def test_step_does_not_synchronize(errors: dict[str, str], name: str) -> None:
    assert not errors[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", VIOLATIONS)
def test_synchronization_and_mixed_devices_are_detected(errors: dict[str, str], name: str) -> None:
    assert re.search(ERRORS[name], errors[name]) if not REAL else errors[name]
