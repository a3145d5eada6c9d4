"""Noise prediction and physical bounds on the whole domain, for one initial time and lead, blended from tiles."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast.archive import HrrrForecast
from convcast.dataset import Dataset, domain_motion, sun_of, window
from convcast.ensemble.tiles import Tiling
from convcast.notation import Hour

if TYPE_CHECKING:
    from types import EllipsisType

    import numpy as np

    from convcast.model import Condition, Forecaster
    from convcast.settings import SamplingSettings

    TileIndex = tuple[EllipsisType] | tuple[EllipsisType, slice, slice]
    """The index that cuts a tile from an array (..., y, x)."""
    Encode = Callable[[slice, slice], Condition]
    """Encodes the condition of the tile with these rows and columns."""


class TiledDenoiser:
    """Predicts noise on the whole domain, conditioned on one history, for all denoising steps of one lead.

    Each tile has a reference forecast of its own, which differs near its edges. The state of the domain is the residual
    from the blend R of the tiles' references R_k, in units of the blend s of their residuals' scales. Tile k therefore
    gets x_t + √ᾱ_t (R - R_k)/s: the same noisy fields, as residuals from its own reference.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        tiling: Tiling,
        encode: Encode,
        *,
        guidance: float,
        periodic: bool,
        cached_tiles: int | None = None,
    ) -> None:
        """Encode the condition of the first tiles and blend the reference.

        Args:
            forecaster: The trained model.
            tiling: The tiles that cover the domain.
            encode: Encodes the condition of a tile.
            guidance: Guidance weight w (see Forecaster.predict_noise).
            periodic: Whether the domain is a torus.
            cached_tiles: How many tiles' conditions stay in memory, all by default. The others are encoded again
                whenever they are needed, to the same bits.
        """
        self.forecaster = forecaster
        self.tiling = tiling
        self.guidance = guidance
        self._encode, self._periodic = encode, periodic
        self._weights = [torch.from_numpy(weight).to(forecaster.device) for weight in tiling.weights]
        self._cache_size = len(tiling.tiles) if cached_tiles is None else cached_tiles
        self._conditions: dict[int, Condition] = {}
        self._scale: Tensor | None = None
        self._reference, self._scale = self._blend(self._reference_and_scale)
        self._conditions = {k: self._rescaled(k, condition) for k, condition in self._conditions.items()}
        # Bounds and fields of a state are the same whichever tile's reference it is a residual from.
        self._domain = self._condition(0).for_domain(self._reference, self._scale)

    @classmethod
    def of_hours(
        cls,
        forecaster: Forecaster,
        dataset: Dataset,
        tiling: Tiling,
        *,
        init: Hour,
        lead: int,
        guidance: float,
        cached_tiles: int | None = None,
        pasts: NDArray[np.float32] | None = None,
        forcing: tuple[HrrrForecast, int] | None = None,
        threads: int = 1,
    ) -> TiledDenoiser:
        """Condition the model on the hours before `init`.

        Args:
            forecaster: The trained model.
            dataset: The hours of the history, and the grid.
            tiling: The tiles that cover the grid.
            init: The initial time of this forecast.
            lead: Lead time in hours from `init`; one that the model was trained for.
            guidance: Guidance weight w (see Forecaster.predict_noise).
            cached_tiles: How many tiles' conditions stay in memory, all by default.
            pasts: Histories (member, history, variable, y, x) of the members, in place of the dataset's hours.
            forcing: HRRR's forecast for the valid time and its age, hours; None withholds it.
            threads: Threads that estimate the motion of the members.

        Raises:
            MissingInputError: The dataset lacks an hour of the history, or the HRRR forecast.
        """
        history, grid = forecaster.settings.history, dataset.grid
        given: list[NDArray[np.float32] | None] = [None] if pasts is None else list(pasts)
        estimate = partial(domain_motion, dataset, init, history=history)
        with ThreadPoolExecutor(min(threads, len(given)), thread_name_prefix="motion") as pool:
            motions = list(pool.map(lambda past: estimate(past=past), given))

        def encode(rows: slice, columns: slice) -> Condition:
            sun = sun_of(grid.crop(rows, columns), init, lead)
            windows = [
                window(
                    dataset,
                    init,
                    lead,
                    history=history,
                    rows=rows,
                    columns=columns,
                    past=past,
                    motion=motion,
                    sun=sun,
                    forcing=forcing,
                )
                for past, motion in zip(given, motions, strict=True)
            ]
            return forecaster.condition(windows, periodic=grid.periodic and tiling.whole)

        return cls(forecaster, tiling, encode, guidance=guidance, periodic=grid.periodic, cached_tiles=cached_tiles)

    def _reference_and_scale(self, k: int, _: TileIndex) -> Tensor:
        """Return the reference forecast of tile k and the scale of its residuals, (2, row, variable, y, x)."""
        condition = self._condition(k)
        return torch.stack([condition.reference, condition.scale.expand(condition.reference.shape)])

    def predict_noise(self, x: Tensor, t: int) -> Tensor:
        """Predict the noise in x_t (member, variable, y, x) at diffusion step t, blended from all tiles."""
        signal = float(self.forecaster.schedule.signal[t])

        def part(k: int, tile: TileIndex) -> Tensor:
            condition = self._condition(k)
            state = x[tile] + signal * self._shift(condition, tile)
            return self.forecaster.predict_noise(state, t, condition, guidance=self.guidance)

        return self._blend(part)

    def draw(self, noise: Callable[[int], Tensor], settings: SamplingSettings) -> NDArray[np.float32]:
        """Draw physical fields (member, variable, y, x), in GRIB units, by the solver of the settings.

        `noise(0)` is the unit noise of that shape from which the solver starts, and `noise(k + 1)` that of its step k.
        """
        state = self.forecaster.solve(
            self.predict_noise,
            noise(0),
            settings=settings,
            clamp=self.clamp,
            noise=lambda k: noise(1 + k),
            kind=self._domain.kind,
            periodic=self._periodic,
        )
        return self.fields(state)

    def clamp(self, x0: Tensor) -> Tensor:
        """Limit the state (member, variable, y, x) so that its fields stay within their physical bounds."""
        return self.forecaster.clamp(x0, self._domain)

    def fields(self, x0: Tensor) -> NDArray[np.float32]:
        """Return the physical fields (member, variable, y, x) of a state, in GRIB units, float32."""
        return self.forecaster.fields(x0, self._domain)

    def _condition(self, k: int) -> Condition:
        """Return the condition of tile k."""
        if k in self._conditions:
            return self._conditions[k]
        made = self._encode(*self.tiling.tiles[k])
        if self._scale is not None:
            made = self._rescaled(k, made)
        # Tiles are visited in the same order at each step, so a least-recently-used cache would never hold the next
        # one. The first tiles are cached instead.
        if len(self._conditions) < self._cache_size:
            self._conditions[k] = made
        return made

    def _rescaled(self, k: int, condition: Condition) -> Condition:
        """Return the condition of tile k with the domain's scale, so that the state has one unit everywhere."""
        assert self._scale is not None
        tile: TileIndex = (...,) if self.tiling.whole else (..., *self.tiling.tiles[k])
        return condition.rescaled(self._scale[tile])

    def _shift(self, condition: Condition, tile: TileIndex) -> Tensor:
        """Return the tile's residuals less those from the domain's reference, (row, variable, y, x)."""
        shift: Tensor = (self._reference[tile] - condition.reference) / condition.scale
        return shift

    def _blend(self, part: Callable[[int, TileIndex], Tensor]) -> Tensor:
        """Blend `part(k, tile)` of each tile over the domain (..., y, x), with one tile in memory at a time."""
        if self.tiling.whole:
            return part(0, (...,))
        blended: Tensor | None = None
        for k, (rows, columns) in enumerate(self.tiling.tiles):
            values = part(k, (..., rows, columns))
            if blended is None:
                blended = values.new_zeros((*values.shape[:-2], *self.tiling.shape))
            blended[..., rows, columns] += self._weights[k] * values
        assert blended is not None
        return blended
