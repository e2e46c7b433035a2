"""From transcriptomic labels to the classes that are told apart."""

from collections.abc import Sequence

from blend_pl.data.calcium.spec import CellTypes
from blend_pl.errors import DataError

EXCITATORY, INHIBITORY = "EC", "IN"


def ei_class(label: str, types: CellTypes) -> str:
    """Excitatory or inhibitory."""
    return EXCITATORY if label in types.excitatory else INHIBITORY


def subclass(label: str, types: CellTypes) -> str | None:
    """The inhibitory subclass; None for cells that have none or whose subclass is left out."""
    if label in types.excitatory or label in types.untyped:
        return None
    name = label.split("-")[0]
    return types.merged.get(name, name)


def require_known_labels(labels: Sequence[str], types: CellTypes, source: str) -> None:
    """Checks that every label can be understood.

    Raises:
        DataError: a label whose subclass is not named in `types`.
    """
    known_labels = {*types.excitatory, *types.untyped}
    subclasses = {*types.subclasses, *types.merged}
    for label in labels:
        if label not in known_labels and label.split("-")[0] not in subclasses:
            raise DataError(
                f"{source} has a cell of type {label!r}; known are {', '.join(sorted(known_labels | subclasses))}: name it in "
                "data.spec.types"
            )
