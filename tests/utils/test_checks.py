"""Ranges of numeric arguments."""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from blend_pl.callbacks import Distillation, IdentityEvaluation, Multitask
from blend_pl.data import NLBDataModule
from blend_pl.data.calcium import BugeonDataModule
from blend_pl.data.calcium.spec import CalciumSpec, CellSplit
from blend_pl.data.lfp import MultiSessionDataModule
from blend_pl.data.lfp.spec import LFPSeriesNames, LFPSpec
from blend_pl.data.nlb.spec import (
    HeldOutSpec,
    JitterSpec,
    PsthSpec,
    SessionFiles,
    SessionSpec,
    SplitSpec,
    WindowSpec,
)
from blend_pl.distillation import LinearSchedule, SoftLoss
from blend_pl.errors import ConfigError, RangeError
from blend_pl.masking import Masking, TokenMasking
from blend_pl.models import LFADS, NDT, STNDT, NeuPRINT, PatchAutoencoder
from blend_pl.models.base import Dims
from blend_pl.models.layers.contrastive import ContrastiveLoss
from blend_pl.models.layers.embedding import CountEmbedding, LearnedPositions, LinearEmbedding
from blend_pl.models.layers.fusion import Concatenation, CrossAttention
from blend_pl.models.layers.patches import CountPatches, WaveformPatches
from blend_pl.models.session_network import SessionDims
from blend_pl.probes import EmbeddingFitConfig
from blend_pl.systems import Multimodal
from blend_pl.systems.schedule import WarmupCosine, WarmupExponential
from blend_pl.utils.checks import COUNT, DROPOUT, FRACTION, NON_NEGATIVE, OPEN_FRACTION, POSITIVE, Interval, check_range

DIMS = Dims(6, 8, 10, 12, context=2)
SESSION_DIMS = SessionDims.from_sessions({"a": 8}, 10)
OPTIMIZER = SGD([nn.Parameter()], 0.1)
SPEC = SessionSpec("own", SessionFiles("*.nwb"), WindowSpec(0, 100, "go"))


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "text"),
    [
        (FRACTION, [0, 0.5, 1], [-0.1, 1.1], "between 0 and 1"),
        (OPEN_FRACTION, [0.5], [0, 1], "above 0 and below 1"),
        (DROPOUT, [0, 0.99], [1, -1e-9], "at least 0 and below 1"),
        (COUNT, [1, 10**9], [0, -5], "at least 1"),
        (POSITIVE, [1e-9], [0, -1], "above 0"),
        (NON_NEGATIVE, [0, 3], [-1], "at least 0"),
        (Interval(0, 1, includes_low=False), [1], [0], "above 0 and at most 1"),
    ],
)
def test_interval(interval: Interval, inside: list[float], outside: list[float], text: str) -> None:
    assert all(value in interval for value in inside)
    assert not any(value in interval for value in (*outside, math.nan, math.inf, -math.inf))
    assert str(interval) == text


def test_error_names_argument_range_and_value() -> None:
    with pytest.raises(RangeError, match=r"^width must be at least 1, not 0$") as error:
        check_range(COUNT, height=2, depth=None, width=0)
    assert isinstance(error.value, ConfigError)
    assert isinstance(error.value, ValueError)


def all_outside(values: list[float], *names: str) -> dict[str, list[float]]:
    """Returns the same values for several arguments."""
    return {name: values for name in names}


