from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.sessions import batch_of, session_of
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.distillation import SyntheticTrials
from blend_pl.errors import RangeError, TeacherError

LOG_RATE = 1.5


class ConstantGenerator:
    """Generates trials with one log rate, plus the first channel of behavior."""

    def sample(self, behavior: Tensor, behavior_valid: Tensor, generator: torch.Generator) -> Tensor:
        return (LOG_RATE + behavior[..., :1]).expand(-1, -1, 5)


def synthetic_of(batch: Batch, share: float, max_log_rate: float = 10.0, **settings: Any) -> SyntheticTrials:
    synthetic = SyntheticTrials(share, **settings)
    synthetic.prepare([batch], torch.full((len(batch), 7, 5), max_log_rate))
    return synthetic


@pytest.fixture
def batch() -> Batch:
    recorded = batch_of(session_of(40))
    valid = recorded.target_valid.clone()
    valid[::2, :, 1] = False
    return replace(recorded, target_valid=valid, teacher_prediction=torch.full_like(recorded.target, -5.0))


def replaced(batch: Batch, share: float, seed: int = 0, **settings: Any) -> Batch:
    result = replace(batch)
    synthetic_of(batch, share, **settings).replace_trials(result, ConstantGenerator(), seed)
    return result


def test_share_of_zero_changes_nothing(batch: Batch) -> None:
    result = replaced(batch, 0.0)
    for name in ("observed", "target", "target_valid", "teacher_prediction", "privileged"):
        torch.testing.assert_close(getattr(result, name), getattr(batch, name))


def test_synthetic_trials_have_behavior_rates_and_counts_of_one_trial(batch: Batch) -> None:
    result = replaced(batch, 1.0)
    assert result.privileged is not None
    assert result.teacher_prediction is not None
    assert batch.privileged is not None
    expected = (LOG_RATE + result.privileged[..., :1]).expand(-1, -1, 5)
    torch.testing.assert_close(result.teacher_prediction, expected)
    torch.testing.assert_close(result.target, expected.exp() * result.target_valid)
    sources = [int((trial == batch.privileged).all((1, 2)).nonzero()) for trial in result.privileged]
    assert len(set(sources)) > 10
    assert torch.equal(result.target_valid, batch.target_valid[sources])
    assert torch.equal(
        result.observed[~result.target_valid[:, :5, :3]], torch.zeros(int((~result.target_valid[:, :5, :3]).sum()))
    )
    seen = result.target_valid[:, :5, :3]
    assert float(result.observed[seen].mean()) == pytest.approx(float(result.target[:, :5, :3][seen].mean()), rel=0.1)
    assert torch.equal(result.observed, result.observed.round())


def test_only_synthetic_rows_are_replaced(batch: Batch) -> None:
    result = replaced(batch, 0.5)
    assert result.teacher_prediction is not None
    is_recorded = (result.teacher_prediction == -5.0).all(2).all(1)
    assert 5 < int(is_recorded.sum()) < 35
    assert torch.equal(result.observed[is_recorded], batch.observed[is_recorded])
    assert torch.equal(result.target[is_recorded], batch.target[is_recorded])


def test_trials_do_not_depend_on_ranks(batch: Batch) -> None:
    whole = replaced(batch, 0.5, seed=3)
    rows = torch.arange(1, 40, 2)
    part = replace(
        batch,
        **{name: getattr(batch, name)[rows] for name in ("observed", "target", "target_valid", "index", "privileged")},
        privileged_valid=batch.privileged_valid[rows] if batch.privileged_valid is not None else None,
        teacher_prediction=batch.teacher_prediction[rows] if batch.teacher_prediction is not None else None,
        global_rows=rows,
    )
    synthetic_of(batch, 0.5).replace_trials(part, ConstantGenerator(), 3)
    torch.testing.assert_close(part.observed, whole.observed[rows])
    torch.testing.assert_close(part.target, whole.target[rows])


def test_rates_do_not_exceed_those_of_recorded_trials(batch: Batch) -> None:
    result = replaced(batch, 1.0, max_log_rate=0.5)
    assert result.teacher_prediction is not None
    assert float(result.teacher_prediction.max()) == 0.5


def test_seeds_draw_other_trials(batch: Batch) -> None:
    assert not torch.equal(replaced(batch, 1.0, seed=0).observed, replaced(batch, 1.0, seed=1).observed)


def test_trials_without_behavior_are_no_source(batch: Batch) -> None:
    assert batch.privileged_valid is not None
    valid = batch.privileged_valid.clone()
    valid[10:] = False
    result = replaced(replace(batch, privileged_valid=valid), 1.0)
    assert result.privileged is not None
    assert batch.privileged is not None
    sources = {int((trial == batch.privileged).all((1, 2)).nonzero()) for trial in result.privileged}
    assert sources <= set(range(10))


def test_amplitudes_vary_within_the_range_of_the_recording(batch: Batch) -> None:
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    missing = torch.zeros_like(batch.privileged_valid)
    missing[3, 2] = True  # Does not count for the range.
    batch = replace(
        batch,
        privileged=batch.privileged.masked_fill(missing, 100.0),
        privileged_valid=batch.privileged_valid & ~missing,
    )
    same, changed = (replaced(batch, 1.0, amplitude_sd=sd).privileged for sd in (0.0, 0.3))
    recorded = batch.privileged.where(~missing, 0.0)
    assert same is not None
    assert changed is not None
    assert torch.equal(changed[same == 100.0], same[same == 100.0])
    same, changed = same.where(same != 100.0, 0.0), changed.where(same != 100.0, 0.0)
    ratio = changed / same
    inside = (changed > recorded.amin((0, 1))) & (changed < recorded.amax((0, 1))) & (same != 0)
    assert (changed >= recorded.amin((0, 1))).all()
    assert (changed <= recorded.amax((0, 1))).all()
    per_trial = [trial[mask] for trial, mask in zip(ratio, inside, strict=True) if mask.any()]
    assert all(torch.allclose(values, values[0].expand_as(values), rtol=1e-3) for values in per_trial)
    factors = torch.stack([values[0] for values in per_trial])
    assert 0.15 < factors.log().std().item() < 0.5


def test_shifts_repeat_the_first_or_last_value(batch: Batch) -> None:
    same, shifted = (replaced(batch, 1.0, max_shift=max_shift) for max_shift in (0, 2))
    for before, after in zip(
        (same.privileged, same.privileged_valid), (shifted.privileged, shifted.privileged_valid), strict=True
    ):
        assert before is not None
        assert after is not None
        bins = torch.arange(before.shape[1])
        candidates = torch.stack([before[:, (bins + shift).clamp(0, len(bins) - 1)] for shift in range(-2, 3)], 1)
        assert (candidates == after[:, None]).flatten(2).all(2).any(1).all()
    assert not torch.equal(same.privileged, shifted.privileged)


def test_session_without_measured_behavior_raises(batch: Batch) -> None:
    assert batch.privileged_valid is not None
    with pytest.raises(TeacherError, match="no training trial has any"):
        synthetic_of(replace(batch, privileged_valid=torch.zeros_like(batch.privileged_valid)), 1.0)


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"amplitude_sd": -0.1}, {"max_shift": -1}])
def test_settings_out_of_range_raise(settings: dict[str, Any]) -> None:
    with pytest.raises(RangeError):
        SyntheticTrials(**settings)
