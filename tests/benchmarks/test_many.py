"""A step of K models at once beside a step of one, at MC_Maze's size on a GPU and at the demo's on a CPU."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.sessions import session_of
from helpers.systems import trainer
from measure import DEVICE
from test_step import Clock, fastest

from blend_pl.data.loader import Standardisation, TrialBatches, TrialSampler
from blend_pl.data.session import SessionTensors, Signature
from blend_pl.many.crowd import Crowd
from blend_pl.many.member import Member
from blend_pl.many.selection import Selection
from blend_pl.models import NDT
from blend_pl.models.embedding import Linear
from blend_pl.systems import Student

pytestmark = pytest.mark.benchmark

STEPS = 8
ON_GPU = DEVICE != "cpu"
BATCH = 64 if ON_GPU else 16
SIZES = (
    {"bins": 140, "forward": 40, "heldin": 137, "heldout": 45} if ON_GPU else {"bins": 35, "heldin": 45, "heldout": 15}
)
NETWORK = NDT if ON_GPU else partial(NDT, layers=2, embedding=partial(Linear, width=64))
MEMBERS = (1, 4, 16)


class Trials(L.LightningDataModule):
    """Trials that lie on the device, for one model, or the same for each of several."""

    def __init__(self, session: SessionTensors, members: int | None = None) -> None:
        super().__init__()
        self.session, self.members = session, members
        self.signature = Signature.of("simulated", session)

    def train_dataloader(self) -> TrialBatches | list[TrialBatches]:
        scale = Standardisation.fit(self.session.behavior)
        sampler = TrialSampler(len(self.session), BATCH, shuffle=True)
        one = TrialBatches(self.session, scale, sampler)
        return one if self.members is None else [one] * self.members


def seconds(module: L.LightningModule, data: L.LightningDataModule, folder: Path) -> float:
    clock = Clock()
    settings = {"accelerator": "auto", "devices": 1, "gradient_clip_val": 200.0}
    trainer(folder, 1, clock, **settings).fit(module, datamodule=data)
    return fastest(clock.marks)


def test_many(tmp_path: Path) -> None:
    session = session_of(trials=BATCH * STEPS, **SIZES).to(torch.device(DEVICE))
    torch.manual_seed(0)
    alone = seconds(Student(NETWORK), Trials(session), tmp_path)
    print(f"\non {DEVICE}, {torch.get_num_threads()} threads: one model {alone:.4f} s a step")
    for count in MEMBERS:
        members = []
        for seed in range(count):
            system = Student(NETWORK)
            system.build(Trials(session).signature)
            chosen = Selection(("val/loss", "min"), ("val/loss", "min"), 1, 0.0)
            members.append(Member(system, seed, [], chosen, tmp_path / "best.ckpt", []))
        together = seconds(Crowd(members), Trials(session, count), tmp_path)
        print(f"{count} at once: {together:.4f} s, {together / alone:.2f} of one's (goal for 16 on an H100: 2)")
