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
from collections.abc import Iterator, Sequence
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
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(_run_logged, name, command, output) for name, command in _commands(options)]
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
    parser.add_argument("--fit_baselines", action="store_true", help="fit the baselines without a network, too")
    parser.add_argument("--sessions", nargs="*", default=[], help="seeds of simulated sessions, which the report pools")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--update_doc", help="place in a document where the tables are written, as in README.md#demo")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at a time")
    return parser.parse_args()


def _commands(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Yields the name and the arguments of each command of the package.

    They are in the order of the arms: a teacher before its students is trained once, not while a student waits for it.
    """
    for session in options.sessions or [None]:
        suffix = f"-session{session}" if session else ""
        common = ["--output", options.output, *(["--data.simulation.seed", session] if session else [])]
        if options.fit_baselines:
            reference = compose(options.experiment, "baseline")
            yield f"baselines{suffix}", ["baseline", reference, "--seeds", f"[{','.join(options.seeds)}]", *common]
        for arm, seed in itertools.product(options.arms, options.seeds):
            reference = compose(options.experiment, arm)
            yield f"{arm}-seed{seed}{suffix}", ["fit", "--config", reference, "--seed_everything", seed, *common]


def _run_logged(name: str, arguments: Sequence[str], output: Path) -> bool:
    """Runs a command in a new process, with a log.

    Returns:
        Whether it succeeded. If not, the end of its log is printed.
    """
    log = output / f"{name}.log"
    status = _run(arguments, log)
    if status == 0:
        print(f"{name}: done", flush=True)
    else:
        print(f"{name}: status {status}; end of {log}:", file=sys.stderr)
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
