"""`python -m blend_pl export`: written files and errors."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.cli import SIMULATION, fit, teacher_args
from helpers.export import CAUSAL, readme_class, student, write_finished_run
from helpers.lfp import make_lfp
from helpers.readme import blocks
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from torch import nn

from blend_pl.cli.main import run_command
from blend_pl.data.signature import MultiSessionSignature, SessionInfo
from blend_pl.errors import BlendError, ConfigError, TeacherError
from blend_pl.export import command
from blend_pl.export.program import check_tolerance, max_relative_error
from blend_pl.export.writer import write_programs
from blend_pl.models import LFADS, NDT, STNDT, Encoding, NeuPRINT
from blend_pl.runs.results import Results
from blend_pl.systems import LFPStudent, MultiSessionSystem, NeuralSystem, SingleSessionStudent, Teacher
from blend_pl.systems.checkpoint import load_system


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export of a causal student by the README's command."""
    folder = tmp_path_factory.mktemp("export")
    path = write_finished_run(folder, **CAUSAL)
    (command,) = (line for block in blocks("bash") for line in block.splitlines() if " export " in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_command([*shlex.split(command.replace("xxxxxxxx", "0123abcd"))[3:], "--steps", "50"])
    return path / "export"


def rates_of(system: NeuralSystem, counts: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return system.backbone(counts).prediction.exp()


@pytest.mark.parametrize("trials", [1, 4])
def test_trial_programs_equal_student(causal: Path, trials: int) -> None:
    counts = torch.randint(0, 4, (trials, 7, 4)).float()
    expected = rates_of(student(**CAUSAL), counts)
    (output,) = onnxruntime.InferenceSession(causal / "student.onnx").run(None, {"spikes": counts.numpy()})
    loaded = torch.export.load(causal / "student.pt2").module()(counts)
    assert np.abs(output - expected.numpy()).max() < 1e-5
    assert (loaded - expected).abs().max() < 1e-5


def test_readme_stream_equals_student(causal: Path) -> None:
    decoder = readme_class("my_decoder.py", "Stream")(causal)
    for trial in torch.randint(0, 4, (2, 7, 4)).float():
        decoder.begin()
        rates = np.stack([decoder.step(now) for now in [*trial.numpy(), *np.zeros((3, 4), np.float32)]])
        assert np.abs(rates - rates_of(student(**CAUSAL), trial[None])[0].numpy()).max() < 1e-5
        with pytest.raises(InvalidArgument, match="out of data bounds"):
            decoder.step(np.zeros(4, np.float32))


def test_description_lists_inputs_and_outputs(causal: Path) -> None:
    assert {path.name for path in causal.iterdir()} == {
        "export.json",
        *(f"{stem}.{ending}" for stem in ("student", "student_step") for ending in ("pt2", "onnx")),
    }
    description = json.loads((causal / "export.json").read_text())
    assert (description["session"], description["bin_ms"], description["fingerprint"]) == ("tiny", 5, "0123abcd")
    assert (description["held_in"], description["held_out"]) == ([3, 1, 4, 15], [9, 2])
    assert description["streaming"] is True
    assert description["versions"]["onnxruntime"] == onnxruntime.__version__
    for stem, program in description["programs"].items():
        session = onnxruntime.InferenceSession(causal / f"{stem}.onnx")
        for side, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            specs = [(spec["name"], spec["shape"]) for spec in program[side]]
            assert specs == [(value.name, value.shape) for value in values]
        assert max(program["difference"].values()) < 1e-5
    measured = description["programs"]["student_step"]["latency_ms"]
    assert {name: figures["steps"] for name, figures in measured.items()} == {"onnxruntime": 50, "torch": 50}
    assert all(0 < figures["median"] <= figures["p99"] <= figures["max"] for figures in measured.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "sizes"),
    [
        (NDT, {"num_layers": 1}),
        (STNDT, {"num_layers": 1}),
        (LFADS, {"gen_dim": 8, "fac_dim": 4, "cell_clip": 1.0}),
        ("my_models.py", {"hidden": 6}),
    ],
    ids=["NDT", "STNDT", "LFADS", "user GRU"],
)
def test_every_backbone_exports_trial_program(backbone: Any, sizes: dict[str, Any], tmp_path: Path) -> None:
    network = readme_class(backbone, "GRU") if isinstance(backbone, str) else backbone
    system = student(network, **sizes)
    description = write_programs(system, None, tmp_path, 20)
    assert "configs/model/causal.yaml" in description["streaming"]
    assert {path.name for path in tmp_path.iterdir()} == {"student.pt2", "student.onnx"}
    # The loop over bins of LFADS is one operator; an unrolled loop could not be exported for long trials.
    assert len(onnx.load(tmp_path / "student.onnx").graph.node) < 400
    counts = torch.randint(0, 4, (5, 7, 4)).float()
    (output,) = onnxruntime.InferenceSession(tmp_path / "student.onnx").run(None, {"spikes": counts.numpy()})
    assert np.abs(output - rates_of(system, counts).numpy()).max() < 1e-5


SESSIONS = [
    SessionInfo(name, "A", tuple(map(str, range(channels))), ("u",)) for name, channels in (("a1", 13), ("a2", 9))
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LFPStudent, SingleSessionStudent])
@pytest.mark.parametrize("session", SESSIONS, ids=["a1", "a2"])
def test_lfp_student_exports_program_of_each_session(
    kind: type[MultiSessionSystem], session: SessionInfo, tmp_path: Path
) -> None:
    system = make_lfp(kind, MultiSessionSignature.from_sessions("both", 10, 20, SESSIONS, 2)).eval()
    description = write_programs(system, session.name, tmp_path, 20)
    assert description["streaming"].endswith("processes whole segments")
    lfp = torch.randn(5, 20, len(session.channel_id))
    with torch.no_grad():
        expected = system.network(lfp, [session.name] * 5).latents
    (output,) = onnxruntime.InferenceSession(tmp_path / "student.onnx").run(None, {"lfp": lfp.numpy()})
    assert np.abs(output - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize(("name", "message"), [(None, "covers one session"), ("b", "has no session b")])
def test_unknown_session_raises(name: str | None, message: str, tmp_path: Path) -> None:
    system = make_lfp(LFPStudent, MultiSessionSignature.from_sessions("both", 10, 20, SESSIONS, 2))
    with pytest.raises(ConfigError, match=f"{message}; choose --session from a1, a2"):
        write_programs(system, name, tmp_path, 20)


@pytest.mark.slow
def test_causal_student_of_noncausal_teacher_exports_streaming_program(tmp_path: Path) -> None:
    data = [f"--data.root={tmp_path / 'data'}", *SIMULATION]
    trained = fit("simulated_hard_causal", tmp_path / "runs", *data, teacher_args())
    (teacher,) = Results.read(trained).teachers
    systems = [load_system(path) for path in (Path(teacher), trained / "checkpoints" / "best.ckpt")]
    assert [bool(system.backbone.window.allowed.triu(1).any()) for system in systems] == [True, False]
    run_command(["export", str(trained), "--output", str(tmp_path / "exported"), "--steps", "20"])
    description = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert description["fingerprint"] == Results.read(trained).fingerprint
    assert {*description["programs"]} == {"student", "student_step"}


class FixedBatchSize(nn.Module):
    """Backbone that fixes the number of trials."""

    def __init__(self, dims: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dims.bins, dims.neurons))

    def forward(self, observed: torch.Tensor, context: torch.Tensor | None = None) -> Encoding:
        return Encoding(self.bias.expand(len(observed), -1, -1) + observed.mean())


