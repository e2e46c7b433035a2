"""Names of version 0.1 in configs, command lines, checkpoints and run folders, and their translation."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

RENAMED_CLASSES = {
    "blend_pl.callbacks.identity.EmbeddingFit": "blend_pl.probes.EmbeddingFitConfig",
    "blend_pl.data.Simulation": "blend_pl.data.nlb.simulation.NLBSimulation",
    "blend_pl.data.calcium.TreeSimulation": "blend_pl.data.calcium.BugeonSimulation",
    "blend_pl.data.calcium.nwb.NWBNames": "blend_pl.data.calcium.spec.CalciumNWBNames",
    "blend_pl.data.calcium.spec.Archive": "blend_pl.data.calcium.spec.FigshareArchive",
    "blend_pl.data.lfp.SessionsSimulation": "blend_pl.data.lfp.LFPSimulation",
    "blend_pl.data.lfp.SessionsSpec": "blend_pl.data.lfp.LFPSpec",
    "blend_pl.data.lfp.spec.Archive": "blend_pl.data.lfp.spec.ZenodoArchive",
    "blend_pl.data.lfp.spec.NWBNames": "blend_pl.data.lfp.spec.LFPSeriesNames",
    "blend_pl.data.module.NLBDataModule": "blend_pl.data.NLBDataModule",
    "blend_pl.data.simulation.Simulation": "blend_pl.data.nlb.simulation.NLBSimulation",
    "blend_pl.data.spec.Archive": "blend_pl.data.nlb.spec.DandiArchive",
    "blend_pl.data.spec.Behavior": "blend_pl.data.nlb.spec.BehaviorSpec",
    "blend_pl.data.spec.Files": "blend_pl.data.nlb.spec.SessionFiles",
    "blend_pl.data.spec.HeldOut": "blend_pl.data.nlb.spec.HeldOutSpec",
    "blend_pl.data.spec.Jitter": "blend_pl.data.nlb.spec.JitterSpec",
    "blend_pl.data.spec.Psth": "blend_pl.data.nlb.spec.PsthSpec",
    "blend_pl.data.spec.Scored": "blend_pl.data.nlb.spec.ScoringWindow",
    "blend_pl.data.spec.SessionSpec": "blend_pl.data.SessionSpec",
    "blend_pl.data.spec.Split": "blend_pl.data.nlb.spec.SplitSpec",
    "blend_pl.data.spec.Timing": "blend_pl.data.nlb.spec.TimingSpec",
    "blend_pl.data.spec.Window": "blend_pl.data.nlb.spec.WindowSpec",
    "blend_pl.distillation.Correlation": "blend_pl.distillation.CorrelationLoss",
    "blend_pl.distillation.Feature": "blend_pl.distillation.FeatureLoss",
    "blend_pl.distillation.GaussianSoft": "blend_pl.distillation.GaussianSoftLoss",
    "blend_pl.distillation.Hard": "blend_pl.distillation.HardLoss",
    "blend_pl.distillation.Ramp": "blend_pl.distillation.LinearSchedule",
    "blend_pl.distillation.Representation": "blend_pl.distillation.RepresentationLoss",
    "blend_pl.distillation.Soft": "blend_pl.distillation.SoftLoss",
    "blend_pl.distillation.alpha.Ramp": "blend_pl.distillation.LinearSchedule",
    "blend_pl.distillation.losses.Correlation": "blend_pl.distillation.CorrelationLoss",
    "blend_pl.distillation.losses.Feature": "blend_pl.distillation.FeatureLoss",
    "blend_pl.distillation.losses.GaussianSoft": "blend_pl.distillation.GaussianSoftLoss",
    "blend_pl.distillation.losses.Hard": "blend_pl.distillation.HardLoss",
    "blend_pl.distillation.losses.Representation": "blend_pl.distillation.RepresentationLoss",
    "blend_pl.distillation.losses.Soft": "blend_pl.distillation.SoftLoss",
    "blend_pl.identity.EmbeddingFit": "blend_pl.probes.EmbeddingFitConfig",
    "blend_pl.identity.fitting.EmbeddingFit": "blend_pl.probes.EmbeddingFitConfig",
    "blend_pl.models.Separate": "blend_pl.models.PerSessionNetworks",
    "blend_pl.models.contrast.Contrast": "blend_pl.models.layers.contrastive.ContrastiveLoss",
    "blend_pl.models.embedding.CountEmbedding": "blend_pl.models.layers.embedding.CountEmbedding",
    "blend_pl.models.embedding.Identity": "blend_pl.models.layers.embedding.IdentityEmbedding",
    "blend_pl.models.embedding.LearnedPositions": "blend_pl.models.layers.embedding.LearnedPositions",
    "blend_pl.models.embedding.Linear": "blend_pl.models.layers.embedding.LinearEmbedding",
    "blend_pl.models.embedding.SinusoidalPositions": "blend_pl.models.layers.embedding.SinusoidalPositions",
    "blend_pl.models.fusion.Additive": "blend_pl.models.layers.fusion.Additive",
    "blend_pl.models.fusion.Concatenation": "blend_pl.models.layers.fusion.Concatenation",
    "blend_pl.models.fusion.CrossAttention": "blend_pl.models.layers.fusion.CrossAttention",
    "blend_pl.models.fusion.FiLM": "blend_pl.models.layers.fusion.FiLM",
    "blend_pl.models.neuprint.Mixture": "blend_pl.models.neuprint.BehaviorProjection",
    "blend_pl.models.patches.CountPatches": "blend_pl.models.layers.patches.CountPatches",
    "blend_pl.models.patches.WaveformPatches": "blend_pl.models.layers.patches.WaveformPatches",
    "blend_pl.models.separate.Separate": "blend_pl.models.PerSessionNetworks",
    "blend_pl.systems.lfp.LFPDecoder": "blend_pl.systems.LFPDecoder",
    "blend_pl.systems.lfp.LFPStudent": "blend_pl.systems.LFPStudent",
    "blend_pl.systems.lfp.SingleSessionStudent": "blend_pl.systems.SingleSessionStudent",
    "blend_pl.systems.lfp.SingleSessionTeacher": "blend_pl.systems.SingleSessionTeacher",
    "blend_pl.systems.lfp.SpikeTeacher": "blend_pl.systems.SpikeTeacher",
}
"""New path of each class that a config can name."""

_TRANSFORMER = {"layers": "num_layers", "heads": "num_heads", "feedforward": "dim_feedforward"}

RENAMED_ARGUMENTS: dict[str, dict[str, str]] = {
    "BugeonSimulation": {"seen": "visible_fraction"},
    "CellSplit": {"same_place": "max_match_distance"},
    "CrossAttention": {"heads": "num_heads"},
    "EmbeddingFitConfig": {"rounds": "max_lr_drops"},
    "JitterSpec": {"most_ms": "max_ms"},
    "LFADS": {
        "initial_encoder": "ic_enc_dim",
        "input_encoder": "ci_enc_dim",
        "controller": "con_dim",
        "inputs": "co_dim",
        "initial": "ic_dim",
        "generator": "gen_dim",
        "factors": "fac_dim",
        "clip": "cell_clip",
        "ramp": "kl_increase_steps",
    },
    "LinearEmbedding": {"width": "d_model"},
    "LinearSchedule": {"begin": "start_fraction", "end": "end_fraction"},
    "Masking": {"behavior_ratio": "privileged_dropout"},
    "NDT": _TRANSFORMER,
    "NLBDataModule": {"select_on": "selection_split"},
    "NeuPRINT": _TRANSFORMER,
    "PatchAutoencoder": {
        "width": "d_model",
        "layers": "num_layers",
        "heads": "num_heads",
        "predictor_width": "predictor_d_model",
        "predictor_layers": "predictor_num_layers",
        "predictor_heads": "predictor_num_heads",
    },
    "PerSessionNetworks": {"network": "build_network"},
    "STNDT": _TRANSFORMER,
    "SessionSpec": {"scored": "scoring_window", "outliers": "outlier_column"},
}
"""New name of each renamed argument, by the new name of its class."""

DATACLASS_ARGUMENTS = {
    "alpha": "LinearSchedule",
    "cells": "CellSplit",
    "corruption": "Masking",
    "fit": "EmbeddingFitConfig",
    "jitter": "JitterSpec",
    "masking": "Masking",
    "simulation": "BugeonSimulation",
    "spec": "SessionSpec",
}
"""Class of each argument that is a dataclass: its settings do not name the class."""

RENAMED_PARAMETERS = {
    "narrow": "to_predictor",
    "place": "position_proj",
    "tokens": "input_embedding",
    "units": "unit_table",
}
"""New name of each module or parameter in the state dict of a backbone of the package."""

RENAMED_EMBEDDING_FIELDS = {"side": "split"}
"""New name of each dataset in the embeddings.h5 of a run."""


REMOVED_SETTINGS = ("optimizer", "lr_scheduler")
"""Settings that version 0.1 wrote into each config.yaml as null."""


def upgrade_config(config: T) -> T:
    """Returns settings with the class paths and argument names of this version.

    If the old and the new name of an argument are both given, the value of the old one is kept: files of the package
    have new names only, so that it comes from the user.

    Args:
        config: any part of a config: mappings, lists and values. It is not modified.
    """
    settings: Any = config
    if isinstance(config, dict):
        settings = {key: value for key, value in config.items() if value is not None or key not in REMOVED_SETTINGS}
    upgraded: T = _upgrade(settings, None)
    return upgraded


def upgrade_arguments(arguments: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Returns a command line with the class paths and argument names of this version.

    Args:
        arguments: options such as "--model.backbone.layers=3", or "--model.backbone.layers" and "3".
        config: settings of the config files of the same command, which name the classes.
    """
    config = upgrade_config(config)
    upgraded = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            upgraded.append(f"--{_upgrade_key(flag[2:], config)}{equals}{_upgrade_text(value)}")
        else:
            upgraded.append(_upgrade_text(argument))
    return upgraded


