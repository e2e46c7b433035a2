import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from helpers.sessions import batch_of, session_of
from helpers.systems import make, trainer
from torch import nn

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors, session_signature
from blend_pl.data.signature import Signature
from blend_pl.data.standardize import Standardizer
from blend_pl.errors import ConfigError, DataError
from blend_pl.masking import Masking
from blend_pl.systems import Student


def student_of(session: SessionTensors, **settings: object) -> Student:
    torch.manual_seed(0)
    student = make(Student, session_signature("tiny", session), **settings).eval()
    student.log = student.log_dict = lambda *_, **__: None  # type: ignore[assignment, method-assign]
    return student


@pytest.fixture
def student() -> Student:
    return student_of(session_of())


@pytest.fixture
def batch() -> Batch:
    return batch_of(session_of())


@pytest.mark.parametrize("step", ["predict_step", "test_step", "validation_step", "training_step"])
def test_student_ignores_behavior(student: Student, batch: Batch, step: str) -> None:
    assert batch.privileged is not None
    broken = replace(batch, privileged=torch.full_like(batch.privileged, torch.nan))
    student.trainer = SimpleNamespace(current_epoch=0)  # type: ignore[assignment]
    expected = getattr(student, step)(batch, 0)
    assert expected.isfinite().all()
    assert torch.equal(getattr(student, step)(broken, 0), expected)
    assert torch.equal(getattr(student, step)(batch.without_privileged(), 0), expected)


def test_predictions_are_expected_counts(student: Student, batch: Batch) -> None:
    rates = student.predict_step(batch, 0)
    assert rates.shape == batch.target.shape
    assert torch.equal(rates, student.encode(batch).prediction.exp())


def test_held_out_units_and_forward_bins_are_no_input(student: Student, batch: Batch) -> None:
    target = batch.target.clone()
    target[:, 5:] = 9
    target[:, :, 3:] = 9
    assert torch.equal(student.predict_step(replace(batch, target=target), 0), student.predict_step(batch, 0))


