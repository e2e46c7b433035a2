"""Data modules by the name of a set or an experiment."""

from pathlib import Path

import pytest
from helpers.cli import REPOSITORY

from blend_pl.data.calcium import BugeonDataModule
from blend_pl.data.lfp import MultiSessionDataModule
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.settings import load
from blend_pl.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("simulated", NLBDataModule),
        ("mc_maze_small", NLBDataModule),
        ("dmfc_rsg_hard", NLBDataModule),
        ("bugeon_simulated", BugeonDataModule),
        ("simulated_lfp", MultiSessionDataModule),
        ("experiments/mc_maze.yaml", NLBDataModule),
        ("experiments/mc_maze.yaml+configs/data/own_session.yaml", NLBDataModule),
        (Path("configs/data/mc_rtt.yaml"), NLBDataModule),
    ],
)
def test_sets_load_by_name_or_path(
    name: str | Path, cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(load(name, root="elsewhere"), cls)
    assert load(name, root="elsewhere").root == Path("elsewhere")
    assert not list(tmp_path.iterdir())


def test_arguments_replace_those_of_the_experiment() -> None:
    simulated = load("simulated", bin_ms=10, simulation={"n_train": 30})
    assert isinstance(simulated, NLBDataModule)
    assert (simulated.bin_ms, simulated.simulation.n_train, simulated.simulation.n_val) == (10, 30, 250)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("simulatd", {}, r"no set or experiment simulatd; choose from simulated"),
        ("mc_maze", {"bin_sm": 5}, "bin_sm"),
        ("mc_maze", {"phase": "train"}, "phase"),
        (REPOSITORY / "configs/arm/hard.yaml", {}, "has no data settings"),
        ("missing.yaml", {}, r"missing\.yaml"),
    ],
)
def test_invalid_settings_raise(name: str | Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(name, **arguments)
    assert "\n" not in str(error.value)
