"""The names that `import blend_pl` offers."""

import subprocess
import sys

import pytest

import blend_pl


@pytest.mark.parametrize("name", blend_pl.__all__)
def test_public_name_has_a_docstring(name: str) -> None:
    assert getattr(blend_pl, name).__doc__
    assert name in dir(blend_pl)


def test_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="NLBDataModul"):
        _ = blend_pl.NLBDataModul


def test_import_is_lazy() -> None:
    code = "import sys, blend_pl; print({'torch', 'lightning', 'matplotlib'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
