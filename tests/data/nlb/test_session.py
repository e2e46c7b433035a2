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
def test_selection_takes_the_same_trials_of_everything(trials: torch.Tensor) -> None:
    session = session_of()
    chosen = session.select(trials)
    for name in TRIAL_FIELDS:
        assert torch.equal(getattr(chosen, name), getattr(session, name)[trials])
    assert chosen.unit_id is session.unit_id


def test_concatenation_follows_the_recording() -> None:
    session = session_of()
    odd, even = session.select(torch.tensor([1, 3, 5])), session.select(torch.tensor([0, 2, 4]))
    both = concatenate_trials(odd, even)
    for name in TRIAL_FIELDS:
        assert torch.equal(getattr(both, name), getattr(session, name))


def test_valid_tells_the_groups_of_units_apart() -> None:
    session = session_of(heldin=3, heldout=2)
    session.observed[1, 2, 0] = False
    session.observed[2, 4:, 1] = False
    valid = session.valid_mask(torch.tensor([2, 1]))
    expected = torch.ones(2, 7, 5, dtype=torch.bool)
    expected[0, 4:, 3:] = False
    expected[1, 2, :3] = False
    assert torch.equal(valid, expected)


def test_moves_as_a_whole() -> None:
    moved = session_of().to(torch.device("meta"))
    tensors = [value for value in moved.to_dict().values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.n_heldin, moved.n_forward, moved.bin_ms) == (3, 2, 20)


def test_signature_is_read_off_the_session() -> None:
    signature = session_signature("maze", session_of())
    assert signature == Signature("maze", 20, 5, 2, 3, 2, (0, 1, 2, 3, 4))
    assert signature.n_units == 5
    assert str(signature) == "maze (3 of 5 units held in, 5 + 2 bins of 20 ms, 2 privileged channels)"


SIGNATURE = Signature("maze", 20, 5, 2, 3, 2, (0, 1, 2, 3, 4))


@pytest.mark.parametrize("change", [{"name": "other"}, {"n_privileged": 0}, {"unit_id": (7, 8, 9)}])
def test_model_runs_on_sessions_of_its_sizes(change: dict) -> None:
    assert SIGNATURE.is_compatible_with(replace(SIGNATURE, **change))


@pytest.mark.parametrize("change", [{"bin_ms": 5}, {"n_observed": 6}, {"n_forward": 0}, {"n_heldin": 4}])
def test_model_does_not_run_on_sessions_of_other_sizes(change: dict) -> None:
    assert not SIGNATURE.is_compatible_with(replace(SIGNATURE, **change))
