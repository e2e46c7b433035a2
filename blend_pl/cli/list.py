"""Command `list`: shows sets, arms and models."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from blend_pl.config import BASE_KEY, ROLE_KEY, find_config, list_configs, read_yaml

Kind = Literal["sets", "arms", "models"]
TITLES: dict[Kind, str] = {
    "sets": "sets, experiments/NAME.yaml: a recording with a network and a length of training",
    "arms": "arms, configs/arm/NAME.yaml: a baseline, a teacher, a student or a control",
    "models": "models, configs/model/NAME.yaml: another backbone, or a change of the model",
}
COMMANDS = """\
Train: blend_pl fit experiments/SET.yaml --config configs/model/MODEL.yaml --config configs/arm/ARM.yaml
Without a model, the network of the set is trained. To edit files, copy them: blend_pl init DIR experiments/SET.yaml"""


def list_experiments(kinds: Sequence[Kind] = ()) -> None:
    """Shows the sets, arms and models in the working directory and in the package, and how to compose them.

    Args:
        kinds: what to show: sets, arms, models; by default everything.
    """
    print("\n\n".join([*map(_format_kind, kinds or TITLES), COMMANDS]))


def _format_kind(kind: Kind) -> str:
    files = find_files(kind)
    width = max(len(file.stem) for file in files)
    return "\n".join([TITLES[kind], *(f"  {file.stem:{width}}  {read_description(file)}".rstrip() for file in files)])


def find_files(kind: Kind) -> list[Path]:
    """Returns the sorted files of a kind, in the working directory and in the package."""
    if kind == "sets":
        return [path for path in list_configs(Path("experiments")) if not _has_arm(find_config(path))]
    return list_configs(Path("configs/arm" if kind == "arms" else "configs/model"))


def read_description(path: Path) -> str:
    """Returns the first sentence of the comment at the start of a file; an empty string without a comment."""
    comment = " ".join(_leading_comment(find_config(path).read_text()))
    return re.split(r"(?<=\.)\s+(?=[A-Z])", comment)[0]


def _leading_comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").strip()


@cache
def _has_arm(path: Path) -> bool:
    """Whether a file or one of its bases sets a role."""
    settings = read_yaml(path, "config", "holds no settings")
    bases = settings.get(BASE_KEY) or []
    return ROLE_KEY in settings or any(_has_arm(find_config(path.parent / base)) for base in bases)
