"""Rows of a batch that are encoded in groups and put back into their order."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from blend_pl.models.base import Encoding
from blend_pl.utils.device import sent

Key = TypeVar("Key", bound=Hashable)
Run = Callable[[Key, Tensor, Sequence[str], Tensor | None, Sequence[int] | None], Encoding]
"""From a group's key, and its values, sessions, hidden patches and their numbers, to its encoding."""


def grouped(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Rows by their key."""
    found: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return found


def encode_in_groups(
    groups: Mapping[Key, list[int]],
    run: Run[Key],
    observed: Tensor,
    sessions: Sequence[str],
    hidden: Tensor | None,
    dropped: Sequence[int] | None,
) -> Encoding:
    """Encodes each group of rows on its own.

    Args:
        groups: rows by their key, at least one.
        run: encodes the rows of a group.
        observed: (B, T, C) values.
        sessions: name of each row's session.
        hidden: (B, T, P) bool; None for none.
        dropped: how many patches of each row are; None where only the device knows.
    """
    parts, order = [], []
    for key, rows in groups.items():
        values, marks = observed, hidden
        if len(groups) > 1:
            index = sent(rows, observed.device)
            values, marks = observed[index], None if hidden is None else hidden[index]
        numbers = None if dropped is None else [dropped[row] for row in rows]
        parts.append(run(key, values, [sessions[row] for row in rows], marks, numbers))
        order += rows
    if len(parts) == 1:
        return parts[0]
    back = sent(order, observed.device).argsort()
    return Encoding(
        torch.cat([part.prediction for part in parts])[back],
        latents=torch.cat([part.latents for part in parts])[back],  # type: ignore[misc]
        latents_valid=None if hidden is None else torch.cat([part.latents_valid for part in parts])[back],  # type: ignore[misc]
    )
