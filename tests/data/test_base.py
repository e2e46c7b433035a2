"""Tests of the contract of data modules."""

from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.sessions import TINY
from helpers.specs import MC_MAZE

from blend_pl.data.base import NeuralDataModule, datamodule_of
from blend_pl.data.calcium import BugeonDataModule, CalciumDataModule
from blend_pl.data.lfp import MultiSessionDataModule
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.errors import ConfigError


@pytest.mark.parametrize("kind", [NLBDataModule, BugeonDataModule, MultiSessionDataModule])
def test_data_modules_of_all_pillars_fulfill_the_contract(kind: type[NeuralDataModule]) -> None:
    assert issubclass(kind, NeuralDataModule)
    assert not kind.__abstractmethods__


def test_base_class_of_calcium_needs_a_reader() -> None:
    assert CalciumDataModule.__abstractmethods__ == {"read"}


def test_prepare_data_writes_the_simulation_and_setup_reads_it(tmp_path: Path) -> None:
    module = NLBDataModule(MC_MAZE, str(tmp_path), bin_ms=20, source="simulated", simulation=TINY)
    module.prepare_data()
    assert len(list(tmp_path.rglob("*.nwb"))) == 2
    assert module.subsets == {}
    module.setup("fit")
    assert len(module.subsets["train"]) == 24


def test_prepare_data_without_archive_needs_no_files(tmp_path: Path) -> None:
    NLBDataModule(MC_MAZE, str(tmp_path)).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_default_is_one_process_on_the_cpu(tmp_path: Path) -> None:
    module = NLBDataModule(MC_MAZE, str(tmp_path))
    assert module.seed_and_rank() == (0, 0, 1)
    assert module.device == torch.device("cpu")


def test_trainer_without_data_module_raises(tmp_path: Path) -> None:
    trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="the trainer has no data module"):
        datamodule_of(trainer)
