"""Whatever is trained would be trained on a GPU, and no step would wait for it; see `helpers.gpu`.

What does wait, and how often: each batch of a validation, in which torchmetrics looks for NaN and scores for rates
that are none; the end of an epoch, whose scores choose the checkpoint; what is logged, every so many steps; and each
batch of rates that are predicted, as they go to the host.
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
    pytest.skip("this torch has no room for a device of one's own", allow_module_level=True)

from helpers.gpu import REAL
from helpers.gpu_cases import CASES, SPOILT

QUICK = ["SoftLoss", "copies", "decides", "mixes"]
WRONG = {
    "reads a number": "DataDependentOutput",
    "decides": "DataDependentOutput",
    "chooses": "DynamicOutputShape",
    "copies": "cpu to fakegpu:0 that blocks",
    "fetches": "fakegpu:0 to cpu that blocks",
    "sends an index": "an index on cpu",
    "mixes": "DeviceMismatch",
}
TESTS = Path(__file__).parents[1]


def complaints(names: Sequence[str]) -> dict[str, str]:
    """What goes wrong in each case, in a process of its own."""
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
def found() -> dict[str, str]:
    return complaints([*CASES])


def test_distilled_step_does_not_synchronize_and_violations_are_detected() -> None:
    found = complaints(QUICK)
    assert not found.pop("SoftLoss")
    assert all(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in SPOILT])
def test_step_does_not_synchronize(found: dict[str, str], name: str) -> None:
    assert not found[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPOILT)
def test_synchronization_and_mixed_devices_are_detected(found: dict[str, str], name: str) -> None:
    assert re.search(WRONG[name], found[name]) if not REAL else found[name]
