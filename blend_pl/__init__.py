"""Privileged distillation in neural population dynamics, on PyTorch Lightning.

The public names are listed in `__init__.pyi` and are imported on first use, so that `import blend_pl` is fast.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
