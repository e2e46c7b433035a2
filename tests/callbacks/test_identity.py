import copy
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from helpers.calcium import neuprint, tiny_calcium
from helpers.sessions import tiny_module
from helpers.systems import make, trainer
from torch import Tensor

from blend_pl.callbacks import IdentityEvaluation
from blend_pl.callbacks.identity import identity_scores, make_cell_loss, temporary_embeddings
from blend_pl.data.calcium import BugeonDataModule
from blend_pl.data.calcium.cells import TRAIN
from blend_pl.errors import ConfigError, DataError
from blend_pl.probes import EmbeddingFitConfig
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.systems import Student, Teacher

FIT = EmbeddingFitConfig(max_steps=10, check_every=5)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> BugeonDataModule:
    return tiny_calcium(tmp_path_factory.mktemp("calcium"))


def evaluate(system: Student, module: BugeonDataModule, folder: Path) -> IdentityEvaluation:
    evaluation = IdentityEvaluation(FIT)
    trainer(folder, 1, evaluation).test(system, datamodule=module, verbose=False)
    return evaluation


def vectors(evaluation: IdentityEvaluation) -> Tensor:
    assert evaluation.fitted is not None
    return evaluation.fitted.vectors


def with_nan_behavior(module: BugeonDataModule) -> BugeonDataModule:
    """The same recordings with NaN in all behavior."""
    blind = copy.copy(module)
    blind.sessions = [
        replace(population, behavior=torch.full_like(population.behavior, torch.nan)) for population in module.sessions
    ]
    return blind


def test_embeddings_of_a_student_ignore_behavior(module: BugeonDataModule, tmp_path: Path) -> None:
    student = neuprint(Student, module.signature)
    results, nan_results = (evaluate(student, m, tmp_path) for m in (module, with_nan_behavior(module)))
    assert torch.equal(vectors(results), vectors(nan_results))
    assert results.scores == nan_results.scores


def test_embeddings_of_a_teacher_depend_on_behavior(module: BugeonDataModule, tmp_path: Path) -> None:
    teacher = neuprint(Teacher, module.signature)
    other = copy.copy(module)
    other.sessions = [replace(population, behavior=population.behavior + 1) for population in module.sessions]
    assert not torch.equal(*(vectors(evaluate(teacher, m, tmp_path)) for m in (module, other)))


def test_all_tasks_are_scored_by_all_probes(module: BugeonDataModule, tmp_path: Path) -> None:
    evaluation = evaluate(neuprint(Student, module.signature), module, tmp_path)
    expected = {"heldout_loss", "ei_majority", "subclass_majority"}
    for task in ("ei", "subclass"):
        for probe in ("", "knn_", "mlp_"):
            expected |= {f"{task}_{probe}{score}" for score in ("top1", "balanced", "f1")}
    assert evaluation.scores.keys() == expected
    assert all(0 <= value <= 1 for name, value in evaluation.scores.items() if name != "heldout_loss")
    assert vectors(evaluation).shape == (len(module.cells), 6)


def test_evaluation_does_not_change_the_network(module: BugeonDataModule, tmp_path: Path) -> None:
    student = neuprint(Student, module.signature)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    evaluate(student, module, tmp_path)
    after = student.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_fit_trains_embeddings_only(module: BugeonDataModule) -> None:
    student = neuprint(Student, module.signature).train()
    (block, *_) = module.all_cell_batches("train", torch.device("cpu"))
    mean = student.backbone.embedding.weight.mean(0)
    with temporary_embeddings(student, len(module.cells)) as fresh:
        assert not any(module.training for module in student.modules())
        assert torch.allclose(fresh.weight, mean.expand(len(module.cells), -1))
        total, entries = make_cell_loss(student)(block[0], 3)
        assert total.shape == entries.shape == block[0].embedding_index.shape
        total.sum().backward()
        trained = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
        assert trained == {"backbone.embedding.weight"}
    assert student.training


