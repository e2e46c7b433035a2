"""A step of K stacked models compared with a step of one, for large networks and for launch-bound ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.sessions import session_of
from helpers.systems import trainer
from measure import DEVICE
from test_models import Kernels
from test_step import Clock, fastest
from torch import nn
from torch.optim import AdamW

from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.nlb.session import SessionTensors, session_signature
from blend_pl.data.standardize import Standardizer
from blend_pl.models import NDT
from blend_pl.models.layers.embedding import LinearEmbedding
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.replica import Replica
from blend_pl.multirun.stacked_data import StackedLoader
from blend_pl.multirun.stacked_module import StackedModule
from blend_pl.systems import Student

pytestmark = pytest.mark.benchmark

STACK_SIZES = (1, 4, 16)


@dataclass(frozen=True)
class Case:
    """A network and the size of its batches."""

    network: Callable[..., nn.Module]
    sizes: dict[str, int]
    batch: int
    steps: int


CASES = {
    "MC_Maze's size": Case(NDT, {"bins": 140, "forward": 40, "heldin": 137, "heldout": 45}, 64, 8),
    "the demo's size": Case(
        partial(NDT, num_layers=2, embedding=partial(LinearEmbedding, d_model=64)),
        {"bins": 35, "heldin": 45, "heldout": 15},
        16,
        8,
    ),
    # So small that calls take most of the time, as kernel launches do for small networks on a GPU.
    "hardly any": Case(
        partial(NDT, num_layers=2, dim_feedforward=8, embedding=partial(LinearEmbedding, d_model=8)),
        {"bins": 10, "heldin": 6, "heldout": 2},
        4,
        40,
    ),
}


class Trials(L.LightningDataModule):
    """Trials on the device, for one model, or for `n_replicas` models with different orders."""

    digest = None

    def __init__(self, session: SessionTensors, batch: int, n_replicas: int | None = None) -> None:
        super().__init__()
        self.session, self.batch, self.n_replicas = session, batch, n_replicas
        self.signature = session_signature("simulated", session)

    def train_dataloader(self) -> TrialLoader | StackedLoader:
        loaders = [self._loader(seed) for seed in range(self.n_replicas or 1)]
        return loaders[0] if self.n_replicas is None else StackedLoader(loaders)

    def _loader(self, seed: int) -> TrialLoader:
        scale = Standardizer.fit(self.session.behavior)
        return TrialLoader(self.session, scale, TrialSampler(len(self.session), self.batch, True, seed))


class KernelCounter(L.Callback):
    """Counts the kernels of the third step."""

    def __init__(self) -> None:
        self.kernels, self.steps = Kernels(), 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == 2:
            self.kernels.__enter__()
        elif self.steps == 3:
            self.kernels.__exit__(None, None, None)


def measure_step(
    make_module: Callable[[], L.LightningModule], data: L.LightningDataModule, folder: Path
) -> tuple[float, int]:
    """Returns the seconds of the fastest step and the number of kernels of a step."""
    settings = {"accelerator": "auto", "devices": 1, "gradient_clip_val": 200.0}
    clock, counter = Clock(), KernelCounter()
    for callback in (clock, counter):
        torch.manual_seed(0)
        trainer(folder, 1, callback, **settings).fit(make_module(), datamodule=data)
    return fastest(clock.marks), counter.kernels.count


@pytest.mark.parametrize(
    "name", ["MC_Maze's size", "hardly any"] if DEVICE == "cuda" else ["the demo's size", "hardly any"]
)
def test_stacked_step(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    session = session_of(trials=case.batch * case.steps, **case.sizes).to(torch.device(DEVICE))
    # foreach is the default on a GPU; without it, kernels would grow with the number of parameters.
    student = partial(Student, case.network, optimizer=partial(AdamW, foreach=True))

    def make_stack(seeds: Sequence[int]) -> StackedModule:
        replicas = []
        for seed in seeds:
            system = student()
            system.build(session_signature("simulated", session))
            selector = CheckpointSelector(("val/loss", "min"), ("val/loss", "min"), 1, 0.0)
            replicas.append(Replica(system, seed, [], selector, tmp_path / "best.ckpt", []))
        return StackedModule(replicas)

    single, n_kernels = measure_step(student, Trials(session, case.batch), tmp_path)
    print(
        f"\n{name} on {DEVICE}, {torch.get_num_threads()} threads: one model {single:.4f} s a step, {n_kernels} kernels"
    )
    for count in STACK_SIZES:
        data = Trials(session, case.batch, count)
        stacked, n_stacked_kernels = measure_step(partial(make_stack, range(count)), data, tmp_path)
        print(
            f"{count} at once: {stacked:.4f} s, {stacked / single:.2f} x one step (goal for 16 on an H100: 2); "
            f"{n_stacked_kernels} kernels, {n_stacked_kernels / n_kernels:.2f} x those of one"
        )
