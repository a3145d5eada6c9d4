"""REFS and HREF as far as the archive holds them: members where they were fetched, else what was published of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcast.errors import MissingInputError, SettingsError
from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap
from convcast.notation import Hour
from convcast.variables import Variable
from convcast.verification.baselines.published import SUMS, Comparison, Products, comparisons_by_name
from convcast.verification.baselines.refs_members import ReferenceMembers
from convcast.verification.data.truth import Truth
from convcast.verification.results.accumulator import Ledger
from convcast.verification.results.table import MODEL, Row, numbers
from convcast.workspace import Workspace

REFERENCES = ("refs", "href")


@dataclass(frozen=True)
class References:
    """What REFS and HREF are compared by."""

    baselines: tuple[ReferenceMembers, ...] = ()
    products: tuple[Products, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know of which is compared how."""


def make_references(
    names: Sequence[str],
    truth: Truth,
    workspace: Workspace | None,
    *,
    cases: Sequence[tuple[Hour, int]],
    members: int,
) -> References:
    """For those of these names that are reference ensembles: HREF where its files are, else REFS in its place.

    `members` is the size of the ensemble that is verified. Raises MissingInputError, with the command that brings them,
    where the archive holds nothing for these cases, and SettingsError where there can be nothing.
    """
    wanted = [name for name in dict.fromkeys(names) if name in REFERENCES]
    if not wanted:
        return References()
    if truth.simulated:
        raise SettingsError(
            f"the simulated world has no {wanted[0]}", advice="use --against exact --against persistence"
        )
    if truth.place.grid is None or workspace is None:
        lacking = "a truth on the HRRR grid" if workspace else "a workspace, whose archive holds it"
        raise SettingsError(f"{wanted[0]} needs {lacking}", advice="use --against persistence")
    refs, href = Products("refs", truth, workspace), Products("href", truth, workspace)
    baselines: tuple[ReferenceMembers, ...] = ()
    chosen: list[Products] = []
    notes: list[str] = []
    with_href = [case for case in cases if href.there(*case)] if "href" in wanted else []
    if with_href:
        chosen.append(href)
        notes.append(f"HREF publishes no members: it is compared by its products, {_share(with_href, cases)}")
    elif "href" in wanted:
        notes.append("HREF has no files for these forecasts: REFS, which replaces it, stands in its place")
    if "refs" in wanted or not with_href:
        try:
            baselines = (ReferenceMembers(truth, workspace, cases),)
            notes.append(baselines[0].described)
        except MissingInputError:
            with_refs = [case for case in cases if refs.there(*case)]
            if not with_refs:
                name = "REFS" if "refs" in wanted else "HREF or REFS"
                command = (refs if "refs" in wanted else href).remedy(cases)
                raise MissingInputError(
                    f"the archive holds nothing of {name} for these forecasts",
                    advice=f"run `{command}`, or leave out --against {wanted[0]}",
                ) from None
            chosen.append(refs)
            notes.append(
                f"Members of REFS are not in the archive: it is compared by its products, {_share(with_refs, cases)}"
            )
    elif len(with_href) < len(cases) and any(refs.there(*case) for case in cases if case not in with_href):
        chosen.append(refs)
        notes.append("Where HREF has no files, products of REFS, which replaces it, stand in its place")
    for products in chosen:
        products.require(members)
    return References(baselines, tuple(chosen), tuple(notes))


def _share(some: Sequence[object], of: Sequence[object]) -> str:
    return f"for {len(some)} of {len(of)} forecasts"


def product_rows(ledger: Ledger, system: str, variable: Variable, lead: int, settings: Any) -> Iterator[Row]:
    """Scores of a system's products, of ours made alike, and their paired difference, as tidy rows."""
    cases = ledger.compared.get((system, variable.name, lead), {})
    known = comparisons_by_name(system)
    for name in dict.fromkeys(name for compared in cases.values() for name in compared.names):
        having = {init: c for init, c in cases.items() if name in c.names}
        days = sorted({init.astype("datetime64[D]") for init in having})
        sums = np.zeros((len(days), len(SUMS)))
        for init, compared in having.items():
            sums[days.index(init.astype("datetime64[D]"))] += compared.sums[compared.names.index(name)]
        bootstrap = Bootstrap(
            len(days), resamples=settings.resamples, seed=settings.seed, confidence=settings.confidence
        )
        size = next(iter(having.values())).members
        yield from _rows(known[name], system, lead, bootstrap, sums, len(having), size)


def _rows(
    one: Comparison, system: str, lead: int, bootstrap: Bootstrap, sums: np.ndarray, n: int, members: int
) -> Iterator[Row]:
    points, ours, theirs, events, stated_ours, stated_theirs = sums.T
    silent = one.threshold is not None and not (events.sum() or stated_ours.sum() or stated_theirs.sum())
    for score, its, of in (
        (one.score, ours, MODEL),
        (one.score, theirs, system),
        (f"{one.score}_difference", ours - theirs, MODEL),
    ):
        estimate = bootstrap.estimate(formulas.ratio, its, np.zeros_like(points) if silent else points)
        row: Row = {
            "field": one.product.variable.name,
            "lead_hours": lead,
            "score": score,
            "estimator": "as published",
            "system": of,
            **numbers(estimate),
            "n": n,
            "days": bootstrap.days,
            "points": int(points.sum()),
            "members": members,
            "reference": system,
        }
        if one.threshold is not None:
            row |= {"threshold": one.threshold, "below": one.below, "events": int(events.sum())}
        if one.scale_km is not None:
            row["scale_km"] = one.scale_km
        if silent:
            row["note"] = "no events"
        yield row
