"""The coupled controller and generator GRUs of LFADS, with few kernels per bin and a manual backward pass.

The controller receives its input and the previous state of the generator, and infers the input of the generator. The
two GRUs depend on each other in every bin, so a fused RNN kernel cannot compute them. Operations that do not depend on
the recurrence are outside the loop: the caller projects the inputs, and the backward pass computes the local
derivatives of all bins before the loop and each weight gradient after it, as a single product.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class CoupledGRUWeights(NamedTuple):
    """Weights of the two GRUs: K controller units, G generator units, U inferred inputs; gates in the order r, z, n.

    Attributes:
        feedback: (3 K, G), from the previous state of the generator to the gates of the controller.
        controller: (3 K, K), recurrent.
        controller_bias: (3 K,).
        posterior: (2 U, K), from the state of the controller to means and log-variances.
        posterior_bias: (2 U,).
        inferred: (3 G, U), from inferred inputs to the gates of the generator.
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


class CoupledGRUOutput(NamedTuple):
    """Output of the two GRUs, with bins as the first axis.

    Attributes:
        states: (T + 1, B, G), states of the generator, starting with the initial state.
        posterior: (T, B, 2, U), means and log-variances of the inferred inputs.
        samples: (T, B, U), sampled inferred inputs.
    """

    states: Tensor
    posterior: Tensor
    samples: Tensor


def run_controller_generator(
    inputs: Tensor,
    noise: Tensor,
    keep_mask: Tensor,
    generator_state: Tensor,
    controller_state: Tensor,
    weights: CoupledGRUWeights,
) -> CoupledGRUOutput:
    """Runs the controller and the generator over T bins.

    Args:
        inputs: (T, B, 3 K), inputs of the controller, projected to its gates.
        noise: (T, B, U), standard normal to sample the inferred inputs, zero to use their means.
        keep_mask: (T, B, G), dropout mask of the previous state of the generator as input of the controller.
        generator_state: (B, G), state of the generator before the first bin.
        controller_state: (B, K), state of the controller before the first bin.
        weights: weights of the two GRUs.

    Returns:
        States of the generator, posteriors and samples of the inferred inputs.
    """
    # Computed without mixed precision, because rounding errors accumulate over bins.
    full_precision = (
        x.to(weights.generator.dtype) for x in (inputs, noise, keep_mask, generator_state, controller_state, *weights)
    )
    # Torch 2.6 has no `is_exporting`, and cannot export this loop.
    if getattr(torch.compiler, "is_exporting", bool)():
        return _scan(*full_precision)
    with torch.autocast(inputs.device.type, enabled=False):
        return CoupledGRUOutput(*_CoupledGRU.apply(*full_precision))  # type: ignore[no-untyped-call]


def _scan(
    inputs: Tensor,
    noise: Tensor,
    keep_mask: Tensor,
    generator_state: Tensor,
    controller_state: Tensor,
    *weights: Tensor,
) -> CoupledGRUOutput:
    """Computes the same with `scan`, for exported programs; exporting the unrolled loop takes minutes."""
    # The import is slow and only needed for export. PyTorch has no public name for `scan`.
    from torch._higher_order_ops.scan import scan

    w = CoupledGRUWeights(*weights)

    def step(carry: tuple[Tensor, Tensor], bin_inputs: tuple[Tensor, Tensor, Tensor]) -> Any:
        (state, control_state), (x, epsilon, bin_mask) = carry, bin_inputs
        control_state = _gru_step(
            torch.addmm(x, state * bin_mask, w.feedback.T), control_state, w.controller, w.controller_bias
        )
        posterior = torch.addmm(w.posterior_bias, control_state, w.posterior.T)
        mean, log_variance = posterior.chunk(2, -1)
        sample = mean + (0.5 * log_variance).exp() * epsilon
        state = _gru_step(torch.addmm(w.inferred_bias, sample, w.inferred.T), state, w.generator, w.generator_bias)
        # The carry and the output of `scan` may not share memory.
        return (state, control_state), (state.clone(), posterior, sample.clone())

    _, (states, posterior, samples) = scan(
        step, (generator_state, controller_state.contiguous()), (inputs, noise, keep_mask)
    )
    return CoupledGRUOutput(torch.cat([generator_state[None], states]), posterior.unflatten(-1, (2, -1)), samples)


