"""REFS and HREF as far as the archive holds them: members where they were fetched, else what was published of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convcast.errors import MissingInputError, SettingsError
from convcast.notation import Hour
from convcast.verification.baselines.published import PublishedProducts
from convcast.verification.baselines.refs_members import ReferenceMembers
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

REFERENCES = ("refs", "href")


@dataclass(frozen=True)
class ReferenceEnsembles:
    """What REFS and HREF are compared by."""

    baselines: tuple[ReferenceMembers, ...] = ()
    products: tuple[PublishedProducts, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know of which is compared how."""


def make_references(
    names: Sequence[str],
    truth: Truth,
    workspace: Workspace | None,
    *,
    cases: Sequence[tuple[Hour, int]],
    members: int,
) -> ReferenceEnsembles:
    """For those of these names that are reference ensembles: HREF where its files are, else REFS in its place.

    `members` is the size of the ensemble that is verified. Raises MissingInputError, with the command that brings them,
    where the archive holds nothing for these cases, and SettingsError where there can be nothing.
    """
    wanted = [name for name in dict.fromkeys(names) if name in REFERENCES]
    if not wanted:
        return ReferenceEnsembles()
    if truth.simulated:
        raise SettingsError(
            f"the simulated world has no {wanted[0]}", advice="use --against exact --against persistence"
        )
    if truth.points.grid is None or workspace is None:
        lacking = "a truth on the HRRR grid" if workspace else "a workspace, whose archive holds it"
        raise SettingsError(f"{wanted[0]} needs {lacking}", advice="use --against persistence")
    refs, href = PublishedProducts("refs", truth, workspace), PublishedProducts("href", truth, workspace)
    baselines: tuple[ReferenceMembers, ...] = ()
    chosen: list[PublishedProducts] = []
    notes: list[str] = []
    with_href = [case for case in cases if href.has(*case)] if "href" in wanted else []
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
            with_refs = [case for case in cases if refs.has(*case)]
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
    elif len(with_href) < len(cases) and any(refs.has(*case) for case in cases if case not in with_href):
        chosen.append(refs)
        notes.append("Where HREF has no files, products of REFS, which replaces it, stand in its place")
    for products in chosen:
        products.require(members)
    return ReferenceEnsembles(baselines, tuple(chosen), tuple(notes))


def _share(some: Sequence[object], of: Sequence[object]) -> str:
    return f"for {len(some)} of {len(of)} forecasts"
