"""`python -m blend_pl export`: a finished run's student as programs, checked, with their latency."""

import json
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blend_pl.data.lfp.sessions import SessionSet
from blend_pl.data.session import Signature
from blend_pl.errors import ConfigError, TeacherError
from blend_pl.export.latency import onnx_latency, torch_latency
from blend_pl.export.program import TOLERANCE, Program, check, difference, onnx_packages
from blend_pl.export.streaming import Step, obstacle, step_program, stream
from blend_pl.export.whole import member_of, segment_program, trial_program
from blend_pl.files import atomic_folder
from blend_pl.models import NDT, NeuPRINT
from blend_pl.results import read_results
from blend_pl.runs import BEST, CHECKPOINTS
from blend_pl.systems import LFPStudent, SpikeTeacher, Student, Teacher
from blend_pl.systems.checkpoint import load_system

DESCRIPTION = "export.json"
PACKAGES = ("blend-pl", "torch", "onnx", "onnxscript", "onnxruntime")


def export(
    run: str, output: str | None = None, checkpoint: str = BEST, session: str | None = None, steps: int = 2000
) -> None:
    """Writes a finished run's student, which sees neural activity only, as programs that run without this package.

    student.pt2 (torch.export) and student.onnx take the spike counts of whole trials, any number of them, and give
    rates. Where attention looks back only, student_step.pt2 and student_step.onnx take one bin and give its rates, and
    are timed on one CPU core. A student of field potentials gives latents of whole segments. All are compared with the
    model: a difference above 1e-5 is an error. export.json says what goes in and out.

    Args:
        run: folder of a finished run.
        output: folder for the files, which must not exist yet; export in the run's folder by default.
        checkpoint: name of the file in the run's folder of checkpoints.
        session: of a student of several sessions, the one to export.
        steps: bins that are timed.

    Raises:
        BlendError: the run has no such checkpoint, holds a teacher or a model that cannot be exported, the output
            exists, or a package is missing.
    """
    path = Path(run)
    folder = Path(output) if output is not None else path / "export"
    onnx_packages()
    if steps < 1:
        raise ConfigError(f"--steps is at least 1, not {steps}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already; remove it, or choose another folder with --output")
    results = read_results(path)
    student = student_of(path, checkpoint)
    with atomic_folder(folder) as temporary:
        programs, lines = write_programs(student, session, temporary, steps)
        description = {
            "name": results["name"],
            "fingerprint": results["fingerprint"],
            "seed": results["seed"],
            "checkpoint": f"{CHECKPOINTS}/{checkpoint}",
            **_session(student.signature, session),
            **programs,
            "tolerance": TOLERANCE,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {package: metadata.version(package) for package in PACKAGES},
        }
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    print(f"exported {results['name']} to {folder}")
    for line in lines:
        print(f"  {line}")


def student_of(run: Path, checkpoint: str = BEST) -> Student:
    """A run's student.

    Raises:
        TeacherError: the checkpoint is missing or damaged, or holds a teacher.
        ConfigError: it holds a model that has no program.
    """
    system = load_system(run / CHECKPOINTS / checkpoint)
    if isinstance(system, Teacher | SpikeTeacher):
        raise TeacherError(
            f"{run} holds a {type(system).__name__}, whose input is missing in real time; name the run of a student"
        )
    if isinstance(system.backbone, NeuPRINT):
        raise ConfigError(
            f"{run} holds a NeuPRINT, whose result are embeddings of cells; students of spikes (NDT, STNDT, LFADS, a "
            "backbone of your own) and of field potentials can be exported"
        )
    return system


