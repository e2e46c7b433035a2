"""The multimodal system of spikes and LFP."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.lfp import NETWORK, InMemory, make_lfp
from helpers.systems import trainer

from blend_pl.callbacks import DecodingEvaluation
from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.errors import ConfigError, TeacherError
from blend_pl.export import command
from blend_pl.masking import TokenMasking
from blend_pl.models import PatchAutoencoder, PerSessionNetworks
from blend_pl.systems import Multimodal


@pytest.fixture
def system(data: InMemory) -> Multimodal:
    multimodal = make_lfp(Multimodal, data.signature).eval()
    assert isinstance(multimodal, Multimodal)
    return multimodal


def test_multimodal_encodes_spikes_and_lfp(system: Multimodal, batch: SessionBatch) -> None:
    latents = system.latents(batch)
    assert batch.privileged is not None
    changed = torch.where(batch.privileged_valid, batch.privileged + 1, 0.0)  # type: ignore[arg-type]
    assert not torch.allclose(latents, system.latents(replace(batch, privileged=changed)))
    assert not torch.allclose(latents, system.latents(replace(batch, observed=batch.observed + 1)))
    with pytest.raises(TeacherError, match="needs spikes and LFP, but this batch has no spikes; predict with a"):
        system.encode(batch.without_privileged())


def test_equal_share_of_each_modality_is_dropped(system: Multimodal, batch: SessionBatch) -> None:
    masked, labels = system.mask(batch, 3, 0)
    assert masked.patch_mask is not None
    n = masked.n_units
    behind = -(-n // 8)
    for row, name in enumerate(batch.sessions):
        for table, hidden, scored, valid in (
            (
                system.multimodal_network.unit_table,
                masked.patch_mask[row, :, :behind],
                labels[row, :, :n],
                masked.target_valid[row, 0, :n],
            ),
            (
                system.multimodal_network.lfp.table,
                masked.patch_mask[row, :, behind:],
                labels[row, :, n:],
                masked.target_valid[row, 0, n:],
            ),
        ):
            assert int(hidden.sum()) == round(0.6 * 50 * table.n_patches(name))
            assert int(valid.sum()) == table.channels[name]
            expected = hidden.repeat_interleave(8, -1)[:, : scored.shape[1]] & valid
            assert torch.equal(scored, expected)


def test_each_modality_has_its_likelihood(data: InMemory, batch: SessionBatch) -> None:
    system = make_lfp(Multimodal, data.signature, lfp_weight=0.3)
    masked, labels = system.mask(batch, 3, 0)
    encoding = system.encode(masked)
    terms = system.objective(encoding, labels, masked)
    n = batch.privileged.shape[-1]  # type: ignore[union-attr]
    (counts, waves), (spikes, lfp), (seen, heard) = (
        each.split([n, batch.observed.shape[-1]], -1) for each in (encoding.prediction, masked.target, labels)
    )
    poisson = (counts.exp() - spikes * counts)[seen].mean()
    squares = (waves - lfp)[heard].square().mean()
    torch.testing.assert_close(terms["spikes"], poisson)
    torch.testing.assert_close(terms["lfp"], squares)
    torch.testing.assert_close(terms["loss"], poisson + 0.3 * squares)


def test_all_values_are_labels_without_masking(data: InMemory, batch: SessionBatch) -> None:
    system = make_lfp(Multimodal, data.signature, token_masking=TokenMasking(0.0))
    masked, labels = system.mask(batch, 3, 0)
    assert masked.patch_mask is None
    assert torch.equal(labels, masked.target_valid)


def test_training_and_new_sessions_are_scored(data: InMemory, system: Multimodal, tmp_path: Path) -> None:
    evaluation = DecodingEvaluation()
    trainer(tmp_path, 1, evaluation).test(system, datamodule=data, verbose=False)
    assert {name for name in evaluation.scores if "/" in name} == {"r2/a1", "r2/a2", "r2/b1", "r2/b2"}


def test_multimodal_is_not_exportable(system: Multimodal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_system", lambda path: system)
    with pytest.raises(TeacherError, match="holds a Multimodal, whose input is not available in real time"):
        command.load_student(tmp_path)


def test_missing_units_and_wrong_backbone_raise(data: InMemory) -> None:
    first, *others = data.signature.sessions
    silent = replace(first, unit_id=())
    with pytest.raises(TeacherError, match=r"a multimodal network needs units, and a1 has none; leave it out of data"):
        make_lfp(Multimodal, replace(data.signature, sessions=(silent, *others)))
    system = make_lfp(Multimodal, replace(data.signature, sessions=tuple(others)))
    with pytest.raises(TeacherError, match="needs units, and a1 has none"):
        system.register_session(silent)
    with pytest.raises(ConfigError, match="PerSessionNetworks cannot encode spikes; choose PatchAutoencoder"):
        Multimodal(partial(PerSessionNetworks, build_network=partial(PatchAutoencoder, **NETWORK)), 8).build(
            data.signature
        )
