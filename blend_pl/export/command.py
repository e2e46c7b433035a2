"""`python -m blend_pl export`: a finished run's student as programs, checked, with their latency."""

import json
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blend_pl.errors import ConfigError, TeacherError
from blend_pl.export.latency import Latency, onnx_latency, torch_latency
from blend_pl.export.program import TOLERANCE, Program, check, difference, onnx_packages
from blend_pl.export.streaming import Step, obstacle, step_program, stream
from blend_pl.export.trial import trial_program
from blend_pl.files import atomic_folder
from blend_pl.models import NDT, NeuPRINT
from blend_pl.results import read_results
from blend_pl.runs import BEST, CHECKPOINTS
from blend_pl.systems import LFPStudent, SpikeTeacher, Student, Teacher
from blend_pl.systems.checkpoint import load_system

DESCRIPTION = "export.json"
PACKAGES = ("blend-pl", "torch", "onnx", "onnxscript", "onnxruntime")


def export(run: str, output: str | None = None, checkpoint: str = BEST, steps: int = 2000) -> None:
    """Writes a finished run's student, which sees neural activity only, as programs that run without this package.

    student.pt2 (torch.export) and student.onnx take the spike counts of whole trials, any number of them, and give
    rates. Where attention looks back only, student_step.pt2 and student_step.onnx take one bin and give its rates, and
    are timed on one CPU core. Both are compared with the model: a difference above 1e-5 is an error. export.json says
    what goes in and out.

    Args:
        run: folder of a finished run.
        output: folder for the files, which must not exist yet; export in the run's folder by default.
        checkpoint: name of the file in the run's folder of checkpoints.
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
    system = student_of(path, checkpoint)
    session = system.signature
    assert session is not None
    description: dict[str, Any] = {
        "name": results["name"],
        "fingerprint": results["fingerprint"],
        "seed": results["seed"],
        "checkpoint": f"{CHECKPOINTS}/{checkpoint}",
        "session": session.name,
        "bin_ms": session.bin_ms,
        "observed_bins": session.n_observed,
        "forward_bins": session.n_forward,
        "held_in": [*session.unit_id[: session.n_heldin]],
        "held_out": [*session.unit_id[session.n_heldin :]],
        "tolerance": TOLERANCE,
    }
    with atomic_folder(folder) as temporary:
        lines = write_programs(system, temporary, description, steps)
        description["date"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        description["versions"] = {package: metadata.version(package) for package in PACKAGES}
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    print(f"exported {results['name']} of {session} to {folder}")
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
    if isinstance(system, LFPStudent) or isinstance(system.backbone, NeuPRINT):
        raise ConfigError(
            f"{run} holds a {type(system.backbone).__name__}, which gives embeddings or latents rather than rates; "
            "students of spikes can be exported: NDT, STNDT, LFADS or a backbone of your own"
        )
    return system


def write_programs(system: Student, folder: Path, description: dict[str, Any], steps: int) -> list[str]:
    """Writes, checks and times the programs of a student.

    Args:
        system: the student.
        folder: where to.
        description: what is said of them; "programs" and "streaming" are added.
        steps: bins that are timed.

    Returns:
        What to print.

    Raises:
        ConfigError: one cannot be exported, or differs from the student.
    """
    session = system.signature
    assert session is not None
    trial = trial_program(system.backbone, system.likelihood, session)
    trials = [_counts(rows, session.n_observed, session.n_heldin) for rows in (2, 1, 3)]
    trial.write(folder, (trials[0],))
    entries = {trial.stem: {**trial.ports(), "difference": trial.differences(folder, [(t,) for t in trials])}}
    lines = [_line(trial, entries)]
    reason = obstacle(system.backbone)
    if reason is None:
        assert isinstance(system.backbone, NDT)
        program = step_program(system.backbone, system.likelihood, session)
        step = program.module
        assert isinstance(step, Step)
        # Forward bins have no counts.
        spikes = torch.cat([trials[1][0], torch.zeros(session.n_forward, session.n_heldin)])
        with torch.no_grad():
            gap = difference([trial.module(trials[1])[0]], [stream(step, spikes)])
        check("the student bin by bin", gap)
        program.write(folder, (spikes[:1], *step.start()))
        apart = program.differences(folder, _along(step, spikes))
        times = {
            "onnxruntime": onnx_latency(folder / f"{program.stem}.onnx", step, spikes, steps),
            "torch": torch_latency(step, spikes, steps),
        }
        entries[program.stem] = {
            **program.ports(),
            "difference": {**apart, "whole trial": gap},
            "latency_ms": {who: asdict(measured) for who, measured in times.items()},
        }
        lines += [_line(program, entries), *_speed(times, session.bin_ms)]
    else:
        lines.append(f"no streaming: {reason}")
    description["programs"], description["streaming"] = entries, reason or True
    return lines


def _counts(trials: int, bins: int, channels: int) -> Tensor:
    """Counts of no session: the programs must agree on any. (trials, bins, channels)"""
    return torch.poisson(torch.full((trials, bins, channels), 0.2), torch.Generator().manual_seed(trials))


def _along(step: Step, spikes: Tensor) -> list[tuple[Tensor, ...]]:
    """What the step is given in each bin of a trial."""
    given, state = [], step.start()
    with torch.no_grad():
        for now in spikes:
            given.append((now[None], *state))
            _, *state = step(*given[-1])
    return given


def _line(program: Program, entries: dict[str, Any]) -> str:
    worst = max(entries[program.stem]["difference"].values())
    return f"{program.stem}.pt2, {program.stem}.onnx: equal to the model to {worst:.1e}"


def _speed(times: dict[str, Latency], bin_ms: int) -> list[str]:
    return [f"a bin of {bin_ms} ms takes {who} on one core {measured}" for who, measured in times.items()]
