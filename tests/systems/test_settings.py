"""Settings of systems that are built in Python, and their checkpoints."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.systems import trainer
from torch import nn

from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.errors import TeacherError
from blend_pl.likelihoods import Poisson
from blend_pl.masking import Masking
from blend_pl.models import LFADS, NDT, STNDT, Dims
from blend_pl.models.layers.embedding import LinearEmbedding
from blend_pl.models.layers.fusion import FiLM
from blend_pl.systems import PopulationSystem, Student, Teacher
from blend_pl.systems.checkpoint import load_system
from blend_pl.systems.settings import NotDescribableError, describe

SMALL = {"num_layers": 1, "num_heads": 1, "dim_feedforward": 8}


class Named(Student):
    """A student of a user with one more argument."""

    def __init__(self, *args: Any, label: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label = label


@dataclass
class Pair:
    first: type
    second: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ((1, "a", True), [1, "a", True]),
        ({"a": 0.5}, {"a": 0.5}),
        (nn.Linear, {"class_path": "torch.nn.modules.linear.Linear"}),
        (
            partial(NDT, num_layers=3, embedding=partial(LinearEmbedding, d_model=4)),
            {
                "class_path": "blend_pl.models.ndt.NDT",
                "init_args": {
                    "num_layers": 3,
                    "embedding": {
                        "class_path": "blend_pl.models.layers.embedding.LinearEmbedding",
                        "init_args": {"d_model": 4},
                    },
                },
            },
        ),
        (Poisson(), {"class_path": "blend_pl.likelihoods.Poisson"}),
        (Pair(dict, 2), {"first": {"class_path": "builtins.dict"}, "second": 2}),
    ],
)
def test_values_are_described_as_settings(value: object, expected: object) -> None:
    assert describe(value) == expected


@pytest.mark.parametrize("value", [lambda: 0, torch.zeros(2), partial(NDT, Dims(1, 1, 1, 1)), partial(len)])
def test_functions_and_tensors_cannot_be_described(value: object) -> None:
    with pytest.raises(NotDescribableError):
        describe(value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Student(partial(NDT, **SMALL)),
        lambda: Teacher(partial(NDT, **SMALL, fusion=FiLM), Masking(0.3, privileged_dropout=0.5)),
        lambda: Student(partial(STNDT, **SMALL), likelihood=Poisson(), optimizer=lambda p: torch.optim.SGD(p, 0.1)),
        lambda: Student(partial(LFADS, gen_dim=4, fac_dim=3, ic_enc_dim=4, ci_enc_dim=4, con_dim=4)),
        lambda: Named(partial(NDT, **SMALL), label="mine"),
    ],
    ids=["NDT", "teacher", "STNDT", "LFADS", "subclass"],
)
def test_checkpoint_of_a_plain_trainer_restores_the_system(build: Any, tiny: NLBDataModule, tmp_path: Path) -> None:
    system: PopulationSystem = build()
    training = trainer(tmp_path)
    training.fit(system, tiny)
    training.save_checkpoint(tmp_path / "plain.ckpt")
    restored = load_system(tmp_path / "plain.ckpt")
    assert type(restored) is type(system)
    assert vars(restored.masking) == vars(system.masking)  # type: ignore[union-attr, call-overload]
    batch = next(iter(tiny.predict_dataloader()))
    system.eval()
    with torch.no_grad():
        assert torch.equal(restored.predict_step(batch, 0), system.predict_step(batch, 0))
    again = type(system).load_from_checkpoint(tmp_path / "plain.ckpt", weights_only=True)
    assert all(torch.equal(value, system.state_dict()[name]) for name, value in again.state_dict().items())


def test_checkpoint_of_a_function_says_what_to_do(tiny: NLBDataModule, tmp_path: Path) -> None:
    training = trainer(tmp_path)
    training.fit(Student(lambda dims: NDT(dims, **SMALL)), tiny)
    training.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(TeacherError, match="an argument of its system is a function; train it with classes"):
        load_system(tmp_path / "plain.ckpt")


def test_repr_says_what_the_network_is_built_for(tiny: NLBDataModule) -> None:
    student = Student(partial(NDT, **SMALL))
    assert "no network yet" in repr(student)
    student.build(tiny.signature)
    assert str(tiny.signature) in repr(student)
