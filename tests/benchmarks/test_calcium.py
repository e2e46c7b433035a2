"""Benchmarks: reading of calcium recordings, and fitting of embeddings compared with the original schedule."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch
from measure import measure_cost
from torch import Tensor

from blend_pl.callbacks.identity import make_cell_loss, temporary_embeddings
from blend_pl.data.calcium import BugeonDataModule, BugeonSimulation, CalciumSpec
from blend_pl.data.calcium.simulation import write_bugeon_dataset
from blend_pl.data.calcium.spec import CellSplit
from blend_pl.likelihoods import UnitGaussian
from blend_pl.masking import Masking
from blend_pl.models import NeuPRINT
from blend_pl.probes import EmbeddingFitConfig, fit_embeddings
from blend_pl.probes.fitting import CellBatches, CellLossFn
from blend_pl.systems import Student

pytestmark = pytest.mark.benchmark

SESSION = BugeonSimulation(n_mice=1, n_sessions=1, n_frames=3000, n_cells=556)
"""3000 frames of 500 cells."""

SMALL_SESSION = BugeonSimulation(n_mice=1, n_sessions=1, n_frames=640, n_cells=30)
N_EPOCHS, N_PASSES = 100, 100
"""Original schedule of one fit: epochs, and full passes per epoch (Mi et al., 2023, released code)."""

N_ORIGINAL_FITS = 9
"""Number of evaluations in the original schedule; each fits the embeddings again."""
N_MASKS = 20
"""Number of random masks over which a reconstruction error is averaged; both fits have the same masks."""


def test_session_is_read_within_one_second(tmp_path: Path) -> None:
    write_bugeon_dataset(SESSION, tmp_path / "tree")

    def read() -> None:
        BugeonDataModule(CalciumSpec("big"), str(tmp_path / "tree")).setup("fit")

    read_cost = measure_cost(read)
    print(f"\n3000 frames x 500 cells, files -> z-scored tensors with population context: {read_cost}")
    assert read_cost.seconds < 1


def train_student(datamodule: BugeonDataModule) -> Student:
    torch.manual_seed(0)
    network = partial(NeuPRINT, size=16, std=0.3, dim_feedforward=64, dropout=0.0)
    student = Student(network, Masking(ratio=0.25, mode="full", zero_ratio=0.8, random_ratio=0.5), UnitGaussian())
    student.build(datamodule.signature)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    for step, batch in enumerate(datamodule.train_dataloader()):
        masked, labels = student.mask(batch, step, 0)
        optimizer.zero_grad()
        student.objective(student.encode(masked), labels, masked)["loss"].backward()
        optimizer.step()
    return student.eval()


def fit_by_original_schedule(vectors: Tensor, cell_loss: CellLossFn, train: CellBatches) -> float:
    """Fits randomly initialized embeddings with Adam at 1e-3, one full pass per step; returns the wall time in s."""
    torch.nn.init.normal_(vectors, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([vectors], 1e-3)
    start = time.perf_counter()
    for step in range(N_EPOCHS * N_PASSES):
        optimizer.zero_grad()
        for cell_batches in train:
            for batch_index, batch in enumerate(cell_batches):
                loss_sum, n_entries = cell_loss(batch, step * len(cell_batches) + batch_index)
                (loss_sum / n_entries.clamp(min=1)).sum().backward()
        optimizer.step()
    return time.perf_counter() - start


@torch.no_grad()
def reconstruction_error(cell_loss: CellLossFn, batches: CellBatches) -> float:
    """Returns the squared error of masked entries, averaged over masks and then over cells."""
    sums = [
        cell_loss(batch, 10**6 + seed) for cell_batches in batches for batch in cell_batches for seed in range(N_MASKS)
    ]
    return float((sum(loss_sum for loss_sum, _ in sums) / sum(n_entries for _, n_entries in sums)).mean())


def test_embedding_fit_compared_with_original_schedule(tmp_path: Path) -> None:
    datamodule = BugeonDataModule(
        CalciumSpec("small", cells=CellSplit(train=0.6, val=0.1)),
        root=str(tmp_path),
        source="simulated",
        simulation=SMALL_SESSION,
        window=40,
        n_windows=1,
        n_cells=64,
        n_steps=800,
        n_windows_eval=1,
    )
    datamodule.setup("fit")
    student = train_student(datamodule)
    cpu = torch.device("cpu")
    train, later = datamodule.all_cell_batches("train", cpu), datamodule.all_cell_batches("val", cpu)
    # One half of the later batches is for early stopping; the other half is unseen by both fits.
    validation = [cell_batches[0::2] for cell_batches in later]
    unseen = [cell_batches[1::2] for cell_batches in later]
    n_cells, cell_loss = len(datamodule.cells), make_cell_loss(student)
    with temporary_embeddings(student, n_cells) as embedding:
        original_seconds = fit_by_original_schedule(embedding.weight, cell_loss, train)
        original_errors = reconstruction_error(cell_loss, unseen), reconstruction_error(cell_loss, train)
    with temporary_embeddings(student, n_cells) as embedding:
        start = time.perf_counter()
        fitted = fit_embeddings(embedding, cell_loss, train, validation, EmbeddingFitConfig())
        seconds = time.perf_counter() - start
        with torch.no_grad():
            embedding.weight.copy_(fitted.vectors)
        errors = reconstruction_error(cell_loss, unseen), reconstruction_error(cell_loss, train)
    time_ratio = original_seconds / seconds
    print(f"\n{n_cells} cells: ours {seconds:.1f} s ({fitted.steps} steps), original {original_seconds:.0f} s")
    print(
        f"speedup: {time_ratio:.0f} x for one fit, {time_ratio * N_ORIGINAL_FITS:.0f} x for the {N_ORIGINAL_FITS} fits "
        "of the original schedule"
    )
    for part, error, original_error in zip(("unseen", "training"), errors, original_errors, strict=True):
        print(
            f"squared error in {part} time: ours {error:.4f}, original {original_error:.4f}, "
            f"ratio {error / original_error:.3f}"
        )
    assert time_ratio > 20
    assert errors[0] < 1.01 * original_errors[0]
