"""`python -m blend_pl submit`: from finished runs to the file that NLB'21 takes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from torch import Tensor

from blend_pl.errors import ConfigError
from blend_pl.submission.check import check_file, check_submission
from blend_pl.submission.ensemble import Ensemble, MeanRates, Member, gather
from blend_pl.submission.layout import KNOWN, Sessions, divide, group_name, unite
from blend_pl.submission.push import push as push_to_evalai
from blend_pl.submission.scores import print_rows, score_rates, write_test_scores
from blend_pl.submission.targets import FILE, URL, Targets, download_targets
from blend_pl.utils.files import atomic_file

DOWNLOAD = "download"

WARNING = "Scored on the released test trials: nothing may be selected on these scores, no model, setting or seed."


def submit(
    runs: list[str],
    output: str = "submission.h5",
    check: str | None = None,
    score: bool = False,
    test_targets: str | None = None,
    targets_url: str = URL,
    push: bool = False,
    checkpoint: str | None = None,
    name: str | None = None,
) -> None:
    """Writes the rates of finished runs as a submission to NLB'21, checked; several sets go into one file.

    Runs of the same session and bin width form an ensemble: the mean of their rates.

    Args:
        runs: folders of runs, of experiments (which hold a run for each seed) or of several experiments.
        output: the HDF5 file.
        check: check this file, made elsewhere, against the sessions of `runs`, and write none.
        score: score the rates on this machine; for phase test `test_targets` is needed.
        test_targets: the released targets of the test trials, eval_data_test.h5: its path, or `download`.
        targets_url: where `download` gets them.
        push: hand the file to EvalAI; the token is the variable EVALAI_TOKEN's or the one of the EvalAI client.
        checkpoint: weights other than those that model selection chose, e.g. last.ckpt.
        name: the set to submit a session as that has another name, e.g. mc_maze for a simulated one.

    Raises:
        BlendError: what is wrong with the runs, the file, the targets or the upload.
    """
    ensembles = gather([Path(run) for run in runs])
    phase = ensembles[0].members[0].phase
    _refuse_contradictions(ensembles, phase, score, test_targets, push, name)
    groups = {group_name(name or ensemble.session, ensemble.bin_ms): ensemble for ensemble in ensembles}
    for group in groups:
        if group not in KNOWN:
            print(f"note: {group} is no set of NLB'21, which will pass over it; see --name")
    targets = _targets(test_targets, targets_url, ensembles[0]) if test_targets else None
    scoring = _Scoring(targets, score, checkpoint)
    if check is not None:
        path = Path(check)
        sessions = {group: ensemble.sessions() for group, ensemble in groups.items()}
        check_submission(path, sessions)
        print(f"{path}: {', '.join(groups)} of phase {phase} are complete and in spikes per bin")
    else:
        path = Path(output)
        sessions = _write(path, groups, checkpoint, scoring.score_run)
        print(f"submission: {path} ({', '.join(groups)}; phase {phase})")
    if score:
        for group, ensemble in groups.items():
            whole = str(path) if check is not None or len(ensemble.members) > 1 else None
            scoring.show(group, ensemble, sessions[group], path, whole)
    if push:
        print(push_to_evalai(path, phase, os.environ))


def _refuse_contradictions(
    ensembles: Sequence[Ensemble], phase: str, score: bool, test_targets: str | None, push: bool, name: str | None
) -> None:
    names = sorted({ensemble.session for ensemble in ensembles})
    if name is not None and len(names) > 1:
        raise ConfigError(f"--name is one name, but the runs are of {', '.join(names)}; submit them apart")
    if test_targets is not None and not score:
        raise ConfigError("--test_targets is there to score against; add --score")
    if test_targets is not None and phase != "test":
        raise ConfigError(f"--test_targets is for runs of phase test, and these are of phase {phase}; leave it out")
    if score and phase == "test" and test_targets is None:
        raise ConfigError(
            "the targets of test trials are not part of a recording; add --test_targets PATH or download, or leave "
            "out --score"
        )
    simulated = [member.path for ensemble in ensembles for member in ensemble.members if member.simulated]
    if push and simulated:
        raise ConfigError(f"{simulated[0]} is of a simulated session, which EvalAI does not score; leave out --push")


def _targets(reference: str, url: str, ensemble: Ensemble) -> Targets:
    path = Path(reference)
    if reference == DOWNLOAD:
        path = download_targets(ensemble.data_root() / "nlb21", url)
    targets = Targets.open(path)
    if not targets.released:
        print(f"note: {path} is not the {FILE} that the benchmark released (sha256 {targets.sha256[:12]})")
    return targets


def _write(
    path: Path,
    groups: Mapping[str, Ensemble],
    checkpoint: str | None,
    each: Callable[[str, Member, Sessions, tuple[Tensor, Tensor]], None],
) -> dict[str, Sessions]:
    """Predicts, writes and checks; the file appears when all is well. The sessions by group."""
    sessions: dict[str, Sessions] = {}
    arrays: dict[str, dict[str, Tensor]] = {}
    for group, ensemble in groups.items():
        mean = MeanRates()
        for member, members_sessions, rates in ensemble.predictions(checkpoint):
            if checkpoint not in (None, member.selected):
                print(f"note: {member.path} with {checkpoint}; model selection chose {member.selected}")
            mean.add(rates)
            sessions[group] = members_sessions
            each(group, member, members_sessions, rates)
        train_rates, rates_of_mean = mean.compute()
        arrays[group] = divide(sessions[group], train_rates, rates_of_mean)
    with atomic_file(path) as temporary:
        with h5py.File(temporary, "w") as file:
            for group, of_group in arrays.items():
                for key, array in of_group.items():
                    file.create_dataset(f"{group}/{key}", data=array.numpy())
        with h5py.File(temporary, "r") as file:
            check_file(file, sessions, path)
    return sessions


@dataclass
class _Scoring:
    """Scores runs as they are predicted, and what was written in the end."""

    targets: Targets | None
    wanted: bool
    checkpoint: str | None

    def __post_init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, float]]] = {}
        self.filled: dict[str, Sessions] = {}

    def score_run(self, group: str, member: Member, sessions: Sessions, rates: tuple[Tensor, Tensor]) -> None:
        """Scores the rates of one run, and keeps the scores of its selected weights on test trials beside it."""
        if not self.wanted:
            return
        scores = score_rates(self._scored(group, sessions), rates)
        self.rows.setdefault(group, {})[str(member.path)] = scores
        if self.targets is not None and self.checkpoint in (None, member.selected):
            write_test_scores(member.path, scores, self.targets.sha256)

    def show(self, group: str, ensemble: Ensemble, sessions: Sessions, path: Path, whole: str | None) -> None:
        """Prints the scores of a set: of its runs, and of the file where that is something else."""
        rows = self.rows.get(group, {})
        if whole is not None:
            with h5py.File(path, "r") as file:
                arrays = {key: torch.from_numpy(array[()]).float() for key, array in file[group].items()}
            rows[whole] = score_rates(self._scored(group, sessions), unite(arrays))
        phase = ensemble.members[0].phase
        print_rows(f"{group}: scored on {phase}", rows)
        if phase == "test":
            print(WARNING)

    def _scored(self, group: str, sessions: Sessions) -> Sessions:
        """The sessions with all that can be scored, filled in once."""
        if self.targets is None:
            return sessions
        if group not in self.filled:
            self.filled[group] = self.targets.fill(group, sessions)
        return self.filled[group]
