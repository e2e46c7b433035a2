"""Export of a module with torch.export and ONNX, and comparison with the module."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blend_pl.errors import ConfigError

TOLERANCE = 1e-5
"""Largest allowed difference between program and module; relative for entries above 1."""

BATCH_DIM = "batch"
"""Name of the dynamic batch dimension."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a program.

    Attributes:
        name: tensor name.
        shape: sizes; `BATCH_DIM` marks a dynamic size.
        unit: meaning and unit of an entry.
        dtype: data type.
    """

    name: str
    shape: tuple[int | str, ...]
    unit: str
    dtype: str = "float32"


@dataclass(frozen=True)
class ExportableProgram:
    """A module in evaluation mode that can be exported.

    Attributes:
        stem: file name without suffix.
        module: module that maps tensors to tensors.
        inputs: input specifications.
        outputs: output specifications.
    """

    stem: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def tensor_specs(self) -> dict[str, Any]:
        """Returns inputs and outputs as JSON values."""
        return {"inputs": [asdict(spec) for spec in self.inputs], "outputs": [asdict(spec) for spec in self.outputs]}

    def write(self, folder: Path, example_inputs: Sequence[Tensor]) -> None:
        """Writes STEM.pt2 and STEM.onnx.

        Args:
            folder: target folder.
            example_inputs: inputs for tracing; batches need at least two rows.

        Raises:
            ConfigError: torch cannot export the module.
        """
        from onnx_ir import Shape

        self.module.eval().requires_grad_(False)
        batch_dim = torch.export.Dim(BATCH_DIM, min=1)
        dynamic_shapes = tuple(
            {axis: batch_dim for axis, size in enumerate(spec.shape) if size == BATCH_DIM} for spec in self.inputs
        )
        buffer = BytesIO()
        try:
            with _quiet_exporters():
                exported_program = torch.export.export(
                    self.module, tuple(example_inputs), dynamic_shapes=dynamic_shapes
                )
                torch.export.save(exported_program, buffer)
                onnx_program = torch.onnx.export(
                    exported_program,
                    input_names=[spec.name for spec in self.inputs],
                    output_names=[spec.name for spec in self.outputs],
                    dynamo=True,
                    verbose=False,
                )
        except Exception as error:  # The module and the exporters of torch may raise any exception.
            raise ConfigError(
                f"torch cannot export this model: {_root_cause(error)}; in a user backbone, take sizes from x.shape "
                "instead of len(x), and avoid control flow that depends on values"
            ) from error
        assert onnx_program is not None
        graph = onnx_program.model.graph
        for graph_value, spec in zip((*graph.inputs, *graph.outputs), (*self.inputs, *self.outputs), strict=True):
            graph_value.shape = Shape(spec.shape)
        (folder / f"{self.stem}.pt2").write_bytes(buffer.getvalue())
        # A separate file of weights could be lost.
        onnx_program.save(folder / f"{self.stem}.onnx", external_data=False)

    def compare_outputs(self, folder: Path, inputs: Sequence[Sequence[Tensor]]) -> dict[str, float]:
        """Compares the written programs with the module.

        Args:
            folder: folder of the files.
            inputs: inputs for the comparison.

        Returns:
            Largest difference for each runtime, "torch" and "onnxruntime"; relative for entries above 1.

        Raises:
            ConfigError: a difference is above `TOLERANCE`.
        """
        with _quiet_exporters():
            torch_module = torch.export.load(folder / f"{self.stem}.pt2").module()
        session = create_onnx_session(folder / f"{self.stem}.onnx")
        names = [spec.name for spec in self.inputs]
        max_errors = {"torch": 0.0, "onnxruntime": 0.0}
        for example in inputs:
            feeds = {name: value.numpy() for name, value in zip(names, example, strict=True)}
            with torch.no_grad():
                expected = _as_sequence(self.module(*example))
                outputs_by_runtime = {
                    "torch": _as_sequence(torch_module(*example)),
                    "onnxruntime": [torch.from_numpy(output) for output in session.run(None, feeds)],
                }
            for runtime, outputs in outputs_by_runtime.items():
                max_errors[runtime] = max(max_errors[runtime], max_relative_error(expected, outputs))
        for runtime, max_error in max_errors.items():
            check_tolerance(f"{self.stem} in {runtime}", max_error)
        return max_errors


def max_relative_error(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> float:
    """Returns the largest difference between tensors, relative for entries above 1; infinite if a value is NaN."""
    max_error = 0.0
    for a, b in zip(expected, actual, strict=True):
        error = ((a.double() - b.double()).abs() / a.double().abs().clamp(min=1)).nan_to_num(torch.inf)
        max_error = max(max_error, float(error.max()) if error.numel() else 0.0)
    return max_error


def check_tolerance(label: str, max_error: float) -> None:
    """Checks that a difference is at most `TOLERANCE`.

    Raises:
        ConfigError: the difference is larger.
    """
    if not max_error <= TOLERANCE:
        raise ConfigError(
            f"{label} differs from the model by {max_error:.1e}, more than {TOLERANCE:g}, so nothing was written; "
            "check that the model draws no random numbers in evaluation and that its control flow does not depend on "
            "values"
        )


def require_onnx_packages() -> None:
    """Checks that the packages for export are installed.

    Raises:
        ConfigError: a package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'export requires {error.name}; pip install "blend-pl[export]"') from error


def create_onnx_session(path: Path) -> Any:
    """Loads an ONNX program in onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _as_sequence(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _root_cause(error: BaseException) -> str:
    """Returns the message of the innermost cause on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return [*(line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__][0].rstrip(".")


@contextmanager
def _quiet_exporters() -> Iterator[None]:
    """Silences the log messages and warnings of the exporters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
