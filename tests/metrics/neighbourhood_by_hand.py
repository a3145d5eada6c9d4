"""Slow and clear versions of the neighbourhood operations, to compare with."""

from __future__ import annotations

import numpy as np


def near_by_hand(event, radius):
    """Return whether there is an event in a disk around each point, by one shift after the other."""
    found, around = np.zeros_like(event), np.pad(event, radius)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= radius * radius:
                y, x = radius + dy, radius + dx
                found |= around[y : y + event.shape[0], x : x + event.shape[1]]
    return found


def smooth_by_hand(values, window, sigma=5.0):
    steps = np.arange(-window, window + 1)
    weights = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(values, window, mode="edge")
    return sum(
        weights[i, j] * padded[i : i + values.shape[0], j : j + values.shape[1]]
        for i in range(2 * window + 1)
        for j in range(2 * window + 1)
    )
