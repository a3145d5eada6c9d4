"""Ensemble sampling: the model draws members into one Zarr store for each initial time.

`sample` draws and `EnsembleStore` writes; `xarray.open_zarr` reads the store without either.
"""

from convcast.ensemble.noise import member_noise
from convcast.ensemble.sample import MemberDone, describe, latest_init, sample
from convcast.ensemble.tiles import Tiling, cover
from convcast.forecasts.products import make_products, readable_leads
from convcast.forecasts.store import EnsembleStore

__all__ = [
    "EnsembleStore",
    "MemberDone",
    "Tiling",
    "cover",
    "describe",
    "latest_init",
    "make_products",
    "member_noise",
    "readable_leads",
    "sample",
]
