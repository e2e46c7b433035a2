"""LFP students, spike teachers and behavior decoders of several sessions."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.lfp import NETWORK, InMemory, in_memory, make_lfp
from helpers.sessions import session_of
from helpers.systems import save, trainer

from blend_pl.callbacks import DecodingEvaluation, Distillation, Pretrained
from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.nlb.session import session_signature
from blend_pl.data.signature import MultiSessionSignature, SessionInfo
from blend_pl.distillation import HardLoss, RepresentationLoss
from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.masking import TokenMasking
from blend_pl.models import NDT, PatchAutoencoder, PerSessionNetworks
from blend_pl.models.layers.patches import CountPatches, WaveformPatches
from blend_pl.systems import LFPDecoder, LFPStudent, Multimodal, MultiSessionSystem, SpikeTeacher
from blend_pl.systems.base import INSTANTIATOR
from blend_pl.systems.checkpoint import load_system

KINDS = [LFPStudent, LFPDecoder]
LR = partial(torch.optim.AdamW, lr=3e-3)


def with_nan_privileged(batch: SessionBatch) -> SessionBatch:
    assert batch.privileged is not None
    return replace(batch, privileged=torch.full_like(batch.privileged, torch.nan))


def saved(system: MultiSessionSystem, path: Path) -> Path:
    """A checkpoint as the command line writes it."""
    embedding = CountPatches if isinstance(system, SpikeTeacher) else WaveformPatches
    settings = {**NETWORK, "embedding": {"class_path": f"blend_pl.models.layers.patches.{embedding.__name__}"}}
    parameters: dict[str, Any] = {
        "_instantiator": INSTANTIATOR,
        "_class_path": f"blend_pl.systems.{type(system).__name__}",
        "backbone": {"class_path": "blend_pl.models.PatchAutoencoder", "init_args": settings},
    }
    if isinstance(system, Multimodal):
        parameters["unit_patch"] = system.unit_patch
    return save(system, path, hyper_parameters=parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_student_ignores_spikes(data: InMemory, batch: SessionBatch, kind: type[MultiSessionSystem]) -> None:
    """Neither of what it predicts, nor of what it learns."""
    student = make_lfp(kind, data.signature)
    gradients = []
    for variant in (batch, with_nan_privileged(batch), batch.without_privileged()):
        masked, labels = student.mask(variant, 5, 0)
        encoding = student.encode(masked)
        loss = student.objective(encoding, labels, masked)["loss"]
        gradients.append(
            [loss, encoding.latents, *torch.autograd.grad(loss, [*student.parameters()], allow_unused=True)]
        )
    for other in gradients[1:]:
        for first, second in zip(gradients[0], other, strict=True):
            assert (first is None and second is None) or torch.equal(first, second)


def test_spike_teacher_depends_on_spikes_only(data: InMemory, batch: SessionBatch) -> None:
    teacher = make_lfp(SpikeTeacher, data.signature).eval()
    blind = replace(batch, observed=torch.full_like(batch.observed, torch.nan))
    assert torch.equal(teacher.latents(batch), teacher.latents(blind))
    assert batch.privileged is not None
    assert not torch.allclose(teacher.latents(batch), teacher.latents(replace(batch, privileged=batch.privileged + 1)))
    with pytest.raises(TeacherError, match="this batch has none"):
        teacher.encode(batch.without_privileged())


def test_spike_teacher_ignores_the_mask_of_a_student(data: InMemory, batch: SessionBatch) -> None:
    teacher, student = make_lfp(SpikeTeacher, data.signature).eval(), make_lfp(LFPStudent, data.signature)
    masked, _ = student.mask(batch, 3, 0)
    assert masked.patch_mask is not None
    assert torch.equal(teacher.latents(masked), teacher.latents(batch))


@pytest.mark.parametrize("kind", [LFPStudent, SpikeTeacher])
def test_labels_are_dropped_tokens(data: InMemory, batch: SessionBatch, kind: type[MultiSessionSystem]) -> None:
    system = make_lfp(kind, data.signature)
    masked, labels = system.mask(batch, 3, 0)
    assert masked.patch_mask is not None
    assert labels.shape == masked.target.shape
    for row, name in enumerate(batch.sessions):
        patches = system.network.n_patches(name)
        hidden = masked.patch_mask[row]
        assert int(hidden.sum()) == round(0.6 * 50 * patches)
        assert not hidden[:, patches:].any()
        channels = masked.target_valid[row, 0].sum()
        assert labels[row, :, channels:].sum() == 0
        assert torch.equal(labels[row, :, :channels], hidden.repeat_interleave(8, -1)[:, :channels])


def test_mask_does_not_depend_on_the_number_of_ranks(data: InMemory, batch: SessionBatch) -> None:
    student = make_lfp(LFPStudent, data.signature)
    full, _ = student.mask(batch, 3, 0)
    assert full.patch_mask is not None
    rows = torch.arange(1, len(batch), 2)
    tensors = {k: v[rows] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    share = replace(batch, **tensors, sessions=batch.sessions[1::2])
    part, _ = student.mask(share, 3, 0)
    assert part.patch_mask is not None
    assert torch.equal(part.patch_mask, full.patch_mask[rows])


def test_all_values_are_labels_without_masking(data: InMemory, batch: SessionBatch) -> None:
    student = make_lfp(LFPStudent, data.signature, token_masking=TokenMasking(0.0))
    masked, labels = student.mask(batch, 3, 0)
    assert masked.patch_mask is None
    assert torch.equal(labels, batch.target_valid)
    with pytest.raises(ValueError, match="must be at least 0 and below 1"):
        TokenMasking(1.0)


def test_decoder_loss_is_over_valid_behavior(data: InMemory, batch: SessionBatch) -> None:
    decoder = make_lfp(LFPDecoder, data.signature, token_masking=TokenMasking(0.0))
    valid = batch.behavior_valid.clone()
    valid[0] = False
    gap = replace(batch, behavior_valid=valid, behavior=batch.behavior.masked_fill(~valid, torch.nan))
    masked, labels = decoder.mask(gap, 0, 0)
    terms = decoder.objective(decoder.encode(masked), labels, masked)
    errors = (decoder.objective.head(decoder.encode(masked).latents) - batch.behavior)[1:]  # type: ignore[operator,union-attr]
    torch.testing.assert_close(terms["loss"], errors.square().mean())
    assert terms.keys() == {"loss", "decoding"}


@pytest.mark.parametrize("kind", [LFPStudent, SpikeTeacher, LFPDecoder, Multimodal])
def test_training_lowers_the_loss(data: InMemory, tmp_path: Path, kind: type[MultiSessionSystem]) -> None:
    losses: list[float] = []

    class Record(L.Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            losses.append(float(trainer.callback_metrics["val/loss"]))

    masking = TokenMasking(0.0 if kind is LFPDecoder else 0.6)
    settings = {"optimizer": LR, "token_masking": masking}
    trainer(tmp_path, 1, Record()).validate(make_lfp(kind, **settings), datamodule=data, verbose=False)
    trainer(tmp_path, 5, Record()).fit(make_lfp(kind, **settings), datamodule=data)
    assert losses[-1] < 0.97 * losses[0]


def test_distillation_lowers_the_distance_to_the_teacher(data: InMemory, tmp_path: Path) -> None:
    """The same callback as everywhere; the teacher stays as it was and out of the checkpoint."""
    teacher = make_lfp(SpikeTeacher, data.signature)
    path = saved(teacher, tmp_path / "teacher.ckpt")
    callback, evaluation = Distillation(str(path), RepresentationLoss(), 1 / 6), DecodingEvaluation()
    student = make_lfp(LFPStudent, optimizer=LR, token_masking=TokenMasking(0.3))
    training = trainer(tmp_path, 3, callback, evaluation)
    training.fit(student, datamodule=data)
    terms = training.callback_metrics
    expected = (float(terms["train/mtm"]) + 5 * float(terms["train/distillation"])) / 6
    assert float(terms["train/loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(terms["train/distillation"]) < 0.7
    frozen = callback.teachers[0]
    assert all(torch.equal(a, b) for a, b in zip(frozen.parameters(), teacher.parameters(), strict=True))
    checkpoint: dict[str, Any] = {}
    student.on_save_checkpoint(checkpoint)
    assert not any("teacher" in name for name in student.state_dict())
    training.test(student, datamodule=data, verbose=False)
    scores = evaluation.scores
    assert {name for name in scores if "/" in name} == {"r2/a1", "r2/a2", "r2/b1", "r2/b2"}
    assert scores["new_r2"] == scores["r2/b2"]
    assert scores["vel_r2"] == pytest.approx(sum(scores[f"r2/{name}"] for name in ("a1", "a2", "b1")) / 3)
    assert 0 < scores["cka"] <= 1
    assert 0 <= scores["retrieval"] <= 1


def test_evaluation_does_not_change_the_model(data: InMemory, tmp_path: Path) -> None:
    student, evaluation = make_lfp(LFPStudent, data.signature), DecodingEvaluation()
    before, network = student.state_dict(), student.backbone
    before = {name: weight.clone() for name, weight in before.items()}
    trainer(tmp_path, 1, evaluation).test(student, datamodule=data, verbose=False)
    assert student.backbone is network
    assert all(torch.equal(weight, before[name]) for name, weight in student.state_dict().items())
    assert "cka" not in evaluation.scores


@pytest.mark.parametrize("n_networks", ["one", "many"])
def test_fine_tuning_starts_from_pretrained_weights(data: InMemory, tmp_path: Path, n_networks: str) -> None:
    teacher = make_lfp(SpikeTeacher, data.signature)
    torch.nn.init.normal_(teacher.network.table.weight)  # type: ignore[union-attr,arg-type]
    path = saved(teacher, tmp_path / "teacher.ckpt")
    torch.manual_seed(7)
    one = partial(PatchAutoencoder, embedding=CountPatches, **NETWORK)
    tuned = SpikeTeacher(one if n_networks == "one" else partial(PerSessionNetworks, build_network=one))
    callback = Pretrained(str(path))
    training = trainer(tmp_path, 1, callback, limit_train_batches=0, limit_val_batches=0)
    training.fit(tuned, datamodule=data)
    batch = next(iter(data.train_dataloader()))
    torch.testing.assert_close(tuned.eval().latents(batch), teacher.eval().latents(batch))


def test_pretrained_model_with_another_input_raises(data: InMemory, tmp_path: Path) -> None:
    path = saved(make_lfp(SpikeTeacher, data.signature), tmp_path / "teacher.ckpt")
    with pytest.raises(ConfigError, match="LFPStudent cannot start from the SpikeTeacher"):
        trainer(tmp_path, 1, Pretrained(str(path))).fit(make_lfp(LFPStudent), datamodule=data)


def test_loaded_system_has_its_sessions(data: InMemory, tmp_path: Path) -> None:
    for kind in (LFPStudent, SpikeTeacher, LFPDecoder, Multimodal):
        system = make_lfp(kind, data.signature).eval()
        loaded = load_system(saved(system, tmp_path / "model.ckpt"))
        assert loaded.signature == data.signature
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), system.parameters(), strict=True))


def test_teacher_of_other_sessions_raises(data: InMemory, tmp_path: Path) -> None:
    some = in_memory("a1", "a2")
    path = saved(make_lfp(SpikeTeacher, some.signature), tmp_path / "teacher.ckpt")
    fitting = trainer(tmp_path, 1, Distillation(str(path), RepresentationLoss()))
    with pytest.raises(TeacherError, match=r"was trained on in_memory \(2 session\(s\): a1, a2;"):
        fitting.fit(make_lfp(LFPStudent), datamodule=data)
    callback = Distillation(str(saved(make_lfp(SpikeTeacher, data.signature), path)), RepresentationLoss())
    trainer(tmp_path, 1, callback).fit(make_lfp(LFPStudent), datamodule=in_memory("a1"))
    assert callback.teachers


def test_session_with_other_units_is_incompatible(data: InMemory) -> None:
    first, *others = data.signature.sessions
    changed = replace(data.signature, sessions=(replace(first, unit_id=first.unit_id[1:]), *others))
    assert data.signature.can_teach(data.signature)
    assert not data.signature.can_teach(changed)
    assert not data.signature.is_compatible_with(changed)
    assert not data.signature.is_compatible_with(session_signature("nlb", session_of()))
    new = replace(data.signature, sessions=(SessionInfo("z", "A", ("1",), ("2",)),))
    assert data.signature.is_compatible_with(new)
    assert not data.signature.can_teach(new)
    assert MultiSessionSignature.from_dict(data.signature.to_dict()) == data.signature


def test_wrong_sessions_and_backbones_raise(data: InMemory) -> None:
    with pytest.raises(DataError, match="needs sessions of spikes and LFP"):
        make_lfp(LFPStudent, session_signature("nlb", session_of()))
    with pytest.raises(ConfigError, match="NDT is no network of several sessions"):
        LFPStudent(partial(NDT, num_layers=1)).build(data.signature)
    silent = replace(data.signature, sessions=tuple(replace(m, unit_id=()) for m in data.signature.sessions))
    with pytest.raises(TeacherError, match="needs units, and a1 has none"):
        make_lfp(SpikeTeacher, silent)
    with pytest.raises(ConfigError, match="needs behavior"):
        make_lfp(LFPDecoder, replace(data.signature, n_behavior=0))
    make_lfp(LFPStudent, silent)


def test_incompatible_loss_raises(data: InMemory, tmp_path: Path) -> None:
    path = saved(make_lfp(SpikeTeacher, data.signature), tmp_path / "teacher.ckpt")
    with pytest.raises(TeacherError, match=r"the teacher predicts \(bins, neurons\)"):
        trainer(tmp_path, 1, Distillation(str(path), HardLoss())).fit(make_lfp(LFPStudent), datamodule=data)
