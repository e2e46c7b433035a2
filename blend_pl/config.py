"""Composition of settings from YAML files: experiments, and overlays that change them."""

import os
import re
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from blend_pl.compat import upgrade_arguments, upgrade_config
from blend_pl.errors import ConfigError
from blend_pl.utils.suggestions import did_you_mean

Config = dict[str, Any]

BASE_KEY = "base"
ARMS_KEY = "arms"
ROLE_KEY = "role"
"""A file that sets `role` is an arm: it replaces an arm from an earlier file."""
ARM_SETTINGS = ("distillation", "multitask", "pretrained")
"""Settings that are removed when an arm replaces an earlier arm."""
REFERENCE_KEYS = (("distillation", "teacher"), ("pretrained", "model"))
"""Settings that name one or several models; relative paths in them start at the folder of the config file."""
REFERENCE_SEPARATOR = "+"
SPEC_FOLDER = Path("configs", "data")
SESSION_CLASS = "blend_pl.data.NLBDataModule"
"""Data module whose `spec` may be the name of a file in `SPEC_FOLDER`."""
YAML_SUFFIXES = (".yaml", ".yml")
INVALID_MESSAGE = "holds no settings; write it as `key: value` lines"
PACKAGE_DIR = Path(__file__).resolve().parent
BUNDLED_FOLDERS = ("configs", "experiments")
"""Folders of YAML files that are installed with the package."""
OVERLAY_FOLDERS = ("data", "model", "arm")
"""Folders in configs/ of the overlays that a composition of an experiment consists of."""
FORMER_NAMES = (
    (r" ss_lfp$", " lfp_single_session"),
    (r" ms_lfp$", " lfp_multi_session"),
    (r" ms_distilled$", " distilled_multi_session"),
    (r" distilled$", " distilled_single_session"),
    (r" ms_supervised$", " supervised_baseline"),
    (r" alpha1$", " reconstruction_only"),
    (r"^(flint|makin|simulated_lfp) teacher$", r"\1 spike_teacher"),
    (r"^(bugeon\w+) (?:gaussian_)?soft$", r"\1 gaussian gaussian_soft"),
    (r" lfads_from_ndt_hard$", " hard lfads_small"),
    (r" causal_hard$", " hard causal"),
    (r" small_hard$", " hard half_width"),
    (r"^(simulated\w*) (stndt|lfads)_(?!small)(\w+)$", r"\1 \2_small \3"),
)
"""Pairs (pattern, replacement) that map names of experiments of version 0.1 to the current overlays.

A pattern is applied to the name of the set, a space, and the rest of the name.
"""


def bundled_dir() -> Path:
    """Returns the folder of configs/ and experiments/: share/ in the installed package, or the repository."""
    share = PACKAGE_DIR / "share"
    return share if share.is_dir() else PACKAGE_DIR.parent


def find_config(path: Path) -> Path:
    """Returns the location of a file or folder in configs/ or experiments/.

    A path that does not exist in the working directory is searched for among the files that are installed with the
    package. The bases of an installed file are other installed files.

    Args:
        path: A path as in experiments/mc_maze.yaml.

    Returns:
        The path itself if it exists, the path of the installed file if there is one, otherwise the path itself.
    """
    if path.exists():
        return path
    bundled = _bundled_path(path)
    return bundled if bundled and bundled.exists() else path


def list_configs(folder: Path) -> list[Path]:
    """Returns the sorted YAML files of a folder in configs/ or experiments/, without subfolders; see `find_config`.

    The paths begin with `folder` and include files that are only installed with the package.
    """
    names = {file.name for place in (folder, _bundled_path(folder)) if place for file in place.glob("*.yaml")}
    return [folder / name for name in sorted(names)]


def _bundled_path(path: Path) -> Path | None:
    """Returns the path of an installed file, which need not exist, or None for a path in another folder."""
    relative = Path(os.path.normpath(path))
    if relative.is_relative_to(Path.cwd()):
        relative = relative.relative_to(Path.cwd())
    return bundled_dir() / relative if relative.parts and relative.parts[0] in BUNDLED_FOLDERS else None


