"""Two coupled GRUs, bin after bin, with few kernels a bin and their derivative by hand.

A controller hears its input and the generator's last state, and infers the generator's input; neither can run ahead of
the other, so no fused RNN will do. What can be taken out of the loop is: input projections come in ready, and in the
backward pass the local derivatives of all bins are formed at once before it, and all gradients of weights at once, as
one product each, after it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Weights(NamedTuple):
    """Weights of the loop; K controller units, G generator units, U inferred inputs, gates in torch's order r, z, n.

    Attributes:
        feedback: (3 K, G), from the generator's last state to the controller's gates.
        controller: (3 K, K), recurrent.
        controller_bias: (3 K,).
        posterior: (2 U, K), from the controller's state to means and log-variances.
        posterior_bias: (2 U,).
        inferred: (3 G, U), from inferred inputs to the generator's gates.
        inferred_bias: (3 G,).
        generator: (3 G, G), recurrent.
        generator_bias: (3 G,).
    """

    feedback: Tensor
    controller: Tensor
    controller_bias: Tensor
    posterior: Tensor
    posterior_bias: Tensor
    inferred: Tensor
    inferred_bias: Tensor
    generator: Tensor
    generator_bias: Tensor


class Path(NamedTuple):
    """What the loop gives; bins first.

    Attributes:
        states: (T + 1, B, G), of the generator, the initial one first.
        posterior: (T, B, 2, U), means and log-variances of the inferred inputs.
        samples: (T, B, U), the inferred inputs themselves.
    """

    states: Tensor
    posterior: Tensor
    samples: Tensor


def run(inputs: Tensor, noise: Tensor, keep: Tensor, initial: Tensor, controller: Tensor, weights: Weights) -> Path:
    """Runs controller and generator.

    Args:
        inputs: (T, B, 3 K), the controller's inputs, projected to its gates.
        noise: (T, B, U), standard normal for samples, zero for means.
        keep: (T, B, G), factor of the generator's last state on its way to the controller, for dropout.
        initial: (B, G), the generator's state before the first bin.
        controller: (B, K), the controller's.
        weights: of the loop.

    Returns:
        The path of the generator.
    """
    # Mixed precision has no say here: rounding errors would add up over bins.
    exact = (x.to(weights.generator.dtype) for x in (inputs, noise, keep, initial, controller, *weights))
    # Torch 2.6 cannot tell, and cannot export this loop either.
    if getattr(torch.compiler, "is_exporting", bool)():
        return _scan(*exact)
    with torch.autocast(inputs.device.type, enabled=False):
        return Path(*_Loop.apply(*exact))


def _scan(inputs: Tensor, noise: Tensor, keep: Tensor, initial: Tensor, controller: Tensor, *weights: Tensor) -> Path:
    """The same as one operator, as loops enter an exported program; unrolled, it would take minutes to write."""
    # Only exported programs need it, and importing it is slow.
    from torch._higher_order_ops.scan import scan

    w = Weights(*weights)

    def step(carry: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor, Tensor]) -> Any:
        (state, control), (x, chance, kept) = carry, now
        control = _gru(torch.addmm(x, state * kept, w.feedback.T), control, w.controller, w.controller_bias)
        posterior = torch.addmm(w.posterior_bias, control, w.posterior.T)
        mean, log_variance = posterior.chunk(2, -1)
        sample = mean + (0.5 * log_variance).exp() * chance
        state = _gru(torch.addmm(w.inferred_bias, sample, w.inferred.T), state, w.generator, w.generator_bias)
        # What is carried on and what is kept may not share memory.
        return (state, control), (state.clone(), posterior, sample.clone())

    _, (states, posterior, samples) = scan(step, (initial, controller.contiguous()), (inputs, noise, keep))
    return Path(torch.cat([initial[None], states]), posterior.unflatten(-1, (2, -1)), samples)


def _gru(x: Tensor, before: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A GRU's next state from its input, (B, 3 units), and its last one."""
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), torch.addmm(bias, before, weight.T).chunk(3, -1)
    z = (xz + hz).sigmoid()
    return (1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * before


class _Cell(NamedTuple):
    """A GRU's activations in all bins; `states` has the initial one too."""

    states: Tensor
    hidden: Tensor
    rz: Tensor
    n: Tensor

    @classmethod
    def empty(cls, bins: int, initial: Tensor) -> "_Cell":
        trials, units = initial.shape
        states, hidden, rz, n = (
            initial.new_empty(length, trials, size * units)
            for length, size in ((bins + 1, 1), (bins, 3), (bins, 2), (bins, 1))
        )
        states[0] = initial
        return cls(states, hidden, rz, n)

    def step(self, t: int, x: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Fills in bin t from its input, (B, 3 units)."""
        before, hidden = self.states[t], self.hidden[t]
        gates = 2 * before.shape[1]
        torch.addmm(bias, before, weight.T, out=hidden)
        torch.add(x[:, :gates], hidden[:, :gates], out=self.rz[t]).sigmoid_()
        r, z = self.rz[t].chunk(2, -1)
        torch.addcmul(x[:, gates:], r, hidden[:, gates:], out=self.n[t]).tanh_()
        torch.lerp(self.n[t], before, z, out=self.states[t + 1])

    def slopes(self) -> tuple[Tensor, Tensor, Tensor]:
        """How states depend on their gates' input, on what the last state adds to it, and on the last state itself.

        Unit by unit: (T, B, 3, units) twice, and (T, B, units).
        """
        r, z = self.rz.chunk(2, -1)
        slope_n = (1 - z) * (1 - self.n.square())
        slope_z = (self.states[:-1] - self.n) * z * (1 - z)
        slope_r = slope_n * self.hidden.chunk(3, -1)[2] * r * (1 - r)
        return (
            torch.stack([slope_r, slope_z, slope_n], -2),
            torch.stack([slope_r, slope_z, slope_n * r], -2),
            z,
        )


class _Loop(torch.autograd.Function):
    """See `run`; the backward pass follows from the chain rule, bin by bin from the last."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, noise: Tensor, keep: Tensor, initial: Tensor, controller: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = Weights(*weights)
        bins, trials, _ = inputs.shape
        generator, control = _Cell.empty(bins, initial), _Cell.empty(bins, controller)
        posterior = noise.new_empty(bins, trials, 2 * noise.shape[-1])
        samples = torch.empty_like(noise)
        for t in range(bins):
            heard = torch.addmm(inputs[t], generator.states[t] * keep[t], w.feedback.T)
            control.step(t, heard, w.controller, w.controller_bias)
            torch.addmm(w.posterior_bias, control.states[t + 1], w.posterior.T, out=posterior[t])
            mean, log_variance = posterior[t].chunk(2, -1)
            torch.addcmul(mean, (0.5 * log_variance).exp_(), noise[t], out=samples[t])
            inferred = torch.addmm(w.inferred_bias, samples[t], w.inferred.T)
            generator.step(t, inferred, w.generator, w.generator_bias)
        posterior = posterior.unflatten(-1, (2, -1))
        ctx.save_for_backward(noise, keep, posterior, samples, *generator, *control, *weights)
        return generator.states, posterior, samples

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_posterior: Tensor, d_samples: Tensor) -> tuple[Tensor | None, ...]:
        noise, keep, posterior, samples, *rest = ctx.saved_tensors
        generator, control, w = _Cell(*rest[:4]), _Cell(*rest[4:8]), Weights(*rest[8:])
        x_slope, h_slope, z = generator.slopes()
        x_slope_control, h_slope_control, z_control = control.slopes()
        spread = 0.5 * noise * (0.5 * posterior[:, :, 1]).exp()
        sample_slope = torch.stack([torch.ones_like(spread), spread], -2)
        # Gradients by the gates' inputs overwrite the slopes that they are products of.
        d_posterior = d_posterior.clone()
        d_state, d_control = d_states[-1], torch.zeros_like(control.states[0])
        for t in reversed(range(len(samples))):
            d_x = x_slope[t].mul_(d_state[:, None]).flatten(1)
            d_h = h_slope[t].mul_(d_state[:, None]).flatten(1)
            d_sample = torch.addmm(d_samples[t], d_x, w.inferred)
            d_posterior[t].addcmul_(d_sample[:, None], sample_slope[t])
            d_control = torch.addmm(d_control, d_posterior[t].flatten(1), w.posterior)
            d_x_control = x_slope_control[t].mul_(d_control[:, None]).flatten(1)
            d_h_control = h_slope_control[t].mul_(d_control[:, None]).flatten(1)
            d_control = torch.addmm(d_control * z_control[t], d_h_control, w.controller)
            d_state = torch.addmm(torch.addcmul(d_states[t], d_state, z[t]), d_h, w.generator)
            d_state.addcmul_(d_x_control @ w.feedback, keep[t])
        by_x, by_h, by_x_control, by_h_control, by_posterior = (
            d.flatten(2) for d in (x_slope, h_slope, x_slope_control, h_slope_control, d_posterior)
        )

        def weight(d: Tensor, source: Tensor) -> Tensor:
            return d.flatten(0, 1).T @ source.flatten(0, 1)

        def bias(d: Tensor) -> Tensor:
            return d.sum((0, 1))

        gradients = Weights(
            feedback=weight(by_x_control, generator.states[:-1] * keep),
            controller=weight(by_h_control, control.states[:-1]),
            controller_bias=bias(by_h_control),
            posterior=weight(by_posterior, control.states[1:]),
            posterior_bias=bias(by_posterior),
            inferred=weight(by_x, samples),
            inferred_bias=bias(by_x),
            generator=weight(by_h, generator.states[:-1]),
            generator_bias=bias(by_h),
        )
        return by_x_control, None, None, d_state, d_control, *gradients
