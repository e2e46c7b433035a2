"""Concurrent runs that start without files share the data and the teacher."""

import json
from pathlib import Path

import pytest
from helpers.calcium import fit_arguments
from helpers.cli import SIMULATION, TINY, differing, experiment, finish, start, teacher_args, weights
from helpers.lfp import small_stages

NLB = [*TINY, *SIMULATION, teacher_args()]
CALCIUM = [*fit_arguments(), f"--teacher_args={json.dumps(fit_arguments())}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "teacher"),
    [
        ("simulated_hard", NLB, "simulated_teacher"),
        ("bugeon_simulated_feature", CALCIUM, "bugeon_simulated_teacher"),
        ("simulated_lfp_multi_session", small_stages(), None),
    ],
)
def test_concurrent_runs_share_data_and_teacher(
    name: str, arguments: list[str], teacher: str | None, tmp_path: Path
) -> None:
    command = ["fit", "--config", str(experiment(name)), *arguments, f"--data.root={tmp_path / 'data'}"]
    for process in [start(*command, f"--output={tmp_path / 'runs'}") for _ in range(2)]:
        finish(process)
    first, second = sorted((tmp_path / "runs" / name).glob("seed0-*"))
    assert second.name == f"{first.name}-2"
    assert differing(weights(first), weights(second)) == []
    assert not [path for path in (tmp_path / "data").rglob(".*") if path.suffix != ".lock"]
    if teacher:
        (teacher_run,) = (tmp_path / "runs" / teacher).glob("seed0-*")
        assert [path.name for path in teacher_run.glob("version_*")] == ["version_0"]
        for run in (first, second):
            assert json.loads((run / "results.json").read_text())["teachers"] == [
                f"{teacher_run}/checkpoints/best.ckpt"
            ]
