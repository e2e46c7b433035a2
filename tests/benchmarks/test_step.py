"""A training step at MC_Maze's size, 64 trials of 5 ms bins, compared with a plain loop: with and without a teacher."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.plain_loop import PlainNDT, Trials, plain_steps
from helpers.sessions import session_of
from helpers.systems import save, trainer
from measure import DEVICE

from blend_pl.callbacks import Compiled, Distillation
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.nlb.session import SessionTensors, session_signature
from blend_pl.data.standardize import Standardizer
from blend_pl.models import NDT
from blend_pl.systems import Student, Teacher

pytestmark = pytest.mark.benchmark

BATCH, STEPS = 64, 6 if DEVICE == "cpu" else 30
GOALS = {"cpu": {"32-true": 2, "bf16-mixed": 4}, "cuda": {"32-true": 10, "bf16-mixed": 10}}
"""Target speed relative to the plain loop."""
SIZES = {"bins": 140, "forward": 40, "heldin": 137, "heldout": 45}


class Sessions(L.LightningDataModule):
    """Trials on the device."""

    digest = None

    def __init__(self, session: SessionTensors) -> None:
        super().__init__()
        self.session, self.signature = session, session_signature("mc_maze", session)

    def train_dataloader(self) -> TrialLoader:
        scale = Standardizer.fit(self.session.behavior)
        return TrialLoader(self.session, scale, TrialSampler(len(self.session), BATCH, shuffle=True))

    calibration_dataloader = train_dataloader


class Clock(L.Callback):
    """Records the time after every step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.marks.append(now())


def now() -> float:
    """Returns CPU time for a single thread on a CPU, which excludes other work on the machine; else wall-clock time."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if DEVICE == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def fastest(marks: list[float]) -> float:
    return min(after - before for before, after in pairwise(marks[1:]))


@pytest.fixture(scope="module")
def session() -> SessionTensors:
    return session_of(trials=BATCH * STEPS, **SIZES).to(torch.device(DEVICE))


def measure_ours(folder: Path, data: Sessions, precision: str, *callbacks: L.Callback) -> float:
    torch.manual_seed(0)
    clock, system = Clock(), Student(NDT, optimizer=partial(torch.optim.AdamW, fused=True))
    settings = {"accelerator": "auto", "devices": 1, "precision": precision, "gradient_clip_val": 200.0}
    trainer(folder, 1, *callbacks, clock, **settings).fit(system, datamodule=data)
    return fastest(clock.marks)


def measure_plain(steps: Iterator[None]) -> float:
    marks = []
    for _ in range(STEPS):
        next(steps)
        marks.append(now())
    return fastest(marks)


@pytest.fixture(params=(1, 2) if DEVICE == "cpu" else (1,), autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(n_threads)


def test_step_compared_with_plain_loop(session: SessionTensors, tmp_path: Path) -> None:
    data = Sessions(session)
    teacher = Teacher(NDT)
    teacher.build(data.signature)
    checkpoint = save(teacher, tmp_path / "teacher.ckpt", hyper_parameters=hyperparameters())
    trials = Trials(session.spikes.cpu(), session.behavior.cpu())
    torch.manual_seed(0)
    network = partial(PlainNDT, 182, 180)
    reference = measure_plain(plain_steps(trials, network().to(DEVICE), None, BATCH, (140, 137)))
    distilled = measure_plain(plain_steps(trials, network().to(DEVICE), network(2).to(DEVICE), BATCH, (140, 137)))
    print(
        f"\non {DEVICE}, {torch.get_num_threads()} threads; plain loop: {reference:.3f} s, distilled {distilled:.3f} s"
    )
    distillation: Callable[[], Distillation] = partial(Distillation, str(checkpoint))
    if DEVICE == "cuda":
        for precision in ("32-true", "bf16-mixed"):
            step = measure_ours(tmp_path, data, precision, Compiled())
            print(f"{precision}, compiled: {step:.4f} s, {reference / step:.1f} x as fast (goal: 10)")
    for precision in ("32-true", "bf16-mixed"):
        step = measure_ours(tmp_path, data, precision)
        distilled_step = measure_ours(tmp_path, data, precision, distillation())
        goal = GOALS[DEVICE][precision]
        print(
            f"{precision}: {step:.4f} s, {reference / step:.2f} x as fast (goal: {goal}); "
            f"distilled {distilled_step:.4f} s, {distilled / distilled_step:.2f} x as fast, "
            f"{distilled_step / step:.2f} x a step without a teacher (floor 1.33)"
        )


def hyperparameters() -> dict[str, Any]:
    from blend_pl.systems.base import INSTANTIATOR

    return {
        "_instantiator": INSTANTIATOR,
        "_class_path": "blend_pl.systems.Teacher",
        "backbone": {"class_path": "blend_pl.models.NDT"},
    }
