"""Trains arms of an experiment with several seeds, and writes a report of them to OUTPUT/report.

    python experiments/compare.py simulated --arms baseline teacher hard stndt_small+hard --seeds 1 2 3 --output runs

An arm is an overlay in configs/arm, after overlays of configs/data and configs/model if there are any. Each run has a
process with one thread, which starts with the package imported. Run it in the root of the repository.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from blend_pl.__main__ import main as run_command_line

_LINES_OF_FAILURE = 20
_PROCESSES = multiprocessing.get_context("forkserver")


def main() -> int:
    """Trains all runs, then reports them.

    Returns:
        The exit status.
    """
    options = _parse_options()
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    _PROCESSES.set_forkserver_preload(["blend_pl.experiment", "blend_pl.report"])
    sessions = f" of sessions {' '.join(options.sessions)}" if options.sessions else ""
    print(
        f"training {options.experiment}: {' '.join(options.arms)} with seeds {' '.join(options.seeds)}{sessions}; "
        f"logs in {output}",
        flush=True,
    )
    # In the order of the arms: a teacher before its students is trained once, not while a student waits for it.
    runs = list(itertools.product(options.sessions or [None], options.arms, options.seeds))
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(_train, options.experiment, output, *run) for run in runs]
        for future in as_completed(futures):
            succeeded = future.result()
            if not succeeded:
                pool.shutdown(wait=False, cancel_futures=True)
                return 1
    folders = sorted(map(str, output.glob(f"{options.experiment}_*")))
    report = ["report", *folders, "--output", str(output / "report")]
    if options.sessions:
        report.append("--pool_sessions")
    if options.update_doc:
        report += ["--update_doc", options.update_doc]
    return _run(report)


def compose(experiment: str, arm: str) -> str:
    """Returns the reference of an experiment and the overlays of an arm, which are joined by +."""
    files = [f"experiments/{experiment}.yaml"]
    for name in arm.split("+"):
        paths = [Path("configs", folder, f"{name}.yaml") for folder in ("data", "model", "arm")]
        overlays = [str(path) for path in paths if path.exists()]
        if not overlays:
            sys.exit(f"there is no {name}.yaml in configs/data, configs/model or configs/arm; see `blend_pl list`")
        files += overlays
    return "+".join(files)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", help="name of a file in experiments/")
    parser.add_argument("--arms", nargs="+", required=True, help="arms, as in stndt_small+hard")
    parser.add_argument("--seeds", nargs="+", required=True)
    parser.add_argument("--sessions", nargs="*", default=[], help="seeds of simulated sessions, which the report pools")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--update_doc", help="place in a document where the tables are written, as in README.md#demo")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at a time")
    return parser.parse_args()


def _train(experiment: str, output: Path, session: str | None, arm: str, seed: str) -> bool:
    """Trains one run in a process of its own.

    Returns:
        Whether it succeeded. If not, the end of its log is printed.
    """
    log = output / f"{arm}-seed{seed}{f'-session{session}' if session else ''}.log"
    arguments = ["fit", "--config", compose(experiment, arm), "--seed_everything", seed, "--output", str(output)]
    if session is not None:
        arguments += ["--data.simulation.seed", session]
    status = _run(arguments, log)
    if status == 0:
        print(f"{arm}, seed {seed}{f', session {session}' if session else ''}: done", flush=True)
    else:
        print(f"{arm}, seed {seed}: status {status}; end of {log}:", file=sys.stderr)
        print("\n".join(log.read_text().splitlines()[-_LINES_OF_FAILURE:]), file=sys.stderr, flush=True)
    return status == 0


def _run(arguments: Sequence[str], log: Path | None = None) -> int:
    """Runs a command of the package in a new process, and returns its exit status."""
    process = _PROCESSES.Process(target=_run_here, args=(arguments, log))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run_here(arguments: Sequence[str], log: Path | None) -> None:
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
    sys.argv = ["blend_pl", *arguments]
    sys.exit(run_command_line())


if __name__ == "__main__":
    sys.exit(main())
