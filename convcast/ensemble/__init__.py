"""Ensemble sampling: the model draws members into one Zarr store for each initial time.

`sample` draws and `EnsembleStore` writes; `xarray.open_zarr` reads the store without either.
"""

from convcast.ensemble.noise import member_noise
from convcast.ensemble.sample import MemberDone, describe, latest_init, sample
from convcast.ensemble.tiles import Tiling, cover
from convcast.forecasts.products import leads_there, make_products
from convcast.forecasts.store import EnsembleStore

__all__ = [
    "EnsembleStore",
    "MemberDone",
    "Tiling",
    "cover",
    "describe",
    "latest_init",
    "leads_there",
    "make_products",
    "member_noise",
    "sample",
]
