"""Ridge regression from second moments against scikit-learn."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from blend_pl.metrics.ridge import RidgeFit, merge_offsets, moments_size, rounded_mean, row_moments

N_INPUTS, N_OUTPUTS = 5, 2
PENALTIES = torch.tensor([1e-4, 1e-2, 1.0], dtype=torch.float64)


def make(n_rows: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n_rows, N_INPUTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_rows, N_OUTPUTS, generator=generator, dtype=torch.float64)
    return inputs, inputs[:, :N_OUTPUTS] + 0.5 * noise


def summed(inputs: Tensor, outputs: Tensor, size: int) -> Tensor:
    return sum(
        (row_moments(*rows) for rows in zip(inputs.split(size), outputs.split(size), strict=True)), torch.zeros(())
    )


def test_moments_size_is_the_size_of_row_moments() -> None:
    assert row_moments(*make()).shape == (moments_size(N_INPUTS, N_OUTPUTS),) * 2


@pytest.mark.parametrize("offset", [0.0, -3.7, 1e3, 1e5])
@pytest.mark.parametrize("size", [1, 7, 60])
def test_moments_of_inputs_far_from_zero_are_precise(offset: float, size: int) -> None:
    inputs, outputs = make()
    inputs = inputs * 1e-3 + offset
    moments = summed(inputs, outputs, size)
    reference = rounded_mean(moments, N_INPUTS)
    assert torch.equal(reference, reference.round())
    rows = torch.cat([torch.ones(len(inputs), 1), inputs - reference, outputs], 1)
    # Uncentered sums of products would have an error of offset^2 * 1e-16 for every row.
    tolerance = 1e-12 + 1e-14 * abs(offset)
    torch.testing.assert_close(merge_offsets(moments, reference), rows.mT @ rows, rtol=1e-12, atol=tolerance)


def test_different_offsets_of_batches_are_merged() -> None:
    inputs, outputs = make()
    inputs[:20] += 40
    inputs[20:25] -= 13.4
    moments = summed(inputs, outputs, 10)
    reference = rounded_mean(moments, N_INPUTS)
    rows = torch.cat([torch.ones(len(inputs), 1), inputs - reference, outputs], 1)
    torch.testing.assert_close(merge_offsets(moments, reference), rows.mT @ rows, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("n_rows", [60, 4])
def test_path_and_scores_equal_scikit_learn(n_rows: int) -> None:
    inputs, outputs = make(n_rows)
    other_inputs, other_outputs = make(30, seed=1)
    moments = torch.stack([row_moments(inputs, outputs), row_moments(other_inputs, other_outputs)])
    squares = merge_offsets(moments, rounded_mean(moments[0], N_INPUTS))
    fit = RidgeFit.fit_path(squares[0], N_OUTPUTS, PENALTIES)
    scores = fit.score(squares[1], torch.zeros(N_OUTPUTS, dtype=torch.bool))
    for k, penalty in enumerate(PENALTIES.tolist()):
        model = Ridge(alpha=penalty).fit(inputs.numpy(), outputs.numpy())
        torch.testing.assert_close(fit.weights[k].mT, torch.from_numpy(model.coef_), rtol=1e-8, atol=1e-8)
        assert scores[k].item() == pytest.approx(model.score(other_inputs.numpy(), other_outputs.numpy()), abs=1e-10)


def test_equal_inputs_share_their_weight() -> None:
    inputs, outputs = make()
    inputs[:, 1] = inputs[:, 0]
    square = merge_offsets(row_moments(inputs, outputs), torch.zeros(N_INPUTS, dtype=torch.float64))
    weights = RidgeFit.fit_path(square, N_OUTPUTS, PENALTIES).weights
    torch.testing.assert_close(weights[:, 0], weights[:, 1])


def test_constant_outputs_score_one_or_zero() -> None:
    inputs, outputs = make()
    outputs[:, 0] = 0
    square = merge_offsets(row_moments(inputs, outputs), torch.zeros(N_INPUTS, dtype=torch.float64))
    other = merge_offsets(row_moments(inputs, torch.zeros_like(outputs)), torch.zeros(N_INPUTS, dtype=torch.float64))
    scores = RidgeFit.fit_path(square, N_OUTPUTS, PENALTIES).score(other, torch.ones(N_OUTPUTS, dtype=torch.bool))
    # The first output is zero and predicted as zero; the second is not.
    assert scores.tolist() == [0.5] * 3


def test_fewer_than_two_rows_have_no_score() -> None:
    square = merge_offsets(row_moments(*make()), torch.zeros(N_INPUTS, dtype=torch.float64))
    one = merge_offsets(row_moments(*make(1)), torch.zeros(N_INPUTS, dtype=torch.float64))
    fit = RidgeFit.fit_path(square, N_OUTPUTS, PENALTIES)
    for other in (one, torch.zeros_like(one)):
        assert fit.score(other, torch.zeros(N_OUTPUTS, dtype=torch.bool)).isnan().all()
