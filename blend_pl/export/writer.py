"""All programs of a student: written, compared with it, timed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blend_pl.data.lfp.signature import SessionSet
from blend_pl.data.nlb.session import Signature
from blend_pl.errors import ConfigError
from blend_pl.export.latency import onnx_latency, torch_latency
from blend_pl.export.program import Program, check, difference
from blend_pl.export.streaming import Step, obstacle, step_program, stream
from blend_pl.export.trial_program import member_of, segment_program, trial_program
from blend_pl.models import NDT
from blend_pl.systems import LFPStudent, Student


def write_programs(student: Student, session: str | None, folder: Path, steps: int) -> dict[str, Any]:
    """Writes, checks and times the programs of a student.

    Args:
        student: what is exported.
        session: of a student of several sessions, the one to export.
        folder: where to.
        steps: bins that are timed.

    Returns:
        JSON values: "programs", what is said of each, by the name of its files, and "streaming", true, or why there is
        no program of single bins.

    Raises:
        ConfigError: one cannot be exported or differs from the student, or the session is not its.
    """
    signature = student.signature
    assert signature is not None
    whole = _whole(student, signature, session)
    trials = [_drawn(rows, whole) for rows in (2, 1, 3)]
    whole.write(folder, (trials[0],))
    apart = whole.differences(folder, [(each,) for each in trials])
    programs = {whole.stem: {**whole.ports(), "difference": apart}}
    reason = obstacle(student.backbone)
    if reason is None:
        assert isinstance(student.backbone, NDT)
        step = step_program(student.backbone, student.likelihood, signature)
        programs[step.stem] = _write_step(step, whole, trials[1], folder, steps)
    return {"programs": programs, "streaming": reason or True}


def _whole(student: Student, signature: Signature, session: str | None) -> Program:
    """The program of whole trials or segments."""
    if isinstance(student, LFPStudent):
        assert isinstance(signature, SessionSet)
        return segment_program(student.network, member_of(signature, session), signature.n_observed)
    if session is not None:
        raise ConfigError("--session is for students of several sessions, and this is of one; leave it out")
    return trial_program(student.backbone, student.likelihood, signature)


def _write_step(program: Program, whole: Program, trial: Tensor, folder: Path, steps: int) -> dict[str, Any]:
    """Writes, checks and times the program of single bins on a trial (1, T, C)."""
    step = program.module
    assert isinstance(step, Step)
    with torch.no_grad():
        (expected,) = whole.module(trial)
        # Forward bins have no counts.
        spikes = torch.cat([trial[0], trial.new_zeros(len(expected) - trial.shape[1], trial.shape[2])])
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
