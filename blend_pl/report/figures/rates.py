"""Figures of true and predicted rates: single trials and means of conditions."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from blend_pl.report.figures.directions import angle_color, condition_angles
from blend_pl.report.figures.style import TRUTH_COLOR, colors_for_roles, subplots
from blend_pl.report.figures.variants import Variant, bin_times_ms, draw_legend, label_time_axis, mark_event

N_NEURONS = 6
N_PSTHS = 4
N_CONDITIONS = 16
SMOOTHING_MS = 50
"""Standard deviation of the kernel that smooths spikes of recordings, where true rates are unknown."""


def draw_rates(variants: Sequence[Variant]) -> Figure:
    """Draws predicted rates of neurons in one trial, held-out ones if any, and true rates or smoothed spikes."""
    prediction = variants[0].prediction
    session, bins = prediction.session, prediction.session.n_observed
    true = prediction.datamodule.true_rates("eval")
    spikes = session.spikes[:, :bins].float()
    if true is None:
        smoothed = gaussian_filter1d(spikes.numpy(), SMOOTHING_MS / session.bin_ms, axis=1)
        true, truth_label = torch.from_numpy(smoothed), f"spikes, smoothed (sd {SMOOTHING_MS} ms)"
    else:
        true, truth_label = true[:, :bins], "true rate"
    first_neuron = session.n_heldin if session.has_recorded(slice(session.n_heldin, None), slice(bins)) else 0
    # Selects a trial and neurons with a large variance of the true rates over time.
    variance = true[..., first_neuron:].float().var(1)
    trial = int(variance.sum(1).argsort()[int(0.9 * (len(variance) - 1))])
    neurons = variance[trial].argsort(descending=True)[:N_NEURONS].sort().values + first_neuron
    bins_per_s, time = 1000 / session.bin_ms, bin_times_ms(prediction) + int(session.jitter[trial]) * session.bin_ms
    columns = min(3, len(neurons))
    figure, axes = subplots(math.ceil(len(neurons) / columns), columns, height=4.6)
    for ax, neuron in zip(axes.flat, neurons.tolist(), strict=False):
        ax.plot(time, true[trial, :, neuron] * bins_per_s, color=TRUTH_COLOR, linewidth=2.4)
        for variant, color in zip(variants, colors_for_roles([variant.role for variant in variants]), strict=True):
            ax.plot(time, variant.prediction.rates[trial, :bins, neuron] * bins_per_s, color=color, linewidth=1.5)
        spiking_bins = (spikes[trial, :, neuron] > 0).numpy()
        ax.plot(
            time[spiking_bins],
            np.zeros(spiking_bins.sum()),
            "|",
            color="#888888",
            markersize=6,
            transform=ax.get_xaxis_transform(),
        )
        kind = "held-out" if neuron >= session.n_heldin else "held-in"
        ax.set_title(f"{kind} neuron {int(session.unit_id[neuron])}", loc="left", color="#444444")
        ax.set_ylim(bottom=0)
        ax.margins(x=0)
        mark_event(ax, prediction)
    for ax in axes.flat[len(neurons) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("rate (spikes/s)")
    label_time_axis(figure, prediction)
    draw_legend(figure, variants, truth_label, "co_bps", "co-bps")
    return figure


def draw_psths(variants: Sequence[Variant]) -> Figure | None:
    """Draws recorded and predicted PSTHs of a few neurons; returns None without conditions."""
    prediction = variants[0].prediction
    session = prediction.session
    counts = torch.bincount(session.condition[session.condition >= 0], minlength=len(session.psth))
    conditions = counts.nonzero()[:, 0]
    if not len(conditions):
        return None
    angles = condition_angles(prediction)
    order = angles[conditions].argsort()
    conditions = conditions[order][:: max(1, math.ceil(len(conditions) / N_CONDITIONS))]
    bins_per_s, time = 1000 / session.bin_ms, bin_times_ms(prediction)
    rows = [
        ("recorded", TRUTH_COLOR, session.psth),
        *((variant.name, "", variant.prediction.psth()) for variant in variants),
    ]
    colors = [TRUTH_COLOR, *colors_for_roles([variant.role for variant in variants])]
    first_neuron = session.n_heldin if session.n_heldin < session.n_units else 0
    modulation = session.psth[conditions][..., first_neuron:].nan_to_num().var((0, 1))
    neurons = modulation.argsort(descending=True)[:N_PSTHS].sort().values + first_neuron
    figure, axes = subplots(len(rows), len(neurons), height=0.7 + 1.35 * len(rows), sharey="col")
    for column, neuron in enumerate(neurons.tolist()):
        kind = "held-out" if neuron >= session.n_heldin else "held-in"
        axes[0, column].set_title(f"{kind} neuron {int(session.unit_id[neuron])}", loc="left", color="#444444")
        for ax, (_, _, psth) in zip(axes[:, column], rows, strict=True):
            for condition in conditions.tolist():
                line_style = {"color": angle_color(angles[condition]), "linewidth": 1.2, "alpha": 0.9}
                ax.plot(time, psth[condition, :, neuron] * bins_per_s, **line_style)
            ax.margins(x=0)
            mark_event(ax, prediction)
        axes[0, column].set_ylim(bottom=0)
    for ax, (name, _, _), color in zip(axes[:, 0], rows, colors, strict=True):
        ax.set_ylabel(name, color=color, fontweight="bold")
    label_time_axis(figure, prediction)
    figure.supylabel("mean rate of each condition (spikes/s)", fontsize=10, color="#444444")
    return figure
