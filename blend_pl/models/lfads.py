"""Latent factor analysis via dynamical systems (LFADS, Pandarinath et al., 2018) with optional privileged context."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.coupled_gru import CoupledGRUWeights, run_controller_generator
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.priors import AutoregressivePrior, gaussian_kl_divergence
from blend_pl.utils.checks import COUNT, DROPOUT, NON_NEGATIVE, check_range


class Encoder(nn.Module):
    """Bidirectional GRU with learned initial states.

    Args:
        input_size: width of the input.
        hidden_size: number of units per direction.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.initial = nn.Parameter(torch.zeros(2, 1, hidden_size))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, T, input_size) to outputs (B, T, 2 hidden_size), forward first, and states (B, 2 hidden_size)."""
        outputs, last = self.gru(inputs, self.initial.expand(-1, inputs.shape[0], -1).contiguous())
        return outputs, last.transpose(0, 1).flatten(1)


class LFADS(nn.Module):
    """Variational autoencoder with a dynamical system as decoder (Pandarinath et al., 2018, Methods).

    The first encoder infers the posterior of the initial condition, with the prior N(learned mean, 0.1). The second
    encoder computes the input of the controller for bin t from the bins before t and the bins after t. The controller
    also receives the factors of bin t - 1 and infers the posterior of the input of the generator in bin t, with an
    autoregressive prior (`AutoregressivePrior`). The generator is a GRU; factors are a normalized linear map of its
    states, and log-rates, including those of held-out neurons, are a linear map of the factors.

    Posteriors are sampled in training mode; their means are used in evaluation mode. The penalty is the divergence of
    both posteriors from their priors, divided by the T' N predicted entries; with weights of 1, the loss is the
    negative evidence lower bound per entry. The weights increase linearly over the first `kl_increase_steps` training
    steps. A buffer counts the steps, so that the count is restored from a checkpoint.

    In forward bins of a student, the inferred inputs are the mean of their prior. The encoders and the controller of a
    teacher read all T' bins, with behavior but no counts in the forward bins, so that inputs are inferred there too.

    Coordinated dropout is the masking of single entries, `masking: {mode: full}`: masked entries are scored. Unmasked
    entries are not scaled up, because the network does not receive the mask; in evaluation, no entry is masked.

    The GRUs are those of torch, which apply the reset gate after the recurrent product. Their new state is a weighted
    mean of the previous state and a value between -1 and 1, so that clipping the initial state bounds all states.

    Names of the sizes follow lfads-torch.

    Args:
        dims: sizes.
        ic_enc_dim: units per direction of the encoder of the initial condition.
        ci_enc_dim: units per direction of the encoder of the controller input.
        con_dim: units of the controller.
        co_dim: U, number of inferred inputs.
        ic_dim: dimensions of the initial condition.
        gen_dim: units of the generator.
        fac_dim: number of factors.
        dropout: dropout of the outputs of the encoders, and of generator states as input of the factors.
        cell_clip: largest absolute value of a generator state, at least 1.
        kl_initial: weight of the divergence of the initial condition; 1 for the evidence lower bound.
        kl_inputs: weight of the divergence of the inferred inputs; 1 for the evidence lower bound.
        kl_increase_steps: number of training steps in which both weights increase from 0.
        fusion: builds the fusion of counts with context from (C, D); used only if `dims.context` > 0.

    Raises:
        ConfigError: `cell_clip` is below 1.

    Example:
        >>> import torch
        >>> from blend_pl.models import LFADS, Dims
        >>> model = LFADS(Dims(channels=6, neurons=8, observed_bins=10, bins=12), fac_dim=5)
        >>> encoding = model(torch.poisson(torch.ones(4, 10, 6)))
        >>> encoding.prediction.shape, encoding.latents.shape, encoding.penalty.shape
        (torch.Size([4, 12, 8]), torch.Size([4, 12, 5]), torch.Size([4]))
    """

    steps: Tensor

    def __init__(
        self,
        dims: Dims,
        ic_enc_dim: int = 64,
        ci_enc_dim: int = 64,
        con_dim: int = 64,
        co_dim: int = 4,
        ic_dim: int = 64,
        gen_dim: int = 200,
        fac_dim: int = 100,
        dropout: float = 0.02,
        cell_clip: float = 5.0,
        kl_initial: float = 1.0e-3,
        kl_inputs: float = 1.0e-3,
        kl_increase_steps: int = 2000,
        fusion: Callable[[int, int], Fusion] = Concatenation,
    ) -> None:
        super().__init__()
        check_range(COUNT, ic_enc_dim=ic_enc_dim, ci_enc_dim=ci_enc_dim, con_dim=con_dim, co_dim=co_dim)
        check_range(COUNT, ic_dim=ic_dim, gen_dim=gen_dim, fac_dim=fac_dim)
        check_range(DROPOUT, dropout=dropout)
        # States of a GRU are between -1 and 1.
        check_range(COUNT, cell_clip=cell_clip)
        check_range(NON_NEGATIVE, kl_initial=kl_initial, kl_inputs=kl_inputs, kl_increase_steps=kl_increase_steps)
        self.n_encoded_bins, self.bins = (dims.bins if dims.context else dims.observed_bins), dims.bins
        self.pad = (0, 0, 0, self.n_encoded_bins - dims.observed_bins)
        self.fusion = fusion(dims.channels, dims.context) if dims.context else None
        input_size = self.fusion.output_dim if self.fusion else dims.channels
        self.initial_encoder, self.input_encoder = Encoder(input_size, ic_enc_dim), Encoder(input_size, ci_enc_dim)
        self.initial_posterior = nn.Linear(2 * ic_enc_dim, 2 * ic_dim)
        self.initial_prior = nn.Parameter(torch.zeros(ic_dim))
        self.initial_state = nn.Linear(ic_dim, gen_dim)
        self.controller = nn.GRUCell(2 * ci_enc_dim + fac_dim, con_dim)
        self.controller_state = nn.Parameter(torch.zeros(con_dim))
        self.input_posterior = nn.Linear(con_dim, 2 * co_dim)
        self.input_prior = AutoregressivePrior(co_dim)
        self.generator = nn.GRU(co_dim, gen_dim, batch_first=True)
        self.factors = nn.Linear(gen_dim, fac_dim, bias=False)
        self.readout = nn.Linear(fac_dim, dims.neurons)
        self.dropout, self.cell_clip = nn.Dropout(dropout), cell_clip
        self.kl_initial, self.kl_inputs, self.kl_increase_steps = kl_initial, kl_inputs, kl_increase_steps
        self.n_entries = dims.bins * dims.neurons
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Maps counts (B, T, C) and context (B, T', D), if `dims.context` > 0, to log expected counts (B, T', N).

        Features are the states of the generator (B, T', gen_dim) and the factors (B, T', fac_dim); latents are the
        factors.
        """
        encoder_inputs = F.pad(observed, self.pad)
        if self.fusion is not None:
            encoder_inputs = self.fusion(encoder_inputs, context)
        mean, log_variance = self.initial_posterior(self.dropout(self.initial_encoder(encoder_inputs)[1])).chunk(2, -1)
        initial_condition = mean + (0.5 * log_variance).exp() * self._noise(mean)
        generator_state = self.initial_state(initial_condition).clamp(-self.cell_clip, self.cell_clip)
        # The same mask applies to a state as input of the controller and of the read-out.
        keep_mask = self.dropout(generator_state.new_ones(self.bins + 1, *generator_state.shape))
        states, means, log_variances, samples = self._generate(
            self._controller_inputs(encoder_inputs), generator_state, keep_mask
        )
        factors = (states * keep_mask[1:].transpose(0, 1)) @ self._loadings().T
        penalty = None
        if self.training:
            initial_kl = gaussian_kl_divergence(
                mean, log_variance, self.initial_prior, mean.new_full((), 0.1).log()
            ).sum(-1)
            input_kl = self.input_prior.kl_divergence(means, log_variances, samples)
            penalty = self._kl_ramp() * (self.kl_initial * initial_kl + self.kl_inputs * input_kl) / self.n_entries
        return Encoding(self.readout(factors), [states, factors], factors, penalty)

    def _controller_inputs(self, encoder_inputs: Tensor) -> Tensor:
        """Encodes the bins before and after each bin, excluding the bin: (B, n_encoded_bins, 2 ci_enc_dim)."""
        forward_outputs, backward_outputs = self.input_encoder(encoder_inputs)[0].chunk(2, -1)
        forward_outputs, backward_outputs = (
            F.pad(forward_outputs[:, :-1], (0, 0, 1, 0)),
            F.pad(backward_outputs[:, 1:], (0, 0, 0, 1)),
        )
        controller_inputs: Tensor = self.dropout(torch.cat([forward_outputs, backward_outputs], -1))
        return controller_inputs

    def _generate(
        self, controller_inputs: Tensor, generator_state: Tensor, keep_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns states (B, T', gen_dim); means, log-variances, samples of inputs (B, n_encoded_bins, co_dim)."""
        # The maps from states to factors and from factors to the controller are merged into one matrix.
        encoder_weight, factor_weight = self.controller.weight_ih.split(
            [controller_inputs.shape[-1], self.factors.out_features], 1
        )
        output = run_controller_generator(
            F.linear(controller_inputs, encoder_weight, self.controller.bias_ih).transpose(0, 1),
            self._noise(
                controller_inputs.new_empty(
                    controller_inputs.shape[1], controller_inputs.shape[0], self.input_posterior.out_features // 2
                )
            ),
            keep_mask[: self.n_encoded_bins],
            generator_state,
            self.controller_state.expand(controller_inputs.shape[0], -1),
            CoupledGRUWeights(
                feedback=factor_weight @ self._loadings(),
                controller=self.controller.weight_hh,
                controller_bias=self.controller.bias_hh,
                posterior=self.input_posterior.weight,
                posterior_bias=self.input_posterior.bias,
                inferred=self.generator.get_parameter("weight_ih_l0"),
                inferred_bias=self.generator.get_parameter("bias_ih_l0"),
                generator=self.generator.get_parameter("weight_hh_l0"),
                generator_bias=self.generator.get_parameter("bias_hh_l0"),
            ),
        )
        states, posterior, samples = (tensor.transpose(0, 1) for tensor in output)
        states = states[:, 1:]
        if self.bins > self.n_encoded_bins:
            expected_inputs = self.input_prior.forecast(samples[:, -1], self.bins - self.n_encoded_bins)
            states = torch.cat(
                [states, self.generator(expected_inputs, states[:, -1:].transpose(0, 1).contiguous())[0]], 1
            )
        return states, posterior[:, :, 0], posterior[:, :, 1], samples

    def _loadings(self) -> Tensor:
        return F.normalize(self.factors.weight, dim=1)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like) if self.training else torch.zeros_like(like)

    def _kl_ramp(self) -> Tensor:
        """Counts a training step and returns the factor of the KL weights in it."""
        self.steps += 1
        return (self.steps / (self.kl_increase_steps + 1)).clamp(max=1.0)
