"""Linear read-out of log-rates."""

from torch import nn

from blend_pl.models.layers.padded_linear import PaddedLinear


def log_rate_readout(d_model: int, neurons: int) -> nn.Linear:
    """Returns a linear map to log-rates, initialized as in NDT: weights U(-0.1, 0.1), bias 0."""
    readout = PaddedLinear(d_model, neurons)
    nn.init.uniform_(readout.weight, -0.1, 0.1)
    nn.init.zeros_(readout.bias)
    return readout
