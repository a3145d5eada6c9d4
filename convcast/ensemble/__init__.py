"""The ensemble room: members drawn from the model into one Zarr an initial time.

`sample` draws; `EnsembleStore` is the file; readers need neither, `xarray.open_zarr` opens it.
"""

from convcast.ensemble.noise import member_noise
from convcast.ensemble.sample import MemberDone, latest_init, sample
from convcast.ensemble.store import EnsembleStore
from convcast.ensemble.tiles import Tiling, cover

__all__ = ["EnsembleStore", "MemberDone", "Tiling", "cover", "latest_init", "member_noise", "sample"]
