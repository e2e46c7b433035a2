"""Rows of a batch that are encoded in groups and put back into their order."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from blend_pl.models.contract import Encoding

Key = TypeVar("Key", bound=Hashable)
Run = Callable[[Key, Tensor, Sequence[str], Tensor | None], Encoding]
"""From a group's key, and its values, sessions and hidden patches, to its encoding."""


def grouped(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Rows by their key."""
    found: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return found


def encode_in_groups(
    groups: Mapping[Key, list[int]], run: Run[Key], observed: Tensor, sessions: Sequence[str], hidden: Tensor | None
) -> Encoding:
    """Encodes each group of rows on its own.

    Args:
        groups: rows by their key, at least one.
        run: encodes the rows of a group.
        observed: (B, T, C) values.
        sessions: name of each row's session.
        hidden: (B, T, P) bool; None for none.
    """
    parts, order = [], []
    for key, rows in groups.items():
        values, dropped = observed, hidden
        if len(groups) > 1:
            index = torch.tensor(rows, device=observed.device)
            values, dropped = observed[index], None if hidden is None else hidden[index]
        parts.append(run(key, values, [sessions[row] for row in rows], dropped))
        order += rows
    if len(parts) == 1:
        return parts[0]
    back = torch.tensor(order, device=observed.device).argsort()
    return Encoding(
        torch.cat([part.prediction for part in parts])[back],
        latents=torch.cat([part.latents for part in parts])[back],  # type: ignore[misc]
        latents_valid=None if hidden is None else torch.cat([part.latents_valid for part in parts])[back],  # type: ignore[misc]
    )
