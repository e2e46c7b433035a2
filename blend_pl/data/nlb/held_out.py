"""Which units of a recording are held out."""

import numpy as np

from blend_pl.data.io.nwb import Units
from blend_pl.data.nlb.spec import HeldOut
from blend_pl.errors import ConfigError, DataError


def check_held_out(held_out: HeldOut) -> None:
    """Refuses settings that contradict one another.

    Raises:
        ConfigError: not exactly one of column, units and fraction, or a fraction outside 0..1.
    """
    given = [name for name in ("column", "units", "fraction") if getattr(held_out, name) is not None]
    if len(given) != 1:
        listed = " and ".join(f"held_out.{name}" for name in given) if given else "nothing"
        raise ConfigError(
            f"{listed} given; set one of held_out.column, held_out.units and held_out.fraction, and the others to null"
        )
    if held_out.fraction is not None and not 0 < held_out.fraction < 1:
        raise ConfigError(f"held_out.fraction is {held_out.fraction}; it must lie between 0 and 1")


def held_out_units(units: Units, held_out: HeldOut, where: str) -> np.ndarray:
    """Chooses the held-out units.

    Args:
        units: the units table.
        held_out: the one way in which they are chosen.
        where: the file, for errors.

    Returns:
        (N,) bool in the order of the table.

    Raises:
        DataError: no such column or ids; or no unit is left on one of the two sides.
    """
    if held_out.column is not None:
        if held_out.column not in units.columns:
            raise DataError(
                f"the units of {where} have no column {held_out.column!r}; set held_out.column: null and "
                "held_out.fraction or held_out.units, or name one of its columns: "
                f"{', '.join(units.columns) or 'none'}"
            )
        values = units.columns[held_out.column]
        if values.dtype.kind not in "biu":
            raise DataError(
                f"the units column {held_out.column!r} of {where} is {values.dtype}; it must hold true and false"
            )
        chosen = values.astype(bool)
    elif held_out.units is not None:
        unknown = sorted(set(held_out.units) - set(units.id.tolist()))
        if unknown:
            raise DataError(f"{where} has no unit {unknown[0]} of held_out.units; its ids are {preview(units.id)}")
        chosen = np.isin(units.id, held_out.units)
    else:
        assert held_out.fraction is not None
        n = max(1, round(held_out.fraction * len(units)))
        chosen = np.zeros(len(units), dtype=bool)
        chosen[np.random.default_rng(held_out.seed).choice(len(units), min(n, len(units)), replace=False)] = True
    if chosen.all() or not chosen.any():
        raise DataError(
            f"{int(chosen.sum())} of the {len(units)} units of {where} are held out; there must be units on both "
            "sides: set held_out.column: null and held_out.fraction or held_out.units"
        )
    return chosen


def preview(ids: np.ndarray) -> str:
    """The ids for a message, shortened in the middle."""
    texts = [str(unit) for unit in ids.tolist()]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:4], "...", *texts[-3:]]) or "none"
