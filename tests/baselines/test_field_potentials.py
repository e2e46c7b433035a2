"""Linear decoding of velocity from filtered field potentials."""

import numpy as np
import pytest
import torch
from helpers.lfp import SIZES, InMemory, in_memory, recording

from blend_pl.baselines.field_potentials import LINEAR_DECODERS, decode_field_potentials
from blend_pl.models.layers.filtered_patches import gaussian_filters


def test_scores_of_trained_and_held_out_sessions_are_means() -> None:
    scores = decode_field_potentials(in_memory(held_out=["a2", "b2"]), LINEAR_DECODERS["smoothed LFP"])
    assert {key for key in scores if key.startswith("r2/")} == {f"r2/{name}" for name in SIZES}
    assert scores["vel_r2"] == pytest.approx(np.mean([scores["r2/a1"], scores["r2/b1"]]))
    assert scores["new_r2"] == pytest.approx(np.mean([scores["r2/a2"], scores["r2/b2"]]))


def test_derivatives_decode_a_quarter_cycle() -> None:
    """A velocity with the phase of the derivative of the LFP is decoded only with derivatives."""
    source = recording("a1", 4000)
    phase = 2 * np.pi * np.arange(4000) / 50
    noise = 0.01 * np.random.default_rng(0).standard_normal((4000, 13))
    source.lfp[:] = np.sin(phase)[:, None] + noise
    source.behavior[:] = np.cos(phase)[:, None]
    datamodule = InMemory([source])
    datamodule.setup("fit")
    filters = gaussian_filters((4.0,))
    assert decode_field_potentials(datamodule, filters[:1])["vel_r2"] < 0.3
    assert decode_field_potentials(datamodule, filters)["vel_r2"] > 0.8


def test_missing_velocity_is_ignored() -> None:
    source, other = (recording("a1", 3000) for _ in range(2))
    other.behavior[::7] = np.nan
    scores = []
    for values in (source, other):
        datamodule = InMemory([values])
        datamodule.setup("fit")
        scores.append(decode_field_potentials(datamodule, LINEAR_DECODERS["filtered LFP"])["vel_r2"])
    assert torch.isfinite(torch.tensor(scores)).all()
    assert scores[1] == pytest.approx(scores[0], abs=0.05)
