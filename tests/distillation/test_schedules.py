import pytest

from blend_pl.distillation import LinearSchedule


@pytest.mark.parametrize(
    ("progress", "alpha"), [(0.0, 1.0), (0.2, 1.0), (0.3, 0.9), (0.45, 0.75), (0.7, 0.5), (0.9, 0.5), (1.0, 0.5)]
)
def test_schedule_is_linear_between_ends(progress: float, alpha: float) -> None:
    assert LinearSchedule(1.0, 0.5, 0.2, 0.7).value_at(progress) == pytest.approx(alpha)


def test_default_schedule_covers_training() -> None:
    assert [LinearSchedule(0.0, 1.0).value_at(p) for p in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]


def test_schedule_of_zero_length_is_a_step() -> None:
    ramp = LinearSchedule(0.0, 1.0, 0.5, 0.5)
    assert [ramp.value_at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 1.0, 1.0]


def test_equal_ends_give_constant() -> None:
    assert {LinearSchedule(0.3, 0.3).value_at(p / 10) for p in range(11)} == {0.3}


@pytest.mark.parametrize(("begin", "end"), [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1)])
def test_invalid_schedules_raise(begin: float, end: float) -> None:
    with pytest.raises(ValueError, match="start_fraction <= end_fraction"):
        LinearSchedule(0.0, 1.0, begin, end)