def test_backbone_that_torch_cannot_export_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"torch cannot export this model: .*batch.*x\.shape") as raised:
        write_programs(student(FixedBatchSize), None, tmp_path, 20)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("output", [torch.tensor([1.0, 2.1]), torch.tensor([1.0, torch.nan])])
def test_difference_above_tolerance_raises(output: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="student in torch differs"):
        check_tolerance("student in torch", max_relative_error([torch.tensor([1.0, 2.0])], [output]))


def test_differences_are_relative_above_one() -> None:
    assert max_relative_error([torch.tensor([0.5, 1e3])], [torch.tensor([0.5, 1e3 + 1])]) == pytest.approx(1e-3)
    assert max_relative_error([torch.tensor([0.5])], [torch.tensor([0.6])]) == pytest.approx(0.1, rel=1e-5)


def test_teacher_raises(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="holds a Teacher, whose input is not available in real time"):
        run_command(["export", str(write_finished_run(tmp_path, kind=Teacher, num_layers=1))])


def test_neuprint_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a NeuPRINT, whose results are embeddings of cells"):
        run_command(["export", str(write_finished_run(tmp_path, NeuPRINT, size=4, dim_feedforward=8))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps is 0; it must be at least 1"),
        (["--checkpoint", "first.ckpt"], "first.ckpt"),
        (["--output", "."], "exists; remove it"),
        (["--session", "tiny"], "--session applies only to multi-session students"),
    ],
)
def test_invalid_arguments_raise_before_writing(arguments: list[str], message: str, tmp_path: Path) -> None:
    path = write_finished_run(tmp_path, **CAUSAL)
    with pytest.raises(BlendError, match=message):
        run_command(["export", str(path), *arguments])
    assert not (path / "export").exists()


def test_failed_export_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_finished_run(tmp_path, **CAUSAL)

    def fail(system: NeuralSystem, session: str | None, folder: Path, steps: int) -> None:
        (folder / "student.onnx").write_bytes(b"half")
        raise ConfigError("no")

    monkeypatch.setattr(command, "write_programs", fail)
    with pytest.raises(ConfigError, match="no"):
        run_command(["export", str(path)])
    assert sorted(child.name for child in path.iterdir()) == ["checkpoints", "results.json"]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package_raises_with_install_command(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf'export requires {package}; pip install "blend-pl\[export\]"'):
        run_command(["export", str(tmp_path)])
