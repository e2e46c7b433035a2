"""What the population of simulated calcium recordings tells about behavior and, through it, about cell types.

    python experiments/calcium_ceiling.py --trees 201 202 203 204 205

No network is trained: behavior is decoded, and cells are described, by linear regression. The first table has the R2 of
behavior in validation time, decoded from summaries of the training cells. The second table has the balanced accuracy
of the inhibitory subclass of test cells, decoded by the linear probe of `blend_pl.probes` from the weights with which
a summary predicts each cell. A cell's own activity is excluded from all summaries.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from blend_pl.data.calcium.simulation import BugeonSimulation
from blend_pl.data.calcium.simulation.animal import draw_behavior
from blend_pl.data.calcium.simulation.cells import draw_activity, draw_cells
from blend_pl.probes import probe_scores

TRAIN_TIME, TRAIN_CELLS = 0.75, 0.6
PENALTY = 300.0
"""Ridge penalty of the decoder of behavior, for z-scored activity."""
N_COMPONENTS = 6
"""As many as the simulation has factors."""
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
REFERENCE = "principal components"


@dataclass(frozen=True)
class Recording:
    """A simulated recording of N cells, with M training cells.

    Attributes:
        activity: (T, N), z-scored on training time.
        behavior: (T, 4), z-scored.
        subclass: (N,) str; "" for cells without one.
        weights: (N, factors) true weights.
        is_train: (N,) bool.
        n_train_frames: number of frames of training time.
    """

    activity: np.ndarray
    behavior: np.ndarray
    subclass: np.ndarray
    weights: np.ndarray
    is_train: np.ndarray
    n_train_frames: int


def simulate(simulation: BugeonSimulation) -> list[Recording]:
    """Draws one recording of each mouse."""
    recordings = []
    for seed in np.random.SeedSequence(simulation.seed).spawn(simulation.n_mice):
        rng = np.random.default_rng(seed)
        cells = draw_cells(simulation, rng)
        cells = cells.select(np.flatnonzero(~cells.silent))
        behavior = draw_behavior(simulation.n_frames, rng)
        activity = draw_activity(simulation, cells, behavior, rng).astype(float)
        n_train_frames = round(TRAIN_TIME * len(activity))
        activity = (activity - activity[:n_train_frames].mean(0)) / activity[:n_train_frames].std(0)
        subclass = np.array([label.split("-")[0] if "-" in label else "" for label in cells.label])
        subclass[subclass == "Serpinf1"] = ""
        is_train = rng.permutation(len(subclass)) < TRAIN_CELLS * len(subclass)
        recordings.append(Recording(activity, behavior.factors, subclass, cells.weights, is_train, n_train_frames))
    return recordings


def ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the (inputs, targets) weights of a ridge regression without an intercept."""
    gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    weights: np.ndarray = np.linalg.solve(gram, inputs.T @ targets)
    return weights


def mean_and_std(population: np.ndarray) -> np.ndarray:
    """Returns the (T, 2) published statistics of the activity (T, M)."""
    return np.stack([population.mean(1), population.std(1)], axis=1)


def moments_and_quantiles(population: np.ndarray) -> np.ndarray:
    """Returns (T, 11) statistics of the distribution of the activity (T, M) over cells."""
    moments = np.stack([(population**3).mean(1), (population**4).mean(1)], axis=1)
    return np.concatenate([mean_and_std(population), moments, np.quantile(population, QUANTILES, axis=1).T], axis=1)


def behavior_vectors(recording: Recording, shift: int = 0) -> np.ndarray:
    """Returns (M, 4) vectors of the training cells whose weighted sums decode behavior, fitted on training time.

    Args:
        recording: the recording.
        shift: number of frames by which behavior is rotated within training time, as a control.
    """
    frames = slice(recording.n_train_frames)
    behavior = np.roll(recording.behavior[frames], shift, axis=0)
    return ridge(recording.activity[frames, recording.is_train], behavior, PENALTY)


def component_vectors(recording: Recording) -> np.ndarray:
    """Returns (M, `N_COMPONENTS`) principal axes of the training cells, with the sign of positive skewness."""
    training = recording.activity[: recording.n_train_frames, recording.is_train]
    axes = np.linalg.eigh(training.T @ training)[1][:, : -N_COMPONENTS - 1 : -1]
    signed: np.ndarray = axes * np.sign(((training @ axes) ** 3).mean(0))
    return signed


def decoding_r2(recording: Recording, summary: np.ndarray) -> float:
    """Returns the mean R2 of behavior in validation time, decoded from a summary (T, K) of 5 frames."""
    lagged = np.concatenate([np.roll(summary, lag, axis=0) for lag in range(-2, 3)], axis=1)
    train, validation = slice(2, recording.n_train_frames - 2), slice(recording.n_train_frames + 2, -2)
    mean, std = lagged[train].mean(0), lagged[train].std(0)
    lagged = (lagged - mean) / std
    offset = recording.behavior[train].mean(0)
    decoder = ridge(lagged[train], recording.behavior[train] - offset, 10.0)
    truth = recording.behavior[validation]
    errors = ((truth - lagged[validation] @ decoder - offset) ** 2).sum(0)
    return float(np.mean(1 - errors / ((truth - truth.mean(0)) ** 2).sum(0)))


