"""Integration tests of LFP experiments, from files to velocity decoded in held-out sessions."""

import json
import math
from pathlib import Path

import pytest
from helpers.cli import EXPERIMENTS, call, checkpoint, differing, experiment, settings_of, weights
from helpers.lfp import NETWORK, small_stages
from helpers.lfp_files import write_lfp_nwb

from blend_pl.errors import ConfigError, TeacherError
from blend_pl.report import write_report
from blend_pl.systems.checkpoint import load_system

SETS = ("simulated_lfp", "makin", "flint")
SYSTEMS = {
    "spike_teacher": "SpikeTeacher",
    "finetuned": "SingleSessionTeacher",
    "lfp_single_session": "SingleSessionStudent",
    "lfp_multi_session": "LFPStudent",
    "distilled_single_session": "SingleSessionStudent",
    "distilled_multi_session": "LFPStudent",
    "supervised_baseline": "LFPDecoder",
    "supervised": "LFPDecoder",
    "multimodal": "Multimodal",
}
"""System of each arm."""
DISTILLED = ("distilled_single_session", "distilled_multi_session", "supervised")
COMPOSITIONS = {(name, arm): experiment(name, arm) for name in SETS for arm in SYSTEMS}
SESSIONS = ["indy_20160622_01", "indy_20160624_03", "indy_20160627_01", "e1_1", "e2_1", "e2_2"]
NEW = {"indy_20160622_01", "e1_1"}
PREVIOUS_STAGE = {"finetuned": "spike_teacher", **dict.fromkeys(DISTILLED, "finetuned")}
ARMS_FAST = ("distilled_single_session", "finetuned", "spike_teacher", "lfp_single_session")
ARMS_SLOW = ("multimodal", "lfp_multi_session", "distilled_multi_session", "supervised_baseline", "supervised")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lfp") / "runs"


def arguments(output: Path, arm: str) -> list[str]:
    """Returns arguments of `fit` for a small simulated set and small networks of an arm and of the stages before it."""
    return [*small_stages(len(stages_before(arm))), f"--data.root={output.parent / 'data'}", f"--output={output}"]


def stages_before(arm: str) -> list[str]:
    """Returns the arms that an arm depends on, the last stage first."""
    previous = PREVIOUS_STAGE.get(arm)
    return [] if previous is None else [previous, *stages_before(previous)]


def run_of(output: Path, arm: str) -> Path:
    """Returns the run of an arm, trained once for all tests, after the stages that it depends on."""
    path = experiment("simulated_lfp", arm)
    folder = output / settings_of(path)["name"]
    if not folder.exists():
        if arm in PREVIOUS_STAGE:
            run_of(output, PREVIOUS_STAGE[arm])
        call("fit", "--config", path, *arguments(output, arm))
    (run,) = folder.glob("seed0-*")
    return run


@pytest.mark.parametrize("arm", [*ARMS_FAST, *(pytest.param(arm, marks=pytest.mark.slow) for arm in ARMS_SLOW)])
def test_run_scores_every_session(output: Path, arm: str) -> None:
    results = json.loads((run_of(output, arm) / "results.json").read_text())
    scores = results["scores"]
    assert {name for name in scores if name.startswith("r2/")} == {f"r2/{name}" for name in SESSIONS}
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["new_r2"] == pytest.approx(sum(scores[f"r2/{name}"] for name in NEW) / 2)
    assert ("cka" in scores) == (arm in DISTILLED)
    trained = {member["name"] for member in checkpoint(run_of(output, arm))["session"]["sessions"]}
    assert trained == set(SESSIONS) - (set() if arm == "lfp_single_session" else NEW)


def test_student_uses_the_teacher_of_the_stage_before(output: Path) -> None:
    results = json.loads((run_of(output, "distilled_single_session") / "results.json").read_text())
    assert results["teachers"] == [f"{run_of(output, 'finetuned')}/checkpoints/best.ckpt"]
    assert run_of(output, "spike_teacher").exists()


@pytest.mark.slow
def test_stages_train_one_another_on_demand(output: Path) -> None:
    """The student trains its teachers first; all weights equal those of separate runs."""
    elsewhere = output.parent / "chain"
    call(
        "fit",
        "--config",
        experiment("simulated_lfp", "distilled_single_session"),
        *arguments(output, "distilled_single_session"),
        f"--output={elsewhere}",
    )
    run = run_of(elsewhere, "distilled_single_session")
    results = json.loads((run / "results.json").read_text())
    assert results["teachers"] == [f"{run_of(elsewhere, 'finetuned')}/checkpoints/best.ckpt"]
    assert run_of(elsewhere, "spike_teacher").exists()
    for arm in ("spike_teacher", "finetuned", "distilled_single_session"):
        assert not differing(weights(run_of(elsewhere, arm)), weights(run_of(output, arm)))


def test_checkpoint_of_a_student_has_no_teacher(output: Path) -> None:
    run = run_of(output, "distilled_single_session")
    assert not any("teacher" in name for name in weights(run))
    student = load_system(run / "checkpoints" / "best.ckpt")
    assert type(student).__name__ == "SingleSessionStudent"


