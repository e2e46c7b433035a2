"""Fit of cell embeddings."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from blend_pl.data.calcium import CalciumBatch
from blend_pl.errors import ConfigError
from blend_pl.probes import EmbeddingFitConfig, fit_embeddings
from blend_pl.probes.fitting import CellLossFn

CELLS, SIZE, FRAMES = 12, 3, 40


def make_batch(neurons: Sequence[int], frames: int = FRAMES, seed: int = 0) -> CalciumBatch:
    """Returns cells with activity that mixes three known factors and noise; the factors are the population context."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(1, frames, SIZE, generator=generator)
    weights = true_weights()[torch.tensor(neurons)]
    activity = factors @ weights.T + 0.3 * torch.randn(1, frames, len(neurons), generator=generator)
    return CalciumBatch(
        observed=activity,
        target=activity,
        target_valid=torch.ones_like(activity, dtype=torch.bool),
        index=torch.zeros(1, dtype=torch.int64),
        global_rows=torch.zeros(1, dtype=torch.int64),
        global_size=1,
        embedding_index=torch.tensor(neurons),
        population_context=factors[:, :, None].expand(1, frames, len(neurons), SIZE),
    )


def true_weights() -> Tensor:
    return torch.randn(CELLS, SIZE, generator=torch.Generator().manual_seed(99))


def make_linear_loss(embedding: nn.Embedding) -> CellLossFn:
    """Returns the loss of a network that weights the known factors by the embedding, solved by least squares."""

    def losses(batch: CalciumBatch, seed: int) -> tuple[Tensor, Tensor]:
        scored = torch.rand(batch.target.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        scored &= batch.target_valid
        prediction = (batch.population_context * embedding(batch.embedding_index)).sum(-1)
        error = (prediction - batch.target).square()
        return torch.where(scored, error, 0.0).sum((0, 1)), scored.sum((0, 1))

    return losses


FIRST, SECOND = [0, 1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 10]
TRAIN = [[make_batch(FIRST, seed=s) for s in range(8)], [make_batch(SECOND, seed=s + 50) for s in range(8)]]
VALIDATION = [[make_batch(range(11), frames=100, seed=s) for s in (100, 101)]]
FIT = EmbeddingFitConfig(max_steps=400, lr=0.1, check_every=20)


def fitted(
    train: Sequence[Sequence[CalciumBatch]] = TRAIN, settings: EmbeddingFitConfig = FIT, seed: int = 0
) -> tuple[Tensor, Tensor, int]:
    embedding = nn.Embedding(CELLS, SIZE)
    nn.init.zeros_(embedding.weight)
    fit = fit_embeddings(embedding, make_linear_loss(embedding), train, VALIDATION, settings, seed)
    return fit.vectors, fit.loss, fit.steps


def test_all_cells_are_fitted_at_once() -> None:
    vectors, loss, steps = fitted()
    torch.testing.assert_close(vectors[:11], true_weights()[:11], atol=0.15, rtol=0)
    assert (loss[:11] < 1.3 * 0.3**2).all()
    assert steps < FIT.max_steps, "the fit did not stop early"


def test_unrecorded_cell_keeps_its_initial_embedding() -> None:
    vectors, loss, _ = fitted()
    assert (vectors[11] == 0).all()
    assert loss[11].isnan()
    assert loss[:11].isfinite().all()


def test_cells_are_fitted_independently() -> None:
    changed_train = [[_change_activity(batch, 2) for batch in block] for block in TRAIN]
    settings = EmbeddingFitConfig(max_steps=40, lr=0.1, check_every=40)
    before, after = fitted(settings=settings)[0], fitted(changed_train, settings)[0]
    is_changed = (before != after).any(1)
    assert is_changed.nonzero()[:, 0].tolist() == [2]


def _change_activity(batch: CalciumBatch, cell: int) -> CalciumBatch:
    target = batch.target.clone()
    target[..., batch.embedding_index == cell] += torch.randn(())
    return CalciumBatch(**{**vars(batch), "target": target})


def test_best_embedding_is_kept() -> None:
    """With a learning rate that makes the fit diverge, the result is not worse than the initial embedding."""
    embedding = nn.Embedding(CELLS, SIZE)
    nn.init.zeros_(embedding.weight)
    start = fit_embeddings(embedding, make_linear_loss(embedding), TRAIN, VALIDATION, EmbeddingFitConfig(1, 1e-12, 1))
    _, loss, _ = fitted(settings=EmbeddingFitConfig(40, 50.0, 5))
    assert (loss[:11] <= start.loss[:11]).all()


def test_fit_is_reproducible() -> None:
    short = EmbeddingFitConfig(max_steps=20, lr=0.1, check_every=10)
    assert torch.equal(fitted(settings=short)[0], fitted(settings=short)[0])
    assert not torch.equal(fitted(settings=short)[0], fitted(settings=short, seed=1)[0])


@pytest.mark.parametrize("changes", [{"max_steps": 0}, {"check_every": 0}, {"lr": 0.0}, {"max_lr_drops": -1}])
def test_invalid_settings_raise(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be (at least|above)"):
        EmbeddingFitConfig(**changes)  # type: ignore[arg-type]
