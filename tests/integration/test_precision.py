"""Effects of gradient accumulation, fused optimizers and mixed precision on training."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.cli import SIMULATION, fit
from helpers.sessions import tiny_module
from helpers.systems import NETWORK, trainer
from torch import Tensor

from blend_pl.masking import Masking
from blend_pl.models import NDT
from blend_pl.systems import Student


class GradientRecorder(Student):
    """Records the gradients of every optimizer step."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.recorded = [
            *getattr(self, "recorded", []),
            [p.grad.clone() for p in self.parameters() if p.grad is not None],
        ]


def gradients(root: Path, folder: Path, batch_size: int, accumulate: int, lr: float = 0.0) -> list[list[Tensor]]:
    """Returns the gradients of all steps of an epoch over 19 trials.

    The masking ratio is 0, so that the loss covers only held-out units and forward bins.
    """
    torch.manual_seed(0)
    settings = {"masking": Masking(0.0), "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=lr)}
    module = tiny_module(root, batch_size=batch_size)
    system = GradientRecorder(
        partial(NDT, **NETWORK, dropout=0.0, dropout_embedding=0.0, dropout_rates=0.0), **settings
    )
    trainer(folder, accumulate_grad_batches=accumulate).fit(system, module)
    return system.recorded


def test_accumulated_gradients_equal_the_mean_over_batches(tiny_root: Path, tmp_path: Path) -> None:
    single = gradients(tiny_root, tmp_path, 3, 1)
    accumulated = gradients(tiny_root, tmp_path, 3, 2)
    assert (len(single), len(accumulated)) == (7, 4)
    for number, step in enumerate(accumulated[:3]):
        means = [(a + b) / 2 for a, b in zip(single[2 * number], single[2 * number + 1], strict=True)]
        torch.testing.assert_close(step, means, rtol=1e-5, atol=1e-7)


def test_accumulated_gradients_equal_those_of_a_large_batch(tiny_root: Path, tmp_path: Path) -> None:
    """Holds because all batches have the same number of entries in the loss."""
    large, accumulated = gradients(tiny_root, tmp_path, 6, 1), gradients(tiny_root, tmp_path, 3, 2)
    for one, two in zip(large[:3], accumulated[:3], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fused_optimizer_takes_the_same_clipped_steps(tiny_root: Path, tmp_path: Path, precision: str) -> None:
    weights = {}
    for fused in (False, True):
        torch.manual_seed(0)
        system = Student(partial(NDT, **NETWORK), optimizer=partial(torch.optim.AdamW, lr=1e-2, fused=fused))
        trainer(tmp_path, 2, precision=precision, gradient_clip_val=1e-3).fit(system, tiny_module(tiny_root))
        weights[fused] = system.state_dict()
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_scores_are_close_to_float32(tmp_path: Path) -> None:
    """Scores of a student trained for 100 steps with a teacher trained in float32."""
    data = [f"--data.root={tmp_path / 'data'}", *SIMULATION, "--trainer.max_epochs=50", "--data.batch_size=8"]
    scores = {}
    teacher = fit("simulated_teacher", tmp_path / "runs", *data)
    for precision in ("32-true", "bf16-mixed"):
        run = fit(
            "simulated_feature",
            tmp_path / precision,
            *data,
            f"--trainer.precision={precision}",
            f"--distillation.teacher={teacher}",
        )
        scores[precision] = json.loads((run / "results.json").read_text())["scores"]
    print(scores)
    assert scores["bf16-mixed"] != scores["32-true"]
    assert scores["bf16-mixed"]["co_bps"] == pytest.approx(scores["32-true"]["co_bps"], abs=1e-2)
    assert scores["bf16-mixed"]["vel_r2"] == pytest.approx(scores["32-true"]["vel_r2"], abs=2e-2)