def _gru_step(x: Tensor, previous: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns the next state (B, units) of a GRU from its input (B, 3 units) and previous state (B, units)."""
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), torch.addmm(bias, previous, weight.T).chunk(3, -1)
    z = (xz + hz).sigmoid()
    return (1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * previous


class _GRUTrace(NamedTuple):
    """Activations of a GRU in all bins; `states` starts with the initial state."""

    states: Tensor
    hidden_gates: Tensor
    rz: Tensor
    n: Tensor

    @classmethod
    def empty(cls, bins: int, initial: Tensor) -> "_GRUTrace":
        trials, units = initial.shape
        states, hidden_gates, rz, n = (
            initial.new_empty(length, trials, size * units)
            for length, size in ((bins + 1, 1), (bins, 3), (bins, 2), (bins, 1))
        )
        states[0] = initial
        return cls(states, hidden_gates, rz, n)

    def step(self, t: int, x: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Computes bin t from its input (B, 3 units)."""
        previous, hidden_gates = self.states[t], self.hidden_gates[t]
        gates = 2 * previous.shape[1]
        torch.addmm(bias, previous, weight.T, out=hidden_gates)
        torch.add(x[:, :gates], hidden_gates[:, :gates], out=self.rz[t]).sigmoid_()
        r, z = self.rz[t].chunk(2, -1)
        torch.addcmul(x[:, gates:], r, hidden_gates[:, gates:], out=self.n[t]).tanh_()
        torch.lerp(self.n[t], previous, z, out=self.states[t + 1])

    def gate_jacobians(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns elementwise derivatives of the states with respect to three quantities.

        These are the input of the gates, (T, B, 3, units), the recurrent part of the gates, (T, B, 3, units), and the
        previous state, (T, B, units).
        """
        r, z = self.rz.chunk(2, -1)
        jacobian_n = (1 - z) * (1 - self.n.square())
        jacobian_z = (self.states[:-1] - self.n) * z * (1 - z)
        jacobian_r = jacobian_n * self.hidden_gates.chunk(3, -1)[2] * r * (1 - r)
        return (
            torch.stack([jacobian_r, jacobian_z, jacobian_n], -2),
            torch.stack([jacobian_r, jacobian_z, jacobian_n * r], -2),
            z,
        )


class _CoupledGRU(torch.autograd.Function):
    """Autograd function of `run_controller_generator`, with backpropagation through time in `backward`."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        noise: Tensor,
        keep_mask: Tensor,
        generator_state: Tensor,
        controller_state: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = CoupledGRUWeights(*weights)
        bins, trials, _ = inputs.shape
        generator_trace, controller_trace = (
            _GRUTrace.empty(bins, generator_state),
            _GRUTrace.empty(bins, controller_state),
        )
        posterior = noise.new_empty(bins, trials, 2 * noise.shape[-1])
        samples = torch.empty_like(noise)
        for t in range(bins):
            controller_input = torch.addmm(inputs[t], generator_trace.states[t] * keep_mask[t], w.feedback.T)
            controller_trace.step(t, controller_input, w.controller, w.controller_bias)
            torch.addmm(w.posterior_bias, controller_trace.states[t + 1], w.posterior.T, out=posterior[t])
            mean, log_variance = posterior[t].chunk(2, -1)
            torch.addcmul(mean, (0.5 * log_variance).exp_(), noise[t], out=samples[t])
            generator_input = torch.addmm(w.inferred_bias, samples[t], w.inferred.T)
            generator_trace.step(t, generator_input, w.generator, w.generator_bias)
        posterior = posterior.unflatten(-1, (2, -1))
        ctx.save_for_backward(noise, keep_mask, posterior, samples, *generator_trace, *controller_trace, *weights)
        return generator_trace.states, posterior, samples

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_posterior: Tensor, d_samples: Tensor) -> tuple[Tensor | None, ...]:
        noise, keep_mask, posterior, samples, *saved = ctx.saved_tensors
        generator_trace, controller_trace, w = (
            _GRUTrace(*saved[:4]),
            _GRUTrace(*saved[4:8]),
            CoupledGRUWeights(*saved[8:]),
        )
        x_jacobian, h_jacobian, z = generator_trace.gate_jacobians()
        x_jacobian_control, h_jacobian_control, z_control = controller_trace.gate_jacobians()
        noise_scale = 0.5 * noise * (0.5 * posterior[:, :, 1]).exp()
        sample_jacobian = torch.stack([torch.ones_like(noise_scale), noise_scale], -2)
        # The loop overwrites the derivatives with the gradients with respect to the gates, to save memory.
        d_posterior = d_posterior.clone()
        d_state, d_control = d_states[-1], torch.zeros_like(controller_trace.states[0])
        for t in reversed(range(len(samples))):
            d_x = x_jacobian[t].mul_(d_state[:, None]).flatten(1)
            d_h = h_jacobian[t].mul_(d_state[:, None]).flatten(1)
            d_sample = torch.addmm(d_samples[t], d_x, w.inferred)
            d_posterior[t].addcmul_(d_sample[:, None], sample_jacobian[t])
            d_control = torch.addmm(d_control, d_posterior[t].flatten(1), w.posterior)
            d_x_control = x_jacobian_control[t].mul_(d_control[:, None]).flatten(1)
            d_h_control = h_jacobian_control[t].mul_(d_control[:, None]).flatten(1)
            d_control = torch.addmm(d_control * z_control[t], d_h_control, w.controller)
            d_state = torch.addmm(torch.addcmul(d_states[t], d_state, z[t]), d_h, w.generator)
            d_state.addcmul_(d_x_control @ w.feedback, keep_mask[t])
        grad_x, grad_h, grad_x_control, grad_h_control, grad_posterior = (
            d.flatten(2) for d in (x_jacobian, h_jacobian, x_jacobian_control, h_jacobian_control, d_posterior)
        )

        def weight_gradient(grad: Tensor, inputs: Tensor) -> Tensor:
            return grad.flatten(0, 1).T @ inputs.flatten(0, 1)

        def bias_gradient(grad: Tensor) -> Tensor:
            return grad.sum((0, 1))

        gradients = CoupledGRUWeights(
            feedback=weight_gradient(grad_x_control, generator_trace.states[:-1] * keep_mask),
            controller=weight_gradient(grad_h_control, controller_trace.states[:-1]),
            controller_bias=bias_gradient(grad_h_control),
            posterior=weight_gradient(grad_posterior, controller_trace.states[1:]),
            posterior_bias=bias_gradient(grad_posterior),
            inferred=weight_gradient(grad_x, samples),
            inferred_bias=bias_gradient(grad_x),
            generator=weight_gradient(grad_h, generator_trace.states[:-1]),
            generator_bias=bias_gradient(grad_h),
        )
        return grad_x_control, None, None, d_state, d_control, *gradients
