"""Tests of session tensors and signatures."""

from dataclasses import replace

import pytest
import torch
from helpers.sessions import session_of

from blend_pl.data.nlb.session import TRIAL_FIELDS, concatenate_trials, session_signature
from blend_pl.data.signature import Signature


def test_sizes() -> None:
    session = session_of(trials=6, bins=5, forward=2, heldin=3, heldout=2)
    assert (len(session), session.n_observed, session.n_units) == (6, 5, 5)


@pytest.mark.parametrize("trials", [torch.tensor([4, 0]), torch.tensor([True, False, False, True, False, False])])
def test_select_applies_to_all_fields(trials: torch.Tensor) -> None:
    session = session_of()
    selected = session.select(trials)
    for name in TRIAL_FIELDS:
        assert torch.equal(getattr(selected, name), getattr(session, name)[trials])
    assert selected.unit_id is session.unit_id


def test_concatenated_trials_are_in_recording_order() -> None:
    session = session_of()
    odd, even = session.select(torch.tensor([1, 3, 5])), session.select(torch.tensor([0, 2, 4]))
    merged = concatenate_trials(odd, even)
    for name in TRIAL_FIELDS:
        assert torch.equal(getattr(merged, name), getattr(session, name))


def test_valid_mask_distinguishes_groups_of_units() -> None:
    session = session_of(heldin=3, heldout=2)
    session.observed[1, 2, 0] = False
    session.observed[2, 4:, 1] = False
    valid = session.valid_mask(torch.tensor([2, 1]))
    expected = torch.ones(2, 7, 5, dtype=torch.bool)
    expected[0, 4:, 3:] = False
    expected[1, 2, :3] = False
    assert torch.equal(valid, expected)


def test_to_moves_all_tensors() -> None:
    moved = session_of().to(torch.device("meta"))
    tensors = [value for value in moved.to_dict().values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.n_heldin, moved.n_forward, moved.bin_ms) == (3, 2, 20)


def test_signature_of_a_session() -> None:
    signature = session_signature("maze", session_of())
    assert signature == Signature("maze", 20, 5, 2, 3, 2, (0, 1, 2, 3, 4))
    assert signature.n_units == 5
    assert str(signature) == "maze (3 of 5 units held in, 5 + 2 bins of 20 ms, 2 privileged channels)"


SIGNATURE = Signature("maze", 20, 5, 2, 3, 2, (0, 1, 2, 3, 4))


@pytest.mark.parametrize("change", [{"name": "other"}, {"n_privileged": 0}, {"unit_id": (7, 8, 9)}])
def test_compatible_with_sessions_of_equal_sizes(change: dict) -> None:
    assert SIGNATURE.is_compatible_with(replace(SIGNATURE, **change))


@pytest.mark.parametrize("change", [{"bin_ms": 5}, {"n_observed": 6}, {"n_forward": 0}, {"n_heldin": 4}])
def test_incompatible_with_sessions_of_other_sizes(change: dict) -> None:
    assert not SIGNATURE.is_compatible_with(replace(SIGNATURE, **change))
