"""Text of a data file: the data part of an experiment, with the reason of each choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True)
class DataFile:
    """A data file that is used after the experiment of a set.

    Attributes:
        experiment: the experiment file of that set.
        arm: the arm to train, a file in configs/arm/.
        class_path: the data module.
        spec: settings of the spec, in the order of the file.
        arguments: other settings of the data module, except its root.
        reasons: reason by name of a setting.
        sizes: numbers of trials, cells or segments that are read.
        remarks: what is left out, and what could not be used.
        overlays: files that change the experiment for a recording of this size.
        arms: settings of arms, by arm; see `blend_pl.config.compose`.
    """

    experiment: str
    arm: str
    class_path: str
    spec: Mapping[str, Any]
    arguments: Mapping[str, Any]
    reasons: Mapping[str, str]
    sizes: str
    remarks: list[str] = field(default_factory=list)
    overlays: tuple[str, ...] = ()
    arms: Mapping[str, Any] = field(default_factory=dict)

    def command(self, path: str) -> str:
        """Returns the command that trains with this file.

        Args:
            path: path of the file.
        """
        configs = [self.experiment, *self.overlays, path, f"configs/arm/{self.arm}.yaml"]
        return " ".join(["blend_pl fit", *(f"--config {config}" for config in configs)])

    def to_yaml(self, root: str) -> str:
        """Returns the text of the file.

        Args:
            root: folder of the recording.
        """
        lines = [
            "# Data file of a recording, to be used after a set:",
            f"#   {self.command('THIS_FILE')}",
            "data:",
            f"  class_path: {self.class_path}",
            "  init_args:",
            *self._lines({"root": root, **self.arguments}, 4),
            "    spec:",
            *self._lines(self.spec, 6),
            *self._lines({"arms": self.arms} if self.arms else {}, 0),
        ]
        return "\n".join(lines) + "\n"

    def _lines(self, settings: Mapping[str, Any], indent: int) -> list[str]:
        lines = []
        for name, value in settings.items():
            if name in self.reasons:
                lines.append(f"{' ' * indent}# {self.reasons[name]}")
            lines.append(f"{' ' * indent}{name}: {_flow(value)}")
        return lines


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip().removesuffix("...").strip()
