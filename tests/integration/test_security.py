"""No command executes code from a file or writes a secret."""

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
    """Value of `weights_only` in every call of `torch.load` by the `student` fixture."""
    return []


@pytest.fixture(scope="module")
def student(folder: Path, loads: list[bool | None]) -> Path:
    """A distilled student, resumed and evaluated, with secrets in the environment and loads recorded."""
    load, np_load = torch.load, np.load

    def recording_torch_load(*args: Any, weights_only: bool | None = None, **settings: Any) -> Any:
        loads.append(weights_only)
        return load(*args, weights_only=weights_only, **settings)

    def checking_np_load(*args: Any, allow_pickle: bool = False, **settings: Any) -> Any:
        assert not allow_pickle
        return np_load(*args, allow_pickle=allow_pickle, **settings)

    data = [f"--data.root={folder / 'data'}", *SIMULATION]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setattr(torch, "load", recording_torch_load)
        patch.setattr(np, "load", checking_np_load)
        teacher = fit("simulated_teacher", folder / "runs", *data, "--trainer.max_epochs=1")
        run = fit("simulated_feature", folder / "runs", *data, f"--distillation.teacher={teacher}")
        from_run = ["--config", run / "config.yaml", "--ckpt_path"]
        call("fit", *from_run, run / "checkpoints" / "last.ckpt", "--trainer.max_epochs=3")
        call("test", *from_run, run / "checkpoints" / "best.ckpt")
        call("predict", *from_run, run / "checkpoints" / "best.ckpt")
    return run


@pytest.mark.slow
def test_torch_load_always_sets_weights_only(student: Path, loads: list[bool | None]) -> None:
    assert len(loads) > 10
    assert set(loads) == {True}


def test_package_does_not_unpickle_or_evaluate_code() -> None:
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
def test_secrets_are_not_written(student: Path, folder: Path) -> None:
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "results.json", "best.ckpt", "last.ckpt", "metrics.csv"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path


class Payload:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def pickled_payload(path: Path, trace: Path) -> None:
    """Adds an object to a checkpoint that creates the file `trace` when it is unpickled."""
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "epoch": Payload(f"touch {trace}")}, path)


def untrusted_class_path(path: Path, trace: Path) -> None:
    """Replaces the class path of a checkpoint's backbone by `os.system`."""
    checkpoint = torch.load(path, weights_only=True)
    system_call = {"class_path": "os.system", "init_args": {"command": f"touch {trace}"}}
    checkpoint["hyper_parameters"]["backbone"] = system_call
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
@pytest.mark.parametrize("tamper", [pickled_payload, untrusted_class_path])
@pytest.mark.parametrize("command", COMMANDS)
def test_malicious_checkpoint_raises_and_runs_no_code(
    command: str,
    tamper: Callable[[Path, Path], None],
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, trace = student.parent / f"{command}-{tamper.__name__}", tmp_path / "trace"
    shutil.copytree(student, run)
    tamper(run / "checkpoints" / "best.ckpt", trace)
    monkeypatch.setattr(sys, "argv", ["blend_pl", *COMMANDS[command](run, tmp_path)])
    capsys.readouterr()
    assert main() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"cannot read the checkpoint .*best\.ckpt|best\.ckpt asks to build os\.system", line)
    assert not trace.exists()
    assert not (tmp_path / "submission.h5").exists()
