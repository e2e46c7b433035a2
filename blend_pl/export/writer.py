"""Writes, checks and times all programs of a student."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blend_pl.data.signature import MultiSessionSignature, Signature
from blend_pl.errors import ConfigError
from blend_pl.export.latency import measure_onnx_latency, measure_torch_latency
from blend_pl.export.program import ExportableProgram, check_tolerance, max_relative_error
from blend_pl.export.streaming import StreamingNDT, stream_trial, streaming_program, streaming_unsupported_reason
from blend_pl.export.trial_program import segment_program, select_session, trial_program
from blend_pl.models import NDT
from blend_pl.systems import MultiSessionSystem, NeuralSystem


def write_programs(student: NeuralSystem, session: str | None, folder: Path, steps: int) -> dict[str, Any]:
    """Writes, checks and times the programs of a student.

    Args:
        student: student to export.
        session: session to export, for a student of several sessions.
        folder: target folder.
        steps: number of timed bins.

    Returns:
        JSON values: "programs", a description of each program by file stem, and "streaming", true or the reason why
        there is no program for single bins.

    Raises:
        ConfigError: a program cannot be exported or differs from the student, or the session is unknown.
    """
    signature = student.signature
    assert signature is not None
    full_program = _build_full_program(student, signature, session)
    trials = [_random_inputs(rows, full_program) for rows in (2, 1, 3)]
    full_program.write(folder, (trials[0],))
    max_errors = full_program.compare_outputs(folder, [(trial,) for trial in trials])
    programs = {full_program.stem: {**full_program.tensor_specs(), "difference": max_errors}}
    reason = streaming_unsupported_reason(student.backbone)
    if reason is None:
        assert isinstance(student.backbone, NDT)
        bin_program = streaming_program(student.backbone, student.likelihood, signature)
        programs[bin_program.stem] = _write_streaming_program(bin_program, full_program, trials[1], folder, steps)
    return {"programs": programs, "streaming": reason or True}


def _build_full_program(student: NeuralSystem, signature: Signature, session: str | None) -> ExportableProgram:
    """Returns the program of whole trials or segments."""
    if isinstance(student, MultiSessionSystem):
        assert isinstance(signature, MultiSessionSignature)
        return segment_program(student.network, select_session(signature, session), signature.n_observed)
    if session is not None:
        raise ConfigError("--session requires a student of several sessions; remove it")
    return trial_program(student.backbone, student.likelihood, signature)


def _write_streaming_program(
    program: ExportableProgram, full_program: ExportableProgram, trial: Tensor, folder: Path, steps: int
) -> dict[str, Any]:
    """Writes, checks and times the program of single bins on a trial (1, T, C)."""
    step = program.module
    assert isinstance(step, StreamingNDT)
    with torch.no_grad():
        (expected,) = full_program.module(trial)
        # Forward bins have no counts.
        spikes = torch.cat([trial[0], trial.new_zeros(len(expected) - trial.shape[1], trial.shape[2])])
        max_error = max_relative_error([expected], [stream_trial(step, spikes)])
    check_tolerance("the streaming program", max_error)
    program.write(folder, (spikes[:1], *step.initial_state()))
    max_errors = program.compare_outputs(folder, _step_inputs(step, spikes))
    latencies = {
        "onnxruntime": measure_onnx_latency(folder / f"{program.stem}.onnx", step, spikes, steps),
        "torch": measure_torch_latency(step, spikes, steps),
    }
    return {
        **program.tensor_specs(),
        "difference": {**max_errors, "whole trial": max_error},
        "latency_ms": {runtime: asdict(runtime_latency) for runtime, runtime_latency in latencies.items()},
    }


def _random_inputs(batch_size: int, program: ExportableProgram) -> Tensor:
    """Draws Poisson inputs, (batch_size, T, C), for comparing programs of spikes or field potentials."""
    (input_spec,) = program.inputs
    shape = batch_size, *(int(size) for size in input_spec.shape[1:])
    return torch.poisson(torch.full(shape, 0.2), torch.Generator().manual_seed(batch_size))


def _step_inputs(step: StreamingNDT, spikes: Tensor) -> list[tuple[Tensor, ...]]:
    """Returns the inputs of the step for each bin of a trial."""
    inputs, state = [], step.initial_state()
    with torch.no_grad():
        for bin_counts in spikes:
            inputs.append((bin_counts[None], *state))
            _, *state = step(*inputs[-1])
    return inputs