OWNERS: dict[Callable[..., Any], dict[str, list[float]]] = {
    SoftLoss: {"tau": [0, -1]},
    partial(LinearSchedule, 0.5, 0.5): {"start": [1.5], "stop": [-0.1], "start_fraction": [-1], "end_fraction": [2]},
    partial(Distillation, "t.ckpt"): {"alpha": [1.5, -0.1]},
    Multitask: {"weight": [-1]},
    IdentityEvaluation: {"seed": [-1]},
    EmbeddingFitConfig: {
        "max_steps": [0],
        "lr": [0],
        "check_every": [0],
        "tolerance": [-1],
        "max_lr_drops": [-1],
    },
    Masking: {
        "ratio": [1.5, (0.2, 1.5)],
        "zero_ratio": [-1],
        "random_ratio": [2],
        "max_span": [0],
        "privileged_dropout": [1.1],
    },
    TokenMasking: {"ratio": [1]},
    partial(WarmupCosine, OPTIMIZER, 10): {"warmup": [-0.1, 1.1]},
    partial(WarmupExponential, OPTIMIZER, 10): {"warmup": [1.1], "final": [0, 2]},
    partial(Multimodal, PatchAutoencoder): {"unit_patch": [0], "lfp_weight": [-1]},
    partial(NDT, DIMS): {
        **all_outside([0], "num_layers", "num_heads", "dim_feedforward"),
        **all_outside([1.2, -0.1], "dropout", "dropout_embedding", "dropout_rates"),
    },
    partial(STNDT, DIMS): {
        **all_outside([0], "num_layers", "num_heads", "dim_feedforward"),
        **all_outside([1.2, -0.1], "dropout", "dropout_embedding", "dropout_rates"),
    },
    partial(NeuPRINT, DIMS): {
        **all_outside([0], "size", "activity", "num_layers", "num_heads", "dim_feedforward"),
        **all_outside([-1], "behavior_width"),
        "std": [-1],
        "frames_back": [-1],
        "dropout": [1],
    },
    partial(PatchAutoencoder, SESSION_DIMS): {
        **all_outside([0], "patch", "d_model", "num_layers", "num_heads"),
        **all_outside([0], "predictor_d_model", "predictor_num_layers", "predictor_num_heads"),
        "dropout": [1.2],
        "rope_base": [0],
    },
    partial(LFADS, DIMS): {
        **all_outside([0], "ic_enc_dim", "ci_enc_dim", "con_dim", "co_dim", "ic_dim", "gen_dim", "fac_dim"),
        **all_outside([-1], "kl_initial", "kl_inputs", "kl_increase_steps"),
        "dropout": [1.2],
        "cell_clip": [0.5],
    },
    partial(LinearEmbedding, 6): {"d_model": [0]},
    partial(CountEmbedding, 6): {"size": [0], "max_count": [0]},
    partial(LearnedPositions, 10, 6): {"std": [-1]},
    partial(Concatenation, 6, 2): {"size": [0]},
    partial(CrossAttention, 6, 2): {"num_heads": [0]},
    partial(CountPatches, 4, 8): {"max_count": [0]},
    partial(WaveformPatches, 4, 8): {"kernel": [0], "dilation": [0]},
    ContrastiveLoss: {"weight": [-1], "temperature": [0]},
    partial(NLBDataModule, SPEC): {"bin_ms": [0, -5], "batch_size": [0], "eval_batch_size": [-1], "holdout": [0, 1, 2]},
    partial(BugeonDataModule, CalciumSpec("own")): all_outside(
        [0], "window", "n_windows", "n_cells", "n_steps", "n_windows_eval"
    ),
    partial(MultiSessionDataModule, LFPSpec("own", ["indy"])): {
        **all_outside([0], "length", "batch_size", "eval_batch_size"),
        "split_seed": [-1],
    },
    partial(CalciumSpec, "own"): {"radius": [0], "train_time": [1]},
    CellSplit: {"seed": [-1], "max_match_distance": [-1], "train": [1], "val": [-0.1]},
    partial(LFPSpec, "own", ["indy"]): {"min_rate_hz": [-1]},
    LFPSeriesNames: {"line_hz": [0], "smoothing_ms": [-1]},
    partial(JitterSpec, "tp", 10): {"max_ms": [-1], "seed": [-1]},
    HeldOutSpec: {"seed": [-1]},
    SplitSpec: {"seed": [-1]},
}
"""Classes that a config can name, with values outside the range of each numeric argument."""

UNLIMITED = {"context_forward", "context_backward", "context_forward_ms", "context_backward_ms"}
"""Arguments that every number is allowed for: negative numbers mean no limit."""

CHECKED_BY_SPEC = {HeldOutSpec: {"fraction"}, SplitSpec: {"train", "val"}}
"""Arguments that `check_spec` checks."""


def cases() -> Iterator[Any]:
    for owner, values_by_name in OWNERS.items():
        name = owner.func.__name__ if isinstance(owner, partial) else owner.__name__
        for argument, values in values_by_name.items():
            for value in values:
                yield pytest.param(owner, argument, value, id=f"{name}-{argument}={value}")


@pytest.mark.parametrize(("owner", "argument", "value"), cases())
def test_constructor_refuses_value(owner: Callable[..., Any], argument: str, value: float) -> None:
    arguments = owner.args if isinstance(owner, partial) else ()
    cls = owner.func if isinstance(owner, partial) else owner
    names = list(inspect.signature(cls).parameters)[: len(arguments)]
    with pytest.raises((ConfigError, ValueError), match=rf"{argument}\b") as error:
        cls(**{**dict(zip(names, arguments, strict=True)), argument: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"window": WindowSpec(0, 100, "go", forward_ms=-5)},
        {"window": WindowSpec(0, 0, "go")},
        {"window": WindowSpec(0, 100, stride_ms=0)},
        {"held_out": HeldOutSpec(None, fraction=1.5)},
        {"split": SplitSpec(None, train=0.9, val=0.2)},
        {"psth": PsthSpec(["condition"], 0)},
    ],
)
def test_data_module_refuses_spec(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        NLBDataModule(replace(SPEC, **settings))


@pytest.mark.parametrize("owner", OWNERS, ids=lambda o: o.func.__name__ if isinstance(o, partial) else o.__name__)
def test_every_numeric_argument_has_a_range(owner: Callable[..., Any]) -> None:
    cls = owner.func if isinstance(owner, partial) else owner
    parameters = list(inspect.signature(cls).parameters.items())
    numeric = {
        name
        for name, parameter in parameters[len(owner.args) if isinstance(owner, partial) else 0 :]
        if parameter.annotation in (int, float, int | None, float | None, float | LinearSchedule)
    }
    assert numeric - UNLIMITED - CHECKED_BY_SPEC.get(owner, set()) <= OWNERS[owner].keys()
