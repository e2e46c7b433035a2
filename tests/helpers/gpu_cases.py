"""`python -m helpers.gpu_cases CASE ...`: training steps of all systems on a fake GPU; see `helpers.gpu`.

Prints a line of JSON for each case: its name and its error, empty if it passes.
"""

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from helpers import gpu
from helpers.calcium import SPEC, make_recording
from helpers.lfp import in_memory, make_lfp
from helpers.sessions import session_of
from helpers.specs import MC_MAZE
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from blend_pl.callbacks import Distillation, Multitask
from blend_pl.callbacks.identity import make_cell_loss, temporary_embeddings
from blend_pl.data.calcium import CalciumDataModule
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.distillation import (
    CorrelationLoss,
    DistillationLoss,
    FeatureLoss,
    GaussianSoftLoss,
    HardLoss,
    LinearSchedule,
    RepresentationLoss,
    SoftLoss,
)
from blend_pl.likelihoods import Gaussian, UnitGaussian
from blend_pl.masking import Masking
from blend_pl.models import LFADS, NDT, STNDT, NeuPRINT
from blend_pl.models.layers.embedding import CountEmbedding, LinearEmbedding, SinusoidalPositions
from blend_pl.models.layers.fusion import Additive, CrossAttention, FiLM
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.replica import Replica
from blend_pl.multirun.stacked_module import StackedDataModule, StackedModule
from blend_pl.systems import (
    LFPDecoder,
    LFPStudent,
    Multimodal,
    MultiSessionSystem,
    NeuralSystem,
    PopulationSystem,
    SingleSessionStudent,
    SingleSessionTeacher,
    SpikeTeacher,
    Student,
    Teacher,
)

NETWORKS: dict[type[nn.Module], dict[str, Any]] = {
    NDT: {"num_layers": 2, "dim_feedforward": 8, "context_forward": 1, "context_backward": 1},
    STNDT: {"num_layers": 1, "dim_feedforward": 8},
    LFADS: {"ic_enc_dim": 4, "ci_enc_dim": 4, "con_dim": 4, "ic_dim": 4, "gen_dim": 8, "fac_dim": 4},
    NeuPRINT: {"size": 6, "dim_feedforward": 8},
}


class Trials(NLBDataModule):
    """A session in memory."""

    def __init__(self) -> None:
        super().__init__(MC_MAZE, batch_size=4)

    def setup(self, stage: str) -> None:
        session = session_of(trials=12)
        self.subsets = dict.fromkeys(("fit", "selection", "train", "eval"), session)


class Recordings(CalciumDataModule):
    """Two recordings in memory."""

    def __init__(self) -> None:
        super().__init__(SPEC, window=10, n_steps=3, n_cells=8)

    def read(self) -> list[Any]:
        return [make_recording([f"{mouse}-{cell}" for cell in range(20)], mouse=mouse) for mouse in ("SB025", "SB026")]


class Sink(nn.Module):
    """A metric that checks the device of its values; the replaced metric of torchmetrics stalls to search for NaN."""

    def update(self, *values: Tensor) -> None:
        assert all(value.device.type == gpu.NAME for value in values)


