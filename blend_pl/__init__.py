"""Privileged distillation in neural population dynamics, on PyTorch Lightning."""

__version__ = "0.2.0"
