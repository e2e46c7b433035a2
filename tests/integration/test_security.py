"""Nothing that is read is run, and no secret is written, whichever command reads and writes."""

import ast
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import REPOSITORY, SIMULATION, call, experiment, fit

from blend_pl.__main__ import main

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "EVALAI_TOKEN": "evalai-secret-0123456789",
    "DANDI_API_KEY": "dandi-secret-0123456789",
    "HF_TOKEN": "hf_secret0123456789",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="module")
def loads() -> list[bool | None]:
    """`weights_only` of every torch.load while `student` was trained, resumed and scored."""
    return []


@pytest.fixture(scope="module")
def student(folder: Path, loads: list[bool | None]) -> Path:
    """A distilled student, resumed and tested once more, with secrets in the environment and loads watched."""
    load, np_load = torch.load, np.load

    def watched(*args: Any, weights_only: bool | None = None, **settings: Any) -> Any:
        loads.append(weights_only)
        return load(*args, weights_only=weights_only, **settings)

    def plain(*args: Any, allow_pickle: bool = False, **settings: Any) -> Any:
        assert not allow_pickle
        return np_load(*args, allow_pickle=allow_pickle, **settings)

    data = [f"--data.root={folder / 'data'}", *SIMULATION]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setattr(torch, "load", watched)
        patch.setattr(np, "load", plain)
        teacher = fit("simulated_teacher", folder / "runs", *data, "--trainer.max_epochs=1")
        run = fit("simulated_feature", folder / "runs", *data, f"--distillation.teacher={teacher}")
        again = ["--config", run / "config.yaml", "--ckpt_path"]
        call("fit", *again, run / "checkpoints" / "last.ckpt", "--trainer.max_epochs=3")
        call("test", *again, run / "checkpoints" / "best.ckpt")
        call("predict", *again, run / "checkpoints" / "best.ckpt")
    return run


@pytest.mark.slow
def test_every_load_is_of_weights_only(student: Path, loads: list[bool | None]) -> None:
    assert len(loads) > 10
    assert set(loads) == {True}


def test_the_package_reads_no_pickles() -> None:
    for path in (REPOSITORY / "blend_pl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"} & {*names}, path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("allow_pickle", "False") == "False", path
            assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system"), (path, called)
            if called == "torch.load" or called.endswith("load_from_checkpoint"):
                assert keywords.get("weights_only") == "True", (path, called)


@pytest.mark.slow
def test_no_secret_is_written(student: Path, folder: Path) -> None:
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "results.json", "best.ckpt", "last.ckpt", "metrics.csv"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def pickled(path: Path, trace: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "epoch": Payload(f"touch {trace}")}, path)


def forged(path: Path, trace: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    evil = {"class_path": "os.system", "init_args": {"command": f"touch {trace}"}}
    checkpoint["hyper_parameters"]["backbone"] = evil
    torch.save(checkpoint, path)


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "teacher": lambda run, out: [
        *("fit", "--config", str(experiment("simulated_hard")), f"--data.root={run.parents[2] / 'data'}", *SIMULATION),
        *("--data.bin_ms=20", f"--output={out}", f"--distillation.teacher={run}"),
    ],
    "pretrained": lambda run, out: [
        *("fit", "--config", str(experiment("simulated_lfp_finetuned")), f"--data.root={out}", f"--output={out}"),
        *("--data.simulation.seconds=40", "--data.simulation.rate_hz=300", f"--pretrained.model={run}"),
    ],
    "resume": lambda run, out: [
        *("fit", "--config", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}")
    ],
    "test": lambda run, out: [
        *("test", "--config", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}")
    ],
    "predict": lambda run, out: [
        *("predict", "--config", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}")
    ],
    "submit": lambda run, out: ["submit", str(run), "--name", "mc_maze", f"--output={out / 'submission.h5'}"],
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [pickled, forged])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_hostile_checkpoint_is_refused_and_not_run(
    command: str,
    spoil: Callable[[Path, Path], None],
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, trace = student.parent / f"{command}-{spoil.__name__}", tmp_path / "trace"
    shutil.copytree(student, run)
    spoil(run / "checkpoints" / "best.ckpt", trace)
    monkeypatch.setattr(sys, "argv", ["blend_pl", *COMMANDS[command](run, tmp_path)])
    capsys.readouterr()
    assert main() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"cannot read the checkpoint .*best\.ckpt|best\.ckpt asks to build os\.system", line)
    assert not trace.exists()
    assert not (tmp_path / "submission.h5").exists()