def compose(*paths: Path) -> Config:
    """Reads config files and merges them in order.

    The files under `base` are read before the settings of the file that lists them. Settings under `arms` are added to
    an arm that is read later: `arms: {baseline: ...}` changes what a file baseline.yaml sets, unless a file between
    them has chosen another backbone. A file that sets `role` is an arm and replaces the distillation, multitask and
    pretrained settings of an earlier arm.

    A teacher may be an overlay, a file without data settings. The reference is then replaced by a composition, joined
    by `+`: the files before the file that names the teacher, followed by the overlay.

    A `spec` of a data module that is a name, as in `spec: mc_maze`, is replaced by the spec in configs/data/NAME.yaml.

    Args:
        paths: YAML files; later files override earlier ones, see `merge`.

    Returns:
        The merged settings, without `base` and `arms`.

    Raises:
        ConfigError: A file is missing, is not a YAML mapping, or has itself as a base.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     base, override = Path(folder, "base.yaml"), Path(folder, "override.yaml")
        ...     _ = base.write_text("data: {bin_ms: 5, batch_size: 64}")
        ...     _ = override.write_text("data: {bin_ms: 20}")
        ...     compose(base, override)
        {'data': {'bin_ms': 20, 'batch_size': 64}}
    """
    composition = _Composition()
    located = [find_config(path) for path in paths]
    for index, path in enumerate(located):
        composition.add(path, before=located[:index])
    return composition.config


def read_spec(name: str) -> Config:
    """Returns the settings of the spec of a session, from configs/data/NAME.yaml in the working directory or package.

    Args:
        name: Name of a benchmark set, e.g. mc_maze.

    Raises:
        ConfigError: There is no such file with a spec.
    """
    files = {path.stem: path for path in list_configs(SPEC_FOLDER)}
    config = compose(files[name]) if name in files else {}
    spec = _find_spec(config) if _is_session(config) else None
    if not isinstance(spec, dict):
        names = [stem for stem, path in files.items() if _is_session(compose(path))]
        raise ConfigError(f"there is no spec of a session {name!r} in {SPEC_FOLDER}; available: {', '.join(names)}")
    return spec


def _is_session(config: Config) -> bool:
    data = config.get("data")
    return isinstance(data, dict) and data.get("class_path") == SESSION_CLASS


def _find_spec(config: Config) -> Any:
    """Returns the spec in the settings of a data module: a mapping, the name of a set, or None."""
    data = config.get("data")
    init_args = data.get("init_args") if isinstance(data, dict) else None
    return init_args.get("spec") if isinstance(init_args, dict) else None


def compose_experiment(paths: Sequence[Path]) -> Config:
    """Composes an experiment from several files and names it.

    The name joins the file names without suffix: mc_maze.yaml and hard.yaml become mc_maze_hard. A file with a `name`
    sets it instead. Files that set only the trainer do not change it.

    Args:
        paths: YAML files, in order.

    Returns:
        The merged settings with `name`.
    """
    name = reduce(_extend_name, paths, "")
    return {**compose(*paths), "name": name}


def compose_arguments(arguments: Sequence[str]) -> list[str]:
    """Replaces all `--config FILE` options by one with their composed settings.

    Args:
        arguments: Options of a command. FILE may also join several files by `+`.

    Returns:
        The options; the composed settings come first, so that other options change them.
    """
    references, other_arguments = split_config_options(arguments)
    paths = [path for reference in references for path in split_reference(reference)]
    config = compose_experiment(paths) if paths else {}
    other_arguments = upgrade_arguments(other_arguments, config)
    if not config:
        return other_arguments
    return ["--config", yaml.safe_dump(config, sort_keys=False), *other_arguments]


