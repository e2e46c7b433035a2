"""Seeds that depend on the position in training only, so that a resumed run repeats an uninterrupted one."""

import numpy as np


def derive_seed(*position: int) -> int:
    """Returns a well-mixed seed for a position in training, e.g. (run seed, epoch, batch)."""
    return int(np.random.SeedSequence(position).generate_state(1)[0])
