"""Cell classes of transcriptomic labels."""

from collections.abc import Sequence

from blend_pl.data.calcium.spec import CellTypes
from blend_pl.errors import DataError

EXCITATORY, INHIBITORY = "EC", "IN"


def ei_class(label: str, types: CellTypes) -> str | None:
    """Returns `EXCITATORY` or `INHIBITORY`; None for cells of unknown type."""
    if label in types.excitatory:
        return EXCITATORY
    return None if is_untyped(label, types) else INHIBITORY


def is_untyped(label: str, types: CellTypes) -> bool:
    """Whether a label stands for an unknown type."""
    return label in types.untyped and label not in (*types.excitatory, *types.inhibitory)


def subclass(label: str, types: CellTypes) -> str | None:
    """Returns the inhibitory subclass; None for cells without one and for subclasses left out by `types.merged`."""
    if label in (*types.excitatory, *types.inhibitory, *types.untyped):
        return None
    name = label.split("-")[0]
    return types.merged.get(name, name)


def require_known_labels(labels: Sequence[str], types: CellTypes, source: str) -> None:
    """Checks that every label has a class.

    Raises:
        DataError: the subclass of a label is not in `types`.
    """
    known_labels = {*types.excitatory, *types.inhibitory, *types.untyped}
    subclasses = {*types.subclasses, *types.merged}
    for label in labels:
        if label not in known_labels and label.split("-")[0] not in subclasses:
            raise DataError(
                f"{source} has a cell of the unknown type {label!r}; add it to data.spec.types (to untyped if its type "
                f"is not known, so that no score counts it), which has {', '.join(sorted(known_labels | subclasses))}"
            )
