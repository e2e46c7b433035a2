"""Finished runs with untrained networks for tests of `export`."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from helpers.readme import module_of_the_readme
from helpers.results import write_run
from helpers.systems import NETWORK, save

from blend_pl.data.signature import Signature
from blend_pl.models import NDT
from blend_pl.systems import PopulationSystem, Student
from blend_pl.systems.base import INSTANTIATOR

SESSION = Signature("tiny", 5, 7, 3, 4, 2, (3, 1, 4, 15, 9, 2))
"""4 of 6 units held in, 7 observed and 3 forward bins."""

CAUSAL = {**NETWORK, "context_forward": 0, "context_backward": 3}


def student(backbone: Any = NDT, kind: type[PopulationSystem] = Student, **sizes: Any) -> PopulationSystem:
    """Builds a system with random weights in evaluation mode."""
    torch.manual_seed(0)
    system = kind(partial(backbone, **sizes))
    system.build(SESSION)
    return system.eval()


def write_finished_run(folder: Path, backbone: Any = NDT, kind: type[PopulationSystem] = Student, **sizes: Any) -> Path:
    """Writes a finished run of such a system under the run name that the README exports."""
    system = student(backbone, kind, **sizes)
    run = write_run(folder / "runs", "simulated_hard_causal", run="seed0-0123abcd", fingerprint="0123abcd")
    (run / "checkpoints").mkdir()
    parameters = {
        "_instantiator": INSTANTIATOR,
        "_class_path": f"blend_pl.systems.{kind.__name__}",
        "backbone": {"class_path": f"{backbone.__module__}.{backbone.__name__}", "init_args": sizes},
    }
    save(system, run / "checkpoints" / "best.ckpt", hyper_parameters=parameters)
    return run


def readme_class(file: str, name: str) -> Any:
    """Returns a class defined in a code example of the README."""
    namespace: dict[str, Any] = {}
    exec(compile(module_of_the_readme(file), file, "exec"), namespace)
    return namespace[name]
