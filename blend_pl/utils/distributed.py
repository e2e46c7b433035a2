"""Means that are the same for one process and for many."""

import torch.distributed as dist
from torch import Tensor


def distributed_mean(total: Tensor, weight: Tensor | int) -> Tensor:
    """Mean over all ranks, for a loss whose gradients DDP averages.

    Averaging the ranks' own means would weigh entries by how few their rank holds. Here each rank's sum is divided by
    its fair share of the global weight, so that the average of gradients is the gradient of the global mean.

    Args:
        total: scalar sum over this rank's entries.
        weight: number of entries summed.

    Returns:
        Scalar; its average over ranks is the global mean.
    """
    # A number that is filled in on the device stalls nobody, as one that is copied there would.
    weight = weight.to(total) if isinstance(weight, Tensor) else total.new_full((), weight)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        weight = weight.detach().clone()
        dist.all_reduce(weight)
        weight = weight / dist.get_world_size()
    return total / weight.clamp(min=1e-12)
