"""Shared fixtures; their imports are local, because every test run imports this file."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from blend_pl.data.nlb.module import NLBDataModule

# The last bits of sums depend on the number of threads, and subprocesses of tests use one thread.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder with the tiny simulated session, written and binned once."""
    from helpers.sessions import tiny_module

    root = tmp_path_factory.mktemp("tiny")
    tiny_module(root)
    return root


@pytest.fixture
def tiny(tiny_root: Path) -> "NLBDataModule":
    """Set-up module of the tiny simulated session: 24 + 8 trials, 9 of 13 units held in, 35 + 10 bins of 20 ms."""
    from helpers.sessions import tiny_module

    return tiny_module(tiny_root)


@pytest.fixture
def teachers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains missing teachers in this process instead of a subprocess."""
    from helpers.cli import run_here

    monkeypatch.setattr("blend_pl.runs.teachers._run_subprocess", run_here)
