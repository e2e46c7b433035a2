"""Suggestions for mistyped names."""

import dataclasses
import inspect
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any, Union, get_args, get_origin, get_type_hints

CLASS_MODULES = (
    "blend_pl.models",
    "blend_pl.models.layers.embedding",
    "blend_pl.models.layers.fusion",
    "blend_pl.models.layers.patches",
    "blend_pl.distillation",
    "blend_pl.systems",
    "blend_pl.systems.schedule",
    "blend_pl.likelihoods",
    "blend_pl.callbacks",
    "blend_pl.data",
    "blend_pl.data.calcium",
    "blend_pl.data.lfp",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "torch.optim",
    "torch.optim.lr_scheduler",
)
"""Modules of the classes that a config can name by the last part of their path."""

SHORT_WORD = 5
"""Number of letters up to which less similar names are suggested."""

UNKNOWN_SETTING = re.compile(
    r"Group '(?P<group>[\w.]+)' does not accept option '(?P<option>[\w.]+)'"
    r"|Option '(?P<key>[\w.]+)' is not accepted"
    r"|unrecognized arguments: --(?P<argument>[\w.\-]+)"
)
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\w+)")
UNKNOWN_ATTRIBUTE = re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<attribute>\w+)'")
UNKNOWN_VALUE = re.compile(r"Expected a typing\.Literal\[(?P<values>[^\]]+)\]\. Got value: (?P<value>\S+)")
"""Errors of jsonargparse about names."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Returns "did you mean ...?" with the candidate that is most similar to a word, or "" if none is.

    Args:
        word: a mistyped name.
        candidates: names; of a mapping, the values are suggested.

    Example:
        >>> from blend_pl.utils.suggestions import did_you_mean
        >>> did_you_mean("dropuot", ["dropout", "num_layers"])
        'did you mean dropout?'
    """
    closest = _closest(word, candidates)
    if closest is None:
        return ""
    return f"did you mean {candidates[closest] if isinstance(candidates, Mapping) else closest}?"


def explain_parser_error(message: str, settings: Iterable[str] = ()) -> str:
    """Returns an error of jsonargparse on one line, with a suggestion if a name is mistyped.

    Args:
        message: the nested message of the error.
        settings: dotted names of all settings, or names of all options.
    """
    innermost = re.split(r"\n\s*- ", message)[-1]
    text = " ".join(re.split(r"\n\s*Given value", innermost)[0].split())
    text = re.sub(r"^(Problem with given class_path '[\w.]+': |Parser key \"[\w.]+\": )+", "", text)
    text = re.sub(r"^Type .* expects a function or a callable class: ", "", text)
    text = re.sub(r"\.? Got value: Namespace\(.*$", "", text)
    # The message already contains the path.
    text = re.sub(r"(has no attribute '\w+')\. Got value: .*$", r"\1", text)
    key = ".".join(dict.fromkeys(re.findall(r"Parser key \"([\w.]+)\"", message)))
    suggestion = _suggest(message, text, [*settings])
    explanation = f"{key}: {text}" if key else text
    return f"{explanation}; {suggestion}" if suggestion else explanation


def with_help(explanation: str, command: str) -> str:
    """Returns an explanation with a reference to the help of a command, unless it ends with a suggestion."""
    return explanation if explanation.endswith("?") else f"{explanation}; see `python -m blend_pl {command} --help`"


def _suggest(message: str, text: str, settings: list[str]) -> str:
    if match := UNKNOWN_SETTING.search(text):
        option = match["key"] or match["argument"] or f"{match['group']}.{match['option']}"
        return _suggest_setting(option.replace(".init_args", ""), message, settings)
    if match := UNKNOWN_CLASS.search(text):
        return _suggest_class(match["name"])
    if match := UNKNOWN_ATTRIBUTE.search(text):
        closest = _closest(match["attribute"], _class_names(match["module"]))
        return f"did you mean {match['module']}.{closest}?" if closest else _suggest_class(match["attribute"])
    if match := UNKNOWN_VALUE.search(text):
        return did_you_mean(match["value"], re.findall(r"'([^']+)'", match["values"]))
    return ""


def _suggest_setting(option: str, message: str, settings: list[str]) -> str:
    class_paths = dict.fromkeys(re.findall(r"class_path[ =]'([\w.]+)'", message))
    names = [name for path in class_paths for name in setting_names(path)]
    suggestion = did_you_mean(option, [*names, *settings])
    if suggestion or "." not in option:
        return suggestion
    group, _, rest = option.partition(".")
    closest = _closest(group, {setting.partition(".")[0] for setting in settings})
    return f"did you mean {closest}.{rest}?" if closest and closest != group else ""


def _suggest_class(name: str) -> str:
    paths = {class_name: f"{module}.{class_name}" for module in CLASS_MODULES for class_name in _class_names(module)}
    closest = _closest(name, paths)
    return f"did you mean {paths[closest]}?" if closest else ""


def setting_names(class_path: str) -> list[str]:
    """Returns the arguments of a class; those of arguments that are dataclasses are dotted, as in `masking.ratio`."""
    with suppress(Exception):  # Classes of users may fail in any way; there is no suggestion then.
        return [*_argument_names(resolve_name(class_path))]
    return []


def _argument_names(cls: Any) -> Iterator[str]:
    hints = get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        yield name
        hint = hints.get(name)
        for option in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
            if isinstance(option, type) and dataclasses.is_dataclass(option):
                yield from (f"{name}.{nested}" for nested in _argument_names(option))


def _class_names(module: str) -> list[str]:
    """Returns the public classes of a module of the same package, if it is imported already."""
    members = vars(sys.modules[module]) if module in sys.modules else {}
    package = module.partition(".")[0]
    return [
        name
        for name, member in members.items()
        if isinstance(member, type) and not name.startswith("_") and member.__module__.partition(".")[0] == package
    ]


def _closest(word: str, candidates: Iterable[str]) -> str | None:
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    # Two names of three letters with one exchange have a similarity of 0.67.
    cutoff = 0.6 if len(word) <= SHORT_WORD else 0.75
    matches = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[matches[0]] if matches else None
