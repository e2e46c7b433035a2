"""Small tensors on their way to a device, which nobody waits for."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device_async(values: Tensor | Sequence[int], device: torch.device) -> Tensor:
    """Numbers of the host on a device.

    A plain copy to a GPU waits until the GPU has done all that it was told before. This one does not; CUDA lays aside
    what it takes from memory that is not pinned before the call returns, so the host may change it at once.

    Args:
        values: on the host.
        device: where they shall lie.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.int64)
    # Metal reads the host's memory later on.
    return tensor.to(device, non_blocking=device.type != "mps")
