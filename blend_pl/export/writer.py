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
from blend_pl.export.streaming import StreamingNDT, build_streaming_program, stream_trial, streaming_unsupported_reason
from blend_pl.export.trial_program import build_segment_program, build_trial_program, select_session
from blend_pl.models import NDT
from blend_pl.systems import MultiSessionSystem, NeuralSystem


def write_programs(student: NeuralSystem, session: str | None, folder: Path, n_timed_bins: int) -> dict[str, Any]:
    """Writes, checks and times the programs of a student.

    Args:
        student: student to export.
        session: session to export, for a student of several sessions.
        folder: target folder.
        n_timed_bins: number of timed bins.

    Returns:
        JSON values: "programs", a description of each program by file stem, and "streaming", true or the reason why
        there is no streaming program.

    Raises:
        ConfigError: a program cannot be exported or differs from the student, or the session is unknown.
    """
    signature = student.signature
    assert signature is not None
    full_program = _build_full_program(student, signature, session)
    batches = [_random_inputs(batch_size, full_program) for batch_size in (2, 1, 3)]
    single_trial = batches[1]
    full_program.write(folder, (batches[0],))
    max_errors = full_program.compare_outputs(folder, [(batch,) for batch in batches])
    programs = {full_program.stem: {**full_program.tensor_specs(), "difference": max_errors}}
    reason = streaming_unsupported_reason(student.backbone)
    if reason is None:
        assert isinstance(student.backbone, NDT)
        streaming_program = build_streaming_program(student.backbone, student.likelihood, signature)
        programs[streaming_program.stem] = _write_streaming_program(
            streaming_program, full_program, single_trial, folder, n_timed_bins
        )
    return {"programs": programs, "streaming": reason or True}


def _build_full_program(student: NeuralSystem, signature: Signature, session: str | None) -> ExportableProgram:
    """Returns the program of whole trials or segments."""
    if isinstance(student, MultiSessionSystem):
        assert isinstance(signature, MultiSessionSignature)
        return build_segment_program(student.network, select_session(signature, session), signature.n_observed)
    if session is not None:
        raise ConfigError("--session applies only to multi-session students; remove it")
    return build_trial_program(student.backbone, student.likelihood, signature)


def _write_streaming_program(
    streaming_program: ExportableProgram,
    full_program: ExportableProgram,
    single_trial: Tensor,
    folder: Path,
    n_timed_bins: int,
) -> dict[str, Any]:
    """Writes, checks and times the streaming program on a single trial (1, T, C)."""
    step = streaming_program.module
    assert isinstance(step, StreamingNDT)
    with torch.no_grad():
        (expected,) = full_program.module(single_trial)
        # The inputs of forward bins are zeros.
        spikes = torch.cat(
            [single_trial[0], single_trial.new_zeros(len(expected) - single_trial.shape[1], single_trial.shape[2])]
        )
        max_error = max_relative_error([expected], [stream_trial(step, spikes)])
    check_tolerance("the streaming program", max_error)
    streaming_program.write(folder, (spikes[:1], *step.initial_state()))
    max_errors = streaming_program.compare_outputs(folder, _step_inputs(step, spikes))
    latencies = {
        "onnxruntime": measure_onnx_latency(folder / f"{streaming_program.stem}.onnx", step, spikes, n_timed_bins),
        "torch": measure_torch_latency(step, spikes, n_timed_bins),
    }
    return {
        **streaming_program.tensor_specs(),
        "difference": {**max_errors, "whole trial": max_error},
        "latency_ms": {runtime: asdict(runtime_latency) for runtime, runtime_latency in latencies.items()},
    }


def _random_inputs(batch_size: int, program: ExportableProgram) -> Tensor:
    """Returns Poisson samples (batch_size, T, C), which serve as spike counts or field potentials."""
    (input_spec,) = program.inputs
    shape = batch_size, *(int(size) for size in input_spec.shape[1:])
    return torch.poisson(torch.full(shape, 0.2), torch.Generator().manual_seed(batch_size))


def _step_inputs(step: StreamingNDT, spikes: Tensor) -> list[tuple[Tensor, ...]]:
    """Returns the inputs of the streaming program for each bin of a trial."""
    inputs, state = [], step.initial_state()
    with torch.no_grad():
        for bin_counts in spikes:
            inputs.append((bin_counts[None], *state))
            _, *state = step(*inputs[-1])
    return inputs
