"""Confidence intervals."""

import math


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95% interval of a share (E. B. Wilson, 1927)."""
    if not asked:
        return 0.0, 1.0
    z, share = 1.96, right / asked
    middle = share + z * z / (2 * asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return (middle - half) / (1 + z * z / asked), (middle + half) / (1 + z * z / asked)
