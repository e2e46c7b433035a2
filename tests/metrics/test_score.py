"""Base class of scores: dtypes, devices, checkpoints and ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from blend_pl.errors import BlendError
from blend_pl.metrics import BitsPerSpike, PsthR2, VelocityR2
from blend_pl.metrics.score import expect_row_indices, expect_shape


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        velocity = torch.randn(4, 6, 2, dtype=torch.float64)
        self.metrics = nn.ModuleList([BitsPerSpike(3), PsthR2(torch.rand(2, 6, 3)), VelocityR2(3, velocity, velocity)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_stay_float64_in_a_low_precision_model(dtype: torch.dtype) -> None:
    model = Model()
    before = model.metrics[1]._psth.clone()
    assert next(model.to(dtype).parameters()).dtype == dtype
    for metric in model.half().metrics:
        metric.set_dtype(torch.float32)
        metric.reset()
        assert all(state.dtype == torch.float64 for state in metric.metric_state.values())
    assert torch.equal(model.metrics[1]._psth, before)


def test_states_follow_the_model_to_another_device() -> None:
    model = Model().to("meta")
    assert all(state.is_meta for metric in model.metrics for state in metric.metric_state.values())
    assert model.metrics[0].device == torch.device("meta")


def test_metrics_are_not_part_of_the_state_dict() -> None:
    assert set(Model().state_dict()) == {"layer.weight", "layer.bias"}


def test_states_reset_in_inference_mode_can_be_updated_outside() -> None:
    metrics = Model().metrics
    rates = torch.rand(4, 6, 3)
    with torch.inference_mode():
        for metric in metrics:
            metric.reset()
    metrics[0].update(rates, torch.ones_like(rates))
    metrics[1].update(rates, torch.tensor([0, 1, 1, 0]))
    metrics[2].update(rates, torch.arange(4), True)
    metrics[2].update(rates, torch.arange(4), False)
    assert all(metric.compute().isfinite() for metric in metrics)


def test_forward_returns_the_batch_score_and_accumulates() -> None:
    rates = torch.rand(4, 6, 3)
    counts = torch.ones(4, 6, 3)
    counts[:2] = 2
    metric, whole, second = BitsPerSpike(3), BitsPerSpike(3), BitsPerSpike(3)
    metric(rates[:2], counts[:2])
    last = metric(rates[2:], counts[2:])
    whole.update(rates, counts)
    second.update(rates[2:], counts[2:])
    torch.testing.assert_close(last, second.compute())
    torch.testing.assert_close(metric.compute(), whole.compute())


def test_messages_of_checks() -> None:
    with pytest.raises(BlendError, match=r"^rates have shape \(2, 3\); expected \(any, 4\)$"):
        expect_shape("rates", torch.zeros(2, 3), (-1, 4))
    with pytest.raises(BlendError, match=r"^rows range from 0 to 5; valid rows are 0 to 4$"):
        expect_row_indices("rows", torch.arange(6), 0, 5)
    expect_shape("rates", torch.zeros(2, 4), (-1, 4))
    expect_row_indices("rows", torch.arange(5), 0, 5)
    expect_row_indices("rows", torch.arange(0), 0, 5)


RANK = """
import sys
import torch
from blend_pl.metrics import BitsPerSpike, PsthR2, VelocityR2

rank, store = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
rates, velocity, psth = torch.rand(9, 6, 3), torch.randn(9, 6, 2), torch.rand(2, 6, 3)
counts = torch.poisson(rates)
metrics = [BitsPerSpike(3), PsthR2(psth), VelocityR2(3, velocity, velocity)]
trials = torch.arange(9)
if rank >= 0:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    trials = trials[:4] if rank else trials[4:]
metrics[0].update(rates[trials], counts[trials])
metrics[1].update(rates[trials], trials % 2)
metrics[2].update(rates[trials], trials, True)
metrics[2].update(rates[trials], trials, False)
print(*(float(metric.compute()) for metric in metrics))
"""


@pytest.mark.slow
def test_two_processes_give_the_score_of_one(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1, -1)
    ]
    first, second, alone = (
        [float(word) for word in process.communicate(timeout=120)[0].split()] for process in processes
    )
    assert first == second
    assert first == pytest.approx(alone, abs=1e-12)
    assert len(alone) == 3
