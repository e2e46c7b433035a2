"""Two processes train what one process trains on the same global batches, whatever the number of trials."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import SIMULATION, TINY, call, differing, experiment, finish, fit, start, teacher_args

TESTS = Path(__file__).parent
BATCHES = 2
"""Eleven trials in batches of six: three for each rank, then three for the first and two for the second."""

EXACT = [
    *(f"--model.backbone.{name}=0" for name in ("dropout", "dropout_embedding", "dropout_rates")),
    *("--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"),
]
"""No chance that depends on the rank, and no optimiser that makes large steps of rounding errors."""
DDP = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=3"]
ALONE = ["--trainer.devices=1", "--data.batch_size=6"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def data(folder: Path) -> list[str]:
    return [f"--data.root={folder / 'data'}", *SIMULATION, "--data.simulation.n_train=14"]


@pytest.fixture(scope="module")
def teacher(folder: Path, data: list[str]) -> Path:
    return fit("simulated_teacher", folder / "runs", *data)


def spy(folder: Path) -> list[str]:
    return ["--trainer.callbacks+=helpers.spy.Spy", f"--trainer.callbacks.folder={folder}"]


def seen(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.parametrize("strategy", ["feature", pytest.param("hard", marks=pytest.mark.slow)])
def test_two_processes_equal_one(strategy: str, folder: Path, data: list[str], teacher: Path) -> None:
    arguments = [*TINY, *data, *EXACT, f"--distillation.teacher={teacher}"]
    arguments = ["--config", str(experiment(f"simulated_{strategy}")), *arguments]
    one, two = folder / f"{strategy}_one", folder / f"{strategy}_two"
    process = start("fit", *arguments, *DDP, f"--run_dir={two}", *spy(two / "seen"), PYTHONPATH=str(TESTS))
    call("fit", *arguments, *ALONE, f"--run_dir={one}", *spy(one / "seen"))
    finish(process)
    (alone,), (first, second) = seen(one / "seen"), seen(two / "seen")

    assert len(alone["losses"]) == 2 * BATCHES
    torch.testing.assert_close((first["losses"] + second["losses"]) / 2, alone["losses"], rtol=1e-5, atol=1e-6)
    assert differing(first["student"], second["student"]) == []
    assert differing(first["teacher"], second["teacher"]) == []
    assert differing(first["teacher"], alone["teacher"]) == []
    for one_process, two_processes in zip(alone["gradients"], first["gradients"], strict=True):
        assert any("objective.loss.projectors" in name for name in one_process) == (strategy == "feature")
        torch.testing.assert_close(two_processes, one_process, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["student"], alone["student"], rtol=0, atol=1e-5)

    scores = json.loads((two / "results.json").read_text())["scores"]
    again = ["--config", two / "config.yaml", "--ckpt_path", two / "checkpoints" / "best.ckpt"]
    cli = call("test", *again, "--trainer.devices=1", "--trainer.strategy=auto")
    assert {name: float(cli.trainer.callback_metrics[f"eval/{name}"]) for name in scores} == pytest.approx(
        scores, rel=1e-4
    )


@pytest.mark.slow
def test_ranks_that_a_launcher_started_wait_for_one_teacher(folder: Path, data: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    output = folder / "launched"
    launcher = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    launcher |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    ranks = [
        start(
            *("fit", "--config", experiment("simulated_hard"), *TINY, *data, *DDP, f"--output={output}"),
            teacher_args(),
            **launcher,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
        )
        for rank in range(2)
    ]
    printed = [finish(rank) for rank in ranks]
    (teacher,) = output.glob("simulated_teacher/seed0-*")
    (student,) = output.glob("simulated_hard/seed0-*")
    assert len(list(teacher.glob("version_*"))) == 1
    assert json.loads((student / "results.json").read_text())["teachers"] == [f"{teacher}/checkpoints/best.ckpt"]
    assert "co-bps" in printed[0]
