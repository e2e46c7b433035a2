"""Results of a finished run: results.json."""

import json
import math
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from blend_pl.compat import upgrade_config
from blend_pl.errors import DataError
from blend_pl.runs.strict_json import name_non_finite, restore_non_finite, to_strict_json
from blend_pl.utils.digests import shared_digest
from blend_pl.utils.files import atomic_file

RESULTS_FILE = "results.json"
RESULTS_VERSION = 2
"""Version of the format. Files of version 1, written by blend-pl 0.1, have neither `version` nor `role`."""

PACKAGES = ("blend-pl", "torch", "lightning", "torchmetrics", "numpy", "scipy")

BASELINE, TEACHER, STUDENT, CONTROL, CEILING = ROLES = ("baseline", "teacher", "student", "control", "ceiling")
"""Roles of a run in a comparison.

- baseline: learns without privileged input and without a teacher.
- teacher: sees privileged input wherever it runs.
- student: distilled from a teacher.
- control: isolates one ingredient of a student's gain or bounds it, e.g. self-distillation or a multimodal network.
- ceiling: a student that learns from unlimited simulated trials of the same population.
"""

TEACHER_SYSTEMS = ("Teacher", "SpikeTeacher", "SingleSessionTeacher", "GenerativeTeacher")
"""Classes of systems that are teachers. In a comparison the first that is present is the reference."""

CONTROL_SYSTEMS = ("LFPStudent", "LFPDecoder", "Multimodal")
"""Classes of systems that are controls unless they are distilled: one network for many sessions."""

CONTROL_SUFFIXES = ("_self", "_with_behavior")
"""Ends of names of controls that are configured like a student or a teacher."""

DATA_SETTINGS = (
    *("spec", "bin_ms", "phase", "source", "simulation", "selection_split", "holdout"),
    *("held_out", "length", "split", "split_seed"),
)
"""Settings of the data module that decide which trials are scored and which of their properties are available."""

TRAINER_SETTINGS = ("max_epochs", "max_steps", "gradient_clip_val", "precision")
"""Settings of the trainer that change what is learned on any machine."""

_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "session": (str,),
    "seed": (int,),
    "fingerprint": (str,),
    "phase": (str,),
    "selection": (str,),
    "teachers": (list,),
    "checkpoint": (str, type(None)),
    "epoch": (int, type(None)),
    "selected": (dict,),
    "scores": (dict,),
    "oracle": (dict, type(None)),
    "cost": (dict, type(None)),
    "config": (dict,),
    "date": (str,),
    "versions": (dict,),
    "commit": (str, type(None)),
}
_NULLABLE_NUMBERS = ("selected", "scores")
_NUMBERS_BY_NAME = ("selected", "scores", "oracle", "cost")


def derive_role(config: Mapping[str, Any]) -> str:
    """Returns the role of a run without an explicit role in its settings.

    The name decides only where the settings do not: a self-distilled control is configured like a student.

    Args:
        config: resolved settings of the run.

    Returns:
        One of `ROLES`.

    Example:
        >>> derive_role({"name": "my_session_teacher", "model": {"class_path": "blend_pl.systems.Teacher"}})
        'teacher'
    """
    system = _system_class_path(config).rpartition(".")[2]
    if str(config.get("name")).endswith(CONTROL_SUFFIXES) or config.get("multitask"):
        return CONTROL
    if system in TEACHER_SYSTEMS:
        return TEACHER
    if config.get("distillation"):
        return STUDENT
    return CONTROL if system in CONTROL_SYSTEMS else BASELINE


@dataclass(frozen=True)
class Cost:
    """Cost of training a run.

    Attributes:
        parameters: number of trained parameters.
        seconds_per_step: median over steps.
        peak_bytes: peak memory of the GPU or, on a CPU, of the process.
        members: number of runs that were trained in one stack and share `peak_bytes`; None for a run trained alone.
    """

    parameters: int
    seconds_per_step: float
    peak_bytes: int
    members: int | None = None

    @classmethod
    def from_json(cls, entries: Mapping[str, float]) -> "Cost":
        """Builds a cost from its entry in results.json.

        Raises:
            KeyError: a value is missing.
        """
        members = entries.get("members")
        return cls(
            int(entries["parameters"]),
            float(entries["seconds_per_step"]),
            int(entries["peak_bytes"]),
            None if members is None else int(members),
        )


