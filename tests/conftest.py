"""Fixtures that several folders of tests share; what they need is imported late, for every pytest reads this file."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from blend_pl.data.nlb.module import NLBDataModule

# Sums depend in their last bits on the number of threads, and the tests' subprocesses have one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder in which the tiny simulated session is written and binned once."""
    from helpers.sessions import tiny_module

    root = tmp_path_factory.mktemp("tiny")
    tiny_module(root)
    return root


@pytest.fixture
def tiny(tiny_root: Path) -> "NLBDataModule":
    """The tiny simulated session, ready for use: 24 + 8 trials, 9 of 13 units held in, 35 + 10 bins of 20 ms."""
    from helpers.sessions import tiny_module

    return tiny_module(tiny_root)


@pytest.fixture
def teachers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers that are missing are trained in this process, where a process of their own is not the point."""
    from helpers.cli import run_here

    monkeypatch.setattr("blend_pl.runs.teachers._run_subprocess", run_here)
