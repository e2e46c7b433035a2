"""Updates of generated blocks in Markdown files."""

from pathlib import Path

import pytest

from blend_pl.errors import ConfigError
from blend_pl.report.markdown_update import update_markdown_block

DOCUMENT = "# Title\n\n<!-- a:begin -->\nold\n<!-- a:end -->\n\nprose\n\n<!-- b:begin --><!-- b:end -->\n"


def test_only_text_between_markers_changes(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(DOCUMENT)
    for text in ("first", "new\n\ntable"):
        update_markdown_block(f"{path}#a", text)
        assert path.read_text() == DOCUMENT.replace("old", text)
    update_markdown_block(f"{path}#b", "x")
    assert path.read_text().endswith("<!-- b:begin -->\nx\n<!-- b:end -->\n")


@pytest.mark.parametrize("target", ["missing.md#a", "README.md", "README.md#c", "README.md#twice"])
def test_missing_file_or_marker_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.chdir(tmp_path)
    document = DOCUMENT + 2 * "<!-- twice:begin --><!-- twice:end -->"
    Path("README.md").write_text(document)
    with pytest.raises(ConfigError, match=r"FILE#NAME|must contain each marker once"):
        update_markdown_block(target, "x")
    assert Path("README.md").read_text() == document