def write_programs(student: Student, session: str | None, folder: Path, steps: int) -> tuple[dict[str, Any], list[str]]:
    """Writes, checks and times the programs of a student.

    Args:
        student: what is exported.
        session: of a student of several sessions, the one to export.
        folder: where to.
        steps: bins that are timed.

    Returns:
        What is said of the programs, as JSON values, and lines to print.

    Raises:
        ConfigError: one cannot be exported or differs from the student, or the session is not its.
    """
    signature = student.signature
    assert signature is not None
    if isinstance(student, LFPStudent):
        assert isinstance(signature, SessionSet)
        whole = segment_program(student.network, member_of(signature, session), signature.n_observed)
    else:
        if session is not None:
            raise ConfigError("--session is for students of several sessions, and this is of one; leave it out")
        whole = trial_program(student.backbone, student.likelihood, signature)
    trials = [_drawn(rows, whole) for rows in (2, 1, 3)]
    whole.write(folder, (trials[0],))
    apart = whole.differences(folder, [(each,) for each in trials])
    programs: dict[str, Any] = {whole.stem: {**whole.ports(), "difference": apart}}
    reason = obstacle(student.backbone)
    lines = []
    if reason is None:
        # Forward bins have no counts.
        spikes = torch.cat([trials[1][0], torch.zeros(signature.n_forward, signature.n_heldin)])
        with torch.no_grad():
            expected = whole.module(trials[1])[0]
        programs["student_step"] = entry = _write_step(student, expected, spikes, folder, steps)
        for who, measured in entry["latency_ms"].items():
            lines.append(
                f"a bin of {signature.bin_ms} ms in {who} on one core: median {measured['median']:.3f} ms, p99 "
                f"{measured['p99']:.3f} ms ({measured['processor_p99']:.3f} ms of the processor)"
            )
    else:
        lines.append(f"not for single bins: {reason}")
    written = [
        f"{stem}.pt2, {stem}.onnx: equal to the model to {max(entry['difference'].values()):.0e}"
        for stem, entry in programs.items()
    ]
    return {"programs": programs, "streaming": reason or True}, [*written, *lines]


def _write_step(student: Student, expected: Tensor, spikes: Tensor, folder: Path, steps: int) -> dict[str, Any]:
    """Writes, checks and times the program of single bins on a trial (T', C) whose rates (T', N) are expected."""
    assert isinstance(student.backbone, NDT)
    assert student.signature is not None
    program = step_program(student.backbone, student.likelihood, student.signature)
    step = program.module
    assert isinstance(step, Step)
    with torch.no_grad():
        gap = difference([expected], [stream(step, spikes)])
    check("the student bin by bin", gap)
    program.write(folder, (spikes[:1], *step.start()))
    apart = program.differences(folder, _along(step, spikes))
    times = {
        "onnxruntime": onnx_latency(folder / f"{program.stem}.onnx", step, spikes, steps),
        "torch": torch_latency(step, spikes, steps),
    }
    return {
        **program.ports(),
        "difference": {**apart, "whole trial": gap},
        "latency_ms": {who: asdict(measured) for who, measured in times.items()},
    }


def _session(signature: Signature | None, name: str | None) -> dict[str, Any]:
    """What a program's session is, as JSON values."""
    assert signature is not None
    common = {"bin_ms": signature.bin_ms, "observed_bins": signature.n_observed, "forward_bins": signature.n_forward}
    if isinstance(signature, SessionSet):
        member = member_of(signature, name)
        return {"session": member.name, **common, "channels": [*member.channel_id]}
    held_in, held_out = signature.unit_id[: signature.n_heldin], signature.unit_id[signature.n_heldin :]
    return {"session": signature.name, **common, "held_in": [*held_in], "held_out": [*held_out]}


def _drawn(rows: int, program: Program) -> Tensor:
    """Counts of no session, which are fair field potentials too: the programs must agree on any. (rows, T, C)"""
    (port,) = program.inputs
    shape = rows, *(int(size) for size in port.shape[1:])
    return torch.poisson(torch.full(shape, 0.2), torch.Generator().manual_seed(rows))


def _along(step: Step, spikes: Tensor) -> list[tuple[Tensor, ...]]:
    """What the step is given in each bin of a trial."""
    given, state = [], step.start()
    with torch.no_grad():
        for now in spikes:
            given.append((now[None], *state))
            _, *state = step(*given[-1])
    return given
