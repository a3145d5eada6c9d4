"""The random numbers of a member."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from convcast.notation import Hour

COMMON = 0
"""In place of a lead, which is never 0: what all leads of a member share."""


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
    """Independent unit normals of this shape, (variable, y, x), that depend on the arguments alone.

    Philox (Salmon et al. 2011) is counter-based: each key begins a stream of its own, so that a member is the same
    whatever else is drawn, by whom and in which order. Draw for the whole grid and cut tiles from it: two crops drawn
    each for itself are two realisations. `step` 0 is where sampling starts, 1 and on are for stochastic solvers.

    With `lead_correlation` ρ, the noise of any two leads of a member is correlated so: √ρ of it is common to all leads.
    """
    if lead_correlation:
        own = member_noise(seed, init, member, lead, shape, step=step)
        common = member_noise(seed, init, member, COMMON, shape, step=step)
        return np.float32(np.sqrt(1 - lead_correlation)) * own + np.float32(np.sqrt(lead_correlation)) * common
    hour = int(init.astype("datetime64[h]").astype(np.int64))
    name = np.array([seed, hour, member, lead, step], "<i8").tobytes()
    key = int.from_bytes(blake2b(name, digest_size=16, person=b"convcast noise").digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)
