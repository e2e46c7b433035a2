"""Code blocks of the READMEs."""

import re

from helpers.cli import REPOSITORY

READMES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text()
    for folder in ("", "experiments/**/", "configs/**/", "blend_pl/**/", "tests/**/")
    for path in sorted(REPOSITORY.glob(f"{folder}README.md"))
} | {"CONTRIBUTING.md": (REPOSITORY / "CONTRIBUTING.md").read_text()}
"""Text by path relative to the repository."""


def blocks(language: str) -> list[str]:
    """Returns the code blocks of a language in all READMEs."""
    pattern = re.compile(rf"```{language}\n(.*?)```", flags=re.S)
    return [block for text in READMES.values() for block in pattern.findall(text)]


def module_of_the_readme(name: str) -> str:
    """Returns the module that a README shows under a file name."""
    (module,) = (block for block in blocks("python") if block.startswith(f"# {name}\n"))
    return module
