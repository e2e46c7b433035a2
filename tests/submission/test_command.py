"""`submit` compared with nlb_tools, on NWB files written without the simulator."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.cli import SIMULATION, fit
from helpers.nlb import SETS
from helpers.nwb_files import write_maze, write_rtt
from helpers.oracle import evaluate, make_targets
from helpers.specs import MC_MAZE, MC_RTT

from blend_pl.cli.main import run_command as blend
from blend_pl.errors import BlendError, ConfigError, DataError, MissingFileError, TeacherError
from blend_pl.prediction import predict_run
from blend_pl.report.test_scores import read_test_scores
from blend_pl.runs.results import Results
from blend_pl.submission.layout import RATE_KEYS

TRAIN_FILE = "sub-Jenkins/sub-Jenkins_ses-full_desc-train_behavior+ecephys.nwb"
RTT_FILE = "sub-Indy/sub-Indy_desc-train_behavior+ecephys.nwb"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_maze(folder)
    write_rtt(folder)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on MC_Maze and one on MC_RTT, scored on val, and one that predicts the test trials of MC_Maze."""
    output = tmp_path_factory.mktemp("runs")
    root = f"--data.root={data}"
    first = fit("mc_maze_baseline", output, root)
    copy_with_scaled_weights(first, first.with_name("seed1"), 0.8)
    fit("mc_rtt_baseline", output, root)
    fit("mc_maze_baseline", output / "test", root, "--data.phase=test")
    return output


