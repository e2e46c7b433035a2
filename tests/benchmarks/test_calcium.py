"""Reading of calcium recordings, and fitting of held-out cells' embeddings compared with the original schedule."""

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

SMALL = BugeonSimulation(n_mice=1, n_sessions=1, n_frames=640, n_cells=30)
EPOCHS, PASSES = 100, 100
"""Original schedule of one fit: epochs, and full passes per epoch (Mi et al., 2023, released code)."""

EVALUATIONS = 9
MASKS = 20
"""Number of masks that a reconstruction error is averaged over, the same for both fits."""


def test_reading_a_session(tmp_path: Path) -> None:
    write_bugeon_dataset(SESSION, tmp_path / "tree")

    def read() -> None:
        BugeonDataModule(CalciumSpec("big"), str(tmp_path / "tree")).setup("fit")

    ours = measure_cost(read)
    print(f"\n3000 frames x 500 cells, files -> z-scored tensors with population context: {ours}")
    assert ours.seconds < 1


def train_student(module: BugeonDataModule) -> Student:
    torch.manual_seed(0)
    network = partial(NeuPRINT, size=16, std=0.3, dim_feedforward=64, dropout=0.0)
    student = Student(network, Masking(0.25, "full", 0.8, 0.5), UnitGaussian())
    student.build(module.signature)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    for step, batch in enumerate(module.train_dataloader()):
        masked, labels = student.mask(batch, step, 0)
        optimizer.zero_grad()
        student.objective(student.encode(masked), labels, masked)["loss"].backward()
        optimizer.step()
    return student.eval()


def fit_by_original_schedule(vectors: Tensor, losses: CellLossFn, train: CellBatches) -> float:
    """Fits random embeddings by Adam at 1e-3, with one pass over all training time per step; returns seconds."""
    torch.nn.init.normal_(vectors, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([vectors], 1e-3)
    start = time.perf_counter()
    for step in range(EPOCHS * PASSES):
        optimizer.zero_grad()
        for block in train:
            for number, batch in enumerate(block):
                total, entries = losses(batch, step * len(block) + number)
                (total / entries.clamp(min=1)).sum().backward()
        optimizer.step()
    return time.perf_counter() - start


@torch.no_grad()
def reconstruction_error(losses: CellLossFn, blocks: CellBatches) -> float:
    """Returns the mean over cells and masks."""
    sums = [losses(batch, 10**6 + seed) for block in blocks for batch in block for seed in range(MASKS)]
    return float((sum(total for total, _ in sums) / sum(entries for _, entries in sums)).mean())


def test_embedding_fit_compared_with_original_schedule(tmp_path: Path) -> None:
    module = BugeonDataModule(
        CalciumSpec("small", cells=CellSplit(0.6, 0.1)), str(tmp_path), "simulated", SMALL, 40, 1, 64, 800, 1
    )
    module.setup("fit")
    student = train_student(module)
    cpu = torch.device("cpu")
    train, later = module.all_cell_batches("train", cpu), module.all_cell_batches("val", cpu)
    # One half stops the fit, the other is unseen by both fits.
    validation, unseen = [block[0::2] for block in later], [block[1::2] for block in later]
    n_cells, losses = len(module.cells), make_cell_loss(student)
    with temporary_embeddings(student, n_cells) as embedding:
        reference = fit_by_original_schedule(embedding.weight, losses, train)
        theirs = reconstruction_error(losses, unseen), reconstruction_error(losses, train)
    with temporary_embeddings(student, n_cells) as embedding:
        start = time.perf_counter()
        fitted = fit_embeddings(embedding, losses, train, validation, EmbeddingFitConfig())
        seconds = time.perf_counter() - start
        with torch.no_grad():
            embedding.weight.copy_(fitted.vectors)
        ours = reconstruction_error(losses, unseen), reconstruction_error(losses, train)
    ratio = reference / seconds
    print(f"\n{n_cells} cells: ours {seconds:.1f} s ({fitted.steps} steps), original {reference:.0f} s")
    print(
        f"ratio: {ratio:.0f} x the time of one fit, {ratio * EVALUATIONS:.0f} x that of its {EVALUATIONS} evaluations"
    )
    for part, mine, other in zip(("unseen", "training"), ours, theirs, strict=True):
        print(f"squared error in {part} time: ours {mine:.4f}, original {other:.4f}, ratio {mine / other:.3f}")
    assert ratio > 20
    assert ours[0] < 1.01 * theirs[0]
