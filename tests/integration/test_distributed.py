"""Training with several processes equals training with one process on the same global batches."""

import csv
import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.calcium import fit_arguments
from helpers.cli import (
    SIMULATION,
    TINY,
    TINY_TRAINING,
    call,
    differing,
    experiment,
    finish,
    fit,
    start,
    teacher_args,
    tiny_network,
)
from helpers.lfp import small_stages

TESTS = Path(__file__).parents[1]
BATCHES = 2
"""Batches of an epoch: 11 trials in batches of six; the last batch has three trials on rank 0 and two on rank 1."""

EXACT = [
    *(f"--model.backbone.{name}=0" for name in ("dropout", "dropout_embedding", "dropout_rates")),
    *("--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.01"),
]
"""No dropout, which differs between ranks, and SGD, because Adam turns rounding errors into large steps."""
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
    """Returns arguments that add the callback `helpers.spy.Spy`."""
    return ["--trainer.callbacks+=helpers.spy.Spy", f"--trainer.callbacks.folder={folder}"]


def records(folder: Path) -> list[dict[str, Any]]:
    """Returns the records of `helpers.spy.Spy`, one per rank."""
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.parametrize("strategy", ["feature", pytest.param("hard", marks=pytest.mark.slow)])
def test_two_processes_equal_one(strategy: str, folder: Path, data: list[str], teacher: Path) -> None:
    arguments = [*TINY, *data, *EXACT, f"--distillation.teacher={teacher}"]
    arguments = ["--config", str(experiment(f"simulated_{strategy}")), *arguments]
    one, two = folder / f"{strategy}_one", folder / f"{strategy}_two"
    process = start("fit", *arguments, *DDP, f"--run_dir={two}", *spy(two / "records"), PYTHONPATH=str(TESTS))
    call("fit", *arguments, *ALONE, f"--run_dir={one}", *spy(one / "records"))
    finish(process)
    (alone,), (first, second) = records(one / "records"), records(two / "records")

    assert len(alone["losses"]) == 2 * BATCHES
    torch.testing.assert_close((first["losses"] + second["losses"]) / 2, alone["losses"], rtol=1e-5, atol=1e-6)
    assert differing(first["student"], second["student"]) == []
    for others in (second, alone):
        (teacher_here,), (teacher_there,) = first["teachers"], others["teachers"]
        assert differing(teacher_here, teacher_there) == []
    for one_process, two_processes in zip(alone["gradients"], first["gradients"], strict=True):
        assert any("objective.loss.projectors" in name for name in one_process) == (strategy == "feature")
        torch.testing.assert_close(two_processes, one_process, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["student"], alone["student"], rtol=0, atol=1e-5)

    scores = json.loads((two / "results.json").read_text())["scores"]
    from_run = ["--config", two / "config.yaml", "--ckpt_path", two / "checkpoints" / "best.ckpt"]
    cli = call("test", *from_run, "--trainer.devices=1", "--trainer.strategy=auto")
    assert {name: float(cli.trainer.callback_metrics[f"eval/{name}"]) for name in scores} == pytest.approx(
        scores, rel=1e-4
    )


CALCIUM = fit_arguments(*EXACT[-2:])
LFP = [*small_stages(), "--trainer.max_epochs=2", "--trainer.limit_train_batches=3", *EXACT[-2:]]
SYSTEMS = {
    "simulated_teacher": 3,
    "simulated_soft": 3,
    "simulated_correlation": 2,
    "simulated_multitask": 3,
    "bugeon_simulated_teacher": 2,
    "bugeon_simulated_feature": 3,
    "simulated_lfp_spike_teacher": 3,
    "simulated_lfp_finetuned": 3,
    "simulated_lfp_single_session": 3,
    "simulated_lfp_distilled_single_session": 3,
    "simulated_lfp_distilled_multi_session": 2,
    "simulated_lfp_supervised_baseline": 3,
    "simulated_lfp_multimodal": 2,
}
"""Experiments of all systems and strategies, with their number of processes."""
RANK_DEPENDENT_NOISE = {"simulated_stndt_small_hard": 2, "simulated_lfads_small_hard": 3}
"""Experiments with networks that draw different noise on each rank, with their number of processes."""
PREREQUISITES = {
    "bugeon_simulated_feature": ("--distillation.teacher", "bugeon_simulated_teacher"),
    "simulated_lfp_finetuned": ("--pretrained.model", "simulated_lfp_spike_teacher"),
    "simulated_lfp_distilled_single_session": ("--distillation.teacher", "simulated_lfp_finetuned"),
    "simulated_lfp_distilled_multi_session": ("--distillation.teacher", "simulated_lfp_finetuned"),
}
"""Experiments that start from another run: the option that names it, and its experiment."""


