"""Specs of the benchmark sets, by name."""

from jsonargparse import ArgumentError, ArgumentParser

from blend_pl.config import read_spec
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.errors import ConfigError
from blend_pl.utils.suggestions import explain_parser_error


def load_spec(name: str) -> SessionSpec:
    """Returns the spec in configs/data/NAME.yaml, in the working directory or in the package.

    Args:
        name: name of a set, e.g. "mc_maze".

    Raises:
        ConfigError: there is no such file, or its spec is invalid.

    Example:
        >>> from blend_pl.data.nlb.named_spec import load_spec
        >>> load_spec("mc_maze").window
        WindowSpec(start_ms=-250, stop_ms=450, align='move_onset_time', forward_ms=200, stride_ms=None, jitter=None)
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--spec", type=SessionSpec)
    try:
        spec: SessionSpec = parser.instantiate_classes(parser.parse_object({"spec": read_spec(name)})).spec
    except ArgumentError as error:
        raise ConfigError(f"the spec of {name} is invalid: {explain_parser_error(str(error))}") from error
    return spec
