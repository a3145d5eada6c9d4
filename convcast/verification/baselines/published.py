"""Comparison of the products that REFS, HREF and HRRRCast publish with the same products made of our members.

Our probabilities are of the same event (at or above the threshold, within the same neighbourhood of 39 or 40.6 km, with
the same smoothing) and of the same number of members, since smoothed probabilities have no fair estimator. The observed
field has the event by the same rule. Mean and spread are scored as a normal distribution, for ours and theirs, and only
for near-normal fields.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import open_archives
from convcast.archive.locations import GribFile
from convcast.archive.reference_ensembles import HRRRCAST_MEMBERS, Kind, Product, product_file, products
from convcast.errors import SettingsError
from convcast.metrics.kernels import count_members, happens, pack_exceedances
from convcast.metrics.neighbourhood import count_near, far_from_missing, happens_near, smoothed
from convcast.notation import Hour
from convcast.variables import D2M, T2M, U10, V10, Variable
from convcast.verification.baselines.archived import available_messages, fingerprint, read_message, window_of_truth
from convcast.verification.baselines.refs_members import cycle_and_lead, fetch_command
from convcast.verification.baselines.regrid import Regridder, check_grid_227
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

Field = NDArray[np.float32]
Floats = NDArray[np.float64]

SIZES = {"refs": 14, "href": 10, "hrrrcast": HRRRCAST_MEMBERS}
"""Number of members from which each system's products are made."""
NEAR_NORMAL = (T2M, D2M, U10, V10)
"""Nearly normal fields, which mean and spread describe; reflectivity, CAPE and CIN have a floor and a long tail."""
WINDOW = {"refs": 8, "href": 5}
"""Half-width, cells, of the smoothing kernel (NCEP's ensemble post-processor)."""
CELLS = {"refs": 13, "href": 8}
"""Radius of the neighbourhood, cells of the system's grid."""
_KINDS: tuple[Kind, ...] = ("mean", "spread", "probability")
"""Kinds of products that are compared."""
SUMS = ("points", "ours", "theirs", "events", "stated_ours", "stated_theirs")
MIN_SPREAD = 1e-3
"""Minimum standard deviation of a normal distribution, K or m/s."""


@dataclass(frozen=True)
class Comparison:
    """One product that both systems provide of a field."""

    score: str
    """brier_nmep, brier_point or crps_gaussian."""
    product: Product
    threshold: float | None = None
    below: bool = False

    @property
    def name(self) -> str:
        return self.product.name if self.threshold is not None else f"{self.product.variable.name}_gaussian"

    @property
    def scale_km(self) -> float | None:
        return self.product.neighbourhood


@dataclass(frozen=True)
class ComparisonSums:
    """Sums over points by comparison; the loss is a squared error of probability or a CRPS."""

    members: int
    names: tuple[str, ...]
    sums: Floats
    """Sums by comparison, (comparison, len(SUMS))."""

    def __add__(self, other: ComparisonSums) -> ComparisonSums:
        """Add the sums of two sets of cases, each of which may lack products that were not published."""
        if self.members != other.members:
            raise ValueError(f"comparisons of {self.members} and {other.members} members")
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        total = np.zeros((len(names), len(SUMS)))
        for part in (self, other):
            total[[names.index(name) for name in part.names]] += part.sums
        return ComparisonSums(self.members, names, total)


