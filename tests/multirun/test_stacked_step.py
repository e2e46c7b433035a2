from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sessions import session_of
from helpers.systems import NETWORK, make
from torch import Tensor

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
from blend_pl.systems import PopulationSystem, Student, Teacher

MASKINGS = [
    Masking(0.4),
    Masking(0.5, "full", zero_ratio=0.3, random_ratio=0.7),
    Masking(0.5, "neuron", zero_ratio=0.5, privileged_dropout=0.6),
    Masking(0.3, max_span=3),
]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def members(session: SessionTensors, kind: type[PopulationSystem], maskings: Sequence[Masking]) -> list[Replica]:
    made = []
    for seed, masking in enumerate(maskings):
        torch.manual_seed(seed)
        system = make(kind, session_signature("any", session), masking=masking)
        # Dropout draws other numbers in a stack.
        system.backbone.eval()
        chosen = CheckpointSelector(("val/loss", "min"), ("val/loss", "min"), 1, 0.0)
        made.append(Replica(system.double(), seed, [], chosen, Path(), []))
    return made


def loaders(session: SessionTensors, count: int) -> list[TrialLoader]:
    scale = Standardizer.fit(session.behavior)
    return [TrialLoader(session, scale, TrialSampler(len(session), 4, True, seed)) for seed in range(count)]


def double(batch: Batch) -> Batch:
    assert batch.privileged is not None
    batch.observed, batch.target, batch.privileged = (
        part.double() for part in (batch.observed, batch.target, batch.privileged)
    )
    return batch


@pytest.mark.parametrize("kind", [Student, Teacher])
def test_terms_are_those_of_each_alone(kind: type[PopulationSystem]) -> None:
    session = session_of(trials=10)
    session.observed[2, :, 1] = False
    several, own = members(session, kind, MASKINGS), loaders(session, len(MASKINGS))
    together = StackedLoader(own)
    together.sampler.set_epoch(3)
    steps = [*zip(together, *own, strict=True)]
    assert len(steps) == len(together) == 3
    for batch, *batches in steps:
        assert [len(each) for each in batches] == [len(batch) // len(MASKINGS)] * len(MASKINGS)
        terms = StackedStep(several).losses(double(batch), [7, 8, 9, 10], 2)
        for place, (member, single) in enumerate(zip(several, batches, strict=True)):
            masked, labels = member.system.mask(double(single), 7 + place, 2)
            expected = member.distillation_step(masked, labels)
            assert terms.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(terms[name][place], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("active", [[1], [0, 2]])
def test_who_has_stopped_gets_no_batches(active: list[int]) -> None:
    session = session_of(trials=10)
    own = loaders(session, 3)
    together = StackedLoader(own)
    together.sampler.active = active
    for batch, *batches in zip(together, *(own[index] for index in active), strict=True):
        assert batch.index.tolist() == [trial for each in batches for trial in each.index.tolist()]
        assert batch.rows.tolist() == [row for each in batches for row in each.rows.tolist()]
        assert batch.global_size == len(batches[0])


@pytest.mark.parametrize("sizes", [{}, {"forward": 0, "heldout": 0}])
def test_answers_are_those_of_each_alone(sizes: dict[str, int]) -> None:
    session = session_of(trials=10, **sizes)
    several = members(session, Student, MASKINGS)
    (batch,) = TrialLoader(session, Standardizer.fit(session.behavior), TrialSampler(10, 10, False))
    double(batch)
    lessons = StackedStep(several)
    modes = [module.training for module in lessons.stack.template.modules()]
    with torch.inference_mode():
        rates, entries, labels = lessons.predict_with_loss(batch, 5)
        for place, member in enumerate(several):
            member.system.eval()
            asked, known = member.system.validation_batch(batch, 5)
            expected: tuple[Any, ...] = (*member.system.predict_with_loss(asked, known), known)
            torch.testing.assert_close((rates[place], entries[place], labels[place]), expected, rtol=1e-9, atol=1e-12)
    assert [module.training for module in lessons.stack.template.modules()] == modes
    assert any(modes)


class Counting(NDT):
    """Counts its steps."""

    steps: Tensor

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        if self.training:
            self.steps += 1
        return super().forward(observed, context)


class Deciding(Counting):
    """Does what depends on a number."""

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        return super().forward(observed if observed.sum().item() else observed + 1, context)


@pytest.mark.parametrize(("network", "reason"), [(Counting, None), (Deciding, "vmap")])
def test_a_trial_says_what_keeps_models_apart_and_counts_no_step(network: type[NDT], reason: str | None) -> None:
    session, several = session_of(trials=10), []
    for seed in range(2):
        system = Student(partial(network, **NETWORK))
        system.build(session_signature("any", session))
        chosen = CheckpointSelector(("val/loss", "min"), ("val/loss", "min"), 1, 0.0)
        several.append(Replica(system.double(), seed, [], chosen, Path(), []))
    found = stacking_unsupported_reason(several, double(next(iter(loaders(session, 1)[0]))))
    assert (reason is None and found is None) or (reason is not None and reason in str(found))
    assert [float(member.system.backbone.steps) for member in several] == [0, 0]


def test_other_likelihoods_are_another_architecture() -> None:
    session = session_of(trials=10)
    first, second, third = members(session, Student, MASKINGS[:3])
    second.system = make(Student, session_signature("any", session), likelihood=UnitGaussian())
    second.system.double().backbone.eval()
    assert first.architecture == third.architecture
    assert first.architecture != second.architecture


def test_mixed_precision_is_as_narrow_as_alone() -> None:
    torch.set_default_dtype(torch.float32)
    session = session_of(trials=10)
    several = members(session, Student, MASKINGS[:2])
    batch = next(iter(StackedLoader(loaders(session, 2))))
    for member in several:
        member.system.float()
    lessons = StackedStep(several)
    widths: set[torch.dtype] = set()
    lessons.stack.template.get_submodule("system.backbone.readout").register_forward_hook(
        lambda module, inputs, out: widths.add(out.dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        lessons.losses(batch, [1, 2], 0)
    assert widths == {torch.bfloat16}
