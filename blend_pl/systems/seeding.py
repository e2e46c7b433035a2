"""Seeds that depend on where training is, not on how it got there: a resumed run repeats an uninterrupted one."""

import numpy as np


def derive_seed(*position: int) -> int:
    """A well-mixed seed for a position in training, e.g. (run seed, epoch, batch)."""
    return int(np.random.SeedSequence(position).generate_state(1)[0])
