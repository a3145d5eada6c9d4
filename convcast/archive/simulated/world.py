"""A stochastic storm world whose exact predictive ensemble is known: the instrument a model is judged on.

Anomalies of temperature, moisture and wind are kept alive by correlated noise, remember longer at larger
scales, and drift with a wind that differs from place to place and from day to day. Storms start at random
where CAPE is high and CIN low, grow, saturate, decay, move, and leave cold, dry, outflowing air that ends
them. The world is Markov in a state that the published fields show (see ``observation``), so running it again
from the fields of an hour with fresh noise draws from the best forecast that any model of them could make.
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
STEP = 1.0 / STEPS_PER_HOUR  # hours; no storm moves more than its own width in one
ERA_HOURS = 28 * 24  # of the nature run, entered afresh; 1970 starts one
WIND_SPIN_UP_HOURS = 20 * 24
BLOCK = 4  # members advanced together: their fields fit a core's cache

# Streams of random numbers that must never meet.
NATURE, EXACT = 1, 2


@dataclass(frozen=True)
class Climate:
    """The constants of the world's weather; rates are per hour."""

    temperature_spread: float = 1.7  # K, standard deviation of anomalies without storms
    moisture_spread: float = 1.9  # K
    wind_spread: float = 1.6  # m/s, of each component of the rotational wind anomaly

    slowest: float = 4.0  # cells an hour, bounds of the mean wind
    fastest: float = 10.0
    prevailing: float = 0.7  # rad from the x axis: storms mostly move to the north-east
    direction_spread: float = 0.5  # rad
    pace_spread: float = 0.7  # of the speed before it is bounded by a tanh
    wind_memory: float = 48.0  # hours: the wind of a day is not that of the next

    growth: float = 12.0  # of storms in the most favourable air
    decay: float = 2.6  # of storms in air that does not feed them: 18 dB an hour
    gustiness: float = 0.75  # standard deviation of log rain rate gained in an hour
    gust_radius: float = 2.5  # cells over which growth is alike
    cape_half: float = 900.0  # J/kg at which CAPE feeds storms half as well as it can
    cin_fold: float = 60.0  # J/kg of inhibition that cuts the feeding e-fold
    heaviest_base: float = 15.0  # mm/h at which storms saturate without CAPE
    heaviest_per_cape: float = 0.09  # mm/h per J/kg

    start_rain: float = 0.8  # mm/h at one standard deviation beyond the threshold
    start_radius: float = 1.3  # cells
    start_threshold: float = 4.8  # standard deviations, in air without any CAPE
    start_threshold_per_favour: float = 2.6  # by which favourable air lowers it

    pool_rate: float = 1.6  # at which the heaviest rain pulls the surface air towards its downdraft's
    pool_rain: float = 20.0  # mm/h at which it pulls half as hard
    pool_temperature: float = -5.5  # K
    pool_moisture: float = -3.0  # K


