"""The life of an experiment: settings, data, model and trainer, training, scores, results."""

from blend_pl.experiment.experiment import Experiment

__all__ = ["Experiment"]