MASKINGS = [
    Masking(0.4),
    Masking(0.4, "full", zero_ratio=0.3, random_ratio=0.7),
    Masking(0.5, "neuron", zero_ratio=0.5),
    Masking(0.3, max_span=4),
]


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("world", [2, 3, 5])
def test_masks_do_not_depend_on_the_number_of_ranks(masking: Masking, world: int) -> None:
    session = session_of(trials=11)
    session.spikes[4] += 20
    student = student_of(session, masking=masking)

    def masked(rank: int, world: int) -> list[tuple[Batch, torch.Tensor]]:
        sampler = TrialSampler(11, 15 // world, True, 3, rank, world)
        batches = TrialLoader(session, Standardizer.fit(session.behavior), sampler)
        return [student.mask(batch, 7, 0) for batch in batches]

    (full, labels), *rest = masked(0, 1)
    assert not rest
    row_of = {int(trial): row for row, trial in enumerate(full.index)}
    n_trials = 0
    for rank in range(world):
        for part, part_labels in masked(rank, world):
            rows = [row_of[int(trial)] for trial in part.index]
            assert torch.equal(part.observed, full.observed[rows])
            assert torch.equal(part_labels, labels[rows])
            n_trials += len(part)
    assert n_trials == 11


def test_labels_are_masked_and_never_observed_entries(batch: Batch) -> None:
    session = session_of()
    session.observed[1, 2, 0] = session.observed[2, :, 1] = session.observed[3, 5:] = False
    student = student_of(session, masking=Masking(0.5, "full"))
    batch = batch_of(session)
    everything = replace(batch, observed=torch.ones_like(batch.observed))
    masked, labels = student.mask(everything, 3, 0)
    expected = torch.ones_like(labels)
    expected[:, :5, :3] = masked.observed == 0
    assert 0 < expected[:, :5, :3].sum() < expected[:, :5, :3].numel()
    assert torch.equal(labels, expected & session.valid_mask(torch.arange(6)))
    assert torch.equal(masked.target, batch.target)


def test_mask_depends_on_the_seed_only(student: Student, batch: Batch) -> None:
    first, second, third = (student.mask(batch, seed, 0)[1] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    before = torch.get_rng_state()
    student.mask(batch, 1, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_validation_loss_is_over_never_observed_entries() -> None:
    session = session_of()
    session.observed[1, 2, 1] = False
    student, batch = student_of(session), batch_of(session)
    rates = student.validation_step(batch, 0)
    entries = rates - batch.target * rates.log()
    labels = session.valid_mask(torch.arange(6))
    labels[:, :5, :3] = False
    torch.testing.assert_close(student.validation_loss.compute(), entries[labels].mean())


def test_validation_uses_a_fixed_mask_if_all_entries_are_observed() -> None:
    session = session_of(trials=20, forward=0, heldin=5, heldout=0)
    student = student_of(session, masking=Masking(0.4, max_span=3, span_ramp=(0, 2)))
    losses = []
    for epoch in (0, 5):
        student.trainer = SimpleNamespace(current_epoch=epoch)  # type: ignore[assignment]
        student.validation_step(batch_of(session), 0)
        losses.append(student.validation_loss.compute())
        student.validation_loss.reset()
    assert losses[0].isfinite()
    assert torch.equal(losses[0], losses[1])


def set_up(student: Student, signature: Signature) -> None:
    strategy = SimpleNamespace(broadcast=lambda value: value)
    module = SimpleNamespace(signature=signature, digest=None)
    student.trainer = SimpleNamespace(datamodule=module, strategy=strategy)  # type: ignore[assignment]
    student.setup("fit")


def test_second_build_keeps_the_parameters(student: Student) -> None:
    before = dict(student.named_parameters())
    set_up(student, session_signature("tiny", session_of()))
    assert all(parameter is before[name] for name, parameter in student.named_parameters())


def test_session_of_other_sizes_raises(student: Student) -> None:
    with pytest.raises(DataError, match=r"trained on tiny \(3 of 5 units.* the data are other \(4 of 6") as raised:
        set_up(student, session_signature("other", session_of(heldin=4)))
    assert "\n" not in str(raised.value)


def test_other_unit_ids_warn(student: Student) -> None:
    with pytest.warns(UserWarning, match="other ids"):
        set_up(student, replace(session_signature("tiny", session_of()), unit_id=(9, 1, 2, 3, 4)))


def test_optimizer_gets_trainable_parameters(student: Student) -> None:
    student.backbone.norm.requires_grad_(False)
    student.objective = nn.Linear(2, 2)
    student.trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    configuration = student.configure_optimizers()
    trained = [parameter for group in configuration["optimizer"].param_groups for parameter in group["params"]]  # type: ignore
    expected = [p for p in student.parameters() if p.requires_grad]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in expected}
    assert len(expected) == len(list(student.parameters())) - 2
    assert configuration["lr_scheduler"]["interval"] == "step"  # type: ignore[index]


def test_training_without_end_raises(student: Student) -> None:
    student.trainer = SimpleNamespace(estimated_stepping_batches=float("inf"))  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs"):
        student.configure_optimizers()


def test_same_seed_gives_the_same_weights_and_loss_decreases(tiny: NLBDataModule, tmp_path: Path) -> None:
    def train(seed: int, epochs: int) -> Student:
        L.seed_everything(seed)
        student = make(optimizer=lambda parameters: torch.optim.AdamW(parameters, 5e-3))
        trainer(tmp_path, epochs).fit(student, datamodule=copy.copy(tiny))
        assert isinstance(student, Student)
        return student.eval()

    def loss(student: Student) -> float:
        batch, loss_mask = student.mask(batch_of(tiny.subsets["fit"]), 0, epoch=0)
        with torch.no_grad():
            return float(student.predict_with_loss(batch, loss_mask)[1].sum() / loss_mask.sum())

    first, second, third = (train(seed, 20).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    assert loss(train(1, 40)) < loss(train(1, 1)) - 0.01


def test_new_network_starts_at_the_mean_rates(tiny: NLBDataModule) -> None:
    student = make()
    student.build_for(tiny)
    session = tiny.subsets["fit"]
    valid = session.valid_mask(torch.arange(len(session)))
    mean = (session.spikes * valid).sum((0, 1)) / valid.sum((0, 1))
    torch.testing.assert_close(student.backbone.readout.bias.exp(), mean.clamp(min=1e-4))
    student.backbone.readout.bias.data.zero_()
    student.build_for(tiny)
    assert not student.backbone.readout.bias.any()


def test_network_of_a_checkpoint_keeps_its_weights_in_training(tiny: NLBDataModule, tmp_path: Path) -> None:
    student = make(signature=tiny.signature, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.0))
    before = copy.deepcopy(student.backbone.state_dict())
    trainer(tmp_path).fit(student, tiny)
    assert all(torch.equal(value, before[name]) for name, value in student.backbone.state_dict().items())


@pytest.mark.parametrize("readout", [nn.Linear(3, 2), nn.Linear(3, 13, bias=False), nn.Identity()])
def test_other_readouts_keep_their_initial_values(tiny: NLBDataModule, readout: nn.Module) -> None:
    student = make(signature=tiny.signature)
    student.backbone.readout = readout
    before = copy.deepcopy(readout.state_dict())
    student.initialize_readout(tiny)
    assert all(torch.equal(value, before[name]) for name, value in readout.state_dict().items())
