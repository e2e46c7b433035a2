"""Compares arms of `simulated_lfp` with linear decoders over simulated sets, one set per seed.

    python experiments/lfp_sets.py --seeds 101 102 103 --arms lfp_multi_session

Linear decoders are ridge regressions from the filtered LFP of a segment, fitted and selected like the readout of a
network. An arm is trained by the command `fit` with the seed of the set; a finished run in the output folder is used
again. The table gives the mean and the standard deviation over sets, and the paired difference to each linear decoder
with its 95 % interval.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import blend_pl as bp
from blend_pl.baselines.field_potentials import LINEAR_DECODERS, decode_field_potentials
from blend_pl.data import MultiSessionDataModule
from blend_pl.report.statistics import PairedDifference, SeedSummary
from blend_pl.runs.results import RESULTS_FILE, Results

SET = "simulated_lfp"
SCORES = {"vel_r2": "sessions of the training", "new_r2": "new sessions"}


def linear_scores(seed: int, length: int | None) -> dict[str, dict[str, float]]:
    """Returns the scores of each linear decoder in a set."""
    arguments = {"simulation": {"seed": seed}} | ({"length": length} if length else {})
    datamodule = bp.load(SET, **arguments)
    assert isinstance(datamodule, MultiSessionDataModule)
    datamodule.prepare_data()
    datamodule.setup("fit")
    return {name: decode_field_potentials(datamodule, filters) for name, filters in LINEAR_DECODERS.items()}


def arm_scores(arm: str, seed: int, output: Path, overrides: list[str]) -> dict[str, float]:
    """Returns the scores of an arm in a set, which is trained unless a finished run exists."""
    folder = output / f"set{seed}"
    finished = sorted((folder / f"{SET}_{arm}").glob(f"*/{RESULTS_FILE}"))
    if not finished:
        config = f"experiments/{SET}.yaml+configs/arm/{arm}.yaml"
        options = ["--seed_everything", str(seed), "--data.simulation.seed", str(seed), "--output", str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{arm}.log").open("w") as log:
            subprocess.run(
                [sys.executable, "-m", "blend_pl", "fit", "--config", config, *options, *overrides],
                stdout=log,
                stderr=log,
                check=True,
            )
        finished = sorted((folder / f"{SET}_{arm}").glob(f"*/{RESULTS_FILE}"))
    return Results.read(finished[-1].parent).scores


def table(scores: dict[str, dict[int, dict[str, float]]], references: list[str]) -> str:
    """Returns a Markdown table of scores by decoder and seed."""
    header = ["decoder", "sets", *SCORES.values()]
    header += [f"Δ {reference}, {label}" for reference in references for label in SCORES.values()]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, by_seed in scores.items():
        row = [name, str(len(by_seed))]
        row += [_mean_and_sd({seed: values[key] for seed, values in by_seed.items()}) for key in SCORES]
        for reference in references:
            for key in SCORES:
                values, reference_values = (
                    {seed: row_scores[key] for seed, row_scores in scores[row_name].items()}
                    for row_name in (name, reference)
                )
                row.append("" if name == reference else _difference(values, reference_values))
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _both(values: dict[str, float]) -> str:
    return " / ".join(f"{values[key]:.3f}" for key in SCORES)


def _mean_and_sd(values: dict[int, float]) -> str:
    summary = SeedSummary.from_values(values)
    assert summary is not None
    return f"{summary.mean:.3f}" + ("" if summary.sd is None else f" ± {summary.sd:.3f}")


def _difference(values: dict[int, float], reference: dict[int, float]) -> str:
    difference = PairedDifference.from_values(values, reference)
    if difference is None:
        return ""
    if difference.interval is None:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} [{difference.interval[0]:+.3f}, {difference.interval[1]:+.3f}]"


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105], help="seeds of the sets")
    parser.add_argument("--arms", nargs="*", default=[], help="arms in configs/arm")
    parser.add_argument("--length", type=int, help="bins of a segment")
    parser.add_argument("--output", type=Path, default=Path("runs/lfp_sets"), help="folder of the runs")
    arguments, overrides = parser.parse_known_args()
    if arguments.length:
        overrides += ["--data.length", str(arguments.length)]
    scores: dict[str, dict[int, dict[str, float]]] = {name: {} for name in (*LINEAR_DECODERS, *arguments.arms)}
    for seed in arguments.seeds:
        for name, values in linear_scores(seed, arguments.length).items():
            scores[name][seed] = values
        for arm in arguments.arms:
            scores[arm][seed] = arm_scores(arm, seed, arguments.output, overrides)
        set_scores = (f"{name} {_both(by_seed[seed])}" for name, by_seed in scores.items())
        print(f"set {seed}: {', '.join(set_scores)}", flush=True)
    print(table(scores, list(LINEAR_DECODERS)))


if __name__ == "__main__":
    main()
