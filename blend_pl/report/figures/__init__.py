"""Figures of a report: scores of seeds, and true and predicted rates and movements."""

from blend_pl.report.figures.movement import draw_trajectories, draw_velocities
from blend_pl.report.figures.rates import draw_psths, draw_rates
from blend_pl.report.figures.scores import draw_scores
from blend_pl.report.figures.variants import Variant

__all__ = ["Variant", "draw_psths", "draw_rates", "draw_scores", "draw_trajectories", "draw_velocities"]
