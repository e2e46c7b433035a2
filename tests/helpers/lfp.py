"""In-memory sessions of spikes and LFP, and small systems for them."""

import json
from functools import partial
from typing import Any

import numpy as np
import torch

from blend_pl.data.lfp.module import MultiSessionDataModule
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.spec import LFPSpec
from blend_pl.data.signature import Signature
from blend_pl.models import PatchAutoencoder
from blend_pl.models.layers.patches import CountPatches, WaveformPatches
from blend_pl.systems import Multimodal, MultiSessionSystem, SpikeTeacher

SIZES = {"a1": ("A", 20, 13), "a2": ("A", 27, 9), "b1": ("B", 18, 24), "b2": ("B", 30, 17)}
"""Subject, units and LFP channels of each session."""

NETWORK: dict[str, Any] = {
    "patch": 8,
    "d_model": 32,
    "num_layers": 2,
    "num_heads": 2,
    "predictor_d_model": 16,
    "predictor_num_layers": 1,
    "predictor_num_heads": 2,
}


def recording(name: str, n_bins: int = 5000, seed: int = 0) -> CrossModalRecording:
    """Returns a session of slow latents with informative spikes, a noisy LFP, and a linear readout as velocity."""
    subject, units, channels = SIZES[name]
    rng = np.random.default_rng((seed, ord(subject), sum(map(ord, name))))
    subject_rng = np.random.default_rng(ord(subject))
    rotation = np.exp(2j * np.pi * np.array([0.6, 1.1, 1.7]) / 100) * 0.98
    noise = rng.normal(size=(n_bins, 3, 2)) @ np.array([1, 1j])
    latent = np.zeros((n_bins, 3), complex)
    for t in range(1, n_bins):
        latent[t] = rotation * latent[t - 1] + 0.14 * noise[t]
    latents = np.concatenate([latent.real, latent.imag], 1)
    spikes = rng.poisson(np.exp(-1.5 + 0.8 * latents @ rng.normal(size=(6, units))).clip(max=4)).astype(np.uint8)
    common = np.cumsum(rng.normal(size=(n_bins, 1)), 0) * 0.02
    lfp = latents @ subject_rng.normal(size=(6, 40))[:, :channels] + 3 * rng.normal(size=(n_bins, channels)) + common
    return CrossModalRecording(
        name=name,
        subject=subject,
        spikes=spikes,
        lfp=lfp.astype(np.float32),
        behavior=(latents @ np.random.default_rng(1).normal(size=(6, 2))).astype(np.float32),
        unit_id=tuple(map(str, range(units))),
        channel_id=tuple(map(str, range(channels))),
    )


class InMemory(MultiSessionDataModule):
    """Data module of given recordings."""

    def __init__(self, recordings: list[CrossModalRecording], **settings: Any) -> None:
        super().__init__(LFPSpec("in_memory", makin=["none"]), **{"length": 50, "batch_size": 8, **settings})
        self.recordings = recordings

    def read(self) -> list[CrossModalRecording]:
        return self.recordings


def in_memory(*names: str, n_bins: int = 3000, **settings: Any) -> InMemory:
    """Returns a data module of the named sessions, all by default, after setup."""
    module = InMemory([recording(name, n_bins) for name in names or SIZES], **settings)
    module.setup("fit")
    return module


def make_lfp(
    system_class: type[MultiSessionSystem], signature: Signature | None = None, **settings: Any
) -> MultiSessionSystem:
    """Returns a small system, built if a signature is given."""
    torch.manual_seed(0)
    embedding = CountPatches if issubclass(system_class, SpikeTeacher) else WaveformPatches
    if issubclass(system_class, Multimodal):
        settings = {"unit_patch": 8, **settings}
    system = system_class(partial(PatchAutoencoder, embedding=embedding, **NETWORK), **settings)
    if signature is not None:
        system.build(signature)
    return system


def small_stages(n_teachers: int = 2) -> list[str]:
    """Returns arguments of `fit` for a small simulated set and a small network, for all stages of an experiment.

    Args:
        n_teachers: number of stages before the last one; each is the teacher of the next.
    """
    simulation = {"seconds": 40, "n_units": [8, 12], "n_channels": [6, 14], "rate_hz": 300}
    network = [
        *("--model.backbone.d_model=64", "--model.backbone.num_layers=1", "--model.backbone.num_heads=2"),
        *("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"),
    ]
    stage = network
    for _ in range(n_teachers):
        stage = [*network, f"--teacher_args={json.dumps(stage)}"]
    return [*stage, *(f"--data.simulation.{key}={value}" for key, value in simulation.items())]
