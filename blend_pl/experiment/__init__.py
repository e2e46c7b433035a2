"""Experiments: settings, data, model and trainer; training, scoring and results."""

from blend_pl.experiment.experiment import Experiment

__all__ = ["Experiment"]
