"""What the README shows."""

import re

from helpers.cli import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def module_of_the_readme(name: str) -> str:
    """The module that the README shows under a file name."""
    (module,) = (block for block in blocks("python") if block.startswith(f"# {name}\n"))
    return module
