"""Selection of the held-out units."""

import numpy as np

from blend_pl.data.io.nwb import Units
from blend_pl.data.nlb.spec import HeldOutSpec
from blend_pl.errors import ConfigError, DataError


def check_held_out(held_out: HeldOutSpec) -> None:
    """Checks that exactly one way to select the held-out units is set.

    Raises:
        ConfigError: not exactly one of column, units and fraction is set, or the fraction is not between 0 and 1.
    """
    if held_out.by_fold or held_out.fraction == 0:
        return
    given_names = [name for name in ("column", "units", "fraction") if getattr(held_out, name) is not None]
    if len(given_names) != 1:
        listed = " and ".join(f"held_out.{name}" for name in given_names) if given_names else "nothing"
        raise ConfigError(
            f"{listed} given; set one of held_out.column, held_out.units and held_out.fraction, and the others to null"
        )
    if held_out.fraction is not None and not 0 < held_out.fraction < 1:
        raise ConfigError(
            f"held_out.fraction is {held_out.fraction}; it must be between 0 and 1, or 0 for no held-out unit"
        )


def draw_held_out(n_units: int, fraction: float, seed: int) -> np.ndarray:
    """Returns the (n_units,) bool mask of a fraction of the units, drawn at random, at least one."""
    n_held_out = max(1, round(fraction * n_units))
    mask = np.zeros(n_units, dtype=bool)
    mask[np.random.default_rng(seed).choice(n_units, min(n_held_out, n_units), replace=False)] = True
    return mask


def held_out_mask(units: Units, held_out: HeldOutSpec, path: str) -> np.ndarray:
    """Returns a mask of the held-out units; none with the fraction 0, and none with `by_fold`, which needs the fold.

    Args:
        units: the units table.
        held_out: selection of the units by column, ids or fraction.
        path: the file, for error messages.

    Returns:
        (N,) bool in the order of the table.

    Raises:
        DataError: the column or an id does not exist, the column is not boolean, or all or no units are held out.
    """
    if held_out.by_fold or held_out.fraction == 0:
        return np.zeros(len(units), dtype=bool)
    if held_out.column is not None:
        if held_out.column not in units.columns:
            raise DataError(
                f"the units of {path} have no column {held_out.column!r}; set held_out.column: null and "
                "held_out.fraction or held_out.units, or use another column; available columns: "
                f"{', '.join(units.columns) or 'none'}"
            )
        values = units.columns[held_out.column]
        if values.dtype.kind not in "biu":
            raise DataError(f"the units column {held_out.column!r} of {path} is {values.dtype}; it must be boolean")
        mask = values.astype(bool)
    elif held_out.units is not None:
        missing_ids = sorted(set(held_out.units) - set(units.id.tolist()))
        if missing_ids:
            raise DataError(
                f"{path} has no unit {missing_ids[0]} from held_out.units; available ids: {format_ids(units.id)}"
            )
        mask = np.isin(units.id, held_out.units)
    else:
        assert held_out.fraction is not None
        mask = draw_held_out(len(units), held_out.fraction, held_out.seed)
    if mask.all() or not mask.any():
        raise DataError(
            f"{int(mask.sum())} of the {len(units)} units of {path} are held out; at least one must be held "
            "out and one held in: set held_out.column: null and held_out.fraction (0 for none) or held_out.units"
        )
    return mask


def format_ids(unit_ids: np.ndarray) -> str:
    """Returns the ids for a message, shortened in the middle."""
    texts = [str(unit) for unit in unit_ids.tolist()]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:4], "...", *texts[-3:]]) or "none"
