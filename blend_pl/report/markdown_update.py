"""Generated blocks of text in Markdown files, e.g. tables of a README."""

from pathlib import Path

from blend_pl.errors import ConfigError
from blend_pl.utils.files import atomic_file


def update_markdown_block(target: str, text: str) -> None:
    """Replaces the text between two markers in a Markdown file.

    Args:
        target: FILE#NAME, for the text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in FILE.
        text: the new text.

    Raises:
        ConfigError: NAME is missing, the file cannot be read, or it does not contain each marker exactly once.
        DataError: the file cannot be written.
    """
    file, _, name = target.partition("#")
    if not name:
        raise ConfigError("--update_doc needs FILE#NAME; #NAME is missing")
    markers = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        document = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {file} ({error.strerror}); --update_doc needs FILE#NAME") from error
    if any(document.count(marker) != 1 for marker in markers):
        raise ConfigError(f"{file} must contain each marker once; add the lines {markers[0]} and {markers[1]}")
    before, _, rest = document.partition(markers[0])
    after = rest.partition(markers[1])[2]
    with atomic_file(Path(file)) as path:
        path.write_text(f"{before}{markers[0]}\n{text}\n{markers[1]}{after}", encoding="utf-8")
