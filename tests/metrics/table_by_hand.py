"""Draw members and truth with the same probabilities, for tests of scores of events."""

from __future__ import annotations

import numpy as np


def table_of(generator, members=10, points=3000):
    """Draw members and truth at points with different probabilities of an event; return them and their table."""
    chance = generator.beta(0.5, 2, points)
    count = generator.binomial(members, chance)
    event = generator.random(points) < chance
    table = np.bincount(2 * count + event, minlength=2 * (members + 1)).reshape(-1, 2)
    return table.astype(float), count, event
