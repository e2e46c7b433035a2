"""Tests of the representations of data, which print no tensors."""

from dataclasses import replace

import torch
from helpers.results import make_results
from helpers.sessions import batch_of, session_of

from blend_pl.data import NLBDataModule
from blend_pl.data.signature import Signature


def test_module_lists_its_trials(tiny: NLBDataModule) -> None:
    expected = "NLBDataModule(tiny, bins of 20 ms, phase val; trials: 19 fit, 5 selection, 24 train, 8 eval)"
    assert repr(tiny) == str(tiny) == expected
    assert repr(NLBDataModule(tiny.spec)) == "NLBDataModule(tiny, bins of 5 ms, phase val; not set up)"


def test_session_gives_its_sizes() -> None:
    session = session_of(trials=4, bins=5, forward=5, heldin=3, heldout=2)
    observed = session.observed.clone()
    observed[:2] = False
    assert repr(replace(session, observed=observed)) == (
        "SessionTensors(4 trials of 5 + 5 bins of 20 ms, 3 of 5 units held in, 2 channels of behavior, 0 conditions, "
        "50 % recorded)"
    )


def test_batch_gives_shapes() -> None:
    text = repr(batch_of(session_of(trials=4)).without_privileged())
    assert text.startswith("Batch(observed=float32 (4, 5, 3), target=float32 (4, 7, 5), target_valid=bool (4, 7, 5)")
    assert "privileged" not in text
    assert "tensor" not in text


def test_signature_omits_ids_of_units() -> None:
    signature = Signature("reach", 20, 30, 10, 2, 2, tuple(range(100, 103)))
    assert repr(signature) == f"Signature({signature})"
    assert "100" not in repr(signature)


def test_arrays_give_their_splits() -> None:
    module = NLBDataModule.from_arrays(torch.ones(10, 6, 4), bin_ms=10, split=["train"] * 6 + ["val"] * 3 + ["none"])
    assert repr(module.arrays).endswith("100 % recorded); trials: 6 train, 3 val, 0 test, 1 none)")


def test_results_give_their_scores() -> None:
    results = make_results()
    assert repr(results).startswith(f"Results({results.name}, {results.role} of {results.session}, seed")
    assert len(repr(results)) < 250