def test_summary_of_train_cells_is_kept_for_all_cells(module: BugeonDataModule) -> None:
    student = neuprint(Student, module.signature, summarize=True).eval()
    (batch, *_), *_ = module.all_cell_batches("train", torch.device("cpu"))
    rows = torch.from_numpy(module.cells.rows_in_split(TRAIN))
    trained = student.backbone.summary
    is_train = torch.isin(batch.embedding_index, rows)
    index_in_training = torch.searchsorted(rows, batch.embedding_index[is_train])
    expected = trained(batch.observed[..., is_train], index_in_training)
    with temporary_embeddings(student, len(module.cells), rows):
        sums = student.backbone.summary(batch.observed, batch.embedding_index)
        torch.testing.assert_close(sums[:, :, is_train], expected)
        assert not is_train.all()
        assert not any(parameter.requires_grad for parameter in student.backbone.summary.parameters())
    assert student.backbone.summary is trained


def test_error_restores_the_embeddings(module: BugeonDataModule) -> None:
    student = neuprint(Student, module.signature)
    table = student.backbone.embedding
    with pytest.raises(RuntimeError), temporary_embeddings(student, 3):
        raise RuntimeError
    assert student.backbone.embedding is table
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_probes_are_trained_on_train_cells_and_scored_on_test_cells(
    module: BugeonDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With embeddings that name each cell's side, one sees which cells a probe meets."""
    cells = evaluate(neuprint(Student, module.signature), module, tmp_path).cells
    assert cells is not None
    sides = {"train": 0.0, "val": 1.0, "test": 2.0}
    named = np.array([[sides[side], row] for row, side in enumerate(cells.split.tolist())])
    met: list[tuple[set[float], set[float]]] = []

    def spy(vectors, classes, seed):  # type: ignore[no-untyped-def]
        met.append((set(vectors[0][:, 0].tolist()), set(vectors[1][:, 0].tolist())))
        assert not {*vectors[0][:, 1]} & {*vectors[1][:, 1]}
        assert "" not in {*classes[0], *classes[1]}
        return {}

    monkeypatch.setattr("blend_pl.callbacks.identity.probe_scores", spy)
    identity_scores(replace(cells, vectors=named), 0)
    assert met == [({0.0}, {2.0})] * 2


def test_embeddings_are_saved_with_metadata_of_the_cells(module: BugeonDataModule, tmp_path: Path) -> None:
    evaluation = evaluate(neuprint(Student, module.signature), module, tmp_path)
    evaluation.save(tmp_path)
    stored = CellEmbeddings.read(tmp_path)
    assert np.array_equal(stored.vectors, vectors(evaluation).numpy())
    assert np.array_equal(stored.cell, module.cells.cell_id)
    assert np.array_equal(stored.split, module.cells.split)
    assert identity_scores(stored, 0) == identity_scores(evaluation.cells, 0)  # type: ignore[arg-type]


def test_missing_and_damaged_embeddings_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no embeddings\.h5"):
        CellEmbeddings.read(tmp_path)
    (tmp_path / "embeddings.h5").write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot read .*embeddings\.h5"):
        CellEmbeddings.read(tmp_path)


def test_data_without_cells_raise(tmp_path: Path) -> None:
    session = tiny_module(tmp_path / "session")
    with pytest.raises(ConfigError, match=r"NLBDataModule lacks; remove it from trainer\.callbacks"):
        trainer(tmp_path, 1, IdentityEvaluation(FIT)).test(make(), datamodule=session, verbose=False)


def test_network_without_embeddings_raises(module: BugeonDataModule) -> None:
    class Bare(L.LightningModule):
        backbone = torch.nn.Linear(2, 2)

    with pytest.raises(ConfigError, match=r"Linear has no embeddings to fit; choose .*NeuPRINT"):
        temporary_embeddings(Bare(), 3).__enter__()  # type: ignore[arg-type]