class PublishedProducts:
    """Products of REFS, HREF or HRRRCast for the cases that have them."""

    def __init__(self, system: str, truth: Truth, workspace: Workspace) -> None:
        """Open the archive.

        Args:
            system: `refs`, `href` or `hrrrcast`.
            truth: The truth, which must be on the HRRR grid.
            workspace: The workspace, which has the archive.
        """
        assert truth.points.grid is not None
        self.system, self.size = system, SIZES[system]
        self._truth, self._grid = truth, truth.points.grid
        self._archives = open_archives(workspace.archive)
        self._regrid = Regridder(self._grid) if system == "href" else None

    @property
    def folder(self) -> str:
        return f"{self.system}-products"

    def require(self, members: int) -> None:
        """Raise SettingsError for an ensemble of fewer members than the products are made of."""
        if members < self.size:
            raise SettingsError(
                f"an ensemble of {members} cannot be compared fairly with products of the {self.size} members of "
                f"{self.system}: as published they have no fair estimator",
                advice=f"sample {self.size} members or more, or leave out --against {self.system}",
            )

    def has(self, init: Hour, lead: int) -> bool:
        """Return whether the archive holds a comparable product for this case."""
        return any(self._comparisons(variable, init, lead) for variable in self._truth.variables)

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str:
        return fetch_command(self.system, self._truth, cases)

    def fingerprint(self, init: Hour, lead: int) -> str:
        kinds = sorted({product.kind for product in products(self.system)} & set(_KINDS))
        files = [self._file(kind, init, lead) for kind in kinds]
        return fingerprint(self._archives, [file for file in files if available_messages(self._archives, file)])

    def lacks(self, variable: Variable) -> str | None:
        """Return the reason why no product of a field is compared, or None if one is."""
        reasons = [refusal(self.system, product) for product in products(self.system) if product.variable == variable]
        if not reasons:
            return "it does not publish the field"
        if None in reasons:
            return "the neighbourhood does not fit into the domain" if self._too_small(variable) else None
        return "; ".join(dict.fromkeys(reason for reason in reasons if reason))

    def score(
        self, variable: Variable, init: Hour, lead: int, forecasts: Field, observed: Field
    ) -> ComparisonSums | None:
        """Compare our forecasts with the published products.

        Args:
            variable: Field that is compared.
            init: Initial time.
            lead: Lead time, hours.
            forecasts: Our members, (member, y, x).
            observed: Truth, (y, x).

        Returns:
            Sums of the comparisons; None where there is no product to compare.
        """
        chosen = self._comparisons(variable, init, lead)
        if not chosen or self.lacks(variable):
            return None
        ours, truth = forecasts[: self.size], observed
        if self._regrid is not None:
            ours, truth = self._regrid(variable, ours), self._regrid(variable, truth)
        present = np.isfinite(truth) & np.isfinite(ours.sum(0))
        sums = [self._compare(one, init, lead, ours, truth, present) for one in chosen]
        return ComparisonSums(self.size, tuple(one.name for one in chosen), np.array(sums, float))

    def _compare(
        self, one: Comparison, init: Hour, lead: int, ours: Field, truth: Field, present: NDArray[np.bool_]
    ) -> list[float]:
        theirs = self._published(one.product, init, lead)
        if one.threshold is None:
            spread = self._published(_partner(self.system, one.product), init, lead)
            points = present & np.isfinite(theirs) & np.isfinite(spread)
            mean, deviation = ours.mean(0, dtype=np.float64), ours.std(0, dtype=np.float64)
            losses = [
                crps_normal(truth[points], m[points], s[points]) for m, s in ((mean, deviation), (theirs, spread))
            ]
            return [float(points.sum()), *(float(loss.sum()) for loss in losses), 0.0, 0.0, 0.0]
        packed = pack_exceedances(ours, (one.threshold,), events_below=one.below)[:, 0]
        happened = happens(truth, one.threshold, events_below=one.below)
        if one.scale_km is None:
            stated = count_members(packed) / len(ours)
        else:
            radius, window = CELLS[self.system], WINDOW[self.system]
            stated = smoothed(count_near(packed, radius) / len(ours), window)
            happened = happens_near(happened, radius)
            present = present & far_from_missing(present, self._reach)
        points = present & np.isfinite(theirs)
        p, q, o = stated[points], theirs[points].astype(float) / 100, happened[points]
        return [float(n) for n in (points.sum(), ((p - o) ** 2).sum(), ((q - o) ** 2).sum(), o.sum(), p.sum(), q.sum())]

    @property
    def _reach(self) -> float:
        """Distance, cells, from which weather affects a smoothed neighbourhood probability."""
        return CELLS[self.system] + 2**0.5 * WINDOW[self.system]

    def _too_small(self, variable: Variable) -> bool:
        near = any(
            p.neighbourhood for p in products(self.system) if p.variable == variable and not refusal(self.system, p)
        )
        inside = np.ones(self._grid.shape, bool) if self._regrid is None else self._regrid.inside
        return near and not far_from_missing(inside, self._reach).any()

    def _comparisons(self, variable: Variable, init: Hour, lead: int) -> list[Comparison]:
        """Return the comparisons of a field whose products are in the archive."""
        return [
            one
            for one in possible_comparisons(self.system)
            if one.product.variable == variable
            and self._here(one.product, init, lead)
            and (one.threshold is not None or self._here(_partner(self.system, one.product), init, lead))
        ]

    def _here(self, product: Product, init: Hour, lead: int) -> bool:
        return product.name in available_messages(self._archives, self._file(product.kind, init, lead))

    def _published(self, product: Product, init: Hour, lead: int) -> Field:
        """Return a product on the points that are compared, (y, x)."""
        file = self._file(product.kind, init, lead)
        header, values = read_message(
            self._archives, file, product.name, product.spec.keys, simulated=self._truth.simulated
        )
        if self._regrid is not None:
            check_grid_227(header)
            return values[self._regrid.box]
        return values[window_of_truth(header.grid(), self._grid, "the product")]

    def _file(self, kind: Kind, init: Hour, lead: int) -> GribFile:
        return product_file(self.system, kind, *cycle_and_lead(self.system, self._truth, init, lead))


def refusal(system: str, product: Product) -> str | None:
    """Return the reason why a product is not comparable with ours, or None where it is."""
    variable = product.variable
    if not product.comparable:
        return f"its probabilities are of the {product.layer} parcel, convcast's of the surface parcel"
    if product.kind == "matched-mean":
        return "a matched mean is one field and says no distribution"
    if product.kind in ("mean", "spread") and variable not in NEAR_NORMAL:
        return "mean and spread of a field with a floor and a long tail say no distribution"
    if system == "href" and variable in (U10, V10):
        return "its wind is along other axes"
    return None


def possible_comparisons(system: str) -> list[Comparison]:
    """Return the comparisons for which a system publishes a product."""
    comparisons = []
    for product in products(system):
        if product.kind == "spread" or refusal(system, product):
            continue
        if product.limit is None:
            comparisons.append(Comparison("crps_gaussian", product))
        else:
            score = "brier_point" if product.neighbourhood is None else "brier_nmep"
            comparisons.append(Comparison(score, product, product.limit.threshold, product.limit.below))
    return comparisons


def crps_normal(observed: NDArray[Any], mean: NDArray[Any], spread: NDArray[Any]) -> Floats:
    """Return the CRPS of normal distributions by xskillscore's closed form (Gneiting et al. 2005, eq. 5).

    Args:
        observed: Observations, (point,).
        mean: Means of the distributions, (point,).
        spread: Standard deviations, (point,).
    """
    import xarray as xr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from xskillscore import crps_gaussian

    arrays = [
        xr.DataArray(np.asarray(a, float), dims="point") for a in (observed, mean, np.maximum(spread, MIN_SPREAD))
    ]
    return np.asarray(crps_gaussian(*arrays, dim=[]).values, float)


def _partner(system: str, mean: Product) -> Product:
    return next(p for p in products(system) if p.kind == "spread" and p.variable == mean.variable)
