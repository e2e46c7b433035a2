"""Fixtures with sessions of spikes and LFP."""

import pytest
from helpers.lfp import InMemory, in_memory

from blend_pl.data.lfp.batches import SessionBatch


@pytest.fixture(scope="module")
def data() -> InMemory:
    return in_memory(held_out=["b2"])


@pytest.fixture
def batch(data: InMemory) -> SessionBatch:
    return next(iter(data.train_dataloader()))
