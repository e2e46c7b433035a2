"""Tests of the stacked training and validation step."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sessions import session_of
from helpers.systems import NETWORK, make
from torch import Tensor

from blend_pl.callbacks import Distillation
from blend_pl.data.batch import Batch
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.nlb.session import SessionTensors, session_signature
from blend_pl.data.standardize import Standardizer
from blend_pl.likelihoods import UnitGaussian
from blend_pl.masking import Masking
from blend_pl.models import NDT, Encoding
from blend_pl.multirun.checkpoint_selector import CheckpointSelector
from blend_pl.multirun.replica import Replica
from blend_pl.multirun.stacked_data import StackedLoader
from blend_pl.multirun.stacked_step import StackedStep, stacking_unsupported_reason
from blend_pl.systems import GenerativeTeacher, PopulationSystem, Student, Teacher

MASKINGS = [
    Masking(0.4),
    Masking(0.5, "full", zero_ratio=0.3, random_ratio=0.7),
    Masking(0.5, "neuron", zero_ratio=0.5, privileged_dropout=0.6),
    Masking(0.3, max_span=3),
]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_replicas(session: SessionTensors, kind: type[PopulationSystem], maskings: Sequence[Masking]) -> list[Replica]:
    replicas = []
    for seed, masking in enumerate(maskings):
        torch.manual_seed(seed)
        system = make(kind, session_signature("any", session), masking=masking)
        # Dropout draws other random numbers in a stack.
        system.backbone.eval()
        replicas.append(make_replica(system, seed))
    return replicas


def make_replica(system: PopulationSystem, seed: int) -> Replica:
    selector = CheckpointSelector(("val/loss", "min"), ("val/loss", "min"), 1, 0.0)
    return Replica(system.double(), seed, [], selector, Path(), [])


def make_loaders(session: SessionTensors, count: int) -> list[TrialLoader]:
    scale = Standardizer.fit(session.behavior)
    return [TrialLoader(session, scale, TrialSampler(len(session), 4, True, seed)) for seed in range(count)]


def double(batch: Batch) -> Batch:
    assert batch.privileged is not None
    batch.observed, batch.target, batch.privileged = (
        tensor.double() for tensor in (batch.observed, batch.target, batch.privileged)
    )
    return batch


@pytest.mark.parametrize("kind", [Student, Teacher])
def test_losses_equal_those_of_each_replica(kind: type[PopulationSystem]) -> None:
    session = session_of(trials=10)
    session.observed[2, :, 1] = False
    replicas, loaders = make_replicas(session, kind, MASKINGS), make_loaders(session, len(MASKINGS))
    stacked_loader = StackedLoader(loaders)
    stacked_loader.sampler.set_epoch(3)
    steps = [*zip(stacked_loader, *loaders, strict=True)]
    assert len(steps) == len(stacked_loader) == 3
    for batch, *batches in steps:
        assert [len(replica_batch) for replica_batch in batches] == [len(batch) // len(MASKINGS)] * len(MASKINGS)
        losses = StackedStep(replicas).losses(double(batch), [7, 8, 9, 10], 2)
        for index, (replica, replica_batch) in enumerate(zip(replicas, batches, strict=True)):
            masked, labels = replica.system.mask(double(replica_batch), 7 + index, 2)
            expected = replica.distillation_step(masked, labels)
            assert losses.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(losses[name][index], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("active", [[1], [0, 2]])
def test_stopped_replicas_get_no_batches(active: list[int]) -> None:
    session = session_of(trials=10)
    loaders = make_loaders(session, 3)
    stacked_loader = StackedLoader(loaders)
    stacked_loader.sampler.active = active
    for batch, *batches in zip(stacked_loader, *(loaders[index] for index in active), strict=True):
        assert batch.index.tolist() == [trial for replica_batch in batches for trial in replica_batch.index.tolist()]
        assert batch.global_rows.tolist() == [
            row for replica_batch in batches for row in replica_batch.global_rows.tolist()
        ]
        assert batch.global_size == len(batches[0])


@pytest.mark.parametrize("sizes", [{}, {"forward": 0, "heldout": 0}])
def test_predictions_equal_those_of_each_replica(sizes: dict[str, int]) -> None:
    session = session_of(trials=10, **sizes)
    replicas = make_replicas(session, Student, MASKINGS)
    (batch,) = TrialLoader(session, Standardizer.fit(session.behavior), TrialSampler(10, 10, False))
    double(batch)
    stacked_step = StackedStep(replicas)
    modes = [module.training for module in stacked_step.stack.template.modules()]
    with torch.inference_mode():
        rates, losses, labels = stacked_step.predict_with_loss(batch, 5)
        for index, replica in enumerate(replicas):
            replica.system.eval()
            masked, replica_labels = replica.system.mask_for_validation(batch, 5)
            expected: tuple[Any, ...] = (*replica.system.predict_with_loss(masked, replica_labels), replica_labels)
            torch.testing.assert_close((rates[index], losses[index], labels[index]), expected, rtol=1e-9, atol=1e-12)
    assert [module.training for module in stacked_step.stack.template.modules()] == modes
    assert any(modes)


class CountingNDT(NDT):
    """Counts its training steps in a buffer."""

    steps: Tensor

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        if self.training:
            self.steps += 1
        return super().forward(observed, context)


class BranchingNDT(CountingNDT):
    """Has control flow that depends on data, which vmap does not support."""

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        return super().forward(observed if observed.sum().item() else observed + 1, context)


@pytest.mark.parametrize(("network", "expected"), [(CountingNDT, None), (BranchingNDT, "vmap")])
def test_unsupported_reason_does_not_advance_step_counters(network: type[NDT], expected: str | None) -> None:
    session, replicas = session_of(trials=10), []
    for seed in range(2):
        system = Student(partial(network, **NETWORK))
        system.build(session_signature("any", session))
        replicas.append(make_replica(system, seed))
    reason = stacking_unsupported_reason(replicas, double(next(iter(make_loaders(session, 1)[0]))))
    assert (expected is None and reason is None) or (expected is not None and expected in str(reason))
    assert [float(replica.system.backbone.steps) for replica in replicas] == [0, 0]


def test_likelihood_is_part_of_the_architecture() -> None:
    session = session_of(trials=10)
    first, second, third = make_replicas(session, Student, MASKINGS[:3])
    second.system = make(Student, session_signature("any", session), likelihood=UnitGaussian())
    second.system.double().backbone.eval()
    assert first.architecture == third.architecture
    assert first.architecture != second.architecture


def test_mixed_precision_readout_is_bfloat16() -> None:
    torch.set_default_dtype(torch.float32)
    session = session_of(trials=10)
    replicas = make_replicas(session, Student, MASKINGS[:2])
    batch = next(iter(StackedLoader(make_loaders(session, 2))))
    for replica in replicas:
        replica.system.float()
    stacked_step = StackedStep(replicas)
    output_dtypes: set[torch.dtype] = set()
    stacked_step.stack.template.get_submodule("system.backbone.readout").register_forward_hook(
        lambda module, inputs, output: output_dtypes.add(output.dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        stacked_step.losses(batch, [1, 2], 0)
    assert output_dtypes == {torch.bfloat16}


def test_students_of_fixed_targets_are_not_stacked() -> None:
    session = session_of(trials=10)
    replicas = make_replicas(session, Student, MASKINGS[:2])
    for replica in replicas:
        teacher = GenerativeTeacher()
        teacher.build(session_signature("any", session))
        distillation = Distillation(teacher)
        distillation.teachers.append(teacher)
        replica.callbacks.append(distillation)
    reason = stacking_unsupported_reason(replicas, double(next(iter(make_loaders(session, 1)[0]))))
    assert reason == "each run has its own table of predictions of its teacher"