@dataclass(frozen=True)
class Results:
    """Results of a finished run, and the settings and versions that are needed to repeat it.

    Attributes:
        name: name of the experiment.
        role: role in a comparison, one of `ROLES`.
        session: name of the session.
        seed: seed of the run.
        fingerprint: digest of the settings; see `config_fingerprint`.
        phase: the trials that are scored, e.g. val or test.
        selection: the trials that selected the checkpoint.
        teachers: paths of the teachers' checkpoints.
        checkpoint: path of the selected checkpoint in the run's folder; None for a baseline without a network.
        epoch: number of trained epochs; None for a baseline without a network.
        selected: the score that selected the checkpoint, by name.
        scores: scores by name; empty if the targets of the test trials are hidden.
        oracle: scores of the true rates by name, for simulated sessions.
        cost: cost of training; None where no step was taken.
        config: resolved settings.
        chosen: hyperparameters that a baseline without a network selected; None for networks.
        digest: digest of the data; None for runs of version 0.1. See `NeuralDataModule.digest`.
        date: time of writing, ISO 8601.
        versions: versions of the packages.
        commit: git commit of the package, with suffix -dirty if files differ from it; None outside a checkout.
        version: version of the format of results.json.
    """

    name: str
    role: str
    session: str
    seed: int
    fingerprint: str
    phase: str
    selection: str
    teachers: tuple[str, ...]
    checkpoint: str | None
    epoch: int | None
    selected: dict[str, float]
    scores: dict[str, float]
    oracle: dict[str, float] | None
    cost: Cost | None
    config: dict[str, Any]
    chosen: dict[str, dict[str, float]] | None = None
    digest: str | None = None
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    versions: dict[str, str] = field(
        default_factory=lambda: {package: metadata.version(package) for package in PACKAGES}
    )
    commit: str | None = field(default_factory=lambda: _commit())
    version: int = RESULTS_VERSION

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is none of {', '.join(ROLES)}")

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in self.scores.items()) or "no scores"
        return f"Results({self.name}, {self.role} of {self.session}, seed {self.seed}, phase {self.phase}: {scores})"

    @classmethod
    def read(cls, run_dir: Path) -> "Results":
        """Reads the results of a finished run.

        Raises:
            DataError: the run has no results, or the file is damaged or of a newer version.
        """
        path = run_dir / RESULTS_FILE
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise DataError(
                f"{run_dir} has no {RESULTS_FILE}: the run has not finished; continue it with --ckpt_path "
                f"{run_dir}/checkpoints/last.ckpt"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}; run the experiment again") from error
        try:
            return cls.from_json(content)
        except KeyError as error:
            raise DataError(f"{path} lacks {error}; run the experiment again") from error
        except ValueError as error:
            raise DataError(f"cannot read {path}: {error}; run the experiment again") from error

    @classmethod
    def from_json(cls, content: Any) -> "Results":
        """Builds results from the content of results.json, of this version or of version 1.

        Raises:
            KeyError: an entry is missing.
            ValueError: an entry has the wrong type, or the version is newer.
        """
        if type(content) is not dict:
            raise ValueError(f"it holds {type(content).__name__}, not an object")
        entries = {"version": 1, **content}
        if type(entries["version"]) is not int or not 1 <= entries["version"] <= RESULTS_VERSION:
            raise ValueError(f"its version is {entries['version']}, and this blend-pl reads 1 to {RESULTS_VERSION}")
        for name, types in _JSON_TYPES.items():
            _check_type(name, entries[name], types)
        if entries["version"] == 1:
            entries["config"] = upgrade_config(entries["config"])
        for name in _NUMBERS_BY_NAME:
            if name in _NULLABLE_NUMBERS:
                entries[name] = {key: math.nan if value is None else value for key, value in entries[name].items()}
            for key, value in (entries[name] or {}).items():
                _check_type(f"{name}.{key}", value, (int, float))
        for teacher in entries["teachers"]:
            _check_type("teachers", teacher, (str,))
        entries["config"] = restore_non_finite(entries["config"])
        _check_type("config.data.init_args", entries["config"]["data"]["init_args"], (dict,))
        digest = entries.get("digest")
        _check_type("digest", digest, (str, type(None)))
        role = derive_role(entries["config"]) if entries["version"] == 1 else entries["role"]
        _check_type("role", role, (str,))
        return cls(
            **{name: entries[name] for name in _JSON_TYPES if name not in ("teachers", "cost")},
            role=role,
            teachers=tuple(entries["teachers"]),
            cost=Cost.from_json(entries["cost"]) if entries["cost"] else None,
            chosen=entries.get("chosen"),
            digest=digest,
        )

    def write(self, run_dir: Path) -> None:
        """Writes results.json into the run's folder, as strict JSON: null for numbers that are not finite.

        Scores of the oracle that are not finite are left out. In the settings, which must keep their meaning, infinity
        and NaN are strings as in YAML, e.g. ".inf".

        Raises:
            DataError: the folder cannot be written.
        """
        content = asdict(self)
        if self.chosen is None:
            del content["chosen"]
        if self.cost is not None and self.cost.members is None:
            del content["cost"]["members"]
        if self.oracle is not None:
            content["oracle"] = {name: score for name, score in self.oracle.items() if math.isfinite(score)}
        content["config"] = name_non_finite(self.config)
        with atomic_file(run_dir / RESULTS_FILE) as path:
            path.write_text(to_strict_json(content))

    @property
    def has_network(self) -> bool:
        """Whether the run trained a network; smoothing, GLM and Wiener filter keep no checkpoint."""
        return self.checkpoint is not None

    @property
    def output(self) -> Path:
        """Folder of all runs, as it was given to `fit`."""
        return Path(self.config["output"])

    @property
    def data_config(self) -> dict[str, Any]:
        """Class path and arguments of the data module."""
        return dict(self.config["data"])

    @property
    def data_settings(self) -> dict[str, Any]:
        """Settings that runs must share to be compared; see `DATA_SETTINGS`."""
        return {key: self._data_args.get(key) for key in DATA_SETTINGS}

    @property
    def pooled_data_settings(self) -> dict[str, Any]:
        """The same without the seed of the simulation, for simulated sessions that are pooled."""
        simulation = self.data_settings["simulation"]
        if not isinstance(simulation, dict):
            return self.data_settings
        return {
            **self.data_settings,
            "simulation": {key: value for key, value in simulation.items() if key != "seed"},
        }

    @property
    def simulation_seed(self) -> int | None:
        """Seed of a simulated session; None for other sessions."""
        simulation = self.data_settings["simulation"]
        return int(simulation["seed"]) if self.is_simulated and isinstance(simulation, dict) else None

    @property
    def bin_ms(self) -> int | None:
        """Bin width in ms; None for calcium, where a bin is a frame of the microscope."""
        bin_ms = self._data_args.get("bin_ms")
        return None if bin_ms is None else int(bin_ms)

    @property
    def fold(self) -> str | None:
        """The scored fold of a cross-validation, as "2/5"; None for a run without folds."""
        fold = self._data_args.get("fold")
        return None if fold is None else str(fold)

    @property
    def n_folds(self) -> int | None:
        """Number of folds of a cross-validation; None for a run without folds."""
        return None if self.fold is None else int(self.fold.partition("/")[2])

    @property
    def recording_digest(self) -> str | None:
        """The part of `digest` that the runs of all folds of a recording share; None if there is no digest."""
        return None if self.digest is None else shared_digest(self.digest)

    @property
    def is_simulated(self) -> bool:
        """Whether the session is simulated."""
        return self._data_args.get("source") == "simulated"

    @property
    def held_out_sessions(self) -> tuple[str, ...]:
        """Names of the sessions that no distillation uses."""
        return tuple(self._data_args.get("held_out") or ())

    @property
    def has_random_split(self) -> bool:
        """Whether segments are assigned to training and test at random."""
        return self._data_args.get("split") == "random"

    @property
    def system_class_path(self) -> str:
        """Class path of the system; empty for a baseline without a network."""
        return _system_class_path(self.config)

    @property
    def system_class(self) -> str:
        """Name of the system's class; empty for a baseline without a network."""
        return self.system_class_path.rpartition(".")[2]

    @property
    def backbone_class_path(self) -> str:
        """Class path of the network; empty for a baseline without a network."""
        return str(self.model_settings.get("backbone.class_path", ""))

    @property
    def model_settings(self) -> dict[str, Any]:
        """Arguments of the system by their dotted names, e.g. `backbone.init_args.num_layers`."""
        model = self.config.get("model")
        return flatten_settings(model.get("init_args")) if isinstance(model, dict) else {}

    @property
    def settings_key(self) -> str:
        """Settings that runs share if they differ in their seed alone; paths and machines do not count."""
        distillation = {
            **((self.config.get("distillation") or {}).get("init_args") or {}),
            "teacher": len(self.teachers),
            "teacher_args": (self.config.get("teacher_args") or []) if self.teachers else [],
        }
        trainer = {key: self.config.get("trainer", {}).get(key) for key in TRAINER_SETTINGS}
        batch_size = self._data_args.get("batch_size")
        settings = [self.config.get("model"), self.pooled_data_settings, batch_size, distillation, trainer]
        return json.dumps(settings, sort_keys=True)

    @property
    def _data_args(self) -> dict[str, Any]:
        data_args: dict[str, Any] = self.config["data"]["init_args"]
        return data_args


def _system_class_path(config: Mapping[str, Any]) -> str:
    model = config.get("model")
    return str(model.get("class_path", "")) if isinstance(model, dict) else ""


def _check_type(name: str, value: object, types: tuple[type, ...]) -> None:
    if type(value) not in types:
        type_names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
        raise ValueError(f"{name} is {type(value).__name__}, not {type_names}")


def flatten_settings(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested settings by their dotted names."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    return {
        name: leaf
        for key, value in settings.items()
        for name, leaf in flatten_settings(value, f"{prefix}.{key}" if prefix else key).items()
    }


def _commit() -> str | None:
    """Returns the commit of the package's source, with suffix -dirty if files differ; None outside a checkout."""
    package_dir = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=package_dir, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=package_dir,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")
