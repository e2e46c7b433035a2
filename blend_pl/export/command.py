"""`python -m blend_pl export`: exports, checks and times the student of a finished run."""

import json
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from blend_pl.data.signature import MultiSessionSignature, Signature
from blend_pl.errors import ConfigError, TeacherError
from blend_pl.export.program import TOLERANCE, require_onnx_packages
from blend_pl.export.trial_program import select_session
from blend_pl.export.writer import write_programs
from blend_pl.models import NeuPRINT
from blend_pl.prediction import digest_of_recording
from blend_pl.runs.digest import other_data_message
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR
from blend_pl.runs.results import Results
from blend_pl.systems import NeuralSystem
from blend_pl.systems.checkpoint import load_system
from blend_pl.utils.files import atomic_folder

DESCRIPTION_FILE = "export.json"
VERSIONED_PACKAGES = ("blend-pl", "torch", "onnx", "onnxscript", "onnxruntime")


def export_student(
    run: str,
    output: str | None = None,
    checkpoint: str = BEST_CHECKPOINT,
    session: str | None = None,
    steps: int = 2000,
) -> None:
    """Exports the student of a finished run, which sees neural activity only, as programs without this package.

    student.pt2 (torch.export) and student.onnx map spike counts of any number of whole trials to rates. If attention is
    causal, student_step.pt2 and student_step.onnx map one bin to its rates and are timed on one CPU core. A student of
    field potentials returns latents of whole segments. All programs are compared with the model: a difference above
    1e-5 is an error. export.json describes inputs and outputs.

    Args:
        run: folder of a finished run.
        output: folder for the files, which must not exist; by default `export` in the run folder.
        checkpoint: file name in the checkpoint folder of the run.
        session: session to export, for a student of several sessions.
        steps: number of timed bins.

    Raises:
        BlendError: the checkpoint is missing, the model is a teacher or cannot be exported, the output exists, or a
            package is missing.
    """
    run_dir = Path(run)
    folder = Path(output) if output is not None else run_dir / "export"
    require_onnx_packages()
    if steps < 1:
        raise ConfigError(f"--steps is {steps}; it must be at least 1")
    if folder.exists():
        raise ConfigError(f"{folder} exists; remove it, or choose another folder with --output")
    results = Results.read(run_dir)
    student = load_student(run_dir, checkpoint)
    message = other_data_message(run_dir, student.data_digest, digest_of_recording(run_dir))
    if message is not None:
        print(f"note: {message}")
    with atomic_folder(folder) as temporary:
        program_info = write_programs(student, session, temporary, steps)
        description = {
            "name": results.name,
            "fingerprint": results.fingerprint,
            "seed": results.seed,
            "data_digest": student.data_digest,
            "checkpoint": f"{CHECKPOINT_DIR}/{checkpoint}",
            **_describe_session(student.signature, session),
            **program_info,
            "tolerance": TOLERANCE,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {package: metadata.version(package) for package in VERSIONED_PACKAGES},
        }
        (temporary / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")
    print(f"exported {results.name} to {folder}")
    for line in _summary_lines(description):
        print(f"  {line}")


def load_student(run_dir: Path, checkpoint: str = BEST_CHECKPOINT) -> NeuralSystem:
    """Loads the student of a run.

    Raises:
        TeacherError: the checkpoint is missing or damaged, or the model is a teacher.
        ConfigError: the model cannot be exported.
    """
    system = load_system(run_dir / CHECKPOINT_DIR / checkpoint)
    if system.requires_privileged:
        raise TeacherError(
            f"{run_dir} holds a {type(system).__name__}, whose input is not available in real time; "
            "name the run of a student"
        )
    if isinstance(system.backbone, NeuPRINT):
        raise ConfigError(
            f"{run_dir} holds a NeuPRINT, whose results are embeddings of cells; only students of spikes (NDT, STNDT, "
            "LFADS, user backbones) and of field potentials can be exported"
        )
    return system


def _describe_session(signature: Signature | None, name: str | None) -> dict[str, Any]:
    """Describes the session of a program as JSON values."""
    assert signature is not None
    bin_info = {"bin_ms": signature.bin_ms, "observed_bins": signature.n_observed, "forward_bins": signature.n_forward}
    if isinstance(signature, MultiSessionSignature):
        session_info = select_session(signature, name)
        return {"session": session_info.name, **bin_info, "channels": [*session_info.channel_id]}
    held_in, held_out = signature.unit_id[: signature.n_heldin], signature.unit_id[signature.n_heldin :]
    return {"session": signature.name, **bin_info, "held_in": [*held_in], "held_out": [*held_out]}


def _summary_lines(description: dict[str, Any]) -> Iterator[str]:
    """Yields the lines to print of a description."""
    for stem, program in description["programs"].items():
        yield f"{stem}.pt2, {stem}.onnx: maximum difference to the model {max(program['difference'].values()):.0e}"
        for runtime, latency_ms in program.get("latency_ms", {}).items():
            yield (
                f"latency of a {description['bin_ms']} ms bin in {runtime} on one core: "
                f"median {latency_ms['median']:.3f} ms, p99 {latency_ms['p99']:.3f} ms "
                f"(CPU time {latency_ms['processor_p99']:.3f} ms)"
            )
    if description["streaming"] is not True:
        yield f"no streaming program: {description['streaming']}"
