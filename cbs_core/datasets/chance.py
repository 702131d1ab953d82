"""Seeds made of several numbers, without torch."""

import numpy as np


def mixed(*numbers: int) -> int:
    """Returns a seed of 63 bits in which nearby numbers have nothing in common."""
    low, high = np.random.SeedSequence([n % 2**64 for n in numbers]).generate_state(2)
    return (int(high) << 32 | int(low)) & (2**63 - 1)