def split_config_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits arguments into the values of all `--config` options and all other arguments."""
    references: list[str] = []
    other_arguments: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag == "--config":
            references.append(value if equals else next(remaining, ""))
        else:
            other_arguments.append(argument)
    return references, other_arguments


def split_reference(reference: str) -> list[Path]:
    """Splits a reference such as `a.yaml+b.yaml` into paths; any other reference is one path."""
    parts = reference.split(REFERENCE_SEPARATOR)
    return [Path(part) for part in parts] if all(map(_is_yaml, parts)) else [Path(reference)]


def join_reference(paths: Iterable[Path | str]) -> str:
    """Joins files of a composition into one reference."""
    return REFERENCE_SEPARATOR.join(map(str, paths))


def is_overlay(config: Config) -> bool:
    """Whether settings have no data module, so that they only change an experiment and cannot be run alone."""
    data = config.get("data")
    return data is None or (isinstance(data, dict) and "class_path" not in data)


def suggest_composition(path: Path) -> str | None:
    """Suggests an existing file or composition for an experiment file that does not exist; see `find_config`.

    Args:
        path: The missing file, e.g. experiments/mc_maze_stndt_hard.yaml.

    Returns:
        An existing experiment or a composition joined by `+`; None if the name is not made of names of files.
    """
    words = path.stem.split("_")
    prefixes = ["_".join(words[:count]) for count in range(len(words) - 1, 0, -1)]
    base = next((prefix for prefix in prefixes if find_config(path.with_stem(prefix)).exists()), None)
    if base is None:
        return None
    suffix = path.stem.removeprefix(f"{base}_")
    configs = Path(os.path.normpath(path.parent / ".." / "configs"))
    overlays = {file.stem: file for folder in OVERLAY_FOLDERS for file in list_configs(configs / folder)}
    text = f"{base} {suffix}"
    for pattern, replacement in FORMER_NAMES:
        text = re.sub(pattern, replacement, text)
    # An overlay may repeat the last word of the set: simulated_lfp and lfp_single_session.
    candidates = [text.split()[1:], [f"{words[base.count('_')]}_{suffix}"]]
    for names in candidates:
        groups = [_split_name(name, overlays) for name in names]
        if all(groups):
            return join_reference([path.with_stem(base), *(file for group in groups for file in group)])
    return None


def read_yaml(path: Path, kind: str, invalid_message: str) -> Config:
    """Reads a YAML file that holds a mapping.

    Args:
        path: The file.
        kind: Kind of file, for error messages.
        invalid_message: Text of the error about a file with other content.

    Raises:
        ConfigError: The file is missing, or is not a YAML mapping.
    """
    try:
        content = yaml.safe_load(find_config(path).read_text())
    except OSError as error:
        suggestion = suggest_composition(path) if not path.exists() else None
        advice = f"write --config {suggestion}" if suggestion else suggest_file(path) or "check its name"
        raise ConfigError(f"cannot read the {kind} file {path}: {error.strerror}; {advice}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} {invalid_message}")
    return content


def suggest_file(path: Path) -> str:
    """Returns "did you mean ...?" with the file in the folder of a missing file whose name is most similar, or ""."""
    return did_you_mean(path.stem, {file.stem: str(path.with_name(file.name)) for file in list_configs(path.parent)})


def merge(base: Config, override: Config) -> Config:
    """Merges two mappings recursively; values of `override` replace those of `base`.

    If `override` has another `class_path` and `init_args`, its `init_args` replace those of `base`. If it has another
    `class_path` only, the `init_args` of `base` are kept, so that a teacher has the settings of its student.

    Example:
        >>> merge({"model": {"dropout": 0.1, "layers": 4}}, {"model": {"dropout": 0.3}})
        {'model': {'dropout': 0.3, 'layers': 4}}
    """
    merged = dict(base)
    if "init_args" in override and override.get("class_path", merged.get("class_path")) != merged.get("class_path"):
        merged.pop("init_args", None)
    for key, value in override.items():
        are_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if are_mappings else value
    return merged


class _Composition:
    """The merged settings of the files that have been added.

    Attributes:
        config: The merged settings.
        arms: Settings to add to arms, by their file names without suffix, and the class of the backbone that they were
            written for; None if no backbone had been chosen.
    """

    def __init__(self, resolve_references: bool = True) -> None:
        self.config: Config = {}
        self.arms: list[tuple[str | None, Config]] = []
        self._resolve_references = resolve_references

    def add(self, path: Path, before: Sequence[Path] = (), parents: tuple[Path, ...] = ()) -> None:
        """Merges the bases of a file, then its settings, into `config` and `arms`.

        Args:
            path: The file.
            before: Files that precede it in the composition.
            parents: Resolved paths of the files that have it as a base, directly or through other files.

        Raises:
            ConfigError: The file cannot be read, or has itself as a base.
        """
        resolved = path.resolve()
        if resolved in parents:
            raise ConfigError(f"{path} has itself as a base; remove it from the `base` of {parents[-1]}")
        settings = read_yaml(path, "config", INVALID_MESSAGE)
        bases = _pop_bases(settings, path)
        arms = settings.pop(ARMS_KEY, None) or {}
        if not (isinstance(arms, dict) and all(isinstance(arm, dict) for arm in arms.values())):
            raise ConfigError(
                f"the `arms` of {path} are {arms!r}; write settings by arm, as in `arms: {{baseline: ...}}`"
            )
        if ROLE_KEY in settings:
            self.config = {key: value for key, value in self.config.items() if key not in ARM_SETTINGS}
        for index, base in enumerate(bases):
            self.add(base, (*before, *bases[:index]), (*parents, resolved))
        if self._resolve_references:
            for section in (settings, *arms.values()):
                _resolve_references(section, path.parent, before or bases)
        spec_name = _find_spec(settings)
        if isinstance(spec_name, str):
            settings["data"]["init_args"]["spec"] = read_spec(spec_name)
            if _find_spec(self.config) is not None:
                del self.config["data"]["init_args"]["spec"]
        backbone = _backbone_class(self.config)
        self.config = merge(self.config, settings)
        for configured_backbone, arm_settings in self.arms:
            if configured_backbone in (None, backbone):
                self.config = merge(self.config, arm_settings.get(path.stem, {}))
        if arms:
            self.arms.append((_backbone_class(self.config), arms))
        self.config = upgrade_config(self.config)


def _backbone_class(config: Config) -> str | None:
    backbone = config.get("model", {}).get("init_args", {}).get("backbone")
    return backbone.get("class_path") if isinstance(backbone, dict) else None


def _pop_bases(settings: Config, path: Path) -> list[Path]:
    bases = settings.pop(BASE_KEY, None) or []
    if not (isinstance(bases, list) and all(isinstance(base, str) for base in bases)):
        raise ConfigError(f"the `base` of {path} is {bases!r}; write a list of files, as in `base: [other.yaml]`")
    return [find_config(path.parent / base) for base in bases]


def _resolve_references(config: Config, folder: Path, before: Sequence[Path]) -> None:
    for group, key in REFERENCE_KEYS:
        settings = config.get(group)
        reference = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(reference, str):
            config[group][key] = _resolve_reference(reference, folder, before)
        elif isinstance(reference, list):
            config[group][key] = [_resolve_reference(name, folder, before) for name in reference]


def _resolve_reference(reference: str, folder: Path, before: Sequence[Path]) -> str:
    paths = [find_config(folder / path) for path in split_reference(reference)]
    if not all(path.exists() for path in paths):
        return reference
    if len(paths) == 1 and _is_yaml(reference) and is_overlay(_read_with_bases(paths[0])):
        paths = [*(path for path in before if not _sets_only_logger(path)), *paths]
    return join_reference(path.resolve() for path in paths)


def _read_with_bases(path: Path) -> Config:
    """Reads one file and its bases without resolving references."""
    composition = _Composition(resolve_references=False)
    composition.add(find_config(path))
    return composition.config


def _sets_only_logger(path: Path) -> bool:
    trainer = read_yaml(path, "config", INVALID_MESSAGE).get("trainer")
    return isinstance(trainer, dict) and trainer.keys() == {"logger"}


def _extend_name(name: str, path: Path) -> str:
    """Returns the name of an experiment with one more file."""
    explicit_name = _read_with_bases(path).get("name")
    if explicit_name:
        return str(explicit_name)
    if not name:
        return path.stem
    if read_yaml(path, "config", INVALID_MESSAGE).keys() == {"trainer"}:
        return name
    words, added_words = name.split("_"), path.stem.split("_")
    # simulated_lfp and lfp_single_session become simulated_lfp_single_session.
    overlap = next(n for n in range(len(added_words), -1, -1) if words[len(words) - n :] == added_words[:n])
    return "_".join([*words, *added_words[overlap:]])


def _split_name(name: str, overlays: dict[str, Path]) -> list[Path]:
    """Returns the files of the overlays whose names, joined by "_", are `name`; an empty list if there are none."""
    words = name.split("_")
    for count in range(len(words), 0, -1):
        overlay = overlays.get("_".join(words[:count]))
        following = _split_name("_".join(words[count:]), overlays) if count < len(words) else []
        if overlay and (following or count == len(words)):
            return [overlay, *following]
    return []


def _is_yaml(name: str) -> bool:
    return name.endswith(YAML_SUFFIXES)
