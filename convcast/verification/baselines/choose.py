"""Choice of baselines by name.

Reference ensembles are compared by their members if the archive has them, and otherwise by their published products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convcast.errors import MissingInputError, SettingsError
from convcast.notation import Hour, Hours
from convcast.settings import VerificationSettings
from convcast.verification.baselines.analogues import Advection, ArrayCache, Climatology, Persistence
from convcast.verification.baselines.base import Baseline
from convcast.verification.baselines.exact import Exact
from convcast.verification.baselines.hrrr import HrrrForecasts, latest_forecast, time_lagged
from convcast.verification.baselines.published import PublishedProducts
from convcast.verification.baselines.raw import Raw
from convcast.verification.baselines.refs_members import HrrrcastMembers, ReferenceMembers
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

REFERENCES = ("refs", "href", "hrrrcast")
"""Names of the reference ensembles."""
SIMULATED_REFERENCES = ("hrrrcast",)
"""Reference ensembles that the simulated world has too."""


@dataclass(frozen=True)
class ReferenceEnsembles:
    """Baselines and products by which reference ensembles are compared."""

    baselines: tuple[ReferenceMembers, ...] = ()
    products: tuple[PublishedProducts, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences of the report on how each ensemble is compared."""


def make_baselines(
    names: Sequence[str],
    truth: Truth,
    *,
    training: Hours,
    cases: Sequence[tuple[Hour, int]],
    settings: VerificationSettings,
    workspace: Workspace | None,
) -> list[Baseline]:
    """Create baselines by name, in order and without repetition.

    Args:
        names: Names of baselines.
        truth: Fields that the forecasts are scored against; baselines of analyses are made of its `known` ones.
        training: Hours that climatology and advection draw from.
        cases: Initial time and lead, hours, of the forecasts that will be read.
        settings: Verification settings.
        workspace: Workspace with the archive or the simulated world, where there is one.

    Raises:
        SettingsError: A name is unknown, or the baseline does not exist for this truth.
        MissingInputError: The files of a baseline are missing.
    """
    members, seed = settings.baseline_members, settings.seed
    known = truth.known
    cache = ArrayCache(settings.cache_gigabytes * 1e9)
    sampling: dict[str, Any] = {"training": training, "cases": cases, "members": members, "seed": seed}

    def require_dataset(name: str) -> Any:
        if known.dataset is None:
            raise SettingsError(
                f"the baseline {name} needs convcast's dataset as truth", advice="use --against persistence"
            )
        return known.dataset

    def require_workspace(name: str) -> Workspace:
        if workspace is None:
            raise SettingsError(
                f"the baseline {name} needs a workspace, whose archive holds it",
                advice="name it with --workspace, or use --against persistence",
            )
        return workspace

    makers: dict[str, Callable[[], Baseline]] = {
        "persistence": lambda: Persistence(known, cache),
        "climatology": lambda: Climatology(known, cache, **sampling),
        "advection": lambda: Advection(known, require_dataset("advection"), cache, **sampling),
        "hrrr": lambda: HrrrForecasts("hrrr", latest_forecast(truth), truth, require_workspace("hrrr").archive),
        "time-lagged": lambda: HrrrForecasts(
            "time-lagged", time_lagged(truth, settings.lagged_ages), truth, require_workspace("time-lagged").archive
        ),
        "raw": lambda: Raw(truth, require_workspace("raw")),
        "exact": lambda: Exact(
            require_dataset("exact"), require_workspace("exact"), cases=cases, members=members, seed=seed
        ),
    }
    for name in names:
        if name not in makers:
            names_known = " ".join([*makers, *REFERENCES])
            advice = "use --against advection" if name == "control" else f"choose from {names_known}"
            raise SettingsError(f"there is no baseline {name!r}", advice=advice)
    return [makers[name]() for name in dict.fromkeys(names)]


def make_references(
    names: Sequence[str],
    truth: Truth,
    workspace: Workspace | None,
    *,
    cases: Sequence[tuple[Hour, int]],
    members: int,
) -> ReferenceEnsembles:
    """Open the reference ensembles among these names; REFS replaces HREF where HREF has no files.

    Args:
        names: Names of baselines; others than REFERENCES are ignored.
        truth: Fields that the forecasts are scored against.
        workspace: Workspace with the archive, where there is one.
        cases: Initial time and lead, hours, of the cases.
        members: Size of the verified ensemble.

    Raises:
        MissingInputError: The archive holds nothing for these cases; the advice is the command that fetches it.
        SettingsError: The truth is simulated or off the HRRR grid, there is no workspace, or `members` is too small.
    """
    requested = [name for name in dict.fromkeys(names) if name in REFERENCES]
    if not requested:
        return ReferenceEnsembles()
    absent = [name for name in requested if name not in SIMULATED_REFERENCES]
    if truth.simulated and absent:
        raise SettingsError(f"the simulated world has no {absent[0]}", advice="use --against exact --against hrrrcast")
    if truth.points.grid is None or workspace is None:
        lacking = "a truth on the HRRR grid" if workspace else "a workspace, whose archive holds it"
        raise SettingsError(f"{requested[0]} needs {lacking}", advice="use --against persistence")
    baselines: list[ReferenceMembers] = []
    chosen: list[PublishedProducts] = []
    notes: list[str] = []

    def open_members(kind: type[ReferenceMembers], products: PublishedProducts, missing: MissingInputError) -> None:
        """Compare by members, or else by products; raise `missing` if the archive has neither."""
        try:
            found = kind(truth, workspace, cases)
        except MissingInputError:
            with_products = [case for case in cases if products.has(*case)]
            if not with_products:
                raise missing from None
            chosen.append(products)
            share = _share(with_products, cases)
            notes.append(f"Members of {kind.title} are not in the archive: it is compared by its products, {share}")
        else:
            baselines.append(found)
            notes.append(found.described)

    if "hrrrcast" in requested:
        products = PublishedProducts("hrrrcast", truth, workspace)
        open_members(HrrrcastMembers, products, _nothing_of("HRRRCast", "hrrrcast", products.remedy(cases)))
    if {"refs", "href"} & set(requested):
        refs, href = PublishedProducts("refs", truth, workspace), PublishedProducts("href", truth, workspace)
        with_href = [case for case in cases if href.has(*case)] if "href" in requested else []
        if with_href:
            chosen.append(href)
            notes.append(f"HREF publishes no members: it is compared by its products, {_share(with_href, cases)}")
        elif "href" in requested:
            notes.append("HREF has no files for these forecasts: REFS, which replaces it, stands in its place")
        if "refs" in requested or not with_href:
            title = "REFS" if "refs" in requested else "HREF or REFS"
            command = (refs if "refs" in requested else href).remedy(cases)
            first = next(name for name in requested if name != "hrrrcast")
            open_members(ReferenceMembers, refs, _nothing_of(title, first, command))
        elif len(with_href) < len(cases) and any(refs.has(*case) for case in cases if case not in with_href):
            chosen.append(refs)
            notes.append("Where HREF has no files, products of REFS, which replaces it, stand in its place")
    for products in chosen:
        products.require(members)
    return ReferenceEnsembles(tuple(baselines), tuple(chosen), tuple(notes))


def _nothing_of(title: str, name: str, command: str) -> MissingInputError:
    return MissingInputError(
        f"the archive holds nothing of {title} for these forecasts",
        advice=f"run `{command}`, or leave out --against {name}",
    )


def _share(some: Sequence[object], of: Sequence[object]) -> str:
    return f"for {len(some)} of {len(of)} forecasts"
