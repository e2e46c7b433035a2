"""Runs started by Lightning, torchrun and SLURM, on one node and on two."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import EXPERIMENTS, SIMULATION, TINY, call, differing, experiment, finish, start, weights

SCRIPT = EXPERIMENTS / "slurm.sh"
TESTS = Path(__file__).parents[1]
EPOCHS = 3

SRUN = """#!/usr/bin/env bash
# A replacement of srun for two tasks on one node; exits with the highest status of the tasks.
while [[ $1 == --* ]]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
    tasks+=($!)
done
highest=0
for task in "${tasks[@]}"; do
    wait "$task"
    status=$?
    ((status > highest)) && highest=$status
done
exit $highest
"""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launchers")


@pytest.fixture(scope="module")
def arguments(folder: Path) -> list[str]:
    """A baseline with 11 training trials, so that the last batch is split unevenly between two ranks."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION, "--data.simulation.n_train=14", "--data.batch_size=3"]
    return ["--config", str(experiment("simulated_baseline")), *TINY, *data, f"--trainer.max_epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def lightning_run(arguments: list[str], folder: Path) -> Path:
    """A run with two processes started by Lightning's launcher."""
    finish(start("fit", *arguments, "--trainer.devices=2", f"--run_dir={folder / 'lightning'}"))
    return folder / "lightning"


def expect_same_training(run: Path, reference: Path) -> None:
    """Checks that two runs have the same weights and scores."""
    assert differing(weights(run), weights(reference)) == []
    scores = [json.loads((path / "results.json").read_text())["scores"] for path in (run, reference)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_torchrun_equals_lightning_launcher(arguments: list[str], lightning_run: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += ["-m", "blend_pl", "fit", *arguments, "--trainer.devices=2", f"--output={folder / 'torchrun'}"]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=300)
    (run,) = (folder / "torchrun").glob("*/*")
    expect_same_training(run, lightning_run)


@pytest.mark.slow
def test_two_nodes_share_one_run_folder(arguments: list[str], lightning_run: Path, folder: Path) -> None:
    """In the second round the folder exists; rank 0 adds a number and sends the name to the second node."""
    output = folder / "nodes"
    port = free_port()
    for _ in range(2):
        nodes = [
            start(
                *("fit", *arguments, "--trainer.num_nodes=2", "--trainer.devices=1", f"--output={output}"),
                NODE_RANK=node,
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
            )
            for node in ("0", "1")
        ]
        printed = [finish(node) for node in nodes]
    first, second = sorted((output / "simulated_baseline").iterdir())
    assert second.name == f"{first.name}-2"
    for run in (first, second):
        expect_same_training(run, lightning_run)
        assert [path.name for path in run.glob("version_*")] == ["version_0"]
    assert str(second) in printed[0]


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Environment of a SLURM job with two tasks; `scontrol` appends its arguments to the file `scontrol_args`."""
    commands = tmp_path / "bin"
    commands.mkdir()
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in (
        ("srun", SRUN),
        ("scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol_args\n'),
        ("python", python),
    ):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    variables = {"NNODES": "1", "NTASKS": "2", "NTASKS_PER_NODE": "2", "JOB_ID": "4711", "JOB_NAME": "blend_pl"}
    variables |= {"NODELIST": "127.0.0.1"}
    return {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in variables.items()},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
    }


@pytest.mark.slow
def test_signalled_job_is_requeued_and_resumed(
    arguments: list[str], lightning_run: Path, slurm: dict[str, str], tmp_path: Path
) -> None:
    """Only one of the two tasks receives the signal, in the middle of an epoch."""
    kill = {"epoch": 1, "batch": 0, "how": "SIGUSR1", "mark": tmp_path / "mark", "rank": 1}
    callback = [
        "--trainer.callbacks+=helpers.kill.Kill",
        *(f"--trainer.callbacks.{key}={value}" for key, value in kill.items()),
    ]
    command = ["bash", str(SCRIPT), arguments[1], *arguments[2:], *callback, f"--output={tmp_path / 'runs'}"]
    for status in (75, 0, 0):
        job = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=300)
        assert job.returncode == status, job.stdout + job.stderr
    assert "has finished" in job.stdout
    assert (tmp_path / "scontrol_args").read_text() == "requeue 4711\n"
    (run,) = (tmp_path / "runs").glob("*/*")
    expect_same_training(run, lightning_run)
    assert not list(run.rglob("hpc_ckpt*"))


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (2, False), (75, True), (143, True)])
def test_script_requeues_only_stopped_jobs(slurm: dict[str, str], tmp_path: Path, status: int, requeued: bool) -> None:
    (tmp_path / "bin" / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/srun_args\nexit {status}\n')
    command = ["bash", str(SCRIPT), "experiments/mc_maze_hard.yaml", "--seed_everything", "3"]
    assert subprocess.run(command, env=slurm, timeout=60).returncode == status
    assert (tmp_path / "scontrol_args").exists() == requeued
    srun_args = (tmp_path / "srun_args").read_text().split()
    assert srun_args[srun_args.index("python") :][:4] == ["python", "-m", "blend_pl", "fit"]


def test_fit_accepts_the_arguments_of_the_script(
    slurm: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin" / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/srun_args\n')
    subprocess.run(["bash", str(SCRIPT), str(experiment("mc_maze_hard"))], env=slurm, check=True, timeout=60)
    srun_args = (tmp_path / "srun_args").read_text().split()
    with pytest.raises(SystemExit) as exit_info:
        call(*srun_args[srun_args.index("fit") :], "--print_config")
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    assert "resume: true" in printed
    assert "devices: '2'" in printed


def test_script_has_valid_syntax_and_prints_usage() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    job = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert (job.returncode, job.stderr.startswith("usage: sbatch experiments/slurm.sh")) == (2, True)
    assert "#SBATCH --requeue" in SCRIPT.read_text()
