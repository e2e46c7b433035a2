"""Means over all processes."""

import torch.distributed as dist
from torch import Tensor


def distributed_mean(total: Tensor, weight: Tensor | int) -> Tensor:
    """Returns the mean over all ranks, for a loss whose gradients DDP averages.

    The sum of each rank is divided by the global weight over the number of ranks, so that the average of the gradients
    is the gradient of the global mean. An average of means of ranks would weigh entries of small ranks more.

    Args:
        total: scalar sum over this rank's entries.
        weight: number of entries summed.

    Returns:
        Scalar; its average over ranks is the global mean.
    """
    # new_full fills the value on the device; a copy from the host would wait for the device.
    weight = weight.to(total) if isinstance(weight, Tensor) else total.new_full((), weight)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        weight = weight.detach().clone()
        dist.all_reduce(weight)
        weight = weight / dist.get_world_size()
    return total / weight.clamp(min=1e-12)