def copy_with_scaled_weights(run: Path, copy: Path, factor: float, name: str = "best.ckpt") -> Path:
    """Copies a run with scaled weights in one of its checkpoints."""
    shutil.copytree(run, copy)
    path = copy / "checkpoints" / name
    checkpoint = torch.load(copy / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"] = {name: value * factor for name, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, path)
    return copy


def copy_with_results(run: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copies a run with changed results."""
    shutil.copytree(run, copy)
    results = json.loads((run / "results.json").read_text())
    change(results)
    (copy / "results.json").write_text(json.dumps(results))
    return copy


@pytest.fixture(scope="module")
def test_targets(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random targets of the test trials, in the file format of nlb_tools."""
    make_tensors = pytest.importorskip("nlb_tools.make_tensors")
    session = predict_run(single_run(runs / "test/mc_maze_baseline")).datamodule
    train, test = session.subsets["train"], session.subsets["eval"]
    rng = np.random.default_rng(0)
    n, bins, forward, heldin = len(test), test.n_observed, test.n_forward, test.n_heldin
    heldout = test.n_units - heldin
    condition = rng.integers(0, 3, n - 3)
    targets = {
        "eval_spikes_heldout": rng.poisson(0.3, (n, bins, heldout)).astype(np.float16),
        "eval_spikes_heldin_forward": rng.poisson(0.3, (n, forward, heldin)).astype(np.float16),
        "eval_spikes_heldout_forward": rng.poisson(0.3, (n, forward, heldout)).astype(np.float16),
        "train_behavior": train.behavior[:, :bins].double().numpy(),
        "eval_behavior": rng.normal(size=(n, bins, 2)),
        "psth": rng.gamma(2.0, 0.1, (4, bins, test.n_units)),
        "eval_cond_idx": np.array(
            [*(np.flatnonzero(condition == c) for c in range(3)), np.array([], dtype=int)], dtype=object
        ),
    }
    path = tmp_path_factory.mktemp("targets") / "targets.h5"
    make_tensors.save_to_h5({"mc_maze_20": targets}, str(path))
    return path


def single_run(experiment: Path) -> Path:
    (run,) = experiment.glob("seed*")
    return run


def submit(*arguments: str | Path) -> None:
    blend(["submit", *(str(argument) for argument in arguments)])


def test_file_with_several_sets_scores_as_nlb_tools(
    runs: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nlb_tools")
    printed: dict[str, dict[str, dict[str, float]]] = {}
    monkeypatch.setattr(
        "blend_pl.submission.command.print_score_table", lambda title, rows: printed.update({title.split(":")[0]: rows})
    )
    path = tmp_path / "new" / "submission.h5"
    submit(runs / "mc_maze_baseline", runs / "mc_rtt_baseline", "--output", path, "--score")
    with h5py.File(path) as file:
        assert set(file) == {"mc_maze_20", "mc_rtt_20"}
        assert all(set(file[group]) == set(RATE_KEYS) for group in file)
    targets = make_targets(data / TRAIN_FILE, MC_MAZE, 20) | make_targets(data / RTT_FILE, MC_RTT, 20)
    theirs = evaluate(targets, path)
    assert theirs.keys() == {"mc_maze_20_split", "mc_rtt_20_split"}
    maze_runs = sorted((runs / "mc_maze_baseline").glob("seed*"))
    assert printed["mc_maze_20"].keys() == {str(path), *map(str, maze_runs)}
    assert printed["mc_maze_20"][str(path)] == pytest.approx(theirs["mc_maze_20_split"], abs=1e-6)
    assert len(theirs["mc_maze_20_split"]) == 4
    rtt = printed["mc_rtt_20"]
    assert rtt == {str(single_run(runs / "mc_rtt_baseline")): pytest.approx(theirs["mc_rtt_20_split"], abs=1e-6)}
    trained = maze_runs[0]
    assert printed["mc_maze_20"][str(trained)] == pytest.approx(Results.read(trained).scores, abs=1e-6)
    assert "submission: " in capsys.readouterr().out
    assert not any(run.joinpath("scores_test.json").exists() for run in maze_runs)


@pytest.mark.slow
def test_simulated_session_scores_as_mc_maze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follows `make nlb-submit`."""
    pytest.importorskip("nlb_tools")
    printed: list[dict[str, dict[str, float]]] = []
    monkeypatch.setattr("blend_pl.submission.command.print_score_table", lambda title, rows: printed.append(rows))
    run = fit("simulated_baseline", tmp_path / "runs", f"--data.root={tmp_path}", *SIMULATION)
    submit(run.parent, "--output", tmp_path / "s.h5", "--name", "mc_maze", "--score")
    (train_file,) = tmp_path.rglob("*train*.nwb")
    theirs = evaluate(make_targets(train_file, MC_MAZE, 20), tmp_path / "s.h5")["mc_maze_20_split"]
    assert printed == [{str(run): pytest.approx(theirs, abs=1e-6)}]
    assert len(theirs) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bin_ms"), [("area2_bump", 20), ("dmfc_rsg", 20)])
def test_other_sets_score_as_nlb_tools(name: str, bin_ms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nlb_tools")
    printed: list[dict[str, dict[str, float]]] = []
    monkeypatch.setattr("blend_pl.submission.command.print_score_table", lambda title, rows: printed.append(rows))
    spec, write_files = SETS[name]
    files = write_files(tmp_path)
    root, bins = f"--data.root={tmp_path}", f"--data.bin_ms={bin_ms}"
    run = fit(f"{name}_baseline", tmp_path / "runs", root, bins, "--trainer.max_epochs=30")
    submit(run, "--output", tmp_path / "s.h5", "--score")
    (theirs,) = evaluate(make_targets(files.train, spec, bin_ms), tmp_path / "s.h5").values()
    assert printed == [{str(run): pytest.approx(theirs, abs=1e-6)}]
    assert len(theirs) == 4


def test_ensemble_averages_rates(runs: Path, tmp_path: Path) -> None:
    submit(runs / "mc_maze_baseline", "--output", tmp_path / "s.h5")
    predictions = [predict_run(run) for run in sorted((runs / "mc_maze_baseline").glob("seed*"))]
    assert len(predictions) == 2
    mean = torch.stack([prediction.rates for prediction in predictions]).double().mean(0).float()
    train = torch.stack([prediction.train_rates for prediction in predictions]).double().mean(0).float()
    session = predictions[0].session
    bins, heldin = session.n_observed, session.n_heldin
    with h5py.File(tmp_path / "s.h5") as file:
        group = {key: torch.from_numpy(file[f"mc_maze_20/{key}"][()]) for key in RATE_KEYS}
    assert torch.equal(group["eval_rates_heldin"], mean[:, :bins, :heldin])
    assert torch.equal(group["eval_rates_heldout"], mean[:, :bins, heldin:])
    assert torch.equal(group["eval_rates_heldin_forward"], mean[:, bins:, :heldin])
    assert torch.equal(group["eval_rates_heldout_forward"], mean[:, bins:, heldin:])
    assert torch.equal(group["train_rates_heldin"], train[:, :bins, :heldin])
    assert torch.equal(group["train_rates_heldout"], train[:, :bins, heldin:])
    assert (session.trial_id.diff() > 0).all()


def test_test_trials_are_scored_against_released_targets(
    runs: Path, test_targets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = single_run(runs / "test/mc_maze_baseline")
    submit(run, "--output", tmp_path / "s.h5", "--score", "--test_targets", test_targets)
    theirs = evaluate(str(test_targets), tmp_path / "s.h5")["mc_maze_20_split"]
    stored = json.loads((run / "scores_test.json").read_text())
    assert stored["scores"] == pytest.approx(theirs, abs=1e-6)
    assert len(theirs) == 4
    assert stored["targets_sha256"] == hashlib.sha256(test_targets.read_bytes()).hexdigest()
    released = read_test_scores(run)
    assert released is not None
    assert (released.scores, released.targets_sha256) == (stored["scores"], stored["targets_sha256"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "do not select models, settings or seeds on these scores" in printed
    assert "is not the eval_data_test.h5 that the benchmark released" in printed
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["mc_maze_20/train_rates_heldout"].shape == (48, 35, 6)
        assert file["mc_maze_20/eval_rates_heldin"].shape == (12, 35, 18)


def test_scoring_test_trials_without_targets_raises(runs: Path, test_targets: Path) -> None:
    with pytest.raises(ConfigError, match="add --test_targets PATH or --test_targets download"):
        submit(runs / "test/mc_maze_baseline", "--score")
    with pytest.raises(ConfigError, match="requires runs of phase test, but these are of phase val"):
        submit(runs / "mc_maze_baseline", "--score", "--test_targets", test_targets)
    with pytest.raises(ConfigError, match="requires --score; add it"):
        submit(runs / "test/mc_maze_baseline", "--test_targets", test_targets)


def test_targets_are_downloaded_to_data_folder(
    runs: Path, data: Path, test_targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def download(folder: Path, url: str) -> Path:
        requests.append((folder, url))
        return test_targets

    monkeypatch.setattr("blend_pl.submission.command.download_targets", download)
    arguments = ("--score", "--test_targets=download", "--targets_url=http://mirror/t.h5")
    submit(runs / "test/mc_maze_baseline", "--output", tmp_path / "s.h5", *arguments)
    assert requests == [(data / "nlb21", "http://mirror/t.h5")]


def test_other_checkpoint_requires_option(
    runs: Path, test_targets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_with_scaled_weights(single_run(runs / "test/mc_maze_baseline"), tmp_path / "run", 0.5, "last.ckpt")
    (copy / "scores_test.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"last\.ckpt is a checkpoint; name the run folder and add --checkpoint last"):
        submit(copy / "checkpoints/last.ckpt", "--output", tmp_path / "s.h5")
    capsys.readouterr()
    submit(copy, "--output", tmp_path / "best.h5")
    assert "selected checkpoint" not in capsys.readouterr().out
    arguments = ("--checkpoint", "last.ckpt", "--score", "--test_targets", test_targets)
    submit(copy, "--output", tmp_path / "last.h5", *arguments)
    assert "uses last.ckpt; the selected checkpoint is best.ckpt" in capsys.readouterr().out
    assert not (copy / "scores_test.json").exists()
    assert (tmp_path / "last.h5").read_bytes() != (tmp_path / "best.h5").read_bytes()


def test_existing_file_is_checked_and_scored(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "theirs.h5"
    experiment = runs / "mc_maze_baseline"
    submit(experiment, "--output", path)
    with h5py.File(path, "a") as file:
        for side in ("heldin", "heldout"):
            del file[f"mc_maze_20/eval_rates_{side}_forward"]
    capsys.readouterr()
    submit(experiment, "--check", path, "--score", "--output", tmp_path / "never.h5")
    printed = capsys.readouterr().out
    assert "complete and in spikes per bin" in printed
    assert "co-bps" in printed
    assert "fp-bps" not in printed
    assert not (tmp_path / "never.h5").exists()
    with h5py.File(path, "a") as file:
        file["mc_maze_20/eval_rates_heldin"][()] /= 0.02
    with pytest.raises(DataError, match="in Hz"):
        submit(experiment, "--check", path)


def test_file_of_an_undertrained_run_is_checked_without_the_recording(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def move_data(results: dict[str, Any]) -> None:
        data_of(results).update(root=str(tmp_path / "none"))

    path = tmp_path / "s.h5"
    run = min((runs / "mc_maze_baseline").glob("seed*"))
    submit(run, "--output", path)
    absent = copy_with_results(run, tmp_path / "absent", move_data)
    with h5py.File(path) as file:
        rates = file["mc_maze_20/eval_rates_heldout"][()]
    capsys.readouterr()
    submit(absent, "--check", path)
    printed = capsys.readouterr().out
    assert "note: " in printed.splitlines()[0]
    assert "mc_maze_20 are consistent with one another" in printed
    assert "and the session of NLB'21 (1721, 35, 137)" in printed
    assert "not checked: the order of trials and units" in printed
    with pytest.raises(MissingFileError):
        submit(absent, "--check", path, "--score")
    for factor in (50, 0.25, 2):
        with h5py.File(path, "a") as file:
            file["mc_maze_20/eval_rates_heldout"][()] = factor * rates
        with pytest.raises(DataError, match=r"mc_maze_20/eval_rates_heldout of .* times that of"):
            submit(absent, "--check", path)


def test_session_is_submitted_under_official_name(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_with_results(
        single_run(runs / "mc_rtt_baseline"), tmp_path / "run", lambda results: results.update(session="own")
    )
    submit(run, "--output", tmp_path / "own.h5")
    assert "note: own_20 is not a dataset of NLB'21" in capsys.readouterr().out
    submit(run, "--output", tmp_path / "s.h5", "--name", "mc_rtt")
    assert "note:" not in capsys.readouterr().out
    files = [h5py.File(tmp_path / name) for name in ("own.h5", "s.h5")]
    assert [set(file) for file in files] == [{"own_20"}, {"mc_rtt_20"}]


def test_pushing_simulated_session_raises(runs: Path, tmp_path: Path) -> None:
    run = copy_with_results(
        single_run(runs / "mc_rtt_baseline"), tmp_path / "run", lambda r: data_of(r).update(source="simulated")
    )
    with pytest.raises(ConfigError, match="on a simulated session, which EvalAI does not score"):
        submit(run, "--output", tmp_path / "s.h5", "--push")


def data_of(results: dict[str, Any]) -> dict[str, Any]:
    return results["config"]["data"]["init_args"]


def test_written_file_is_pushed(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[tuple[Path, str]] = []

    def push(path: Path, phase: str, environment: Any) -> str:
        assert path.exists()
        pushed.append((path, phase))
        return "taken"

    monkeypatch.setattr("blend_pl.submission.command.push_to_evalai", push)
    submit(runs / "test/mc_maze_baseline", "--output", tmp_path / "s.h5", "--push")
    assert pushed == [(tmp_path / "s.h5", "test")]


def change_rates(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    """Returns a patch that changes the predicted rates."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        from blend_pl.systems import Student

        predict_step = Student.predict_step
        patch.setattr(Student, "predict_step", lambda self, *arguments: change(predict_step(self, *arguments)))

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rates: rates * torch.nan, "rates_heldin of .* NaN or infinite"),
        (lambda rates: rates / 0.02, "in Hz"),
        (lambda rates: rates.log(), "negative rates"),
    ],
)
def test_invalid_rates_leave_existing_file_unchanged(
    runs: Path, tmp_path: Path, change: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_rates(change)(monkeypatch)
    (tmp_path / "s.h5").write_bytes(b"an earlier one")
    with pytest.raises(DataError, match=message) as raised:
        submit(single_run(runs / "mc_rtt_baseline"), "--output", tmp_path / "s.h5")
    assert f"{tmp_path / 's.h5'}" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert (tmp_path / "s.h5").read_bytes() == b"an earlier one"


def test_incompatible_runs_raise(runs: Path, data: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "s.h5")
    with pytest.raises(ConfigError, match=r"is of phase val, .* is of phase test; a file holds one phase"):
        submit(runs / "mc_maze_baseline", runs / "test/mc_maze_baseline", *output)
    with pytest.raises(ConfigError, match="--name takes one name, but the runs are of mc_maze, mc_rtt"):
        submit(runs / "mc_maze_baseline", runs / "mc_rtt_baseline", "--name", "mc_maze", *output)
    run = min((runs / "mc_maze_baseline").glob("seed*"))
    kind = {"class_path": "blend_pl.systems.Teacher"}
    teacher = copy_with_results(run, tmp_path / "teacher", lambda results: results["config"]["model"].update(kind))
    with pytest.raises(TeacherError, match=r"teacher is a teacher, which sees the data it is scored on"):
        submit(run, teacher, *output)
    without_network = copy_with_results(run, tmp_path / "glm", lambda results: results.update(checkpoint=None))
    with pytest.raises(ConfigError, match="glm is a baseline without a checkpoint; name runs of networks"):
        submit(without_network, *output)
    with pytest.raises(DataError, match="holds no finished run"):
        submit(data, *output)
    shutil.copytree((data / TRAIN_FILE).parent, tmp_path / "data")
    with h5py.File(tmp_path / "data" / Path(TRAIN_FILE).name, "a") as file:
        file["units/spike_times"][...] += 0.1
    other = copy_with_results(
        run, tmp_path / "other", lambda results: data_of(results).update(root=str(tmp_path / "data"))
    )
    with pytest.raises(DataError, match="have different data under the name mc_maze"):
        submit(run, other, *output)
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize("missing", ["checkpoint", "session", "config"])
def test_incomplete_results_raise(runs: Path, tmp_path: Path, missing: str) -> None:
    run = copy_with_results(
        single_run(runs / "mc_rtt_baseline"), tmp_path / "run", lambda results: results.pop(missing)
    )
    with pytest.raises(BlendError, match=f"results.json lacks '{missing}'; run the experiment again"):
        submit(run)
