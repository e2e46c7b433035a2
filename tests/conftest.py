"""Fixtures that several folders of tests share."""

from pathlib import Path

import pytest
import torch
from helpers.cli import call
from helpers.sessions import tiny_module
from lightning.pytorch.utilities.seed import isolate_rng

from blend_pl.data.module import NLBDataModule

# Sums depend in their last bits on the number of threads, and the tests' subprocesses have one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder in which the tiny simulated session is written and binned once."""
    root = tmp_path_factory.mktemp("tiny")
    tiny_module(root)
    return root


@pytest.fixture
def tiny(tiny_root: Path) -> NLBDataModule:
    """The tiny simulated session, ready for use: 24 + 8 trials, 9 of 13 units held in, 35 + 10 bins of 20 ms."""
    return tiny_module(tiny_root)


@pytest.fixture
def teachers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers that are missing are trained in this process, where a process of their own is not the point."""

    def status(command: list[str]) -> int:
        with isolate_rng():
            call(*command[3:])
        return 0

    monkeypatch.setattr("blend_pl.teachers._status", status)
