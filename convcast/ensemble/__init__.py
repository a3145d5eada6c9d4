"""The ensemble room: members drawn from the model into one Zarr an initial time, and what they say together.

`sample` draws; `EnsembleStore` is the file; readers need neither, `xarray.open_zarr` opens it.
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
