import torch

from blend_pl.likelihoods import Poisson


def test_poisson_loss_is_torchs_without_the_term_of_the_target() -> None:
    log_rate, counts = torch.randn(4, 5, 6), torch.randint(0, 5, (4, 5, 6)).float()
    expected = torch.nn.functional.poisson_nll_loss(log_rate, counts, log_input=True, full=False, reduction="none")
    torch.testing.assert_close(Poisson().loss(log_rate, counts), expected)


def test_poisson_loss_is_lowest_at_the_mean() -> None:
    counts = torch.tensor([0.0, 1.0, 3.0, 2.0])
    prediction = torch.full((4,), 0.1, requires_grad=True)
    optimizer = torch.optim.SGD([prediction], 0.1)
    common = torch.zeros(4)
    for _ in range(300):
        optimizer.zero_grad()
        Poisson().loss(prediction.mean() + common, counts).mean().backward()
        optimizer.step()
    torch.testing.assert_close(Poisson().mean(prediction.mean().detach()), counts.mean(), atol=1e-4, rtol=0)
