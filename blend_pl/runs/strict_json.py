"""Strict JSON: numbers that are not finite are null, or strings as in YAML where they must keep their meaning."""

import json
import math
from collections.abc import Callable
from typing import Any

_NUMBERS = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def to_strict_json(content: Any) -> str:
    """Returns indented JSON with null for numbers that are not finite."""
    return json.dumps(_map_leaves(content, _finite_or_none), indent=2, allow_nan=False) + "\n"


def name_non_finite(settings: Any) -> Any:
    """Returns nested settings with strings as in YAML, e.g. ".inf", instead of NaN and infinity."""
    return _map_leaves(settings, _name)


def restore_non_finite(settings: Any) -> Any:
    """Inverse of `name_non_finite`.

    Example:
        >>> restore_non_finite(name_non_finite({"bounds": [-math.inf, 1.0]}))
        {'bounds': [-inf, 1.0]}
    """
    return _map_leaves(settings, lambda leaf: _NUMBERS.get(leaf, leaf) if isinstance(leaf, str) else leaf)


def _map_leaves(content: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(content, dict):
        return {key: _map_leaves(value, function) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_map_leaves(value, function) for value in content]
    return function(content)


def _finite_or_none(leaf: Any) -> Any:
    return None if isinstance(leaf, float) and not math.isfinite(leaf) else leaf


def _name(leaf: Any) -> Any:
    if not isinstance(leaf, float) or math.isfinite(leaf):
        return leaf
    return ".nan" if math.isnan(leaf) else ".inf" if leaf > 0 else "-.inf"
