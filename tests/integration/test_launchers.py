"""Whoever starts the processes, they train one run: Lightning, torchrun, SLURM, on one node or on two."""

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
# What srun does with two tasks on one node; it returns the highest status.
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
    """A baseline of which every rank has the same chance, and eleven trials: the last batch is uneven."""
    data = [f"--data.root={folder / 'data'}", *SIMULATION, "--data.simulation.n_train=14", "--data.batch_size=3"]
    return ["--config", str(experiment("simulated_baseline")), *TINY, *data, f"--trainer.max_epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def own(arguments: list[str], folder: Path) -> Path:
    """The run that Lightning's own launcher trains with two processes."""
    finish(start("fit", *arguments, "--trainer.devices=2", f"--run_dir={folder / 'own'}"))
    return folder / "own"


def same(run: Path, own: Path) -> None:
    assert differing(weights(run), weights(own)) == []
    scores = [json.loads((path / "results.json").read_text())["scores"] for path in (run, own)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_torchrun(arguments: list[str], own: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += ["-m", "blend_pl", "fit", *arguments, "--trainer.devices=2", f"--output={folder / 'torchrun'}"]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=300)
    (run,) = (folder / "torchrun").glob("*/*")
    same(run, own)


@pytest.mark.slow
def test_two_nodes_agree_on_the_folder(arguments: list[str], own: Path, folder: Path) -> None:
    """The name is taken, so that the first rank numbers it, which the second node cannot know."""
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
        same(run, own)
        assert [path.name for path in run.glob("version_*")] == ["version_0"]
    assert str(second) in printed[0]


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job with two tasks, and a scontrol that writes down what it was asked."""
    commands = tmp_path / "bin"
    commands.mkdir()
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in (("srun", SRUN), ("scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'), ("python", python)):
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
def test_a_job_that_is_signalled_is_queued_again_and_goes_on(
    arguments: list[str], own: Path, slurm: dict[str, str], tmp_path: Path
) -> None:
    """One of the tasks alone receives the signal, in the middle of an epoch."""
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
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    (run,) = (tmp_path / "runs").glob("*/*")
    same(run, own)
    assert not list(run.rglob("hpc_ckpt*"))


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, False), (2, False), (75, True), (143, True)])
def test_the_script_queues_again_what_was_stopped_alone(
    slurm: dict[str, str], tmp_path: Path, status: int, again: bool
) -> None:
    (tmp_path / "bin" / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/srun\nexit {status}\n')
    command = ["bash", str(SCRIPT), "experiments/mc_maze_hard.yaml", "--seed_everything", "3"]
    assert subprocess.run(command, env=slurm, timeout=60).returncode == status
    assert (tmp_path / "asked").exists() == again
    asked = (tmp_path / "srun").read_text().split()
    assert asked[asked.index("python") :][:4] == ["python", "-m", "blend_pl", "fit"]


def test_the_command_of_the_script_is_understood(
    slurm: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin" / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/srun\n')
    subprocess.run(["bash", str(SCRIPT), str(experiment("mc_maze_hard"))], env=slurm, check=True, timeout=60)
    asked = (tmp_path / "srun").read_text().split()
    with pytest.raises(SystemExit) as ended:
        call(*asked[asked.index("fit") :], "--print_config")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "resume: true" in printed
    assert "devices: '2'" in printed


def test_the_script_is_bash_and_says_how_it_is_used() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    job = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert (job.returncode, job.stderr.startswith("usage: sbatch experiments/slurm.sh")) == (2, True)
    assert "#SBATCH --requeue" in SCRIPT.read_text()
