"""A module as a program: written by torch.export and as ONNX, and checked against the module."""

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
"""Largest difference to the module that a program may have, relative to entries above 1."""

BATCH = "batch"
"""A size that is chosen when the program is run."""


@dataclass(frozen=True)
class Port:
    """An input or output of a program.

    Attributes:
        name: its name.
        shape: its sizes; `BATCH` is any.
        unit: what an entry says.
        dtype: type of the entries.
    """

    name: str
    shape: tuple[int | str, ...]
    unit: str
    dtype: str = "float32"


@dataclass(frozen=True)
class Program:
    """A module in evaluation mode that can be exported.

    Attributes:
        stem: name of its files, without their endings.
        module: what it computes, tensors in and tensors out.
        inputs: what goes in.
        outputs: what comes out.
    """

    stem: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def ports(self) -> dict[str, Any]:
        """Inputs and outputs as JSON values."""
        return {"inputs": [asdict(port) for port in self.inputs], "outputs": [asdict(port) for port in self.outputs]}

    def write(self, folder: Path, example: Sequence[Tensor]) -> None:
        """Writes STEM.pt2 and STEM.onnx.

        Args:
            folder: where to.
            example: inputs to trace the module with; a batch has two rows or more.

        Raises:
            ConfigError: torch cannot export the module.
        """
        from onnx_ir import Shape

        self.module.eval().requires_grad_(False)
        batch = torch.export.Dim(BATCH, min=1)
        dynamic = tuple({d: batch for d, size in enumerate(port.shape) if size == BATCH} for port in self.inputs)
        archive = BytesIO()
        try:
            with _silence():
                traced = torch.export.export(self.module, tuple(example), dynamic_shapes=dynamic)
                torch.export.save(traced, archive)
                translated = torch.onnx.export(
                    traced,
                    input_names=[port.name for port in self.inputs],
                    output_names=[port.name for port in self.outputs],
                    dynamo=True,
                    verbose=False,
                )
        except Exception as error:  # Whatever the module's own code or torch's exporters may raise.
            raise ConfigError(
                f"torch cannot export this model: {_reason(error)}; in a backbone of your own, take sizes from x.shape "
                "rather than len(x), and let no value decide what is computed"
            ) from error
        assert translated is not None
        graph = translated.model.graph
        for value, port in zip((*graph.inputs, *graph.outputs), (*self.inputs, *self.outputs), strict=True):
            value.shape = Shape(port.shape)
        (folder / f"{self.stem}.pt2").write_bytes(archive.getvalue())
        # A file of weights beside the program could be lost.
        translated.save(folder / f"{self.stem}.onnx", external_data=False)

    def differences(self, folder: Path, inputs: Sequence[Sequence[Tensor]]) -> dict[str, float]:
        """Largest difference of what was written to the module's outputs, relative to entries above 1.

        Args:
            folder: where the files are.
            inputs: some inputs to compare on.

        Returns:
            By who ran the file: "torch" and "onnxruntime".

        Raises:
            ConfigError: a difference is above `TOLERANCE`.
        """
        with _silence():
            loaded = torch.export.load(folder / f"{self.stem}.pt2").module()
        session = onnx_session(folder / f"{self.stem}.onnx")
        names = [port.name for port in self.inputs]
        largest = {"torch": 0.0, "onnxruntime": 0.0}
        for given in inputs:
            fed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
            with torch.no_grad():
                expected = _listed(self.module(*given))
                found = {
                    "torch": _listed(loaded(*given)),
                    "onnxruntime": [torch.from_numpy(output) for output in session.run(None, fed)],
                }
            for who, outputs in found.items():
                largest[who] = max(largest[who], difference(expected, outputs))
        for who, largest_difference in largest.items():
            check(f"{self.stem} in {who}", largest_difference)
        return largest


def difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Largest difference between tensors, relative to entries above 1; infinite where one is no number."""
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        gap = ((a.double() - b.double()).abs() / a.double().abs().clamp(min=1)).nan_to_num(torch.inf)
        worst = max(worst, float(gap.max()) if gap.numel() else 0.0)
    return worst


def check(what: str, largest: float) -> None:
    """Refuses a difference above `TOLERANCE`.

    Raises:
        ConfigError: it is.
    """
    if not largest <= TOLERANCE:
        raise ConfigError(
            f"{what} differs from the model by {largest:.1e}, more than {TOLERANCE:g}, so nothing was written; a model "
            "of your own may draw at random in evaluation or decide by values that the exporter took as fixed"
        )


def onnx_packages() -> None:
    """Asks for the packages that exporting needs.

    Raises:
        ConfigError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'export needs {error.name}; pip install "blend-pl[export]"') from error


def onnx_session(path: Path) -> Any:
    """The ONNX program in onnxruntime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _listed(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _reason(error: BaseException) -> str:
    """The innermost cause, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return [*(line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__][0].rstrip(".")


@contextmanager
def _silence() -> Iterator[None]:
    """Exporters speak at length of themselves and of packages that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
