"""Ensemble sampling: the model draws members into one Zarr store for each initial time."""

from convcast.ensemble.forcing import choose, described, notes
from convcast.ensemble.noise import member_noise
from convcast.ensemble.sample import MemberDone, describe, latest_init, sample
from convcast.ensemble.tiles import Tiling, cover
from convcast.ensemble.walks import TRAIN_PERTURBATION

__all__ = [
    "TRAIN_PERTURBATION",
    "MemberDone",
    "Tiling",
    "choose",
    "cover",
    "describe",
    "described",
    "latest_init",
    "member_noise",
    "notes",
    "sample",
]
