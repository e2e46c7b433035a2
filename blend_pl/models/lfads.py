"""LFADS: latent factor analysis via dynamical systems (Pandarinath et al., 2018), with room for privileged context."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.coupled_gru import CoupledGRUWeights, run_controller_generator
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.priors import AutoregressivePrior, gaussian_kl_divergence


class Encoder(nn.Module):
    """A GRU in both directions, with learned initial states.

    Args:
        input_size: width of an input.
        hidden_size: units a direction.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.initial = nn.Parameter(torch.zeros(2, 1, hidden_size))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, width) -> outputs (B, T, 2 units), forward ones first, and last states (B, 2 units)."""
        outputs, last = self.gru(inputs, self.initial.expand(-1, inputs.shape[0], -1).contiguous())
        return outputs, last.transpose(0, 1).flatten(1)


class LFADS(nn.Module):
    """A variational auto-encoder whose decoder is a dynamical system, driven by inputs that are inferred.

    An encoder gives the posterior of the initial condition, N(m, v) against the prior N(learned mean, 0.1). Another
    gives the controller's input: what it read before bin t and what it reads after it. The controller also hears the
    factors of bin t - 1 and gives the posterior of bin t's inferred input, against an autoregressive prior
    (`AutoregressivePrior`). The generator, a GRU, makes its next state of these; factors are a normalised linear map
    of states, log-rates a linear map of factors, held-out neurons included.

    In training, posteriors are sampled; in evaluation, their means are used. The penalty is the divergence of both
    from their priors, over the T' N predicted entries, so that weights of 1 make the loss the negative evidence lower
    bound per entry. The weights rise in a straight line over the first `kl_increase_steps` steps of training, which are counted in a
    buffer and survive a resume.

    Forward bins of a student run the generator on with inferred inputs at their prior's mean. A teacher's encoders
    and controller read all T' bins, the forward ones with behaviour alone, so its inputs are inferred there too.

    Coordinated dropout is a masking of single entries, `masking: {mode: full}`: what is hidden is scored. The entries
    that are kept are not scaled up, as the network does not know the mask; evaluation sees every entry, as it is.

    GRUs are torch's, with the reset gate behind the recurrent product. A state of theirs is a mean of its predecessor
    and a number between -1 and 1, so clipping the initial state clips all of them.

    Args:
        dims: sizes.
        ic_enc_dim: units a direction of the initial condition's encoder.
        ci_enc_dim: units a direction of the controller's encoder.
        con_dim: units of the controller.
        co_dim: U, inferred inputs.
        ic_dim: dimensions of the initial condition.
        gen_dim: units of the generator.
        fac_dim: number of factors.
        dropout: dropout of what the encoders give, and of generator states on their way to factors.
        cell_clip: largest entry of a generator state, at least 1.
        kl_initial: weight of the initial condition's divergence, 1 for the evidence lower bound.
        kl_inputs: weight of the inferred inputs' divergence.
        kl_increase_steps: training steps in which both weights rise from 0.
        fusion: how context joins the counts of each bin, built from (C, D); used only where `dims.context` > 0.

    Raises:
        ConfigError: the clip is below 1.
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
        if cell_clip < 1:
            raise ConfigError(f"LFADS's states lie between -1 and 1 by themselves; clip is at least 1, not {cell_clip}")
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
        """Counts (B, T, C), and context (B, T', D) if built for it -> encoding of (B, T', N) log expected counts.

        Features are the generator's states (B, T', G) and the factors; the factors are the latents too.
        """
        encoder_inputs = F.pad(observed, self.pad)
        if self.fusion is not None:
            encoder_inputs = self.fusion(encoder_inputs, context)
        mean, log_variance = self.initial_posterior(self.dropout(self.initial_encoder(encoder_inputs)[1])).chunk(2, -1)
        initial_condition = mean + (0.5 * log_variance).exp() * self._noise(mean)
        generator_state = self.initial_state(initial_condition).clamp(-self.cell_clip, self.cell_clip)
        # One mask of each state for all its ways to factors, to the controller's and to the read-out's.
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
        """What is read before and after each bin, not in it: (B, bins read, 2 units)."""
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
        """States of all T' bins; means, log-variances and samples of the inputs of those read; (B, bins, ...) each."""
        # The controller hears factors, a linear map of states: both maps are one product.
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
        """The share of the weights that counts in this step, which is counted."""
        self.steps += 1
        return (self.steps / (self.kl_increase_steps + 1)).clamp(max=1.0)
