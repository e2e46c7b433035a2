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
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from blend_pl.__main__ import main as run_command_line
from blend_pl.config import OVERLAY_FOLDERS, join_reference

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
    if not _run_all(_commands(options), output, options.jobs):
        return 1
    folders = sorted(map(str, output.glob(f"{options.experiment}_*")))
    report = ["report", *folders, "--output", str(output / "report")]
    if options.sessions:
        report.append("--pool_sessions")
    if options.update_doc:
        report += ["--update_doc", options.update_doc]
    process = _start(report)
    process.join()
    return process.exitcode or 0


def compose(experiment: str, arm: str) -> str:
    """Returns the reference of an experiment and the overlays of an arm."""
    files = [Path("experiments", f"{experiment}.yaml")]
    for name in arm.split("+"):
        overlays = [Path("configs", folder, f"{name}.yaml") for folder in OVERLAY_FOLDERS]
        if not any(path.exists() for path in overlays):
            sys.exit(f"there is no {name}.yaml in configs/data, configs/model or configs/arm; see `blend_pl list`")
        files += filter(Path.exists, overlays)
    return join_reference(files)


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


def _run_all(commands: Iterable[tuple[str, list[str]]], output: Path, jobs: int) -> bool:
    """Runs commands in processes of their own, some at a time, with a log for each.

    Returns:
        Whether all succeeded. After a failure, the end of its log is printed, and the other processes are ended.
    """
    waiting, running = deque(commands), dict[int, tuple[str, ForkServerProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, arguments = waiting.popleft()
                process = _start(arguments, output / f"{name}.log")
                running[process.sentinel] = name, process
            for sentinel in connection.wait(list(running)):
                name, process = running.pop(sentinel)  # type: ignore[call-overload]
                process.join()
                if process.exitcode != 0:
                    log = output / f"{name}.log"
                    print(f"{name}: status {process.exitcode}; end of {log}:", file=sys.stderr)
                    print("\n".join(log.read_text().splitlines()[-_LINES_OF_FAILURE:]), file=sys.stderr, flush=True)
                    return False
                print(f"{name}: done", flush=True)
        return True
    finally:
        for _, process in running.values():
            process.terminate()


def _start(arguments: Sequence[str], log: Path | None = None) -> ForkServerProcess:
    """Starts a command of the package in a new process."""
    process = _PROCESSES.Process(target=_run_here, args=(arguments, log))
    process.start()
    return process


def _run_here(arguments: Sequence[str], log: Path | None) -> None:
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
    sys.argv = ["blend_pl", *arguments]
    sys.exit(run_command_line())


if __name__ == "__main__":
    sys.exit(main())