def upgrade_hyper_parameters(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the hyper-parameters of a checkpoint with the names of this version."""
    upgraded: dict[str, Any] = _upgrade(dict(hyper_parameters), None)
    return upgraded


def upgrade_state_dict(state_dict: Mapping[str, T], expected_keys: Collection[str]) -> dict[str, T]:
    """Returns the state dict of a system with the parameter names of this version.

    Args:
        state_dict: state dict of a checkpoint.
        expected_keys: keys of the state dict of the system; a key is renamed only if it becomes one of them.
    """
    upgraded = {}
    for key, value in state_dict.items():
        new_key = ".".join(RENAMED_PARAMETERS.get(name, name) for name in key.split("."))
        upgraded[key if key in expected_keys or new_key not in expected_keys else new_key] = value
    return upgraded


def _upgrade(value: Any, class_name: str | None) -> Any:
    """Upgrades a value; `class_name` is the class of the arguments in a mapping, if it is known."""
    if isinstance(value, str):
        return RENAMED_CLASSES.get(value, value)
    if isinstance(value, list):
        return [_upgrade(item, None) for item in value]
    if not isinstance(value, dict):
        return value
    class_path = value.get("class_path")
    names = RENAMED_ARGUMENTS.get(class_name or "", {})
    upgraded = {}
    # Old names last: their values replace those of new names.
    for key in sorted(value, key=lambda key: key in names):
        if key in ("init_args", "dict_kwargs"):
            argument_class = _class_name(class_path)
        else:
            argument_class = DATACLASS_ARGUMENTS.get(key)
        upgraded[names.get(key, key)] = _upgrade(value[key], argument_class)
    # In the order of the original.
    return {new: upgraded[new] for new in dict.fromkeys(names.get(key, key) for key in value)}


def _class_name(class_path: Any) -> str | None:
    """Returns the new name of a class of the package, and None for all other classes."""
    path = RENAMED_CLASSES.get(class_path, class_path)
    if not isinstance(path, str) or not (path.startswith("blend_pl.") or "." not in path):
        return None
    return path.rpartition(".")[2]


def _upgrade_key(key: str, config: Mapping[str, Any]) -> str:
    """Upgrades a dotted key of the command line; `config` names the classes on its way."""
    settings: Any = config
    class_name: str | None = None
    upgraded = []
    for name in key.split("."):
        if name in ("init_args", "class_path", "dict_kwargs"):
            upgraded.append(name)
            continue
        name = RENAMED_ARGUMENTS.get(class_name or "", {}).get(name, name)
        upgraded.append(name)
        settings = settings.get(name) if isinstance(settings, dict) else None
        class_name = DATACLASS_ARGUMENTS.get(name)
        if isinstance(settings, dict) and "class_path" in settings:
            class_name = _class_name(settings["class_path"])
            settings = settings.get("init_args", {})
    return ".".join(upgraded)


def _upgrade_text(text: str) -> str:
    """Upgrades the value of an option: a class path, or YAML with settings."""
    if "blend_pl." not in text and not text.lstrip().startswith("{"):
        return text
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    upgraded = upgrade_config(settings)
    return text if upgraded == settings else upgraded if isinstance(upgraded, str) else json.dumps(upgraded)