def experiment_arguments(name: str, folder: Path, data: list[str], teacher: Path) -> tuple[list[str], str, str]:
    """Returns the arguments of an experiment and its options for the batch size of training and of evaluation."""
    root = f"--data.root={folder / 'data'}"
    config = ["--config", str(experiment(name))]
    if name in PREREQUISITES:
        option, prerequisite = PREREQUISITES[name]
        config.append(f"{option}={prerequisite_run(prerequisite, folder, data, teacher)}")
    if "bugeon" in name:
        return [*config, *CALCIUM, root], "--data.n_windows", "--data.n_windows_eval"
    if "_lfp_" in name:
        return [*config, *LFP, root], "--data.batch_size", "--data.eval_batch_size"
    if "teacher" not in name and "multitask" not in name:
        config.append(f"--distillation.teacher={teacher}")
    network = TINY if "lfads" not in name else [*TINY_TRAINING, *tiny_network("LFADS")]
    exact = EXACT if "lfads" not in name and "stndt" not in name else []
    return [*config, *network, *data, *exact], "--data.batch_size", "--data.eval_batch_size"


def prerequisite_run(name: str, folder: Path, data: list[str], teacher: Path) -> Path:
    """Returns the run of a prerequisite experiment and trains it on the first call."""
    run = folder / "prerequisites" / name
    if not run.exists():
        arguments, _, _ = experiment_arguments(name, folder, data, teacher)
        call("fit", *arguments, f"--run_dir={run}")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SYSTEMS, *RANK_DEPENDENT_NOISE])
def test_every_system_trains_with_several_processes(name: str, folder: Path, data: list[str], teacher: Path) -> None:
    """Without a DDP setting and with uneven shards, losses and weights equal those of one process."""
    processes = (SYSTEMS | RANK_DEPENDENT_NOISE)[name]
    arguments, batch_option, eval_option = experiment_arguments(name, folder, data, teacher)
    one, several = folder / f"{name}-one", folder / f"{name}-several"
    # The scale of a distillation loss is fitted on evaluation batches, so their size must be the same in both runs.
    distilled = any("distillation" in argument for argument in arguments)
    ranks = [
        f"--trainer.devices={processes}",
        f"{batch_option}={6 // processes}",
        f"{eval_option}={4 if distilled else 1}",
    ]
    process = start("fit", *arguments, *ranks, f"--run_dir={several}", *spy(several / "records"), PYTHONPATH=str(TESTS))
    alone = ["--trainer.devices=1", f"{batch_option}=6", f"{eval_option}={4 if distilled else processes}"]
    if name in SYSTEMS:
        call("fit", *arguments, *alone, f"--run_dir={one}", *spy(one / "records"))
    finish(process)
    first, *others = records(several / "records")
    assert len(others) == processes - 1
    for other in others:
        assert differing(first["student"], other["student"]) == []
    scores = json.loads((several / "results.json").read_text())["scores"]
    assert all(math.isfinite(score) for score in scores.values())
    if name not in SYSTEMS:
        return
    (expected,) = records(one / "records")
    mean = torch.stack([rank["losses"] for rank in (first, *others)]).mean(0)
    torch.testing.assert_close(mean, expected["losses"], rtol=1e-4, atol=1e-5)
    for gradients, expected_gradients in zip(first["gradients"], expected["gradients"], strict=True):
        assert gradients.keys() == expected_gradients.keys()
    torch.testing.assert_close(first["student"], expected["student"], rtol=1e-3, atol=1e-4)
    # Validation losses depend on the batch size if no units are held out: masks are then drawn per batch.
    if not distilled or (batch_option == "--data.batch_size" and "_lfp_" not in name):
        assert validation_losses(several) == pytest.approx(validation_losses(one), rel=1e-3)


def validation_losses(run: Path) -> list[float]:
    """Returns `val/loss` of every validation."""
    with (run / "version_0" / "metrics.csv").open() as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]


@pytest.mark.slow
def test_launched_ranks_share_one_teacher_run(folder: Path, data: list[str]) -> None:
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
