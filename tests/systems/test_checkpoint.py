import os
import pickle
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.sessions import batch_of, session_of
from helpers.systems import make, make_teacher, save
from torch import nn

from blend_pl.data.nlb.session import session_signature
from blend_pl.distillation import FeatureLoss, MixedObjective
from blend_pl.errors import TeacherError
from blend_pl.models import Encoding
from blend_pl.systems import PopulationSystem, Student, Teacher
from blend_pl.systems.base import OBJECTIVE_PREFIX, SESSION_KEY
from blend_pl.systems.checkpoint import load_system

SIGNATURE = session_signature("tiny", session_of())


def distilled() -> PopulationSystem:
    """A student with the projectors of feature distillation."""
    student, loss = make(Student, SIGNATURE), FeatureLoss()
    example = student.eval().encode(batch_of(session_of()))
    loss.build(example, example)
    student.objective = MixedObjective(student.objective, loss, student.encode, 0.5)
    return student


def stored(system: PopulationSystem) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {"state_dict": system.state_dict(), "hyper_parameters": {"backbone": object()}}
    system.on_save_checkpoint(checkpoint)
    return checkpoint


def test_system_built_in_python_stores_no_objects(tmp_path: Path) -> None:
    checkpoint = stored(make(Student, SIGNATURE))
    assert checkpoint["hyper_parameters"]["backbone"]["class_path"] == "blend_pl.models.ndt.NDT"
    torch.save(checkpoint, tmp_path / "checkpoint")
    assert torch.load(tmp_path / "checkpoint", weights_only=True)[SESSION_KEY]["unit_id"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", [Student, Teacher])
def test_network_is_built_for_the_session_of_the_checkpoint(kind: type[PopulationSystem]) -> None:
    system = make(kind, SIGNATURE)
    checkpoint, other = stored(system), make(kind)
    other.on_load_checkpoint(checkpoint)
    assert other.signature == SIGNATURE
    other.load_state_dict(checkpoint["state_dict"])
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in system.state_dict().items())


def test_student_without_distillation_ignores_projectors() -> None:
    checkpoint, student = stored(distilled()), make(Student)
    assert any(name.startswith(OBJECTIVE_PREFIX) for name in checkpoint["state_dict"])
    student.on_load_checkpoint(checkpoint)
    assert not any(name.startswith(OBJECTIVE_PREFIX) for name in checkpoint["state_dict"])
    student.load_state_dict(checkpoint["state_dict"], strict=True)


def test_resumed_distillation_restores_projectors() -> None:
    first, second = distilled(), distilled()
    checkpoint = stored(first)
    second.on_load_checkpoint(checkpoint)
    second.load_state_dict(checkpoint["state_dict"], strict=True)
    names = [name for name in second.state_dict() if name.startswith(OBJECTIVE_PREFIX)]
    assert len(names) == 5
    assert all(torch.equal(second.state_dict()[name], first.state_dict()[name]) for name in names)


def test_unknown_weights_of_the_network_raise() -> None:
    checkpoint, other = stored(make(Student, SIGNATURE)), make(Student)
    checkpoint["state_dict"]["backbone.unknown"] = torch.zeros(1)
    other.on_load_checkpoint(checkpoint)
    with pytest.raises(RuntimeError, match=r"backbone\.unknown"):
        other.load_state_dict(checkpoint["state_dict"])


@pytest.mark.parametrize("make_system", [lambda: make(Student, SIGNATURE), lambda: make_teacher(SIGNATURE), distilled])
def test_loaded_system_predicts_the_same(tmp_path: Path, make_system: Any) -> None:
    system, batch = make_system().eval(), batch_of(session_of())
    loaded = load_system(save(system, tmp_path / "best.ckpt"))
    assert type(loaded) is type(system)
    assert loaded.signature == SIGNATURE
    assert not loaded.training
    assert torch.equal(loaded.predict_step(batch, 0), system.predict_step(batch, 0))


def refused(path: Path) -> str:
    with pytest.raises(TeacherError) as raised:
        load_system(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_missing_file_and_folder_raise(tmp_path: Path) -> None:
    assert "train that model first" in refused(tmp_path / "gone.ckpt")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 0.5, 0.99])
def test_truncated_file_raises(tmp_path: Path, n_bytes: float) -> None:
    path = save(make(Student, SIGNATURE), tmp_path / "best.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: int(n_bytes * len(content)) if 0 < n_bytes < 1 else int(n_bytes)])
    assert "cannot read" in refused(path)


@pytest.mark.parametrize("content", [b"not a checkpoint\n", b"\x80\x02\xff\xff", b"PK\x03\x04" + bytes(60), bytes(200)])
def test_other_files_raise(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    assert "cannot read" in refused(tmp_path / "x.ckpt")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_pickle_with_a_payload_raises_without_running_it(tmp_path: Path, write: str) -> None:
    path, trace = tmp_path / "malicious.ckpt", tmp_path / "trace"
    payload = {"state_dict": Payload(f"touch {trace}")}
    if write == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    assert "cannot read" in refused(path)
    assert not trace.exists()


class Foreign(L.LightningModule):
    """A system of somebody else's."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {}}, "is not a checkpoint of a student or a teacher"),
        (torch.zeros(3), "is not a checkpoint of a student or a teacher"),
        ([1, 2], "is not a checkpoint of a student or a teacher"),
        ({"session": {}}, "does not say how its network is built"),
        ({"session": {}, "hyper_parameters": None}, "does not say how its network is built"),
    ],
)
def test_checkpoint_of_another_program_raises(tmp_path: Path, content: object, reason: str) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert reason in refused(tmp_path / "x.ckpt")


def test_system_of_another_package_raises(tmp_path: Path) -> None:
    class_path = f"{Foreign.__module__}.{Foreign.__qualname__}"
    parameters = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": class_path, "width": 2}
    state = Foreign().state_dict()
    path = save(make(Student, SIGNATURE), tmp_path / "x.ckpt", hyper_parameters=parameters, state_dict=state)
    refused(path)


def test_missing_class_raises(tmp_path: Path) -> None:
    parameters = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "gone.Student"}
    path = save(make(Student, SIGNATURE), tmp_path / "x.ckpt", hyper_parameters=parameters)
    assert "asks to build gone.Student" in refused(path)


def test_missing_weights_raise(tmp_path: Path) -> None:
    state = make(Student, SIGNATURE).state_dict()
    state.popitem()
    assert "does not fit" in refused(save(make(Student, SIGNATURE), tmp_path / "x.ckpt", state_dict=state))


def test_unknown_setting_raises(tmp_path: Path) -> None:
    path = save(make(Student, SIGNATURE), tmp_path / "x.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["backbone"]["init_args"]["unheard_of"] = 3
    torch.save(checkpoint, path)
    assert "does not fit" in refused(path)


def test_objective_of_a_stored_student_is_plain_reconstruction(tmp_path: Path) -> None:
    loaded = load_system(save(distilled(), tmp_path / "best.ckpt"))
    batch = batch_of(session_of())
    encoding: Encoding = loaded.encode(batch)
    assert set(loaded.objective(encoding, batch.target_valid, batch)) == {"loss", "mtm"}
