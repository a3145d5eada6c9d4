"""Random numbers of an ensemble member, reproducible from its identity."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from convcast.notation import Hour

COMMON = 0
"""The lead that identifies the noise common to all leads of a member; no forecast has a lead of 0."""


def member_noise(
    seed: int,
    init: Hour,
    member: int,
    lead: int,
    shape: tuple[int, ...],
    *,
    step: int = 0,
    lead_correlation: float = 0.0,
) -> NDArray[np.float32]:
    """Draw independent standard normal numbers that depend on the arguments alone.

    Philox (Salmon et al. 2011) is counter-based: each key begins a stream of its own, so a member is the same whatever
    else is drawn, by which process and in which order. Draw for the whole grid and cut tiles from the result: two tiles
    drawn separately are two realisations.

    Args:
        seed: Seed of the ensemble.
        init: Initial time.
        member: Member number.
        lead: Lead time, hours.
        shape: Shape of the result, (variable, y, x) of the whole grid.
        step: 0 for the initial state of the sampler, 1 and above for the steps of stochastic solvers.
        lead_correlation: Correlation ρ of the noise of any two leads of a member; √ρ of the noise is common to them.
    """
    if lead_correlation:
        own = member_noise(seed, init, member, lead, shape, step=step)
        common = member_noise(seed, init, member, COMMON, shape, step=step)
        return np.float32(np.sqrt(1 - lead_correlation)) * own + np.float32(np.sqrt(lead_correlation)) * common
    hour = int(init.astype("datetime64[h]").astype(np.int64))
    name = np.array([seed, hour, member, lead, step], "<i8").tobytes()
    key = int.from_bytes(blake2b(name, digest_size=16, person=b"convcast noise").digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)
