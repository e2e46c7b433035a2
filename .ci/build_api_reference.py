"""Builds the API reference from the docstrings of the package: `python .ci/build_api_reference.py FOLDER`."""

import os
import sys
from importlib import import_module
from pathlib import Path

MODULES = (
    "blend_pl.callbacks",
    "blend_pl.config",
    "blend_pl.data",
    "blend_pl.data.calcium",
    "blend_pl.data.lfp",
    "blend_pl.data.nlb.simulation",
    "blend_pl.data.nlb.spec",
    "blend_pl.data.resample",
    "blend_pl.data.standardize",
    "blend_pl.distillation",
    "blend_pl.errors",
    "blend_pl.experiment",
    "blend_pl.likelihoods",
    "blend_pl.masking",
    "blend_pl.metrics",
    "blend_pl.models",
    "blend_pl.models.layers",
    "blend_pl.plot",
    "blend_pl.prediction",
    "blend_pl.probes",
    "blend_pl.runs.results",
    "blend_pl.submission",
    "blend_pl.systems",
    "blend_pl.systems.schedule",
)
"""Modules that are documented in addition to `blend_pl`. For a package with `__all__`, these names are documented."""


def build(folder: Path) -> None:
    """Writes the reference as HTML.

    Args:
        folder: output folder; `index.html` lists the modules.
    """
    # Some imported libraries ask the system for its processor; otherwise pdoc warns about the subprocess.
    os.environ["PDOC_ALLOW_EXEC"] = "1"
    import pdoc

    for name in ("blend_pl", *MODULES):
        module = import_module(name)
        # pdoc documents names that are in the namespace of a module; those that are imported on first use are not yet.
        for public_name in getattr(module, "__all__", ()):
            vars(module)[public_name] = getattr(module, public_name)
    pdoc.render.configure(docformat="google")
    # `!` removes the submodules that the first name adds.
    pdoc.pdoc("blend_pl", r"!blend_pl\.", *MODULES, output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
