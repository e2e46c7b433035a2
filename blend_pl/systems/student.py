"""The student: predicts neural activity from neural activity."""

from blend_pl.systems.population import PopulationSystem


class Student(PopulationSystem):
    """Sees masked neural activity (BLEND); the privileged input of a batch never reaches its network.

    Example:
        >>> import torch
        >>> from blend_pl.data import Batch, Signature
        >>> from blend_pl.models import NDT
        >>> counts = torch.poisson(torch.ones(4, 12, 3))
        >>> batch = Batch(counts[:, :10, :2], counts, counts >= 0, torch.arange(4), torch.arange(4), global_size=4)
        >>> session = Signature("reach", 20, n_observed=10, n_forward=2, n_heldin=2, n_privileged=2, unit_id=(7, 8, 9))
        >>> student = Student(NDT)
        >>> student.build(session)
        >>> student.predict_step(batch, 0).shape  # expected counts, also in forward bins and of the held-out unit
        torch.Size([4, 12, 3])
    """
