"""Non-blocking host-to-device copies of small tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device_async(values: Tensor | Sequence[int], device: torch.device) -> Tensor:
    """Copies a tensor or integers of the host to a device without waiting for the device.

    CUDA copies unpinned memory to a staging buffer before the call returns, so the host may change the values at once.

    Args:
        values: tensor on the host, or integers.
        device: target device.
    """
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.int64)
    # Metal reads the memory of the host later.
    return tensor.to(device, non_blocking=device.type != "mps")
