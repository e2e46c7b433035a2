import pytest
import torch
import torch.nn.functional as F

from blend_pl.models import NeuPRINT
from blend_pl.models.base import Dims
from blend_pl.models.layers.attention import AttentionWindow, SelfAttention
from blend_pl.models.neuprint import LocalAttention, StateAsNumber

CELLS, FRAMES, BATCH, N = 9, 12, 3, 5
DIMS = Dims(CELLS, CELLS, FRAMES, FRAMES)
TEACHER = Dims(CELLS, CELLS, FRAMES, FRAMES, context=5)


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(BATCH, FRAMES, N, generator=generator),
        torch.tensor([7, 0, 3, 8, 1]),
        torch.randn(BATCH, FRAMES, N, 4, generator=generator),
    )


def network(dims: Dims = DIMS, **settings: object) -> NeuPRINT:
    torch.manual_seed(1)
    return NeuPRINT(dims, **{"dim_feedforward": 16, **settings}).eval()  # type: ignore[arg-type]


def test_token_width_matches_paper() -> None:
    encoding = network()(*inputs())
    assert encoding.prediction.shape == (BATCH, FRAMES, N)
    assert [feature.shape for feature in encoding.features] == [(BATCH, N * FRAMES, 76)]
    assert encoding.latents is not None
    assert encoding.latents.shape == (BATCH, FRAMES, 76)


def test_student_has_width_of_teacher() -> None:
    """Feature distillation needs equal widths; a baseline omits the channels of behavior."""
    context = torch.randn(BATCH, FRAMES, 5)
    student, teacher = network()(*inputs()), network(TEACHER)(*inputs(), context)
    assert student.features[0].shape == teacher.features[0].shape
    assert network(behavior_width=0)(*inputs()).features[0].shape[-1] == 73


@pytest.mark.parametrize("back", [0, 1, 3, 20])
def test_local_attention_equals_masked_attention(back: int) -> None:
    torch.manual_seed(0)
    local, dense = LocalAttention(10, 2, 0.0, back), SelfAttention(10, 2, 0.0)
    dense.load_state_dict(local.state_dict())
    tokens = torch.randn(4, FRAMES, 10)
    expected = dense(tokens, AttentionWindow(FRAMES, context_forward=0, context_backward=back))
    torch.testing.assert_close(local(tokens), expected, rtol=1e-5, atol=1e-6)


def test_frame_attends_to_itself_and_previous_frame() -> None:
    model, (observed, neurons, population_context) = network(), inputs()
    before = model(observed, neurons, population_context).prediction
    observed[:, 6] += 1
    after = model(observed, neurons, population_context).prediction
    changed = (before != after).any(0).any(1)
    assert changed.nonzero()[:, 0].tolist() == [6, 7]


def test_cells_do_not_interact() -> None:
    model, (observed, neurons, population_context) = network(), inputs()
    before = model(observed, neurons, population_context).prediction
    observed[..., 2] += 1
    after = model(observed, neurons, population_context).prediction
    assert (before != after).any(0).any(0).tolist() == [False, False, True, False, False]


def test_embedding_depends_on_cell_index() -> None:
    model, (observed, neurons, population_context) = network(), inputs()
    order = torch.tensor([4, 2, 0, 1, 3])
    full = model(observed, neurons, population_context)
    permuted = model(observed[..., order], neurons[order], population_context[:, :, order])
    torch.testing.assert_close(permuted.prediction, full.prediction[..., order])
    with torch.no_grad():
        model.embedding.weight[7] += 1
    other = model(observed, neurons, population_context)
    assert (other.prediction != full.prediction).any(0).any(0).tolist() == [True] + [False] * 4


def test_features_are_ordered_by_cell_then_frame() -> None:
    model, (observed, neurons, population_context) = network(), inputs()
    full = model(observed, neurons, population_context).features[0]
    separate = model(observed[..., 3:4], neurons[3:4], population_context[:, :, 3:4]).features[0]
    torch.testing.assert_close(full[:, 3 * FRAMES : 4 * FRAMES], separate)


def test_teacher_uses_behavior_and_student_null_token() -> None:
    context = torch.randn(BATCH, FRAMES, 5)
    teacher, student = network(TEACHER), network()
    first, second = (teacher(*inputs(), c).prediction for c in (context, context + 1))
    assert not torch.allclose(first, second)
    assert student.behavior is None
    before = student(*inputs()).prediction
    with torch.no_grad():
        student.null.add_(1)
    assert not torch.allclose(student(*inputs()).prediction, before)


def test_summary_replaces_behavior_of_students_only() -> None:
    student, teacher = network(summarize=True), network(TEACHER, summarize=True)
    assert student.summary is not None
    assert student.summary.vectors.shape == (CELLS, 3)
    assert teacher.summary is None
    assert student(*inputs()).features[0].shape == network()(*inputs()).features[0].shape


def test_summary_lets_cells_interact_without_their_order() -> None:
    model, (observed, neurons, population_context) = network(summarize=True), inputs()
    order = torch.tensor([4, 2, 0, 1, 3])
    full = model(observed, neurons, population_context).prediction
    permuted = model(observed[..., order], neurons[order], population_context[:, :, order]).prediction
    torch.testing.assert_close(permuted, full[..., order])
    observed[..., 2] += 1
    after = model(observed, neurons, population_context).prediction
    assert (full != after).any(0).any(0).tolist() == [True] * N


def test_every_weight_gets_gradients() -> None:
    models = network(), network(summarize=True), network(TEACHER, variance=True)
    for model, context in zip(models, ([], [], [torch.randn(BATCH, FRAMES, 5)]), strict=True):
        encoding = model.train()(*inputs(), *context)
        loss = encoding.prediction.square().sum()
        if encoding.log_variance is not None:
            loss = loss + encoding.log_variance.square().sum()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_variance_is_optional() -> None:
    assert network()(*inputs()).log_variance is None
    encoding = network(variance=True)(*inputs())
    assert encoding.log_variance is not None
    assert encoding.log_variance.shape == encoding.prediction.shape
    assert not torch.equal(encoding.log_variance, encoding.prediction)


def test_shorter_windows_are_supported() -> None:
    observed, neurons, population_context = inputs()
    model = network()
    full = model(observed, neurons, population_context).prediction
    part = model(observed[:, :4], neurons, population_context[:, :4]).prediction
    torch.testing.assert_close(part, full[:, :4])


def test_state_as_number() -> None:
    states = F.one_hot(torch.tensor([0, 2, 1]), 3).float()
    behavior = torch.cat([torch.tensor([[0.5, -1.0]] * 3), states], dim=1)
    expected = torch.tensor([[0.5, -1.0, 0.0], [0.5, -1.0, 2.0], [0.5, -1.0, 1.0]])
    assert torch.equal(StateAsNumber(5, 3)(behavior), expected)
    with pytest.raises(ValueError, match=r"behavior_width"):
        StateAsNumber(5, 4)
