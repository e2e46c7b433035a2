"""Latents of a simulated population and the tuning of its units."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.nlb.simulation.parameters import BIN_MS, LEAD_MS, WINDOW_MS, NLBSimulation, random_streams
from blend_pl.data.nlb.simulation.reach import DURATION_S, Trials, draw_trials, reach_velocity
from blend_pl.data.nlb.simulation.tuning import N_BEHAVIORAL, draw_tuning, limited_rates, log_rates

N_PRIVATE = 3
"""Number of latents that behavior does not reveal: two Ornstein-Uhlenbeck processes and one constant per trial."""

PRIVATE_TIME_CONSTANT_MS = 150
"""Correlation time of the Ornstein-Uhlenbeck processes: slower than a spike, faster than a trial."""

PREPARATION_DELAY_MS, PREPARATION_END_LEAD_MS = 80, 50
"""Start of preparation after the target, and its end before movement."""

ROTATIONS = ((1.8, 0.22), (1.0, 0.35))
"""The two rotational planes: frequency in Hz and time constant of the decay in seconds."""

TRIGGER_WIDTH_MS = 60
"""Standard deviation of the condition-invariant signal around the release of the movement (Kaufman et al., 2016)."""

_CALIBRATION_ROWS = 20_000


@dataclass(frozen=True)
class SimulatedUnits:
    """Tuning of the units: rate = min(exp(`log_rates` of the latents), max_rate).

    Attributes:
        unit_id: (N,) increasing ids such as 1011: array, channel, unit on the channel.
        heldout: (N,) bool.
        weights: (N_BEHAVIORAL + N_PRIVATE, N) float32.
        log_base: (N,) float32, log of Hz.
        tuning: (N,) int8, kinds of the units.
        max_rate_hz: upper limit of the rates, Hz.
    """

    unit_id: np.ndarray
    heldout: np.ndarray
    weights: np.ndarray
    log_base: np.ndarray
    tuning: np.ndarray
    max_rate_hz: float

    def rates(self, latents: np.ndarray, units: slice = slice(None)) -> np.ndarray:
        """Returns the rates (..., units), in Hz, of latents (..., N_BEHAVIORAL + N_PRIVATE)."""
        return limited_rates(
            latents, self.weights[:, units], self.log_base[units], self.tuning[units], self.max_rate_hz
        )


@dataclass(frozen=True)
class LatentScale:
    """Mean and standard deviation of each latent over the observed windows of a session.

    Attributes:
        mean: (N_BEHAVIORAL + N_PRIVATE,) mean.
        std: (N_BEHAVIORAL + N_PRIVATE,) standard deviation; 1 for a constant latent.
    """

    mean: np.ndarray
    std: np.ndarray

    def standardize(self, latents: np.ndarray) -> np.ndarray:
        """Returns float32 z-scores of latents (bins, N_BEHAVIORAL + N_PRIVATE)."""
        z_scores: np.ndarray = ((latents - self.mean) / self.std).astype(np.float32)
        return z_scores


def latent_scale(trials: Trials, latents: np.ndarray) -> LatentScale:
    """Returns the scale of latents (bins, N_BEHAVIORAL + N_PRIVATE) of concatenated trials."""
    trial, start_ms, _ = trials.time_grid(BIN_MS)
    observed_latents = latents[in_observed_window(trials, trial, start_ms)]
    std = observed_latents.std(axis=0)
    return LatentScale(observed_latents.mean(axis=0), np.where(std > 0, std, 1))


@dataclass(frozen=True)
class SimulatedPopulation:
    """Trials, latents and units of a session.

    Attributes:
        trials: timing and kinematics of the trials.
        latents: (bins, N_BEHAVIORAL + N_PRIVATE) standardized latents of concatenated trials.
        scale: scale by which they were standardized.
        units: tuning of the units.
    """

    trials: Trials
    latents: np.ndarray
    scale: LatentScale
    units: SimulatedUnits


def draw_population(simulation: NLBSimulation) -> SimulatedPopulation:
    """Draws the trials, latents and units of a session."""
    trials_rng, _, latents_rng, tuning_rng, _, _ = random_streams(simulation.seed)
    trials = draw_trials(simulation, trials_rng)
    latents = draw_trial_latents(simulation, trials, latents_rng)
    scale = latent_scale(trials, latents)
    latents = scale.standardize(latents)
    return SimulatedPopulation(trials, latents, scale, draw_units(simulation, trials, latents, tuning_rng))


def draw_trial_latents(simulation: NLBSimulation, trials: Trials, rng: np.random.Generator) -> np.ndarray:
    """Draws all latents in bins of `BIN_MS`, with concatenated trials.

    The behavioral latents depend on the kinematics of the single trial: a preparatory plane (2), two rotational planes
    released `LEAD_MS` before movement (4; Churchland et al., 2012), a condition-invariant trigger (1), the velocity
    `LEAD_MS` later (2) and its magnitude (1). Each is evaluated at the center of the bin.

    Args:
        simulation: the parameters.
        trials: timing and kinematics.
        rng: source of the draw of private latents.

    Returns:
        (bins, N_BEHAVIORAL + N_PRIVATE) float64, not standardized; see `LatentScale`.
    """
    trial, start_ms, _ = trials.time_grid(BIN_MS)
    behavioral = _behavioral_latents(trials, trial, start_ms + BIN_MS / 2)
    private = _private_latents(len(trials), trial, rng)
    if simulation.tuning == "nonlinear":
        # The two processes move along a ring, so that their distribution is far from Gaussian.
        private[:, :2] /= np.linalg.norm(private[:, :2], axis=1, keepdims=True)
    return np.concatenate([behavioral, private], axis=1)


def in_observed_window(trials: Trials, trial: np.ndarray, start_ms: np.ndarray) -> np.ndarray:
    """Returns whether bins start in the observed window of their trial; all arrays are (bins,)."""
    from_onset_ms = start_ms - trials.onset_ms[trial]
    is_observed: np.ndarray = (from_onset_ms >= WINDOW_MS[0]) & (from_onset_ms < WINDOW_MS[1])
    return is_observed


def draw_units(
    simulation: NLBSimulation, trials: Trials, latents: np.ndarray, rng: np.random.Generator
) -> SimulatedUnits:
    """Draws ids, held-out units and tuning.

    Base rates are set so that the mean rate in the observed windows is that of the simulation.

    Args:
        simulation: the parameters.
        trials: timing of the trials.
        latents: (bins, N_BEHAVIORAL + N_PRIVATE) of concatenated trials.
        rng: source of the draw.
    """
    n_units = simulation.n_units
    trial, start_ms, _ = trials.time_grid(BIN_MS)
    window_bins = np.flatnonzero(in_observed_window(trials, trial, start_ms))
    observed_latents = latents[window_bins[:: max(1, len(window_bins) // _CALIBRATION_ROWS)]]

    unit_slots = np.sort(rng.choice(3 * max(192, n_units), n_units, replace=False))
    channel, unit = unit_slots // 3, unit_slots % 3
    heldout = np.zeros(n_units, dtype=bool)
    heldout[rng.choice(n_units, simulation.n_heldout, replace=False)] = True

    gain = simulation.gain * np.exp(simulation.gain_spread * rng.standard_normal(n_units))
    behavioral_weights = _normalize_drive(
        rng.standard_normal((N_BEHAVIORAL, n_units)), observed_latents[:, :N_BEHAVIORAL]
    )
    private_weights = _normalize_drive(rng.standard_normal((N_PRIVATE, n_units)), observed_latents[:, N_BEHAVIORAL:])
    private_share = simulation.private_share
    weights = gain * np.concatenate(
        [np.sqrt(1 - private_share) * behavioral_weights, np.sqrt(private_share) * private_weights]
    )
    log_base = simulation.rate_spread * rng.standard_normal(n_units)
    tuning = draw_tuning(simulation.tuning, n_units, rng)
    log_base += _fit_log_rate_offset(simulation, log_rates(observed_latents, weights, log_base, tuning))
    return SimulatedUnits(
        unit_id=(channel // 96 + 1) * 1000 + (channel % 96 + 1) * 10 + unit + 1,
        heldout=heldout,
        weights=weights.astype(np.float32),
        log_base=log_base.astype(np.float32),
        tuning=tuning,
        max_rate_hz=simulation.max_rate_hz,
    )


def _behavioral_latents(trials: Trials, trial: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    angle, curvature = trials.angle[trial], trials.curvature[trial]
    relative_speed = (trials.reach_mm / trials.duration_s / np.mean(trials.reach_mm / trials.duration_s))[trial]
    relative_reach = (trials.reach_mm / np.mean(trials.reach_mm))[trial]
    relative_inverse_duration = (DURATION_S / trials.duration_s)[trial]
    since_movement_ms = time_ms - trials.true_onset_ms[trial]

    preparation = relative_reach * _smooth_step(time_ms - trials.target_on_ms[trial] - PREPARATION_DELAY_MS, 30)
    preparation *= _smooth_step(-since_movement_ms - PREPARATION_END_LEAD_MS, 15)
    latents = [preparation * np.cos(angle), preparation * np.sin(angle)]
    since_release_s = np.maximum(since_movement_ms + LEAD_MS, 0) / 1000
    phases, amplitudes = (angle, angle + curvature), (relative_speed, relative_inverse_duration)
    for (frequency, time_constant_s), phase, amplitude in zip(ROTATIONS, phases, amplitudes, strict=True):
        envelope = (
            amplitude * _smooth_step(since_movement_ms + LEAD_MS, 15) * np.exp(-since_release_s / time_constant_s)
        )
        rotation_angle = phase + 2 * np.pi * frequency * since_release_s
        latents += [envelope * np.cos(rotation_angle), envelope * np.sin(rotation_angle)]
    latents.append(np.exp(-0.5 * ((since_movement_ms + LEAD_MS) / TRIGGER_WIDTH_MS) ** 2))
    velocity = reach_velocity(trials, trial, time_ms + LEAD_MS)
    latents += [velocity[:, 0], velocity[:, 1], np.hypot(velocity[:, 0], velocity[:, 1])]
    return np.stack(latents, axis=1)


def _private_latents(n_trials: int, trial: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the slow fluctuations, continuous across trials, and the constant of each trial."""
    decay = np.exp(-BIN_MS / PRIVATE_TIME_CONSTANT_MS)
    filter_state = rng.standard_normal((1, N_PRIVATE - 1)) * decay
    noise = np.sqrt(1 - decay**2) * rng.standard_normal((len(trial), N_PRIVATE - 1))
    slow_latents, _ = lfilter([1.0], [1.0, -decay], noise, axis=0, zi=filter_state)
    return np.concatenate([slow_latents, rng.standard_normal(n_trials)[trial, None]], axis=1)


def _smooth_step(time_ms: np.ndarray, width_ms: float) -> np.ndarray:
    """Returns a smooth step from 0 to 1 at time 0."""
    return 0.5 * (1 + np.tanh(time_ms / (2 * width_ms)))


def _normalize_drive(weights: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """Scales the weights (latents, N) so that `latents @ weights` has variance 1, for latents (rows, latents)."""
    covariance = np.cov(latents, rowvar=False)
    normalized_weights: np.ndarray = weights / np.sqrt(np.einsum("in,ij,jn->n", weights, covariance, weights))
    return normalized_weights


def _fit_log_rate_offset(simulation: NLBSimulation, log_rate: np.ndarray) -> float:
    """Returns the offset of the log rates (rows, N) for which the mean of the limited rates is `mean_rate_hz`."""
    offset = 0.0
    for _ in range(30):
        mean_rate = np.minimum(np.exp(log_rate + offset), simulation.max_rate_hz).mean()
        step = np.log(simulation.mean_rate_hz / mean_rate)
        offset += step
        if abs(step) < 1e-4:
            break
    return offset
