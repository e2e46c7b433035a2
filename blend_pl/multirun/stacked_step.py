"""What several members compute, at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.masking import joined
from blend_pl.multirun.replica import BESIDES, Lesson, Member
from blend_pl.multirun.stacking import Stack
from blend_pl.utils.buffers import uncounted


class Lessons:
    """The lessons of several members as one computation.

    Args:
        members: the models, built, of one architecture.

    Attributes:
        stack: of their lessons.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.systems = [member.system for member in members]
        self.stack = Stack([member.lesson for member in members], BESIDES)

    def terms(self, batch: Batch, seeds: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """The objective's terms, (K,) each; this process has all trials of a batch.

        Args:
            batch: K * B trials, the members one behind another.
            seeds: of the members' masks.
            epoch: training epoch; see `Student.mask`.
        """
        members, (_, bins, channels) = len(self.systems), batch.observed.shape
        size = batch.global_size, bins, channels
        chances = [system.chance(size, seed, epoch) for system, seed in zip(self.systems, seeds, strict=True)]
        # What they draw differs, what is made of it does not.
        masked, labels = self.systems[0].hide(batch, joined(chances))

        def step(lesson: Lesson, tensors: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
            return lesson(Batch(**tensors, global_size=size[0]), labels)

        tensors = {name: tensor.unflatten(0, (members, -1)) for name, tensor in _tensors(masked).items()}
        return self.stack(step, tensors, labels.unflatten(0, (members, -1)))

    def answers(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `Student.assess` makes of trials, the same for all members.

        Returns:
            Expected counts per bin, losses of the entries, and which entries count: (K, B, T', N) each.
        """
        exams = {repr(system.masking): system for system in self.systems}
        asked = {masking: system.exam(batch, batch_idx) for masking, system in exams.items()}
        each = [asked[repr(system.masking)] for system in self.systems]
        tensors = [_tensors(shown) for shown, _ in each]
        labels = _beside([labels for _, labels in each])

        def step(lesson: Lesson, tensors: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
            return lesson.system.answers(Batch(**tensors, global_size=batch.global_size), labels)

        with self._evaluation():
            rates, entries = self.stack(
                step, {name: _beside([t[name] for t in tensors]) for name in tensors[0]}, labels
            )
        return rates, entries, labels

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Puts the stack into evaluation mode."""
        modes = [(module, module.training) for module in self.stack.skeleton.modules()]
        self.stack.skeleton.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def obstacle(members: Sequence[Member], batch: Batch) -> str | None:
    """Why models of one architecture cannot train at once, as `torch.func.vmap` says; None where they can.

    Args:
        members: the models, built; two of them are tried.
        batch: any trials; two of them are used.
    """
    rows = torch.arange(len(batch), device=batch.rows.device)[:2]
    size = len(rows)
    few, both = (
        Batch(**{name: tensor[which].to("cpu") for name, tensor in _tensors(batch).items()}, global_size=size)
        for which in (rows, rows.repeat(2))
    )
    few.rows, both.rows = torch.arange(size), torch.arange(size).repeat(2)
    pair = members[:2]
    try:
        with uncounted(*(member.lesson for member in pair)):
            lessons = Lessons(pair)
            lessons.terms(both, [0, 0], 0)["loss"].sum().backward()
            with torch.no_grad():
                lessons.answers(few, 0)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _beside(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of the members, (K, ...); nothing is copied where all have the same one."""
    first = tensors[0]
    same = all(tensor is first for tensor in tensors)
    return first.expand(len(tensors), *first.shape) if same else torch.stack([*tensors])


def _tensors(batch: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
