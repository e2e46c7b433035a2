"""Checkpoints with untrusted settings."""

from pathlib import Path
from typing import Any

import pytest
from helpers.sessions import session_of
from helpers.systems import NETWORK, make, save

from blend_pl.data.nlb.session import session_signature
from blend_pl.errors import TeacherError
from blend_pl.systems import Student
from blend_pl.systems.base import INSTANTIATOR
from blend_pl.systems.checkpoint import load_system
from blend_pl.systems.trust import find_untrusted_class

SIGNATURE = session_signature("tiny", session_of())
NETWORKS: dict[str, Any] = {"class_path": "blend_pl.models.NDT", "init_args": NETWORK}

HUB = """
def malicious(*args, **settings):
    from pathlib import Path
    Path({trace!r}).touch()
"""


def shell(trace: Path, key: str = "init_args") -> dict[str, Any]:
    return {"class_path": "subprocess.Popen", key: {"args": f"touch {trace}", "shell": True}}


def forged(case: str, trace: Path) -> dict[str, Any]:
    """Returns settings that run a command which creates the file `trace`."""
    system = {"class_path": "os.system", "init_args": {"command": f"touch {trace}"}}
    match case:
        case "the system itself":
            return {"_class_path": "os.system"}
        case "a function as the network":
            return {"backbone": system}
        case "the name of a function as the network":
            return {"backbone": "os.system"}
        case "the name of a function as the schedule":
            return {"schedule": "os.system"}
        case "a function annotated to return a network":
            (trace.parent / "hubconf.py").write_text(HUB.format(trace=str(trace)))
            where = {"repo_or_dir": str(trace.parent), "source": "local", "model": "malicious"}
            return {"backbone": {"class_path": "torch.hub.load", "init_args": where}}
        case "inside a network":
            return {"backbone": {**NETWORKS, "init_args": {**NETWORK, "fusion": system}}}
        case "deep in a list":
            return {"backbone": {**NETWORKS, "init_args": {**NETWORK, "num_layers": [[shell(trace)]]}}}
        case "an unknown setting":
            return {"unheard_of": shell(trace, "dict_kwargs")}
        case "yaml in a string":
            return {"backbone": f"{{class_path: os.system, init_args: {{command: touch {trace}}}}}"}
        case "yaml in a file":
            path = trace.with_name("more.yaml")
            path.write_text(f"class_path: os.system\ninit_args: {{command: touch {trace}}}\n")
            return {"backbone": str(path)}
        case "a class that runs commands":
            return {case: shell(trace) for case in ("backbone", "likelihood", "optimizer", "masking")}
    raise AssertionError(case)


CASES = (
    "the system itself",
    "a function as the network",
    "the name of a function as the network",
    "the name of a function as the schedule",
    "a function annotated to return a network",
    "inside a network",
    "deep in a list",
    "an unknown setting",
    "yaml in a string",
    "yaml in a file",
    "a class that runs commands",
)


@pytest.mark.parametrize("case", CASES)
def test_settings_that_name_a_callable_raise_without_a_call(tmp_path: Path, case: str) -> None:
    trace = tmp_path / "trace"
    settings = {
        "_instantiator": INSTANTIATOR,
        "_class_path": "blend_pl.systems.Student",
        "backbone": NETWORKS,
        **forged(case, trace),
    }
    path = save(make(Student, SIGNATURE), tmp_path / "x.ckpt", hyper_parameters=settings)
    with pytest.raises(TeacherError, match=r"x\.ckpt asks to build (os|subprocess|torch\.hub)\.\w+, .*that you trust$"):
        load_system(path)
    assert not trace.exists()


@pytest.mark.parametrize("key", ["hparams", "module_arguments"])
def test_settings_under_legacy_keys_raise(tmp_path: Path, key: str) -> None:
    """Lightning reads settings that are missing elsewhere from these keys."""
    trace = tmp_path / "trace"
    settings = {"_instantiator": INSTANTIATOR, "_class_path": "blend_pl.systems.Student"}
    former = {key: forged("a function as the network", trace)}
    path = save(make(Student, SIGNATURE), tmp_path / "x.ckpt", hyper_parameters=settings, **former)
    with pytest.raises(TeacherError, match="is not a checkpoint of a student or a teacher"):
        load_system(path)
    assert not trace.exists()


def test_classes_of_training_are_trusted() -> None:
    settings = {
        "backbone": NETWORKS,
        "masking": {"ratio": 0.3, "mode": "full", "span_ramp": [1, 2]},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"betas": [0.9, 0.95]}},
        "schedule": {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.1}},
        "likelihood": {"class_path": "blend_pl.likelihoods.Poisson"},
        "note": "weights.of.nothing",
        "shape": None,
    }
    assert find_untrusted_class(settings) is None


def test_missing_class_is_reported() -> None:
    assert find_untrusted_class({"backbone": {"class_path": "gone.Network"}}) == "gone.Network"