class EvaluateStep(L.Callback):
    """Runs a validation step and a prediction step after each training step."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        metric, pl_module.validation_loss = pl_module.validation_loss, Sink()
        pl_module.eval()
        with torch.no_grad():
            outputs = (
                []
                if isinstance(pl_module, MultiSessionSystem)
                else [pl_module.update_validation_loss(batch, batch_idx)]
            )
            # In prediction, a teacher stalls to check that a batch has behavior.
            if not pl_module.requires_privileged:
                outputs.append(pl_module.predict_step(batch, batch_idx))
        assert all(rates.device.type == gpu.NAME for rates in outputs)
        pl_module.train()
        pl_module.validation_loss = metric


def system(
    kind: type[PopulationSystem], backbone: type[nn.Module], network: dict[str, Any] | None = None, **settings: Any
) -> PopulationSystem:
    return kind(partial(backbone, **NETWORKS[backbone], **(network or {})), **settings)


def calcium(kind: type[PopulationSystem], variance: bool = False) -> PopulationSystem:
    masking = Masking(0.25, "full", zero_ratio=0.8, random_ratio=0.5)
    return system(
        kind, NeuPRINT, {"variance": variance}, masking=masking, likelihood=(Gaussian if variance else UnitGaussian)()
    )


def train(student: NeuralSystem, data: L.LightningDataModule, *callbacks: L.Callback, **settings: Any) -> None:
    gpu.fit(student, data, EvaluateStep(), *callbacks, gradient_clip_val=1.0, **settings)


def distilled(
    student: NeuralSystem,
    teachers: Sequence[NeuralSystem],
    data: Any,
    loss: DistillationLoss,
    alpha: float | LinearSchedule = 0.5,
    **settings: Any,
) -> None:
    train(student, data, distillation(teachers, data, loss, alpha), **settings)


def distillation(
    teachers: Sequence[NeuralSystem], data: Any, loss: DistillationLoss, alpha: float | LinearSchedule
) -> Distillation:
    """Returns the callback with teachers from memory instead of files."""
    data.setup("fit")
    callback = Distillation([str(number) for number in range(len(teachers))], loss, alpha)
    for teacher in teachers:
        teacher.build(data.signature)
    patch_load = patch("blend_pl.callbacks.distillation.load_system", lambda path, _: teachers[int(path.name)].eval())
    setup = callback.setup

    def setup_with_teachers(*args: Any, **kwargs: Any) -> None:
        with patch_load:
            setup(*args, **kwargs)

    callback.setup = setup_with_teachers  # type: ignore[method-assign]
    return callback


def stacked(make: Callable[[], PopulationSystem], teacher: Callable[[], PopulationSystem] | None = None) -> None:
    data, replicas = Trials(), []
    data.setup("fit")
    data.trainer = None
    for seed in range(2):
        callbacks: list[L.Callback] = []
        if teacher:
            callbacks.append(distillation([teacher()], data, SoftLoss(), 0.3))
        selector = CheckpointSelector(("val/loss", "min"), ("val/loss", "min"), 3, 0.0)
        replicas.append(Replica(make(), seed, callbacks, selector, Path("best.ckpt"), []))
        stub: Any = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        stub.datamodule = data
        replicas[-1].build(stub)
    gpu.fit(StackedModule(replicas), StackedDataModule(data, [0, 1]), gradient_clip_val=1.0)


def identity() -> None:
    """Takes one step of fitting the embeddings of all cells, with the network frozen."""
    data, student = Recordings(), calcium(Student)
    data.setup("test")
    student.build(data.signature)
    with gpu.on_device() as device:
        student.to(device)
        batch = data.all_cell_batches("train", device)[0][0]
        with temporary_embeddings(student, len(data.cells)) as embedding, gpu.forbid_stalls():
            total, entries = make_cell_loss(student)(batch, 0)
            (total / entries.clamp(min=1)).sum().backward()
        assert embedding.weight.grad is not None
        assert embedding.weight.grad.device == device


def lfp() -> Any:
    """Returns two sessions, with one segment of each per batch."""
    return in_memory("a1", "a2", n_bins=4000, batch_size=2)


def mixed() -> Any:
    return MixedPrecision("bf16-mixed", gpu.NAME)


CASES: dict[str, Callable[[], None]] = {
    **{
        f"{kind.__name__} {backbone.__name__}": partial(lambda k, b: train(system(k, b), Trials()), kind, backbone)
        for kind in (Student, Teacher)
        for backbone in (NDT, STNDT, LFADS)
    },
    **{
        f"schedule {backbone.__name__}": partial(
            lambda b: distilled(
                system(Student, b), [system(Teacher, b)], Trials(), HardLoss(), LinearSchedule(1.0, 0.2)
            ),
            backbone,
        )
        for backbone in (NDT, STNDT, LFADS)
    },
    **{
        loss.__name__: partial(
            lambda kind: distilled(system(Student, NDT), [system(Teacher, NDT)], Trials(), kind()), loss
        )
        for loss in (SoftLoss, FeatureLoss, CorrelationLoss)
    },
    **{
        fusion.__name__: partial(lambda f: train(system(Teacher, NDT, {"fusion": f}), Trials()), fusion)
        for fusion in (Additive, FiLM, CrossAttention)
    },
    "ensemble": lambda: distilled(
        system(Student, NDT), [system(Teacher, NDT), system(Teacher, STNDT)], Trials(), HardLoss()
    ),
    "representation": lambda: distilled(system(Student, NDT), [system(Student, NDT)], Trials(), RepresentationLoss()),
    "accumulation": lambda: distilled(
        system(Student, NDT), [system(Teacher, NDT)], Trials(), FeatureLoss(), accumulate_grad_batches=2
    ),
    **{
        f"mixed precision {backbone.__name__}": partial(
            lambda b: distilled(system(Student, b), [system(Teacher, b)], Trials(), FeatureLoss(), plugins=mixed()),
            backbone,
        )
        for backbone in (NDT, STNDT, LFADS)
    },
    "mixed precision NeuPRINT": lambda: distilled(
        calcium(Student, True), [calcium(Teacher, True)], Recordings(), GaussianSoftLoss(), plugins=mixed()
    ),
    "mixed precision LFP": lambda: distilled(
        make_lfp(LFPStudent), [make_lfp(SpikeTeacher)], lfp(), RepresentationLoss(), plugins=mixed()
    ),
    "mixed precision multimodal": lambda: train(make_lfp(Multimodal), lfp(), plugins=mixed()),
    "multitask": lambda: train(system(Student, NDT), Trials(), Multitask()),
    "embeddings": lambda: train(system(Student, NDT, {"embedding": LinearEmbedding}), Trials()),
    "counts": lambda: train(
        system(Student, NDT, {"embedding": CountEmbedding, "positions": SinusoidalPositions}), Trials()
    ),
    "masking": lambda: train(system(Teacher, NDT, masking=Masking(0.3, "full", 0.5, 0.5, 3, 0.2)), Trials()),
    "neurons": lambda: train(system(Student, NDT, masking=Masking(0.3, "neuron")), Trials()),
    "NeuPRINT student": lambda: train(calcium(Student), Recordings()),
    "NeuPRINT teacher": lambda: train(calcium(Teacher), Recordings()),
    "NeuPRINT features": lambda: distilled(calcium(Student), [calcium(Teacher)], Recordings(), FeatureLoss()),
    "NeuPRINT variance": lambda: distilled(
        calcium(Student, True), [calcium(Teacher, True)], Recordings(), GaussianSoftLoss()
    ),
    **{
        kind.__name__: partial(lambda k: train(make_lfp(k), lfp()), kind)
        for kind in (LFPStudent, SpikeTeacher, LFPDecoder, SingleSessionStudent, SingleSessionTeacher, Multimodal)
    },
    "LFP distilled": lambda: distilled(make_lfp(LFPStudent), [make_lfp(SpikeTeacher)], lfp(), RepresentationLoss()),
    "identity": identity,
    "stacked NDT": lambda: stacked(lambda: system(Student, NDT), lambda: system(Teacher, NDT)),
    "stacked STNDT": lambda: stacked(lambda: system(Student, STNDT)),
}


class StallingStudent(Student):
    """Stalls or raises in every step after the first.

    Args:
        violation: called with the labels of a batch.
    """

    def __init__(self, violation: Callable[[Tensor], Any]) -> None:
        super().__init__(partial(NDT, **NETWORKS[NDT]))
        self.violation = violation

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx:
            self.violation(batch.target)
        return super().training_step(batch, batch_idx)


VIOLATIONS: dict[str, Callable[[Tensor], Any]] = {
    "reads a value": lambda target: float(target.mean()),
    "branches on a value": lambda target: 1 if target.isnan().any() else 0,
    "selects by value": lambda target: target[target > 0],
    "copies to the device": lambda target: target + torch.tensor([1.0], device=target.device),
    "copies to the host": lambda target: target.cpu(),
    "indexes from the host": lambda target: target[torch.arange(2)],
    "mixes devices": lambda target: target + torch.ones(target.shape),
}
CASES |= {
    name: partial(lambda violation: gpu.fit(StallingStudent(violation), Trials()), violation)
    for name, violation in VIOLATIONS.items()
}


def run_case(name: str) -> str:
    """Runs a case and returns its error; empty if it passes."""
    try:
        CASES[name]()
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "blend_pl" in frame.filename]
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        return f"{type(error).__name__}: {str(error).splitlines()[0]}{place}"
    return ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with nullcontext() if gpu.REAL else gpu.install():
        for name in sys.argv[1:] or CASES:
            print(json.dumps([name, run_case(name)]), flush=True)
