import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import EXPERIMENTS, SIMULATION, TINY, call
from helpers.sessions import tiny_module
from helpers.systems import NETWORK, make, make_teacher, save, trainer
from torch import Tensor

from blend_pl.callbacks import Compiled, Distillation, compiled
from blend_pl.distillation import FeatureLoss, LinearSchedule
from blend_pl.models import NDT, Dims, Encoding
from blend_pl.systems import Student


def trained(root: Path, folder: Path, *callbacks: Compiled) -> Student:
    torch.manual_seed(0)
    system = make()
    trainer(folder, 1, *callbacks).fit(system, tiny_module(root))
    return system


@pytest.fixture
def on_a_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "supports_cuda_graphs", lambda device: True)
    monkeypatch.setattr(compiled, "COMPILE_OPTIONS", {"backend": "eager"})


def check(system: Student, reference: Student) -> None:
    assert "forward" not in vars(system.backbone)
    state = reference.state_dict()
    assert system.state_dict().keys() == state.keys()
    for name, value in system.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=1e-6, rtol=1e-5)


def test_network_is_not_compiled_on_a_cpu(tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        system = trained(tiny_root, tmp_path, Compiled())
    assert [r.message for r in caplog.records if "compiled" in r.message] == [
        "the network is not compiled: compilation helps on a GPU only"
    ]
    check(system, trained(tiny_root, tmp_path))


def test_config_adds_the_callback(tmp_path: Path) -> None:
    configs = (EXPERIMENTS / "simulated_baseline.yaml", EXPERIMENTS.parent / "configs/trainer/compiled.yaml")
    arguments = [f"--data.root={tmp_path / 'data'}", f"--output={tmp_path / 'runs'}", *SIMULATION, *TINY]
    cli = call("fit", *(part for path in configs for part in ("--config", path)), *arguments)
    assert any(isinstance(callback, Compiled) for callback in cli.trainer.callbacks)
    assert (cli.run_dir / "results.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("on_a_cpu_too")
def test_compiled_network_has_the_same_weights(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[bool] = []
    step = Student.training_step

    def watched(self: Student, *arguments: Any) -> Tensor:
        used.append("forward" in vars(self.backbone))
        return step(self, *arguments)

    monkeypatch.setattr(Student, "training_step", watched)
    system = trained(tiny_root, tmp_path, Compiled())
    assert used
    assert all(used)
    check(system, trained(tiny_root, tmp_path))


class Counting(NDT):
    """Counts its steps, as LFADS does."""

    steps: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims, **NETWORK)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, observed: Tensor, context: Tensor | None = None) -> Encoding:
        if self.training:
            self.steps += 1
        return super().forward(observed, context)


@pytest.mark.slow
@pytest.mark.usefixtures("on_a_cpu_too")
def test_compiled_distillation_has_the_same_weights(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "COMPILE_OPTIONS", {"backend": "aot_eager"})
    teacher = save(make_teacher(tiny_module(tiny_root).signature), tmp_path / "teacher.ckpt")

    def taught(*callbacks: Compiled) -> Student:
        torch.manual_seed(0)
        student = Student(Counting)
        distillation = Distillation(str(teacher), FeatureLoss(), LinearSchedule(1.0, 0.2))
        trainer(tmp_path, 1, distillation, *callbacks, accumulate_grad_batches=2).fit(student, tiny_module(tiny_root))
        return student

    # Dropout draws other numbers when it is compiled.
    monkeypatch.setitem(NETWORK, "dropout", 0.0)
    monkeypatch.setitem(NETWORK, "dropout_embedding", 0.0)
    monkeypatch.setitem(NETWORK, "dropout_rates", 0.0)
    check(taught(Compiled()), taught())


@pytest.mark.usefixtures("on_a_cpu_too")
def test_network_is_not_compiled_if_the_compiler_fails(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(graph: object, inputs: object) -> None:
        raise RuntimeError("no such thing\nas a compiler")

    monkeypatch.setattr(compiled, "COMPILE_OPTIONS", {"backend": fail})
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        system = trained(tiny_root, tmp_path, Compiled())
    (message,) = (r.message for r in caplog.records if "compiled" in r.message)
    assert "no such thing" in message
    assert "\n" not in message
    check(system, trained(tiny_root, tmp_path))


@pytest.mark.usefixtures("on_a_cpu_too")
def test_network_is_not_compiled_if_predictions_differ(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "TOLERANCE", -1.0)
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        system = trained(tiny_root, tmp_path, Compiled())
    (message,) = (r.message for r in caplog.records if "compiled" in r.message)
    assert "predictions would differ" in message
    check(system, trained(tiny_root, tmp_path))
