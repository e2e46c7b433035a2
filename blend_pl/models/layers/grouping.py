"""Encoding of the rows of a batch in groups."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from blend_pl.models.base import Encoding
from blend_pl.utils.device import to_device_async

Key = TypeVar("Key", bound=Hashable)
EncodeGroup = Callable[[Key, Tensor, Sequence[str], Tensor | None, Sequence[int] | None], Encoding]
"""Maps the key of a group, its values, sessions, patch mask and numbers of masked patches to its encoding."""


def group_rows(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Returns the row indices of each key, in order."""
    rows_by_key: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        rows_by_key.setdefault(key, []).append(row)
    return rows_by_key


def encode_in_groups(
    groups: Mapping[Key, list[int]],
    encode_group: EncodeGroup[Key],
    observed: Tensor,
    sessions: Sequence[str],
    patch_mask: Tensor | None,
    n_masked: Sequence[int] | None,
) -> Encoding:
    """Encodes each group of rows separately and restores the order of the rows.

    Args:
        groups: key -> row indices; at least one group.
        encode_group: encodes the rows of a group.
        observed: (B, T, C) values.
        sessions: session name of each row.
        patch_mask: (B, T, P) bool, True for masked patches; None for no mask.
        n_masked: number of masked patches of each row; None if it is not known on the host.
    """
    encodings, row_order = [], []
    for key, rows in groups.items():
        group_observed, group_patch_mask = observed, patch_mask
        if len(groups) > 1:
            index = to_device_async(rows, observed.device)
            group_observed, group_patch_mask = observed[index], None if patch_mask is None else patch_mask[index]
        group_n_masked = None if n_masked is None else [n_masked[row] for row in rows]
        encodings.append(
            encode_group(key, group_observed, [sessions[row] for row in rows], group_patch_mask, group_n_masked)
        )
        row_order += rows
    if len(encodings) == 1:
        return encodings[0]
    inverse_order = to_device_async(row_order, observed.device).argsort()
    return Encoding(
        torch.cat([encoding.prediction for encoding in encodings])[inverse_order],
        latents=torch.cat([encoding.latents for encoding in encodings])[inverse_order],  # type: ignore[misc]
        latents_valid=None
        if patch_mask is None
        else torch.cat([encoding.latents_valid for encoding in encodings])[inverse_order],  # type: ignore[misc]
    )
