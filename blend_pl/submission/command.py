"""`python -m blend_pl submit`: writes the NLB'21 submission file of finished runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from torch import Tensor

from blend_pl.errors import ConfigError, DataError, MissingFileError
from blend_pl.submission.check import check_open_submission, check_submission, print_unrecorded, unrecorded_sessions
from blend_pl.submission.consistency import UnrecordedSession
from blend_pl.submission.ensemble import MeanRates, SubmissionEnsemble, SubmittedRun, group_runs
from blend_pl.submission.layout import SCORED_GROUPS, SessionSplits, group_name, join_rates, split_rates
from blend_pl.submission.push import push_to_evalai as push_to_evalai
from blend_pl.submission.rate_unit import MAX_RATIO_OF_RUNS, find_unit_problem
from blend_pl.submission.scores import print_score_table, score_rates, write_test_scores
from blend_pl.submission.targets import TARGETS_FILE, TARGETS_URL, Targets, download_targets
from blend_pl.utils.files import atomic_file

DOWNLOAD_TARGETS = "download"

TEST_SCORE_WARNING = "Scored on the released test trials: do not select models, settings or seeds on these scores."


def submit(
    runs: Sequence[str] = (),
    output: str = "submission.h5",
    check: str | None = None,
    score: bool = False,
    test_targets: str | None = None,
    targets_url: str = TARGETS_URL,
    push: bool = False,
    checkpoint: str | None = None,
    name: str | None = None,
) -> None:
    """Writes and checks a submission to NLB'21 from the rates of finished runs; one file may hold several datasets.

    Runs of the same session and bin width form an ensemble: their rates are averaged.

    Args:
        runs: folders of runs, of experiments (one run per seed) or of several experiments; optional with --check.
        output: path of the HDF5 file to write.
        check: existing file to check against the sessions of `runs`; no file is written. Without runs, or if their
            recordings are missing, its arrays are checked against one another and against the sizes of NLB'21.
        score: compute the scores locally; phase test requires `test_targets`.
        test_targets: path of the released targets of the test trials, eval_data_test.h5, or `download`.
        targets_url: URL used by `--test_targets download`.
        push: upload the file to EvalAI; the token is read from the environment variable EVALAI_TOKEN or from the
            EvalAI client.
        checkpoint: checkpoint to use instead of the selected one, e.g. last.ckpt.
        name: name of the NLB'21 dataset under which to submit the session, e.g. mc_maze for a simulated session.

    Raises:
        BlendError: the runs, the file, the targets or the upload are invalid.
    """
    if not runs:
        options = {"score": score, "test_targets": test_targets, "push": push, "checkpoint": checkpoint, "name": name}
        _check_without_runs(check, [option for option, value in options.items() if value])
        return
    ensembles = group_runs([Path(run) for run in runs])
    phase = ensembles[0].runs[0].phase
    _check_options(ensembles, phase, score, test_targets, push, name)
    groups = {group_name(name or ensemble.session, ensemble.bin_ms): ensemble for ensemble in ensembles}
    for group in groups:
        if group not in SCORED_GROUPS:
            print(f"note: {group} is not a dataset of NLB'21 and will not be scored; see --name")
    targets = _load_targets(test_targets, targets_url, ensembles[0]) if test_targets else None
    scorer = _SubmissionScorer(targets, score, checkpoint)
    if check is not None:
        path = Path(check)
        splits_by_group, unrecorded = _load_sessions(groups, score)
        check_submission(path, {**splits_by_group, **unrecorded})
        if splits_by_group:
            print(f"{path}: {', '.join(splits_by_group)} of phase {phase} are complete and in spikes per bin")
        if unrecorded:
            print_unrecorded(path, unrecorded, phase)
    else:
        path = Path(output)
        splits_by_group = _write_submission(path, groups, checkpoint, scorer.score_run)
        print(f"submission: {path} ({', '.join(groups)}; phase {phase})")
    if score:
        for group, ensemble in groups.items():
            file_label = str(path) if check is not None or len(ensemble.runs) > 1 else None
            scorer.print_group_scores(group, ensemble, splits_by_group[group], path, file_label)
    if push:
        print(push_to_evalai(path, phase, os.environ))


def _check_without_runs(check: str | None, options: Sequence[str]) -> None:
    """Checks a file without runs, by the names of its sets.

    Raises:
        ConfigError: there is no file to check, or an option needs runs.
        DataError: the file is not a valid submission.
    """
    if check is None:
        raise ConfigError("submit needs folders of finished runs; name them, or check a file with --check FILE")
    if options:
        raise ConfigError(f"--{options[0]} needs runs; name their folders, or remove it")
    path = Path(check)
    unrecorded = unrecorded_sessions(path)
    for group in unrecorded:
        if group not in SCORED_GROUPS:
            print(f"note: {group} is not a dataset of NLB'21 and will not be scored")
    check_submission(path, unrecorded)
    print_unrecorded(path, unrecorded)


def _load_sessions(
    groups: Mapping[str, SubmissionEnsemble], score: bool
) -> tuple[dict[str, SessionSplits], dict[str, UnrecordedSession]]:
    """Returns the sessions by group, and those whose recording is missing, which cannot be scored.

    Raises:
        MissingFileError: a recording is missing, and scores are needed.
    """
    splits_by_group: dict[str, SessionSplits] = {}
    unrecorded: dict[str, UnrecordedSession] = {}
    for group, ensemble in groups.items():
        try:
            splits_by_group[group] = ensemble.load_splits()
        except MissingFileError as error:
            if score:
                raise
            print(f"note: {error}")
            unrecorded[group] = ensemble.describe_unrecorded(group)
    return splits_by_group, unrecorded


def _check_options(
    ensembles: Sequence[SubmissionEnsemble],
    phase: str,
    score: bool,
    test_targets: str | None,
    push: bool,
    name: str | None,
) -> None:
    names = sorted({ensemble.session for ensemble in ensembles})
    if name is not None and len(names) > 1:
        raise ConfigError(f"--name takes one name, but the runs are of {', '.join(names)}; submit them separately")
    if test_targets is not None and not score:
        raise ConfigError("--test_targets requires --score; add it")
    if test_targets is not None and phase != "test":
        raise ConfigError(f"--test_targets requires runs of phase test, but these are of phase {phase}; remove it")
    if score and phase == "test" and test_targets is None:
        raise ConfigError(
            "recordings do not contain the targets of test trials; add --test_targets PATH or --test_targets download, "
            "or remove --score"
        )
    simulated = [
        submitted_run.path for ensemble in ensembles for submitted_run in ensemble.runs if submitted_run.simulated
    ]
    if push and simulated:
        raise ConfigError(f"{simulated[0]} is a run on a simulated session, which EvalAI does not score; remove --push")


def _load_targets(reference: str, url: str, ensemble: SubmissionEnsemble) -> Targets:
    path = Path(reference)
    if reference == DOWNLOAD_TARGETS:
        path = download_targets(ensemble.data_root() / "nlb21", url)
    targets = Targets.open(path)
    if not targets.is_released:
        print(f"note: {path} is not the {TARGETS_FILE} that the benchmark released (sha256 {targets.sha256[:12]})")
    return targets


def _write_submission(
    path: Path,
    groups: Mapping[str, SubmissionEnsemble],
    checkpoint: str | None,
    on_prediction: Callable[[str, SubmittedRun, SessionSplits, tuple[Tensor, Tensor]], None],
) -> dict[str, SessionSplits]:
    """Predicts, writes and checks the file, which appears only if it is valid; returns session splits by group."""
    splits_by_group: dict[str, SessionSplits] = {}
    arrays: dict[str, dict[str, Tensor]] = {}
    for group, ensemble in groups.items():
        mean_rates = MeanRates()
        for submitted_run, splits, rates in ensemble.predictions(checkpoint):
            if checkpoint not in (None, submitted_run.selected_checkpoint):
                print(
                    f"note: {submitted_run.path} uses {checkpoint}; "
                    f"the selected checkpoint is {submitted_run.selected_checkpoint}"
                )
            mean_rates.update(rates)
            splits_by_group[group] = splits
            on_prediction(group, submitted_run, splits, rates)
        train_rates, eval_rates = mean_rates.compute()
        arrays[group] = split_rates(splits_by_group[group], train_rates, eval_rates)
    with atomic_file(path) as temporary:
        with h5py.File(temporary, "w") as file:
            for group, group_arrays in arrays.items():
                for key, array in group_arrays.items():
                    file.create_dataset(f"{group}/{key}", data=array.numpy())
        with h5py.File(temporary, "r") as file:
            check_open_submission(file, splits_by_group, path)
            for group, splits in splits_by_group.items():
                problem = find_unit_problem(file[group], splits, path, MAX_RATIO_OF_RUNS)
                if problem is not None:
                    raise DataError(problem)
                problem = find_unit_problem(file[group], splits, path)
                if problem is not None:
                    print(f"note: {problem.partition(';')[0]}; the model may be undertrained")
    return splits_by_group


@dataclass
class _SubmissionScorer:
    """Scores the runs of a submission and the written file."""

    targets: Targets | None
    enabled: bool
    checkpoint: str | None

    def __post_init__(self) -> None:
        self.scores_by_group: dict[str, dict[str, dict[str, float]]] = {}
        self.filled_splits: dict[str, SessionSplits] = {}

    def score_run(
        self, group: str, submitted_run: SubmittedRun, splits: SessionSplits, rates: tuple[Tensor, Tensor]
    ) -> None:
        """Scores the rates of one run; test scores of its selected checkpoint are written into its folder."""
        if not self.enabled:
            return
        scores = score_rates(self._with_targets(group, splits), rates)
        self.scores_by_group.setdefault(group, {})[str(submitted_run.path)] = scores
        if self.targets is not None and self.checkpoint in (None, submitted_run.selected_checkpoint):
            write_test_scores(submitted_run.path, scores, self.targets.sha256)

    def print_group_scores(
        self, group: str, ensemble: SubmissionEnsemble, splits: SessionSplits, path: Path, file_label: str | None
    ) -> None:
        """Prints the scores of a dataset: of each run and, with a `file_label`, of the file."""
        rows = self.scores_by_group.get(group, {})
        if file_label is not None:
            with h5py.File(path, "r") as file:
                arrays = {key: torch.from_numpy(array[()]).float() for key, array in file[group].items()}
            rows[file_label] = score_rates(self._with_targets(group, splits), join_rates(arrays))
        phase = ensemble.runs[0].phase
        print_score_table(f"{group}: scored on {phase}", rows)
        if phase == "test":
            print(TEST_SCORE_WARNING)

    def _with_targets(self, group: str, splits: SessionSplits) -> SessionSplits:
        """Session splits completed with the released targets, cached by group."""
        if self.targets is None:
            return splits
        if group not in self.filled_splits:
            self.filled_splits[group] = self.targets.fill(group, splits)
        return self.filled_splits[group]
