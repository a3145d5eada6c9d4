"""The simulated publisher's own forecast model, which errs as real models do.

It starts from the published analysis of the whole world and draws noise of its own. Its storms start displaced and live
too long, and it grows too warm. Its forecast is one draw, and not the best forecast; its ensemble is several draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from convcast.archive.simulated.observation import State
from convcast.archive.simulated.spectra import Array
from convcast.archive.simulated.world import STEP, Climate, World, hours_since_1970, random_generator

FORECAST, ENSEMBLE = 3, 4
"""First parts of the keys of the model's random generators, which keep its noise independent of the truth's."""
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
        """Make the model; the arguments are those of `World`."""
        super().__init__(ny, nx, seed, replace(Climate(), decay=DECAY))

    def run(self, fields: Mapping[str, Array], init: np.datetime64) -> Iterator[dict[str, Array]]:
        """Yield the forecast for 1, 2, 3, … hours after `init`, without end.

        Args:
            fields: Published analysis by name, (ny, nx).
            init: Time of the analysis, UTC. It and the analysis determine the forecast.

        Yields:
            The fields by name, (1, ny, nx).
        """
        yield from self._run(fields, init, [random_generator(FORECAST, self.seed, hours_since_1970(init))])

    def run_ensemble(
        self, fields: Mapping[str, Array], init: np.datetime64, members: int
    ) -> Iterator[dict[str, Array]]:
        """Yield forecasts of several members as `run` does, each with a displacement and noise of its own.

        Args:
            fields: Published analysis by name, (ny, nx).
            init: Time of the analysis, UTC.
            members: Number of members.

        Yields:
            The fields by name, (member, ny, nx). A member does not depend on the number of members.
        """
        first = hours_since_1970(init)
        yield from self._run(
            fields, init, [random_generator(ENSEMBLE, self.seed, first, number) for number in range(members)]
        )

    def _run(
        self, fields: Mapping[str, Array], init: np.datetime64, generators: Sequence[np.random.Generator]
    ) -> Iterator[dict[str, Array]]:
        analysed = self.recover(fields, init).member([0] * len(generators))
        displacements = [np.rint(DISPLACEMENT * one.standard_normal(2)).astype(int) for one in generators]
        storms = [
            np.roll(storm, tuple(by), axis=(0, 1)) for storm, by in zip(analysed.storm, displacements, strict=True)
        ]
        state = replace(analysed, storm=np.stack(storms))
        for hour in count(hours_since_1970(init)):
            state = self._advance_hour(state, hour, generators)
            yield self.ground.observe(state, (hour + 1) % 24)

    def _step(self, state: State, hour: float, wind_noise: Array, noise: Array) -> State:
        following = super()._step(state, hour, wind_noise, noise)
        return replace(following, temperature=following.temperature + WARMING * STEP)
