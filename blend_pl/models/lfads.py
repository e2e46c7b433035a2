"""LFADS: latent factor analysis via dynamical systems (Pandarinath et al., 2018), with room for privileged context."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.models.base import Dims, Encoding
from blend_pl.models.layers.fusion import Concatenation, Fusion
from blend_pl.models.layers.gaussian import AutoregressivePrior, divergence
from blend_pl.models.layers.recurrence import Weights, run


class Encoder(nn.Module):
    """A GRU in both directions, with learned initial states.

    Args:
        width: width of an input.
        units: units a direction.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, units, batch_first=True, bidirectional=True)
        self.initial = nn.Parameter(torch.zeros(2, 1, units))

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
    bound per entry. The weights rise in a straight line over the first `ramp` steps of training, which are counted in a
    buffer and survive a resume.

    Forward bins of a student run the generator on with inferred inputs at their prior's mean. A teacher's encoders
    and controller read all T' bins, the forward ones with behaviour alone, so its inputs are inferred there too.

    Coordinated dropout is a masking of single entries, `masking: {mode: full}`: what is hidden is scored. The entries
    that are kept are not scaled up, as the network does not know the mask; evaluation sees every entry, as it is.

    GRUs are torch's, with the reset gate behind the recurrent product. A state of theirs is a mean of its predecessor
    and a number between -1 and 1, so clipping the initial state clips all of them.

    Args:
        dims: sizes.
        initial_encoder: units a direction of the initial condition's encoder.
        input_encoder: units a direction of the controller's encoder.
        controller: units of the controller.
        inputs: U, inferred inputs.
        initial: dimensions of the initial condition.
        generator: units of the generator.
        factors: number of factors.
        dropout: dropout of what the encoders give, and of generator states on their way to factors.
        clip: largest entry of a generator state, at least 1.
        kl_initial: weight of the initial condition's divergence, 1 for the evidence lower bound.
        kl_inputs: weight of the inferred inputs' divergence.
        ramp: training steps in which both weights rise from 0.
        fusion: how context joins the counts of each bin, built from (C, D); used only where `dims.context` > 0.

    Raises:
        ConfigError: the clip is below 1.
    """

    steps: Tensor

    def __init__(
        self,
        dims: Dims,
        initial_encoder: int = 64,
        input_encoder: int = 64,
        controller: int = 64,
        inputs: int = 4,
        initial: int = 64,
        generator: int = 200,
        factors: int = 100,
        dropout: float = 0.02,
        clip: float = 5.0,
        kl_initial: float = 1.0e-3,
        kl_inputs: float = 1.0e-3,
        ramp: int = 2000,
        fusion: Callable[[int, int], Fusion] = Concatenation,
    ) -> None:
        super().__init__()
        if clip < 1:
            raise ConfigError(f"LFADS's states lie between -1 and 1 by themselves; clip is at least 1, not {clip}")
        self.encoded, self.bins = (dims.bins if dims.context else dims.observed_bins), dims.bins
        self.pad = (0, 0, 0, self.encoded - dims.observed_bins)
        self.fusion = fusion(dims.channels, dims.context) if dims.context else None
        width = self.fusion.width if self.fusion else dims.channels
        self.initial_encoder, self.input_encoder = Encoder(width, initial_encoder), Encoder(width, input_encoder)
        self.initial_posterior = nn.Linear(2 * initial_encoder, 2 * initial)
        self.initial_prior = nn.Parameter(torch.zeros(initial))
        self.initial_state = nn.Linear(initial, generator)
        self.controller = nn.GRUCell(2 * input_encoder + factors, controller)
        self.controller_state = nn.Parameter(torch.zeros(controller))
        self.input_posterior = nn.Linear(controller, 2 * inputs)
        self.input_prior = AutoregressivePrior(inputs)
        self.generator = nn.GRU(inputs, generator, batch_first=True)
        self.factors = nn.Linear(generator, factors, bias=False)
        self.readout = nn.Linear(factors, dims.neurons)
        self.dropout, self.clip = nn.Dropout(dropout), clip
        self.kl_initial, self.kl_inputs, self.ramp = kl_initial, kl_inputs, ramp
        self.entries = dims.bins * dims.neurons
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        """Counts (B, T, C), and context (B, T', D) if built for it -> encoding of (B, T', N) log expected counts.

        Features are the generator's states (B, T', G) and the factors; the factors are the latents too.
        """
        read = F.pad(observed, self.pad)
        if self.fusion is not None:
            read = self.fusion(read, context)
        mean, log_variance = self.initial_posterior(self.dropout(self.initial_encoder(read)[1])).chunk(2, -1)
        condition = mean + (0.5 * log_variance).exp() * self._noise(mean)
        first = self.initial_state(condition).clamp(-self.clip, self.clip)
        # One mask of each state for all its ways to factors, to the controller's and to the read-out's.
        keep = self.dropout(first.new_ones(self.bins + 1, *first.shape))
        states, means, log_variances, samples = self._generate(self._controller_inputs(read), first, keep)
        factors = (states * keep[1:].transpose(0, 1)) @ self._loadings().T
        penalty = None
        if self.training:
            at_start = divergence(mean, log_variance, self.initial_prior, mean.new_full((), 0.1).log()).sum(-1)
            driving = self.input_prior.divergence(means, log_variances, samples)
            penalty = self._rise() * (self.kl_initial * at_start + self.kl_inputs * driving) / self.entries
        return Encoding(self.readout(factors), [states, factors], factors, penalty)

    def _controller_inputs(self, read: Tensor) -> Tensor:
        """What is read before and after each bin, not in it: (B, bins read, 2 units)."""
        before, after = self.input_encoder(read)[0].chunk(2, -1)
        before, after = F.pad(before[:, :-1], (0, 0, 1, 0)), F.pad(after[:, 1:], (0, 0, 0, 1))
        return self.dropout(torch.cat([before, after], -1))

    def _generate(self, heard: Tensor, first: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States of all T' bins; means, log-variances and samples of the inputs of those read; (B, bins, ...) each."""
        # The controller hears factors, a linear map of states: both maps are one product.
        from_encoder, from_factors = self.controller.weight_ih.split([heard.shape[-1], self.factors.out_features], 1)
        path = run(
            F.linear(heard, from_encoder, self.controller.bias_ih).transpose(0, 1),
            self._noise(heard.new_empty(heard.shape[1], heard.shape[0], self.input_posterior.out_features // 2)),
            keep[: self.encoded],
            first,
            self.controller_state.expand(heard.shape[0], -1),
            Weights(
                feedback=from_factors @ self._loadings(),
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
        states, posterior, samples = (part.transpose(0, 1) for part in path)
        states = states[:, 1:]
        if self.bins > self.encoded:
            on = self.input_prior.continuation(samples[:, -1], self.bins - self.encoded)
            states = torch.cat([states, self.generator(on, states[:, -1:].transpose(0, 1).contiguous())[0]], 1)
        return states, posterior[:, :, 0], posterior[:, :, 1], samples

    def _loadings(self) -> Tensor:
        return F.normalize(self.factors.weight, dim=1)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like) if self.training else torch.zeros_like(like)

    def _rise(self) -> Tensor:
        """The share of the weights that counts in this step, which is counted."""
        self.steps += 1
        return (self.steps / (self.ramp + 1)).clamp(max=1.0)
