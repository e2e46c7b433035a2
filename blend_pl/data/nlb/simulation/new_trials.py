"""Rates of further trials of a simulated population."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.nlb.simulation.parameters import BIN_MS, FORWARD_MS, WINDOW_MS, NLBSimulation
from blend_pl.data.nlb.simulation.population import draw_population, draw_trial_latents
from blend_pl.data.nlb.simulation.reach import draw_trials
from blend_pl.data.nlb.simulation.tuning import expected_counts

_TRIALS_PER_CHUNK = 500


def draw_new_rates(simulation: NLBSimulation, n_trials: int, bin_ms: int, seed: int = 0) -> Tensor:
    """Draws trials that the session of a simulation does not contain, of the same units.

    Args:
        simulation: parameters of the session.
        n_trials: number of trials.
        bin_ms: bin width: a multiple of 5 ms that divides 100 ms.
        seed: seed of the trials; equal seeds give equal trials.

    Returns:
        (n_trials, T + F, N) float32 expected counts per bin, held-in units first.
    """
    population = draw_population(simulation)
    heldin_first = np.argsort(population.units.heldout, kind="stable")
    n_bins = (WINDOW_MS[1] - WINDOW_MS[0] + FORWARD_MS) // bin_ms
    substeps = np.arange(n_bins * bin_ms // BIN_MS)
    rates = torch.empty(n_trials, n_bins, simulation.n_units)
    for start in range(0, n_trials, _TRIALS_PER_CHUNK):
        n_chunk = min(_TRIALS_PER_CHUNK, n_trials - start)
        trials_rng, latents_rng = map(
            np.random.default_rng, np.random.SeedSequence((simulation.seed, seed, start)).spawn(2)
        )
        trials = draw_trials(replace(simulation, n_train=n_chunk, n_val=1, n_test=1, n_none=0), trials_rng)
        latents = draw_trial_latents(simulation, trials, latents_rng)
        # Windows start at a multiple of the bin width, as in a recording.
        window_start = -(-trials.window_start_ms // bin_ms) * bin_ms // BIN_MS
        chunk_trials = np.flatnonzero(trials.split == "train")
        bins = (trials.time_grid(BIN_MS)[2] + window_start)[chunk_trials, None] + substeps
        rates_hz = population.units.rates(population.scale.standardize(latents[bins]))[..., heldin_first]
        rates[start : start + n_chunk] = torch.from_numpy(expected_counts(rates_hz, bin_ms))
    return rates
