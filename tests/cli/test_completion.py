"""Command `completion`: the script completes words in a real bash."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from blend_pl.cli.completion import _literal_values
from blend_pl.cli.main import FUNCTION_COMMANDS, TRAINER_COMMANDS, run_command


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (Literal["a", "b"], ("a", "b")),
        (Sequence[Literal["a"]], ("a",)),
        (str, None),
        (list[int], None),
        (dict[str, int], None),
        (None, None),
    ],
)
def test_choices_are_the_values_of_literals(annotation: Any, values: tuple[str, ...] | None) -> None:
    assert _literal_values(annotation) == values


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "blend_pl.bash"
    with pytest.MonkeyPatch.context() as context:
        printed: list[str] = []
        context.setattr("builtins.print", lambda text: printed.append(text))
        run_command(["completion", "bash"])
    path.write_text("\n".join(printed))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ([""], {*TRAINER_COMMANDS, *FUNCTION_COMMANDS}),
        (["mul"], {"multirun"}),
        (["list", "a"], {"arms"}),
        (["completion", ""], {"bash", "zsh"}),
        (["fit", "experiments/simulated_b"], {"experiments/simulated_baseline.yaml"}),
        (["fit", "--config", "configs/arm/har"], {"configs/arm/hard.yaml"}),
        (["fit", "own"], {"own.yaml"}),
        (["fit", "--trainer.max_ep"], {"--trainer.max_epochs"}),
        (["sweep", "experiments/sweeps/b"], {"experiments/sweeps/baseline.yaml"}),
    ],
)
def test_bash_completes(script: Path, tmp_path: Path, words: list[str], completions: set[str]) -> None:
    (tmp_path / "own.yaml").touch()
    quoted = " ".join(f"'{word}'" for word in ["blend_pl", *words])
    code = f"""
source {script}
COMP_WORDS=({quoted}); COMP_CWORD={len(words)}
$(complete -p blend_pl | sed -E 's/.*-F ([^ ]+).*/\\1/') blend_pl '{words[-1]}' ''
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert completions <= set(result.stdout.split())
    if words[-1]:
        assert set(result.stdout.split()) == completions
