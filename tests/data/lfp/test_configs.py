"""Tests of the LFP data configs."""

from pathlib import Path

import pytest
from helpers.cli import REPOSITORY
from helpers.lfp_files import write_lfp_nwb
from jsonargparse import ArgumentParser

from blend_pl.config import compose
from blend_pl.data.lfp import MultiSessionDataModule
from blend_pl.data.lfp.flint import parse_flint_session
from blend_pl.data.lfp.simulation import LFPSimulation
from blend_pl.data.lfp.simulation.parameters import FLINT_SESSIONS, MAKIN_SESSIONS
from blend_pl.data.lfp.spec import LFPSpec

DATA = REPOSITORY / "configs/data"


def parse_config(path: Path) -> tuple[LFPSpec, LFPSimulation, list[str]]:
    settings = compose(path)["data"]["init_args"]
    parser = ArgumentParser()
    parser.add_argument("--spec", type=LFPSpec)
    parser.add_argument("--simulation", type=LFPSimulation, default=LFPSimulation())
    given = {name: settings[name] for name in ("spec", "simulation") if name in settings}
    parsed = parser.instantiate_classes(parser.parse_object(given))
    return parsed.spec, parsed.simulation, settings["held_out"]


@pytest.mark.parametrize(
    ("name", "n_sessions", "n_held_out"), [("makin", 30, 5), ("flint", 12, 3), ("simulated_lfp", 6, 2)]
)
def test_config_has_the_published_sessions(name: str, n_sessions: int, n_held_out: int) -> None:
    spec, _, held_out = parse_config(DATA / f"{name}.yaml")
    names = [*spec.makin, *spec.flint]
    assert len(set(names)) == len(names) == n_sessions
    assert set(held_out) < set(names)
    assert len(held_out) == n_held_out
    assert all(parse_flint_session(session) for session in spec.flint)
    # One record for all behavior, and one for the broadband of each session.
    assert spec.archive is None or len(set(spec.archive.records)) == 31


def test_simulated_config_reads_the_sessions_it_simulates() -> None:
    spec, simulation, _ = parse_config(DATA / "simulated_lfp.yaml")
    assert tuple(spec.makin) == MAKIN_SESSIONS[: simulation.n_makin]
    assert tuple(spec.flint) == FLINT_SESSIONS[: simulation.n_flint]


def test_custom_nwb_config_reads_pynwb_files(tmp_path: Path) -> None:
    for number, name in enumerate(("day1", "my_last_session")):
        path = tmp_path / f"M7/{name}.nwb"
        write_lfp_nwb(path, seconds=60, velocity="hand_vel", n_channels=4 + number, n_units=3 + number, lfp_rate=1000.0)
    spec, _, held_out = parse_config(DATA / "own_lfp.yaml")
    settings = compose(DATA / "own_lfp.yaml")["data"]["init_args"]
    module = MultiSessionDataModule(spec, str(tmp_path), source="files", held_out=held_out, split=settings["split"])
    module.setup("fit")
    assert module.training_sessions == ["day1"]
    assert module.evaluation_sessions == ["day1", "my_last_session"]
    batch = next(iter(module.train_dataloader()))
    assert batch.observed.shape[1:] == (500, 5)
    assert batch.privileged is not None
    assert batch.privileged.sum() > 0
    assert batch.behavior_valid.all()