def cell_loadings(recording: Recording, vectors: np.ndarray | None, behavior: bool = False) -> np.ndarray:
    """Returns the (N, K) weights with which summaries of the other cells predict each cell in training time.

    Args:
        recording: the recording.
        vectors: (M, channels) vectors of the training cells; their weighted sums are inputs.
        behavior: use true behavior as input.
    """
    frames = slice(recording.n_train_frames)
    activity, behavior_inputs = recording.activity[frames], recording.behavior[frames] if behavior else None
    # A cell's own part is subtracted from sums over all training cells.
    own_vectors = np.zeros((activity.shape[1], 0 if vectors is None else vectors.shape[1]))
    if vectors is not None:
        own_vectors[recording.is_train] = vectors
    total, square = (activity**power @ recording.is_train for power in (1, 2))
    projection = activity @ own_vectors
    loadings = []
    for trace, is_train, own_vector in zip(activity.T, recording.is_train, own_vectors, strict=True):
        n_others = recording.is_train.sum() - is_train
        mean = (total - is_train * trace) / n_others
        variance = (square - is_train * trace**2) / n_others - mean**2
        inputs = [mean[:, None], np.sqrt(variance)[:, None], projection - np.outer(trace, own_vector)]
        columns = np.concatenate(inputs if behavior_inputs is None else [*inputs, behavior_inputs], axis=1)
        columns = (columns - columns.mean(0)) / columns.std(0)
        loadings.append(ridge(columns, trace, 10.0))
    return np.array(loadings)


def subclass_accuracy(recordings: list[Recording], describe: Callable[[Recording], np.ndarray]) -> float:
    """Returns the balanced accuracy of the subclass of test cells of all recordings, decoded from their vectors."""
    vectors = np.concatenate([describe(recording) for recording in recordings])
    subclass = np.concatenate([recording.subclass for recording in recordings])
    is_train = np.concatenate([recording.is_train for recording in recordings])
    rows = [np.flatnonzero(part & (subclass != "")) for part in (is_train, ~is_train)]
    scores = probe_scores((vectors[rows[0]], vectors[rows[1]]), (subclass[rows[0]], subclass[rows[1]]), seed=0)
    return scores["linear_balanced"]


def decoding_scores(recordings: list[Recording]) -> dict[str, float]:
    """Returns the R2 of behavior for each summary, mean over recordings."""
    summaries: dict[str, Callable[[Recording, np.ndarray], np.ndarray]] = {
        "mean and std (published)": lambda _, population: mean_and_std(population),
        "moments and quantiles": lambda _, population: moments_and_quantiles(population),
        REFERENCE: lambda recording, population: population @ component_vectors(recording),
        "sums fitted to behavior": lambda recording, population: population @ behavior_vectors(recording),
    }
    return {
        name: float(np.mean([decoding_r2(r, summarize(r, r.activity[:, r.is_train])) for r in recordings]))
        for name, summarize in summaries.items()
    }


def identity_scores(recordings: list[Recording]) -> dict[str, float]:
    """Returns the accuracy of the subclass for each description of the cells."""
    return {
        "mean and std (published)": subclass_accuracy(recordings, lambda r: cell_loadings(r, None)),
        REFERENCE: subclass_accuracy(recordings, lambda r: cell_loadings(r, component_vectors(r))),
        "sums fitted to behavior": subclass_accuracy(recordings, lambda r: cell_loadings(r, behavior_vectors(r))),
        "sums fitted to behavior at other times (control)": subclass_accuracy(
            recordings, lambda r: cell_loadings(r, behavior_vectors(r, shift=r.n_train_frames // 2))
        ),
        "true behavior": subclass_accuracy(recordings, lambda r: cell_loadings(r, None, behavior=True)),
        "true weights": subclass_accuracy(recordings, lambda r: r.weights),
    }


def print_table(title: str, scores: list[dict[str, float]]) -> None:
    """Prints mean and standard deviation over trees, and the paired 95 % interval of differences to components."""
    print(f"| {title} | mean ± SD | minus {REFERENCE} [95 %] |\n| --- | ---: | ---: |")
    for name in scores[0]:
        values = np.array([tree[name] for tree in scores])
        differences = values - np.array([tree[REFERENCE] for tree in scores])
        half_width = student_t.ppf(0.975, len(scores) - 1) * differences.std(ddof=1) / np.sqrt(len(scores))
        mean = differences.mean()
        interval = f"{mean:+.3f} [{mean - half_width:+.3f}, {mean + half_width:+.3f}]" if name != REFERENCE else ""
        print(f"| {name} | {values.mean():.3f} ± {values.std(ddof=1):.3f} | {interval} |")
    print()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trees", type=int, nargs="+", default=[201, 202, 203, 204, 205], help="seeds, at least 2")
    parser.add_argument("--frames", type=int, default=1600, help="frames of a recording")
    parser.add_argument("--cells", type=int, default=220, help="cells of a mouse")
    settings = parser.parse_args()
    decoding, identity = [], []
    for seed in settings.trees:
        simulation = BugeonSimulation(n_sessions=1, n_cells=settings.cells, n_frames=settings.frames, seed=seed)
        recordings = simulate(simulation)
        decoding.append(decoding_scores(recordings))
        identity.append(identity_scores(recordings))
    print_table("R2 of behavior from", decoding)
    print_table("subclass, balanced accuracy, from", identity)


if __name__ == "__main__":
    main()
