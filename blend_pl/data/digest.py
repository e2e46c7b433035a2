"""Digest of the content of a data set, which distinguishes runs on different data."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DIGEST_LENGTH = 16
"""Hexadecimal digits of a digest."""


def content_digest(content: Any) -> str:
    """Returns 16 hexadecimal digits that are equal for equal content.

    Args:
        content: tensors, arrays, text, numbers, None, and mappings and sequences of them. The order of the keys of a
            mapping does not change the digest; shapes and types of tensors and arrays do.

    Raises:
        TypeError: the content holds something else.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from blend_pl.data.digest import content_digest
        >>> counts = np.array([[0, 2], [1, 0]])
        >>> content_digest({"spikes": counts, "bin_ms": 20}) == content_digest({"bin_ms": 20, "spikes": counts.copy()})
        True
        >>> content_digest(torch.from_numpy(counts)) == content_digest(counts.T)
        False
    """
    sha256 = hashlib.sha256()
    _update(sha256, content)
    return sha256.hexdigest()[:DIGEST_LENGTH]


def record_digest(record: "DataclassInstance", ignore: Collection[str] = ()) -> str:
    """Returns the digest of the fields of a dataclass.

    Args:
        record: instance of a dataclass.
        ignore: names of fields to leave out.
    """
    return content_digest(
        {field.name: getattr(record, field.name) for field in fields(record) if field.name not in ignore}
    )


def _update(sha256: "hashlib._Hash", content: Any) -> None:
    """Adds content, with its kind and size before it, so that different content never gives the same bytes."""
    if isinstance(content, Tensor):
        content = content.detach().cpu().numpy()
    if isinstance(content, np.ndarray) and content.dtype.kind in "biufc":
        sha256.update(f"array {content.dtype.str} {content.shape}\n".encode())
        sha256.update(np.ascontiguousarray(content).reshape(-1).view(np.uint8).data)
    elif isinstance(content, np.ndarray):
        _update(sha256, content.tolist())
    elif isinstance(content, Mapping):
        sha256.update(f"mapping {len(content)}\n".encode())
        for key in sorted(content):
            _update(sha256, key)
            _update(sha256, content[key])
    elif isinstance(content, str):
        text = content.encode()
        sha256.update(f"text {len(text)}\n".encode() + text)
    elif isinstance(content, Sequence):
        sha256.update(f"sequence {len(content)}\n".encode())
        for item in content:
            _update(sha256, item)
    elif content is None or isinstance(content, bool | int | float):
        sha256.update(f"{type(content).__name__} {content!r}\n".encode())
    else:
        raise TypeError(f"{type(content).__name__} has no digest; convert it to arrays, text or numbers")
