"""Replacement of `fit` and `multirun` for tests of sweeps: `python -m helpers.fake_fit fit --x=...`.

Appends a line to attempts.txt of the run at each start and writes results without training. The files `fail`, `quiet`
and `slow` in the folder of all runs make trials fail, end without a score, or take 60 s; a file named after a signal
ends them with that signal.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from helpers.results import make_results

LAST = Path("checkpoints", "last.ckpt")


def main() -> int:
    options = dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
    output = Path(options["--output"])
    arguments = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
    if sys.argv[1] == "fit":
        run = Path(options["--run_dir"])
        resumed = options.get("--resume") == "true" and (run / LAST).exists()
        return fit(arguments, str(run / LAST) if resumed else "new", output, run)
    # As `multirun`, which passes each mapping of --overrides to `fit`.
    assert (sys.argv[1], sys.argv[2]) == ("multirun", "x.yaml")
    assert json.loads(arguments["fit_args"]) == []
    overrides = json.loads(arguments["overrides"])
    return max(fit(values, f"{len(overrides)}-parallel", output, Path(values["run_dir"])) for values in overrides)


def fit(arguments: dict[str, Any], checkpoint: str, output: Path, run: Path) -> int:
    with (run / "attempts.txt").open("a") as file:
        file.write(f"{checkpoint} {json.dumps(arguments)}\n")
    print("fake fit of", run)
    if (output / "fail").exists():
        print("the reason why")
        return 3
    (run / LAST).parent.mkdir(exist_ok=True)
    (run / LAST).touch()
    for number in signal.Signals:
        if (output / number.name).exists():
            os.kill(os.getpid(), number)
    if (output / "slow").exists():
        time.sleep(60)
    selected = {} if (output / "quiet").exists() else {"best/val/co_bps": -((float(arguments["x"]) - 0.3) ** 2)}
    make_results(selected=selected).write(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
