"""A stochastic model of storms with a known exact predictive ensemble, against which forecast models can be judged.

Anomalies of temperature, moisture and wind are driven by correlated noise, persist longer at larger scales, and drift
with a wind that varies in space and from day to day. Storms start at random where CAPE is high and CIN is low; they
grow, saturate, move and decay, and leave cold, dry, outflowing air that ends them. The world is Markov in a state that
the published fields determine (see `observation`). Running it from the fields of an hour with new noise therefore draws
from the distribution that no model can improve on, given these fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convcast.archive.simulated.observation import (
    CELLS_PER_HOUR,
    FIELDS,
    RAIN_FLOOR,
    Ground,
    State,
    outflow,
)
from convcast.archive.simulated.spectra import Array
from convcast.archive.simulated.transport import advect

__all__ = ["FIELDS", "Climate", "State", "World"]

STEPS_PER_HOUR = 4
STEP = 1.0 / STEPS_PER_HOUR  # hours; no storm moves more than its own width in a step
ERA_HOURS = 28 * 24  # the nature run starts anew after each era; the first era starts in 1970
WIND_SPIN_UP_HOURS = 20 * 24
BLOCK = 4  # members advanced together: their fields fit in a core's cache

# First part of the random generators' keys, which keeps the noise of the truth and of the exact ensemble independent.
NATURE, EXACT = 1, 2


@dataclass(frozen=True)
class Climate:
    """Constants of the simulated weather; rates are per hour."""

    temperature_spread: float = 1.7  # K, standard deviation of anomalies without storms
    moisture_spread: float = 1.9  # K
    wind_spread: float = 1.6  # m/s, of each component of the rotational wind anomaly

    slowest: float = 4.0  # cells per hour, lower bound of the mean wind
    fastest: float = 10.0  # cells per hour, upper bound
    prevailing: float = 0.7  # rad from the x axis: most storms move to the north-east
    direction_spread: float = 0.5  # rad
    pace_spread: float = 0.7  # spread of the speed before a tanh bounds it
    wind_memory: float = 48.0  # hours: the wind changes from one day to the next

    growth: float = 12.0  # growth rate of storms in the most favourable air
    decay: float = 2.6  # decay rate of storms in unfavourable air: 18 dB per hour
    gustiness: float = 0.75  # standard deviation of log rain rate gained in an hour
    gust_radius: float = 2.5  # cells over which growth is correlated
    cape_half: float = 900.0  # J/kg of CAPE at which storms grow half as fast as they can
    cin_fold: float = 60.0  # J/kg of CIN that reduces the growth by a factor of e
    heaviest_base: float = 15.0  # mm/h at which storms saturate without CAPE
    heaviest_per_cape: float = 0.09  # mm/h per J/kg

    start_rain: float = 0.8  # mm/h of a new storm per standard deviation beyond the threshold
    start_radius: float = 1.3  # cells
    start_threshold: float = 4.8  # standard deviations, in air without any CAPE
    start_threshold_per_favour: float = 2.6  # reduction of the threshold in favourable air

    pool_rate: float = 1.6  # rate at which the heaviest rain brings the surface air to the anomalies of its downdraught
    pool_rain: float = 20.0  # mm/h of rain at half of that rate
    pool_temperature: float = -5.5  # K, anomaly of the downdraught
    pool_moisture: float = -3.0  # K


class World:
    """The simulated world: a torus of `ny` by `nx` cells of 3 km. The seed determines its ground and its truth."""

    def __init__(self, ny: int = 64, nx: int = 64, seed: int = 0, climate: Climate | None = None) -> None:
        """Make the world.

        Args:
            ny: Number of rows of cells.
            nx: Number of columns of cells.
            seed: Seed of the ground and of the truth.
            climate: Constants of the world; by default those of `Climate`.
        """
        self.seed = seed
        self.climate = climate = climate or Climate()
        self.ground = Ground(ny, nx, seed)
        self.terrain = self.ground.terrain
        """Terrain height, m, (ny, nx)."""
        self.land = self.ground.land
        """Land mask, 1 over land and 0 over the lake, (ny, nx)."""

        spectra = self.ground.spectra
        self._memory = spectra.memory(STEP)
        thermal = spectra.red(slope=4.6, outer=50.0, inner=2.0)
        rotation = spectra.differentiable(spectra.red(slope=6.0, outer=36.0, inner=3.0))
        self._spectrum = np.stack(
            [
                climate.temperature_spread * thermal,
                climate.moisture_spread * thermal,
                climate.wind_spread / spectra.wind_amplitude(rotation) * rotation,
            ]
        )
        # The noise replaces the variance that decays, so that the variance at every scale is stationary.
        self._kick = self._spectrum * np.sqrt(1 - self._memory**2)
        self._gust = spectra.blobs(climate.gust_radius)
        self._start = spectra.blobs(climate.start_radius)

    def nature_run(
        self, start: np.datetime64, hours: int, spin_up_hours: int = 480, state: State | None = None
    ) -> Iterator[tuple[np.datetime64, State]]:
        """Yield the truth hour by hour, as a state of one member.

        The state of an hour does not depend on `start` and `hours`, so that an archive can be extended or filled in any
        order. Time is divided into eras of four weeks. Each era is run from a clear sky `spin_up_hours` before it. The
        noise of an hour is the same in all runs, so that a new era converges to the old one, by a factor of e in about
        two days, before it begins. The first hour costs at most the spin-up and an era, unless its `state` is given.
        Runs with different `spin_up_hours` differ within the first weeks of an era.
        """
        first = hours_since_1970(start)
        for hour in range(first, first + hours):
            if state is None or hour % ERA_HOURS == 0:
                first_of_run = hour - hour % ERA_HOURS - spin_up_hours
                state = self._clear_sky(first_of_run)
                for earlier in range(first_of_run, hour):
                    state = self._advance_hour(state, earlier, [self._nature(earlier)])
            yield np.datetime64(hour, "h"), state
            state = self._advance_hour(state, hour, [self._nature(hour)])

    def observe(self, state: State, time: np.datetime64) -> dict[str, Array]:
        """Return the published fields at `time` by name, (member, ny, nx), in K, m/s, dBZ and J/kg, not rounded.

        Winds are along the grid.
        """
        return self.ground.observe(state, hours_since_1970(time) % 24)

    def recover(self, fields: Mapping[str, Array], time: np.datetime64) -> State:
        """Return the state at `time` from published fields, (ny, nx) or (member, ny, nx), which may be rounded."""
        return self.ground.recover(fields, hours_since_1970(time) % 24)

    def exact_ensemble(
        self,
        fields: Mapping[str, Array],
        time: np.datetime64,
        *,
        leads: Sequence[int],
        members: int,
        seed: int,
    ) -> dict[str, Array]:
        """Draw an ensemble from the exact predictive distribution, given the fields of one hour.

        Args:
            fields: Published fields by name, (ny, nx), which may be rounded.
            time: Time of the fields, UTC.
            leads: Lead times, hours, at least 0, in any order.
            members: Number of members. A member does not depend on this number, nor on the leads.
            seed: Seed of the members' noise, which is independent of the truth's.

        Returns:
            The fields by name, (member, lead, ny, nx).
        """
        first = hours_since_1970(time)
        initial = self.recover(fields, time)
        ensemble = {name: np.empty((members, len(leads), *self.terrain.shape)) for name in FIELDS}
        for block in range(0, members, BLOCK):
            numbers = range(block, min(block + BLOCK, members))
            generators = [random_generator(EXACT, seed, first, number) for number in numbers]
            state, hour = initial.member([0] * len(numbers)), first
            for lead in sorted(set(leads)):
                for earlier in range(hour, first + lead):
                    state = self._advance_hour(state, earlier, generators)
                hour = first + lead
                for name, values in self.ground.observe(state, hour % 24).items():
                    for column in (i for i, other in enumerate(leads) if other == lead):
                        ensemble[name][block : block + BLOCK, column] = values
        return ensemble

    def _nature(self, hour: int) -> np.random.Generator:
        """Return the generator of the truth's noise in the hour that begins at `hour`."""
        return random_generator(NATURE, self.seed, hour)

    def _clear_sky(self, hour: int) -> State:
        """Return a state without anomalies and storms; its mean wind no longer depends on where it started."""
        wind = np.array([[7.0 / CELLS_PER_HOUR, 0.0]])
        for earlier in range(hour - WIND_SPIN_UP_HOURS, hour):
            for noise in _wind_noise([self._nature(earlier)]):
                wind = self._turn(wind, noise)
        zero = np.zeros((1, *self.terrain.shape))
        return State(zero, zero, zero, zero, wind)

    def _advance_hour(self, state: State, hour: int, generators: Sequence[np.random.Generator]) -> State:
        """Return the state an hour after `hour`, with the noise of one generator per member."""
        # The noise of the mean wind is drawn first, so that `_clear_sky` can follow it without the rest.
        for step, wind_noise in enumerate(_wind_noise(generators)):
            noise = np.stack([g.standard_normal((5, *self.terrain.shape)) for g in generators])
            state = self._step(state, hour % 24 + step * STEP, wind_noise, noise)
        return state

    def _step(self, state: State, hour: float, wind_noise: Array, noise: Array) -> State:
        """Return the state a step after `hour` UTC, with `wind_noise` (member, 2) and `noise` (member, 5, ny, nx)."""
        spectra = self.ground.spectra
        white = spectra.forward(noise)
        stream = spectra.forward(state.stream_function)

        u, v = spectra.winds(stream, spectra.forward(outflow(state.storm)))
        x, y = u * (CELLS_PER_HOUR * STEP), v * (CELLS_PER_HOUR * STEP)
        mean = state.mean_wind * (CELLS_PER_HOUR * STEP)

        gusts = spectra.inverse(self._gust * white[:, 3])
        starts = spectra.inverse(self._start * white[:, 4])
        storm, temperature, moisture = self._convect(state, hour, gusts, starts)
        temperature, moisture = advect([temperature, moisture], x, y)
        (storm,) = advect([storm], x + mean[:, 0, None, None], y + mean[:, 1, None, None])

        phase = self._memory * spectra.displacement(mean)
        before = (spectra.forward(temperature), spectra.forward(moisture), stream)
        temperature, moisture, stream_function = (
            spectra.inverse(phase * spectrum + self._kick[i] * white[:, i]) for i, spectrum in enumerate(before)
        )
        return State(
            temperature,
            np.minimum(moisture, self.ground.saturation(temperature, hour + STEP)),
            stream_function,
            np.where(storm < RAIN_FLOOR, 0.0, storm),
            self._turn(state.mean_wind, wind_noise),
        )

    def _convect(self, state: State, hour: float, gusts: Array, starts: Array) -> tuple[Array, Array, Array]:
        """Return storm, temperature and moisture after storms have grown or decayed, started, and cooled the air."""
        climate = self.climate
        cape = self.ground.cape(state.temperature, state.moisture, hour)
        cin = self.ground.cin(state.temperature, state.moisture, hour)
        favour = cape / (cape + climate.cape_half) * np.exp(cin / climate.cin_fold)

        heaviest = climate.heaviest_base + climate.heaviest_per_cape * cape
        rate = climate.growth * favour * (1 - state.storm / heaviest) - climate.decay
        storm = state.storm * np.exp(rate * STEP + climate.gustiness * np.sqrt(STEP) * gusts)
        threshold = climate.start_threshold - climate.start_threshold_per_favour * favour
        storm += climate.start_rain * np.maximum(starts - threshold, 0.0)

        pull = -np.expm1(-climate.pool_rate * STEP * storm / (storm + climate.pool_rain))
        temperature = state.temperature + pull * np.minimum(climate.pool_temperature - state.temperature, 0.0)
        moisture = state.moisture + pull * np.minimum(climate.pool_moisture - state.moisture, 0.0)
        return storm, temperature, moisture

    def _turn(self, wind: Array, noise: Array) -> Array:
        """Return the mean wind a step later, (member, 2), m/s: speed and direction vary at random about their means."""
        climate = self.climate
        middle = (climate.fastest + climate.slowest) / 2 / CELLS_PER_HOUR
        reach = (climate.fastest - climate.slowest) / 2 / CELLS_PER_HOUR
        speed, direction = np.hypot(wind[:, 0], wind[:, 1]), np.arctan2(wind[:, 1], wind[:, 0])
        # The mean wind of rounded fields, or of a part of the domain, may be out of bounds.
        pace = np.arctanh(np.clip((speed - middle) / reach, -0.9999, 0.9999))
        memory = np.exp(-STEP / climate.wind_memory)
        kick = np.sqrt(1 - memory**2) * noise
        pace = memory * pace + climate.pace_spread * kick[:, 0]
        direction += (memory - 1) * np.sin(direction - climate.prevailing)
        direction += climate.direction_spread * kick[:, 1]
        speed = middle + reach * np.tanh(pace)
        return np.stack([speed * np.cos(direction), speed * np.sin(direction)], axis=1)


def hours_since_1970(time: np.datetime64) -> int:
    """Whole hours since 1970."""
    return int(time.astype("datetime64[h]").astype(np.int64))


def random_generator(*key: int) -> np.random.Generator:
    """Random generator of a key; generators of different keys are independent."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([part % 2**63 for part in key])))


def _wind_noise(generators: Sequence[np.random.Generator]) -> Array:
    """Return the mean wind's noise in an hour, (step, member, 2)."""
    return np.stack([generator.standard_normal((STEPS_PER_HOUR, 2)) for generator in generators], axis=1)
