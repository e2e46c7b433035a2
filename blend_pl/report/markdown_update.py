"""A generated text in a document that people write, such as the tables of a README."""

from pathlib import Path

from blend_pl.errors import ConfigError
from blend_pl.utils.files import atomic_file


def insert(place: str, text: str) -> None:
    """Replaces what stands between two marks in a Markdown file.

    Args:
        place: FILE#NAME, for the text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in FILE.
        text: the new text.

    Raises:
        ConfigError: the file or one of the marks is missing, or stands there twice.
        DataError: the file cannot be written.
    """
    file, _, name = place.partition("#")
    marks = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        document = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {file} ({error.strerror}); name a Markdown file as FILE#NAME") from error
    if not name or any(document.count(mark) != 1 for mark in marks):
        raise ConfigError(
            f"{file} lacks a place for the tables; write one line {marks[0]} and one line {marks[1]} into it"
        )
    before, _, rest = document.partition(marks[0])
    after = rest.partition(marks[1])[2]
    with atomic_file(Path(file)) as path:
        path.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")