def test_test_command_reproduces_the_scores(output: Path) -> None:
    run = run_of(output, "distilled_single_session")
    cli = call("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt")
    repeated = {name.removeprefix("eval/"): float(score) for name, score in cli.trainer.callback_metrics.items()}
    scores = json.loads((run / "results.json").read_text())["scores"]
    same = {name: score for name, score in scores.items() if name.startswith("r2/")}
    assert {name: repeated[name] for name in same} == pytest.approx(same, rel=1e-4)
    with pytest.raises(ConfigError, match="`test` decodes velocity"):
        call("predict", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt")


def test_report_has_one_table_with_every_session(output: Path) -> None:
    write_report([str(run_of(output, arm)) for arm in ARMS_FAST])
    page = (output / "report" / "report.md").read_text()
    assert page.count("## simulated_lfp: scored on test segments") == 1
    header = next(line for line in page.splitlines() if "indy_20160624_03" in line)
    assert "| indy_20160622_01 (new) |" in header
    assert "mean ± sd over trained sessions" in header
    assert "mean ± sd over new sessions" in header
    assert "Δ velocity R2" in page
    table = page.split("Velocity R2 of each session")[1].split("\n\n")[1]
    inputs = dict(line.removeprefix("| ").split(" | ")[:2] for line in table.splitlines())
    assert (
        inputs.items()
        >= {
            "spike_teacher": "spikes",
            "finetuned": "spikes",
            "distilled_single_session": "LFP",
            "single_session": "LFP",
        }.items()
    )
    assert "simulated_lfp_spike_teacher, simulated_lfp_finetuned: these models need spikes at inference" in page
    assert "one network per session, trained on the LFP of every session" in page
    assert "No rates" not in page


def test_teacher_of_fewer_sessions_raises(output: Path, tmp_path: Path) -> None:
    teacher = run_of(output, "finetuned")
    wrong = [f"--output={tmp_path}", "--data.train_on=all", f"--distillation.teacher={teacher}"]
    with pytest.raises(TeacherError, match=r"was trained on simulated_lfp \(4 session\(s\)"):
        call(
            "fit",
            "--config",
            experiment("simulated_lfp_distilled_multi_session"),
            *arguments(output, "distilled_multi_session"),
            *wrong,
        )


@pytest.mark.slow
def test_all_stages_run_on_custom_nwb_files(tmp_path: Path) -> None:
    """Runs the command in configs/data/own_lfp.yaml on files written by pynwb."""
    example = EXPERIMENTS.parent / "configs/data/own_lfp.yaml"
    for name in ("day1", "day2", "my_last_session"):
        write_lfp_nwb(tmp_path / f"data/{name}.nwb", seconds=60, velocity="hand_vel", lfp_rate=1000.0)
    small = [f"--model.backbone.{key}={value}" for key, value in {**NETWORK, "d_model": 64, "patch": 64}.items()]
    small += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    before = json.dumps([*small, f"--teacher_args={json.dumps(small)}"])
    arguments = [*small, f"--teacher_args={before}", f"--data.root={tmp_path / 'data'}", f"--output={tmp_path}"]
    call("fit", "--config", experiment("makin_distilled_multi_session"), "--config", str(example), *arguments)
    (results,) = tmp_path.glob("makin_distilled_multi_session_own_lfp/*/results.json")
    scores = json.loads(results.read_text())["scores"]
    assert {name for name in scores if "/" in name} == {"r2/day1", "r2/day2", "r2/my_last_session"}
    assert all(math.isfinite(score) for score in scores.values())


@pytest.mark.parametrize(("family", "arm"), COMPOSITIONS)
def test_composition_has_the_settings_of_its_name(family: str, arm: str) -> None:
    path = COMPOSITIONS[family, arm]
    settings = settings_of(path)
    model = settings["model"]
    assert model["class_path"] == f"blend_pl.systems.{SYSTEMS[arm]}"
    assert settings["data"]["init_args"]["spec"]["name"] == family
    assert (settings["data"]["init_args"].get("train_on") == "all") == (arm == "lfp_single_session")
    backbone = model["init_args"]["backbone"]
    assert backbone["class_path"] == "blend_pl.models.PatchAutoencoder"
    sees_spikes = arm in ("spike_teacher", "finetuned")
    assert ("embedding" in backbone.get("init_args", {})) == sees_spikes
    assert ("distillation" in settings) == (arm in DISTILLED)
    if "distillation" in settings:
        assert settings["distillation"]["teacher"] == str(COMPOSITIONS[family, "finetuned"])
        assert 1 / settings["distillation"]["alpha"] == pytest.approx(1 + 5, rel=1e-6)
    assert ("pretrained" in settings) == (arm == "finetuned")
    if "pretrained" in settings:
        assert settings["pretrained"]["model"] == str(COMPOSITIONS[family, "spike_teacher"])
