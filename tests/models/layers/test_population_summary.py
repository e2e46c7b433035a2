import pytest
import torch

from blend_pl.models.layers.population_summary import PopulationSummary

CELLS, BATCH, FRAMES = 9, 2, 7
NEURONS = torch.tensor([7, 0, 3, 8, 1])


def summary(channels: int = 3) -> PopulationSummary:
    torch.manual_seed(1)
    return PopulationSummary(CELLS, channels)


def activity(n_cells: int = len(NEURONS)) -> torch.Tensor:
    return torch.randn(BATCH, FRAMES, n_cells, generator=torch.Generator().manual_seed(2))


def test_equals_weighted_mean_of_other_cells() -> None:
    model, observed = summary(), activity()
    sums = model(observed, NEURONS)
    assert sums.shape == (BATCH, FRAMES, len(NEURONS), 3)
    others = [1, 2, 3, 4]
    expected = observed[..., others] @ model.vectors[NEURONS[others]] / len(others) * CELLS**0.5
    torch.testing.assert_close(sums[:, :, 0], expected)


def test_order_of_cells_does_not_matter() -> None:
    model, observed = summary(), activity()
    order = torch.tensor([4, 2, 0, 1, 3])
    permuted = model(observed[..., order], NEURONS[order])
    torch.testing.assert_close(permuted, model(observed, NEURONS)[:, :, order])


def test_own_activity_is_excluded() -> None:
    model, observed = summary(), activity()
    before = model(observed, NEURONS)
    observed[..., 2] += 1
    changed = (~torch.isclose(before, model(observed, NEURONS), atol=1e-6)).flatten(0, 1).any(0).any(-1)
    assert changed.tolist() == [True, True, False, True, True]


def test_sample_of_cells_estimates_the_sums_of_all_cells() -> None:
    model, observed = summary(), activity(1).expand(-1, -1, CELLS)
    with torch.no_grad():
        model.vectors.copy_(model.vectors[:1].expand(CELLS, -1))
    all_cells, sample = (model(observed[..., :n], torch.arange(n))[:, :, 0] for n in (CELLS, 4))
    torch.testing.assert_close(sample, all_cells)


def test_untrained_cells_receive_sums_and_contribute_nothing() -> None:
    model, observed = summary(), activity(len(NEURONS) + 2)
    rows = torch.arange(CELLS) * 2
    extended = model.for_cells(2 * CELLS + 2, rows)
    neurons = torch.cat([rows[NEURONS], torch.tensor([1, 2 * CELLS + 1])])
    trained = extended(observed, neurons)[:, :, : len(NEURONS)]
    torch.testing.assert_close(trained, model(observed[..., : len(NEURONS)], NEURONS))
    untrained = extended(observed, neurons)[:, :, len(NEURONS) :]
    expected = observed[..., : len(NEURONS)] @ model.vectors[NEURONS] / len(NEURONS) * CELLS**0.5
    torch.testing.assert_close(untrained, expected[:, :, None].expand_as(untrained))
    assert not any(parameter.requires_grad for parameter in extended.parameters())


def test_zero_channels_raise() -> None:
    with pytest.raises(ValueError, match="channels"):
        summary(0)