class World:
    """The simulated world: a torus of ``ny`` by ``nx`` cells of 3 km; ``seed`` decides its ground and truth.

    Attributes
    ----------
    terrain : (ny, nx), m
    land : (ny, nx), 1 over land and 0 over the lake
    """

    def __init__(self, ny: int = 64, nx: int = 64, seed: int = 0, climate: Climate | None = None) -> None:
        self.seed = seed
        self.climate = climate = climate or Climate()
        self.ground = Ground(ny, nx, seed)
        self.terrain = self.ground.terrain
        self.land = self.ground.land

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
        # Forgetting is made good by noise, so that the variance at every scale is stationary.
        self._kick = self._spectrum * np.sqrt(1 - self._memory**2)
        self._gust = spectra.blobs(climate.gust_radius)
        self._start = spectra.blobs(climate.start_radius)

    def nature_run(
        self, start: np.datetime64, hours: int, spin_up_hours: int = 480
    ) -> Iterator[tuple[np.datetime64, State]]:
        """The truth, hour by hour: one member, the same at an hour whatever ``start`` and ``hours`` are.

        An archive can so be continued, or filled, in any order. Time is cut into eras of four weeks, each run
        from a clear sky ``spin_up_hours`` before it. Noise belongs to its hour, so that a new era converges
        to the old one, e-fold in about two days, before it takes over; a start costs up to spin-up and era.
        Runs of different ``spin_up_hours`` are different truths within the first weeks of an era.
        """
        first = _hour(start)
        state: State | None = None
        for hour in range(first, first + hours):
            if state is None or hour % ERA_HOURS == 0:
                dawn = hour - hour % ERA_HOURS - spin_up_hours
                state = self._dawn(dawn)
                for earlier in range(dawn, hour):
                    state = self._advance_hour(state, earlier, [self._nature(earlier)])
            yield np.datetime64(hour, "h"), state
            state = self._advance_hour(state, hour, [self._nature(hour)])

    def advance(self, state: State, time: np.datetime64, generator: np.random.Generator, hours: int = 1) -> State:
        """``state`` at ``time``, ``hours`` later; each member draws noise of its own from ``generator``."""
        keys = generator.integers(2**63, size=(state.members, 2))
        return self._advance(state, _hour(time), [_generator(*key) for key in keys.tolist()], hours)

    def observe(self, state: State, time: np.datetime64) -> dict[str, Array]:
        """The published fields at ``time``: name -> (member, ny, nx), not rounded.

        K, m/s, dBZ and J/kg; winds along the grid.
        """
        return self.ground.observe(state, _hour(time) % 24)

    def recover(self, fields: Mapping[str, Array], time: np.datetime64) -> State:
        """The state at ``time`` that fields, (ny, nx) or (member, ny, nx), rounded or not, show."""
        return self.ground.recover(fields, _hour(time) % 24)

    def exact_ensemble(
        self,
        fields: Mapping[str, Array],
        time: np.datetime64,
        *,
        leads: Sequence[int],
        members: int,
        seed: int,
    ) -> dict[str, Array]:
        """Draws from the exact predictive distribution given the ``fields`` of one hour.

        Parameters
        ----------
        fields
            Name -> (ny, nx), as published; may be rounded.
        time
            Of the fields, UTC.
        leads
            Hours after ``time``, at least 0, in any order.
        members
            How many; a member is the same however many are asked for, and whatever the leads.
        seed
            Of the members' noise, which is never the truth's.

        Returns
        -------
        Name -> (member, lead, ny, nx).
        """
        first = _hour(time)
        initial = self.recover(fields, time)
        ensemble = {name: np.empty((members, len(leads), *self.terrain.shape)) for name in FIELDS}
        for block in range(0, members, BLOCK):
            numbers = range(block, min(block + BLOCK, members))
            generators = [_generator(EXACT, seed, first, number) for number in numbers]
            state, reached = initial.member([0] * len(numbers)), 0
            for lead in sorted(set(leads)):
                state = self._advance(state, first + reached, generators, lead - reached)
                reached = lead
                for name, values in self.ground.observe(state, (first + lead) % 24).items():
                    for column in (i for i, wanted in enumerate(leads) if wanted == lead):
                        ensemble[name][block : block + BLOCK, column] = values
        return ensemble

    def _nature(self, hour: int) -> np.random.Generator:
        return _generator(NATURE, self.seed, hour)

    def _dawn(self, hour: int) -> State:
        """A calm, clear state at ``hour``, whose mean wind has long forgotten where it started."""
        wind = np.array([[7.0 / CELLS_PER_HOUR, 0.0]])
        for earlier in range(hour - WIND_SPIN_UP_HOURS, hour):
            for noise in _wind_noise([self._nature(earlier)]):
                wind = self._turn(wind, noise)
        still = np.zeros((1, *self.terrain.shape))
        return State(still, still, still, still, wind)

    def _advance(self, state: State, hour: int, generators: Sequence[np.random.Generator], hours: int) -> State:
        """``state`` after whole ``hours``, a block of members at a time; members do not meet."""
        blocks = []
        for block in range(0, state.members, BLOCK):
            part = state.member(slice(block, block + BLOCK))
            for later in range(hours):
                part = self._advance_hour(part, hour + later, generators[block : block + BLOCK])
            blocks.append(part)
        return blocks[0] if len(blocks) == 1 else State.join(blocks)

    def _advance_hour(self, state: State, hour: int, generators: Sequence[np.random.Generator]) -> State:
        # The mean wind's noise comes first, so that it can be followed without simulating the rest.
        for step, wind_noise in enumerate(_wind_noise(generators)):
            noise = np.stack([g.standard_normal((5, *self.terrain.shape)) for g in generators])
            state = self._step(state, hour % 24 + step * STEP, wind_noise, noise)
        return state

    def _step(self, state: State, hour: float, wind_noise: Array, noise: Array) -> State:
        """A sub-step from ``hour`` UTC, with ``wind_noise`` (member, 2) and ``noise`` (member, 5, ny, nx)."""
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
        """Storm, temperature and moisture after storms have fed, started, and cooled the air under them."""
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
        """Mean wind (member, 2) in m/s a sub-step later: its pace and direction wander and are drawn back."""
        climate = self.climate
        middle = (climate.fastest + climate.slowest) / 2 / CELLS_PER_HOUR
        reach = (climate.fastest - climate.slowest) / 2 / CELLS_PER_HOUR
        speed, direction = np.hypot(wind[:, 0], wind[:, 1]), np.arctan2(wind[:, 1], wind[:, 0])
        # Rounding, or a domain cut from another, may put a published mean wind out of bounds.
        pace = np.arctanh(np.clip((speed - middle) / reach, -0.9999, 0.9999))
        kept = np.exp(-STEP / climate.wind_memory)
        kick = np.sqrt(1 - kept**2) * noise
        pace = kept * pace + climate.pace_spread * kick[:, 0]
        direction += (kept - 1) * np.sin(direction - climate.prevailing)
        direction += climate.direction_spread * kick[:, 1]
        speed = middle + reach * np.tanh(pace)
        return np.stack([speed * np.cos(direction), speed * np.sin(direction)], axis=1)


def _hour(time: np.datetime64) -> int:
    """Whole hours since 1970."""
    return int(time.astype("datetime64[h]").astype(np.int64))


def _generator(*key: int) -> np.random.Generator:
    """Random numbers that belong to a key, and to no other."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([part % 2**63 for part in key])))


def _wind_noise(generators: Sequence[np.random.Generator]) -> Array:
    """(step, member, 2) for an hour."""
    return np.stack([generator.standard_normal((STEPS_PER_HOUR, 2)) for generator in generators], axis=1)
