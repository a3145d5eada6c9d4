"""The simulated publisher's own forecast model, which errs as real models do.

It starts from the published analysis of the whole world and draws noise of its own. Its storms start displaced and live
too long, and it grows too warm. Its forecast is one draw, and not the best forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

import numpy as np

from convcast.archive.simulated.observation import State
from convcast.archive.simulated.spectra import Array
from convcast.archive.simulated.world import STEP, Climate, World, hours_since_1970, random_generator

FORECAST = 3
"""First part of the keys of the model's random generators, which keeps its noise independent of the truth's."""
LONGEST_LEAD = 18
"""Hours ahead to which each cycle runs."""
WARMING = 0.12
"""Temperature, K, that the model adds in an hour; it decays as other anomalies do."""
DECAY = 2.3
"""Decay rate of storms in unfavourable air, 1/h, instead of the world's 2.6."""
DISPLACEMENT = 1.5
"""Standard deviation, in cells along each axis, of the displacement of all storms at the start."""


class ForecastModel(World):
    """A model of the simulated world with the world's ground and other constants."""

    def __init__(self, ny: int, nx: int, seed: int) -> None:
        super().__init__(ny, nx, seed, replace(Climate(), decay=DECAY))

    def run(self, fields: Mapping[str, Array], init: np.datetime64) -> Iterator[dict[str, Array]]:
        """Yield the forecast for 1, 2, 3, … hours after `init`, without end.

        Args:
            fields: Published analysis by name, (ny, nx).
            init: Time of the analysis, UTC. It and the analysis determine the forecast.

        Yields:
            The fields by name, (1, ny, nx).
        """
        first = hours_since_1970(init)
        generator = random_generator(FORECAST, self.seed, first)
        analysed = self.recover(fields, init)
        rows, columns = np.rint(DISPLACEMENT * generator.standard_normal(2)).astype(int)
        state = replace(analysed, storm=np.roll(analysed.storm, (rows, columns), axis=(1, 2)))
        for hour in count(first):
            state = self._advance_hour(state, hour, [generator])
            yield self.ground.observe(state, (hour + 1) % 24)

    def _step(self, state: State, hour: float, wind_noise: Array, noise: Array) -> State:
        following = super()._step(state, hour, wind_noise, noise)
        return replace(following, temperature=following.temperature + WARMING * STEP)
