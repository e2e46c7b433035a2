"""Settings of the units to use: the table in the file, and its rows."""

from dataclasses import dataclass, field

from blend_pl.data.io.selection import RowSelection
from blend_pl.errors import ConfigError


@dataclass(frozen=True)
class UnitSelection:
    """The units of a file to use.

    Attributes:
        table: path of the units table, or enough of its end to make it unique, e.g. "ecephys/units"; None for `units`,
            or the only other table with spike times.
        column: column by which units are selected, e.g. "quality"; None for all units.
        values: values of the column in the rows to use, e.g. ["good"].
        renumber: number units by their row, from 0, instead of the ids of the file, e.g. where ids occur twice.

    Example:
        >>> UnitSelection(column="quality", values=["good"]).rows
        RowSelection(column='quality', values=['good'])
    """

    table: str | None = None
    column: str | None = None
    values: list[bool | int | float | str] = field(default_factory=list)
    renumber: bool = False

    def __post_init__(self) -> None:
        if (self.column is None) != (not self.values):
            raise ConfigError("units.column and units.values belong together; set both or neither")

    @property
    def rows(self) -> RowSelection | None:
        """Selection of rows by the column; None for all."""
        return None if self.column is None else RowSelection(self.column, self.values)
